"""Measured motion of clips, kept beside the runs: a new run, another model or another mask option tracks nothing again.

One Zarr group for each way of measuring (clip specification, estimator), shared by all runs whose stores lie in the
same data folder. Rows belong to a file's content, so that a moved or renamed clip is found and a changed one is not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from motive_fo.errors import StoreError
from motive_fo.motion.measure import Measured
from motive_fo.store.identity import provenance
from motive_fo.store.run_store import RunStore
from motive_fo.store.table import Column, Row, Status, Table

_TABLE = "measured"
_DAMAGE = (StoreError, OSError, ValueError)  # what Zarr raises for missing, cut and altered files
_TOGETHER = 32  # rows that are new are written together: to make room for one costs as much as for many
_FIELDS = tuple(Measured.__dataclass_fields__)


class MeasuredMotion:
    """See the module's text. Opened by ``measured_motion``; without a table it knows nothing and keeps nothing."""

    def __init__(self, table: Table | None, notes: list[str], *, writable: bool) -> None:
        self._table = table
        self._notes = notes
        self._writable = writable
        self._waiting: list[Row] = []

    def __len__(self) -> int:
        return 0 if self._table is None else len(self._table)

    def find(self, keys: Sequence[str]) -> dict[str, tuple[Measured, Mapping[str, Any]]]:
        """What is known of some clips: key -> its motion, and ``cuts``, ``adjustment`` and ``decoder``."""
        table = self._table
        if table is None:
            return {}
        known = [key for key in dict.fromkeys(keys) if table.status(key) == Status.DONE]
        try:
            columns = {name: table.read(name, known) for name in (*_FIELDS, "cuts", "adjustment", "decoder")}
        except _DAMAGE as error:
            self._give_up(error)
            return {}
        found: dict[str, tuple[Measured, Mapping[str, Any]]] = {}
        for n, key in enumerate(known):
            facts = {
                "cuts": int(columns["cuts"][n]),
                "adjustment": str(columns["adjustment"][n]),
                "decoder": str(columns["decoder"][n]),
            }
            found[key] = (_trimmed({name: columns[name][n] for name in _FIELDS}), facts)
        return found

    def keep(self, key: str, measured: Measured, facts: Mapping[str, Any], frames: int) -> None:
        """Keep a clip's motion and the facts ``find`` gives; ``frames`` is the length of the clip specification."""
        if self._table is None or not self._writable:
            return
        values = {**measured.values(), "cuts": facts["cuts"], "adjustment": facts["adjustment"]}
        for name in ("curve", "mask"):  # a clip with fewer frames: NaN for those it does not have
            value = values[name]
            whole = np.full((2, frames, *value.shape[2:]), np.nan, value.dtype)
            whole[:, : value.shape[1]] = value
            values[name] = whole
        self._waiting.append(Row(id=key, status=Status.DONE, decoder=facts["decoder"], values=values))
        if len(self._waiting) >= _TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Write what waits in memory."""
        if self._table is None or not self._writable:
            return
        try:
            self._table.register(row.id for row in self._waiting)
            for row in self._waiting:
                self._table.put(row)
            self._table.flush()
            self._waiting.clear()
        except _DAMAGE as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Damaged, or the disk is full: go on as if nothing were known."""
        self._table = None
        self._notes.append(_unusable(error))


#: knows nothing and keeps nothing
NOTHING_MEASURED = MeasuredMotion(None, [], writable=False)


def measured_columns(frames: int, bins: int, grid: tuple[int, int]) -> dict[str, Column]:
    """Columns for clips of so many frames; ``grid`` is (h, w), the number of cells."""
    numbers = {name: Column("float32", (2,)) for name in ("mean", "p95", "peak", "moving_share", "smoothness")}
    return {
        **numbers,
        "camera_share": Column("float32"),
        "dynamic_score": Column("float32"),
        "curve": Column("float32", (2, frames)),
        "hoof": Column("float32", (2, bins)),
        "mask": Column("float16", (2, frames, *grid)),
        "cuts": Column("int64"),
        "adjustment": Column("str"),
    }


@contextmanager
def measured_motion(
    folder: Path | None,
    identity: Mapping[str, Any],
    columns: Mapping[str, Column],
    notes: list[str],
    *,
    write: bool = True,
) -> Iterator[MeasuredMotion]:
    """Opens what was measured in this way before, for reading and adding; flushed at the end.

    Nothing about it ever stops a run: while another process adds to it, it is only read; where it is damaged or cannot
    be written, it is left alone; ``notes`` then says so.

    Args:
        folder: of all measured motion; None for none.
        identity: how the clips are measured.
        columns: from ``measured_columns``.
        write: False to look only.
    """
    if folder is None:
        yield NOTHING_MEASURED
        return
    text = json.dumps(identity, sort_keys=True)
    path = folder / f"{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}.zarr"
    if not write:
        yield _read_only(path, notes)
        return
    try:
        store = RunStore(path, write=True)
    except StoreError as error:
        notes.append(f"motion is not kept for other runs: {error}")
        yield _read_only(path, notes)
        return
    with store:
        try:
            table = store.table(_TABLE, columns, identity)
            table.claim(identity, provenance("cpu"))
        except _DAMAGE as error:
            notes.append(f"{_unusable(error)}; delete {path} to begin it anew")
            yield NOTHING_MEASURED
            return
        kept = MeasuredMotion(table, notes, writable=True)
        try:
            yield kept
        finally:
            kept.flush()


def _read_only(path: Path, notes: list[str]) -> MeasuredMotion:
    try:
        return MeasuredMotion(RunStore(path).table(_TABLE), notes, writable=False)
    except _DAMAGE:
        return NOTHING_MEASURED


def _unusable(error: Exception) -> str:
    return f"motion kept from other runs cannot be used: {error}"


def _trimmed(values: Mapping[str, Any]) -> Measured:
    """A row as it was measured: without the frames the clip does not have."""
    frames = int(np.count_nonzero(~np.isnan(values["curve"][0])))
    cut = {name: values[name][:, :frames] for name in ("curve", "mask")}
    numbers = {name: float(values[name]) for name in ("camera_share", "dynamic_score")}
    return Measured(**{**values, **cut, **numbers})
