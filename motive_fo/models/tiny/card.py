"""Geometry of the embedded model. Light: no torch."""

from __future__ import annotations

from typing import Final

from motive_fo.clips.spec import ClipSpec, FrameRule
from motive_fo.models.card import ModelCard, Strides

CARD: Final = ModelCard(
    name="tiny",
    strides=Strides(time=4, height=8, width=8),
    frame_rule=FrameRule(4),
    size_multiple=16,
    default_clip=ClipSpec(start=0, fps=16, frames=17, height=64, width=64, crop="center"),
)
