"""The camera's share of a clip's motion: one global map per frame, fitted robustly, and what it leaves.

Shapes: T frames, H W pixels, 2 = x (right) then y (down).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from motive_fo.flow.base import Displacement
from motive_fo.flow.chain import pixel_grid

Model = Literal["similarity", "affine"]

#: points on the longer side of the grid the map is fitted to.
_POINTS = 48
#: a point follows the map if it lands this close to it: pixels at a short side of 256, and at least ``_LEAST_PX``.
_REACH_PX = 0.75
_LEAST_PX = 0.3
#: a map that fewer points follow is not the camera's.
_FOLLOWERS = 0.4
#: points less visible than this say nothing of the camera.
_VISIBLE = 0.5
_ROUNDS = 2000
_CONFIDENCE = 0.999
_SEED = 20260


@dataclass(frozen=True)
class CameraMotion:
    """What the camera does in a clip, as far as one map per frame can say it.

    Attributes:
        flow_THW2: float32, the camera's displacement at every pixel, in pixels and in the reading it was fitted to.
        followers_T: float32 in [0, 1], the share of the fitted points that follow the map; 0 where nothing fitted.
        share: share of the motion energy the camera explains, 1 - sum |d - c|^2 / sum |d|^2 over all pixels, limited to
            [0, 1]; 0 for a clip without motion. In ``step`` frame 0, which repeats the step of frame 1, is left out;
            where there is a visibility it weighs the pixels.
        residual: d - c, the motion that is not the camera's.
    """

    flow_THW2: npt.NDArray[np.float32]
    followers_T: npt.NDArray[np.float32]
    share: float
    residual: Displacement


def fit_camera(displacement: Displacement, model: Model = "similarity") -> CameraMotion:
    """Fit one map of the plane to every frame's displacement by RANSAC.

    ``step``: the point at p of frame t came from p - d; the map takes p to p - d and the camera's displacement is
    p - map(p), on frame t's grid (frame 0: p to p + d). ``anchor``: the map takes p of frame 0 to p + d.

    ``Choice:`` (MOTIVE mentions a down-weight of camera motion without a formula) points on a regular grid, followers
    within max(0.3, 0.75 * short side / 256) pixels, OpenCV's generator seeded before every fit: the same displacement
    gives the same camera in every process. Without a map that 40 % of the points follow, the camera stands still in
    that frame.

    Args:
        displacement: either reading; points of visibility below 0.5 are not fitted.
        model: ``similarity`` (shift, turn, zoom; 4 numbers) or ``affine`` (6 numbers: shear and uneven zoom too).

    Returns:
        The camera's motion and what it leaves.
    """
    if model not in ("similarity", "affine"):
        raise ValueError(f"unknown camera model {model!r}: use similarity or affine")
    flow_THW2, visibility_THW = displacement.flow_THW2, displacement.visibility_THW
    frames, height, width = flow_THW2.shape[:3]
    grid_HW2 = pixel_grid(height, width).astype(np.float64)
    stride = max(1, -(-max(height, width) // _POINTS))
    offset = stride // 2 if min(height, width) > stride // 2 else 0
    rows_columns = (slice(offset, None, stride), slice(offset, None, stride))
    reach = max(_LEAST_PX, _REACH_PX * min(height, width) / 256)
    camera_THW2 = np.zeros_like(flow_THW2)
    followers_T = np.zeros(frames, np.float32)
    for t in range(frames):
        sign = -1.0 if displacement.reading == "step" and t > 0 else 1.0
        source_N2 = grid_HW2[rows_columns].reshape(-1, 2)
        target_N2 = source_N2 + sign * flow_THW2[t][rows_columns].reshape(-1, 2)
        usable_N = np.isfinite(target_N2).all(1)
        if visibility_THW is not None:
            usable_N &= visibility_THW[t][rows_columns].ravel() >= _VISIBLE
        fitted = _fit(source_N2[usable_N], target_N2[usable_N], model, reach)
        if fitted is None:
            continue
        map_23, followers_T[t] = fitted
        camera_THW2[t] = sign * (grid_HW2 @ map_23[:, :2].T + map_23[:, 2] - grid_HW2)
    residual = replace(displacement, flow_THW2=flow_THW2 - camera_THW2)
    return CameraMotion(camera_THW2, followers_T, _share(displacement, residual), residual)


def remove_camera(displacement: Displacement, model: Model = "similarity") -> Displacement:
    """The displacement less the camera's: what objects do. See ``fit_camera``."""
    return fit_camera(displacement, model).residual


def _fit(
    source_N2: npt.NDArray[np.float64], target_N2: npt.NDArray[np.float64], model: Model, reach: float
) -> tuple[npt.NDArray[np.float64], float] | None:
    """The 2x3 map and the share of points that follow it; None where there is no such map."""
    if len(source_N2) < 4:
        return None
    estimate = cv2.estimateAffinePartial2D if model == "similarity" else cv2.estimateAffine2D
    cv2.setRNGSeed(_SEED)
    map_23, inliers = estimate(
        source_N2,
        target_N2,
        method=cv2.RANSAC,
        ransacReprojThreshold=reach,
        maxIters=_ROUNDS,
        confidence=_CONFIDENCE,
        refineIters=10,
    )
    if map_23 is None or not np.isfinite(map_23).all() or np.linalg.det(map_23[:, :2]) <= 0:
        return None
    share = float(np.count_nonzero(inliers)) / len(source_N2)
    return (map_23, share) if share >= _FOLLOWERS else None


def _share(displacement: Displacement, residual: Displacement) -> float:
    first = 1 if displacement.reading == "step" and len(displacement.flow_THW2) > 1 else 0
    total = left = 0.0
    for t in range(first, len(displacement.flow_THW2)):
        weight = 1.0 if displacement.visibility_THW is None else displacement.visibility_THW[t].astype(np.float64)
        total += float((weight * np.square(displacement.flow_THW2[t], dtype=np.float64).sum(-1)).sum())
        left += float((weight * np.square(residual.flow_THW2[t], dtype=np.float64).sum(-1)).sum())
    return float(np.clip(1 - left / total, 0, 1)) if total > 0 else 0.0
