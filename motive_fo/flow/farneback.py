"""OpenCV's Farneback optical flow (Farneback, SCIA 2003) as a flow estimator: no weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from motive_fo.flow import outline
from motive_fo.flow.chain import Between, Flow, PairwiseFlow

_BORDER = 16  # pixels
_LEVELS = 4
_PYRAMID_SCALE = 0.5
_WINDOW = 21
_ITERATIONS = 3
_POLY_N = 5
_POLY_SIGMA = 1.1


class FarnebackFlow(PairwiseFlow):
    """Dense displacement by polynomial expansion, in both readings (``PairwiseFlow`` says how they are made).

    ``Choice:`` a Gaussian window of 21 pixels, 5-pixel polynomials, 4 levels, 3 iterations: the best compromise of the
    64x64 and 256x256 synthetic scenes (docs/motion.md). Narrower windows fail on flat areas, wider ones blur small
    objects, 10 iterations take 2.6 times as long and gain nothing. Frames are not enlarged.

    ``Choice:`` frames are matched with a border of 16 repeated pixels. Without it OpenCV sees motion of 0.4 pixels at
    the edge of two equal frames, which would make a still clip a moving one.

    ``Choice:`` the ``step`` reading is held against the frames (``outline.sharpen``): on synthetic scenes that halves
    the endpoint error and doubles the overlap of what moves with what does (docs/motion.md).
    """

    name: ClassVar[str] = "farneback"

    def settings(self) -> Mapping[str, Any]:
        return {
            "levels": _LEVELS,
            "pyramid_scale": _PYRAMID_SCALE,
            "window": _WINDOW,
            "iterations": _ITERATIONS,
            "poly_n": _POLY_N,
            "poly_sigma": _POLY_SIGMA,
            "weights": "gaussian",
            "border": _BORDER,
        }

    def correct(self, step_THW2: Flow, frames_THW3: npt.NDArray[np.uint8]) -> Flow:
        return outline.sharpen(step_THW2, frames_THW3)

    def correction(self) -> Mapping[str, Any]:
        return {"outline": outline.VERSION}

    def open(self, frames_THW3: npt.NDArray[np.uint8]) -> Between:
        height, width = frames_THW3.shape[1:3]
        grey = [_prepare(frame) for frame in frames_THW3]

        def between(source: int, target: int) -> Flow:
            found = cv2.calcOpticalFlowFarneback(
                grey[source],
                grey[target],
                None,
                _PYRAMID_SCALE,
                _LEVELS,
                _WINDOW,
                _ITERATIONS,
                _POLY_N,
                _POLY_SIGMA,
                cv2.OPTFLOW_FARNEBACK_GAUSSIAN,
            )
            return np.asarray(found[_BORDER : _BORDER + height, _BORDER : _BORDER + width], np.float32)

        return between


def _prepare(frame_HW3: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Grey, with its border repeated."""
    grey = cv2.cvtColor(frame_HW3, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.copyMakeBorder(grey, *(_BORDER,) * 4, cv2.BORDER_REPLICATE), np.uint8)
