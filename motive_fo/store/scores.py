"""Cosines of Q queries and N training clips on disk: written block by block, read query by query.

A scoring is a group with the arrays ``train_id``, ``query_id`` and one (Q, N) float32 array for each kind of score, NaN
where unknown: ``motion``, ``whole``, and of S > 1 timesteps and noises ``motion-without-0`` and on, the motion scores
without each of these in turn (``influence.doubt``): S Q numbers of a clip beside the 2 S D of its sketches. A chunk
holds one query and a run of clips, so that one query's row is read without the others'.

Shapes: Q queries, N training clips, B clips of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, cast

import numpy as np
import numpy.typing as npt
import zarr
from zarr.storage import LocalStore

from motive_fo.errors import StoreDamageError, StoreError
from motive_fo.store.chunks import EVERY_CHUNK, NUMBERS, TEXTS, Lines, absent, children, read_line, write_texts
from motive_fo.store.damage import damaged_part, is_damage, listing, sentence, whole_array

#: columns that wait to be written together take about this much for each of two kinds of score, less where there are
#: more: in files, which grow, and elsewhere, where a chunk is written whole.
_BUFFER_BYTES: Final = (4 << 20, 48 << 20)
#: the way out where a scoring is damaged.
AGAIN: Final = "Score it again, which replaces all of it (motive influence)"
#: scores of a query that spread less than this are rounding to float32.
ALIKE: Final = 1e-6
_CHUNK_CLIPS: Final = (1 << 14, 1 << 20)  # at least and at most
_GROWTH_CLIPS: Final = 1 << 11  # at least: each growth opens a file for each query


@dataclass(frozen=True)
class ScoreRows:
    """One kind of score, a query's row at a time: nothing is in memory but what is asked for.

    Attributes:
        query_ids, train_ids: the axes.
    """

    query_ids: list[str]
    train_ids: list[str]
    _values: Any  # (Q, N): an array of Zarr or NumPy
    _is_current: Callable[[], bool] = lambda: True
    _damaged: Callable[[str], StoreDamageError] = StoreDamageError

    @property
    def shape(self) -> tuple[int, int]:
        """(Q, N)."""
        return len(self.query_ids), len(self.train_ids)

    def __len__(self) -> int:
        return len(self.query_ids)

    def __getitem__(self, query: int) -> npt.NDArray[np.float32]:
        """Scores of one query: (N,)."""
        if not 0 <= query < len(self):
            raise IndexError(query)
        self._require_current()
        if not isinstance(self._values, zarr.Array):
            return np.asarray(self._values[query])
        try:
            return read_line(self._values, query)
        except Exception as error:
            if not is_damage(error):
                raise
            raise self._damaged(f"query {self.query_ids[query]}: {sentence(error)}") from error

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        return (self[query] for query in range(len(self)))

    def read(self) -> npt.NDArray[np.float32]:
        """All of them: (Q, N), 4 Q N bytes."""
        if not isinstance(self._values, zarr.Array):
            return np.asarray(self._values[:])
        return np.stack([*self]) if len(self) else np.empty(self.shape, np.float32)

    def held(self) -> ScoreRows:
        """The same from memory, whatever becomes of the store."""
        return ScoreRows(self.query_ids, self.train_ids, self.read())

    def _require_current(self) -> None:
        if not self._is_current():
            raise StoreError("the run was scored again in the meantime: read its influence anew")


class ScoreWriter:
    """Fills a group with a scoring. Opened through ``RunStore.begin_scores``.

    A thread writes what is complete while more is put.

    Args:
        group: an empty group.
        kinds: names of the kinds of scores.
    """

    def __init__(self, group: zarr.Group, kinds: Sequence[str], train: Sequence[str], query: Sequence[str]) -> None:
        self._clips, queries = len(train), len(query)
        grows = isinstance(group.store, LocalStore)
        self._columns = self._held_columns(queries * max(1, len(kinds) / 2), grows)
        chunks = -(-self._clips // _CHUNK_CLIPS[1])
        self._arrays = {
            name: group.create_array(
                name,
                shape=(queries, self._clips),
                chunks=(1, max(1, -(-self._clips // max(1, chunks))) if grows else self._columns),
                dtype="float32",
                fill_value=float("nan"),
                compressors=NUMBERS,
                config=EVERY_CHUNK,
            )
            for name in kinds
        }
        self._lines = {name: Lines(array) for name, array in self._arrays.items() if Lines.can_write(array)}
        self._held, self._other = (
            {name: np.empty((queries, self._columns), np.float32) for name in kinds} for _ in range(2)
        )
        self._done = 0
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] = self._thread.submit(_write_ids, group, {"train_id": train, "query_id": query})

    def _held_columns(self, rows: float, grows: bool) -> int:
        low, high = _CHUNK_CLIPS
        wanted = int(_BUFFER_BYTES[0 if grows else 1] / (4 * max(1, rows)))
        return max(1, min(self._clips, high, max(_GROWTH_CLIPS if grows else low, wanted)))

    def put(self, scores: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """The next B clips, in order: kind -> (Q, B)."""
        (count,) = {block.shape[1] for block in scores.values()}
        taken = 0
        while taken < count:
            at = self._done % self._columns
            part = min(count - taken, self._columns - at)
            for name, block in scores.items():
                self._held[name][:, at : at + part] = block[:, taken : taken + part]
            taken += part
            self._done += part
            if self._done % self._columns == 0 or self._done == self._clips:
                self._hand_over()

    def _hand_over(self) -> None:
        """Have the columns that are held written; meanwhile the next are gathered in the other half."""
        self._writing.result()
        columns = slice((self._done - 1) // self._columns * self._columns, self._done)
        self._writing = self._thread.submit(self._write, self._held, columns)
        self._held, self._other = self._other, self._held

    def _write(self, held: Mapping[str, npt.NDArray[np.float32]], columns: slice) -> None:
        for name, array in self._arrays.items():
            values = held[name][:, : columns.stop - columns.start]
            if name in self._lines:
                self._lines[name].append(values)
            else:
                array[:, columns] = values

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what is being written. Raises what writing raised, and ``ValueError`` unless every clip was put."""
        self._thread.shutdown()
        if kind is None:
            self._writing.result()
            if self._done != self._clips:
                raise ValueError(f"{self._done} of {self._clips} clips have scores")


