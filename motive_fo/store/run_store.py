"""The store of one run: a Zarr group with a table of motion, the sketches of training clips and of queries, and the
scores.

::

    <run>.zarr/          attributes: format "motive-fo", version
      motion/            one row per clip: statistics, curve, mask on the latent grid
      train/  query/     for each timestep and noise one table, one row per clip: sketches, gradient norms, losses
      parameters/        names and sizes of the attributed parameters
      influence/         the last scoring: cosines (Q, N) of queries and training clips, with their ids
    <run>.zarr.lock      held while somebody writes

One process writes at a time; the second is refused. Reading needs no lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast

import numpy as np
import numpy.typing as npt
import zarr
from zarr.errors import GroupNotFoundError

from motive_fo.errors import StoreError, StoreMismatchError
from motive_fo.store.identity import FORMAT_VERSION, Identity
from motive_fo.store.scores import ScoreRows, ScoreWriter, open_scores
from motive_fo.store.sketches import Sample, SketchTables
from motive_fo.store.table import Column, Table

Role = Literal["train", "query"]

#: a process that was killed just now holds the lock until the last of its children has gone too.
_LETTING_GO_SECONDS = 1.0


class RunStore:
    """Opens the store of a run; a context manager when opened for writing.

    Args:
        path: the folder ``<run>.zarr``.
        write: create it where it is missing and hold the writer's lock.

    Raises:
        StoreError: it is missing (reading), held by another process, or cannot be written.
        StoreMismatchError: it is of another format version.
    """

    def __init__(self, path: str | Path, *, write: bool = False) -> None:
        self.path = Path(path)
        self._lock: int | None = None
        if not write and not self.path.is_dir():
            raise StoreError(f"there is no store at {self.path}: compute motion or gradients first")
        if self.path.is_dir() and any(self.path.iterdir()) and not (self.path / "zarr.json").is_file():
            raise StoreError(f"{self.path} is not a store of motive: it holds other files")
        if write:
            self._acquire()
        try:
            self._root = zarr.open_group(self.path, mode="a" if write else "r")
        except (GroupNotFoundError, OSError, ValueError) as error:
            self.close()
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise StoreError(f"cannot write to {self.path}: no space left on the disk; make room first") from error
            raise StoreError(f"{self.path} is not a store of motive: {error}") from error
        attributes = self._root.attrs.asdict()
        if not attributes and write:
            self._root.attrs.update({"format": "motive-fo", "version": FORMAT_VERSION})
        elif attributes.get("format") != "motive-fo":
            self.close()
            raise StoreError(f"{self.path} is a Zarr group, but not a store of motive")
        elif attributes.get("version") != FORMAT_VERSION:
            self.close()
            raise StoreMismatchError(
                f"{self.path} has format version {attributes.get('version')}, this motive writes {FORMAT_VERSION}: "
                "open it with the version that wrote it, or delete the run and compute it again"
            )

    def table(self, name: str, columns: Mapping[str, Column] | None = None, identity: Identity | None = None) -> Table:
        """A table; with ``columns`` for writing (under ``identity``), without for reading."""
        if columns is None and name not in self._root:
            raise StoreError(f"the run has no table '{name}' yet")
        return Table(self._root, name, columns, identity)

    def sketches(
        self,
        role: Role,
        samples: Sequence[Sample] | None = None,
        columns: Mapping[str, Column] | None = None,
        identity: Identity | None = None,
        groups: Sequence[str] = (),
    ) -> SketchTables:
        """The sketches of a role: with ``columns`` for writing, without for reading. See ``SketchTables``."""
        return SketchTables(self._root, role, samples, columns, identity, groups)

    def stored_samples(self, role: Role) -> list[Sample]:
        """Every timestep and noise that has sketches of a role, of whatever gradient step."""
        return SketchTables.all_stored(self._root, role)

    @property
    def shard(self) -> str | None:
        """Which part of a run it holds, ``2/8``; None for a whole one."""
        shard = self._root.attrs.asdict().get("shard")
        return None if shard is None else str(shard)

    def note_shard(self, shard: str) -> None:
        """Note which part of a run is written here."""
        if self.shard != shard:
            self._root.attrs.update({"shard": shard})

    def has_table(self, name: str) -> bool:
        """Whether the table, the sketches of the role or the influence can be read: not where a kill came while their
        arrays were made, of which ``status`` is the last."""
        if name not in self._root or name not in ("motion", "train", "query"):
            return name in self._root
        if name == "motion":
            return f"{name}/status" in self._root
        samples = SketchTables.in_use(self._root, name)
        return bool(samples) and all(f"{name}/{sample.table}/status" in self._root for sample in samples)

    def write_scores(
        self,
        scores: Mapping[str, npt.NDArray[np.float32]],
        train: Sequence[str],
        query: Sequence[str],
        settings: Mapping[str, Any],
    ) -> None:
        """Replace the last scoring. Complete or as before: it is written aside and renamed.

        Args:
            scores: name -> (Q, N) cosines, NaN where unknown.
        """
        with self.begin_scores(list(scores), train, query, settings) as writer:
            writer.put({name: np.asarray(value, np.float32) for name, value in scores.items()})

    @contextmanager
    def begin_scores(
        self, kinds: Sequence[str], train: Sequence[str], query: Sequence[str], settings: Mapping[str, Any]
    ) -> Iterator[ScoreWriter]:
        """Replace the last scoring, block by block. Complete or as before: it is written aside and renamed at the end.

        Args:
            kinds: names of the kinds of scores, each (Q, N).
        """
        for leftover in self.path.glob("influence-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        part = f"influence-{uuid.uuid4().hex}"
        group = self._root.create_group(part, attributes={"settings": dict(settings), "id": part})
        try:
            writer = ScoreWriter(group, kinds, train, query)
            yield writer
            writer.require_complete()
            shutil.rmtree(self.path / "influence", ignore_errors=True)
            (self.path / part).rename(self.path / "influence")
        finally:
            shutil.rmtree(self.path / part, ignore_errors=True)

    def scores(self, kind: str, *, axes: ScoreRows | None = None) -> ScoreRows:
        """One kind of the last scoring, ``motion`` or ``whole``, a query at a time.

        Args:
            axes: another kind of the same scoring, whose ids need not be read again.
        """
        if "influence" not in self._root:
            raise StoreError("the run has no influence yet: score it first (motive influence)")
        return open_scores(self._root, "influence", kind, axes)

    def read_scores(self, name: str) -> tuple[npt.NDArray[np.float32], list[str], list[str]]:
        """Cosines of the last scoring, all in memory: (Q, N), query ids, training ids."""
        rows = self.scores(name)
        return rows.read(), rows.query_ids, rows.train_ids

    def keep_parameters(self, sizes: Mapping[str, int]) -> None:
        """Keep the names and sizes of the attributed parameters, once for all sketches of the run."""
        if "parameters" in self._root and self.read_parameters() == dict(sizes):
            return
        part = f"parameters-{uuid.uuid4().hex}"
        group = self._root.create_group(part)
        names = group.create_array("name", shape=(len(sizes),), dtype=str, chunks=(max(1, len(sizes)),))
        names[:] = np.asarray(list(sizes), dtype=np.dtypes.StringDType())
        group.create_array("size", data=np.asarray(list(sizes.values()), np.int64))
        shutil.rmtree(self.path / "parameters", ignore_errors=True)
        (self.path / part).rename(self.path / "parameters")
        for leftover in self.path.glob("parameters-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def read_parameters(self) -> dict[str, int]:
        """Elements of each attributed parameter by its name, in the order of names."""
        if "parameters" not in self._root:
            raise StoreError("the run has no gradients yet: run the gradient step first (motive gradients)")
        group = cast(zarr.Group, self._root["parameters"])
        names, sizes = (np.asarray(cast("zarr.Array[Any]", group[key])[:]) for key in ("name", "size"))
        return {str(name): int(size) for name, size in zip(names, sizes, strict=True)}

    # -- one writer ---------------------------------------------------------------------------------------------------

    def _acquire(self) -> None:
        lock = self.path.with_name(self.path.name + ".lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreError(
                f"cannot write to {self.path.parent}: {error.strerror}; choose another folder with --store"
            ) from None
        deadline = time.monotonic() + _LETTING_GO_SECONDS
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    break
            time.sleep(0.05)
        self.close()
        raise StoreError(f"another process is writing to {self.path}: wait for it, or choose another run name")

    def close(self) -> None:
        """Give the lock back. Tables are flushed by the step that wrote them."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def delete_store(path: str | Path) -> None:
    """Remove a run's store and lock file. Refused while somebody writes to it, and for a folder that is no store."""
    path = Path(path)
    if not path.exists():
        path.with_name(path.name + ".lock").unlink(missing_ok=True)
        return
    try:
        with RunStore(path, write=True):
            shutil.rmtree(path)
    except StoreMismatchError:  # of another format version: ours all the same
        shutil.rmtree(path)
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
