"""The timeline of a video: which frame is on screen at an instant. Exact integer ticks, nothing is decoded.

Containers round their timestamps (Matroska and FLV to a millisecond), so an instant that is meant to hit a frame may
lie just before its rounded timestamp; without a tolerance a 30 fps clip of a 30 fps Matroska file would show one frame
twice and skip the next.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from statistics import median_low

_MILLISECOND = Fraction(1, 1000)


@dataclass(frozen=True)
class Timeline:
    """When each frame of a video is shown.

    Attributes:
        ticks: presentation timestamps of the shown frames, strictly increasing, in units of ``time_base``.
        end: tick at which the last frame leaves the screen.
        time_base: seconds per tick.
    """

    ticks: tuple[int, ...]
    end: int
    time_base: Fraction

    def __post_init__(self) -> None:
        if not self.ticks or any(b <= a for a, b in pairwise(self.ticks)):
            raise ValueError("a timeline needs strictly increasing ticks")
        if self.end < self.ticks[-1] or self.time_base <= 0:
            raise ValueError("a timeline must not end before its last frame, and needs a positive time base")

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame to the end of the last one."""
        return (self.end - self.ticks[0]) * self.time_base

    @property
    def fps(self) -> Fraction:
        """Mean frame rate; 0 for a single frame without a duration."""
        if len(self.ticks) > 1:
            return (len(self.ticks) - 1) / ((self.ticks[-1] - self.ticks[0]) * self.time_base)
        return 1 / self.duration if self.duration else Fraction(0)

    @cached_property  # of every frame of the film, for its facts and for each clip
    def constant_rate(self) -> bool:
        """Whether every frame is shown for the same time, to within the rounding of the ticks.

        A tick coarser than a quarter of a frame is no rounding: there every interval must be equal. The last frame's
        duration is left out, since writers guess it.
        """
        intervals = {b - a for a, b in pairwise(self.ticks)}
        if len(intervals) <= 1:
            return True
        mean = Fraction(self.ticks[-1] - self.ticks[0], len(self.ticks) - 1)
        on_the_beat = all(abs(tick - self.ticks[0] - k * mean) <= 1 for k, tick in enumerate(self.ticks))
        return max(intervals) - min(intervals) <= 1 and min(intervals) >= 4 and on_the_beat

    def seconds(self, index: int) -> Fraction:
        """When frame ``index`` appears, in seconds from the first frame."""
        return (self.ticks[index] - self.ticks[0]) * self.time_base

    def moments(self, indices: Iterable[int]) -> list[Fraction]:
        """When frames appear, in seconds from the first frame; at a constant rate without the rounding of the ticks.

        Two frames of a 16 fps Matroska file are 62 or 63 ms apart; the film has none of that.
        """
        if not self.constant_rate or len(self.ticks) < 2:
            return [self.seconds(index) for index in indices]
        interval = 1 / self.fps
        return [index * interval for index in indices]

    def on_screen(self, instant: Fraction, clip_interval: Fraction) -> int | None:
        """Index of the frame on screen, None before the first and after the last one has left.

        It is the last frame that appears at ``instant`` plus a tolerance or earlier. ``Choice:`` the tolerance is a
        millisecond or half a tick, whichever is more (what containers round by), but at most a quarter of the clip's
        interval and of the interval before the frame, so that it never decides more than rounding. Where frames are
        one tick apart the ticks count frames (AVI), nothing was rounded, and half a tick would show frames too early.

        Args:
            instant: seconds from the first frame.
            clip_interval: seconds between two frames of the clip.
        """
        if instant < 0:
            return None
        position = self.ticks[0] + instant / self.time_base
        index = bisect_right(self.ticks, position) - 1
        following = self.ticks[index + 1] if index + 1 < len(self.ticks) else self.end
        gap = following - self.ticks[index]
        rounding = max(_MILLISECOND, self.time_base / 2) if gap > 1 else _MILLISECOND
        tolerance = min(rounding, clip_interval / 4, gap * self.time_base / 4)
        if position + tolerance / self.time_base < following:
            return index
        return index + 1 if index + 1 < len(self.ticks) else None


def timeline(shown: Sequence[tuple[int, int]], time_base: Fraction, guessed_interval: Fraction | None) -> Timeline:
    """Timeline of packets given as (pts, duration) in ticks, in any order.

    Two packets with one pts are one frame: the other is never seen. A last packet without a duration lasts as long as
    the median frame, a lone one ``guessed_interval`` seconds.
    """
    durations = dict(sorted(shown, reverse=True))
    ticks = tuple(sorted(durations))
    last = durations[ticks[-1]]
    if last <= 0 and len(ticks) > 1:
        last = median_low(b - a for a, b in pairwise(ticks))
    elif last <= 0 and guessed_interval is not None:
        last = round(guessed_interval / time_base)
    return Timeline(ticks, ticks[-1] + max(last, 0), time_base)