def _write_ids(group: zarr.Group, axes: Mapping[str, Sequence[str]]) -> None:
    for name, ids in axes.items():
        texts = group.create_array(
            name, shape=(len(ids),), dtype=str, chunks=(max(1, len(ids)),), compressors=TEXTS, config=EVERY_CHUNK
        )
        write_texts(texts, ids)


def without(sample: int) -> str:
    """The kind of score that leaves out one timestep and noise, counted from 0."""
    return f"motion-without-{sample}"


def open_scores(parent: zarr.Group, name: str, kind: str, axes: ScoreRows | None = None) -> ScoreRows:
    """One kind of a finished scoring, the group ``name``. Raises ``StoreError`` where there is no such kind, and
    ``StoreDamageError`` where a part of it is lost."""

    def stamp() -> Any:
        return cast(zarr.Group, parent[name]).attrs.asdict().get("id") if name in parent else None

    def damaged(part: str, what: str) -> StoreDamageError:
        return damaged_part(parent, f"{name}/{part}", what, AGAIN)

    try:
        group, opened = cast(zarr.Group, parent[name]), stamp()
        there = kind in children(group)
        values = cast("zarr.Array[Any]", group[kind]) if there else None
    except Exception as error:
        if not is_damage(error):
            raise
        raise damaged(kind, sentence(error)) from error
    if values is None:
        raise StoreError(f"the run has no scores called {kind!r}: score it again (motive influence)")
    if axes:
        query, train = axes.query_ids, axes.train_ids
    else:
        query, train = (whole_array(parent, name, key, AGAIN) for key in ("query_id", "train_id"))
    if values.shape != (len(query), len(train)):
        raise damaged(kind, f"{values.shape} scores of {len(query)} queries and {len(train)} clips")
    if gone := absent(values):
        row, column = gone[0]
        clips = train[column * values.chunks[1] : (column + 1) * values.chunks[1]]
        more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
        raise damaged(kind, f"a chunk is missing, of query {query[row]} and clips {listing(clips)}{more}")
    return ScoreRows(query, train, values, lambda: stamp() == opened, partial(damaged, kind))
