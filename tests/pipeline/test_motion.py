"""The motion step over good, static and damaged clips."""

import dataclasses
import shutil
import sys

import numpy as np
import pytest

from motive_fo.config import ClipConfig, FlowConfig, MotionConfig
from motive_fo.errors import CLIP_CODES, MissingDependencyError, StoreMismatchError
from motive_fo.models.tiny.card import CARD
from motive_fo.pipeline import motion as motion_module
from motive_fo.pipeline.motion import MotionSettings, compute_motion_table
from motive_fo.pipeline.record import ClipRecord
from motive_fo.store.run_store import RunStore
from motive_fo.store.table import Status


def _run(path, records, settings, **more):
    with RunStore(path, write=True) as store:
        return compute_motion_table(records, store, settings, **more), store.table("motion")


def test_every_clip_is_described_static_or_coded(tmp_path, corpus, records, motion_settings):
    report, table = _run(tmp_path / "r.zarr", records["train"], motion_settings)
    assert report.clips == report.computed == len(corpus.train) == 12
    assert report.status == {"done": 6, "static": 1, "failed": 5}
    for record in records["train"]:
        status, code = table.status(record.id), table.read("code", [record.id])[0]
        if record.path in corpus.damaged:
            assert status == Status.FAILED
            assert code in CLIP_CODES
            assert table.read("message", [record.id])[0]
        elif record.path in corpus.static:
            assert (status, code) == (Status.STATIC, "static")
        else:
            assert (status, code) == (Status.DONE, "")
            assert table.read("mean", [record.id])[0] > 0
            assert table.read("curve", [record.id]).shape == (1, 17)
            mask = table.read("mask", [record.id])[0]
            assert mask.shape == (5, 8, 8)
            assert 0 <= mask.min() < mask.max() <= 1
            assert table.read("decoder", [record.id])[0].startswith("pyav ")
    assert report.codes["too_short"] == 1
    assert report.codes["empty_file"] == 1


def test_a_second_call_computes_nothing_and_new_clips_alone_are_computed(tmp_path, records, motion_settings):
    path = tmp_path / "r.zarr"
    _run(path, records["train"][:4], motion_settings)
    again, _ = _run(path, records["train"][:4], motion_settings)
    assert again.computed == 0
    assert again.status["done"] == 4
    more, _ = _run(path, records["train"][2:6], motion_settings)
    assert more.computed == 2


def test_a_changed_file_is_computed_again_and_a_touched_one_is_not(tmp_path, corpus, motion_settings):
    path = tmp_path / "r.zarr"
    clip = tmp_path / "clip.mp4"
    shutil.copy2(corpus.train[0], clip)
    record = [ClipRecord("c", clip)]
    _, before = _run(path, record, motion_settings)
    first = before.read("mean", ["c"])[0]
    clip.touch()
    assert _run(path, record, motion_settings)[0].computed == 0
    shutil.copy2(corpus.train[1], clip)
    report, table = _run(path, record, motion_settings)
    assert report.computed == 1
    assert table.read("mean", ["c"])[0] != first
    clip.unlink()
    report, table = _run(path, record, motion_settings)
    assert report.codes == {"missing_file": 1}
    assert np.isnan(table.read("mean", ["c"])[0])
    shutil.copy2(corpus.train[0], clip)
    _, table = _run(path, record, motion_settings)
    assert table.read("mean", ["c"])[0] == first


def test_failed_clips_are_tried_again_on_request(tmp_path, records, motion_settings, monkeypatch):
    path = tmp_path / "r.zarr"

    def broken(*args):
        raise RuntimeError("the disk hiccuped\nbadly")

    monkeypatch.setattr(motion_module, "decode", broken)
    report, table = _run(path, records["train"][:2], motion_settings)
    assert report.codes == {"internal_error": 2}
    assert table.read("message", [records["train"][0].id])[0] == "RuntimeError: the disk hiccuped badly"
    monkeypatch.undo()
    assert _run(path, records["train"][:2], motion_settings)[0].computed == 0
    assert _run(path, records["train"][:2], motion_settings, retry_failed=True)[0].status == {"done": 2}


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"clip": ClipConfig(fps=8)}, "clip.fps: stored 16.0, asked for 8.0"),
        ({"clip": ClipConfig(crop="none")}, "clip.crop"),
        ({"motion": MotionConfig(pooling="bilinear")}, "mask.pooling"),
        ({"motion": MotionConfig(static_floor=1.0)}, "mask.static_floor"),
    ],
)
def test_other_settings_are_refused(tmp_path, records, motion_settings, changed, field):
    path = tmp_path / "r.zarr"
    _run(path, records["train"][:1], motion_settings)
    chosen = {"clip": ClipConfig(), "flow": FlowConfig(), "motion": MotionConfig(), **changed}
    with pytest.raises(StoreMismatchError, match=field):
        _run(path, records["train"][:1], MotionSettings.build(**chosen, card=CARD))


def test_masks_do_not_depend_on_company(tmp_path, records, motion_settings):
    _, together = _run(tmp_path / "a.zarr", records["train"], motion_settings)
    _, alone = _run(tmp_path / "b.zarr", records["train"][3:4], motion_settings)
    clip_id = records["train"][3].id
    for column in ("mean", "p95", "peak", "curve", "mask"):
        assert np.array_equal(together.read(column, [clip_id]), alone.read(column, [clip_id]))


def test_the_real_and_odd_videos(tmp_path, shared_videos, motion_settings):
    """Every file is described or carries a code; the run completes."""
    files = sorted(p for p in shared_videos.rglob("*") if p.is_file() and p.suffix != ".md")
    report, table = _run(tmp_path / "r.zarr", [ClipRecord(p.name, p) for p in files], motion_settings)
    assert sum(report.status.values()) == len(files) == 29
    assert "internal_error" not in report.codes
    assert "pending" not in report.status
    for path in files:
        failed = table.status(path.name) == Status.FAILED
        assert failed == np.isnan(table.read("mean", [path.name])[0])
    assert table.read("code", ["moviepy_zero_bytes.webm"])[0] == "empty_file"
    assert table.status("decord_flipping_a_pancake.mkv") == Status.DONE


def test_settings_are_frozen(motion_settings):
    with pytest.raises(dataclasses.FrozenInstanceError):
        motion_settings.spec = None


def test_a_missing_decoder_stops_at_once(tmp_path, records, monkeypatch):
    """Wrong use is no clip's fault: it is not recorded a thousand times."""
    monkeypatch.setitem(sys.modules, "decord", None)
    settings = MotionSettings.build(ClipConfig(decoder="decord"), FlowConfig(), MotionConfig(), CARD)
    with pytest.raises(MissingDependencyError, match="decord is not installed"):
        _run(tmp_path / "r.zarr", records["train"], settings)
