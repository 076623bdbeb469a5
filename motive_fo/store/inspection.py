"""What is in a store, and whether it is sound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from motive_fo.attribution.gradients import MASKED, UNMASKED
from motive_fo.errors import StoreDamageError, StoreError
from motive_fo.store.damage import Damage, listing, sentence
from motive_fo.store.identity import fingerprint, flatten
from motive_fo.store.merge import tables_of
from motive_fo.store.place import place_of
from motive_fo.store.run_store import ROLES, TABLES, RunStore
from motive_fo.store.scores import ALIKE
from motive_fo.store.table import Status, Table


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
        damaged: table -> clips whose rows are damaged.
        repaired: table -> rows that were marked as not computed, by a repair.
    """

    store: str
    rows: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    damaged: dict[str, list[str]] = field(default_factory=dict)
    repaired: dict[str, int] = field(default_factory=dict)

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
    info.bytes = store.sizes()
    if store.has_table("influence"):
        info.scoring = store.scores("motion").shape
    return info


def verify_store(path: str | Path, *, repair: bool = False) -> StoreCheck:
    """Read everything once: lost files, checksums, rows that say they are done and hold nothing, repeated and orphaned
    rows.

    Args:
        repair: mark the damaged rows as not computed, so that the next run of the step computes these and no others.

    Raises:
        StoreError: there is no store, or it is to be repaired while another process writes to it.
    """
    if repair and not place_of(path).is_there():
        raise StoreError(f"there is no store at {path}")
    with RunStore(path, write=repair) as store:
        check = StoreCheck(str(path))
        lost = store.lost_files()
        found = _opened(store, check, repair)
        for name, table in found.items():
            check.rows += len(table)
            damages = list(_damages(table))
            texts = [f"{name}: {_told(damage, name, found)}" for damage in damages]
            if repair:
                damages = _mended(store, name, damages, check)
            check.problems += texts
            waiting = int((table.states(table.ids) == Status.PENDING).sum())
            if waiting:
                check.notes.append(f"{name}: {waiting} of {len(table)} clips are not computed yet")
            again = {clip_id for damage in damages for clip_id in damage.ids}
            if again:
                check.damaged[name] = [clip_id for clip_id in table.ids if clip_id in again]
            if repair and (marked := _discard(store.table(name, damaged=True), damages)):
                check.repaired[name] = marked
        check.problems += [f"{file} is missing" for file in lost if not any(file in text for text in check.problems)]
        for part in (_check_settings, _check_orphans, _check_scores, _check_parameters):
            try:
                part(store, found, check)
            except StoreError as error:
                check.problems.append(sentence(error))
        for leftover in store.leftovers():
            check.notes.append(f"{leftover} was left by a step that was killed; the next one removes it")
    return check


def _opened(store: RunStore, check: StoreCheck, repair: bool) -> dict[str, Table]:
    """The tables as far as they can be opened."""
    found: dict[str, Table] = {}
    names: list[str] = []
    for part in (*TABLES, *ROLES):
        try:
            names += store.table_names([part])
        except StoreDamageError as error:
            check.problems.append(sentence(error))
            if repair:
                store.forget_description(part)
                check.notes.append(f"{part}: its zarr.json was removed; the gradient step writes it again")
    for name in names:
        try:
            found[name] = store.table(name, damaged=True)
        except StoreDamageError as error:
            check.problems.append(f"{name}: {sentence(error)}")
            if repair and "/" in name:
                with suppress(StoreDamageError):  # nothing is left to write it from
                    store.describe_again(name)
                    found[name] = store.table(name, damaged=True)
                    check.notes.append(f"{name}: its zarr.json was written again")
    return found


def _damages(table: Table) -> Iterator[Damage]:
    yield from table.damages
    if any(damage.column for damage in table.damages):
        return  # neither rows nor their number are known
    twice = [clip_id for clip_id, count in Counter(table.ids).items() if count > 1]
    if twice:
        yield Damage(f"{len(twice)} clips have several rows ({listing(twice)})")
        return  # rows cannot be told apart by their ids
    bad: dict[str, list[str]] = {}
    every = table.states(table.ids)
    bad["have a status that does not exist"] = [table.ids[n] for n in np.flatnonzero(every > max(Status)).tolist()]
    keys = np.zeros(len(table), np.uint64)
    for column in table.columns:
        if lost := [damage for damage in table.lost([column]) if damage.column]:
            yield from lost
            continue
        for rows, values, damage in table.examine(column):
            if damage is not None:
                yield damage
            if values is None:
                continue
            ids, states = table.row_ids(rows), table.row_states(rows)
            for what, wrong in _wrong_rows(column, values, states):
                bad.setdefault(what, []).extend(ids[n] for n in np.flatnonzero(wrong).tolist())
            if column == "sketch":
                keys[rows] = _keys(values.astype(np.float32), states)
    for what, ids in bad.items():
        if ids:
            yield Damage(f"{len(ids)} clips {what} ({listing(ids)})", ids)
    if alike := _alike(table, keys):
        yield Damage(f"{len(alike)} clips have the sketch of another clip ({listing(alike)})")


def _wrong_rows(column: str, values: Any, states: Any) -> Iterator[tuple[str, Any]]:
    done, static = states == Status.DONE, states == Status.STATIC
    if column == "code":
        yield "failed without a reason", (states == Status.FAILED) & (values == "")
    if column == "mean" and values.ndim == 1:
        yield "are done and have no motion", done & ~np.isfinite(values)
    if column in ("sketch", "norm"):
        value_N2D = values.reshape(len(states), 2, -1)
        finite_N2, zero_N2 = np.isfinite(value_N2D).all(2), (value_N2D == 0).all(2)
        unmasked, masked = finite_N2[:, UNMASKED], finite_N2[:, MASKED]
        yield f"are done and have no finite {column}", (done & ~(masked & unmasked)) | (static & ~unmasked)
        yield f"are done and have a {column} of zeros", (done & zero_N2.any(1)) | (static & zero_N2[:, UNMASKED])


