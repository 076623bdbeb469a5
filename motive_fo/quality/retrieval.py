"""Does a score put the clips of a query's kind first? Retrieval figures with their value by chance and their maximum.

Clips with equal scores are in random order: every figure is its expected value over the orders of ties (McSherry and
Najork 2008), so that a score that says nothing has exactly the value of chance.

Shapes: Q queries, N clips of the gallery.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt

_DEPTH: Final = 20
"""Places that any figure but the reciprocal rank looks at."""


@dataclass(frozen=True)
class Retrieval:
    """Figures of one query or, as arrays, of several.

    Attributes:
        precision_5, precision_10, precision_20: share of the first k that are relevant, 0 to 1.
        recall_20: share of the relevant clips among the first 20.
        reciprocal_rank: 1 / place of the first relevant clip; its mean over queries is the MRR.
        ndcg_20: discounted gain of the first 20 against the best order's, relevance 0 or 1, discount log2(place + 1).
        gap: mean score of the relevant clips minus that of the others, in standard deviations of the query's scores:
            ``Choice:`` raw scores of different methods do not compare. 0 where all scores are equal.
    """

    precision_5: npt.NDArray[np.float64]
    precision_10: npt.NDArray[np.float64]
    precision_20: npt.NDArray[np.float64]
    recall_20: npt.NDArray[np.float64]
    reciprocal_rank: npt.NDArray[np.float64]
    ndcg_20: npt.NDArray[np.float64]
    gap: npt.NDArray[np.float64]

    @classmethod
    def names(cls) -> list[str]:
        """The figures."""
        return [each.name for each in fields(cls)]

    def of(self, name: str) -> npt.NDArray[np.float64]:
        """One figure: (Q,)."""
        return np.asarray(getattr(self, name))


def retrieval(scores_QN: npt.NDArray[np.floating], relevant_QN: npt.NDArray[np.bool_]) -> Retrieval:
    """Figures of every query, (Q,) each.

    Args:
        scores_QN: higher is better; NaN is below all numbers, all NaN alike.
        relevant_QN: which clips are of the query's kind; each query needs one that is and one that is not.

    Raises:
        ValueError: shapes differ, or a query has no relevant clip or no other.
    """
    _require(relevant_QN, scores_QN.shape)
    return _stacked([_query(s, r) for s, r in zip(scores_QN, relevant_QN, strict=True)])


def chance(relevant_QN: npt.NDArray[np.bool_]) -> Retrieval:
    """Expected value of every figure under a random order, exactly: (Q,) each."""
    return retrieval(np.zeros(relevant_QN.shape), relevant_QN)


def attainable(relevant_QN: npt.NDArray[np.bool_]) -> Retrieval:
    """The largest value of every figure, that of a perfect score: (Q,) each. With fewer than 20 relevant clips
    ``precision_20`` cannot be 1, with more ``recall_20`` cannot."""
    return retrieval(relevant_QN.astype(np.float64), relevant_QN)


def _require(relevant_QN: npt.NDArray[np.bool_], shape: tuple[int, ...]) -> None:
    if relevant_QN.shape != shape or relevant_QN.ndim != 2:
        raise ValueError(f"scores {shape} and relevance {relevant_QN.shape} must both be (queries, clips)")
    count_Q = relevant_QN.sum(1)
    bad = np.flatnonzero((count_Q == 0) | (count_Q == shape[1]))
    if len(bad):
        raise ValueError(f"query {bad[0]} has {count_Q[bad[0]]} relevant clips of {shape[1]}: it needs some and others")


def _stacked(each: list[list[float]]) -> Retrieval:
    return Retrieval(*np.asarray(each, np.float64).reshape(len(each), -1).T)


def _query(given_N: npt.NDArray[np.floating], relevant_N: npt.NDArray[np.bool_]) -> list[float]:
    score_N = np.where(np.isnan(given_N), -np.inf, given_N.astype(np.float64))
    clips, relevant = len(score_N), int(relevant_N.sum())
    share_N = np.zeros(clips)  # chance that the clip at a place is relevant
    reciprocal, unseen = 0.0, True
    for first, size, hits in _ties(score_N, relevant_N):
        share_N[first : first + size] = hits / size
        if hits and unseen:
            reciprocal, unseen = _first_hit(first, size, hits), False
        if first + size >= _DEPTH and not unseen:
            break
    discount_N = 1 / np.log2(np.arange(clips) + 2)
    gain = float(share_N[:20] @ discount_N[:20]) / float(discount_N[: min(relevant, 20)].sum())
    found = [float(share_N[:k].sum()) for k in (5, 10, 20)]
    return [
        found[0] / 5,
        found[1] / 10,
        found[2] / 20,
        found[2] / relevant,
        reciprocal,
        gain,
        _gap(score_N, relevant_N),
    ]


def _ties(score_N: npt.NDArray[np.float64], relevant_N: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int, int]]:
    """Groups of equal scores, best first: clips before the group, clips in it, relevant ones of those."""
    _, group_N, size_V = np.unique(score_N, return_inverse=True, return_counts=True)
    hits_V = np.bincount(group_N, relevant_N, len(size_V))
    before = 0
    for size, hits in zip(size_V[::-1].tolist(), hits_V[::-1].tolist(), strict=True):
        yield before, size, int(hits)
        before += size


def _first_hit(before: int, size: int, hits: int) -> float:
    """Expected 1 / place of the first of ``hits`` relevant clips in a random order of ``size`` clips after ``before``.

    The first one is at place j of the group if none before was one: place by place, as binomial coefficients of a large
    gallery are numbers of thousands of digits.
    """
    expected, none_yet = 0.0, 1.0
    for j in range(1, size - hits + 2):
        here = none_yet * hits / (size - j + 1)
        expected += here / (before + j)
        none_yet -= here
        if none_yet < 1e-15:
            break
    return expected


def _gap(score_N: npt.NDArray[np.float64], relevant_N: npt.NDArray[np.bool_]) -> float:
    known_N = np.isfinite(score_N)
    hit_K, score_K = relevant_N[known_N], score_N[known_N]
    if not hit_K.any() or hit_K.all():
        return 0.0
    spread = float(score_K.std())
    return float(score_K[hit_K].mean() - score_K[~hit_K].mean()) / spread if spread > 0 else 0.0
