"""Motion that was measured before is found by other runs, other models and other mask options."""

import dataclasses
import shutil

import numpy as np
import pytest

from motive_fo.config import ClipConfig, FlowConfig, MotionConfig
from motive_fo.models.card import Strides
from motive_fo.models.tiny.card import CARD
from motive_fo.pipeline.gradients import compute_sketch_table
from motive_fo.pipeline.motion import MotionSettings, compute_motion_table
from motive_fo.pipeline.record import ClipRecord
from motive_fo.store.inspection import verify_store
from motive_fo.store.run_store import RunStore

COLUMNS = ("mean", "p95", "peak", "camera_share", "moving_share", "smoothness", "dynamic_score", "hoof", "cuts")
WIDE = dataclasses.replace(CARD, name="wide", strides=Strides(8, 32, 32))


def _settings(card=CARD, clip=None, **motion):
    return MotionSettings.build(clip or ClipConfig(), FlowConfig(), MotionConfig(**motion), card)


def _run(path, records, settings, known):
    with RunStore(path, write=True) as store:
        report = compute_motion_table(records, store, settings, known=known)
    return report, RunStore(path).table("motion")


@pytest.fixture
def known(tmp_path, records):
    """A folder that knows the motion of all clips."""
    folder = tmp_path / "known"
    report, _ = _run(tmp_path / "first.zarr", records["train"], _settings(), folder)
    assert not report.notes
    return folder


@pytest.mark.parametrize(
    ("card", "changed"),
    [(CARD, {}), (CARD, {"camera": "remove"}), (CARD, {"static_floor": 0.5}), (WIDE, {}), (WIDE, {"camera": "remove"})],
    ids=["another run", "camera removed", "floor", "model", "model and camera"],
)
def test_another_option_or_model_tracks_nothing_again(tmp_path, records, known, card, changed):
    """Neither decodes nor tracks what is known, and gives the numbers of a run from the beginning, bit for bit."""
    settings = _settings(card, **changed)
    settings.estimator.estimate = None  # would be called
    report, table = _run(tmp_path / "second.zarr", records["train"], settings, known)
    fresh, expected = _run(tmp_path / "fresh.zarr", records["train"], _settings(card, **changed), None)
    assert "flow" not in report.seconds
    assert report.status == fresh.status
    assert report.notes == ["7 clips were measured before and not tracked again"]
    ids = [record.id for record in records["train"]]
    assert table.read("code", ids).tolist() == expected.read("code", ids).tolist()
    for column in (*COLUMNS, "curve", "mask"):
        np.testing.assert_array_equal(table.read(column, ids), expected.read(column, ids), err_msg=column)


def test_moved_clips_are_found_and_changed_ones_are_not(tmp_path, corpus, known):
    moved, changed = tmp_path / "moved.mp4", tmp_path / "changed.mp4"
    shutil.copy2(corpus.train[0], moved)
    changed.write_bytes(corpus.train[1].read_bytes() + b"\0" * 16)
    records = [ClipRecord("m", moved), ClipRecord("c", changed), ClipRecord("later", moved, start=0.1)]
    report, _ = _run(tmp_path / "second.zarr", records, _settings(clip=ClipConfig(short="pad")), known)
    assert not report.notes  # another policy is another measurement
    report, table = _run(tmp_path / "third.zarr", records, _settings(), known)
    assert report.notes == ["1 clips were measured before and not tracked again"]
    assert table.read("mean", ["m"])[0] != table.read("mean", ["c"])[0]


def test_clips_with_fewer_frames_come_back_with_as_many(tmp_path):
    from motive_fo.synthetic.corpus import write_video
    from motive_fo.synthetic.scene import render, sample_scene

    path = tmp_path / "short.mp4"
    write_video(path, render(sample_scene(5, "slide"), frames=11, fps=16, height=64, width=64), 16)
    settings, record = _settings(clip=ClipConfig(short="fewer")), [ClipRecord("s", path)]
    _, first = _run(tmp_path / "a.zarr", record, settings, tmp_path / "known")
    report, second = _run(tmp_path / "b.zarr", record, settings, tmp_path / "known")
    assert report.notes == ["1 clips were measured before and not tracked again"]
    for column in ("curve", "mask", "mean"):
        np.testing.assert_array_equal(second.read(column, ["s"]), first.read(column, ["s"]))
    assert np.isfinite(second.read("curve", ["s"])[0]).sum() == 9
    assert second.read("adjustment", ["s"])[0] == first.read("adjustment", ["s"])[0] != ""


@pytest.mark.parametrize("damage", ["cut", "lost"])
def test_damage_costs_time_and_no_clip(tmp_path, records, known, damage):
    (chunk,) = known.glob("*.zarr/measured/mask/c/0/0/0/0/0")
    if damage == "cut":
        chunk.write_bytes(chunk.read_bytes()[:-100])
    else:
        chunk.unlink()
    (path,) = known.glob("*.zarr")
    assert any("measured: column mask" in problem for problem in verify_store(path).problems)
    report, table = _run(tmp_path / "second.zarr", records["train"][:3], _settings(), known)
    assert report.status == {"done": 3}
    assert "cannot be used" in report.notes[0]
    _, expected = _run(tmp_path / "fresh.zarr", records["train"][:3], _settings(), None)
    ids = [record.id for record in records["train"][:3]]
    np.testing.assert_array_equal(table.read("mask", ids), expected.read("mask", ids))


def test_while_another_process_adds_it_is_only_read(tmp_path, records, known):
    (path,) = known.glob("*.zarr")
    with RunStore(path, write=True):
        report, _ = _run(tmp_path / "second.zarr", records["train"], _settings(), known)
    assert "another process is writing" in report.notes[0]
    assert report.notes[1] == "7 clips were measured before and not tracked again"


def test_it_can_be_left_out(tmp_path, records):
    report, _ = _run(tmp_path / "a.zarr", records["train"][:1], _settings(reuse=False), tmp_path / "known")
    assert report.status == {"done": 1}
    assert not (tmp_path / "known").exists()


def test_gradients_take_the_motion_and_keep_it(tmp_path, records, settings, known):
    def sketches(path, folder):
        with RunStore(path, write=True) as store:
            report = compute_sketch_table(records["query"], store, settings, "query", known_motion=folder)
            return report, store.sketches("query").read("sketch", [r.id for r in records["query"]])

    first, expected = sketches(tmp_path / "a.zarr", tmp_path / "new")
    assert "flow" in first.seconds
    again, found = sketches(tmp_path / "b.zarr", tmp_path / "new")
    assert "flow" not in again.seconds
    np.testing.assert_array_equal(found, expected)
