"""A table of clips in Zarr: one row per clip, done or not done, whatever kills the process.

On disk, a group with one array per column, the row on the first axis:

=========== ============================================================================================
``id``      the clip's id; a row exists once its id is written, and keeps its place for ever
``status``  PENDING, DONE, STATIC or FAILED; written after everything else of the row
``code`` ``stage`` ``message``   why a row failed or is static; empty otherwise
``size`` ``mtime_ns`` ``content``  which version of the file the row was computed from
``decoder`` what decoded it
others      the numbers, as the table's columns say; vectors of float16 have their exponents beside them (``half``)
=========== ============================================================================================

and the attributes ``identity`` (must match), ``provenance`` (a list, newest last) and ``columns`` (name -> dtype and
shape of a row).

Why a kill loses nothing that was written: Zarr replaces a chunk file by renaming a complete one over it, the status is
written last, and a row that is computed again is marked PENDING first. Rows wait in memory for at most a few seconds
(``FLUSH_SECONDS``) before they are written, because writing one row costs as much as writing a thousand; a kill loses
those and they are computed again, to the same numbers.

The length of ``id`` is the number of rows. It is written last: after the other arrays have grown, and after the chunks
of the new rows' status and ids. What a kill leaves beyond it is written over. No array ever shrinks.

Why a lost file is never taken for rows that hold nothing: all chunks of ``id`` and ``status`` are there, and so are all
chunks of every column that have a row which is not PENDING, also those of fill values, which Zarr would leave out. A
table without the attribute ``columns`` is of an earlier version, which let Zarr leave them out: there, a chunk must be
there that has a row whose status says that it holds something, and the first opening for writing adds the others.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import zarr

from motive_fo.errors import StoreDamageError, StoreError
from motive_fo.store.chunks import (
    EVERY_CHUNK,
    NUMBERS,
    TEXTS,
    absent,
    children,
    every_chunk,
    expect_rows,
    holds_anything,
    listed,
    read_rows,
    read_texts,
    remove,
)
from motive_fo.store.damage import Damage, damaged_part, damaged_table, is_damage, part_of, sentence
from motive_fo.store.half import pack, unpack
from motive_fo.store.identity import Identity, require_equal

CHUNK_ROWS: Final = 1024
CHUNK_BYTES: Final = 1 << 22  # a row that is added rewrites its chunk: wide rows lie in fewer to a chunk
FLUSH_SECONDS: Final = 3.0
_RUN: Final = 256  # so many ids are looked for as one run of rows first


class Status(IntEnum):
    """State of a row."""

    PENDING = 0
    DONE = 1
    STATIC = 2
    FAILED = 3


@dataclass(frozen=True)
class Column:
    """One array of a table: dtype (``str`` for text) and the shape of one row."""

    dtype: str
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Row:
    """One clip's result, ready to be written."""

    id: str
    status: Status
    code: str = ""
    stage: str = ""
    message: str = ""
    size: int = -1
    mtime_ns: int = -1
    content: str = ""
    decoder: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


_AXIS: Final = {"id": Column("str"), "status": Column("uint8")}
_COMMON: Final[dict[str, Column]] = {
    "code": Column("str"),
    "stage": Column("str"),
    "message": Column("str"),
    "size": Column("int64"),
    "mtime_ns": Column("int64"),
    "decoder": Column("str"),
    "content": Column("str"),
}
_LAYOUT: Final = "columns"
#: in tables of earlier versions: columns that a row which is done or static always has something in. Others may be
#: unknown in all rows (smoothness where only the first frame is compared), zero (cuts) or empty (code).
_NEVER_EMPTY: Final = frozenset(
    (
        *("mean", "p95", "peak", "curve", "mask", "hoof"),
        *("sketch", "sketch_exponent", "norm", "loss", "squares"),
        *("size", "mtime_ns"),
    )
)
_OF_THE_FILE: Final = ("content", "decoder")  # the same, where the row is of a file


