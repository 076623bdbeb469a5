"""The demo in small: synthetic and with one's own clips; a second call finds what the first computed."""

import json

import pytest

from motive_fo.dataset.connect import fiftyone
from motive_fo.demo import DemoSize, run_demo

SMALL = DemoSize(train=13, queries=3, static=1, damaged=2, seed=1)


@pytest.fixture(autouse=True)
def _database(database):
    yield
    for name in ("demo-small", "demo-real"):
        if fiftyone().dataset_exists(name):
            fiftyone().delete_dataset(name)


def test_the_demo_leaves_dataset_views_and_export_and_is_quick_again(tmp_path):
    report = run_demo(tmp_path / "d", dataset="demo-small", size=SMALL)
    dataset = fiftyone().load_dataset("demo-small")
    assert dataset.persistent
    assert len(dataset) == 19
    assert report.curate.clips == 13
    assert report.gradients["train"].status == {"done": 13, "static": 1, "failed": 2}
    assert set(dataset.list_saved_views()) == set(report.curate.views)
    rows = [json.loads(line) for line in (tmp_path / "d" / "selected" / "metadata.jsonl").read_text().splitlines()]
    assert len(rows) == report.export.written == 3
    assert all((tmp_path / "d" / "selected" / row["video"]).is_file() and row["prompt"] for row in rows)
    again = run_demo(tmp_path / "d", dataset="demo-small", size=SMALL)
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
    assert report.export.written > 0
