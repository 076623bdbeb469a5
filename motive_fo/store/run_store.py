"""The store of one run: a Zarr group with a table of motion, the sketches of training clips and of queries, and the
scores.

::

    <run>.zarr/          attributes: format "motive-fo", version, owner (the run it belongs to; see ``owner``)
      motion/            one row per clip: statistics, curve, mask on the latent grid
      train/  query/     for each timestep and noise one table, one row per clip: sketches, gradient norms, losses
      parameters/        names and sizes of the attributed parameters
      influence/         the last scoring: cosines (Q, N) of queries and training clips, with their ids
      NAME-<hex>/        one of these two while it is written, or what a kill left of it; see ``place``
      NAME-replaced/     the one before, for the moment in which the new one takes its place
    <run>.zarr.lock      held while somebody writes

One process writes at a time; the second is refused. Reading needs no lock.
"""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count, takewhile
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt
import zarr

from motive_fo.errors import StoreDamageError, StoreError, StoreMismatchError
from motive_fo.store.chunks import EVERY_CHUNK, NUMBERS, TEXTS, children, orphaned, remove, write_texts
from motive_fo.store.damage import damaged_part, part_of, whole_array
from motive_fo.store.identity import FORMAT_VERSION, Identity
from motive_fo.store.owner import Owner
from motive_fo.store.place import Folder, place_of
from motive_fo.store.scores import AGAIN, ScoreRows, ScoreWriter, open_scores, without
from motive_fo.store.sketches import Sample, SketchTables
from motive_fo.store.table import Column, Table

Role = Literal["train", "query"]
ROLES: Final[tuple[Role, ...]] = ("query", "train")
#: tables that are no sketches'; ``measured`` is of what is kept beside the runs.
TABLES: Final = ("motion", "measured")


