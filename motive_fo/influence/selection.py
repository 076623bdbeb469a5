"""From scores to an order in which nothing is left to chance: percentile ranks and votes.

Only clips that have a score for every query take part; the others are never voted for and never counted.

Queries are followed or avoided. A query to avoid, such as a bad generation, counts with the opposite sign: what helps
it most is voted against. ``Choice:`` throughout, the paper has no such queries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Order = Literal["votes", "mean", "max"]


def budget_count(share: float, clips: int) -> int:
    """ceil(share * clips), without rounding errors turning 0.1 * 30 into 4."""
    return min(clips, math.ceil(round(share * clips, 9)))


def scored_clips(scores_QN: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which clips have a score for every query; none where there is no query."""
    return np.asarray(np.isfinite(scores_QN).all(0) & (len(scores_QN) > 0))


def percentile_ranks(scores_QN: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Rank of each clip among the N clips of its query: 0 the lowest score, 100 the highest, ties share their mean
    rank.

    ``Choice:`` raw cosines are not comparable between queries, ranks are. One clip alone has rank 100.
    """
    queries, clips = scores_QN.shape
    if clips == 1:
        return np.full((queries, 1), 100.0)
    if not clips or not queries:
        return np.empty((queries, clips))
    from scipy.stats import rankdata  # which takes longer to import than most commands to run

    return np.asarray((rankdata(scores_QN, axis=1) - 1) * (100.0 / (clips - 1)))


def majority_votes(scores_QN: npt.NDArray[np.float32], share: float) -> npt.NDArray[np.int64]:
    """How many queries vote for each clip. ``Paper: Eq. 18``.

    A query votes for every clip whose score reaches its threshold, the (100 - p) percentile of its scores. ``Choice:``
    by nearest rank, so that without ties it votes for exactly ceil(p N) clips.

    Args:
        share: p as a share of the clips, 0 to 1.
    """
    queries, clips = scores_QN.shape
    if not clips or not queries:
        return np.zeros(clips, np.int64)
    count = budget_count(share, clips)
    thresholds = np.partition(scores_QN, clips - count, axis=1)[:, clips - count]
    return np.asarray((scores_QN >= thresholds[:, None]).sum(0), np.int64)


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
    scores_QN: npt.NDArray[np.float32],
    ids: Sequence[str],
    vote_share: float,
    avoid_Q: npt.NDArray[np.bool_] | None = None,
) -> Ranking:
    """Votes, ranks and orders of the clips that have a score. The same input always gives the same lists.

    Args:
        vote_share: share of the clips each query votes for, 0 to 1.
        avoid_Q: which queries are to be avoided; none where open.
    """
    scored = scored_clips(scores_QN)
    kept = [ids[n] for n in np.flatnonzero(scored).tolist()]
    scores = scores_QN[:, scored]
    avoid = np.zeros(len(scores), np.bool_) if avoid_Q is None else avoid_Q
    follow = ~avoid
    sign_Q1 = np.where(avoid, -1.0, 1.0)[:, None]
    votes = majority_votes(scores[follow], vote_share) - majority_votes(scores[avoid], vote_share)
    harm = majority_votes(-scores[follow], vote_share) + majority_votes(scores[avoid], vote_share)
    ranks = percentile_ranks(scores)
    none = np.zeros(len(kept))
    rank = np.where(avoid[:, None], 100 - ranks, ranks).mean(0) if kept else none
    influence = (scores.astype(np.float64) * sign_Q1).mean(0) if kept else none
    best = ranks[follow].max(0, initial=0) - ranks[avoid].max(0, initial=0)
    by_mean = sorted(range(len(kept)), key=lambda n: (-rank[n], -influence[n], kept[n]))
    by_votes = sorted(by_mean, key=lambda n: -votes[n])  # a stable sort keeps the order of ties
    by_max = sorted(by_mean, key=lambda n: -best[n])
    return Ranking(
        ids=kept,
        votes=votes,
        harm=harm,
        rank=rank,
        best=best,
        influence=influence,
        by_votes=[kept[n] for n in by_votes],
        by_mean=[kept[n] for n in by_mean],
        by_max=[kept[n] for n in by_max],
        queries=len(scores_QN),
    )
