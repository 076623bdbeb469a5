"""From scores to a selection: percentile ranks, votes, and an order in which nothing is left to chance.

Only clips that have a score for every query take part; the others are never voted for and never counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from motive_fo.config import SelectionConfig


def budget_count(share: float, clips: int) -> int:
    """ceil(share * clips), without rounding errors turning 0.1 * 30 into 4."""
    return min(clips, math.ceil(round(share * clips, 9)))


def scored_clips(scores_QN: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which clips have a score for every query; none where there is no query."""
    return np.asarray(np.isfinite(scores_QN).all(0) & (len(scores_QN) > 0))


def percentile_ranks(scores_QN: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Rank of each clip among the N clips of its query: 0 the lowest score, 100 the highest, ties share their mean
    rank.

    ``Choice:`` raw cosines are not comparable between queries, ranks are. One clip alone has rank 100.
    """
    queries, clips = scores_QN.shape
    if clips == 1:
        return np.full((queries, 1), 100.0)
    ranks = np.empty((queries, clips))
    for q, row in enumerate(scores_QN):
        ordered = np.sort(row)
        below, upto = np.searchsorted(ordered, row, "left"), np.searchsorted(ordered, row, "right")
        ranks[q] = (below + upto - 1) / 2
    return ranks * (100.0 / (clips - 1)) if clips else ranks


def majority_votes(scores_QN: npt.NDArray[np.float32], share: float) -> npt.NDArray[np.int64]:
    """How many queries vote for each clip. ``Paper: Eq. 18``.

    A query votes for every clip whose score reaches its threshold, the (100 - p) percentile of its scores. ``Choice:``
    by nearest rank, so that without ties it votes for exactly ceil(p N) clips.

    Args:
        share: p as a share of the clips, 0 to 1.
    """
    clips = scores_QN.shape[1]
    if not clips:
        return np.zeros(0, np.int64)
    count = budget_count(share, clips)
    thresholds = np.partition(scores_QN, clips - count, axis=1)[:, clips - count]
    return np.asarray((scores_QN >= thresholds[:, None]).sum(0), np.int64)


@dataclass(frozen=True)
class Ranking:
    """The scored clips of a run.

    Attributes:
        ids: clip ids, in the order they were given.
        votes: queries that vote for each.
        rank: mean percentile rank over the queries, 0 to 100.
        influence: mean cosine over the queries.
        by_votes: ids, most votes first; ties by mean percentile rank, then mean influence, then id.
        by_rank: ids, highest mean percentile rank first; ties by mean influence, then id.
        queries: number of queries.
    """

    ids: list[str]
    votes: npt.NDArray[np.int64]
    rank: npt.NDArray[np.float64]
    influence: npt.NDArray[np.float64]
    by_votes: list[str]
    by_rank: list[str]
    queries: int

    def top(self, config: SelectionConfig) -> list[str]:
        """The first ceil(budget * N) clips in the configured order."""
        ordered = self.by_votes if config.by == "votes" else self.by_rank
        return ordered[: budget_count(config.budget, len(ordered))]

    def majority(self) -> list[str]:
        """Clips that more than half of the queries vote for, most votes first."""
        votes = dict(zip(self.ids, self.votes, strict=True))
        return [clip_id for clip_id in self.by_votes if 2 * votes[clip_id] > self.queries]

    def bottom(self, config: SelectionConfig) -> list[str]:
        """The last ceil(budget * N) clips by mean percentile rank, the worst first."""
        return self.by_rank[::-1][: budget_count(config.budget, len(self.by_rank))]


def rank_clips(scores_QN: npt.NDArray[np.float32], ids: Sequence[str], config: SelectionConfig) -> Ranking:
    """Votes, ranks and orders of the clips that have a score. The same input always gives the same lists."""
    scored = scored_clips(scores_QN)
    kept = [ids[n] for n in np.flatnonzero(scored).tolist()]
    scores = scores_QN[:, scored]
    votes = majority_votes(scores, config.vote_share or config.budget)
    rank = percentile_ranks(scores).mean(0) if kept else np.zeros(0)
    influence = scores.astype(np.float64).mean(0) if kept else np.zeros(0)
    by_rank = sorted(range(len(kept)), key=lambda n: (-rank[n], -influence[n], kept[n]))
    by_votes = sorted(by_rank, key=lambda n: -votes[n])  # a stable sort keeps the order of ties
    return Ranking(
        kept, votes, rank, influence, [kept[n] for n in by_votes], [kept[n] for n in by_rank], len(scores_QN)
    )
