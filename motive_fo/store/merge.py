"""Several stores of one run, such as those of a job array, joined into one.

The merged store has the rows that one process would have written, in the order of the shards. Nothing is merged unless
everything can be: settings, completeness and repeated clips are checked before the first row is written. Merging again
after an interruption goes on: rows that are there already, and are the same, are left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from motive_fo.errors import StoreError
from motive_fo.store.address import is_url
from motive_fo.store.identity import require_equal
from motive_fo.store.place import place_of
from motive_fo.store.run_store import ROLES, TABLES, RunStore
from motive_fo.store.shards import Shard
from motive_fo.store.table import Status, Table

_BLOCK: Final = 1024
_SETTLED: Final = (Status.DONE, Status.STATIC)


@dataclass
class MergeReport:
    """What was joined.

    Attributes:
        store: the merged store.
        merged: stores that were read.
        added: table -> rows that were written.
        present: table -> rows that were there already, with the same numbers.
        taken_up: runs other than the target's own whose rows it took up.
    """

    store: str
    merged: list[str]
    added: dict[str, int] = field(default_factory=dict)
    present: dict[str, int] = field(default_factory=dict)
    taken_up: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def merge_stores(target: str | Path, sources: Sequence[str | Path], *, partial: bool = False) -> MergeReport:
    """Join the rows of stores of one run into ``target``, which is made where it is missing. The sources stay.

    The target stays its owner's; a new one is that of the run whose stores all of the sources are, else nobody's yet.

    Args:
        partial: merge what is there, although shards are missing or some of their clips are not computed yet.

    Raises:
        StoreMismatchError: a store was computed with other settings.
        StoreDamageError: a chunk of a store is lost or altered.
        StoreError: a store is missing, incomplete or being written to, or a clip has other numbers in two of them.
    """
    paths = [str(source) for source in sources]
    if not paths:
        raise StoreError("there is nothing to merge: name the stores of the shards")
    if len({path if is_url(path) else Path(path).resolve() for path in (str(target), *paths)}) <= len(paths):
        raise StoreError("a store is named twice: name the merged store once, then each shard once")
    missing = [path for path in paths if not place_of(path).is_there()]
    if missing:
        raise StoreError(f"there is no store at {missing[0]}: name the folders that the shards wrote")
    with ExitStack() as held:
        opened = [held.enter_context(RunStore(path, write=True)) for path in paths]  # nobody writes meanwhile
        _require_all_shards(opened, partial)
        _require_nothing_lost(opened)
        _require_one_run(opened)
        _require_complete(opened, partial)
        _require_same_rows(opened)
        into = held.enter_context(RunStore(target, write=True))
        if into.has_table("motion") or into.has_table("train"):
            _require_one_run([into, *opened])
            _require_same_rows([into, *opened])
        report = MergeReport(str(target), paths)
        for store in opened:
            _add(into, store, report)
        runs = {store.owner.run: store.owner for store in opened if store.owner is not None}
        if into.owner is None and len(runs) == 1 and all(store.owner is not None for store in opened):
            into.note_owner(next(iter(runs.values())))
        report.taken_up = [str(each) for run, each in runs.items() if into.owner is None or run != into.owner.run]
    return report


def tables_of(store: RunStore) -> Iterator[tuple[str, Table]]:
    """Every table of a store by its name, to read from."""
    return ((name, store.table(name)) for name in store.table_names())


def _require_all_shards(stores: Sequence[RunStore], partial: bool) -> None:
    shards = {Shard.parse(store.shard): store for store in stores if store.shard}
    counts = {shard.count for shard in shards}
    if len(counts) > 1:
        raise StoreError(
            f"these are shards of runs split in {' and '.join(map(str, sorted(counts)))} parts: name one's"
        )
    absent = [n for n in range(1, max(counts, default=0) + 1) if n not in {shard.number for shard in shards}]
    if absent and not partial:
        raise StoreError(
            f"shard {absent[0]}/{max(counts)} is not among the stores ({len(absent)} are missing): name all of them, "
            "or merge what there is (--partial)"
        )


def _require_nothing_lost(stores: Sequence[RunStore]) -> None:
    for store in stores:
        for _, table in tables_of(store):
            table.require_whole()


def _require_one_run(stores: Sequence[RunStore]) -> None:
    first: dict[str, tuple[RunStore, Table]] = {}
    for store in stores:
        for name, table in tables_of(store):
            if not table.identity:
                continue
            known, its = first.setdefault(name, (store, table))
            require_equal(
                its.identity, table.identity, f"{name} of {known.place.name}, unlike that of {store.place.name},"
            )


def _require_complete(stores: Sequence[RunStore], partial: bool) -> None:
    for store in stores:
        for name, table in tables_of(store):
            waiting = int((table.states(table.ids) == Status.PENDING).sum())
            if waiting and not partial:
                raise StoreError(
                    f"{store.place.name} is incomplete: {waiting} of {len(table)} clips have no row in {name} yet. Run "
                    "its shard again, which computes only those, or merge what there is (--partial)"
                )


def _require_same_rows(stores: Sequence[RunStore]) -> None:
    """Clips that are in several stores must be the same in all."""
    seen: dict[str, dict[str, tuple[Table, RunStore]]] = {}
    for store in stores:
        for name, table in tables_of(store):
            known = seen.setdefault(name, {})
            twice: dict[int, list[str]] = {}
            holders: dict[int, tuple[Table, RunStore]] = {}
            for clip_id in table.ids:
                if table.status(clip_id) not in _SETTLED:
                    continue
                if clip_id in known:
                    twice.setdefault(id(known[clip_id][0]), []).append(clip_id)
                    holders[id(known[clip_id][0])] = known[clip_id]
                else:
                    known[clip_id] = (table, store)
            for key, ids in twice.items():
                other, whose = holders[key]
                unlike = _first_difference(other, table, ids)
                if unlike:
                    raise StoreError(
                        f"clip {unlike!r} has other numbers in {whose.place.name} than in {store.place.name} ({name}): "
                        "its file was changed in between. Compute one of the two again, then merge"
                    )


def _first_difference(one: Table, other: Table, ids: Sequence[str]) -> str | None:
    columns = [name for name in one.columns if name in other.columns and name not in ("mtime_ns", "decoder", "message")]
    for first in range(0, len(ids), _BLOCK):
        block = ids[first : first + _BLOCK]
        for name in columns:
            a, b = one.read(name, block), other.read(name, block)
            same = (a == b) | ((a != a) & (b != b))
            unlike = np.flatnonzero(~np.asarray(same, np.bool_).reshape(len(block), -1).all(1))
            if len(unlike):
                return block[int(unlike[0])]
    return None


def _add(into: RunStore, store: RunStore, report: MergeReport) -> None:
    if store.has_table("parameters"):
        into.keep_parameters(store.read_parameters())
    pairs: list[tuple[str, Table, Table]] = []
    for name in (name for name in store.table_names() if name in TABLES):
        its = store.table(name)
        pairs.append((name, its, into.table(name, its.own_columns, its.identity)))
    for role in ROLES:
        if store.has_table(role) and store.stored_samples(role):
            in_use = [s for s in store.sketches(role).samples if s in store.stored_samples(role)]
            others = [s for s in store.stored_samples(role) if s not in in_use]
            sketches = store.sketches(role, [*in_use, *others])
            columns = next(iter(sketches.tables.values())).own_columns
            ours = into.sketches(role, sketches.samples, columns, sketches.identity, sketches.groups)
            pairs += [(f"{role}/{s.table}", table, ours.tables[s]) for s, table in sketches.tables.items()]
            into.sketches(role, in_use, columns, sketches.identity, sketches.groups)  # scored with these alone
    for name, its, target in pairs:
        for who in its.provenance:
            target.claim(its.identity, who)
        settled = its.states(its.ids), target.states(its.ids)
        better = np.isin(settled[0], _SETTLED) & ~np.isin(settled[1], _SETTLED)
        failed = (settled[0] == Status.FAILED) & (settled[1] == Status.PENDING)
        ids = [its.ids[n] for n in np.flatnonzero(better | failed).tolist()]
        for first in range(0, len(ids), _BLOCK):
            target.copy(its, ids[first : first + _BLOCK])
        report.added[name] = report.added.get(name, 0) + len(ids)
        report.present[name] = report.present.get(name, 0) + int((settled[1] != Status.PENDING).sum())
