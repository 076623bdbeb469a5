"""What is in a store, and whether it is sound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from motive_fo.attribution.gradients import MASKED, UNMASKED
from motive_fo.errors import StoreError
from motive_fo.store.identity import fingerprint
from motive_fo.store.merge import tables_of
from motive_fo.store.place import place_of
from motive_fo.store.run_store import RunStore
from motive_fo.store.scores import ALIKE
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
        repaired: table -> rows that were marked as not computed, by a repair.
    """

    store: str
    rows: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    repaired: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Damage:
    """One thing that is wrong with a table.

    Attributes:
        text: what it is.
        ids: its clips, where computing them again mends it.
        unreadable: column and rows of a chunk that nothing can be read from, nor be written into.
    """

    text: str
    ids: Sequence[str] = ()
    unreadable: tuple[str, slice] | None = None


def store_info(path: str | Path) -> StoreInfo:
    """What a store holds. Raises ``StoreError`` where there is none."""
    store = RunStore(path)
    info = StoreInfo(str(path), store.shard)
    for name, table in tables_of(store):
        counts = np.bincount(table.states(table.ids), minlength=len(Status)).tolist()
        info.tables[name] = {status.name.lower(): counts[status] for status in Status if counts[status]}
        info.fingerprints[name] = fingerprint(table.identity)
    info.bytes = store.sizes()
    if store.has_table("influence"):
        info.scoring = store.scores("motion").shape
    return info


def verify_store(path: str | Path, *, repair: bool = False) -> StoreCheck:
    """Read everything once: checksums, rows that say they are done and hold nothing, repeated and orphaned rows.

    Args:
        repair: mark the damaged rows as not computed, so that the next run of the step computes these and no others.

    Raises:
        StoreError: there is no store, or it is to be repaired while another process writes to it.
    """
    if repair and not place_of(path).is_there():
        raise StoreError(f"there is no store at {path}")
    with RunStore(path, write=repair) as store:
        check = StoreCheck(str(path))
        found: dict[str, Table] = {}
        for name, table in _opened(store, check):
            found[name] = table
            check.rows += len(table)
            damages = list(_damages(table))
            check.problems += [f"{name}: {damage.text}" for damage in damages]
            waiting = int((table.states(table.ids) == Status.PENDING).sum())
            if waiting:
                check.notes.append(f"{name}: {waiting} of {len(table)} clips are not computed yet")
            again = {clip_id for damage in damages for clip_id in damage.ids}
            if repair and again:
                unreadable = [damage.unreadable for damage in damages if damage.unreadable]
                table.discard([clip_id for clip_id in table.ids if clip_id in again], unreadable)
                check.repaired[name] = len(again)
        _check_orphans(store, found, check)
        _check_scores(store, check)
        for leftover in store.leftovers():
            check.notes.append(f"{leftover} was left by a step that was killed; the next one removes it")
    return check


def _opened(store: RunStore, check: StoreCheck) -> Iterator[tuple[str, Table]]:
    try:
        yield from tables_of(store)
    except StoreError:
        raise
    except Exception as error:  # a damaged index or attribute: zarr and the disk say it in many ways
        check.problems.append(f"a table cannot be opened: {_sentence(error)}")


def _damages(table: Table) -> Iterator[_Damage]:
    twice = [clip_id for clip_id, count in Counter(table.ids).items() if count > 1]
    if twice:
        yield _Damage(f"{len(twice)} clips have several rows ({_listing(twice)})")
    if len(table.unique_ids) < len(table.ids):
        return  # rows cannot be told apart by their ids
    bad: dict[str, list[str]] = {}
    keys = []
    for first in range(0, len(table), _BLOCK):
        ids = table.ids[first : first + _BLOCK]
        values = {}
        for column in table.columns:
            try:
                values[column] = table.read(column, ids)
            except Exception:  # as above
                yield from _unreadable(table, column, first, first + len(ids))
        states = table.states(ids)
        for what, wrong in _wrong_rows(values, states):
            bad.setdefault(what, []).extend(ids[n] for n in np.flatnonzero(wrong).tolist())
        if "sketch" in values:
            keys.append(_keys(values["sketch"], states))
    for what, ids in bad.items():
        if ids:
            yield _Damage(f"{len(ids)} clips {what} ({_listing(ids)})", ids)
    if keys and (alike := _alike(table, np.concatenate(keys))):
        yield _Damage(f"{len(alike)} clips have the sketch of another clip ({_listing(alike)})")


