"""Histograms of oriented optical flow: which way a clip moves, in a few numbers, and which clips move alike.

Shapes: T frames, H W pixels, B bins, N clips, Q queries.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from motive_fo.flow.base import Displacement


def hoof(displacement: Displacement, bins: int = 16, *, floor: float = 0.0) -> npt.NDArray[np.float32]:
    """The share of a clip's motion in every direction: float32 (B,), sum 1; zeros for a static clip.

    Bin b holds the directions within half a bin of 2 pi b / B, from x (right) towards y (down): bin 0 is to the right,
    bin B/4 down. ``Choice:`` bins are centred on the axes, or a horizontal pan would fall on the edge of two; motion is
    weighted by its magnitude, summed over pixels, averaged over frame pairs and then normalised, so that frames count
    by how much moves in them. Flow scaled by a constant leaves the descriptor (with a floor of 0). Frame 0 is left out:
    ``step`` repeats the step 0 -> 1 there, ``anchor`` is zero there.

    Args:
        displacement: T >= 2 frames of either reading.
        bins: B, 1 or more.
        floor: slower pixels are left out, in pixels.
    """
    if bins < 1:
        raise ValueError(f"a descriptor needs 1 or more bins, not {bins}")
    if len(displacement.flow_THW2) < 2:
        raise ValueError("a descriptor needs 2 or more frames")
    sum_B = np.zeros(bins)
    for flow_HW2 in displacement.flow_THW2[1:]:
        x, y = flow_HW2[..., 0].ravel().astype(np.float64), flow_HW2[..., 1].ravel().astype(np.float64)
        length = np.hypot(x, y)
        bin_N = np.rint(np.arctan2(y, x) * bins / (2 * np.pi)).astype(np.int64) % bins
        sum_B += np.bincount(bin_N, weights=np.where(length > floor, length, 0), minlength=bins)
    total = float(sum_B.sum())
    return (sum_B / total if total > 0 else sum_B).astype(np.float32)


def similarity(queries_QB: npt.NDArray[np.float32], clips_NB: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Cosine of every query's descriptor with every clip's: float64 (Q, N) in [0, 1], NaN where either is static."""
    return unit(queries_QB) @ unit(clips_NB).T


def unit(descriptors_MB: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Descriptors of length 1: float64 (M, B), NaN for those of clips in which nothing moves."""
    wide = descriptors_MB.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    units: npt.NDArray[np.float64] = np.divide(wide, norms, out=np.full_like(wide, np.nan), where=norms > 0)
    return units
