"""Influence: the cosine of projected gradients. ``Paper: Eq. 17``; as stored, or changed by ``preconditioner``.

Shapes: Q queries, N training clips, S samples (timestep and noise), D numbers in a sketch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from motive_fo.attribution.gradients import MASKED, UNMASKED
from motive_fo.config import Combine, MaskSide
from motive_fo.influence.selection import doubled_ranks, mean_percentile

#: mask side -> (index of the query's sketch, index of the training clip's sketch)
SIDES: Final[dict[MaskSide, tuple[int, int]]] = {
    "both": (MASKED, MASKED),
    "query": (MASKED, UNMASKED),
    "train": (UNMASKED, MASKED),
    "none": (UNMASKED, UNMASKED),
}

#: cosines that spread less than this are all alike: what is left is rounding to float32.
_ALIKE: Final = 1e-7
#: sketches that are made float64 and multiplied at once, in bytes: what a core's cache holds.
_TILE: Final = 1 << 20


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
    """Influence of every training clip on every query, from all samples together. With one sample all ways are
    that sample's cosine, but ``mean-rank`` and ``mean-zscore``, which order the clips as it does.

    - ``mean-cosine``: the mean of the samples' cosines, each sample with the same weight. ``Paper: Eq. 6``.
    - ``concat``: the cosine of all sketches laid end to end, sum_s <q_s, n_s> / sqrt(sum_s |q_s|^2 sum_s |n_s|^2).
      ``Choice:`` a sample weighs by the size of its gradients, as it does in training; the others' noise counts less.
    - ``mean-sketch``: the cosine of the mean sketches. ``Choice:`` since projection is linear, this is the cosine of
      the gradients of the loss averaged over timesteps and noises: what is left of single draws averages out before it
      is compared.
    - ``mean-rank``: the mean over samples of the clip's percentile rank among the clips, as a share in [0, 1].
      ``Choice:`` blind to the spread of each sample's cosines. A clip's score depends on which
      other clips are scored; clips without a score are not counted.
    - ``mean-zscore``: the mean over samples of the cosine less its mean over the clips, in standard deviations of them.
      ``Choice:`` a sample whose cosines all lie close together (high noise) says as much as one whose cosines spread,
      and unlike a rank it keeps distances. It depends on which clips are scored, as ``mean-rank`` does.

    Returns:
        float32 (Q, N); NaN where a sketch is missing in any sample.
    """
    if combine in RELATIVE:
        return RELATIVE[combine](sample_cosines(query_QSD, train_NSD))
    return Scorer(query_QSD, combine).scores(train_NSD)


class Scorer:
    """Influence of any number of training clips on the same queries, block by block: ``cosine_scores`` for the ways to
    combine that look at each clip by itself. What it needs of the queries is computed once.

    Summed in float64, so that a clip's score does not depend on the block it comes in.

    Args:
        query_QSD: sketches of the queries.
        combine: ``mean-cosine``, ``concat`` or ``mean-sketch``.
    """

    def __init__(self, query_QSD: npt.NDArray[np.floating], combine: Combine = "mean-cosine") -> None:
        if combine in RELATIVE:
            raise ValueError(f"{combine} compares clips with each other: it needs all of them at once")
        self._flat = _FLAT.get(combine)
        query_QSK = query_QSD if self._flat is None else self._flat(query_QSD)[:, None]
        self._query_SQK = np.ascontiguousarray(unit(query_QSK).swapaxes(0, 1))

    def scores(self, train_BSD: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """float32 (Q, B) for B training clips; NaN where a sketch is missing in any sample."""
        return self._scores(train_BSD, None)

    def scores_without(
        self, train_BSD: npt.NDArray[np.floating]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """``scores``, and what they are without each sample in turn: float32 (Q, B) and (S, Q, B), of two samples or
        more and ``mean-cosine``, whose sum over samples tells both."""
        if self._flat is not None:
            raise ValueError("sketches that are one vector are scored anew without a sample")
        samples, queries, _ = self._query_SQK.shape
        without_SQB = np.empty((samples, queries, len(train_BSD)), np.float32)
        return self._scores(train_BSD, without_SQB), without_SQB

    def _scores(
        self, train_BSD: npt.NDArray[np.floating], without_SQB: npt.NDArray[np.float32] | None
    ) -> npt.NDArray[np.float32]:
        samples, queries, numbers = self._query_SQK.shape
        scores_QB = np.empty((queries, len(train_BSD)), np.float32)
        rows = max(1, min(len(train_BSD), _TILE // (8 * numbers)))
        # once: fresh memory costs as much
        wide_TK, cosine_SQT = np.empty((rows, numbers)), np.empty((samples, queries, rows))
        for first in range(0, len(train_BSD), rows):
            tile_TSD = train_BSD[first : first + rows]
            tile_TSK = tile_TSD if self._flat is None else self._flat(tile_TSD)[:, None]
            columns = slice(first, first + len(tile_TSK))
            wide, each_SQT = wide_TK[: len(tile_TSK)], cosine_SQT[:, :, : len(tile_TSK)]
            for s, (query_QK, cosines) in enumerate(zip(self._query_SQK, each_SQT, strict=True)):
                np.copyto(wide, tile_TSK[:, s])
                length_T = np.sqrt(np.vecdot(wide, wide))
                length_T[~(length_T > 0)] = np.nan
                np.matmul(query_QK, wide.T, out=cosines)  # the lengths are divided by last: T numbers, not T x K
                cosines /= length_T
            total_QT = reduce(np.add, each_SQT)  # one after another, whatever the shape
            scores_QB[:, columns] = total_QT / samples
            if without_SQB is not None:
                np.divide(total_QT - each_SQT, samples - 1, out=without_SQB[:, :, columns], casting="same_kind")
        return scores_QB


def mean_ranks(scores_SQN: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Mean over samples of each clip's percentile rank for each query, as a share: float32 (Q, N) in [0, 1], NaN for a
    clip that lacks a score."""
    known = np.isfinite(scores_SQN).all((0, 1))
    ranks = np.full(scores_SQN.shape[1:], np.nan, np.float32)
    total_QK = np.asarray(sum(doubled_ranks(scores_QN[:, known]) for scores_QN in scores_SQN))
    ranks[:, known] = mean_percentile(total_QK, len(scores_SQN)) / 100
    return ranks


