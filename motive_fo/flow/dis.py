"""OpenCV's DIS optical flow (Kroeger et al., ECCV 2016) as a flow estimator: no weights, fast on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from motive_fo.errors import ClipError
from motive_fo.flow.base import Displacement, Reading

_SMALLEST = 16  # DIS refuses frames with a side below this


class DISFlow:
    """Dense displacement between neighbouring frames, in the ``step`` reading.

    The step of frame t is the flow from frame t *back* to frame t-1, negated: it lies where the point is in frame t, so no
    splatting is needed. Frame 0 takes the forward flow to frame 1. DIS says nothing of visibility.
    """

    readings: frozenset[Reading] = frozenset({"step"})

    def identity(self) -> Mapping[str, Any]:
        return {"estimator": "dis", "version": 1, "preset": "medium"}

    def estimate(self, frames_THW3: npt.NDArray[np.uint8], reading: Reading) -> Displacement:
        """See ``FlowEstimator``. Raises ``ClipError`` (``flow_failed``) where OpenCV refuses the frames."""
        if reading not in self.readings:
            raise ClipError("flow", "flow_failed", f"dis gives the step reading only, not {reading}")
        height, width = frames_THW3.shape[1:3]
        # frames below the smallest size are padded by their border, and the flow is cut back
        pad = (max(0, _SMALLEST - height), max(0, _SMALLEST - width))
        grey = [
            cv2.copyMakeBorder(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), 0, pad[0], 0, pad[1], cv2.BORDER_REPLICATE)
            for frame in frames_THW3
        ]
        flow = np.empty((len(grey), height, width, 2), np.float32)
        try:
            flow[0] = _flow(grey[0], grey[1])[:height, :width]
            for t in range(1, len(grey)):
                flow[t] = -_flow(grey[t], grey[t - 1])[:height, :width]
        except cv2.error as error:
            raise ClipError("flow", "flow_failed", f"OpenCV's DIS refused the frames: {error.err}") from error
        return Displacement(flow_THW2=flow, visibility_THW=None, reading="step")


def _flow(source: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    # a fresh estimator for every pair: nothing of one clip can reach another
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(estimator.calc(source, target, None), np.float32)
