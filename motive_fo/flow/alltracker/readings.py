"""Tracks of one frame's pixels -> the two readings of displacement (``flow.base``).

A tracker says where the points of the anchor frame are in every frame. ``anchor`` hands that on. ``step`` asks what the
pixels *of each frame* have just done: each track's last step is carried to where its point is now.

Shapes: T frames, H W pixels, 2 = x (right) then y (down).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from motive_fo.flow.base import Displacement
from motive_fo.flow.chain import Flow, pixel_grid
from motive_fo.motion.camera import fit_camera

#: a pixel on which less weight than this arrives shows something no track follows.
_COVERED: Final = 0.1
#: a step whose beginning was not seen keeps this share of its weight: better than none.
_UNSEEN_BEFORE: Final = 0.1
#: below this visibility a point counts as hidden.
_SEEN: Final = 0.02
#: the camera is believed where this share of the covered points follow it.
_CAMERA: Final = 0.4
#: pixels, standard deviation of the widest neighbourhood that holes are filled from.
_WIDEST: Final = 32.0


@dataclass(frozen=True)
class Tracks:
    """Where every pixel of one frame is in all frames of a clip.

    Attributes:
        flow_THW2: float32, from the pixel of the anchor frame to its place in frame t, in pixels.
        visibility_THW: float32 in [0, 1], visibility times confidence of the point in frame t.
        anchor: number of the anchor frame.
    """

    flow_THW2: Flow
    visibility_THW: npt.NDArray[np.float32]
    anchor: int = 0

    def __post_init__(self) -> None:
        frames = len(self.flow_THW2)
        if self.flow_THW2.shape != (*self.visibility_THW.shape, 2) or frames < 2:
            raise ValueError(
                f"tracks are (T, H, W, 2) with T >= 2 and (T, H, W), not {self.flow_THW2.shape} "
                f"and {self.visibility_THW.shape}"
            )
        if not 0 <= self.anchor < frames:
            raise ValueError(f"the anchor frame {self.anchor} is not one of {frames} frames")


def anchor_reading(tracks: Tracks) -> Displacement:
    """Displacement since the anchor frame, on its grid: what the tracker gives. ``Paper: Eq. 12`` with anchor 0."""
    return Displacement(tracks.flow_THW2, tracks.visibility_THW, "anchor")


def step_reading(tracks: Sequence[Tracks]) -> Displacement:
    """Displacement of every frame's own pixels since the frame before.

    The step f_t - f_(t-1) of a track is laid bilinearly onto the four pixels around its place in frame t, weighted by
    its visibility there and, to a tenth, whether or not it was visible before; a pixel takes the weighted mean of what
    arrives. Frame 0 takes the step 0 -> 1 at the places in frame 0.

    ``Choice:`` what no track shows - background that was uncovered, whatever entered the frame - is filled
    1. from the other anchors given, if any: their tracks are laid down together with the first's;
    2. with the camera's step, where a camera fitted to the covered pixels of that frame is followed by 40 % of them:
       what was hidden is nearly always background, and the neighbours of a hole are as often the object that left it;
    3. else from its covered neighbours, the nearer the more;
    4. in a frame nothing is seen in, from the neighbouring pairs of frames.

    Args:
        tracks: of one clip, from one anchor frame or several.

    Returns:
        ``step``; visibility is that of the tracks which arrive at a pixel, 0 where it was filled.
    """
    if not tracks:
        raise ValueError("a step reading needs tracks from one anchor frame at least")
    if len({one.flow_THW2.shape for one in tracks}) > 1:
        raise ValueError(f"tracks are of different clips: {[one.flow_THW2.shape for one in tracks]}")
    frames, height, width = tracks[0].visibility_THW.shape
    grid_HW2 = pixel_grid(height, width)
    flow_THW2 = np.zeros((frames, height, width, 2), np.float32)
    visibility_THW = np.zeros((frames, height, width), np.float32)
    for t in range(frames):
        before, after = (t - 1, t) if t else (0, 1)
        total_HW4 = np.zeros((height, width, 4))
        for one in tracks:
            seen, other = one.visibility_THW[t], one.visibility_THW[before if t else after]
            weight = np.float32(seen >= _SEEN) * seen * (_UNSEEN_BEFORE + (1 - _UNSEEN_BEFORE) * other)
            step = one.flow_THW2[after] - one.flow_THW2[before]
            total_HW4 += splat(np.dstack((step, seen)), grid_HW2 + one.flow_THW2[t], weight)
        weight = total_HW4[..., 3]
        covered = weight >= _COVERED
        mean = total_HW4[..., :3] / np.maximum(weight, 1e-12)[..., None]
        flow_THW2[t][covered] = mean[covered][:, :2]
        visibility_THW[t][covered] = mean[covered][:, 2]
    return _filled(flow_THW2, visibility_THW)


def splat(
    values_HWc: npt.NDArray[np.float32], places_HW2: Flow, weight_HW: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Values laid bilinearly onto the pixels around their places: (H, W, c + 1), sums of weight x value, and of weight.

    What falls outside the frame, or is not finite, is lost. Sums are in float64 and in the order of the pixels: the
    same in any process.
    """
    height, width = weight_HW.shape
    usable = (weight_HW > 0) & np.isfinite(places_HW2).all(-1) & np.isfinite(values_HWc).all(-1)
    # so far outside that no corner can touch the frame, but within what an integer holds
    x, y = np.clip(places_HW2[usable].astype(np.float64).T, -2, max(height, width) + 1)
    values: npt.NDArray[np.float64] = np.concatenate((values_HWc[usable], np.ones((len(x), 1))), 1)
    carried = values * weight_HW[usable, None]
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    total = np.zeros((height * width, carried.shape[1]))
    for right, below in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column, row = left + right, top + below
        share = np.abs(1 - right - (x - left)) * np.abs(1 - below - (y - top))
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        where = (row * width + column)[inside]
        for channel in range(carried.shape[1]):
            parts = (share * carried[:, channel])[inside]
            total[:, channel] += np.bincount(where, parts, minlength=height * width)
    return total.reshape(height, width, -1)


