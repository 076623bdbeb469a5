"""Saved views of a run: the answers a user came for, one click away."""

from __future__ import annotations

from typing import Any

from motive_fo.config import SelectionConfig
from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.run_record import RunRecord
from motive_fo.errors import InputError
from motive_fo.influence.selection import Ranking, budget_count

TOP_VOTES, TOP_INFLUENCE, TOP_HOOF, MAJORITY, HARMFUL, STATIC, FAILED, CAMERA_ONLY, MOST_DYNAMIC = (
    "top by votes",
    "top by influence",
    "top by hoof",
    "majority vote",
    "harmful",
    "static",
    "failed",
    "camera only",
    "most dynamic",
)

_CAMERA_ONLY_SHARE = 0.9
_MOST_DYNAMIC_SHARE = 0.1


def view_name(run: str, kind: str) -> str:
    """``<run>: <kind>``."""
    return f"{run}: {kind}"


def save_motion_views(dataset: Any, record: RunRecord) -> dict[str, int]:
    """Views that need no score: static, failed, camera-only and most dynamic clips. Returns their names and sizes."""
    run, field = record.run, fiftyone().ViewField
    status, camera = field(f"{run}.status"), field(f"{run}.camera_share")
    moving = dataset.exists(f"{run}.dynamic_score").match(~status.is_in([STATIC, FAILED]))
    kept = max(1, budget_count(_MOST_DYNAMIC_SHARE, moving.count()))
    only_camera = dataset.match((camera > _CAMERA_ONLY_SHARE) & (status != STATIC))
    views = {
        STATIC: (dataset.match(status == STATIC), "nothing moves"),
        FAILED: (dataset.match(status == FAILED), "clips with an error code"),
        CAMERA_ONLY: (
            only_camera.sort_by(f"{run}.camera_share", reverse=True),
            f"the camera explains more than {_CAMERA_ONLY_SHARE:.0%} of the motion",
        ),
        MOST_DYNAMIC: (
            moving.sort_by(f"{run}.dynamic_score", reverse=True).limit(kept),
            f"highest dynamic score: {kept} clips",
        ),
    }
    return {n: c for kind, (view, text) in views.items() for n, c in _save(dataset, record, kind, view, text).items()}


def save_selection_views(
    dataset: Any, record: RunRecord, ranking: Ranking, selection: SelectionConfig
) -> dict[str, int]:
    """Views over the fields ``votes``, ``rank`` and ``influence_rank``. Returns their names and sizes."""
    field = fiftyone().ViewField
    run, clips = record.run, len(ranking.ids)
    kept = budget_count(selection.budget, clips)
    votes, rank, influence_rank = (field(f"{run}.{name}") for name in ("votes", "rank", "influence_rank"))
    hoof_rank = field(f"{run}.hoof_rank")
    placed = rank > 0  # the database takes a missing rank for less than any number
    share = f"{kept} of {clips} scored clips"
    views = {
        TOP_VOTES: (dataset.match(placed & (rank <= kept)).sort_by(f"{run}.rank"), f"most votes: {share}"),
        TOP_INFLUENCE: (
            dataset.match(placed & (influence_rank <= kept)).sort_by(f"{run}.influence_rank"),
            f"highest motion influence: {share}",
        ),
        TOP_HOOF: (
            dataset.match((hoof_rank > 0) & (hoof_rank <= kept)).sort_by(f"{run}.hoof_rank"),
            f"a baseline without a model, flow histograms like the queries': {share}",
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
