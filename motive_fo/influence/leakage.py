"""What two motion masks in the same place explain of a score, taken off it.

With a mask on both sides, two clips that move in the same cells share loss terms, and their gradients align whatever
the model has learned: an untrained one gives much the same order. How alike two masks are is known without any
gradient, so that part can be regressed out.

Shapes: Q queries, N training clips, K cells of a mask.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from motive_fo.influence.baselines import cosine

#: overlaps that spread less than this are all alike: what is left is rounding of float32 masks.
_ALIKE: Final = 1e-6


def mask_overlap(query_QK: npt.NDArray[np.floating], train_NK: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Cosine of every query's motion mask with every clip's, end to end: float64 (Q, N) in [0, 1].

    Args:
        query_QK, train_NK: masks in one row each; cells beyond a clip's last frame are NaN and overlap with nothing. A
            clip without a mask has a row of NaN.

    Returns:
        NaN where either has no mask.
    """
    return cosine(np.nan_to_num(query_QK), np.nan_to_num(train_NK))


def without_overlap(
    scores_QN: npt.NDArray[np.floating], overlap_QN: npt.NDArray[np.floating]
) -> npt.NDArray[np.float32]:
    """Scores without what the overlap of masks explains of them: for each query, s - b (o - mean o).

    ``Choice:`` b is the least-squares slope of the query's scores on its overlaps, over the clips that have both: the
    part of a score that a straight line in the overlap predicts goes, the mean score stays. A clip without a mask keeps
    its score, as one of average overlap does. Where all overlaps are equal, or fewer than three clips have one, nothing
    can be told apart and nothing changes. A clip's score then depends on which others are scored with it, and
    self-influence is no longer 1.

    Returns:
        float32 (Q, N); NaN where the score is.
    """
    corrected = scores_QN.astype(np.float64)
    known_QN = np.isfinite(scores_QN) & np.isfinite(overlap_QN)
    for row_N, overlap_N, known_N in zip(corrected, overlap_QN, known_QN, strict=True):
        if known_N.sum() < 3:
            continue
        away_K = overlap_N[known_N] - overlap_N[known_N].mean()
        square = float(away_K @ away_K)
        if square > known_N.sum() * _ALIKE**2:
            row_N[known_N] -= away_K * (float(away_K @ row_N[known_N]) / square)
    return np.asarray(corrected, np.float32)
