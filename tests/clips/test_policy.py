from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motive_fo.clips.decode import decode
from motive_fo.clips.policy import Short, plan
from motive_fo.clips.spec import ClipSpec, FrameRule
from motive_fo.clips.timeline import Timeline
from motive_fo.errors import ClipError
from tests.videos import read_numbers, write_video


def steady(frames: int, fps: int = 30) -> Timeline:
    return Timeline(tuple(range(0, frames * 100, 100)), frames * 100, Fraction(1, 100 * fps))


def spec(frames: int, fps: float = 30, start: float = 0.0) -> ClipSpec:
    return ClipSpec(start, fps, frames, 96, 128, crop="none")


@pytest.mark.parametrize("short", ["refuse", "loop", "pad", "fewer"])
def test_a_long_enough_video_is_the_same_under_every_policy(short: Short) -> None:
    found = plan(steady(48), spec(17, 16, 0.5), short, FrameRule(4))
    assert found == plan(steady(48), spec(17, 16, 0.5))
    assert found is not None
    assert found.adjustment == ""


def test_refuse() -> None:
    assert plan(steady(16), spec(17)) is None


@pytest.mark.parametrize("start", [0, 4])
def test_pad_repeats_the_last_frame(start: int) -> None:
    found = plan(steady(10 + start), spec(17, start=start / 30), "pad")
    assert found is not None
    assert list(found.indices) == [*range(start, start + 10), *[start + 9] * 7]
    assert found.adjustment == "padded 7 frames"


@pytest.mark.parametrize("start", [0, 4])
def test_loop_starts_over_from_the_first_frame_of_the_window(start: int) -> None:
    found = plan(steady(8 + start), spec(17, start=start / 30), "loop")
    assert found is not None
    assert list(found.indices) == [start + k % 8 for k in range(17)]
    assert found.adjustment == "looped 2.1 times"


def test_loop_is_in_time_not_in_frames() -> None:
    """20 frames at 30 fps last 2/3 s: instant k of a 16 fps clip shows k/16 mod 2/3."""
    found = plan(steady(20), spec(33, 16), "loop")
    assert found is not None
    assert list(found.indices) == [int(Fraction(k, 16) % Fraction(2, 3) * 30 + Fraction(3, 100)) for k in range(33)]


@pytest.mark.parametrize(
    ("available", "rule", "count"),
    [(16, FrameRule(4), 13), (13, FrameRule(4), 13), (5, FrameRule(4), 5), (4, FrameRule(4), None), (4, None, 4)],
)
def test_fewer_takes_what_the_model_takes(available: int, rule: FrameRule | None, count: int | None) -> None:
    found = plan(steady(available), spec(17), "fewer", rule)
    if count is None:
        assert found is None
    else:
        assert found is not None
        assert list(found.indices) == list(range(count))
        assert found.adjustment == f"{count} of 17 frames"


@pytest.mark.parametrize("short", ["loop", "pad", "fewer"])
def test_nothing_can_be_made_of_nothing(short: Short) -> None:
    assert plan(steady(16), spec(17, start=2.0), short) is None
    assert plan(Timeline((0,), 0, Fraction(1, 30)), spec(17), short) is None
    assert plan(steady(1), spec(17), "fewer") is None


@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=12),
    st.integers(2, 33),
    st.sampled_from([8.0, 16.0, 23.976, 30.0]),
    st.floats(0, 1),
    st.sampled_from(["loop", "pad", "fewer"]),
)
def test_any_timeline_gives_frames_of_the_window(
    gaps: list[int], frames: int, fps: float, start: float, short: Short
) -> None:
    ticks = [sum(gaps[:k]) for k in range(len(gaps))]
    video = Timeline(tuple(ticks), sum(gaps), Fraction(1, 1000))
    wanted = spec(frames, fps, start)
    found = plan(video, wanted, short, None)
    first = video.on_screen(wanted.times()[0], wanted.times()[1] - wanted.times()[0])
    if first is None:
        assert found is None
    elif found is not None:
        assert all(first <= index < len(ticks) for index in found.indices)
        assert found.indices[0] == first
        assert len(found.indices) == frames or short == "fewer"
        assert found.adjustment or len(found.indices) == frames
    else:
        assert short == "fewer"


def test_decoded_frames_are_those_planned(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 12, options={"bf": "2", "g": "5"})
    for short, start, expected in (
        ("loop", 0.1, [3 + k % 9 for k in range(17)]),
        ("pad", 0.1, [*range(3, 12), *[11] * 8]),
        ("fewer", 0.1, list(range(3, 12))),
    ):
        clip = decode(path, spec(17, start=start), "auto", short, FrameRule(4))  # type: ignore[arg-type]
        assert read_numbers(clip.frames_THW3) == expected
        assert clip.times_T == pytest.approx(np.array(expected) / 30)
        assert clip.adjustment
    with pytest.raises(ClipError, match="the model takes 16n"):
        decode(path, spec(17), "auto", "fewer", FrameRule(16))
