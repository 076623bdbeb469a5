"""The commands: what they print, what they write, and how they refuse."""

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from motive_fo_cli.main import main

from motive_fo.evaluation.votes import COLUMNS


def _invoke(*args, code=0):
    result = CliRunner().invoke(main, [str(a) for a in args])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def test_sets_are_compared_in_tables_pages_and_files(made, tmp_path):
    page, files = tmp_path / "page.html", tmp_path / "vbench"
    arguments = ("evaluate", *made, "--resamples", "200", "--estimator", "dis", "--quiet")
    lines = _invoke(*arguments, "--html", page, "--vbench", files).stdout.splitlines()
    assert lines[0].split()[:3] == ["set", "clips", "dynamic"]
    assert [line.split()[:2] for line in lines[1:4]] == [["a", "3"], ["b", "3"], ["c", "2"]]
    assert any(line.split()[:9] == ["a", "minus", "b", "3", "pairs", "by", "prompt", "and", "seed"] for line in lines)
    assert any(
        line.startswith("left out: 1 clips that cannot be measured, the first: c: videos/clip-1") for line in lines
    )
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sorted(path.name for path in files.iterdir()) == [f"{name}_eval_results.json" for name in "abc"]
    data = json.loads(_invoke(*arguments, "--json").stdout)
    assert [each["label"] for each in data["sets"]] == ["a", "b", "c"]
    assert data["comparisons"][0]["differences"]["speed"]["count"] == 3


def test_a_page_is_written_and_its_votes_are_counted(made, tmp_path):
    said = _invoke("evaluate", "ab", made[0], made[1], "--to", tmp_path / "page.html", "--pairs", 2).output
    assert f"page: {tmp_path / 'page.html'}" in said
    with (tmp_path / "votes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerow(("id", "p1", "a", "b", "b", "left", "b"))
        writer.writerow(("id", "p2", "a", "b", "a", "tie", "tie"))
    said = _invoke("evaluate", "votes", tmp_path / "votes.csv").output
    assert "a against b: 2 votes on 2 pairs, 1 files" in said
    assert "win   0.0% (0.0% to 65.8%)" in said
    assert "loss  50.0% (9.5% to 90.5%)" in said
    data = json.loads(_invoke("evaluate", "votes", tmp_path / "votes.csv", "--json").stdout)
    assert data["tie"]["value"] == 0.5


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (("evaluate", "no-such-folder"), "no-such-folder is no folder or listing here"),
        (("evaluate", "ab", "no-such-folder", "x", "--to", "y.html"), "is no folder or listing here"),
        (("evaluate", "votes", "no-such.csv"), "cannot read no-such.csv"),
        (("finetune", "no-such-folder", "m"), "is no folder or listing here"),
        (("finetune", "x", "m", "--generate", "prompts.txt"), "--generate PROMPTS and --to FOLDER go together"),
        (("generate", "no-such-folder", "m"), "is no folder or listing here"),
    ],
)
def test_wrong_use_is_one_clean_line(args, problem):
    result = _invoke(*args, code=2)
    assert problem in result.stderr
    assert "Traceback" not in result.stderr


def test_a_model_is_tuned_and_makes_clips_in_one_command(made, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red ball rolls\n")
    clips = tmp_path / "clips"
    clips.mkdir()
    from motive_fo.synthetic.corpus import write_corpus

    write_corpus(clips, train=2, queries=0, size=(64, 64), seconds=1.25, fps=16)
    arguments = ("finetune", clips / "train", tmp_path / "m", "--steps", 2, "--batch", 1, "--quiet")
    said = _invoke(*arguments, "--generate", prompts, "--to", tmp_path / "made").output
    assert "finetune: 2 steps on 2 clips, 1.0 passes" in said
    assert f"--model {tmp_path / 'm'}" in said
    assert "generate: 1 clips in" in said
    assert len(list(Path(tmp_path / "made" / "videos").iterdir())) == 1
    assert "is this model already: nothing is changed" in _invoke(*arguments).output
    said = _invoke("generate", prompts, tmp_path / "base", "--sampling-steps", 1, "--quiet").output
    assert "generate: 1 clips" in said