def mean_zscores(scores_SQN: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Mean over samples of each clip's score less the query's mean, in standard deviations over the clips: float32
    (Q, N), NaN for a clip that lacks a score. A sample in which all clips score alike adds 0."""
    known = np.isfinite(scores_SQN).all((0, 1))
    zscores = np.full(scores_SQN.shape[1:], np.nan, np.float32)
    if known.any():
        away_SQK = scores_SQN[:, :, known].astype(np.float64)
        away_SQK -= away_SQK.mean(2, keepdims=True)
        spread_SQ1 = away_SQK.std(2, keepdims=True)
        alike = spread_SQ1 <= _ALIKE
        zscores[:, known] = np.where(alike, 0, away_SQK / np.where(alike, 1, spread_SQ1)).mean(0)
    return zscores


#: combinations that compare a clip with the others: they need the cosines of all clips at once.
RELATIVE: Final[dict[str, Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]]] = {
    "mean-rank": mean_ranks,
    "mean-zscore": mean_zscores,
}


def _end_to_end(sketch_XSD: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    return sketch_XSD.astype(np.float64).reshape(len(sketch_XSD), -1)


def _mean_sketch(sketch_XSD: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    return np.asarray(sketch_XSD.astype(np.float64).mean(1))


#: combinations that make one vector of a clip's samples.
_FLAT: Final[dict[str, Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]]] = {
    "concat": _end_to_end,
    "mean-sketch": _mean_sketch,
}


def unit(sketch: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Directions of sketches (..., D), of length 1 in float64; NaN where one is zero or missing."""
    wide = sketch.astype(np.float64)
    length = np.linalg.norm(wide, axis=-1, keepdims=True)
    return np.asarray(np.divide(wide, length, out=np.full_like(wide, np.nan), where=length > 0))
