"""Clips on a page: their words and their strips of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from motive_fo.motion.picture import filmstrip, heat, jpeg


@dataclass(frozen=True)
class Strip:
    """A strip of pictures as JPEG, and its text for those who do not see it."""

    jpeg: bytes
    alt: str


@dataclass(frozen=True)
class ShownClip:
    """A clip on a page.

    Attributes:
        id, caption: as in the dataset.
        facts: what is said of it, such as "mean 0.31 px".
        strips: its pictures, one below the other.
    """

    id: str
    caption: str
    facts: str
    strips: Sequence[Strip]


def strip(frames_THW3: npt.NDArray[np.uint8], alt: str, count: int = 6, height: int = 96) -> Strip:
    """``count`` frames evenly over the clip, side by side."""
    return Strip(jpeg(filmstrip(frames_THW3, count, height)), alt)


def masked_strip(
    frames_THW3: npt.NDArray[np.uint8], mask_Fhw: npt.NDArray[np.float32], alt: str, count: int = 6, height: int = 72
) -> Strip:
    """The frames in grey with the motion mask over them in colour: what the masked loss looks at.

    Args:
        mask_Fhw: weights on the latent grid; every frame shows those of the latent frame nearest in time.
    """
    frames = len(frames_THW3)
    picked = np.linspace(0, frames - 1, min(count, frames)).round().astype(int)
    latent = np.rint(picked * (len(mask_Fhw) - 1) / max(1, frames - 1)).astype(int)
    glow = heat(mask_Fhw[latent], 1.0)
    drawn = []
    for frame_HW3, mask_hw3 in zip(frames_THW3[picked], glow, strict=True):
        grey = cv2.cvtColor(cv2.cvtColor(frame_HW3, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        large = cv2.resize(mask_hw3, grey.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        drawn.append(np.clip(0.45 * grey + 0.75 * large, 0, 255).astype(np.uint8))
    return strip(np.stack(drawn), alt, count, height)
