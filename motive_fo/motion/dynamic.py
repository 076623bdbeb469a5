"""How much, how widely and how smoothly a clip moves, from its ``step`` displacement.

Frame 0 of ``step`` repeats the step 0 -> 1 on frame 0's grid: nothing here counts it.

Shapes: T frames, H W pixels, S sampled pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from motive_fo.flow.base import Displacement
from motive_fo.flow.chain import inside, pixel_grid, sample

_SAMPLED_FPS = 8
_TOP = 0.05


@dataclass(frozen=True)
class DynamicDegree:
    """VBench's dynamic degree of one clip, and the numbers behind its yes or no.

    Attributes:
        pair_scores_S: float32, per pair of sampled frames the mean of the strongest 5 % of magnitudes, in pixels.
        threshold: pixels a pair has to exceed: 6 * min(H, W) / 256.
        needed: how many pairs have to.
        score: the ``needed``-th largest pair score divided by the threshold: above 1 means dynamic.
        dynamic: whether the clip is.
    """

    pair_scores_S: npt.NDArray[np.float32]
    threshold: float
    needed: int
    score: float

    @property
    def dynamic(self) -> bool:
        return self.score > 1


def dynamic_degree(displacement: Displacement, fps: float) -> DynamicDegree:
    """VBench's rule (``dynamic_degree``) over any estimator's steps.

    VBench takes every k-th frame, k = max(1, round(fps / 8)), n of them, and asks RAFT for the flow of neighbours; a
    clip is dynamic if at least round(4 n / 16) pairs score above the threshold.

    ``Choice:`` the motion over k frames is composed of the k steps between: D(p) = d_t(p) + d_(t-1)(p - d_t(p)) + ...,
    read bilinearly, so that there and back within k frames counts as VBench counts it; outside the frame the border's
    step goes on. It lies on the later frame's grid, RAFT's on the earlier's. ``Choice:`` at least one pair is needed
    (VBench's own count is zero for n < 3 and calls every such clip dynamic).

    Args:
        displacement: T >= 2 frames in the ``step`` reading.
        fps: frames per second of those frames.

    Raises:
        ValueError: another reading, fewer than 2 frames, or fps not above 0.
    """
    _check(displacement)
    if not fps > 0:
        raise ValueError(f"frames per second must be above 0, not {fps}")
    frames, height, width = displacement.flow_THW2.shape[:3]
    every = min(max(1, round(fps / _SAMPLED_FPS)), frames - 1)
    later = range(every, frames, every)
    strongest = max(1, int(height * width * _TOP))
    scores_S = np.empty(len(later), np.float32)
    for s, t in enumerate(later):
        moved_HW2 = _since(displacement, t, every)
        magnitude_N = np.hypot(moved_HW2[..., 0], moved_HW2[..., 1]).ravel()
        top = np.partition(magnitude_N, magnitude_N.size - strongest)[-strongest:]
        scores_S[s] = top.mean(dtype=np.float64)
    threshold = 6.0 * min(height, width) / 256
    needed = max(1, round(4 * (len(later) + 1) / 16))
    return DynamicDegree(scores_S, threshold, needed, float(np.sort(scores_S)[-needed]) / threshold)


def moving_share(displacement: Displacement, floor: float) -> float:
    """Share of pixels that move by more than ``floor`` pixels per frame, mean over frames 1 .. T-1; 0 to 1."""
    _check(displacement)
    flow = displacement.flow_THW2[1:]
    return float(np.mean(np.hypot(flow[..., 0], flow[..., 1]) > floor))


def smoothness(displacement: Displacement, floor: float) -> float | None:
    """1 - mean acceleration / mean speed along the motion, limited to [0, 1]; None where nothing can be said.

    For frame t >= 2 and pixel p: speed = |d_t(p)|, acceleration = |d_t(p) - d_(t-1)(p - d_t(p))|, both in pixels per
    frame: how much the step of the same point changed since the frame before (which lies ``spans_T`` times d_t away
    where the film's frames are uneven). Both means are over the pixels with speed above ``floor`` (pixels per frame)
    whose previous position lies in the frame, all frames together. 1: every point keeps its velocity. 0: the change is
    as large as the motion (back and forth, jitter, noise). None: fewer than 3 frames, or nothing
    above the floor. ``Choice:`` a ratio of means, so that the noise of slow pixels does not dominate.
    """
    _check(displacement)
    flow_THW2 = displacement.flow_THW2
    grid_HW2 = pixel_grid(*flow_THW2.shape[1:3])
    change = speed = 0.0
    for t in range(2, len(flow_THW2)):
        before_HW2 = grid_HW2 - displacement.span(t) * flow_THW2[t]
        speed_HW = np.hypot(flow_THW2[t, ..., 0], flow_THW2[t, ..., 1])
        changed_HW2 = flow_THW2[t] - sample(flow_THW2[t - 1], before_HW2)
        counted_HW = (speed_HW > floor) & inside(before_HW2)
        speed += float(speed_HW[counted_HW].sum(dtype=np.float64))
        change += float(np.hypot(changed_HW2[..., 0], changed_HW2[..., 1])[counted_HW].sum(dtype=np.float64))
    return float(np.clip(1 - change / speed, 0, 1)) if speed > 0 else None


def _since(displacement: Displacement, t: int, frames: int) -> npt.NDArray[np.float32]:
    """Displacement (H, W, 2) of the points of frame t over the last ``frames`` frames."""
    flow_THW2 = displacement.flow_THW2
    grid_HW2 = pixel_grid(*flow_THW2.shape[1:3])
    moved_HW2: npt.NDArray[np.float32] = flow_THW2[t].copy()
    from_here_HW2 = displacement.span(t) * moved_HW2  # how far back its points are in the pictures
    for earlier in range(t - 1, t - frames, -1):
        step_HW2 = sample(flow_THW2[earlier], grid_HW2 - from_here_HW2)
        moved_HW2 += step_HW2
        from_here_HW2 += displacement.span(earlier) * step_HW2
    return moved_HW2


def _check(displacement: Displacement) -> None:
    if displacement.reading != "step":
        raise ValueError(f"this statistic is defined on the step reading, not on {displacement.reading}")
    if len(displacement.flow_THW2) < 2:
        raise ValueError("this statistic needs 2 or more frames")
