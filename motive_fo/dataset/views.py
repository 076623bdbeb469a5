"""Saved views of a run: the answers a user came for, one click away."""

from __future__ import annotations

from typing import Any

from motive_fo.config import SelectionConfig
from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.run_record import RunRecord
from motive_fo.errors import InputError
from motive_fo.influence.selection import Ranking, budget_count

TOP_VOTES, TOP_INFLUENCE, MAJORITY, HARMFUL, STATIC, FAILED = (
    "top by votes",
    "top by influence",
    "majority vote",
    "harmful",
    "static",
    "failed",
)


def view_name(run: str, kind: str) -> str:
    """``<run>: <kind>``."""
    return f"{run}: {kind}"


def save_motion_views(dataset: Any, record: RunRecord) -> dict[str, int]:
    """Views that need no score: static and failed clips. Returns their names and sizes."""
    field = fiftyone().ViewField
    return {
        name: count
        for kind, text in ((STATIC, "nothing moves"), (FAILED, "clips with an error code"))
        for name, count in _save(
            dataset, record, kind, dataset.match(field(f"{record.run}.status") == kind), text
        ).items()
    }


def save_selection_views(
    dataset: Any, record: RunRecord, ranking: Ranking, selection: SelectionConfig
) -> dict[str, int]:
    """Views over the fields ``votes``, ``rank`` and ``influence_rank``. Returns their names and sizes."""
    field = fiftyone().ViewField
    run, clips = record.run, len(ranking.ids)
    kept = budget_count(selection.budget, clips)
    votes, rank, influence_rank = (field(f"{run}.{name}") for name in ("votes", "rank", "influence_rank"))
    placed = rank > 0  # the database takes a missing rank for less than any number
    share = f"{kept} of {clips} scored clips"
    views = {
        TOP_VOTES: (dataset.match(placed & (rank <= kept)).sort_by(f"{run}.rank"), f"most votes: {share}"),
        TOP_INFLUENCE: (
            dataset.match(placed & (influence_rank <= kept)).sort_by(f"{run}.influence_rank"),
            f"highest motion influence: {share}",
        ),
        MAJORITY: (
            dataset.match(votes > ranking.queries / 2).sort_by(f"{run}.rank"),
            f"clips that more than half of the {ranking.queries} queries vote for",
        ),
        HARMFUL: (
            dataset.match(influence_rank > clips - kept).sort_by(f"{run}.influence_rank", reverse=True),
            f"lowest motion influence, the worst first: {share}",
        ),
    }
    return {n: c for kind, (view, text) in views.items() for n, c in _save(dataset, record, kind, view, text).items()}


def selected_view(dataset: Any, record: RunRecord) -> Any:
    """The run's selection. Raises ``InputError`` where the run was not curated."""
    kind = TOP_VOTES if record.section("selection").by == "votes" else TOP_INFLUENCE
    name = view_name(record.run, kind)
    if not dataset.has_saved_view(name):
        raise InputError(f"run {record.run!r} has no selection yet: curate it first (motive curate)")
    return dataset.load_saved_view(name)


def _save(dataset: Any, record: RunRecord, kind: str, view: Any, description: str) -> dict[str, int]:
    name = view_name(record.run, kind)
    dataset.save_view(name, view, description=description, overwrite=True)
    if name not in record.views:
        record.views.append(name)
    return {name: view.count()}
