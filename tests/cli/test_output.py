"""What every command promises to scripts: JSON alone on the output, progress and details where they belong."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner
from motive_fo_cli.main import main

import motive_fo
from motive_fo.config import RunConfig, load, parse
from motive_fo.config_template import FILLED, template, write_template
from motive_fo.errors import InputError
from motive_fo.synthetic.corpus import write_corpus
from scripts.document_cli import commands

MOTIVE = Path(sys.executable).with_name("motive")
#: Commands whose result is a program or a script, not data.
WITHOUT_JSON = {"motive app", "motive completion"}


def _invoke(*args, code=0):
    result = CliRunner().invoke(main, [str(a) for a in args])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("output-clips")
    return write_corpus(folder, train=3, queries=1, static=1, damaged=1, seed=6, size=(64, 64), seconds=1.25, fps=16)


def test_every_command_but_two_speaks_json_and_takes_quiet():
    for name, ctx in commands():
        options = {option for param in ctx.command.params for option in param.opts}
        assert ({"--json", "--quiet"} <= options) == (name not in WITHOUT_JSON), name


def test_verbose_names_failed_clips_and_timings_and_leaves_json_alone(database, corpus):
    name = f"output-{uuid.uuid4().hex[:8]}"
    _invoke("import", corpus.train_metadata.parent, name, "--quiet")
    damaged, code = next(iter(corpus.damaged)).name, "decode_failed"
    plain = _invoke("motion", name, "--quiet").stdout
    assert "timing of" not in plain
    assert "failed: train/" not in plain
    _invoke("motion", name, "--retry-failed")
    words = _invoke("motion", name, "-q", "-v", "--retry-failed").stdout
    assert f"failed: train/{damaged} {code}: " in words
    assert "timing of motion: decode " in words
    apart = _invoke("motion", name, "--json", "--verbose", "--retry-failed")
    assert json.loads(apart.stdout)["codes"] == {code: 1}
    assert f"failed: train/{damaged} {code}: " in apart.stderr


@pytest.mark.slow
def test_json_is_all_there_is_on_the_output_stream(database, corpus, tmp_path):
    """In a process of its own: nothing that FiftyOne or torch print may get between."""
    name = f"output-{uuid.uuid4().hex[:8]}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def spoken(*args):
        command = [str(MOTIVE), *map(str, args), "--json"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True, env=environment)
        return json.loads(ran.stdout)

    assert spoken("import", corpus.train_metadata.parent, name)["added"] == 5
    assert spoken("import", corpus.query_metadata.parent, name, "--role", "query")["added"] == 1
    assert spoken("gradients", name)["train"]["computed"] == 5
    assert spoken("gradients", name)["train"]["computed"] == 0, "the same command goes on where it was"
    assert spoken("gradients", name, "--dry-run")["roles"]["train"]["todo"] == 0


# -- motive run --init ------------------------------------------------------------------------------------------------


def _uncommented(text):
    return "\n".join(line.replace("#", "", 1) if _is_setting(line) else line for line in text.splitlines())


def _is_setting(line):
    return line.lstrip().startswith("#") and not line.lstrip().startswith("# ")


def test_the_template_as_written_means_the_defaults(tmp_path):
    path = write_template(tmp_path / "all.yaml")
    config = load(path)
    expected = {key: value if key == "dataset" else str(tmp_path / value) for key, value in FILLED.items()}
    assert config == RunConfig(**expected)


def test_every_setting_is_in_the_template_with_its_default():
    """Uncommented, it names all settings, each as the class has it: the template cannot drift from the classes."""
    import yaml

    written = yaml.safe_load(_uncommented(template()))
    assert parse(written) == RunConfig(**FILLED)

    def names(data, prefix=""):
        for key, value in data.items():
            yield from names(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]

    from dataclasses import asdict

    assert sorted(names(written)) == sorted(names(asdict(RunConfig(**FILLED))))
    commented = [line for line in template().splitlines() if _is_setting(line)]
    assert len(commented) == len(list(names(written))) - len(FILLED)


def test_the_template_is_a_file_a_person_reads():
    assert all(len(line) <= 120 for line in template().splitlines())
    for word in ("center | none", "pixels per frame", "votes | ", "seconds"):
        assert word in template()


def test_a_template_never_overwrites(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "motive.yaml" in _invoke("run", "--init").stdout
    before = (tmp_path / "motive.yaml").read_bytes()
    assert "motive.yaml exists" in _invoke("run", "--init", code=2).stderr
    assert (tmp_path / "motive.yaml").read_bytes() == before
    assert json.loads(_invoke("run", "--init", "other.yaml", "--json").stdout) == {"template": "other.yaml"}
    with pytest.raises(InputError, match="cannot write"):
        write_template(tmp_path / "no" / "such" / "folder.yaml")
    assert "motive run --init" in _invoke("run", code=2).stderr


def test_a_template_with_four_lines_filled_in_runs(database, corpus, tmp_path):
    name = f"output-{uuid.uuid4().hex[:8]}"
    filled = {
        "dataset": name,
        "videos": corpus.train_metadata.parent,
        "queries": corpus.query_metadata.parent,
        "export_to": "out",
    }
    text = template()
    for key, value in filled.items():
        text = text.replace(f"\n{key}: {FILLED[key]}\n", f"\n{key}: {value}\n")
    (tmp_path / "all.yaml").write_text(text, encoding="utf-8")
    report = json.loads(_invoke("run", tmp_path / "all.yaml", "--json", "--quiet").stdout)
    assert report["export"]["folder"] == str(tmp_path / "out")
    assert motive_fo.run(tmp_path / "all.yaml").gradients["train"].computed == 0


# -- near misses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (("influense", "x"), "'influence'"),
        (("run", "--dryrun", "x"), "'--dry-run'"),
        (("gradients", "x", "--devise", "cpu"), "'--device'"),
    ],
)
def test_a_misspelt_command_or_option_suggests_the_near_one(args, hint):
    error = _invoke(*args, code=2).stderr
    assert "Did you mean" in error
    assert hint in error
