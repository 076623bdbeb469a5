"""The protocol every motion estimator fits: dense displacement per frame, in pixels.

Two readings of "displacement of frame t":

* ``step``: how far the point that is at a pixel *of frame t* moved since frame t-1. Frame 0 takes the step 0 -> 1,
  otherwise its motion would always be zero. (``Choice:`` the reading of MOTIVE section 2.1, consecutive frames.)
* ``anchor``: how far the point at a pixel *of frame 0* has moved by frame t, on frame 0's grid. ``Paper: Eq. 12`` read
  literally, a point tracker's native output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

Reading = Literal["step", "anchor"]


@dataclass(frozen=True)
class Displacement:
    """Dense displacement of every frame of a clip.

    Attributes:
        flow_THW2: float32, channel 0 = x (right), 1 = y (down), in pixels of the clip.
        visibility_THW: float32 in [0, 1], how far the displacement can be trusted (visibility times confidence), or
            None where the estimator does not say.
        reading: how ``flow_THW2`` is to be read.
        spans_T: float32, ``step``: frames of the clip's rate that lie between frame t-1 and frame t, where these are
            not one everywhere: the point at p of frame t was at p - span * flow in frame t-1. 0 for a frame shown
            again. None: one everywhere.
    """

    flow_THW2: npt.NDArray[np.float32]
    visibility_THW: npt.NDArray[np.float32] | None
    reading: Reading
    spans_T: npt.NDArray[np.float32] | None = None

    def span(self, t: int) -> float:
        """Frames of the clip's rate between frame t-1 and frame t."""
        return 1.0 if self.spans_T is None else float(self.spans_T[t])


class FlowEstimator(Protocol):
    """Estimates motion between the frames of one clip: the same numbers for the same frames in any process."""

    @property
    def readings(self) -> frozenset[Reading]:
        """The readings this estimator can give."""
        ...

    def identity(self, reading: Reading) -> Mapping[str, Any]:
        """Name, version, settings and weight hash: whatever changes the numbers of a reading. Part of the store's."""
        ...

    def estimate(self, frames_THW3: npt.NDArray[np.uint8], reading: Reading) -> Displacement:
        """Displacement of T >= 2 uint8 RGB frames."""
        ...
