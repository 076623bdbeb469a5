"""Displacement in the film's own time, whatever frames of the film a clip happens to show.

A clip of 16 frames per second out of a film of 24 shows frames 0, 1, 3, 4, 6, ...: between two of them one or two
frames of the film have passed, and the displacement between them goes up and down though nothing in the film does. Here
every step is the motion of one frame of the clip: displacement times the clip's interval over the time that passed.

Shapes: T frames of the clip, D different ones, H W pixels, 2 = x (right) then y (down).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from motive_fo.clips.clip import Clip
from motive_fo.flow.base import Displacement, FlowEstimator, Reading
from motive_fo.flow.chain import pixel_grid, sample

Timing = Literal["film", "frames"]

#: rounds of ``_from_before``; each shrinks the error by the flow's change over a pixel, which is far below 1.
_ROUNDS: Final = 3


def clip_displacement(
    estimator: FlowEstimator, clip: Clip, reading: Reading, fps: float, timing: Timing = "film"
) -> Displacement:
    """Motion of a clip's T frames, in pixels per frame of the clip.

    ``film``: a frame shown twice is handed to the estimator once. Between two frames of the film motion is even
    (``Choice:`` nothing is known of what lies between), so the steps of a clip add up to the film's displacement:

    * ``step``: the displacement since the frame before, times the clip's interval over the time between the two. A
      frame that stays on screen has the motion to the next one, on its own pixels; at the clip's end, where the next is
      not known, the one before goes on.
    * ``anchor``: the displacement from frame 0 at the instant the frame stands for, k intervals after frame 0.

    Frames that repeat the last one because the film is over do not move. Where a looped film starts again, the jump
    back counts as one interval; ``anchor`` takes looped frames as they are shown.

    ``frames``: the displacement between the frames as they are shown.

    Args:
        fps: frames per second of the clip.

    Raises:
        ClipError: the estimator refuses the frames.
    """
    if timing == "frames":
        return estimator.estimate(clip.frames_THW3, reading)
    new_T = np.concatenate(([True], np.diff(clip.times_T) != 0))
    if new_T.sum() < 2:
        return _still(clip, reading)
    frames_DHW3 = clip.frames_THW3 if new_T.all() else clip.frames_THW3[new_T]
    found = estimator.estimate(frames_DHW3, reading)
    between_D = np.diff(clip.times_T[new_T]) * fps
    between_D = between_D.round(6)  # what floating point adds to a film of the clip's own rate
    elapsed_D = np.concatenate((between_D[:1], between_D)).astype(np.float32)
    shown_T = np.cumsum(new_T) - 1
    moves_T = np.arange(len(new_T)) < len(new_T) - clip.past_end
    if reading == "anchor":
        return _at_instants(found, elapsed_D, shown_T, moves_T)
    return _per_interval(found, elapsed_D, new_T, shown_T, moves_T)


def _per_interval(
    found: Displacement,
    elapsed_D: npt.NDArray[np.float32],
    new_T: npt.NDArray[np.bool_],
    shown_T: npt.NDArray[np.int64],
    moves_T: npt.NDArray[np.bool_],
) -> Displacement:
    spans_D = np.where(elapsed_D > 0, elapsed_D, 1).astype(np.float32)
    even = bool((spans_D == 1).all())
    speed_DHW2 = found.flow_THW2 if even else found.flow_THW2 / spans_D[:, None, None, None]
    if new_T.all():
        return found if even else replace(found, flow_THW2=speed_DHW2, spans_T=spans_D)
    flow_THW2 = speed_DHW2[shown_T]
    for t in np.flatnonzero(~new_T):
        following = shown_T[t] + 1
        if not moves_T[t]:
            flow_THW2[t] = 0
        elif not new_T[t - 1]:
            flow_THW2[t] = flow_THW2[t - 1]
        # the step of frame 0 is the one to the next already
        elif 1 < following < len(elapsed_D) and elapsed_D[following] > 0:
            flow_THW2[t] = _from_before(found.flow_THW2[following]) / spans_D[following]
    spans_T = np.where(new_T, spans_D[shown_T], 0).astype(np.float32)
    return Displacement(flow_THW2, _shown(found.visibility_THW, shown_T), found.reading, spans_T)


def _at_instants(
    found: Displacement,
    elapsed_D: npt.NDArray[np.float32],
    shown_T: npt.NDArray[np.int64],
    moves_T: npt.NDArray[np.bool_],
) -> Displacement:
    """Displacement from frame 0 read between the known ones; after the last one its motion goes on."""
    flow_DHW2, visibility_THW = found.flow_THW2, _shown(found.visibility_THW, shown_T)
    if (elapsed_D <= 0).any():
        return replace(found, flow_THW2=flow_DHW2[shown_T], visibility_THW=visibility_THW)
    known_D = np.concatenate(([0.0], np.cumsum(elapsed_D[1:], dtype=np.float64))).round(5)
    wanted_T = np.minimum(np.arange(len(shown_T)), moves_T.sum() - 1)
    if np.array_equal(known_D, wanted_T):
        return found
    before_T = np.clip(np.searchsorted(known_D, wanted_T, side="right") - 1, 0, len(known_D) - 2)
    share_T = (wanted_T - known_D[before_T]) / (known_D[before_T + 1] - known_D[before_T])
    share_T111 = share_T.astype(np.float32)[:, None, None, None]
    flow_THW2 = flow_DHW2[before_T] * (1 - share_T111) + flow_DHW2[before_T + 1] * share_T111
    return replace(found, flow_THW2=flow_THW2, visibility_THW=visibility_THW)


def _from_before(flow_HW2: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A later frame's displacement (H, W, 2) on the pixels of the frame before: f(p) = flow(p + f(p))."""
    grid_HW2 = pixel_grid(*flow_HW2.shape[:2])
    moved_HW2 = flow_HW2
    for _ in range(_ROUNDS):
        moved_HW2 = sample(flow_HW2, grid_HW2 + moved_HW2)
    return moved_HW2


def _still(clip: Clip, reading: Reading) -> Displacement:
    """A clip that shows one frame of its film and no other."""
    frames, height, width = clip.frames_THW3.shape[:3]
    return Displacement(np.zeros((frames, height, width, 2), np.float32), None, reading)


def _shown(
    visibility_DHW: npt.NDArray[np.float32] | None, shown_T: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32] | None:
    return None if visibility_DHW is None else visibility_DHW[shown_T]
