"""Does what a run claims hold together? Its store by itself, its dataset against the store, its record against both."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from motive_fo.dataset.captions import caption_field
from motive_fo.dataset.choose import records_of
from motive_fo.dataset.connect import fiftyone, load_dataset
from motive_fo.dataset.fields import strangers
from motive_fo.dataset.motion_report import motion_settings
from motive_fo.dataset.ownership import notice, open_store
from motive_fo.dataset.run_record import RunRecord, load_run
from motive_fo.dataset.stale import scored_before_gradients, stale_clips, stale_sentence
from motive_fo.dataset.toy_model import toy_notes
from motive_fo.errors import InputError
from motive_fo.pipeline.refusals import outlier_sentence, outlying_gradients
from motive_fo.store.inspection import verify_store
from motive_fo.store.merge import tables_of
from motive_fo.store.run_store import RunStore
from motive_fo.store.sketches import SketchTables
from motive_fo.store.table import Status, Table

_KNOWN: Final = (Status.DONE, Status.STATIC)
_AGAIN: Final = "run the step again"


@dataclass(frozen=True)
class Check:
    """One line of the answer, with the way out where there is something to do."""

    level: Literal["ok", "warn", "fail"]
    subject: str
    text: str


def check_run(dataset: Any, run: str) -> list[Check]:
    """Everything that can be wrong with a run without anybody noticing.

    Args:
        dataset: a FiftyOne dataset.

    Raises:
        MotiveError: there is no such run, or its store cannot be opened at all.
    """
    record = load_run(dataset, run)
    store = open_store(record)
    parts: list[tuple[str, Callable[[], list[Check]]]] = [
        ("owner", lambda: [_owner(record)]),
        ("store", lambda: _store(record.store)),
        ("model", lambda: [Check("warn", "model", note) for note in toy_notes(dataset, record)]),
        ("gradients", lambda: [_outliers(store)]),
        ("dataset and store", lambda: _told("dataset and store", _dataset_faults(dataset, record, store))),
        ("record", lambda: _told("record", _record_faults(dataset, record, store))),
    ]
    checks = []
    for subject, part in parts:
        try:
            checks += part()
        except Exception as error:  # damage shows as whatever the reader of it raises
            text = " ".join(str(error).split())[:200]
            checks.append(Check("fail", subject, f"cannot be read ({type(error).__name__}: {text})"))
    return checks


def _owner(record: RunRecord) -> Check:
    sentence = notice(record)
    return Check("warn" if sentence else "ok", "owner", sentence or "the store is the run's own")


def _told(subject: str, faults: list[str]) -> list[Check]:
    return [Check("fail" if faults else "ok", subject, "; ".join(faults) or "as it should be")]


def _store(path: str) -> list[Check]:
    """The store by itself, with the way out."""
    found = verify_store(path)
    checks = [Check("warn", "store", note) for note in found.notes]
    for problem in found.problems:
        text = f"{problem}. Mark what is damaged as not computed (motive store verify {path} --repair), then {_AGAIN}"
        checks.append(Check("fail", "store", text))
    return checks or [Check("ok", "store", f"{found.rows} rows read, sound")]


def _outliers(store: RunStore) -> Check:
    if not store.has_table("train"):
        return Check("ok", "gradients", "none computed yet")
    sketches = store.sketches("train")
    ids = [clip_id for clip_id in sketches.ids if sketches.status(clip_id) in _KNOWN]
    if found := outlying_gradients(ids, sketches.read("norm", ids)):
        return Check("warn", "gradients", outlier_sentence(found, len(ids)))
    return Check("ok", "gradients", f"no outlying length among {len(ids)}")


def _dataset_faults(dataset: Any, record: RunRecord, store: RunStore) -> list[str]:
    """Fields that say something else than the store, and rows that belong to no sample."""
    faults: list[str] = []
    chosen = records_of(dataset)
    ids = set(chosen.ids)
    if record.query_dataset and fiftyone().dataset_exists(record.query_dataset):
        ids |= set(records_of(load_dataset(record.query_dataset)).ids)
    for name, table in tables_of(store):
        orphans = [clip_id for clip_id in table.ids if clip_id not in ids]
        if orphans:
            faults.append(
                f"{len(orphans)} rows of {name} belong to no sample ({orphans[0]}): harmless, delete the run "
                "and compute it again to be rid of them"
            )
    if stale := stale_clips(dataset, record, store):
        faults.append(stale_sentence(stale, "clips"))
    foreign = strangers(dataset, record.run, store)
    if foreign:
        faults.append(
            f"{len(foreign)} samples bear figures that this run did not compute ({next(iter(foreign))}): {_AGAIN}, "
            "which empties them"
        )
    for field, column, table_name in (("motion_mean", "mean", "motion"), ("gradient_norm", "norm", "train")):
        if not store.has_table(table_name):
            continue
        source: Table | SketchTables = store.table("motion") if table_name == "motion" else store.sketches("train")
        known = [clip_id for clip_id in chosen.ids if clip_id in source]
        stored = source.read(column, known).reshape(len(known), -1)[:, 0] if known else np.empty(0)
        said = dict(zip(chosen.ids, dataset.values(f"{record.run}.{field}"), strict=True))
        wrong = [i for i, value in zip(known, stored, strict=True) if not _same(said[i], float(value))]
        if wrong:
            faults.append(
                f"field {record.run}.{field} of {len(wrong)} samples is not the store's ({wrong[0]}): {_AGAIN}"
            )
    return faults


def _same(said: float | None, stored: float) -> bool:
    return (said is None) == (stored != stored) and (said is None or abs(said - stored) <= 1e-6 * abs(stored))


def _record_faults(dataset: Any, record: RunRecord, store: RunStore) -> list[str]:
    """Settings that are not those the store was computed with, and things the record names that are gone."""
    faults = []
    if store.has_table("motion") and (stored := store.table("motion").identity):
        wanted = motion_settings(record).identity()
        differing = [key for key in stored if key in wanted and _plain(stored[key]) != _plain(wanted[key])]
        if differing:
            faults.append(
                f"the record's settings of {', '.join(differing)} are not those of the store: compute again "
                "under another --run"
            )
    for role in ("train", "query"):
        claimed = record.steps.get(f"{role} gradients", {}).get("clips", 0)
        rows = len(store.sketches(role).ids) if store.has_table(role) else 0
        if rows < claimed:
            faults.append(f"the record says {claimed} clips have {role} gradients, the store has {rows}: {_AGAIN}")
    if sentence := scored_before_gradients(record):
        faults.append(sentence)
    try:
        caption_field(dataset, record)
    except InputError as error:
        faults.append(str(error))
    gone = [view for view in record.views if not dataset.has_saved_view(view)]
    if gone:
        faults.append(f"the saved view {gone[0]!r} is gone: {_AGAIN}")
    return faults


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))
