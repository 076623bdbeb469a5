"""The fields of a run: one group of typed, described fields that the sidebar filters by and explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from motive_fo.dataset.bulk import Columns, write_blocks
from motive_fo.dataset.choose import Chosen, ids_of
from motive_fo.dataset.connect import fiftyone
from motive_fo.influence.selection import scored_clips
from motive_fo.pipeline.motion import known_frames
from motive_fo.progress import Progress, silent
from motive_fo.store.run_store import RunStore
from motive_fo.store.sketches import SketchTables
from motive_fo.store.table import Status, Table

#: name -> (FiftyOne field type, what it says)
FIELDS: Final[dict[str, tuple[str, str]]] = {
    "status": ("StringField", "how far the clip is: described, sketched, scored, static or failed"),
    "code": ("StringField", "why the clip failed or is static; see the troubleshooting page"),
    "error": ("StringField", "what happened to this clip, in one sentence"),
    "adjustment": ("StringField", "what was done to a video that ends before the clip specification does"),
    "decoder": ("StringField", "decoder and version that read the clip"),
    "motion_mean": ("FloatField", "mean motion over all frames and pixels, in pixels per frame"),
    "motion_p95": ("FloatField", "95th percentile of motion over all frames and pixels, in pixels per frame"),
    "motion_peak": ("FloatField", "mean over frames of the strongest percent of pixels, in pixels per frame"),
    "camera_share": ("FloatField", "share of the motion's energy that the camera explains, 0 to 1"),
    "moving_share": ("FloatField", "share of the pixels that move by more than 0.05 pixels per frame, 0 to 1"),
    "smoothness": ("FloatField", "1 minus mean acceleration over mean speed along the motion, 0 to 1"),
    "dynamic_score": ("FloatField", "VBench's dynamic degree as a number: above 1 the clip is dynamic"),
    "cuts": ("IntField", "scene cuts inside the clip: motion across a cut is nobody's"),
    "motion_curve": ("ListField", "mean motion of each frame, in pixels per frame"),
    "loss": ("FloatField", "the model's diffusion loss on the clip, without the motion mask"),
    "gradient_norm": ("FloatField", "norm of the gradient of that loss over all attributed parameters"),
    "influence": (
        "FloatField",
        "motion influence: mean percentile rank over the queries, 100 helps most, 0 hurts most",
    ),
    "influence_doubt": (
        "FloatField",
        "how far motion influence would move with other timesteps and noises, in percentile points (standard error); "
        "empty with one timestep and noise",
    ),
    "whole_influence": ("FloatField", "the same for the whole clip, without the motion mask"),
    "influence_difference": ("FloatField", "motion influence minus whole-clip influence, in percentile points"),
    "avoid_influence": (
        "FloatField",
        "mean percentile rank over the queries to avoid: 100 helps what is not wanted most",
    ),
    "selected": ("IntField", "place in the selection, 1 is best; empty for clips that are not selected"),
    "votes": ("IntField", "queries whose best clips include this one, minus queries to avoid whose best do"),
    "harmful_votes": ("IntField", "queries whose worst clips include this one, plus queries to avoid whose best do"),
    "rank": ("IntField", "place by votes, 1 is best; ties by motion influence"),
    "influence_rank": ("IntField", "place by motion influence, 1 is best"),
    "hoof_rank": ("IntField", "place by similarity of flow histograms with the queries, a baseline without a model"),
}

#: fields that the App's sidebar and our views filter and sort by: an index spares them the pass over the dataset.
INDEXED: Final = (
    "status",
    "motion_mean",
    "camera_share",
    "dynamic_score",
    "influence",
    "avoid_influence",
    "selected",
    "votes",
    "harmful_votes",
    "rank",
    "influence_rank",
    "hoof_rank",
)
#: fields whose views leave clips out by status: both in one index, so that such a view is counted in it.
INDEXED_WITH_STATUS: Final = ("camera_share", "dynamic_score")


def are_declared(dataset: Any, run: str) -> bool:
    """Whether the run's field group is there with every field: an earlier version may have made it with fewer."""
    schema = dataset.get_field_schema(flat=True)
    return all(f"{run}.{name}" in schema for name in FIELDS)