def _told(damage: Damage, name: str, found: Mapping[str, Table]) -> str:
    """What is wrong; of lost ids, whose they were, as far as the other tables know."""
    if damage.unreadable is None or damage.unreadable[0] != "id":
        return str(damage)
    role = name.partition("/")[0]
    others = {other: table.unique_ids for other, table in found.items() if other != name}
    beside = set[str]().union(*(ids for other, ids in others.items() if other.partition("/")[0] == role))
    of_roles = set[str]().union(*(ids for other, ids in others.items() if other.partition("/")[0] in {*ROLES} - {role}))
    known = beside or (of_roles if role not in ROLES else others.get("motion", set()) - of_roles)
    gone = sorted(known - found[name].unique_ids)
    return f"{damage}, of {listing(gone)}" if gone else str(damage)


def _mended(store: RunStore, name: str, damages: list[Damage], check: StoreCheck) -> list[Damage]:
    """Write lost descriptions of arrays again. Returns what then is damaged."""
    columns = [damage.column for damage in damages if damage.column]
    for column in columns:
        store.table(name, damaged=True).make_again(column)
        check.notes.append(f"{name}: the zarr.json of column {column} was written again")
    return list(_damages(store.table(name, damaged=True))) if columns else damages


def _discard(table: Table, damages: Sequence[Damage]) -> int:
    """Mark damaged rows as not computed. Returns how many."""
    unreadable = [damage.unreadable for damage in damages if damage.unreadable]
    again = {clip_id for damage in damages for clip_id in damage.ids}
    return table.discard([clip_id for clip_id in table.ids if clip_id in again], unreadable)


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
        try:
            sketch_22D = table.read_places("sketch", np.asarray([one, other]))
        except StoreDamageError:  # of the exponents, which is told by itself
            continue
        if np.array_equal(sketch_22D[0, UNMASKED], sketch_22D[1, UNMASKED]):
            found += table.row_ids(slice(other, other + 1))
    return found


def _check_orphans(store: RunStore, tables: Mapping[str, Table], check: StoreCheck) -> None:
    """Clips that one part knows and another that it rests on does not."""
    motion = tables.get("motion")
    for role in ("query", "train"):
        parts = {name: table for name, table in tables.items() if name.startswith(f"{role}/")}
        every = {clip_id for table in parts.values() for clip_id in table.ids}
        for name, table in parts.items():
            absent = sorted(every - table.unique_ids)
            if absent:
                check.notes.append(f"{name}: {len(absent)} clips have rows at other timesteps only ({listing(absent)})")
        orphans = sorted(every - motion.unique_ids) if motion is not None else []
        if orphans:
            check.problems.append(f"{role}: {len(orphans)} clips have gradients and no motion ({listing(orphans)})")
        if not store.has_table("influence") or not parts:
            continue
        try:
            scored = store.scores("motion")
        except StoreDamageError:  # told by itself
            continue
        gone = sorted(set(scored.train_ids if role == "train" else scored.query_ids) - every)
        if gone:
            check.problems.append(f"influence: {len(gone)} clips of the scoring have no gradients ({listing(gone)})")


def _check_settings(store: RunStore, tables: Mapping[str, Table], check: StoreCheck) -> None:
    """Settings of tables of sketches that are not those of all sketches of their role."""
    for name, table in tables.items():
        role = name.partition("/")[0]
        if role == name or not table.identity:
            continue
        shared, own = flatten(store.sketch_identity(role)), flatten(table.identity)
        unlike = [key for key in sorted({*shared, *own} - {"timestep", "noise"}) if shared.get(key) != own.get(key)]
        if unlike:
            check.problems.append(f"{name}: its settings are not those of all {role} sketches ({listing(unlike)})")


def _check_parameters(store: RunStore, tables: Mapping[str, Table], check: StoreCheck) -> None:
    """Names and sizes that cannot be read."""
    if store.has_table("parameters"):
        store.read_parameters()


def _check_scores(store: RunStore, tables: Mapping[str, Table], check: StoreCheck) -> None:
    """Scores that cannot be read, or that rank nothing."""
    if not store.has_table("influence"):
        return
    for kind in ("motion", "whole"):
        try:
            rows = store.scores(kind)
            spreads = {rows.query_ids[q]: _spread(row) for q, row in enumerate(rows)}
        except Exception as error:  # as above
            again = "" if isinstance(error, StoreError) else "; score it again (motive influence)"
            check.problems.append(f"influence/{kind}: {sentence(error)}{again}")
            continue
        empty = [query for query, spread in spreads.items() if spread is None]
        alike = [query for query, spread in spreads.items() if spread is not None and spread <= ALIKE]
        if empty:
            check.problems.append(f"influence/{kind}: {len(empty)} queries have no score ({listing(empty)})")
        if alike and rows.shape[1] > 1:
            check.problems.append(
                f"influence/{kind}: {len(alike)} queries give every clip the same score ({listing(alike)})"
            )
    try:
        for rows in store.scores_without():
            for _ in rows:
                pass
    except StoreError as error:
        check.problems.append(sentence(error))


def _spread(row_N: Any) -> float | None:
    known = row_N[np.isfinite(row_N)]
    return float(known.max() - known.min()) if len(known) else None
