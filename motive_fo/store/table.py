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

and the attributes ``identity`` (must match) and ``provenance`` (a list, newest last).

Why a kill loses nothing that was written: Zarr replaces a chunk file by renaming a complete one over it, the status is
written last, and a row that is computed again is marked PENDING first. Rows wait in memory for at most a few seconds
(``FLUSH_SECONDS``) before they are written, because writing one row costs as much as writing a thousand; a kill loses
those and they are computed again, to the same numbers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import Crc32cCodec

from motive_fo.errors import StoreError
from motive_fo.store.chunks import expect_rows, read_rows, read_texts
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


_COMMON: Final[dict[str, Column]] = {
    "code": Column("str"),
    "stage": Column("str"),
    "message": Column("str"),
    "size": Column("int64"),
    "mtime_ns": Column("int64"),
    "decoder": Column("str"),
    "content": Column("str"),
}


class Table:
    """See the module's text. Opened through ``RunStore``, which makes sure there is one writer."""

    def __init__(
        self,
        parent: zarr.Group,
        name: str,
        columns: Mapping[str, Column] | None = None,
        identity: Identity | None = None,
    ) -> None:
        """Open a table; with ``columns``, for writing: what is missing is made, what a kill left uneven is evened.

        ``identity`` is checked before anything is touched.
        """
        self.name = name
        self._pending: dict[int, Row] = {}
        self._arrays: dict[str, zarr.Array[Any]] = {}  # opening one takes as long as reading a block of it
        self._last_flush = time.monotonic()
        if columns is None:
            self._group = cast(zarr.Group, parent[name])
            self._columns = {
                key: Column("str" if array.dtype.kind == "T" else str(array.dtype), array.shape[1:])
                for key, array in self._group.arrays()
                if key not in ("id", "status")
            }
        else:
            self._group = parent.require_group(name)
            if identity is not None:
                self._require(identity)
            self._columns = {**columns, **_COMMON}
            for key, column in {"id": Column("str"), **self._columns, "status": Column("uint8")}.items():
                self._require_array(key, column)
        known = read_texts(self._array("id"))
        self.ids: list[str] = known[: known.index("")] if "" in known else known
        if columns is not None:
            self._resize(len(self.ids))
        self._status: npt.NDArray[np.uint8] = read_rows(self._array("status"), 0, len(self.ids))

    @cached_property
    def _place(self) -> dict[str, int]:
        return {clip_id: row for row, clip_id in enumerate(self.ids)}  # a quarter of a second a million: if need be

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
        first = len(self.ids)
        self._resize(first + len(new))
        self._array("id")[first:] = np.asarray(new, dtype=np.dtypes.StringDType())
        self.ids.extend(new)
        self._place.update({clip_id: first + k for k, clip_id in enumerate(new)})
        self._status = np.concatenate((self._status, np.zeros(len(new), np.uint8)))

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
            first = 0 if self.ids[:1] == [ids[0]] else self._place.get(ids[0], 0)
            if self.ids[first : first + len(ids)] == list(ids):
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
            state = self._array("status")
            if np.asarray(state.oindex[places]).any():
                state.oindex[places] = np.zeros(len(places), np.uint8)
            for key, column in self._columns.items():
                # what a row leaves out is written as empty, so that a row never keeps numbers of an earlier version
                values = [getattr(row, key) if key in _COMMON else row.values.get(key, _empty(column)) for row in rows]
                self._array(key).oindex[places] = _stack(values, column)
            state.oindex[places] = np.asarray([row.status for row in rows], np.uint8)
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
            text = np.dtypes.StringDType()
            self._array(key).oindex[places] = values.astype(text) if column.dtype == "str" else values
        states = other.states(ids)
        self._array("status").oindex[places] = states
        self._status[places] = states

    def discard(self, ids: Sequence[str], unreadable: Sequence[tuple[str, slice]] = ()) -> None:
        """Mark rows as not computed; the next ``put`` writes all of their columns.

        Args:
            unreadable: columns and rows of damaged chunks (see ``chunks``), which are emptied: a part of a chunk cannot
                be written where the rest cannot be read.
        """
        self.flush()
        places = np.asarray(sorted(self._place[clip_id] for clip_id in ids), np.int64)
        if len(places):
            self._array("status").oindex[places] = np.zeros(len(places), np.uint8)
            self._status[places] = Status.PENDING
        for column, rows in unreadable:
            empty = np.full((rows.stop - rows.start, *self._columns[column].shape), _empty(self._columns[column]))
            text = self._columns[column].dtype == "str"
            self._array(column)[rows] = empty.astype(np.dtypes.StringDType()) if text else empty

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
        if high - low == len(places) and (np.diff(places) == 1).all():  # a run of rows needs no copy
            values = read_rows(array, low, high)
        elif high - low <= 4 * len(places):  # dense enough: one contiguous read is faster than picking
            values = read_rows(array, low, high)[places - low]
        else:
            order = np.argsort(places, kind="stable")
            values = np.empty((len(places), *array.shape[1:]), array.dtype)
            values[order] = np.asarray(array.oindex[places[order]])
        return np.asarray(values.astype(object) if values.dtype.kind == "T" else values)

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
        return len(self.ids)

    # -- arrays -------------------------------------------------------------------------------------------------------

    def _array(self, key: str) -> zarr.Array[Any]:
        try:
            if key not in self._arrays:
                self._arrays[key] = cast("zarr.Array[Any]", self._group[key])
            return self._arrays[key]
        except KeyError:
            raise StoreError(
                f"the table '{self.name}' has no column {key!r}: the store is damaged or of another version"
            ) from None

    def _require_array(self, key: str, column: Column) -> None:
        if key in self._group:
            shape = self._array(key).shape[1:]
            if shape != column.shape:
                raise StoreError(
                    f"column {key!r} of the table '{self.name}' has rows of shape {shape}, not {column.shape}"
                )
            return
        text = column.dtype == "str"
        row_bytes = 1 if text else int(np.dtype(column.dtype).itemsize * np.prod(column.shape, dtype=np.int64))
        self._group.create_array(
            key,
            shape=(0, *column.shape),
            chunks=(max(1, min(CHUNK_ROWS, CHUNK_BYTES // max(1, row_bytes))), *column.shape),
            dtype=str if text else column.dtype,
            fill_value=_empty(column),
            # numbers hardly compress and are read often; a checksum notices flipped bits
            compressors="auto" if text else [Crc32cCodec()],
        )

    def _resize(self, rows: int) -> None:
        # the ids grow last: a row exists when its id does
        for key in [*self._columns, "status", "id"]:
            array = self._array(key)
            if array.shape[0] != rows:
                array.resize((rows, *array.shape[1:]))


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
