"""The clip specification: exactly which frames and pixels of a video are used.

A model learns from what it is shown. A clip scored at one frame rate and trained at another is a different motion, so
motion, gradients and training all use one specification, and it is part of every store's identity.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal

from motive_fo.errors import ConfigError

Crop = Literal["center", "none"]


@dataclass(frozen=True)
class FrameRule:
    """Frame counts a model takes: ``multiple * n + offset`` with n >= 1 (Wan 4n+1, LTX 8n+1)."""

    multiple: int
    offset: int = 1

    def accepts(self, frames: int) -> bool:
        return frames > self.offset and (frames - self.offset) % self.multiple == 0

    def below(self, frames: int) -> int | None:
        """Largest accepted count <= ``frames``, or None."""
        n = (frames - self.offset) // self.multiple
        return self.multiple * n + self.offset if n >= 1 else None

    def __str__(self) -> str:
        return f"{self.multiple}n+{self.offset}"


@dataclass(frozen=True)
class ClipSpec:
    """Which frames and pixels of a video are used.

    Frame k of the clip is the frame that is on screen at ``start + k / fps`` seconds after the first frame of the video
    (``Choice:`` what a viewer sees at that time, which is well defined for a variable frame rate too).

    Attributes:
        start: first instant used, in seconds from the first frame of the video.
        fps: frames per second of the clip, whatever the file's own rate is.
        frames: number of frames T.
        height: rows H after scaling and cropping, in pixels.
        width: columns W after scaling and cropping, in pixels.
        crop: ``center`` scales the video until it covers H x W and cuts the rest evenly (keeps shapes);
            ``none`` scales rows and columns apart (keeps everything, changes shapes).
    """

    start: float
    fps: float
    frames: int
    height: int
    width: int
    crop: Crop = "center"

    def __post_init__(self) -> None:
        if not self.start >= 0:
            raise ConfigError(f"start must be 0 or more seconds, not {self.start}")
        if not 0 < self.fps <= 1000:
            raise ConfigError(f"fps must be above 0 and at most 1000, not {self.fps}")
        if self.frames < 2:
            raise ConfigError(f"frames must be at least 2, not {self.frames}: one frame has no motion")
        if self.height < 1 or self.width < 1:
            raise ConfigError(f"height and width must be at least 1 pixel, not {self.height} x {self.width}")
        if self.crop not in ("center", "none"):
            raise ConfigError(f"crop must be 'center' or 'none', not {self.crop!r}")

    def times(self) -> list[Fraction]:
        """The T instants of the clip in seconds, exact (no rounding drift over long clips)."""
        start = Fraction(self.start).limit_denominator(1_000_000)
        fps = Fraction(self.fps).limit_denominator(1001)
        return [start + k / fps for k in range(self.frames)]

    def identity(self) -> dict[str, Any]:
        return {**asdict(self), "start": float(self.start), "fps": float(self.fps)}
