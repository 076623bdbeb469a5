"""From scores to an order in which nothing is left to chance: percentile ranks and votes.

Ranks and scores are added as integers: a sum of floating-point numbers depends on the order of the queries, and would
decide ties by it.

Only clips that have a score for every query take part; the others are never voted for and never counted.

Queries are followed or avoided. A query to avoid, such as a bad generation, counts with the opposite sign: what helps
it most is voted against. ``Choice:`` throughout, the paper has no such queries.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Order = Literal["votes", "mean", "max"]
Result = TypeVar("Result")

#: from so many clips on, threads save more than they cost.
_MANY: Final = 1 << 16


def budget_count(share: float, clips: int) -> int:
    """ceil(share * clips) of the share as it is written: in floating point 0.1 * 30 is more than 3."""
    return min(clips, math.ceil(Fraction(repr(float(share))) * clips))


class Rows(Protocol):
    """Scores by query, (Q, N): an array, or what is read from a store one row (N,) at a time."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, query: int, /) -> Any: ...


def scored_clips(scores_QN: Rows) -> npt.NDArray[np.bool_]:
    """Which clips have a score for every query; none where there is no query."""
    return _scored_and_peak(scores_QN)[0]


def mean_ranks(scores_QN: Rows, queries: Iterable[int]) -> npt.NDArray[np.float64]:
    """Mean percentile rank of each clip over some of the queries: (N,), NaN where it has no score for every one of
    them, or where there is no query."""
    used = list(queries)
    scored = np.full(scores_QN.shape[1], bool(used))
    for query in used:
        scored &= np.isfinite(scores_QN[query])
    ranks = np.full(len(scored), np.nan)
    if scored.any():
        each = by_query(scores_QN, lambda scores_N: doubled_ranks(scores_N[scored][None])[0], used)
        ranks[scored] = mean_percentile(np.asarray(sum(each)), len(used))
    return ranks


def votes_of(scores_N: npt.NDArray[np.float32], share: float) -> npt.NDArray[np.bool_]:
    """Which clips one query votes for: those whose score reaches its threshold, the (100 - p) percentile of its scores.

    ``Choice:`` by nearest rank, so that without ties it votes for exactly ceil(p N) clips.

    Args:
        scores_N: finite.
        share: p as a share of the clips, 0 to 1.
    """
    if not len(scores_N):
        return np.zeros(0, np.bool_)
    count = budget_count(share, len(scores_N))
    return np.asarray(scores_N >= np.partition(scores_N, len(scores_N) - count)[len(scores_N) - count])


