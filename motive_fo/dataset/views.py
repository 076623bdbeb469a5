"""Saved views of a run: the answers a user came for, one click away."""

from __future__ import annotations

from typing import Any, Final

from motive_fo.config import SelectionConfig
from motive_fo.dataset.run_record import RunRecord
from motive_fo.errors import InputError
from motive_fo.influence.curation import Selection
from motive_fo.influence.selection import budget_count

SELECTED: Final = "selection"
TOP_VOTES: Final = "top by votes"
TOP_INFLUENCE: Final = "top by influence"
TOP_HOOF: Final = "top by hoof"
MAJORITY: Final = "majority vote"
HARMFUL: Final = "harmful"
HARMFUL_FOR_MANY: Final = "harmful for many"
TO_AVOID: Final = "helps what to avoid"
STATIC: Final = "static"
FAILED: Final = "failed"
CAMERA_ONLY: Final = "camera only"
MOST_DYNAMIC: Final = "most dynamic"

CAMERA_ONLY_SHARE: Final = 0.9
_MOST_DYNAMIC_SHARE = 0.1


def view_name(run: str, kind: str) -> str:
    """``<run>: <kind>``."""
    return f"{run}: {kind}"


def save_motion_views(dataset: Any, record: RunRecord) -> dict[str, int]:
    """Views that need no score: static, failed, camera-only and most dynamic clips. Returns their names and sizes."""
    # as the database asks, not as expressions: such views are counted in an index, without a look at the clips
    run, status = record.run, f"{record.run}.status"
    moving = dataset.match({f"{run}.dynamic_score": {"$gte": 0}, status: {"$nin": [STATIC, FAILED]}})
    known = _count_in_order(moving)
    kept = max(1, budget_count(_MOST_DYNAMIC_SHARE, known))
    only_camera = dataset.match({f"{run}.camera_share": {"$gt": CAMERA_ONLY_SHARE}, status: {"$ne": STATIC}})
    views = {
        STATIC: (dataset.match({f"{run}.status": STATIC}), "nothing moves"),
        FAILED: (dataset.match({f"{run}.status": FAILED}), "clips with an error code"),
        CAMERA_ONLY: (
            only_camera.sort_by(f"{run}.camera_share", reverse=True),
            f"the camera explains more than {CAMERA_ONLY_SHARE:.0%} of the motion",
        ),
        MOST_DYNAMIC: (
            moving.sort_by(f"{run}.dynamic_score", reverse=True).limit(kept),
            f"highest dynamic score: {kept} clips",
        ),
    }
    counts = {MOST_DYNAMIC: min(kept, known)}
    return {
        name: count
        for kind, (view, text) in views.items()
        for name, count in _save(dataset, record, kind, view, text, counts.get(kind)).items()
    }


def _count_in_order(view: Any) -> int:
    """Size of a view of nearly all samples, which are read as they lie: an index would lead to each of them apart, from
    the disk where they do not fit the database's memory."""
    pipeline = [*view._pipeline(), {"$count": "samples"}]
    found = list(view._dataset._sample_collection.aggregate(pipeline, hint={"$natural": 1}))
    return int(found[0]["samples"]) if found else 0


def save_selection_views(dataset: Any, record: RunRecord, made: Selection, config: SelectionConfig) -> dict[str, int]:
    """Views over the fields that a curation wrote. Returns their names and sizes."""
    run, clips, queries = record.run, len(made.ranking.ids), made.ranking.queries
    kept = budget_count(config.budget, clips)
    least = queries // 2 + 1 if config.harmful_for is None else config.harmful_for
    share = f"{kept} of {clips} scored clips"
    order = {"votes": "most votes", "mean": "highest mean rank", "max": "highest rank with any query"}[config.by]

    def top(name: str, count: int) -> Any:
        # as the database asks, see above
        return dataset.match({f"{run}.{name}": {"$gt": 0, "$lte": count}}).sort_by(f"{run}.{name}")

    views = {
        SELECTED: (top("selected", kept), f"{order}: {len(made.chosen.ids)} of {clips} scored clips"),
        TOP_VOTES: (top("rank", kept), f"most votes: {share}"),
        TOP_INFLUENCE: (top("influence_rank", kept), f"highest motion influence: {share}"),
        TOP_HOOF: (
            top("hoof_rank", kept),
            f"a baseline without a model, flow histograms like the queries': {share}",
        ),
        MAJORITY: (
            dataset.match({f"{run}.votes": {"$gt": queries / 2}}).sort_by(f"{run}.rank"),
            f"clips that more than half of the {queries} queries vote for",
        ),
        HARMFUL: (
            dataset.match({f"{run}.influence_rank": {"$gt": clips - kept}}).sort_by(
                f"{run}.influence_rank", reverse=True
            ),
            f"lowest motion influence, the worst first: {share}",
        ),
        HARMFUL_FOR_MANY: (
            dataset.match({f"{run}.harmful_votes": {"$gte": least}}).sort_by(
                [(f"{run}.harmful_votes", -1), (f"{run}.influence_rank", -1)]
            ),
            f"clips that harm at least {least} of {queries} queries",
        ),
    }
    avoided = dataset.exists(f"{run}.avoid_influence")
    if len(avoided):
        views[TO_AVOID] = (
            avoided.sort_by(f"{run}.avoid_influence", reverse=True).limit(kept),
            f"what helps the queries to avoid most: {share}",
        )
    saved = {n: c for kind, (view, text) in views.items() for n, c in _save(dataset, record, kind, view, text).items()}
    if TO_AVOID not in views and (name := view_name(run, TO_AVOID)) in record.views:
        dataset.delete_saved_view(name)
        record.views.remove(name)
    return saved


def selected_view(dataset: Any, record: RunRecord) -> Any:
    """The run's selection. Raises ``InputError`` where the run was not curated."""
    name = view_name(record.run, SELECTED)
    if not dataset.has_saved_view(name):
        raise InputError(f"run {record.run!r} has no selection yet: curate it first (motive curate)")
    return dataset.load_saved_view(name)


def _save(
    dataset: Any, record: RunRecord, kind: str, view: Any, description: str, count: int | None = None
) -> dict[str, int]:
    """``count``: the view's size, where it is known without asking the database."""
    name = view_name(record.run, kind)
    if not _is_saved(dataset, name, view, description):
        dataset.save_view(name, view, description=description, overwrite=True)
    if name not in record.views:
        record.views.append(name)
    return {name: view.count() if count is None else count}


def _is_saved(dataset: Any, name: str, view: Any, description: str) -> bool:
    """Whether a view is saved as it is already: looking is several times as fast as saving it again."""
    if not dataset.has_saved_view(name) or dataset.get_saved_view_info(name)["description"] != description:
        return False
    saved: bool = dataset.load_saved_view(name) == view
    return saved
