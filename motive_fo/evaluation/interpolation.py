"""Motion smoothness as VBench means it: are frames that were left out where their neighbours say they should be?

VBench interpolates by a network (AMT); here the same question is asked with any flow estimator of ours, so that its
numbers compare with each other and not with VBench's own.

Shapes: T frames, K kept frames (every second one), H W pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from motive_fo.flow.base import FlowEstimator
from motive_fo.flow.chain import pixel_grid


def motion_smoothness(frames_THW3: npt.NDArray[np.uint8], estimator: FlowEstimator) -> float | None:
    """(255 - mean absolute difference) / 255 of every second frame from what its neighbours predict; 1 is perfect.

    Frames 1, 3, 5, ... that have a frame after them are dropped and interpolated: from both neighbours half of the way
    is warped and the two pictures are averaged. None for fewer than 3 frames. A clip in which nothing moves scores
    near 1: read it beside the dynamic degree.

    Raises:
        ClipError: the estimator refuses the frames.
    """
    kept_KHW3 = frames_THW3[::2]
    if len(kept_KHW3) < 2:
        return None
    # a step lies on the later frame and points from where its point came: the way back, negated
    to_before = -estimator.estimate(kept_KHW3, "step").flow_THW2[1:]
    to_after = -estimator.estimate(np.ascontiguousarray(kept_KHW3[::-1]), "step").flow_THW2[1:][::-1]
    errors = [
        np.abs(
            _between(kept_KHW3[k], kept_KHW3[k + 1], to_after[k], to_before[k])
            - frames_THW3[2 * k + 1].astype(np.float32)
        ).mean(dtype=np.float64)
        for k in range(len(kept_KHW3) - 1)
    ]
    return float((255 - np.mean(errors)) / 255)


def _between(
    before_HW3: npt.NDArray[np.uint8],
    after_HW3: npt.NDArray[np.uint8],
    forward_HW2: npt.NDArray[np.float32],
    backward_HW2: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """The picture half way between two frames, float32 0..255.

    A point p of the middle is read at p + (backward - forward)/4 in the frame before and at the opposite place in the
    frame after: linear motion, with the flow at p taken from both directions (Super SloMo, Eq. 4 at t = 1/2).
    """
    quarter_HW2 = (backward_HW2 - forward_HW2) / 4
    grid_HW2 = pixel_grid(*before_HW3.shape[:2])
    halves = [
        cv2.remap(
            frame.astype(np.float32),
            grid_HW2 + way,
            None,
            interpolation=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for frame, way in ((before_HW3, quarter_HW2), (after_HW3, -quarter_HW2))
    ]
    return np.asarray((halves[0] + halves[1]) / 2, np.float32)
