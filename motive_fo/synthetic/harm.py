"""Frames that teach a video model the wrong motion: what is wrong with clips in pools that people collect.

Not files that cannot be read (those are ``corpus.DAMAGES``): every one of these decodes and has a caption.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]

WRONG_CAPTION: Final = "wrong caption"
CUT: Final = "cut"


def shuffled(frames_THW3: Frames, rng: np.random.Generator) -> Frames:
    """The frames in another order."""
    return frames_THW3[rng.permutation(len(frames_THW3))]


def reversed_in_time(frames_THW3: Frames, rng: np.random.Generator) -> Frames:
    """The last frame first. It does little harm where a motion reversed is the same motion (an orbit, a slide) and no
    caption names the direction."""
    return frames_THW3[::-1].copy()


def frozen(frames_THW3: Frames, rng: np.random.Generator) -> Frames:
    """One frame all the time."""
    return np.repeat(frames_THW3[[rng.integers(len(frames_THW3))]], len(frames_THW3), axis=0)


def jerky(frames_THW3: Frames, rng: np.random.Generator) -> Frames:
    """Frames held for 3 to 5 frames, as where a stream stalls."""
    held = np.repeat(np.arange(len(frames_THW3)), rng.integers(3, 6, len(frames_THW3)))[: len(frames_THW3)]
    starts = np.flatnonzero(np.diff(held, prepend=-1))
    return frames_THW3[starts[np.searchsorted(starts, np.arange(len(held)), side="right") - 1]]


def flickering(frames_THW3: Frames, rng: np.random.Generator) -> Frames:
    """Brightness and noise that change from frame to frame."""
    light_T = rng.uniform(0.55, 1.45, len(frames_THW3))
    noise = rng.normal(0, 12, frames_THW3.shape)
    return np.clip(frames_THW3 * light_T[:, None, None, None] + noise, 0, 255).astype(np.uint8)


#: name -> what it makes of a clip's frames and a generator, for harms that need nothing else. A ``cut`` needs a second
#: clip (``cut_to``), a ``wrong caption`` another clip's caption.
HARMS: Final[Mapping[str, Callable[[Frames, np.random.Generator], Frames]]] = MappingProxyType(
    {
        "shuffled": shuffled,
        "reversed": reversed_in_time,
        "frozen": frozen,
        "jerky": jerky,
        "flickering": flickering,
    }
)


def cut_to(frames_THW3: Frames, other_THW3: Frames, rng: np.random.Generator) -> Frames:
    """A clip that goes over into another one without warning, somewhere in its middle third."""
    frames = len(frames_THW3)
    at = int(rng.integers(frames // 3, frames - frames // 3 + 1))
    return np.concatenate([frames_THW3[:at], other_THW3[at:]])
