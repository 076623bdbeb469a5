"""Influence: the cosine of projected gradients. ``Paper: Eq. 17``; as stored, or changed by ``preconditioner``.

Shapes: Q queries, N training clips, S samples (timestep and noise), D numbers in a sketch.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from motive_fo.attribution.gradients import MASKED, UNMASKED
from motive_fo.config import Combine, MaskSide
from motive_fo.influence.selection import percentile_ranks

#: mask side -> (index of the query's sketch, index of the training clip's sketch)
SIDES: Final[dict[MaskSide, tuple[int, int]]] = {
    "both": (MASKED, MASKED),
    "query": (MASKED, UNMASKED),
    "train": (UNMASKED, MASKED),
    "none": (UNMASKED, UNMASKED),
}


def sample_cosines(query_QSD: npt.NDArray[np.floating], train_NSD: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Cosine of every training clip with every query, for each sample by itself.

    Summed in float64, so that a clip's score does not depend on which other clips it is scored with.

    Returns:
        float64 (S, Q, N); NaN where a sketch is missing (a static clip has no masked one).
    """
    query, train = unit(query_QSD), unit(train_NSD)
    return np.stack([query[:, s] @ train[:, s].T for s in range(query.shape[1])])


def cosine_scores(
    query_QSD: npt.NDArray[np.floating], train_NSD: npt.NDArray[np.floating], combine: Combine = "mean-cosine"
) -> npt.NDArray[np.float32]:
    """Influence of every training clip on every query, from all samples together. With one sample all ways but
    ``mean-rank`` are that sample's cosine, and ``mean-rank`` orders the clips as it does.

    - ``mean-cosine``: the mean of the samples' cosines, each sample with the same weight. ``Paper: Eq. 6``.
    - ``concat``: the cosine of all sketches laid end to end, sum_s <q_s, n_s> / sqrt(sum_s |q_s|^2 sum_s |n_s|^2).
      ``Choice:`` a sample weighs by the size of its gradients, as it does in training; the others' noise counts less.
    - ``mean-sketch``: the cosine of the mean sketches. ``Choice:`` since projection is linear, this is the cosine of
      the gradients of the loss averaged over timesteps and noises: what is left of single draws averages out before it
      is compared.
    - ``mean-rank``: the mean over samples of the clip's percentile rank among the clips, as a share in [0, 1].
      ``Choice:`` blind to the spread of each sample's cosines. The only one for which a clip's score depends on which
      other clips are scored; clips without a score are not counted.

    Returns:
        float32 (Q, N); NaN where a sketch is missing in any sample.
    """
    if combine == "concat":
        return _flat_cosines(_end_to_end(query_QSD), _end_to_end(train_NSD))
    if combine == "mean-sketch":
        return _flat_cosines(query_QSD.astype(np.float64).mean(1), train_NSD.astype(np.float64).mean(1))
    cosines_SQN = sample_cosines(query_QSD, train_NSD)
    if combine == "mean-rank":
        return mean_ranks(cosines_SQN)
    return np.asarray(cosines_SQN.mean(0), np.float32)


def mean_ranks(scores_SQN: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Mean over samples of each clip's percentile rank for each query, as a share: float32 (Q, N) in [0, 1], NaN for a
    clip that lacks a score."""
    known = np.isfinite(scores_SQN).all((0, 1))
    ranks = np.full(scores_SQN.shape[1:], np.nan, np.float32)
    ranks[:, known] = np.mean([percentile_ranks(scores_QN[:, known]) for scores_QN in scores_SQN], axis=0) / 100
    return ranks


def _flat_cosines(query_QK: npt.NDArray[np.float64], train_NK: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return np.asarray(unit(query_QK) @ unit(train_NK).T, np.float32)


def _end_to_end(sketch_XSD: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    return sketch_XSD.astype(np.float64).reshape(len(sketch_XSD), -1)


def unit(sketch: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Directions of sketches (..., D), of length 1 in float64; NaN where one is zero or missing."""
    wide = sketch.astype(np.float64)
    length = np.linalg.norm(wide, axis=-1, keepdims=True)
    return np.asarray(np.divide(wide, length, out=np.full_like(wide, np.nan), where=length > 0))
