from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motive_fo.clips.timeline import Timeline, timeline

_TIME_BASES = st.sampled_from([Fraction(1, 1000), Fraction(1, 15360), Fraction(1, 25), Fraction(1001, 30000)])


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    gaps = draw(st.lists(st.integers(1, 3000), min_size=1, max_size=30))
    ticks = [draw(st.integers(-5000, 5000))]
    for gap in gaps:
        ticks.append(ticks[-1] + gap)
    return Timeline(tuple(ticks[:-1]), ticks[-1], draw(_TIME_BASES))


def brute_force(video: Timeline, instant: Fraction, clip_interval: Fraction) -> int | None:
    """The rule, word by word: the last frame whose time is at most the instant plus the tolerance."""
    edges = [(tick - video.ticks[0]) * video.time_base for tick in (*video.ticks, video.end)]
    shown = None
    for index, edge in enumerate(edges):
        before = edge - edges[index - 1] if index else 2 * video.time_base
        rounding = video.time_base / 2 if before > video.time_base else 0
        tolerance = min(max(Fraction(1, 1000), rounding), clip_interval / 4, before / 4)
        if edge <= instant + tolerance:
            shown = index
    return None if shown == len(video.ticks) else shown


@given(
    timelines(), st.fractions(0, 20, max_denominator=48000), st.sampled_from([Fraction(1, n) for n in (1, 16, 30, 240)])
)
def test_choice_equals_brute_force(video: Timeline, instant: Fraction, clip_interval: Fraction) -> None:
    assert video.on_screen(instant, clip_interval) == brute_force(video, instant, clip_interval)


@given(timelines(), st.integers(1, 8), st.integers(0, 7))
def test_choice_at_and_between_frames(video: Timeline, parts: int, part: int) -> None:
    """Any instant in the first three quarters of a frame's time on screen shows that frame, whatever the rounding."""
    for index, tick in enumerate(video.ticks):
        end = (*video.ticks, video.end)[index + 1]
        inside = tick - video.ticks[0] + Fraction(part % parts, parts) * (end - tick) * Fraction(3, 4)
        assert video.on_screen(inside * video.time_base, Fraction(1, 16)) == index


@pytest.mark.parametrize("fps", [Fraction(24), Fraction(30000, 1001), Fraction(30), Fraction(60), Fraction(240)])
@pytest.mark.parametrize("mode", ["round", "floor"])
def test_millisecond_timestamps_give_each_frame_once(fps: Fraction, mode: str) -> None:
    ticks = [round(k * 1000 / fps) if mode == "round" else int(k * 1000 / fps) for k in range(500)]
    video = Timeline(tuple(ticks), ticks[-1] + int(1000 / fps), Fraction(1, 1000))
    assert [video.on_screen(k / fps, 1 / fps) for k in range(500)] == list(range(500))


def test_nothing_is_on_screen_after_the_end() -> None:
    video = Timeline((0, 40, 80), 120, Fraction(1, 1000))
    assert video.on_screen(Fraction(118, 1000), Fraction(1, 25)) == 2
    assert video.on_screen(Fraction(120, 1000), Fraction(1, 25)) is None
    assert video.on_screen(Fraction(-1, 1000), Fraction(1, 25)) is None


@pytest.mark.parametrize(
    ("ticks", "constant"),
    [
        ((0, 512, 1024, 1536), True),
        ((0, 33, 67, 100, 133, 167), True),
        ((0, 512, 1024, 2048), False),
        ((0, 33, 67, 101, 135, 169, 202, 235, 268, 301), False),  # drifts by more than rounding can
        ((0, 1, 2, 4), False),  # one tick is a whole frame here
        ((7,), True),
    ],
)
def test_constant_rate(ticks: tuple[int, ...], constant: bool) -> None:
    assert Timeline(ticks, ticks[-1] + 1, Fraction(1, 1000)).constant_rate is constant


def test_timeline_of_packets() -> None:
    video = timeline([(0, 40), (80, 0), (40, 40), (40, 40)], Fraction(1, 1000), None)
    assert (video.ticks, video.end) == ((0, 40, 80), 120)
    assert timeline([(5, 0)], Fraction(1, 1000), Fraction(1, 25)).duration == Fraction(1, 25)
    assert timeline([(5, 0)], Fraction(1, 1000), None).duration == 0
    with pytest.raises(ValueError, match="increasing"):
        Timeline((0, 0), 1, Fraction(1))
