"""Does what a run claims hold together? Its store by itself, its dataset against the store, its record against both."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import numpy as np

from motive_fo.dataset.choose import records_of
from motive_fo.dataset.connect import fiftyone, load_dataset
from motive_fo.dataset.motion_report import motion_settings
from motive_fo.dataset.run_record import RunRecord, load_run
from motive_fo.influence.selection import scored_clips
from motive_fo.pipeline.refusals import ScoreSpread, outlier_sentence, outlying_gradients
from motive_fo.store.run_store import RunStore
from motive_fo.store.sketches import SketchTables
from motive_fo.store.table import Status, Table

_KNOWN: Final = (Status.DONE, Status.STATIC)
_AGAIN: Final = "run the step again, which writes it anew"


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
    store = RunStore(record.store)
    parts: list[tuple[str, Callable[[], list[str] | Check]]] = [
        (name, partial(_table_faults, table)) for name, table in _tables(store).items()
    ]
    parts += [
        ("gradients", lambda: _outliers(store)),
        ("scores", lambda: _score_faults(store)),
        ("dataset and store", lambda: _dataset_faults(dataset, record, store)),
        ("record", lambda: _record_faults(dataset, record, store)),
    ]
    checks = []
    for subject, part in parts:
        try:
            found = part()
        except Exception as error:  # damage shows as whatever the reader of it raises
            found = [f"cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:200]}); {_AGAIN}"]
        if isinstance(found, Check):
            checks.append(found)
        else:
            checks.append(Check("fail" if found else "ok", subject, "; ".join(found) or "as it should be"))
    return checks


def _tables(store: RunStore) -> dict[str, Table]:
    tables = {"motion": store.table("motion")} if store.has_table("motion") else {}
    for role in ("train", "query"):
        if store.has_table(role):
            sketches = store.sketches(role)
            tables |= {f"{role}, {sample}": table for sample, table in sketches.tables.items()}
    return tables


def _table_faults(table: Table) -> list[str]:
    """Checksums (by reading), ids twice, and finished rows that hold nothing."""
    faults = []
    twice = [clip_id for clip_id, count in Counter(table.ids).items() if count > 1]
    if twice:
        faults.append(f"{len(twice)} ids have several rows ({twice[0]}): delete the run and compute it again")
    done = [clip_id for clip_id in table.ids if table.status(clip_id) in _KNOWN]
    for column in table.columns:
        values = table.read(column, table.ids)  # a damaged chunk raises here
        if column in ("sketch", "norm", "mean"):
            empty = _empty(values[[table.status(clip_id) in _KNOWN for clip_id in table.ids]])
            if empty.any():
                first = done[int(np.flatnonzero(empty)[0])]
                faults.append(f"{column}: {empty.sum()} finished rows hold no numbers ({first}): a chunk is missing")
    pending = len(table) - sum(table.status(clip_id) != Status.PENDING for clip_id in table.ids)
    if pending:
        faults.append(f"{pending} of {len(table)} rows are not computed: {_AGAIN}")
    return faults


def _empty(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Rows without one finite number, or with nothing but zeros in what is finite; a clip may be without a mask."""
    flat = values.reshape(len(values), -1)
    finite = np.isfinite(flat)
    if flat.shape[1] == 1:  # a motion of zero is one
        return np.asarray(~finite[:, 0])
    return np.asarray(~finite.any(1) | (np.where(finite, flat, 0) == 0).all(1))


def _outliers(store: RunStore) -> Check:
    if not store.has_table("train"):
        return Check("ok", "gradients", "none computed yet")
    sketches = store.sketches("train")
    ids = [clip_id for clip_id in sketches.ids if sketches.status(clip_id) in _KNOWN]
    if found := outlying_gradients(ids, sketches.read("norm", ids)):
        return Check("warn", "gradients", outlier_sentence(found, len(ids)))
    return Check("ok", "gradients", f"no outlying length among {len(ids)}")


def _score_faults(store: RunStore) -> list[str]:
    if not store.has_table("influence"):
        return []
    scores_QN, queries, train = store.read_scores("motion")
    faults = []
    spread = ScoreSpread(len(queries))
    spread.add(scores_QN)
    if alike := [query for query, same in zip(queries, spread.alike_Q, strict=True) if same]:
        faults.append(f"{len(alike)} queries give every clip the same score ({alike[0]}): score again without them")
    if not scored_clips(scores_QN).any():
        faults.append("no clip has a score for every query: score again (motive influence)")
    sketches = store.sketches("train")
    lost = [clip_id for clip_id in train if sketches.status(clip_id) == Status.PENDING]
    if lost:
        faults.append(f"{len(lost)} scored clips have no gradient in the store ({lost[0]}): {_AGAIN}")
    return faults


def _dataset_faults(dataset: Any, record: RunRecord, store: RunStore) -> list[str]:
    """Fields that say something else than the store, and rows that belong to no sample."""
    faults: list[str] = []
    chosen = records_of(dataset)
    ids = set(chosen.ids)
    if record.query_dataset and fiftyone().dataset_exists(record.query_dataset):
        ids |= set(records_of(load_dataset(record.query_dataset)).ids)
    for name, table in _tables(store).items():
        orphans = [clip_id for clip_id in table.ids if clip_id not in ids]
        if orphans:
            faults.append(
                f"{len(orphans)} rows of {name} belong to no sample ({orphans[0]}): harmless, delete the run "
                "and compute it again to be rid of them"
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
    gone = [view for view in record.views if not dataset.has_saved_view(view)]
    if gone:
        faults.append(f"the saved view {gone[0]!r} is gone: {_AGAIN}")
    return faults


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))
