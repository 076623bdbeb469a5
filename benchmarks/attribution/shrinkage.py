"""A damping that needs no query: how far Ledoit and Wolf (2004) would shrink the second moment towards the identity."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from motive_fo.influence.cosine import unit

#: shrinkage that leaves next to nothing: the damping stays finite.
_MOST: Final = 1 - 1e-6


def ledoit_wolf_damping(sketch_ND: npt.NDArray[np.floating]) -> float:
    """Damping, as a share of the mean eigenvalue, of the optimal linear shrinkage of the directions' second moment.

    With directions u of length 1, M their mean of u u' over N clips and D numbers each, the shrinkage a makes
    (1 - a) M + a I / D the nearest to the true moment in expected squared error: a = (1 - |M|^2) / (N (|M|^2 - 1/D)),
    at most nearly 1. The damping that weighs directions alike is a / (1 - a).
    """
    direction_ND = unit(sketch_ND)
    clips, dimension = direction_ND.shape
    square = float(((direction_ND @ direction_ND.T) ** 2).sum()) / clips**2  # |M|^2 by the smaller of two products
    spread = square - 1 / dimension
    share = min(_MOST, (1 - square) / (clips * spread)) if spread > 0 else _MOST
    return share / (1 - share)