class Table:
    """See the module's text. Opened through ``RunStore``, which makes sure there is one writer.

    Attributes:
        damages: what is lost or altered of ids and status, where it was opened all the same.
    """

    def __init__(
        self,
        parent: zarr.Group,
        name: str,
        columns: Mapping[str, Column] | None = None,
        identity: Identity | None = None,
        *,
        damaged: bool = False,
    ) -> None:
        """Open a table; with ``columns``, for writing: what is missing is made.

        ``identity`` is checked before anything is touched. ``damaged`` opens what is damaged too, to look at and to
        repair.

        Raises:
            StoreDamageError: ids or status are damaged, or, for writing, a chunk of any column is lost.
        """
        self.name = name
        self._pending: dict[int, Row] = {}
        self._arrays: dict[str, zarr.Array[Any]] = {}  # opening one takes as long as reading a block of it
        self._there: dict[str, set[int]] = {}  # chunks that were seen, which saves asking object storage again
        self._last_flush = time.monotonic()
        self._group = _group(parent, name, make=columns is not None)
        if columns is not None and identity is not None:
            self._require(identity)
        stored = _columns_of(self._group)
        self._is_old = stored is None
        self._columns = _found_columns(self._group) if stored is None else stored
        made: list[str] = []
        if columns is not None:
            wanted = {"id": _AXIS["id"], **columns, **_COMMON, "status": _AXIS["status"]}  # made last: ``is_there``
            self._columns = {**columns, **_COMMON, **self._columns}
            made = self._make(wanted, known=stored or ())
        self._ids: list[str] = []
        self._status: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)
        self.damages = self._load()
        if self.damages and columns is None:  # or rows were added while ids and status were read
            self._arrays.clear()
            self._there.clear()
            self.damages = self._load()
        if made:
            self._resize(len(self))
        if columns is not None and not self.damages:
            self.damages = self.lost(key for key in self._columns if key not in made or self._is_old)
        if self.damages and not damaged:
            raise self._error(self.damages)
        if columns is not None:
            self._fill(["id", *self._columns, "status"] if self._is_old else made)
            layout: dict[str, Any] = {key: [column.dtype, list(column.shape)] for key, column in self._columns.items()}
            if self._group.attrs.asdict().get(_LAYOUT) != layout:
                self._group.attrs.update({_LAYOUT: layout})
            self._is_old = False

    @staticmethod
    def is_there(parent: zarr.Group, name: str) -> bool:
        """Whether a table was made: not where a kill came while its arrays were, of which ``status`` is the last."""
        try:
            group = _group(parent, name, make=False)
        except KeyError:
            return False
        except StoreDamageError:
            return True
        return holds_anything(group, "status") or holds_anything(group, "id/c")

    @property
    def ids(self) -> list[str]:
        """The clips in the order of their rows."""
        return self._ids if not self._holes else [clip_id for clip_id in self._ids if clip_id]

    @cached_property
    def _holes(self) -> list[int]:
        """Rows whose ids were lost, and which are free since a repair."""
        return [row for row, clip_id in enumerate(self._ids) if not clip_id] if "" in self._ids else []

    @cached_property
    def _place(self) -> dict[str, int]:  # a quarter of a second a million: if need be
        return {clip_id: row for row, clip_id in enumerate(self._ids) if clip_id}

    # -- identity -----------------------------------------------------------------------------------------------------

    @property
    def identity(self) -> dict[str, Any]:
        """The settings the rows were computed with; empty for a table that was only begun."""
        return cast(dict[str, Any], self._group.attrs.asdict().get("identity", {}))

    @property
    def provenance(self) -> list[dict[str, Any]]:
        """Who computed, oldest first."""
        return cast(list[dict[str, Any]], self._group.attrs.asdict().get("provenance", []))

    def claim(self, identity: Identity, provenance: Mapping[str, Any]) -> list[str]:
        """Make sure the rows may be continued under ``identity``, and note who continues them.

        Returns:
            Sentences about what differs without forbidding anything (package versions, device).

        Raises:
            StoreMismatchError: a field of the identity differs.
        """
        identity = json.loads(json.dumps(identity))
        self._require(identity)
        notes = []
        history = self.provenance
        if history:
            notes = _differences(history[-1], provenance)
        if not history or notes:
            self._group.attrs.update({"identity": identity, "provenance": [*history, dict(provenance)]})
        return notes

    def _require(self, identity: Identity) -> None:
        if self.identity:
            require_equal(self.identity, identity, f"the table '{self.name}' of this run")

    # -- rows ---------------------------------------------------------------------------------------------------------

    def register(self, ids: Iterable[str]) -> None:
        """Give every id that has none a row, in the order given."""
        new = [clip_id for clip_id in dict.fromkeys(ids) if clip_id not in self._place]
        if not new:
            return
        if "" in new:
            raise StoreError("a clip without an id cannot be stored")
        holes, first = self._holes[: len(new)], len(self._ids)
        if holes:
            self._write("id", np.asarray(holes), _texts(new[: len(holes)]))
        end = first + len(new) - len(holes)
        self._resize(end)
        if end > first:
            self._write("status", slice(first, end), np.zeros(end - first, np.uint8))
            axis = self._array("id")
            every_chunk(axis, end)[first:end] = _texts(new[len(holes) :])
            axis.resize((end,))
        for row, clip_id in zip([*holes, *range(first, end)], new, strict=True):
            self._ids[row : row + 1] = [clip_id]
            self._place[clip_id] = row
        self.__dict__.pop("_holes", None)
        self._status = np.concatenate((self._status, np.zeros(end - first, np.uint8)))

    def status(self, clip_id: str) -> Status:
        """The row's state, rows still in memory included; PENDING for an unknown id."""
        row = self._place.get(clip_id)
        return Status.PENDING if row is None else Status(int(self._status[row]))

    def states(self, ids: Sequence[str]) -> npt.NDArray[np.uint8]:
        """``status`` of many clips at once."""
        places = self.places(ids)
        known = places >= 0
        states = np.zeros(len(ids), np.uint8)
        states[known] = self._status[places[known]]
        return states

    def places(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """The row of each clip, -1 for one that has none."""
        if len(ids) >= _RUN:  # large reads are of runs of rows, most of all clips: comparing is faster than looking up
            first = 0 if self._ids[:1] == [ids[0]] else self._place.get(ids[0], 0)
            if self._ids[first : first + len(ids)] == list(ids):
                return np.arange(first, first + len(ids))
        return np.asarray([self._place.get(clip_id, -1) for clip_id in ids], np.int64)

    def put(self, row: Row) -> None:
        """Take a finished row. It is on disk after the next ``flush``, which comes by itself every few seconds."""
        self.register([row.id])
        self._pending[self._place[row.id]] = self._packed(row)
        self._status[self._place[row.id]] = row.status
        if len(self._pending) >= CHUNK_ROWS or time.monotonic() - self._last_flush > FLUSH_SECONDS:
            self.flush()

    def _packed(self, row: Row) -> Row:
        values = dict(row.values)
        for key in self._halves & values.keys():
            values[key], values[exponent_of(key)] = pack(np.asarray(values[key]))
        return replace(row, values=values) if self._halves else row

    def rounded(self, column: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values of a column as they would be read back."""
        return unpack(*pack(values)) if column in self._halves else values

    def flush(self) -> None:
        """Write what waits in memory; status last."""
        if self._pending:
            places = np.asarray(sorted(self._pending))
            rows = [self._pending[int(place)] for place in places]
            if np.asarray(self._array("status").oindex[places]).any():
                self._write("status", places, np.zeros(len(places), np.uint8))
            for key, column in self._columns.items():
                # what a row leaves out is written as empty, so that a row never keeps numbers of an earlier version
                values = [getattr(row, key) if key in _COMMON else row.values.get(key, _empty(column)) for row in rows]
                self._write(key, places, _stack(values, column))
            self._write("status", places, np.asarray([row.status for row in rows], np.uint8))
            self._pending.clear()
        self._last_flush = time.monotonic()

    def copy(self, other: Table, ids: Sequence[str]) -> None:
        """Take finished rows over from another table with the same columns; status last, as in ``flush``."""
        self.flush()
        self.register(ids)
        places = np.asarray([self._place[clip_id] for clip_id in ids], np.int64)
        order = np.argsort(places, kind="stable")
        places, ids = places[order], [ids[n] for n in order.tolist()]
        there = other._known_places(ids)
        other.flush()
        for key, column in self._columns.items():
            values = other._stored(key, there)
            self._write(key, places, _texts(values) if column.dtype == "str" else values)
        states = other.states(ids)
        self._write("status", places, states)
        self._status[places] = states

    def finish(self, states: npt.NDArray[np.uint8]) -> None:
        """Give every row its state, where columns were written whole instead of row by row (by benchmarks, that is);
        what was not written is empty."""
        self._status[:] = states
        self._fill(self._columns)
        self._write("status", slice(0, len(self)), states)

    def discard(self, ids: Sequence[str], unreadable: Sequence[tuple[str, slice]] = ()) -> int:
        """Mark rows as not computed; the next ``put`` writes all of their columns.

        Args:
            unreadable: columns and rows of damaged chunks (see ``chunks``), which are emptied: a part of a chunk cannot
                be written where the rest cannot be read. Rows whose ids are among them are free for other clips.

        Returns:
            how many rows were computed, as far as that is known, and are not any more.
        """
        self.flush()
        unreadable = sorted(unreadable, key=lambda each: each[0] != "status")  # which others are marked in
        for column, rows in unreadable:
            if column == "status":
                self._empty(column, rows)
        places = {self._place[clip_id] for clip_id in ids}
        places |= {row for column, rows in unreadable if column in _AXIS for row in range(rows.start, rows.stop)}
        marked = np.asarray(sorted(places), np.int64)
        unknown = {row for column, rows in unreadable if column == "status" for row in range(rows.start, rows.stop)}
        count = len(unknown.union(marked[self._status[marked] != Status.PENDING].tolist()))
        if len(marked):
            self._write("status", marked, np.zeros(len(marked), np.uint8))
            self._status[marked] = Status.PENDING
        for column, rows in unreadable:
            if column != "status":
                self._empty(column, rows)
            if column == "id":
                self._ids[rows] = [""] * (rows.stop - rows.start)
                self.__dict__.pop("_holes", None)
                self.__dict__.pop("_place", None)
        return count

    def chunks(self, column: str, first: int, last: int) -> Iterator[slice]:
        """The rows of each chunk of a column that holds some of the rows from ``first`` to before ``last``."""
        size = self._array(column).chunks[0]
        for start in range(first // size * size, last, size):
            yield slice(start, min(start + size, len(self)))

    def read(self, column: str, ids: Sequence[str]) -> npt.NDArray[Any]:
        """One column for the given ids, in their order; all must have a row. Text comes as ``object``."""
        return self.read_places(column, self._known_places(ids))

    def _known_places(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        places = self.places(ids)
        if len(ids) and int(places.min()) < 0:
            raise StoreError(f"the table '{self.name}' has no row for {ids[int(places.argmin())]!r}")
        return places

    def row_ids(self, rows: slice) -> list[str]:
        """The clips of some rows, empty for those whose ids are lost."""
        return self._ids[rows]

    def row_states(self, rows: slice) -> npt.NDArray[np.uint8]:
        """The states of some rows."""
        return self._status[rows]

    def read_places(self, column: str, places: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """One column for rows by ``places``. For many blocks of the same clips: ids are looked up once."""
        self.flush()
        values = self._stored(column, places)
        return unpack(values, self._stored(exponent_of(column), places)) if column in self._halves else values

    def expect_places(self, column: str, places: npt.NDArray[np.int64]) -> None:
        """Have a run of rows fetched from disk ahead of ``read_places``; nothing for rows that lie otherwise."""
        if len(places) and int(places[-1]) - int(places[0]) == len(places) - 1:
            expect_rows(self._array(column), int(places[0]), int(places[-1]) + 1)

    def _stored(self, column: str, places: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        array = self._array(column)
        if not len(places):
            return np.empty((0, *array.shape[1:]), object if array.dtype.kind == "T" else array.dtype)
        low, high = int(places.min()), int(places.max()) + 1
        run = high - low == len(places) and bool((np.diff(places) == 1).all())  # needs no copy
        size = array.chunks[0]
        numbers = range(low // size, (high - 1) // size + 1) if run else np.unique(places // size).tolist()
        if lost := self._lost(column, numbers):
            raise self._error(lost)
        try:
            values = _rows_of(array, low, high) if run else self._picked(array, places, low, high)
        except Exception as error:
            if not is_damage(error) or not (damages := list(self._unreadable(column, numbers))):
                raise
            raise self._error(damages) from error
        return np.asarray(values.astype(object) if values.dtype.kind == "T" else values)

    @staticmethod
    def _picked(array: zarr.Array[Any], places: npt.NDArray[np.int64], low: int, high: int) -> npt.NDArray[Any]:
        """Rows that are no run."""
        if high - low <= 4 * len(places):  # dense enough: one contiguous read is faster than picking
            try:
                return _rows_of(array, low, high)[places - low]
            except Exception as error:
                if not is_damage(error):
                    raise  # else it may be of rows in between, which are not asked for
        order = np.argsort(places, kind="stable")
        values = np.empty((len(places), *array.shape[1:]), array.dtype)
        values[order] = np.asarray(array.oindex[places[order]])
        return values

    # -- damage -------------------------------------------------------------------------------------------------------

    def lost(self, columns: Iterable[str]) -> list[Damage]:
        """What is not there of some columns: chunks, or the array itself."""
        found: list[Damage] = []
        there = listed(self._group)
        for column in columns:
            array = self._arrays[column] if column in self._arrays else self._open(column)
            if isinstance(array, str):
                found.append(self._of_all(column, array))
            elif array.shape[0] < len(self):
                found.append(self._of_all(column, f"its zarr.json was altered: {array.shape[0]} rows of {len(self)}"))
            else:
                found += self._lost(column, range(-(-len(self) // array.chunks[0])), there)
        return found

    def require_whole(self) -> None:
        """Raise ``StoreDamageError`` where a chunk of any column is lost."""
        if lost := self.lost(self._columns):
            raise self._error(lost)

    def examine(self, column: str) -> Iterator[tuple[slice, npt.NDArray[Any] | None, Damage | None]]:
        """A column chunk by chunk: rows, their values as they are stored, and what is wrong with it. Those of a chunk
        that is missing are empty: another program may have written nothing, of which Zarr keeps no file. None where a
        chunk was altered."""
        for rows in self.chunks(column, 0, len(self)):
            number = rows.start // self._array(column).chunks[0]
            values, damage = None, None
            try:
                values = self._stored(column, np.arange(rows.start, rows.stop))
            except StoreDamageError:
                damage = next(self._unreadable(column, [number]))
                if self._lost(column, [number]):
                    values = self._nothing(column, rows.stop - rows.start)
            yield rows, values, damage

    def make_again(self, column: str) -> None:
        """Write the ``zarr.json`` of a column again that was lost or altered; its chunks stay as they are."""
        held = self._columns | _AXIS
        rows = next(self._array(key).shape[0] for key in ("id", "status") if key != column)
        remove(self._group, f"{column}/zarr.json")
        self._arrays.pop(column, None)
        self._create(column, held[column], rows)

    def _of_all(self, column: str, what: str) -> Damage:
        return Damage(f"column {column}: {what}", self._computed(slice(0, len(self))), None, column)

    def _computed(self, rows: slice) -> list[str]:
        return [i for i, status in zip(self._ids[rows], self._status[rows], strict=True) if i and status]

    def _lost(self, column: str, numbers: Iterable[int], there: Container[str] | None = None) -> list[Damage]:
        """The chunks among these that should be there and are not; ``there`` is for ``absent``."""
        seen, size = self._there.setdefault(column, set()), self._array(column).chunks[0]
        asked = [
            number
            for number in numbers
            if number not in seen and self._needed(column, slice(number * size, (number + 1) * size)).any()
        ]
        beside = [0] * (self._array(column).ndim - 1)
        gone = [chunk[0] for chunk in absent(self._array(column), [(number, *beside) for number in asked], there)]
        seen.update(set(asked) - set(gone))
        return [self._of_chunk(column, number, "a chunk is missing") for number in gone]

    def _unreadable(self, column: str, numbers: Iterable[int]) -> Iterator[Damage]:
        """The chunks among these that nothing can be read from."""
        array = self._array(column)
        size = array.chunks[0]
        for number in numbers:
            if lost := self._lost(column, [number]):
                yield from lost
                continue
            try:
                _rows_of(array, number * size, min((number + 1) * size, array.shape[0]))
            except Exception as error:
                if not is_damage(error):
                    raise
                yield self._of_chunk(column, number, sentence(error))

    def _of_chunk(self, column: str, number: int, what: str) -> Damage:
        size = self._array(column).chunks[0]
        rows = slice(number * size, min((number + 1) * size, len(self)))
        known = [clip_id for clip_id in self._ids[rows] if clip_id]
        return Damage(what, known if column == "status" else self._computed(rows), (column, rows))

    def _needed(self, column: str, rows: slice) -> npt.NDArray[np.bool_]:
        """Which rows have something in this column, which must be there."""
        if column == "id" or (column == "status" and not self._is_old):
            return np.ones(len(self._ids[rows]), np.bool_)
        status = self._status[rows]
        if not self._is_old:
            return np.asarray(status != Status.PENDING)
        finished = np.isin(status, (Status.DONE, Status.STATIC))
        if column in _OF_THE_FILE and finished.any():
            with suppress(StoreDamageError):
                return finished & (self._stored("size", np.arange(rows.start, rows.start + len(status))) > 0)
        return finished if column in _NEVER_EMPTY or column in _OF_THE_FILE else np.zeros(len(finished), np.bool_)

    def _error(self, damages: Sequence[Damage]) -> StoreError:
        return damaged_table(self._group, self._group.path, damages)

    def _load(self) -> list[Damage]:
        """Read ids and status, as far as they can be. Returns what cannot."""
        found: list[Damage] = []
        for key in _AXIS:
            array = self._open(key)
            if isinstance(array, str):
                found.append(self._of_all(key, array))
        if found:
            return found
        ids, unread = self._tolerantly("id")
        status, unknown = self._tolerantly("status")
        self._ids, self._status = list(ids), np.asarray(status, np.uint8)
        done = np.flatnonzero(self._status)
        last = int(done[-1]) + 1 if len(done) else 0
        rows = max(self._ids.index(""), last) if self._is_old and "" in self._ids else max(len(self._ids), last)
        held = {"id": len(self._ids), "status": len(self._status)}
        rows, wanted = min(rows, held["id"]), rows
        self._ids = self._ids[:rows]
        self._status = np.pad(self._status[:rows], (0, max(0, rows - held["status"])))
        self.__dict__.pop("_holes", None)
        for key, least in (("id", wanted), ("status", rows)):
            if held[key] < least:
                found.append(self._of_all(key, f"its zarr.json was altered: {held[key]} rows of {least}"))
        size = {key: self._array(key).chunks[0] for key in _AXIS}
        missing = [chunk for key in _AXIS for chunk in self._lost(key, range(-(-rows // size[key])))]
        broken = [
            self._of_chunk(key, number, what)
            for key, parts in (("id", unread), ("status", unknown))
            for number, what in parts.items()
            if number * size[key] < rows
        ]
        nameless = {row // size["id"] for row in self._holes if self._status[row]}
        parts = [each.unreadable for each in (*missing, *broken) if each.unreadable]
        told = {rows.start // size["id"] for key, rows in parts if key == "id"}
        return [
            *found,
            *missing,
            *broken,
            *(self._of_chunk("id", n, "ids are missing") for n in sorted(nameless - told)),
        ]

    def _tolerantly(self, key: str) -> tuple[Any, dict[int, str]]:
        """All of an array, with empty values for chunks that cannot be read; and what is wrong with those."""
        array = self._array(key)
        try:
            return (_rows_of if key == "status" else read_texts)(array, 0, array.shape[0]), {}
        except Exception as error:
            if not is_damage(error):
                raise
        size, wrong = array.chunks[0], {}
        values = np.full(array.shape, "" if key == "id" else 0, object if key == "id" else np.uint8)
        for number in range(-(-array.shape[0] // size)):
            rows = slice(number * size, min((number + 1) * size, array.shape[0]))
            try:
                values[rows] = _rows_of(array, rows.start, rows.stop)
            except Exception as error:
                if not is_damage(error):
                    raise
                wrong[number] = sentence(error)
        return values.tolist() if key == "id" else values, wrong

    @property
    def _halves(self) -> set[str]:
        """Columns of float16 with exponents."""
        return {key for key in self._columns if exponent_of(key) in self._columns}

    def __contains__(self, clip_id: str) -> bool:
        return clip_id in self._place

    @property
    def columns(self) -> list[str]:
        """Names of the arrays beside id and status."""
        return list(self._columns)

    @property
    def unique_ids(self) -> set[str]:
        """Ids that have a row."""
        return set(self._place)

    @property
    def own_columns(self) -> dict[str, Column]:
        """Columns beyond those that every table has: what a table of the same kind is opened with."""
        return {name: column for name, column in self._columns.items() if name not in _COMMON}

    def __len__(self) -> int:
        """Rows, also those whose ids are lost."""
        return len(self._ids)

    # -- arrays -------------------------------------------------------------------------------------------------------

    def _array(self, key: str) -> zarr.Array[Any]:
        if key in self._arrays:
            return self._arrays[key]
        found = self._open(key)
        if isinstance(found, str):
            raise self._error([self._of_all(key, found)])
        self._arrays[key] = found
        return found

    def _open(self, key: str) -> zarr.Array[Any] | str:
        """An array, or what is wrong with its ``zarr.json``."""
        said = (self._columns | _AXIS).get(key)
        if said is None:
            raise StoreError(
                f"the table '{self.name}' has no column {key!r}: the store is damaged or of another version"
            )
        try:
            array = every_chunk(cast("zarr.Array[Any]", self._group[key]))
        except Exception as error:
            if not is_damage(error):
                raise
            return (
                sentence(error) if isinstance(error, KeyError) else f"its zarr.json cannot be read ({sentence(error)})"
            )
        kind = "str" if array.dtype.kind == "T" else str(array.dtype)
        if (kind, array.shape[1:]) != (said.dtype, said.shape) or array.chunks[1:] != array.shape[1:]:
            return f"its zarr.json was altered: rows of {kind} {array.shape[1:]}, not of {said.dtype} {said.shape}"
        return array

    def _make(self, wanted: Mapping[str, Column], known: Container[str]) -> list[str]:
        """Make the arrays that the table never had. Returns their names."""
        there = children(self._group)
        made = []
        for key, column in wanted.items():
            if key not in known and not (key in there and holds_anything(self._group, key)):
                self._create(key, column, 0)
                made.append(key)
            elif (shape := self._shape_of(key)) not in (None, column.shape):
                raise StoreError(
                    f"column {key!r} of the table '{self.name}' has rows of shape {shape}, not {column.shape}"
                )
        return made

    def _shape_of(self, key: str) -> tuple[int, ...] | None:
        """The shape of a column's rows; None where that is lost."""
        if not self._is_old:
            return (self._columns | _AXIS)[key].shape
        array = self._open(key)
        return None if isinstance(array, str) else array.shape[1:]

    def _create(self, key: str, column: Column, rows: int) -> None:
        text = column.dtype == "str"
        row_bytes = 1 if text else int(np.dtype(column.dtype).itemsize * np.prod(column.shape, dtype=np.int64))
        self._group.create_array(
            key,
            shape=(rows, *column.shape),
            chunks=(max(1, min(CHUNK_ROWS, CHUNK_BYTES // max(1, row_bytes))), *column.shape),
            dtype=str if text else column.dtype,
            fill_value=_empty(column),
            compressors=(TEXTS[:1] if self._is_old and rows else TEXTS) if text else NUMBERS,
            config=EVERY_CHUNK,
        )

    def _fill(self, columns: Iterable[str]) -> None:
        """Write the chunks of columns that were left out as holding nothing."""
        there = listed(self._group)
        for key in columns:
            size, beside = self._array(key).chunks[0], [0] * (self._array(key).ndim - 1)
            held = (rows for rows in self.chunks(key, 0, len(self)) if key in _AXIS or self._status[rows].any())
            for chunk in absent(self._array(key), [(rows.start // size, *beside) for rows in held], there):
                self._empty(key, slice(chunk[0] * size, (chunk[0] + 1) * size))

    def _resize(self, rows: int) -> None:
        """Make room for so many rows. The ids, whose length is the number of rows, stay."""
        for key in [*self._columns, "status"]:
            self._lengthen(key, rows)

    def _lengthen(self, key: str, rows: int) -> None:
        """Make an array as long as so many rows; a longer one stays."""
        array = self._array(key)
        if array.shape[0] < rows:
            array.resize((rows, *array.shape[1:]))

    def _empty(self, key: str, rows: slice) -> None:
        """Write a chunk that holds nothing, as far as the array goes: what it held need not be read."""
        array = self._array(key)
        rows = slice(rows.start, min(rows.start + array.chunks[0], array.shape[0]))
        array[rows] = self._nothing(key, rows.stop - rows.start)

    def _nothing(self, key: str, rows: int) -> npt.NDArray[Any]:
        """So many empty rows of a column."""
        column = (self._columns | _AXIS)[key]
        return _stack([_empty(column)] * rows, column) if rows else np.empty((0, *column.shape), column.dtype)

    def _write(self, key: str, rows: slice | npt.NDArray[np.int64], values: npt.NDArray[Any]) -> None:
        """Write some rows of an array. Raises ``StoreDamageError`` where the rest of a chunk cannot be read."""
        array = self._array(key)
        try:
            array.oindex[rows] = values
        except Exception as error:
            size = array.chunks[0]
            places = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
            if not is_damage(error):
                raise
            damages = list(self._unreadable(key, np.unique(places // size).tolist()))
            if not damages:
                raise
            raise self._error(damages) from error


def _group(parent: zarr.Group, name: str, *, make: bool) -> zarr.Group:
    """The group of a table. Raises ``KeyError`` where there is none, ``StoreDamageError`` where it is damaged."""
    if (group := part_of(parent, name, _way_out(f"{parent.path}/{name}"))) is not None:
        return group
    if holds_anything(parent, name):
        path = f"{parent.path}/{name}".lstrip("/")
        raise damaged_part(parent, f"{path}/zarr.json", "it is missing", _way_out(path))
    if not make:
        raise KeyError(name)
    return parent.require_group(name)


def _way_out(path: str) -> str:
    """Where the ``zarr.json`` of a table is lost, which says with which settings its rows were computed."""
    if "/" in path.lstrip("/"):  # of sketches: the settings are those of all sketches of the role
        return "motive store verify STORE --repair writes it again"
    return "Put it back from a copy of the store, or delete this folder: the step's next run computes its rows again"


def _columns_of(group: zarr.Group) -> dict[str, Column] | None:
    """What a table's attributes say of its columns; None in one of an earlier version."""
    said: Any = group.attrs.asdict().get(_LAYOUT)
    if said is None:
        return None
    try:
        columns = {str(key): Column(str(dtype), tuple(int(n) for n in shape)) for key, (dtype, shape) in said.items()}
        for column in columns.values():
            _empty(column)
    except (TypeError, ValueError, AttributeError, OverflowError):
        raise damaged_part(group, f"{group.path}/zarr.json", f"its attribute {_LAYOUT}", _way_out(group.path)) from None
    return columns


def _found_columns(group: zarr.Group) -> dict[str, Column]:
    """The columns of a table whose attributes do not say them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an array that has lost its zarr.json
        try:
            found = dict(group.arrays())
        except Exception as error:
            if not is_damage(error):
                raise
            raise damaged_part(
                group, f"zarr.json of a column of {group.path}", sentence(error), _way_out("")
            ) from error
    return {
        key: Column("str" if array.dtype.kind == "T" else str(array.dtype), array.shape[1:])
        for key, array in found.items()
        if key not in _AXIS
    }


def _rows_of(array: zarr.Array[Any], low: int, high: int) -> npt.NDArray[Any]:
    return _texts(read_texts(array, low, high)) if array.dtype.kind == "T" else read_rows(array, low, high)


def _texts(values: Sequence[str] | npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(values, dtype=np.dtypes.StringDType())


def exponent_of(column: str) -> str:
    """Name of the column that holds the exponents of a column of float16."""
    return f"{column}_exponent"


def _empty(column: Column) -> Any:
    if column.dtype == "str":
        return ""
    return float("nan") if np.dtype(column.dtype).kind == "f" else 0


def _stack(values: Sequence[Any], column: Column) -> npt.NDArray[Any]:
    if column.dtype == "str":
        return np.asarray([str(value) for value in values], dtype=np.dtypes.StringDType())
    return np.stack([np.broadcast_to(np.asarray(value, column.dtype), column.shape) for value in values])


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    notes = []
    for package in sorted({*before["packages"], *now["packages"]}):
        old, new = before["packages"].get(package), now["packages"].get(package)
        if old != new:
            notes.append(f"the run was begun with {package} {old}, it goes on with {new}")
    for key in ("python", "machine", "device"):
        if before[key] != now[key]:
            notes.append(f"the run was begun on {key} {before[key]}, it goes on with {now[key]}")
    return notes
