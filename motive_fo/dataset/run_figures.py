"""The parts of a run's report that show figures: scores, ranking, queries, stability, redundancy, motion, gradients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from motive_fo.dataset.run_facts import Facts
from motive_fo.influence.doubt import rank_text
from motive_fo.influence.redundancy import Redundancy
from motive_fo.influence.stability import Stability
from motive_fo.report.plot import Plot, bars, histogram, matrix, spreads
from motive_fo.report.run_page import Grid, Section

_LISTED: Final = 50
_ENDS: Final = 10  # clips at each end of the ranking
_MOTION: Final = {
    "mean": ("mean motion", "px per frame"),
    "p95": ("95th percentile", "px per frame"),
    "camera_share": ("camera share", "0 to 1"),
    "moving_share": ("moving share", "0 to 1"),
    "dynamic_score": ("dynamic score", "above 1: dynamic"),
}


def score_section(facts: Facts) -> Section:
    """Influence, votes and cosines over all queries."""
    return Section(
        "scores",
        "Scores and votes",
        "A score is the cosine of a training clip's projected gradient with a query's. Raw cosines differ between "
        "queries in level and spread, so clips are compared by their percentile rank for each query, 0 to 100.",
        facts.source("influence"),
        plots=_score_plots(facts),
    )


def query_section(facts: Facts) -> Section:
    """How far the selection serves each query, and which queries want the same."""
    chance = f"{facts.count / max(1, len(facts.made.ranking.ids)):.0%}"
    head = ("query", "group", "use", "coverage", "median cosine", "highest cosine")
    return Section(
        "queries",
        "Queries",
        "Coverage: the share of a query's own best clips that the selection holds. A query with little coverage was "
        "outvoted. Overlap: the share of the best clips that two queries have in common; "
        f"{chance} by chance.",
        facts.source("influence", "curate"),
        plots=_query_plots(facts),
        tables=[Grid("Queries", head, _query_rows(facts))],
    )


def stability_section(facts: Facts) -> Section:
    """How much the ranking depends on the draw."""
    return Section(
        "stability",
        "Stability",
        _stability_text(facts.stability),
        facts.source("influence"),
        plots=_stability_plots(facts),
    )


def motion_section(facts: Facts) -> Section:
    """The selection's motion beside that of all clips."""
    return Section(
        "motion",
        "Motion of the selection against the whole",
        "A selection that were only a filter by amount of motion would show here.",
        facts.source("motion"),
        plots=_motion_plots(facts),
        tables=[
            Grid("Medians", ("median", "all scored clips", "selection", "harmful", "unit"), _motion_rows(facts)),
        ],
    )


def ranking_section(facts: Facts) -> Section:
    """The clips of the first and of the last places."""
    made, ranking = facts.made, facts.made.ranking
    order = ranking.order(facts.record.section("selection").by)
    place = {clip_id: n for n, clip_id in enumerate(ranking.ids)}
    taken = set(made.chosen.ids)
    first, last = order[:_ENDS], order[max(_ENDS, len(order) - _ENDS) :]
    doubts = facts.candidates.doubts([*first, *last])

    def rows(ids: Sequence[str], begin: int) -> list[tuple[object, ...]]:
        shown = []
        for number, clip_id in enumerate(ids, begin):
            n = place[clip_id]
            numbers = (
                rank_text(ranking.rank[n], doubts.get(clip_id)),
                f"{ranking.influence[n]:.3g}",
                *("".join(f"{v:.3g}" for v in values([clip_id])) for values in (facts.mean_motion, facts.norms)),
            )
            chosen = "yes" if clip_id in taken else ""
            shown.append((clip_id, number, chosen, int(ranking.votes[n]), int(ranking.harm[n]), *numbers))
        return shown

    head = ("clip", "place", "selected", "votes", "harmful votes", "mean rank", "mean score", "px per frame", "norm")
    return Section(
        "ranking",
        "Top and bottom of the ranking",
        "Votes, mean percentile rank and mean score over all queries; mean motion; norm of the whole loss's gradient."
        + (" ± is how far other timesteps and noises would move the rank, as a standard error." if doubts else ""),
        facts.source("influence", "curate"),
        tables=[
            Grid("First places", head, rows(first, 1)),
            Grid("Last places", head, rows(last, len(order) - len(last) + 1)),
        ],
    )