def _filled(flow_THW2: Flow, visibility_THW: npt.NDArray[np.float32]) -> Displacement:
    """The steps with their holes (visibility 0) filled."""
    covered_THW = visibility_THW > 0
    empty = ~covered_THW.any((1, 2))
    if empty.all():
        return Displacement(flow_THW2, visibility_THW, "step")
    trusted = covered_THW.astype(np.float32)  # a camera is fitted to all that is covered
    camera = fit_camera(Displacement(flow_THW2, trusted, "step"))
    for t in np.flatnonzero(~covered_THW.all((1, 2)) & ~empty):
        hole = ~covered_THW[t]
        by_camera = camera.followers_T[t] >= _CAMERA
        source = camera.flow_THW2[t] if by_camera else _from_neighbours(flow_THW2[t], covered_THW[t])
        flow_THW2[t][hole] = source[hole]
    known = np.flatnonzero(~empty)
    for t in np.flatnonzero(empty):
        flow_THW2[t] = flow_THW2[known[np.abs(known - t).argmin()]]
    return Displacement(flow_THW2, visibility_THW, "step")


def _from_neighbours(flow_HW2: Flow, covered_HW: npt.NDArray[np.bool_]) -> Flow:
    """The mean of covered pixels, of so wide a neighbourhood that there are any; far from all, the nearest one."""
    known = np.where(covered_HW[..., None], flow_HW2, 0).astype(np.float32)
    weight = covered_HW.astype(np.float32)
    filled, missing = known.copy(), ~covered_HW
    sigma = 1.0
    while missing.any() and sigma <= _WIDEST:
        near = cv2.GaussianBlur(weight, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        reached = missing & (near > 1e-3)
        mean = cv2.GaussianBlur(known, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        filled[reached] = mean[reached] / near[reached][:, None]
        missing &= ~reached
        sigma *= 2
    if missing.any():
        # a few pixels weigh next to nothing in so wide a mean
        _, place = cv2.distanceTransformWithLabels(
            (~covered_HW).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
        )
        nearest = np.zeros((place.max() + 1, 2), np.float32)
        nearest[place[covered_HW]] = flow_HW2[covered_HW]
        filled[missing] = nearest[place[missing]]
    return filled
