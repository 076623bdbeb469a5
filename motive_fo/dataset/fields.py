"""The fields of a run: one group of typed, described fields that the sidebar filters by and explains."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

import numpy as np

from motive_fo.dataset.choose import Chosen
from motive_fo.dataset.connect import fiftyone
from motive_fo.influence.selection import scored_clips
from motive_fo.pipeline.motion import known_frames
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


def are_declared(dataset: Any, run: str) -> bool:
    """Whether the run's field group is there, to its last field."""
    return bool(dataset.has_sample_field(f"{run}.{next(reversed(FIELDS))}"))


def declare_fields(dataset: Any, run: str) -> None:
    """Make the run's field group; what exists stays."""
    fo = fiftyone()
    dataset.add_sample_field(
        run, fo.EmbeddedDocumentField, embedded_doc_type=fo.DynamicEmbeddedDocument, description="a run of motive-fo"
    )
    for name, (kind, description) in FIELDS.items():
        subfield = fo.FloatField if kind == "ListField" else None
        dataset.add_sample_field(f"{run}.{name}", getattr(fo, kind), subfield=subfield, description=description)


def write_values(dataset: Any, run: str, name: str, values: Mapping[str, Any]) -> None:
    """One field for many samples in one bulk write. Sample id -> value; None clears."""
    if name not in FIELDS:
        raise KeyError(f"{name!r} is no field of a run")
    if values:
        dataset.set_values(f"{run}.{name}", dict(values), key_field="id", progress=False)


def write_changes(dataset: Any, run: str, columns: Mapping[str, Mapping[str, Any]]) -> int:
    """Several fields of every sample in one bulk write that leaves out what is in the database already.

    Args:
        columns: field -> sample id -> value; a sample that is not named loses its value.

    Returns:
        how many samples were written.
    """
    unknown = set(columns) - set(FIELDS)
    if unknown:
        raise KeyError(f"{unknown.pop()!r} is no field of a run")
    from pymongo import UpdateOne

    paths = {name: f"{run}.{name}" for name in columns}
    ids, *present = dataset.values(["_id", *paths.values()])
    now = datetime.now(UTC)
    writes = []
    for sample_id, *known in zip(ids, *present, strict=True):
        wanted = [of_sample.get(str(sample_id)) for of_sample in columns.values()]
        changed = {path: value for path, value, was in zip(paths.values(), wanted, known, strict=True) if value != was}
        if changed:
            writes.append(UpdateOne({"_id": sample_id}, {"$set": {**changed, "last_modified_at": now}}))
    if writes:
        dataset._bulk_write(writes)  # what set_values does for one field at a time
    return len(writes)


def write_motion(dataset: Any, run: str, chosen: Chosen, table: Table) -> None:
    """Motion statistics of the chosen clips."""
    ids = [clip_id for clip_id in chosen.ids if clip_id in table]
    known = [table.status(clip_id) in (Status.DONE, Status.STATIC) for clip_id in ids]
    same = ("camera_share", "moving_share", "smoothness", "dynamic_score")
    columns = {"motion_mean": "mean", "motion_p95": "p95", "motion_peak": "peak", **{name: name for name in same}}
    for name, column in columns.items():
        values = [float(v) if np.isfinite(v) else None for v in table.read(column, ids)]
        _write(dataset, run, name, chosen, ids, values)
    cuts = [int(v) if k else None for v, k in zip(table.read("cuts", ids), known, strict=True)]
    _write(dataset, run, "cuts", chosen, ids, cuts)
    curves = [known_frames(c).tolist() if k else None for c, k in zip(table.read("curve", ids), known, strict=True)]
    _write(dataset, run, "motion_curve", chosen, ids, curves)
    _write(dataset, run, "adjustment", chosen, ids, [str(a) or None for a in table.read("adjustment", ids)])


def write_states(dataset: Any, run: str, chosen: Chosen, store: RunStore) -> None:
    """Status, code, error and decoder of the chosen clips, as far as any step of the run has brought them."""
    scored = _scored_ids(store)
    words: dict[str, str] = {}
    texts: dict[str, dict[str, str | None]] = {"code": {}, "error": {}, "decoder": {}}
    steps: tuple[tuple[Literal["train", "query", "motion"], str], ...]
    steps = (("train", "sketched"), ("query", "sketched"), ("motion", "described"))
    for table_name, word in steps:
        if not store.has_table(table_name):
            continue
        table = store.table("motion") if table_name == "motion" else store.sketches(table_name)
        ids = [i for i in chosen.ids if i not in words and i in table and table.status(i) != Status.PENDING]
        done = {i: "scored" if i in scored and table_name == "train" else word for i in ids}
        words |= {i: {Status.STATIC: "static", Status.FAILED: "failed"}.get(table.status(i), done[i]) for i in ids}
        for name, column in (("code", "code"), ("error", "message"), ("decoder", "decoder")):
            texts[name] |= {i: str(v) or None for i, v in zip(ids, table.read(column, ids), strict=True)}
    write_values(dataset, run, "status", {chosen.sample_ids[i]: word for i, word in words.items()})
    for name, values in texts.items():
        write_values(dataset, run, name, {chosen.sample_ids[i]: v for i, v in values.items()})


def _scored_ids(store: RunStore) -> set[str]:
    if not store.has_table("influence"):
        return set()
    scores = store.scores("motion")
    return {scores.train_ids[n] for n in np.flatnonzero(scored_clips(scores)).tolist()}


def write_gradients(dataset: Any, run: str, chosen: Chosen, table: SketchTables) -> None:
    """Loss and gradient norm (first timestep and noise, no mask) of the chosen clips."""
    ids = [clip_id for clip_id in chosen.ids if clip_id in table]
    for name, column in (("loss", "loss"), ("gradient_norm", "norm")):
        values = table.read(column, ids)[:, 0, 0]
        _write(dataset, run, name, chosen, ids, [float(v) if v == v else None for v in values])


def _write(dataset: Any, run: str, name: str, chosen: Chosen, ids: list[str], values: list[Any]) -> None:
    write_values(dataset, run, name, {chosen.sample_ids[i]: v for i, v in zip(ids, values, strict=True)})
