"""The demo in small: synthetic and with one's own clips; a second call finds what the first computed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from motive_fo_cli.demo import _measured_lines
from motive_fo_cli.output import run_lines

from motive_fo import demo_measurement
from motive_fo.dataset.connect import fiftyone
from motive_fo.demo import DemoSize, run_demo
from motive_fo.demo_measurement import EVERY, RANDOM, SELECTED, DemoMeasurement, measure_demo
from motive_fo.quality.intervals import Estimate
from motive_fo.quality.suite import said

SMALL = DemoSize(train=13, queries=3, static=1, damaged=2, seed=1, measured=3)


@pytest.fixture(autouse=True, scope="module")
def _database(database):
    yield
    for name in ("demo-small", "demo-real"):
        if fiftyone().dataset_exists(name):
            fiftyone().delete_dataset(name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "d"


@pytest.fixture(scope="module")
def report(_database, folder):
    return run_demo(folder, dataset="demo-small", size=SMALL)


def test_the_demo_measures_its_own_selection_beside_others(folder, report, monkeypatch):
    monkeypatch.setattr(demo_measurement, "_STEPS", 1)
    monkeypatch.setattr(demo_measurement, "_BATCH", 2)
    found = measure_demo(folder, "demo-small", size=SMALL)
    assert found.clips == {"selected clips": 3, "random clips": 14, "random sound clips": 13, "all clips": 14}
    assert found.queries == 3
    assert list(found.ahead) == ["random clips", "random sound clips", "all clips"]
    difference = found.falls["selected clips"].value - found.falls["random clips"].value
    assert found.ahead["random clips"].value == pytest.approx(difference)
    assert any(abs(each.value) > 1e-6 for each in found.falls.values())
    assert said(found.ahead["all clips"]) in found.sentence()
    svg = Path(found.plot).read_text()
    assert Path(found.plot).parent == folder
    assert all(name in svg for name in found.falls)
    again = measure_demo(folder, "demo-small", size=SMALL)
    assert replace(again, seconds=0) == replace(found, seconds=0)
    theirs = measure_demo(folder, "demo-small", size=SMALL, synthetic=False)
    assert "random sound clips" not in theirs.falls, "which clips of other people are sound is not known"


def test_the_demo_leaves_dataset_views_and_export_and_is_quick_again(folder, report, tmp_path):
    dataset = fiftyone().load_dataset("demo-small")
    assert dataset.persistent
    assert len(dataset) == 19
    assert report.curate.clips == 13
    assert report.gradients["train"].status == {"done": 13, "static": 1, "failed": 2}
    assert set(dataset.list_saved_views()) == set(report.curate.views)
    rows = [json.loads(line) for line in (folder / "selected" / "metadata.jsonl").read_text().splitlines()]
    assert len(rows) == report.export.written == 3
    assert all((folder / "selected" / row["video"]).is_file() and row["prompt"] for row in rows)
    assert not [line for line in run_lines(report) if "toy" in line or "caption" in line]
    again = run_demo(folder, dataset="demo-small", size=SMALL)
    assert [r.computed for r in again.gradients.values()] == [0, 0]
    assert again.curate.selected == report.curate.selected
    elsewhere = run_demo(tmp_path / "e", dataset="demo-small", size=SMALL)
    assert elsewhere.curate.selected == report.curate.selected  # the same input gives the same list


def test_the_real_and_odd_videos_are_scored_or_carry_a_code(tmp_path, shared_videos):
    report = run_demo(tmp_path / "d", dataset="demo-real", videos=shared_videos, size=SMALL)
    dataset = fiftyone().load_dataset("demo-real")
    train = dataset.match_tags("train")
    assert train.count() == 29
    for status, code, error, influence in zip(
        *train.values(["motive.status", "motive.code", "motive.error", "motive.influence"]), strict=True
    ):
        if status == "scored":
            assert influence is not None
        else:
            assert status in ("static", "failed")
            assert code
            assert error
    assert report.gradients["train"].codes["internal_error"] == 0
    assert sum("toy model of synthetic scenes" in line for line in run_lines(report)) == 1
    assert report.export.written > 0


def test_the_demos_sets_are_as_large_and_its_random_clips_others_in_each_repeat():
    sets = {SELECTED: [1, 5, 9], RANDOM: range(40), EVERY: range(40)}
    trainings = demo_measurement.planned(sets, 2, seed=0)
    drawn = [each.clips.tolist() for each in trainings if each.name == RANDOM]
    assert {len(clips) for clips in drawn} == {3}
    assert drawn[0] != drawn[1]
    assert all(each.clips.tolist() == [1, 5, 9] for each in trainings if each.name == SELECTED)
    assert {len(each.clips) for each in trainings if each.name == EVERY} == {40}


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 2, "teach more than random"), (-2, -0.1, "teach less than random"), (-1, 1, "are not shown, on so few")],
)
def test_the_demos_sentence_says_no_more_than_its_interval(low, high, verdict):
    ahead = {RANDOM: Estimate((low + high) / 2, low, high)}
    found = DemoMeasurement(3, 10, 4, {SELECTED: 3}, {}, ahead, "plot.svg", 1.0)
    assert verdict in found.sentence()


def test_the_command_ends_with_the_measurement():
    """With queries of one's own it names the command that measures on them."""
    made = DemoMeasurement(
        3, 10, 4, {SELECTED: 3}, {SELECTED: Estimate(1, 0, 2)}, {RANDOM: Estimate(1, 0.5, 2)}, "p", 1
    )
    lines = _measured_lines(made, "demo-small")
    assert lines[1] == "  selected clips  1.00 (0.00 to 2.00) %"
    assert lines[2:] == [made.sentence(), "plot: p"]
    assert "evaluate attribution demo-small --trial" in _measured_lines(None, "demo-small")[0]
