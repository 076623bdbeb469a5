"""The motion of one clip in numbers a person can filter by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class MotionDescription:
    """All in pixels of the clip per frame (in the ``step`` reading).

    Attributes:
        mean: mean magnitude over all frames and pixels.
        p95: 95th percentile of the magnitude over all frames and pixels.
        peak: mean over frames of each frame's strongest percent of pixels; what the static floor is held against.
            ``Choice:`` a small moving object covers a few percent of a frame: mean and p95 would miss it, and the
            single largest pixel is estimator noise.
        curve_T: mean magnitude of each frame.
    """

    mean: float
    p95: float
    peak: float
    curve_T: npt.NDArray[np.float32]

    def is_static(self, floor: float) -> bool:
        """Whether nothing moves by more than ``floor`` pixels per frame."""
        return self.peak < floor


def describe(magnitude_THW: npt.NDArray[np.float32]) -> MotionDescription:
    """Statistics of a clip's magnitude (T, H, W), in pixels per frame."""
    flat_TN = magnitude_THW.reshape(len(magnitude_THW), -1)
    strongest = max(1, flat_TN.shape[1] // 100)
    top = np.partition(flat_TN, flat_TN.shape[1] - strongest, axis=1)[:, -strongest:]
    return MotionDescription(
        mean=float(flat_TN.mean(dtype=np.float64)),
        p95=float(np.percentile(flat_TN, 95)),
        peak=float(top.mean(dtype=np.float64)),
        curve_T=flat_TN.mean(1, dtype=np.float64).astype(np.float32),
    )
