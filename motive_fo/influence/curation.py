"""The selection of a run as a function of its scores and a few facts of its clips: what is taken, and what that means.

Nothing here computes a gradient, so that any number of settings can be compared: ``what_if``.

Shapes: Q queries, N training clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from motive_fo.config import SelectionConfig
from motive_fo.influence.doubt import doubts_of
from motive_fo.influence.selection import Ranking, Rows, best_clips, budget_count, rank_clips
from motive_fo.influence.shortlist import Quota, Shortlist, Sketches, shortlist


@dataclass(frozen=True)
class Candidates:
    """What a selection is made from.

    Attributes:
        scores_QN: influence of the clips on the queries, NaN where a clip has none; read a query at a time.
        ids: the clips.
        queries: ids of the queries.
        avoid_Q: which of them are to be avoided.
        motion: clip id -> mean motion in pixels per frame.
        tags, captions: clip id -> its tags and caption, for quotas.
        sketches: reads sketches, to tell near-duplicates.
        without: ``scores_QN`` without each timestep and noise in turn, for the doubt of ranks; empty where unknown.
    """

    scores_QN: Rows
    ids: Sequence[str]
    queries: Sequence[str]
    avoid_Q: npt.NDArray[np.bool_]
    motion: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    captions: Mapping[str, str] = field(default_factory=dict)
    sketches: Sketches | None = None
    without: Sequence[Rows] = ()

    def doubts(self, ids: Sequence[str]) -> dict[str, float]:
        """How far the mean rank of some clips would move with other timesteps and noises, in percentile points; none
        where that is not known. See ``influence.doubt``."""
        if len(self.without) < 2 or not ids:
            return {}
        wanted = set(ids)
        places = {clip_id: n for n, clip_id in enumerate(self.ids) if clip_id in wanted}
        doubts = doubts_of(self.without, self.avoid_Q, np.asarray([places[clip_id] for clip_id in ids], np.int64))
        return dict(zip(ids, doubts.tolist(), strict=True))


@dataclass(frozen=True)
class Selection:
    """A selection and what it covers.

    Attributes:
        ranking: all scored clips.
        chosen: what is taken of them.
        coverage: query to follow -> share of its own best ceil(budget * N) clips that are taken, 0 to 1.
    """

    ranking: Ranking
    chosen: Shortlist
    coverage: dict[str, float]


def select(candidates: Candidates, config: SelectionConfig) -> Selection:
    """Rank the candidates and take ceil(budget * N) of the N that have a score.

    ``Choice:`` clips that are left out for their motion, for a quota or as near-duplicates are still counted in N and
    still ranked: the budget means the same whatever else is set.

    Raises:
        ConfigError: a quota cannot be read.
    """
    given = candidates
    quotas = [Quota.parse(text) for text in config.quotas]
    ranking = rank_clips(given.scores_QN, given.ids, config.vote_share or config.budget, given.avoid_Q)
    members = {
        quota: frozenset(i for i in ranking.ids if quota.holds(given.tags.get(i, ()), given.captions.get(i, "")))
        for quota in quotas
    }
    slow = f"moves by less than {config.motion_floor:g} px per frame"
    floor = config.motion_floor
    chosen = shortlist(
        ranking.order(config.by),
        budget_count(config.budget, len(ranking.ids)),
        # without a floor the clips' motion is not looked at: it may not have been read
        barred={i: slow for i in ranking.ids if given.motion.get(i, np.inf) < floor} if floor > 0 else {},
        quotas=members,
        collapse=config.collapse,
        sketches=given.sketches,
    )
    return Selection(ranking, chosen, coverage(given, ranking, chosen.ids, config.budget))


def coverage(candidates: Candidates, ranking: Ranking, taken: Sequence[str], budget: float) -> dict[str, float]:
    """How far a selection serves each query: the share of the query's own best clips that it holds, 0 to 1.

    The best clips of a query are the ceil(budget * N) with its highest scores: a selection made for that query alone
    covers it fully. A small least value tells that some query was outvoted.
    """
    if not ranking.ids:
        return {}
    place = {clip_id: n for n, clip_id in enumerate(candidates.ids)}
    columns = np.asarray([place[clip_id] for clip_id in ranking.ids], np.int64)
    held = set(taken)
    held_N = np.asarray([clip_id in held for clip_id in ranking.ids])
    count = budget_count(budget, len(columns))
    shares = {}
    for q, query in enumerate(candidates.queries):
        if not candidates.avoid_Q[q]:
            scores_N = candidates.scores_QN[q][columns]
            best = best_clips(scores_N, count)
            shares[query] = float(held_N[best].mean())
    return shares


@dataclass(frozen=True)
class WhatIf:
    """One row of a what-if table.

    Attributes:
        budget, vote_share: the settings.
        selected: clips taken.
        majority: clips that more than half of the queries vote for.
        coverage_mean, coverage_least: of the queries, 0 to 1; see ``coverage``.
        kept: share of the clips of the present selection that are taken too.
        motion: mean motion of the clips taken, in pixels per frame; None where it is not known.
    """

    budget: float
    vote_share: float
    selected: int
    majority: int
    coverage_mean: float
    coverage_least: float
    kept: float
    motion: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def what_if(
    candidates: Candidates, config: SelectionConfig, budgets: Sequence[float], vote_shares: Sequence[float]
) -> list[WhatIf]:
    """What other budgets and vote shares would select; all other settings as in ``config``."""
    present = set(select(candidates, config).chosen.ids)
    rows = []
    for budget in budgets:
        for vote_share in vote_shares:
            made = select(candidates, replace(config, budget=budget, vote_share=vote_share))
            taken = made.chosen.ids
            moves = [candidates.motion[i] for i in taken if i in candidates.motion]
            shares = list(made.coverage.values())
            rows.append(
                WhatIf(
                    budget=budget,
                    vote_share=vote_share,
                    selected=len(taken),
                    majority=len(made.ranking.majority()),
                    coverage_mean=float(np.mean(shares)) if shares else 0.0,
                    coverage_least=min(shares, default=0.0),
                    kept=len(present & set(taken)) / max(1, len(present)),
                    motion=float(np.mean(moves)) if moves else None,
                )
            )
    return rows
