"""The survival report says of every clip what the trainer's own rule does with it."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motive_fo.clips.spec import ClipSpec
from motive_fo.config import ExportConfig
from motive_fo.exporters.base import ExportItem, Row
from motive_fo.exporters.media import ScoredAs
from motive_fo.exporters.registry import LAYOUTS, build_exporter
from motive_fo.exporters.survival import Asked, Fate, Measured, Survival, survival_table
from tests.exporters import loaders

RATES = [8.0, 10.0, 12.5, 15.0, 16.0, 16.002, 23.976, 24000 / 1001, 24.0, 25.0, 29.97, 30.0, 48.0, 50.0, 59.94, 60.0]
pictures = st.just(Measured(1, 0.0))  # a single frame without a duration has no rate
files = st.lists(st.builds(Measured, st.integers(1, 260), st.sampled_from(RATES)) | pictures, min_size=1, max_size=12)
frames = st.sampled_from([5, 9, 17, 33, 49, 81, 121])
scored_fps = st.sampled_from([8.0, 16.0, 24.0])


def _rows(found, fates):
    return [
        Row(ExportItem(str(n), Path(f"{n}.mp4"), "c"), f"videos/{n}.mp4", "c", "", "", measured, fate)
        for n, (measured, fate) in enumerate(zip(found, fates, strict=True))
        if not fate.dropped
    ]


def _speed(taken, measured, fps):
    """Motion between neighbouring training frames, as a multiple of the motion between neighbouring scored frames."""
    return (taken[-1] - taken[0]) / (len(taken) - 1) / measured.fps * fps


@settings(max_examples=150, deadline=None)
@given(files, frames, scored_fps, st.data())
def test_the_report_agrees_with_each_trainers_rule(found, count, fps, data):
    layout = data.draw(st.sampled_from([name for name in LAYOUTS if name != "videofolder"]))
    scored = ScoredAs(ClipSpec(0, fps, count, 64, 64))
    exporter = build_exporter(layout)
    buckets = data.draw(st.sampled_from([(), (), (1, 9, 17, 49)]))
    asked = exporter.asked(found, ExportConfig(layout=layout, buckets=buckets), scored)
    fates = [exporter.fate(measured, asked) for measured in found]
    if layout == "musubi":
        _agrees_with_musubi(exporter, found, fates, asked, scored)
        return
    for measured, fate in zip(found, fates, strict=True):
        if layout == "diffusion-pipe":
            taken = loaders.frames_diffusion_pipe(measured.frames, measured.fps, asked.buckets, asked.trainer_fps)
            assert fate.frames == (taken or 0)
            assert fate.dropped or fate.speed == pytest.approx(fps / asked.trainer_fps)
            continue
        if layout == "diffsynth":
            taken = loaders.frames_diffsynth(measured.frames, count)
        elif layout == "finetrainers":
            taken = loaders.frames_finetrainers(measured.frames, asked.buckets)
        else:
            taken = loaders.frames_vbench(measured.frames, measured.fps)
            assert fate.dropped == (taken is None)
            continue
        assert fate.frames == len(taken or [])
        if len(taken) > 1:
            assert fate.speed == pytest.approx(_speed(taken, measured, fps), rel=0.02)


def _agrees_with_musubi(exporter, found, fates, asked, scored):
    """By the datasets it would be pointed at: a clip is in one that takes it whole, or in none."""
    import json
    import tomllib

    texts = exporter.texts(Path("/out"), _rows(found, fates), asked, scored, 1)
    placed = {}
    for dataset in tomllib.loads(texts["dataset.toml"]).get("datasets", []):
        for line in texts[Path(dataset["video_jsonl_file"]).name].splitlines():
            placed[int(Path(json.loads(line)["video_path"]).stem)] = dataset
    for number, (measured, fate) in enumerate(zip(found, fates, strict=True)):
        if fate.dropped:
            most = loaders.frames_musubi(
                measured.frames,
                round(measured.fps, 2) if measured.fps > asked.trainer_fps * 1.01 else None,
                min(5, *asked.buckets),
                asked.trainer_fps,
            )
            assert most is None, "a clip that has enough frames was left out"
            assert number not in placed
            continue
        source_fps = placed[number].get("source_fps")
        (target,) = placed[number]["target_frames"]
        taken = loaders.frames_musubi(measured.frames, source_fps, target, asked.trainer_fps)
        assert fate.frames == target == len(taken)
        if target > 8:
            assert fate.speed == pytest.approx(_speed(taken, measured, scored.spec.fps), rel=0.15)


@given(files, frames)
@settings(max_examples=50, deadline=None)
def test_measured_buckets_drop_no_clip_of_five_frames_and_none_gets_a_picture(found, count):
    for layout in ("finetrainers", "diffusion-pipe"):
        exporter = build_exporter(layout)
        asked = exporter.asked(found, ExportConfig(layout=layout), ScoredAs(ClipSpec(0, 16, count, 64, 64)))
        assert 1 not in asked.buckets
        assert asked.buckets[-1] == count
        assert all(bucket % 4 == 1 for bucket in asked.buckets)
        for measured in found:
            enough = measured.frames
            if layout == "diffusion-pipe":
                enough = int(measured.frames * 16 / measured.fps) if measured.fps else 0
            assert exporter.fate(measured, asked).frames >= (5 if enough >= 5 else 0)
            if layout == "diffusion-pipe" and enough > 5:  # its reader may lose a frame: there is a bucket below
                assert [bucket for bucket in asked.buckets if bucket <= enough - 1]


def test_known_complaints_are_foreseen():
    """49 frames cut to 48, 24 fps losing a third, clips that are too short: as users report them."""
    scored = ScoredAs(ClipSpec(0, 16, 49, 64, 64))
    exporter = build_exporter("diffusion-pipe")
    asked = exporter.asked([Measured(49, 16.0)], ExportConfig(buckets=(1, 33, 49)), scored)
    exact = exporter.fate(Measured(49, 16.0), asked)
    assert (exact.frames, "no frame to spare" in exact.why) == (49, True)
    assert exporter.fate(Measured(49, 16.002), asked).frames == 33
    assert exporter.fate(Measured(72, 24.0), asked).frames == 33  # 48 are left of it
    short = exporter.fate(Measured(40, 30.0), asked)
    assert short.dropped
    assert "21 frames at 16 fps" in short.why
    finetrainers = build_exporter("finetrainers")
    fate = finetrainers.fate(Measured(97, 16.0), Asked(49, 16, 16, (49,)))
    assert (fate.frames, fate.speed, fate.retimed) == (49, 2.0, True)
    diffsynth = build_exporter("diffsynth").fate(Measured(90, 30.0), Asked(49, 16, 16, (49,)))
    assert diffsynth.speed == pytest.approx(16 / 30)


@pytest.mark.parametrize(
    ("frames", "fps", "dropped"), [(4, 30.0, True), (5, 30.0, False), (1, 8.0, True), (2, 8.0, False)]
)
def test_vbench_needs_two_frames_an_eighth_of_a_second_apart(frames, fps, dropped):
    fate = build_exporter("vbench").fate(Measured(frames, fps), Asked(2, 16, 16, ()))
    assert fate.dropped == dropped == (loaders.frames_vbench(frames, fps) is None)


def test_counts_lists_and_sentences():
    asked = Asked(17, 16, 16, (17,))
    fates = {
        "a": Fate(17),
        "b": Fate(13),
        "c": Fate(13, 2.0),
        "d": Fate(0, why="too short"),
        "e": Fate(17, 1.0009),
        "f": Fate(17, 0.5),
        "g": Fate(17, why="on the edge"),
    }
    report = Survival("diffsynth", asked, fates)
    assert report.counts() == {"clips": 7, "kept": 3, "cut": 2, "retimed": 2, "dropped": 1}
    assert report.sentences() == [
        "2 cut to 13 of 17 frames",
        "2 at 0.50 to 2.00 of their scored speed",
        "1: on the edge",
        "1 dropped: too short",
    ]
    assert set(report.as_dict()["changed"]) == {"b", "c", "d", "f", "g"}
    assert survival_table([report])[1].split() == ["diffsynth", "7", "3", "2", "2", "1"]