def _unreadable(table: Table, column: str, first: int, last: int) -> Iterator[_Damage]:
    """The chunks of a column that cannot be read, among some rows."""
    for rows in table.chunks(column, first, last):
        ids = table.ids[rows]
        try:
            table.read(column, ids)
        except Exception as error:  # as above
            text = f"column {column}, rows {rows.start} to {rows.stop - 1}: {_sentence(error)}"
            yield _Damage(text, ids, (column, rows))


def _wrong_rows(values: dict[str, Any], states: Any) -> Iterator[tuple[str, Any]]:
    done, static = states == Status.DONE, states == Status.STATIC
    yield "have a status that does not exist", states > max(Status)
    if "code" in values:
        yield "failed without a reason", (states == Status.FAILED) & (values["code"] == "")
    if "mean" in values:
        yield "are done and have no motion: a chunk is missing", done & ~np.isfinite(values["mean"])
    for name in ("sketch", "norm"):
        if name not in values:
            continue
        value_N2D = values[name].reshape(len(states), 2, -1)
        finite_N2, zero_N2 = np.isfinite(value_N2D).all(2), (value_N2D == 0).all(2)
        unmasked, masked = finite_N2[:, UNMASKED], finite_N2[:, MASKED]
        yield (
            f"are done and have no finite {name}: a chunk is missing",
            (done & ~(masked & unmasked)) | (static & ~unmasked),
        )
        yield f"are done and have a {name} of zeros", (done & zero_N2.any(1)) | (static & zero_N2[:, UNMASKED])


def _keys(sketch_N2D: Any, states: Any) -> Any:
    """The beginning of each sketch as 8 bytes; 0 where there is none. Equal sketches have equal ones."""
    start = np.ascontiguousarray(sketch_N2D[:, UNMASKED]).view(np.uint8)[:, :8]
    known = np.isin(states, (Status.DONE, Status.STATIC)) & np.isfinite(sketch_N2D[:, UNMASKED]).all(1)
    keys = np.ascontiguousarray(start).view(np.uint64)[:, 0]
    return np.where(known & (sketch_N2D[:, UNMASKED] != 0).any(1), keys, np.uint64(0))


def _alike(table: Table, keys_N: Any) -> list[str]:
    """Clips whose sketch an earlier clip has to the last bit: nothing tells the two apart."""
    order = np.argsort(keys_N, kind="stable")
    same = (np.diff(keys_N[order]) == 0) & (keys_N[order[1:]] != 0)
    found = []
    for n in np.flatnonzero(same).tolist():
        one, other = sorted(order[n : n + 2].tolist())
        sketch_22D = table.read("sketch", [table.ids[one], table.ids[other]])
        if np.array_equal(sketch_22D[0, UNMASKED], sketch_22D[1, UNMASKED]):
            found.append(table.ids[other])
    return found


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


def _check_scores(store: RunStore, check: StoreCheck) -> None:
    """Scores that cannot be read, or that rank nothing."""
    if not store.has_table("influence"):
        return
    for kind in ("motion", "whole"):
        try:
            rows = store.scores(kind)
            spreads = {rows.query_ids[q]: _spread(row) for q, row in enumerate(rows)}
        except Exception as error:  # as above
            check.problems.append(f"influence/{kind}: {_sentence(error)}; score it again (motive influence)")
            continue
        empty = [query for query, spread in spreads.items() if spread is None]
        alike = [query for query, spread in spreads.items() if spread is not None and spread <= ALIKE]
        if empty:
            check.problems.append(f"influence/{kind}: {len(empty)} queries have no score ({_listing(empty)})")
        if alike and rows.shape[1] > 1:
            check.problems.append(
                f"influence/{kind}: {len(alike)} queries give every clip the same score ({_listing(alike)})"
            )


def _spread(row_N: Any) -> float | None:
    known = row_N[np.isfinite(row_N)]
    return float(known.max() - known.min()) if len(known) else None


def _listing(ids: list[str]) -> str:
    return ", ".join(ids[:_SHOWN]) + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