def best_clips(scores_N: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
    """Places of the ``count`` clips with the highest scores, the best first; ties in the clips' order, unknown never.

    Exact, and faster than sorting: only what reaches the last place that is asked for is sorted.
    """
    finite_N = np.isfinite(scores_N)
    known = int(np.count_nonzero(finite_N))
    count = min(count, known)
    if not count:
        return np.zeros(0, np.int64)
    if known < len(scores_N):
        scores_N = np.where(finite_N, scores_N, -np.inf)
    last = len(scores_N) - count
    reach_K = np.flatnonzero(scores_N >= np.partition(scores_N, last)[last])
    return np.asarray(reach_K[np.argsort(-scores_N[reach_K], kind="stable")[:count]])


def percentile_ranks(scores_QN: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Rank of each clip among the N clips of its query: 0 the lowest score, 100 the highest, ties share their mean
    rank. A query that has a NaN has no ranks.

    ``Choice:`` raw cosines are not comparable between queries, ranks are. One clip alone has rank 100.
    """
    return np.asarray(_ranks(scores_QN) * (100.0 / _most(scores_QN.shape[1])))


def doubled_ranks(scores_QN: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """Twice the rank of each clip among the N clips of its query, which are whole numbers whatever shares a rank: 0 the
    lowest score, 2 (N - 1) the highest. One clip alone has 2. Scores are finite."""
    return (2 * _ranks(scores_QN)).astype(np.int64)


def mean_percentile(sum_N: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.float64]:
    """The mean of ``percentile_ranks`` from the sum of ``count`` times ``doubled_ranks``, (N,) or (..., N): equal sums,
    and only these, are equal means."""
    return np.asarray(sum_N * (50.0 / _most(sum_N.shape[-1])) / count)


def _most(clips: int) -> int:
    """The highest rank of so many clips, counted from 0; one clip alone is the highest."""
    return max(1, clips - 1)


def _ranks(scores_QN: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Ranks from 0 to ``_most``, ties share their mean rank."""
    queries, clips = scores_QN.shape
    if clips == 1:
        return np.ones((queries, 1))
    if not clips or not queries:
        return np.empty((queries, clips))
    from scipy.stats import rankdata  # which takes longer to import than most commands to run

    return np.asarray(rankdata(scores_QN, axis=1) - 1)


def majority_votes(scores_QN: Rows, share: float) -> npt.NDArray[np.int64]:
    """How many queries vote for each clip, see ``votes_of``. ``Paper: Eq. 18``.

    Args:
        share: p as a share of the clips, 0 to 1.
    """
    votes = np.zeros(scores_QN.shape[1], np.int64)
    for votes_N in by_query(scores_QN, lambda scores_N: votes_of(scores_N, share)):
        votes += votes_N
    return votes


def by_query(
    scores_QN: Rows, of_row: Callable[[npt.NDArray[np.float32]], Result], queries: Sequence[int] | None = None
) -> Iterator[Result]:
    """What a function makes of each query's scores (of some queries'), in order: on all cores, with one row for each in
    memory."""
    used = range(len(scores_QN)) if queries is None else queries
    workers = len(os.sched_getaffinity(0)) if scores_QN.shape[1] >= _MANY else 1
    with ThreadPoolExecutor(workers) as pool:
        for first in range(0, len(used), workers):
            yield from pool.map(lambda query: of_row(scores_QN[query]), used[first : first + workers])


@dataclass(frozen=True)
class Ranking:
    """The scored clips of a run, under some of its queries.

    Attributes:
        ids: clip ids, in the order they were given.
        votes: queries to follow that vote for each clip, minus queries to avoid that do.
        harm: queries that are harmed: those to follow among whose worst clips it is, and those to avoid among whose
            best it is.
        rank: mean percentile rank over the queries, 0 to 100; 100 minus the rank for a query to avoid.
        best: highest percentile rank with any query to follow, minus the highest with any to avoid.
        influence: mean score over the queries; its negative for a query to avoid.
        by_votes: ids, most votes first; ties by mean percentile rank, then mean influence, then id.
        by_mean: ids, highest mean percentile rank first; ties by mean influence, then id.
        by_max: ids, highest ``best`` first; ties as ``by_mean``.
        queries: number of queries.
    """

    ids: list[str]
    votes: npt.NDArray[np.int64]
    harm: npt.NDArray[np.int64]
    rank: npt.NDArray[np.float64]
    best: npt.NDArray[np.float64]
    influence: npt.NDArray[np.float64]
    by_votes: list[str]
    by_mean: list[str]
    by_max: list[str]
    queries: int

    def order(self, by: Order) -> list[str]:
        """All ids, the best first."""
        return {"votes": self.by_votes, "mean": self.by_mean, "max": self.by_max}[by]

    def majority(self) -> list[str]:
        """Clips that more than half of the queries vote for, most votes first."""
        votes = dict(zip(self.ids, self.votes, strict=True))
        return [clip_id for clip_id in self.by_votes if 2 * votes[clip_id] > self.queries]

    def bottom(self, share: float) -> list[str]:
        """The last ceil(share * N) clips by mean percentile rank, the worst first."""
        return self.by_mean[::-1][: budget_count(share, len(self.by_mean))]

    def harmful(self, queries: int | None) -> list[str]:
        """Clips that harm at least so many queries (more than half where open), the worst first."""
        harm = dict(zip(self.ids, self.harm, strict=True))
        least = self.queries // 2 + 1 if queries is None else queries
        worst = sorted(range(len(self.by_mean)), key=lambda place: (-harm[self.by_mean[place]], -place))
        return [clip_id for place in worst if harm[clip_id := self.by_mean[place]] >= least]


def rank_clips(
    scores_QN: Rows,
    ids: Sequence[str],
    vote_share: float,
    avoid_Q: npt.NDArray[np.bool_] | None = None,
) -> Ranking:
    """Votes, ranks and orders of the clips that have a score. The same input always gives the same lists, in whatever
    order its queries come.

    Exact, one query at a time: beyond ``scores_QN`` it takes memory for N clips, not for Q x N.

    Args:
        vote_share: share of the clips each query votes for, 0 to 1.
        avoid_Q: which queries are to be avoided; none where open.
    """
    scored, peak = _scored_and_peak(scores_QN)
    kept = [ids[n] for n in np.flatnonzero(scored).tolist()]
    avoid = np.zeros(len(scores_QN), np.bool_) if avoid_Q is None else avoid_Q
    votes, harm, ranks, followed, avoided, scores = np.zeros((6, len(kept)), np.int64)
    # by this power of two scores become whole numbers, finer than they are, whose sum just fits into 64 bits
    exponent = 61 - math.frexp(peak)[1] - len(scores_QN).bit_length()
    for query in range(len(scores_QN)):
        scores_K = np.asarray(scores_QN[query])[scored]
        (ranks_K,) = doubled_ranks(scores_K[None])
        votes_K = votes_of(scores_K, vote_share)
        whole_K = np.rint(np.ldexp(scores_K.astype(np.float64), exponent)).astype(np.int64)
        if avoid[query]:
            votes -= votes_K
            harm += votes_K
            ranks += 2 * _most(len(kept)) - ranks_K
            scores -= whole_K
            np.maximum(avoided, ranks_K, out=avoided)
        else:
            votes += votes_K
            harm += votes_of(-scores_K, vote_share)
            ranks += ranks_K
            scores += whole_K
            np.maximum(followed, ranks_K, out=followed)
    rank = mean_percentile(ranks, max(1, len(scores_QN)))
    influence = np.ldexp(scores.astype(np.float64), -exponent) / max(1, len(scores_QN))
    best = mean_percentile(followed - avoided, 1)
    mean = _ordered(rank, influence, kept)
    by_votes = mean[np.argsort(-votes[mean], kind="stable")]  # a stable sort keeps the order of ties
    by_max = mean[np.argsort(-best[mean], kind="stable")]
    return Ranking(
        ids=kept,
        votes=votes,
        harm=harm,
        rank=rank,
        best=best,
        influence=influence,
        by_votes=[kept[n] for n in by_votes.tolist()],
        by_mean=[kept[n] for n in mean.tolist()],
        by_max=[kept[n] for n in by_max.tolist()],
        queries=len(scores_QN),
    )


def _scored_and_peak(scores_QN: Rows) -> tuple[npt.NDArray[np.bool_], float]:
    """Which clips have a score for every query, and the size of the largest score."""
    scored, peak = np.full(scores_QN.shape[1], len(scores_QN) > 0), 0.0
    for query in range(len(scores_QN)):
        row_N = np.asarray(scores_QN[query])
        finite_N = np.isfinite(row_N)
        scored &= finite_N
        peak = max(peak, float(np.abs(row_N).max(initial=0, where=finite_N)))
    return scored, peak


def _ordered(
    rank_K: npt.NDArray[np.float64], influence_K: npt.NDArray[np.float64], ids: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Places by highest rank; ties by highest influence, then id."""
    order_K = np.lexsort((-influence_K, -rank_K))
    alike_K = (np.diff(rank_K[order_K]) == 0) & (np.diff(influence_K[order_K]) == 0)
    starts = np.flatnonzero(alike_K & ~np.concatenate(([False], alike_K[:-1])))
    ends = np.flatnonzero(alike_K & ~np.concatenate((alike_K[1:], [False]))) + 2
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):  # only ties need the texts
        order_K[start:end] = sorted(order_K[start:end].tolist(), key=ids.__getitem__)
    return np.asarray(order_K)
