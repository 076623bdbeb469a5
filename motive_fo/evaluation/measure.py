"""Motion of one clip in numbers that compare across sizes and frame rates.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from motive_fo.evaluation.interpolation import motion_smoothness
from motive_fo.flow.base import FlowEstimator
from motive_fo.motion.dynamic import dynamic_degree, smoothness

#: what is measured -> what it says, in one line.
METRICS: Final[dict[str, str]] = {
    "dynamic": "share of clips that are dynamic by VBench's rule",
    "dynamic_score": "the number behind it: strong motion over VBench's threshold, above 1 is dynamic",
    "speed": "mean motion of all pixels, in percent of the short side per second",
    "motion_smoothness": "how well dropped frames are interpolated from their neighbours, 1 is perfect (VBench's rule)",
    "steadiness": "1 minus mean acceleration over mean speed along the motion; only where something moves",
}
#: pixels that move by less, in pixels per frame, do not count for steadiness.
_FLOOR_PX: Final = 0.05


@dataclass(frozen=True)
class ClipMotion:
    """What was measured of a clip; see ``METRICS``. None where the clip cannot say."""

    dynamic: bool
    dynamic_score: float
    speed: float
    motion_smoothness: float | None
    steadiness: float | None


def measure_clip(frames_THW3: npt.NDArray[np.uint8], fps: float, estimator: FlowEstimator) -> ClipMotion:
    """Measure T >= 2 uint8 RGB frames at ``fps`` frames per second.

    Raises:
        ClipError: the estimator refuses the frames.
    """
    displacement = estimator.estimate(frames_THW3, "step")
    degree = dynamic_degree(displacement, fps)
    flow = displacement.flow_THW2[1:]
    per_frame = float(np.hypot(flow[..., 0], flow[..., 1]).mean(dtype=np.float64))
    return ClipMotion(
        dynamic=degree.dynamic,
        dynamic_score=degree.score,
        speed=100 * per_frame * fps / min(frames_THW3.shape[1:3]),
        motion_smoothness=motion_smoothness(frames_THW3, estimator),
        steadiness=smoothness(displacement, _FLOOR_PX),
    )
