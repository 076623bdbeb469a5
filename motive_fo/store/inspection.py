"""What is in a store, and whether it is sound."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from motive_fo.attribution.gradients import MASKED, UNMASKED
from motive_fo.errors import StoreError
from motive_fo.store.merge import tables_of
from motive_fo.store.run_store import RunStore
from motive_fo.store.table import Status, Table

_BLOCK: Final = 4096
_SHOWN: Final = 3


@dataclass
class StoreInfo:
    """What a store holds.

    Attributes:
        store: its folder.
        shard: which part of a run it is, ``2/8``; None for a whole one.
        tables: table -> status -> clips.
        fingerprints: table -> digest of the settings its rows were computed with; stores merge if these are equal.
        bytes: part of the store -> bytes on disk.
        scoring: queries and training clips of the last scoring; None before.
    """

    store: str
    shard: str | None
    tables: dict[str, dict[str, int]] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    scoring: tuple[int, int] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass
class StoreCheck:
    """What is wrong with a store.

    Attributes:
        store: its folder.
        rows: rows that were read.
        problems: what spoils results, a sentence each; a sound store has none.
        notes: what is only unfinished or left over.
    """

    store: str
    rows: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def store_info(path: str | Path) -> StoreInfo:
    """What a store holds. Raises ``StoreError`` where there is none."""
    store = RunStore(path)
    info = StoreInfo(str(path), store.shard)
    for name, table in tables_of(store):
        counts = np.bincount(table.states(table.ids), minlength=len(Status)).tolist()
        info.tables[name] = {status.name.lower(): counts[status] for status in Status if counts[status]}
        info.fingerprints[name] = fingerprint(table.identity)
    for part in sorted(Path(path).iterdir()):
        if part.is_dir():
            info.bytes[part.name] = sum(file.stat().st_size for file in part.rglob("*") if file.is_file())
    if store.has_table("influence"):
        info.scoring = store.scores("motion").shape
    return info


def fingerprint(identity: dict[str, Any]) -> str:
    """Digest of settings: twelve hexadecimal digits."""
    return hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=6).hexdigest()


def verify_store(path: str | Path) -> StoreCheck:
    """Read everything once: checksums, rows that say they are done and hold nothing, repeated and orphaned rows.

    Raises:
        StoreError: there is no store.
    """
    store = RunStore(path)
    check = StoreCheck(str(path))
    found: dict[str, Table] = {}
    for name, table in _opened(store, check):
        found[name] = table
        check.rows += len(table)
        check.problems += [f"{name}: {problem}" for problem in _problems(table, sketches="/" in name)]
        waiting = int((table.states(table.ids) == Status.PENDING).sum())
        if waiting:
            check.notes.append(f"{name}: {waiting} of {len(table)} clips are not computed yet")
    _check_orphans(store, found, check)
    for leftover in sorted([*Path(path).glob("influence-*"), *Path(path).glob("parameters-*")]):
        check.notes.append(f"{leftover.name} was left by a step that was killed; the next one removes it")
    return check


def _opened(store: RunStore, check: StoreCheck) -> Iterator[tuple[str, Table]]:
    try:
        yield from tables_of(store)
    except StoreError:
        raise
    except Exception as error:  # a damaged index or attribute: zarr and the disk say it in many ways
        check.problems.append(f"a table cannot be opened: {_sentence(error)}")


def _problems(table: Table, *, sketches: bool) -> Iterator[str]:
    twice = [clip_id for clip_id, count in Counter(table.ids).items() if count > 1]
    if twice:
        yield f"{len(twice)} clips have several rows ({_listing(twice)})"
    if len(table.unique_ids) < len(table.ids):
        return  # rows cannot be told apart by their ids
    bad: dict[str, list[str]] = {}
    for first in range(0, len(table), _BLOCK):
        ids = table.ids[first : first + _BLOCK]
        values = {}
        for column in table.columns:
            try:
                values[column] = table.read(column, ids)
            except Exception as error:  # as above
                yield f"column {column}, rows {first} to {first + len(ids) - 1}: {_sentence(error)}"
        states = table.states(ids)
        for what, wrong in _wrong_rows(values, states, sketches=sketches):
            bad.setdefault(what, []).extend(ids[n] for n in np.flatnonzero(wrong).tolist())
    for what, ids in bad.items():
        if ids:
            yield f"{len(ids)} clips {what} ({_listing(ids)})"


def _wrong_rows(values: dict[str, Any], states: Any, *, sketches: bool) -> Iterator[tuple[str, Any]]:
    done, static = states == Status.DONE, states == Status.STATIC
    yield "have a status that does not exist", states > max(Status)
    if "code" in values:
        yield "failed without a reason", (states == Status.FAILED) & (values["code"] == "")
    if not sketches:
        if "mean" in values:
            yield "are done and have no motion: a chunk is missing", done & ~np.isfinite(values["mean"])
        return
    if "sketch" in values:
        finite_N2 = np.isfinite(values["sketch"]).all(2)
        zero_N2 = (values["sketch"] == 0).all(2)
        unmasked, masked = finite_N2[:, UNMASKED], finite_N2[:, MASKED]
        yield (
            "are done and have no finite sketch: a chunk is missing",
            (done & ~(masked & unmasked)) | (static & ~unmasked),
        )
        yield "are done and have a sketch of zeros", (done & zero_N2.any(1)) | (static & zero_N2[:, UNMASKED])


def _check_orphans(store: RunStore, tables: dict[str, Table], check: StoreCheck) -> None:
    """Clips that one part knows and another that it rests on does not."""
    motion = tables.get("motion")
    for role in ("query", "train"):
        parts = {name: table for name, table in tables.items() if name.startswith(f"{role}/")}
        every = {clip_id for table in parts.values() for clip_id in table.ids}
        for name, table in parts.items():
            absent = sorted(every - table.unique_ids)
            if absent:
                check.notes.append(
                    f"{name}: {len(absent)} clips have rows at other timesteps only ({_listing(absent)})"
                )
        orphans = sorted(every - motion.unique_ids) if motion is not None else []
        if orphans:
            check.problems.append(f"{role}: {len(orphans)} clips have gradients and no motion ({_listing(orphans)})")
        if not store.has_table("influence") or not parts:
            continue
        scored = store.scores("motion")
        gone = sorted(set(scored.train_ids if role == "train" else scored.query_ids) - every)
        if gone:
            check.problems.append(f"influence: {len(gone)} clips of the scoring have no gradients ({_listing(gone)})")
    if store.has_table("influence"):
        for kind in ("motion", "whole"):
            try:
                rows = store.scores(kind)
                empty = [rows.query_ids[q] for q, row in enumerate(rows) if not np.isfinite(row).any()]
            except Exception as error:  # as above
                check.problems.append(f"influence/{kind}: {_sentence(error)}")
                continue
            if empty:
                check.problems.append(f"influence/{kind}: {len(empty)} queries have no score ({_listing(empty)})")


def _listing(ids: list[str]) -> str:
    return ", ".join(ids[:_SHOWN]) + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
