"""OpenCV's DIS optical flow (Kroeger et al., ECCV 2016) as a flow estimator: no weights, fast on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from motive_fo.flow import outline
from motive_fo.flow.chain import Between, Flow, PairwiseFlow

_SMALLEST = 16  # DIS refuses frames with a side below this


class DISFlow(PairwiseFlow):
    """Dense displacement by DIS, in both readings (``PairwiseFlow`` says how they are made).

    ``Choice:`` the medium preset, which matches 8x8 patches at half resolution, loses small objects in small frames:
    below 256 pixels on the short side patches are matched at full resolution, below 128 on frames enlarged twofold. On
    the synthetic scenes at 64x64 that divides the mean endpoint error by 2 to 3.

    ``Choice:`` the ``step`` reading is held against the frames (``outline.sharpen``), which takes much of the halo
    round objects and nearly all motion of sensor noise away, for two fifths more time at 64x64 (docs/motion.md).
    """

    name: ClassVar[str] = "dis"

    def settings(self) -> Mapping[str, Any]:
        return {"preset": "medium"}

    def correct(self, step_THW2: Flow, frames_THW3: npt.NDArray[np.uint8]) -> Flow:
        return outline.sharpen(step_THW2, frames_THW3)

    def correction(self) -> Mapping[str, Any]:
        return {"outline": outline.VERSION}

    def open(self, frames_THW3: npt.NDArray[np.uint8]) -> Between:
        height, width = frames_THW3.shape[1:3]
        enlarge = 2 if min(height, width) < 128 else 1
        finest = 0 if min(height, width) < 256 else 1
        grey = [_prepare(frame, enlarge) for frame in frames_THW3]

        def between(source: int, target: int) -> Flow:
            found = _flow(grey[source], grey[target], finest)[: height * enlarge, : width * enlarge]
            return np.asarray(cv2.resize(found, (width, height), interpolation=cv2.INTER_AREA) / enlarge, np.float32)

        return between


def _prepare(frame_HW3: npt.NDArray[np.uint8], enlarge: int) -> npt.NDArray[np.uint8]:
    """Grey, enlarged, and padded by its border to the size DIS asks for at least."""
    grey = cv2.cvtColor(frame_HW3, cv2.COLOR_RGB2GRAY)
    if enlarge > 1:
        grey = cv2.resize(grey, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_LINEAR)
    below, right = (max(0, _SMALLEST - side) for side in grey.shape)
    return np.asarray(cv2.copyMakeBorder(grey, 0, below, 0, right, cv2.BORDER_REPLICATE), np.uint8)


def _flow(source: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8], finest_scale: int) -> Flow:
    # a fresh estimator for every pair: nothing of one clip can reach another
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    estimator.setFinestScale(finest_scale)
    return np.asarray(estimator.calc(source, target, None), np.float32)
