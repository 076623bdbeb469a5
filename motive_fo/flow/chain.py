"""From flow between two frames to the displacement of a clip: what OpenCV's estimators share.

Shapes: T frames, H W pixels, 2 = x (right) then y (down).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt

from motive_fo.errors import ClipError
from motive_fo.flow.base import Displacement, Reading

Anchor = Literal["chain", "direct"]

Flow = npt.NDArray[np.float32]
#: flow (H, W, 2) from one frame of a clip to another, both by number.
Between = Callable[[int, int], Flow]

#: forward-backward error that costs no visibility: squared pixels, and a share of the squared lengths.
_SLACK_PX2 = 0.5
_SLACK_SHARE = 0.01


class PairwiseFlow(ABC):
    """An estimator that knows how to match two frames and nothing of clips.

    ``step`` of frame t is the flow from frame t *back* to frame t-1, negated: it lies where the point is in frame t,
    so no splatting is needed. Frame 0 takes the forward flow to frame 1. An estimator may ``correct`` the whole clip's
    steps against its frames. No visibility is given.

    ``anchor`` of frame 0 is zero. For later frames, one of two ways (both ``Choice:``, docs/motion.md measures them):

    * ``chain``: the point at a pixel of frame 0 is followed. At its position p in frame t the flow t -> t+1 is read
      bilinearly and added. Neighbouring frames resemble each other, so every match is an easy one; errors add up, and a
      point that was hidden follows what hid it.
    * ``direct``: the flow 0 -> t, anew for every t. Nothing adds up, but distant frames are hard to match.

    Visibility is ``consistency`` of the forward and the backward flow at the point, 0 where the point lies outside the
    frame. In ``chain`` it is multiplied along the way: what was lost once stays lost.

    Args:
        anchor: how the ``anchor`` reading is made.
    """

    #: name and version of the numbers this class gives.
    name: ClassVar[str]
    version: ClassVar[int] = 1
    readings: frozenset[Reading] = frozenset({"step", "anchor"})

    def __init__(self, anchor: Anchor = "chain") -> None:
        if anchor not in ("chain", "direct"):
            raise ValueError(f"unknown anchor mode {anchor!r}: use chain or direct")
        self.anchor: Anchor = anchor

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """What else changes the numbers."""

    @abstractmethod
    def open(self, frames_THW3: npt.NDArray[np.uint8]) -> Between:
        """Prepare a clip; the function returned may raise ``cv2.error``."""

    def correct(self, step_THW2: Flow, frames_THW3: npt.NDArray[np.uint8]) -> Flow:
        """The clip's steps (T, H, W, 2) as they are handed on; as they were matched, unless an estimator knows more."""
        return step_THW2

    def correction(self) -> Mapping[str, Any]:
        """What ``correct`` adds to the identity of the ``step`` reading."""
        return {}

    def identity(self, reading: Reading = "step") -> Mapping[str, Any]:
        """See ``FlowEstimator``. The anchor mode is part of it where the anchor reading is asked for."""
        more = {"anchor": self.anchor} if reading == "anchor" else self.correction()
        return {"estimator": self.name, "version": self.version, **self.settings(), **more}

    def estimate(self, frames_THW3: npt.NDArray[np.uint8], reading: Reading) -> Displacement:
        """See ``FlowEstimator``. Raises ``ClipError`` (``flow_failed``) where OpenCV refuses the frames."""
        try:
            between = self.open(frames_THW3)
            frames, height, width = frames_THW3.shape[:3]
            if reading == "step":
                flow_THW2 = np.empty((frames, height, width, 2), np.float32)
                for t in range(frames):
                    flow_THW2[t] = between(0, 1) if t == 0 else -between(t, t - 1)
                return Displacement(self.correct(flow_THW2, frames_THW3), visibility_THW=None, reading="step")
            follow = chain if self.anchor == "chain" else direct
            return follow(between, frames, height, width)
        except cv2.error as error:
            raise ClipError("flow", "flow_failed", f"OpenCV's {self.name} refused the frames: {error.err}") from error


