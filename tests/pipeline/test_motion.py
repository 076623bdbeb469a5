"""The motion step over good, static and damaged clips."""

import dataclasses
import shutil

import numpy as np
import pytest

from motive_fo.clips.worker import DecodePool
from motive_fo.config import ClipConfig, FlowConfig, MotionConfig
from motive_fo.errors import CLIP_CODES, MissingDependencyError, StoreMismatchError
from motive_fo.models.tiny.card import CARD
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
        raise RuntimeError("the estimator hiccuped\nbadly")

    monkeypatch.setattr(type(motion_settings.estimator), "estimate", broken)
    report, table = _run(path, records["train"][:2], motion_settings)
    assert report.codes == {"internal_error": 2}
    assert table.read("message", [records["train"][0].id])[0] == "RuntimeError: the estimator hiccuped badly"
    monkeypatch.undo()
    assert _run(path, records["train"][:2], motion_settings)[0].computed == 0
    assert _run(path, records["train"][:2], motion_settings, retry_failed=True)[0].status == {"done": 2}


def test_a_decoder_that_crashes_or_hangs_costs_its_clip_alone(tmp_path, records, motion_settings, monkeypatch):
    """Children that die or never answer: the clip gets a code, the others are described."""
    fatal = {records["train"][1].id: "abort", records["train"][3].id: "hang"}
    monkeypatch.setattr(
        MotionSettings, "pool", lambda self: DecodePool(seconds=2, function="tests.pipeline.deadly:decode")
    )
    chosen = [
        dataclasses.replace(r, path=tmp_path / f"{fatal[r.id]}.mp4") if r.id in fatal else r
        for r in records["train"][:6]
    ]
    for kind in fatal.values():
        shutil.copy2(records["train"][0].path, tmp_path / f"{kind}.mp4")
    report, table = _run(tmp_path / "r.zarr", chosen, motion_settings)
    assert report.status == {"done": 4, "failed": 2}
    assert report.codes == {"decoder_died": 1, "decode_timeout": 1}
    assert table.read("code", list(fatal)).tolist() == ["decoder_died", "decode_timeout"]


@pytest.mark.parametrize("short", ["loop", "pad", "fewer"])
def test_a_short_clip_follows_the_policy_and_says_so(tmp_path, corpus, motion_settings, short):
    from motive_fo.synthetic.corpus import write_video
    from motive_fo.synthetic.scene import render, sample_scene

    path = tmp_path / "short.mp4"
    write_video(path, render(sample_scene(5, "slide"), frames=11, fps=16, height=64, width=64), 16)
    refused, _ = _run(tmp_path / "a.zarr", [ClipRecord("s", path)], motion_settings)
    assert refused.codes == {"too_short": 1}
    settings = MotionSettings.build(ClipConfig(short=short), FlowConfig(), MotionConfig(), CARD)
    report, table = _run(tmp_path / "b.zarr", [ClipRecord("s", path)], settings)
    assert report.status == {"done": 1}
    assert table.read("adjustment", ["s"])[0]
    frames = int(np.isfinite(table.read("curve", ["s"])[0]).sum())
    cells = int(np.isfinite(table.read("mask", ["s"])[0][:, 0, 0]).sum())
    assert (frames, cells) == ((9, 3) if short == "fewer" else (17, 5))


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
    monkeypatch.setattr(
        MotionSettings, "pool", lambda self: DecodePool(function="tests.pipeline.deadly:without_decord")
    )
    settings = MotionSettings.build(ClipConfig(decoder="decord"), FlowConfig(), MotionConfig(), CARD)
    with pytest.raises(MissingDependencyError, match="decord is not installed"):
        _run(tmp_path / "r.zarr", records["train"], settings)