def redundancy_section(facts: Facts) -> Section:
    """How much clips repeat each other, at both ends."""
    ends = {"selection": facts.made.chosen.ids, "harmful": facts.groups()["harmful"]}
    found = {name: some for name, ids in ends.items() if (some := facts.redundancy(ids)) is not None}
    return Section(
        "redundancy",
        "Redundancy at both ends",
        "How much the clips of the selection, and as many of the most harmful ones, repeat each other: cosines of "
        "their gradient sketches. The effective number is how many clips with unrelated gradients would be as varied. "
        f"Clips whose cosine is at least {facts.near:g} count as near-duplicates; the setting collapse (motive curate "
        "--collapse) takes only the best of each group.",
        facts.source("train gradients"),
        plots=[
            histogram(
                "Nearest other clip of the set",
                "cosine of gradient sketches",
                {name: each.nearest_K.tolist() for name, each in found.items()},
            )
        ],
        tables=[
            Grid(
                "Redundancy",
                ("set", "clips", "effective number", "mean cosine", "groups of near-duplicates", "clips in them"),
                [_redundancy_row(name, each) for name, each in found.items()],
            ),
            Grid(
                "Closest pairs of the selection",
                ("clip", "another clip", "cosine"),
                [(a, b, f"{cosine:.3f}") for a, b, cosine in found["selection"].closest]
                if "selection" in found
                else [],
                words=True,
            ),
        ],
    )


def _redundancy_row(name: str, found: Redundancy) -> tuple[object, ...]:
    groups = found.near_duplicates
    numbers = (f"{found.effective:.1f}", f"{found.mean:.3f}", len(groups), sum(map(len, groups)))
    return (name, len(found.ids), *numbers)


def gradient_section(facts: Facts) -> Section:
    """Lengths of the gradients."""
    return Section(
        "gradients",
        "Length of the gradients",
        "A cosine does not see it; a clip far off the others is worth a look.",
        facts.source("train gradients"),
        plots=[
            histogram(
                "Gradient norm",
                "log10 of the norm, whole loss",
                {name: np.log10(norms).tolist() for name, ids in facts.groups().items() if (norms := facts.norms(ids))},
            )
        ],
    )


def _score_plots(facts: Facts) -> list[Plot]:
    ranking, taken = facts.made.ranking, set(facts.made.chosen.ids)
    chosen = np.asarray([clip_id in taken for clip_id in ranking.ids], np.bool_)
    votes = Counter(int(v) for v in ranking.votes)
    by_query = {query.id: facts.scores_of(q) for q, query in enumerate(facts.queries)}
    return [
        histogram(
            "Influence over all queries",
            "mean percentile rank, 0 to 100",
            {"all": list(ranking.rank), "selected": list(ranking.rank[chosen])},
        ),
        bars("Votes", "clips", {f"{v} votes": votes[v] for v in sorted(votes, reverse=True)[:20]}),
        spreads(
            "Cosines of each query", "cosine; 5 to 95 %, middle half, median", dict(list(by_query.items())[:_LISTED])
        ),
    ]


def _query_rows(facts: Facts) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for q, query in enumerate(facts.queries):
        scores = facts.scores_of(q)
        cover = facts.made.coverage.get(query.id)
        rows.append(
            (
                query.id,
                query.group or "",
                "avoid" if facts.candidates.avoid_Q[q] else "follow",
                "" if cover is None else f"{cover:.0%}",
                f"{np.median(scores):.3f}",
                f"{scores.max():.3f}",
            )
        )
    return rows


def _query_plots(facts: Facts) -> list[Plot]:
    if len(facts.queries) < 2:
        return []
    order = sorted(range(len(facts.queries)), key=lambda q: (facts.queries[q].group or "", facts.queries[q].id))
    best = [set(np.argsort(-facts.scores_of(q), kind="stable")[: facts.count].tolist()) for q in order]
    shared = np.asarray([[len(a & b) / max(1, facts.count) for b in best] for a in best])
    names = [facts.queries[q].id for q in order]
    return [matrix("Best clips that two queries share", names, shared, legend="share of the best clips")]


def _stability_text(found: Stability | None) -> str:
    if found is None:
        return (
            "The run has one timestep and one noise: it cannot say how much the ranking depends on the draw. "
            "More noises (--noises 0,1,2) answer that; only what is missing is computed."
        )
    return (
        f"Rankings by single timesteps and noises agree with a rank correlation of {found.spearman:.2f} on average, "
        f"and share {found.overlap:.0%} of their first {found.top} clips ({found.by_chance:.0%} by chance)."
    )


def _stability_plots(facts: Facts) -> list[Plot]:
    found = facts.stability
    if found is None:
        return []
    names = facts.sample_names
    return [
        matrix("Rank correlation of single draws", names, found.spearman_SS, legend="Spearman"),
        matrix(f"First {found.top} clips in common", names, found.overlap_SS, legend="share"),
    ]


def _motion_rows(facts: Facts) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for name, (title, unit) in _MOTION.items():
        values = [facts.statistic(name, ids) for ids in facts.groups().values()]
        rows.append((title, *(f"{np.median(v):.3g}" if v else "" for v in values), unit))
    return rows


def _motion_plots(facts: Facts) -> list[Plot]:
    return [
        histogram(
            title.capitalize(), unit, {group: facts.statistic(name, ids) for group, ids in facts.groups().items()}
        )
        for name, (title, unit) in _MOTION.items()
        if name in ("mean", "camera_share", "dynamic_score")
    ]