def chain(between: Between, frames: int, height: int, width: int) -> Displacement:
    """The ``anchor`` reading by following every pixel of frame 0 from frame to frame.

    p_0 = pixel; p_(t+1) = p_t + F_t(p_t), F_t the flow t -> t+1; displacement of frame t = p_t - p_0. Visibility of
    frame t = product over s < t of ``consistency`` of F_s at p_s with the backward flow at p_(s+1), 0 from the first
    frame on in which the point is outside. Outside, the border's flow carries the point on.
    """
    grid_HW2 = pixel_grid(height, width)
    flow_THW2 = np.zeros((frames, height, width, 2), np.float32)
    visibility_THW = np.ones((frames, height, width), np.float32)
    for t in range(frames - 1):
        here_HW2 = grid_HW2 + flow_THW2[t]
        forward_HW2 = sample(between(t, t + 1), here_HW2)
        flow_THW2[t + 1] = flow_THW2[t] + forward_HW2
        there_HW2 = grid_HW2 + flow_THW2[t + 1]
        kept_HW = consistency(forward_HW2, sample(between(t + 1, t), there_HW2)) * inside(there_HW2)
        visibility_THW[t + 1] = visibility_THW[t] * kept_HW
    return Displacement(flow_THW2=flow_THW2, visibility_THW=visibility_THW, reading="anchor")


def direct(between: Between, frames: int, height: int, width: int) -> Displacement:
    """The ``anchor`` reading by matching frame 0 with every frame; visibility from the flow back to frame 0."""
    grid_HW2 = pixel_grid(height, width)
    flow_THW2 = np.zeros((frames, height, width, 2), np.float32)
    visibility_THW = np.ones((frames, height, width), np.float32)
    for t in range(1, frames):
        flow_THW2[t] = between(0, t)
        there_HW2 = grid_HW2 + flow_THW2[t]
        visibility_THW[t] = consistency(flow_THW2[t], sample(between(t, 0), there_HW2)) * inside(there_HW2)
    return Displacement(flow_THW2=flow_THW2, visibility_THW=visibility_THW, reading="anchor")


def consistency(forward_HW2: Flow, backward_HW2: Flow) -> Flow:
    """How well the way there and the way back of the same point cancel: float32 (H, W) in [0, 1].

    exp(-max(0, |f + b|^2 / (0.01 (|f|^2 + |b|^2) + 0.5) - 1)) with f and b in pixels. The denominator is the bound of
    Sundaram, Brox and Keutzer (ECCV 2010) between consistent and occluded. ``Choice:`` within the bound nothing is
    taken off, so that the small errors of a long chain do not add up to an occlusion; beyond it the value falls
    smoothly: 0.37 at twice the bound, 0.05 at four times.
    """
    error = np.square(forward_HW2 + backward_HW2).sum(-1)
    lengths = np.square(forward_HW2).sum(-1) + np.square(backward_HW2).sum(-1)
    excess = np.maximum(error / (_SLACK_SHARE * lengths + _SLACK_PX2) - 1, 0)
    return np.asarray(np.exp(-excess), np.float32)


def inside(points_HW2: Flow) -> npt.NDArray[np.bool_]:
    """Which points (H, W, 2) lie on the area of the frame's pixels: from -0.5 to W - 0.5, and to H - 0.5."""
    height, width = points_HW2.shape[:2]
    x, y = points_HW2[..., 0], points_HW2[..., 1]
    within: npt.NDArray[np.bool_] = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return within


def pixel_grid(height: int, width: int) -> Flow:
    """The position of every pixel, x then y: float32 (H, W, 2)."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack((columns, rows), axis=-1).astype(np.float32)


def sample(flow_HW2: Flow, points_HW2: Flow) -> Flow:
    """A field (H, W, 2) read bilinearly at points (H, W, 2), to 1/32 pixel; outside the frame the border's value."""
    return np.asarray(
        cv2.remap(flow_HW2, points_HW2, None, interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        np.float32,
    )
