"""What becomes of each clip in a trainer, told before anyone trains: kept, cut, at another speed, or dropped.

Trainers cut, subsample and drop clips without a word, or with one line in a long log. Each exporter states its
trainer's rule as a pure function of a file's frames and frame rate (``Exporter.fate``); here they are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

#: A clip that plays up to this much faster or slower than it was scored is not called re-timed: 24 for 23.976.
SAME_SPEED: Final = 0.01


@dataclass(frozen=True)
class Measured:
    """Frames of a file, and frames per second (mean)."""

    frames: int
    fps: float


@dataclass(frozen=True)
class Asked:
    """What the trainer is told.

    Attributes:
        frames: frames of a training clip.
        fps: frames per second that the clips were scored at.
        trainer_fps: frames per second that the trainer takes all clips to have, or brings them to.
        buckets: numbers of frames it may cut to, ascending; the last is ``frames``.
    """

    frames: int
    fps: float
    trainer_fps: float
    buckets: tuple[int, ...]


@dataclass(frozen=True)
class Fate:
    """What a trainer makes of one clip.

    Attributes:
        frames: frames it trains on; 0 if it never sees the clip.
        speed: how fast the motion is in training, as a multiple of what was scored; 1 where it is the same.
        why: the reason of a dropped clip, or a warning; empty otherwise.
    """

    frames: int
    speed: float = 1.0
    why: str = ""

    @property
    def dropped(self) -> bool:
        return self.frames == 0

    @property
    def retimed(self) -> bool:
        return not self.dropped and abs(self.speed - 1) > SAME_SPEED

    def cut(self, frames: int) -> bool:
        """Whether fewer than the frames asked for are trained on."""
        return 0 < self.frames < frames


@dataclass(frozen=True)
class Survival:
    """What becomes of a set of clips in one trainer.

    Attributes:
        layout: the trainer.
        asked: its settings.
        fates: clip id -> what becomes of it, dropped ones included.
    """

    layout: str
    asked: Asked
    fates: Mapping[str, Fate] = field(default_factory=dict)

    @property
    def kept(self) -> list[str]:
        """Clips that are trained on in full and at the speed they were scored at."""
        frames = self.asked.frames
        return [i for i, f in self.fates.items() if not (f.dropped or f.retimed or f.cut(frames))]

    @property
    def cut(self) -> list[str]:
        """Clips of which fewer frames are trained on than asked for."""
        return [i for i, f in self.fates.items() if f.cut(self.asked.frames)]

    @property
    def retimed(self) -> list[str]:
        """Clips that move faster or slower in training than they were scored; they may be cut as well."""
        return [i for i, f in self.fates.items() if f.retimed]

    @property
    def dropped(self) -> dict[str, str]:
        """Clips the trainer never sees -> why."""
        return {i: f.why for i, f in self.fates.items() if f.dropped}

    def counts(self) -> dict[str, int]:
        """Number of clips of each kind; cut and re-timed clips may be the same ones."""
        return {
            "clips": len(self.fates),
            "kept": len(self.kept),
            "cut": len(self.cut),
            "retimed": len(self.retimed),
            "dropped": len(self.dropped),
        }

    def sentences(self) -> list[str]:
        """What a person should know, most frequent first; nothing where every clip is kept."""
        lengths = Counter(self.fates[i].frames for i in self.cut)
        lines = [f"{n} cut to {frames} of {self.asked.frames} frames" for frames, n in lengths.most_common()]
        speeds = [self.fates[i].speed for i in self.retimed]
        if speeds:
            low, high = f"{min(speeds):.2f}", f"{max(speeds):.2f}"
            lines.append(f"{len(speeds)} at {low if low == high else f'{low} to {high}'} of their scored speed")
        warned = Counter(f.why for f in self.fates.values() if f.why and not f.dropped)
        lines += [f"{n}: {why}" for why, n in warned.most_common()]
        return lines + [f"{n} dropped: {why}" for why, n in Counter(self.dropped.values()).most_common()]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: settings, counts, and every clip that is not kept as it is."""
        kept = set(self.kept)
        return {
            "layout": self.layout,
            "frames": self.asked.frames,
            "buckets": list(self.asked.buckets),
            "trainer_fps": self.asked.trainer_fps,
            **self.counts(),
            "changed": {
                i: {"frames": f.frames, "speed": round(f.speed, 4), "why": f.why}
                for i, f in self.fates.items()
                if i not in kept or f.why
            },
        }


def survival_table(reports: Sequence[Survival]) -> list[str]:
    """The counts of several trainers as lines of a table."""
    lines = [f"{'trainer':<15} {'clips':>6} {'kept':>6} {'cut':>6} {'re-timed':>9} {'dropped':>8}"]
    for report in reports:
        n = report.counts()
        lines.append(
            f"{report.layout:<15} {n['clips']:>6} {n['kept']:>6} {n['cut']:>6} {n['retimed']:>9} {n['dropped']:>8}"
        )
    return lines


def speed(scored_fps: float, taken_fps: float) -> float:
    """How fast motion is in training, as a multiple of what was scored, if ``taken_fps`` frames of each second are
    taken. A single picture (0 frames per second) has no speed, and counts as unchanged."""
    return scored_fps / taken_fps if taken_fps > 0 else 1.0


def four_n_plus_one(frames: int) -> int:
    """Largest 4n+1 that is at most ``frames``, 0 where there is none."""
    return (frames - 1) // 4 * 4 + 1 if frames >= 1 else 0
