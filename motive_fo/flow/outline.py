"""Motion up to the outline of what moves: estimated steps held against the frames before and after.

Matching patches carries the motion of an object to the background around it, reads motion into sensor noise, and has no
answer for background that was just uncovered. The frames themselves tell most of this apart, pixel by pixel.

Shapes: T frames, H W pixels, h w pixels of the frames as compared (half as many a side for large frames), 2 = x (right)
then y (down).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from motive_fo.flow.base import Displacement
from motive_fo.flow.chain import Flow, pixel_grid
from motive_fo.motion.camera import fit_camera

_Image = npt.NDArray[np.float32]

#: below this short side there is too little to compare, and steps stay as they are.
_SMALLEST: Final = 16
#: from this short side on frames are compared at half their size.
_HALVE_FROM: Final = 256
#: how far a pixel looks for another motion, in pixels as compared, one pass each: the reach of a patch, and half of it.
_REACHES: Final = (4, 2)
#: grey levels (of 1) beyond which two pixels are simply different; and the side of the window they are averaged over.
_DIFFERENT: Final = 0.1
_WINDOW: Final = 3
#: the common motion is taken where it explains a pixel worse than its own by no more than this share of the frame's
#: median difference, which is what noise and resampling alone make.
_WITHIN_NOISE: Final = 0.75
#: the camera stands still if that explains the frame worse by no more than this share.
_STILL: Final = 0.02
#: the share of a frame, the flattest of it, that says nothing of the camera.
_FLAT: Final = 0.25
_MEDIAN: Final = 5

#: of the numbers this module gives: part of the identity of every estimator that uses it.
VERSION: Final = 1


def sharpen(step_THW2: Flow, frames_THW3: npt.NDArray[np.uint8]) -> Flow:
    """Estimated ``step`` displacement, corrected pixel by pixel against the frames before and after.

    Difference of a motion d at pixel p of frame t: the smaller of |I_t(p) - I_(t-1)(p - d)| and
    |I_t(p) - I_(t+1)(p + d)|, each cut off at 0.1 of the grey range and averaged over 3x3 pixels. ``Choice:`` the
    smaller of the two, because what frame t uncovers is not in frame t-1 but in frame t+1, where a steady motion puts
    it.

    In two passes, every pixel takes, of its own motion and that of the pixels 4 (then 2) to its left, right, top and
    bottom, the one of least difference; then the camera's (``fit_camera`` over the textured three quarters of the
    frame), if that is not worse by more than 0.75 of the frame's median difference. ``Choice:`` what the camera
    explains within the noise is not said to move by itself: that ends halos and the motion of noise, and flat ground
    moves with the rest. A still camera is taken for the fitted one where it explains the frame as well; where none is
    found, none is preferred. Last, a median of 5x5.

    Frames of a short side of 256 and more are compared at half their size. docs/motion.md has what each of this gains.

    Args:
        step_THW2: float32, T >= 2 frames in the ``step`` reading.
        frames_THW3: the uint8 RGB frames it was estimated from.

    Returns:
        float32 (T, H, W, 2).
    """
    height, width = frames_THW3.shape[1:3]
    if min(height, width) < _SMALLEST:
        return step_THW2
    shrink = 2 if min(height, width) >= _HALVE_FROM else 1
    grey = [_grey(frame, shrink) for frame in frames_THW3]
    size = grey[0].shape[1], grey[0].shape[0]
    scale = np.array([width / size[0], height / size[1]], np.float32)
    shrunk = [cv2.resize(step, size, interpolation=cv2.INTER_AREA) for step in step_THW2]
    flow_Thw2 = np.asarray(np.stack(shrunk) / scale, np.float32)
    textured_Thw = np.stack([_textured(image) for image in grey])
    for reach in _REACHES:
        camera = fit_camera(Displacement(flow_Thw2, textured_Thw.astype(np.float32), "step"))
        for t in range(len(grey)):
            common_hw2 = camera.flow_THW2[t] if camera.followers_T[t] > 0 else None
            difference = _difference(grey, t)
            flow_Thw2[t] = _best(flow_Thw2[t], common_hw2, textured_Thw[t], reach, difference)
    steps = [cv2.resize(_median(step), (width, height), interpolation=cv2.INTER_LINEAR) for step in flow_Thw2]
    return np.asarray(np.stack(steps) * scale, np.float32)


def _best(
    flow_hw2: Flow,
    common_hw2: Flow | None,
    textured_hw: npt.NDArray[np.bool_],
    reach: int,
    difference: Callable[[Flow], _Image],
) -> Flow:
    """Of a pixel's own motion, its neighbours' and the common one, the one that explains it."""
    best_hw2, least_hw = flow_hw2.copy(), difference(flow_hw2)
    for x, y in ((0, reach), (0, -reach), (reach, 0), (-reach, 0)):
        move = np.array([[1, 0, x], [0, 1, y]], np.float32)
        other_hw2 = cv2.warpAffine(flow_hw2, move, flow_hw2.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
        other_hw = difference(other_hw2)
        better_hw = other_hw < least_hw
        best_hw2[better_hw], least_hw[better_hw] = other_hw2[better_hw], other_hw[better_hw]
    still_hw2 = np.zeros_like(flow_hw2)
    still_hw = difference(still_hw2)
    if common_hw2 is None:
        taken_hw = still_hw <= least_hw
        best_hw2[taken_hw] = 0
        return best_hw2
    common_hw = difference(common_hw2)
    if still_hw[textured_hw].mean() <= common_hw[textured_hw].mean() * (1 + _STILL):
        common_hw2, common_hw = still_hw2, still_hw
    taken_hw = common_hw <= least_hw + _WITHIN_NOISE * float(np.median(least_hw))
    best_hw2[taken_hw] = common_hw2[taken_hw]
    return best_hw2


def _difference(grey: list[_Image], t: int) -> Callable[[Flow], _Image]:
    """How badly a motion explains the pixels of frame t by the frames next to it: a function of the flow (h, w, 2)."""
    grid_hw2 = pixel_grid(*grey[t].shape)
    neighbours = [(grey[s], np.float32(s - t)) for s in (t - 1, t + 1) if 0 <= s < len(grey)]

    def difference(flow_hw2: Flow) -> _Image:
        least_hw: _Image | None = None
        for image, sign in neighbours:
            there_hw2 = grid_hw2 + sign * flow_hw2
            # outside the frame nothing is alike
            seen = cv2.remap(image, there_hw2, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=9)
            apart_hw = cv2.blur(cv2.min(cv2.absdiff(seen, grey[t]), _DIFFERENT), (_WINDOW, _WINDOW))
            least_hw = apart_hw if least_hw is None else cv2.min(least_hw, apart_hw)
        return np.asarray(least_hw, np.float32)

    return difference


def _grey(frame_HW3: npt.NDArray[np.uint8], shrink: int) -> _Image:
    """Grey from 0 to 1, shrunk."""
    grey = cv2.cvtColor(frame_HW3, cv2.COLOR_RGB2GRAY).astype(np.float32) / np.float32(255)
    if shrink > 1:
        size = (grey.shape[1] // shrink, grey.shape[0] // shrink)
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return np.asarray(grey, np.float32)


def _textured(image_hw: _Image) -> npt.NDArray[np.bool_]:
    """All but the flattest part of a frame, by the energy of its gradient over 5x5 pixels."""
    smooth = cv2.GaussianBlur(image_hw, (0, 0), 1.0)
    energy_hw = cv2.blur(cv2.Sobel(smooth, -1, 1, 0) ** 2 + cv2.Sobel(smooth, -1, 0, 1) ** 2, (5, 5))
    textured: npt.NDArray[np.bool_] = energy_hw >= np.quantile(energy_hw, _FLAT)
    return textured


def _median(flow_hw2: Flow) -> Flow:
    return np.stack([cv2.medianBlur(np.ascontiguousarray(flow_hw2[..., c]), _MEDIAN) for c in (0, 1)], axis=-1)