class RunStore:
    """Opens the store of a run; a context manager when opened for writing.

    Args:
        path: the folder ``<run>.zarr``, or a URL that fsspec knows. See ``place``.
        write: create it where it is missing and hold the writer's lock.

    Raises:
        StoreError: it is missing (reading), held by another process, or cannot be written.
        StoreMismatchError: it is of another format version.
    """

    def __init__(self, path: str | Path, *, write: bool = False) -> None:
        self.place = place_of(path)
        if not write and not self.place.is_there():
            raise StoreError(f"there is no store at {self.place}: compute motion or gradients first")
        if self.place.holds_other_files():
            raise StoreError(
                f"{self.place} is not a store of motive: it holds other files, or has lost its zarr.json (then put "
                "that back from a copy, or from any other run's store of this version)"
            )
        if write:
            self.place.acquire()
        try:
            self._root = self.place.open(write=write)
        except Exception as error:  # of an altered zarr.json too, which Zarr says in many ways
            self.close()
            if isinstance(error, MemoryError):
                raise
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise StoreError(f"cannot write to {self.place}: no space left on the disk; make room first") from error
            raise StoreError(f"{self.place} is not a store of motive: {error}") from error
        attributes = self._root.attrs.asdict()
        if not attributes and write:
            self._root.attrs.update({"format": "motive-fo", "version": FORMAT_VERSION})
        elif attributes.get("format") != "motive-fo":
            self.close()
            raise StoreError(f"{self.place} is a Zarr group, but not a store of motive")
        elif attributes.get("version") != FORMAT_VERSION:
            self.close()
            raise StoreMismatchError(
                f"{self.place} has format version {attributes.get('version')}, this motive writes {FORMAT_VERSION}: "
                "open it with the version that wrote it, or delete the run and compute it again"
            )
        if write:
            try:
                self.place.settle(self._root)
            except OSError as error:
                self.close()
                raise StoreError(f"cannot write to {self.place}: {error.strerror or error}; mend the disk") from error

    def table(
        self,
        name: str,
        columns: Mapping[str, Column] | None = None,
        identity: Identity | None = None,
        *,
        damaged: bool = False,
    ) -> Table:
        """A table; with ``columns`` for writing (under ``identity``), without for reading. See ``Table``."""
        try:
            return Table(self._root, name, columns, identity, damaged=damaged)
        except KeyError:
            raise StoreError(f"the run has no table '{name}' yet") from None

    def table_names(self, parts: Sequence[str] = (*TABLES, *ROLES)) -> list[str]:
        """The tables of some parts, those of sketches as ``train/t750.748-n0``: see ``table``."""
        names = []
        for part in parts:
            inside = [f"{part}/{sample.table}" for sample in self.stored_samples(part)] if part in ROLES else [part]
            names += [name for name in inside if Table.is_there(self._root, name)]
        return names

    def describe_again(self, name: str) -> None:
        """Write the lost or altered ``zarr.json`` of a table of sketches, as far as those of its role say it."""
        role, _, table = name.partition("/")
        SketchTables.describe_again(self._root, role, table)

    def forget_description(self, role: str) -> None:
        """Remove the ``zarr.json`` of all sketches of a role, which the gradient step writes again."""
        remove(self._root, f"{role}/zarr.json")

    def lost_files(self) -> list[str]:
        """``zarr.json`` of groups and arrays that hold something all the same."""
        return orphaned(self._root)

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

    def stored_samples(self, role: str) -> list[Sample]:
        """Every timestep and noise that has sketches of a role, of whatever gradient step."""
        return SketchTables.all_stored(self._root, role)

    def sketch_identity(self, role: str) -> dict[str, Any]:
        """Settings that all sketches of a role share."""
        return SketchTables.shared_identity(self._root, role)

    @property
    def owner(self) -> Owner | None:
        """The run that may write to it; None where none was noted yet."""
        return Owner.read(self._root.attrs.asdict())

    def note_owner(self, owner: Owner | None) -> None:
        """Note whose it is, for good; None gives it up."""
        if self.owner != owner:
            self._root.attrs.update({"owner": None if owner is None else owner.as_dict()})

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
        if name not in ("motion", "train", "query"):
            return self._found(name) is not None
        if name == "motion":
            return Table.is_there(self._root, name)
        samples = SketchTables.in_use(self._root, name)
        return bool(samples) and all(Table.is_there(self._root, f"{name}/{sample.table}") for sample in samples)

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
        with (
            self._replacing("influence", {"settings": dict(settings)}) as group,
            ScoreWriter(group, kinds, train, query) as writer,
        ):
            yield writer

    def scores(self, kind: str, *, axes: ScoreRows | None = None) -> ScoreRows:
        """One kind of the last scoring, ``motion`` or ``whole``, a query at a time.

        Args:
            axes: the queries and clips of this scoring where they are known: ids need not be read again.
        """
        found = self._found("influence")
        if found is None:
            raise StoreError("the run has no influence yet: score it first (motive influence)")
        return open_scores(self._root, found, kind, axes)

    def scores_without(self, *, axes: ScoreRows | None = None) -> list[ScoreRows]:
        """The motion scores of the last scoring without each of its timesteps and noises in turn; none where there was
        only one, or where a version before these scored."""
        found = self._found("influence")
        if found is None:
            return []
        group = part_of(self._root, found, AGAIN)
        held = set[str]() if group is None else children(group)
        kinds = takewhile(held.__contains__, map(without, count()))
        return [open_scores(self._root, found, kind, axes) for kind in kinds]

    def scoring_id(self) -> str | None:
        """What tells the last scoring from all others; None where there is none."""
        found = self._found("influence")
        return None if found is None else str(self._root[found].attrs.asdict().get("id"))

    def read_scores(self, name: str) -> tuple[npt.NDArray[np.float32], list[str], list[str]]:
        """Cosines of the last scoring, all in memory: (Q, N), query ids, training ids."""
        rows = self.scores(name)
        return rows.read(), rows.query_ids, rows.train_ids

    def keep_parameters(self, sizes: Mapping[str, int]) -> None:
        """Keep the names and sizes of the attributed parameters, once for all sketches of the run."""
        with suppress(StoreDamageError):  # replaced
            if self._found("parameters") and self.read_parameters() == dict(sizes):
                return
        with self._replacing("parameters", {}) as group:
            write_texts(
                group.create_array(
                    "name", shape=(len(sizes),), dtype=str, chunks=(max(1, len(sizes)),), compressors=TEXTS
                ),
                list(sizes),
            )
            values = np.asarray(list(sizes.values()), np.int64)
            group.create_array("size", data=values, compressors=NUMBERS, config=EVERY_CHUNK)

    def read_parameters(self) -> dict[str, int]:
        """Elements of each attributed parameter by its name, in the order of names."""
        found = self._found("parameters")
        if found is None:
            raise StoreError("the run has no gradients yet: run the gradient step first (motive gradients)")
        again = "Run the gradient step again, which writes it (motive gradients)"
        names = whole_array(self._root, found, "name", again)
        sizes = whole_array(self._root, found, "size", again)
        if len(names) != len(sizes):
            raise damaged_part(self._root, found, f"{len(names)} names and {len(sizes)} sizes", again)
        return {str(name): int(size) for name, size in zip(names, sizes, strict=True)}

    @contextmanager
    def _replacing(self, name: str, attributes: Mapping[str, Any]) -> Iterator[zarr.Group]:
        """An empty group that takes the place of the part ``name`` when it is filled. Until then, and if filling it
        breaks off, the one before is found."""
        part = f"{name}-{uuid.uuid4().hex}"
        group = self._root.create_group(part, attributes={**attributes, "id": part})
        try:
            yield group
            self.place.replace(self._root, name, part)
        finally:
            self.place.settle(self._root)

    def sizes(self) -> dict[str, int]:
        """Part of the store -> bytes."""
        return self.place.sizes(self._root)

    def leftovers(self) -> list[str]:
        """Groups that a step that was killed left half-written; the next writer removes them."""
        return self.place.leftovers(self._root)

    def _found(self, name: str) -> str | None:
        return self.place.current(self._root, name)

    def close(self) -> None:
        """Give the lock back. Tables are flushed by the step that wrote them."""
        self.place.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def delete_store(path: str | Path) -> None:
    """Remove a run's store and lock file. Refused while somebody writes to it, and for a folder that is no store."""
    place = place_of(path)
    if not place.is_there():
        if isinstance(place, Folder):
            place.beside(".lock").unlink(missing_ok=True)
        return
    try:
        with RunStore(path, write=True) as store:
            store.place.delete()
    except StoreMismatchError:  # of another format version: ours all the same
        place.delete()
