"""The documentation names what exists, and all of it."""

import json
import re
from pathlib import Path

import pytest
import yaml
from motive_fo_cli.main import main

import motive_fo
from benchmarks.render import render
from motive_fo import errors
from motive_fo.config import parse
from motive_fo.dataset.fields import FIELDS
from motive_fo.errors import CLIP_CODES, MotiveError

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_every_clip_code_is_in_the_table_as_the_code_says_it():
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    for code, (meaning, way_out) in CLIP_CODES.items():
        assert f"| `{code}` | {meaning} | {way_out} |" in text
    assert set(re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE)) == set(CLIP_CODES)


def test_every_kind_of_error_is_explained():
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, MotiveError)}
    assert set(re.findall(r"^\| `(\w*Error)` \|", text, re.MULTILINE)) == kinds


def test_every_command_function_and_operator_is_in_the_reference():
    for name in main.list_commands(None):
        assert f"motive {name}" in REFERENCE
    for name in motive_fo.__all__:
        assert f"`{name}" in REFERENCE
    for name in yaml.safe_load((ROOT / "fiftyone.yml").read_text())["operators"]:
        assert f"Motive: {name.replace('_', ' ')}" in REFERENCE
    for name in FIELDS:
        assert f"`{name}`" in REFERENCE


def test_the_example_configuration_is_one():
    (text,) = re.findall(r"```yaml\n(.*?)```", REFERENCE, re.DOTALL)
    assert parse(yaml.safe_load(text)).selection.budget == 0.1


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_benchmark_page_shows_the_recorded_numbers():
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    names = set(re.findall(r"<!-- (\w+) -->", page)) - {"end"}
    results = {n: json.loads((ROOT / "benchmarks" / "results" / f"{n}.json").read_text()) for n in names}
    assert render(page, results) == page
    for result in results.values():
        assert all({"goal", "target", "value", "met"} <= goal.keys() for goal in result["goals"])
