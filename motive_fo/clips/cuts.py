"""Where one shot ends and the next begins: a clip with a cut in it has motion that nothing in the scene made.

A cut changes what is seen at once and for good. Three things look like one and are not: fast motion (pictures differ,
but each part is found again nearby), a flash or an object close to the lens (the picture before comes back), and slowly
changing light (the structure stays). So the difference of two pictures is how much of one is *not found nearby* in the
other, times how much their colours differ, and a cut must separate the pictures before it from several after it.

Measured on synthetic clips not used for tuning (``tests/clips/test_cuts.py``: 17 frames at 16 fps, 100 with one cut, 52
without, half of those at twice the speed): precision 1.00 (97 of 97), recall 0.97. What is missed looks alike.

Not found: fades and dissolves (no two neighbouring pictures differ), a cut between shots of the same place from nearly
the same position, a shot of fewer than three frames. Taken for a cut: light that is switched on or off (by half or
more), motion of more than a sixth of the picture per frame. At the first and last frames of a clip there are fewer
pictures to compare, so a flash there may count.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

#: Pictures are compared at this size: small enough that noise and compression do not count.
_SIDE = 32
#: How far a part may move between two frames, in pixels of that size: a sixth of the picture.
_REACH = 5
_BLOCK = 4
_BINS = 8
#: What is fainter (sum over the channels, of 255 each) is taken as noise.
_LEAST_CONTRAST = 6.0
#: Pictures before and after a cut that must all differ.
_BEFORE, _AFTER = 3, 3
#: A cut differs at least by ``_FLOOR``, and by ``_RATIO`` times what is usual among the ``_AROUND`` frames either side.
_FLOOR = 0.14
_RATIO = 2.5
_AROUND = 8


def find_cuts(frames_THW3: npt.NDArray[np.uint8]) -> list[int]:
    """Indices of the frames with which a new shot begins (never 0), ascending.

    Args:
        frames_THW3: uint8 RGB, of any size and frame rate; 12 frames per second or more, or motion looks like cuts.
    """
    count = len(frames_THW3)
    pictures = [_Picture(frame_HW3) for frame_HW3 in frames_THW3]
    if all(pictures[t - 1].colour_difference(pictures[t]) <= _FLOOR**2 for t in range(1, count)):
        return []  # colours alone keep every difference below the floor, and cost a fraction of the search
    known: dict[tuple[int, int], float] = {}

    def difference(a: int, b: int) -> float:
        if (a, b) not in known:
            known[a, b] = pictures[a].difference(pictures[b])
        return known[a, b]

    steps_T = np.array([0.0] + [difference(t - 1, t) for t in range(1, count)])
    cuts: list[int] = []
    for t in range(1, count):
        around = np.delete(steps_T, [0, t])[max(0, t - 1 - _AROUND) : t - 1 + _AROUND]
        usual = float(np.median(around)) if len(around) else 0.0
        threshold = max(_FLOOR, _RATIO * usual)
        if steps_T[t] <= threshold:
            continue
        befores, afters = range(max(0, t - _BEFORE), t), range(t, min(count, t + _AFTER))
        if all(difference(a, b) > threshold for a in befores for b in afters):
            cuts.append(t)
    return cuts


class _Picture:
    """A frame made small, and its colours."""

    def __init__(self, frame_HW3: npt.NDArray[np.uint8]) -> None:
        small = cv2.resize(frame_HW3, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        shape_hw3 = cv2.GaussianBlur(small, (3, 3), 0).astype(np.float32)
        shape_hw3 -= shape_hw3.mean(axis=(0, 1))
        # without brightness and contrast, so that a change of exposure leaves it as it is
        self.shape_hw3 = shape_hw3 / max(float(np.abs(shape_hw3).sum(axis=2).mean()), _LEAST_CONTRAST)
        joint = cv2.calcHist([small], [0, 1, 2], None, [_BINS] * 3, [0, 256] * 3)
        # neighbouring bins share: a change of exposure moves every colour a little
        for axis in range(3):
            joint = sum(w * np.roll(joint, k, axis) for k, w in ((-1, 0.25), (0, 0.5), (1, 0.25)))
        self.colours = joint / joint.sum()

    def difference(self, other: _Picture) -> float:
        """0 (one is the other moved about) to 1 (nothing of one is in the other)."""
        return float(np.sqrt(self.colour_difference(other) * self._not_found_in(other)))

    def colour_difference(self, other: _Picture) -> float:
        """0 (the same colours) to 1 (no colour in common), wherever they are."""
        return 0.5 * float(np.abs(self.colours - other.colours).sum())

    def _not_found_in(self, other: _Picture) -> float:
        """How badly the blocks match what is near their place, as a share of the picture's contrast."""
        blocks = _SIDE // _BLOCK
        edge = ((_REACH, _REACH), (_REACH, _REACH), (0, 0))
        there = np.pad(other.shape_hw3, edge, mode="edge")
        best = np.full((blocks, blocks), np.inf, np.float32)
        for y in range(2 * _REACH + 1):
            for x in range(2 * _REACH + 1):
                off = np.abs(self.shape_hw3 - there[y : y + _SIDE, x : x + _SIDE]).sum(axis=2)
                np.minimum(best, off.reshape(blocks, _BLOCK, blocks, _BLOCK).mean(axis=(1, 3)), out=best)
        return float(best.clip(0, 1).mean())