def declare_fields(dataset: Any, run: str) -> None:
    """Make the run's field group; what exists stays."""
    fo = fiftyone()
    dataset.add_sample_field(
        run, fo.EmbeddedDocumentField, embedded_doc_type=fo.DynamicEmbeddedDocument, description="a run of motive-fo"
    )
    for name, (kind, description) in FIELDS.items():
        subfield = fo.FloatField if kind == "ListField" else None
        dataset.add_sample_field(f"{run}.{name}", getattr(fo, kind), subfield=subfield, description=description)


def index_fields(dataset: Any, run: str, names: Sequence[str]) -> None:
    """Make indexes of those fields that have one (``INDEXED``, ``INDEXED_WITH_STATUS``), where they are missing. Fields
    take theirs along when they are deleted."""
    from pymongo import IndexModel

    wanted = [IndexModel(f"{run}.{name}") for name in names if name in INDEXED]
    wanted += [IndexModel([(f"{run}.{n}", 1), (f"{run}.status", 1)]) for n in names if n in INDEXED_WITH_STATUS]
    if wanted:
        dataset._sample_collection.create_indexes(wanted)  # together: FiftyOne's create_index passes over it for each


def write_fields(
    dataset: Any,
    run: str,
    sample_ids: Sequence[str],
    columns: Mapping[str, Sequence[Any] | npt.NDArray[Any]],
    progress: Progress = silent,
) -> int:
    """Several fields of some samples, in one bulk write of what is not in the database already, and their indexes.

    Args:
        columns: field -> a value for each sample; None and NaN clear it.

    Returns:
        how many samples were written.
    """
    unknown = set(columns) - set(FIELDS)
    if unknown:
        raise KeyError(f"{unknown.pop()!r} is no field of a run")

    def columns_of(part: slice) -> Columns:
        return {name: _plain(values[part], whole=FIELDS[name][0] == "IntField") for name, values in columns.items()}

    written = write_blocks(dataset, run, sample_ids, columns_of, progress)
    index_fields(dataset, run, list(columns))
    return written


def strangers(dataset: Any, run: str, store: RunStore) -> dict[str, str]:
    """Samples that bear figures of a run whose store has no row of them, clip id -> sample id: merged in from another
    dataset, whose run had the same name."""
    bearing = ids_of(dataset.match({f"{run}.status": {"$ne": None}}))
    for name in ("motion", "train", "query"):
        if bearing and store.has_table(name):
            rows = store.table("motion") if name == "motion" else store.sketches(name)  # type: ignore[arg-type]
            bearing = {clip_id: sample_id for clip_id, sample_id in bearing.items() if clip_id not in rows}
    return bearing


def clear_fields(dataset: Any, run: str, sample_ids: Sequence[str], names: Sequence[str]) -> None:
    """Empty some fields of some samples."""
    write_blocks(dataset, run, sample_ids, lambda part: {name: [None] * (part.stop - part.start) for name in names})


def write_motion(dataset: Any, run: str, chosen: Chosen, table: Table, progress: Progress = silent) -> None:
    """Motion statistics of the chosen clips."""
    ids = [clip_id for clip_id in chosen.ids if clip_id in table]
    places, states = table.places(ids), table.states(ids)
    known = np.isin(states, (Status.DONE, Status.STATIC))
    same = ("camera_share", "moving_share", "smoothness", "dynamic_score")
    numbers = {"motion_mean": "mean", "motion_p95": "p95", "motion_peak": "peak", **{name: name for name in same}}

    def columns_of(part: slice) -> Columns:
        rows = places[part]
        columns: dict[str, Sequence[Any]] = {n: _plain(table.read_places(c, rows)) for n, c in numbers.items()}
        cuts, curves = table.read_places("cuts", rows).tolist(), table.read_places("curve", rows)
        columns["cuts"] = [v if k else None for v, k in zip(cuts, known[part], strict=True)]
        columns["motion_curve"] = [
            known_frames(curve).tolist() if k else None for curve, k in zip(curves, known[part], strict=True)
        ]
        columns["adjustment"] = [text or None for text in table.read_places("adjustment", rows).tolist()]
        return columns

    write_blocks(dataset, run, [chosen.sample_ids[i] for i in ids], columns_of, progress)
    index_fields(dataset, run, list(numbers))


