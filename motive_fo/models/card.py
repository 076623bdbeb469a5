"""What is known of a model without loading it: geometry and default clip. Light: no torch."""

from __future__ import annotations

from dataclasses import dataclass

from motive_fo.clips.spec import ClipSpec, FrameRule
from motive_fo.errors import ConfigError


@dataclass(frozen=True)
class Strides:
    """Pixels (and frames) per latent cell: Wan 4x8x8, LTX 8x32x32."""

    time: int
    height: int
    width: int


@dataclass(frozen=True)
class ModelCard:
    """Geometry of a model.

    Attributes:
        name: the name users choose it by.
        strides: of the causal video autoencoder; latent frame 0 is frame 0 alone, each later one covers ``time``
        frames.
        frame_rule: the frame counts it takes.
        size_multiple: height and width must be multiples of this many pixels.
        default_clip: the clip specification used where the user names none.
    """

    name: str
    strides: Strides
    frame_rule: FrameRule
    size_multiple: int
    default_clip: ClipSpec

    def check(self, spec: ClipSpec) -> None:
        """Raise ``ConfigError`` unless the model can take clips of this specification."""
        if not self.frame_rule.accepts(spec.frames):
            below = self.frame_rule.below(spec.frames)
            near = f"{below} or " if below else ""
            above = self.frame_rule.multiple * max(
                1, -(-(spec.frames - self.frame_rule.offset) // self.frame_rule.multiple)
            )
            raise ConfigError(
                f"model {self.name!r} takes {self.frame_rule} frames, not {spec.frames}: "
                f"use {near}{above + self.frame_rule.offset}"
            )
        for axis, value in (("height", spec.height), ("width", spec.width)):
            if value % self.size_multiple:
                near_size = max(self.size_multiple, round(value / self.size_multiple) * self.size_multiple)
                raise ConfigError(
                    f"model {self.name!r} takes a {axis} in multiples of {self.size_multiple}, not {value}: "
                    f"use {near_size}"
                )

    def grid(self, spec: ClipSpec) -> tuple[int, int, int]:
        """Latent grid (F, h, w) of a clip."""
        self.check(spec)
        frames = (spec.frames - 1) // self.strides.time + 1
        return frames, spec.height // self.strides.height, spec.width // self.strides.width