def write_states(dataset: Any, run: str, chosen: Chosen, store: RunStore, progress: Progress = silent) -> None:
    """Status, code, error and decoder of the chosen clips, as far as any step of the run has brought them."""
    words: tuple[tuple[Literal["train", "query", "motion"], str], ...]
    words = (("train", "sketched"), ("query", "sketched"), ("motion", "described"))
    left = chosen.ids
    for name, word in words:
        if not store.has_table(name):
            continue
        table = store.table("motion") if name == "motion" else _one_table(store.sketches(name))
        done_N = table.states(left) != Status.PENDING
        ids = [clip_id for clip_id, done in zip(left, done_N.tolist(), strict=True) if done]
        left = [clip_id for clip_id, done in zip(left, done_N.tolist(), strict=True) if not done]
        scored = _scored_ids(store) if name == "train" else set()
        _write_states(dataset, run, [chosen.sample_ids[i] for i in ids], table, (ids, word, scored), progress)
    index_fields(dataset, run, ["status"])


def _write_states(
    dataset: Any,
    run: str,
    sample_ids: Sequence[str],
    table: Table | SketchTables,
    what: tuple[list[str], str, set[str]],
    progress: Progress,
) -> None:
    """``what``: the clips, the word for those that are done, and the clips that are scored."""
    ids, word, scored = what
    others = {Status.STATIC: "static", Status.FAILED: "failed"}
    states = table.states(ids).tolist()
    places = table.places(ids) if isinstance(table, Table) else None

    def columns_of(part: slice) -> Columns:
        here = zip(ids[part], states[part], strict=True)
        columns: dict[str, Sequence[Any]] = {
            "status": [others.get(state, "scored" if clip_id in scored else word) for clip_id, state in here]
        }
        for name, column in (("code", "code"), ("error", "message"), ("decoder", "decoder")):
            if isinstance(table, Table) and places is not None:
                texts = table.read_places(column, places[part])
            else:
                texts = table.read(column, ids[part])
            columns[name] = [str(text) or None for text in texts]
        return columns

    write_blocks(dataset, run, sample_ids, columns_of, progress)


def _one_table(sketches: SketchTables) -> Table | SketchTables:
    """The only table of a single timestep and noise, which is read without asking for each clip which one decides."""
    tables = list(sketches.tables.values())
    return tables[0] if len(tables) == 1 else sketches


def _scored_ids(store: RunStore) -> set[str]:
    if not store.has_table("influence"):
        return set()
    scores = store.scores("motion")
    return {scores.train_ids[n] for n in np.flatnonzero(scored_clips(scores)).tolist()}


def write_gradients(dataset: Any, run: str, chosen: Chosen, table: SketchTables, progress: Progress = silent) -> None:
    """Loss and gradient norm (first timestep and noise, no mask) of the chosen clips."""
    ids = [clip_id for clip_id in chosen.ids if clip_id in table]
    first = next(iter(table.tables.values()))
    places = first.places(ids)

    def columns_of(part: slice) -> Columns:
        rows = places[part]
        return {
            name: _plain(first.read_places(column, rows)[:, 0])
            for name, column in (("loss", "loss"), ("gradient_norm", "norm"))
        }

    write_blocks(dataset, run, [chosen.sample_ids[i] for i in ids], columns_of, progress)


def _plain(values: Any, *, whole: bool = False) -> list[Any]:
    """Plain Python, None for NaN and infinity; ``whole`` makes integers of floats."""
    if not isinstance(values, np.ndarray):
        return list(values)
    if values.dtype.kind != "f":
        return list(values.tolist())
    known = np.isfinite(values)
    plain = np.where(known, values, 0).astype(np.int64 if whole else np.float64).astype(object)
    plain[~known] = None
    return list(plain.tolist())
