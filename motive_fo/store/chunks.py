"""Numbers and texts read straight from an array's chunk files, and lines of numbers that grow in them.

A chunk of numbers lies on disk as its little-endian bytes and their CRC-32C, a chunk of texts as one Zstandard frame
and its CRC-32C: there is little to decode. Zarr's own way takes a task, two copies and fresh memory for each chunk,
which at a million clips is as much processor time as multiplying their sketches. Here the files are read into one
array, and checked. Whatever is not as expected (another layout or place, a missing chunk, a checksum that does not
match) is left to Zarr, which fills in or raises as it always does. Zarr writes chunks whole; here a chunk's file grows
with what comes, so that a line of a million numbers is one file and was never in memory.

Zarr takes a chunk that is not there for one of nothing but fill values, and writes none for such: whether a chunk was
lost cannot be told. So arrays are written by ``every_chunk``, and ``absent`` says which chunks are not there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any, Final

import google_crc32c
import numpy as np
import numpy.typing as npt
import zarr
from numcodecs import VLenUTF8, Zstd  # type: ignore[import-untyped]
from zarr.abc.store import Store
from zarr.codecs import BytesCodec, Crc32cCodec, VLenUTF8Codec, ZstdCodec
from zarr.core.array_spec import ArrayConfigParams
from zarr.core.metadata import ArrayV3Metadata
from zarr.core.sync import sync
from zarr.storage import LocalStore

_CHECKSUM: Final = 4  # bytes
#: of arrays of numbers, which hardly compress and are read often, and of texts. A checksum notices flipped bits.
NUMBERS: Final = (Crc32cCodec(),)
TEXTS: Final = (ZstdCodec(), Crc32cCodec())
#: of arrays as they are made: see ``every_chunk``.
EVERY_CHUNK: Final[ArrayConfigParams] = {"write_empty_chunks": True}
_HALF_WRITTEN: Final = ".partial"  # what Zarr renames when it is complete
_TEXTS_OF_OLD: Final = [VLenUTF8Codec, ZstdCodec]  # without a checksum

Chunk = tuple[int, ...]
"""A chunk's place along each axis."""


def every_chunk(array: zarr.Array[Any], rows: int | None = None) -> zarr.Array[Any]:
    """The same array, of which every chunk is written that holds something; with ``rows``, chunks can be written beyond
    its end, before it is resized to so many rows."""
    shape = array.shape if rows is None else (rows, *array.shape[1:])
    assert isinstance(array.metadata, ArrayV3Metadata)
    metadata = array.metadata.update_shape(shape)
    return zarr.Array(zarr.AsyncArray(metadata=metadata, store_path=array.store_path, config=EVERY_CHUNK))


def absent(
    array: zarr.Array[Any], chunks: Iterable[Chunk] | None = None, there: Container[str] | None = None
) -> list[Chunk]:
    """Which of these chunks of an array are not there; of all of its chunks where none are named.

    Args:
        there: what ``listed`` said, where several arrays are asked for.
    """
    if chunks is None:
        chunks = product(*(range(-(-n // size)) for n, size in zip(array.shape, array.chunks, strict=True)))
    wanted = [] if 0 in array.shape else list(chunks)
    if isinstance(array.store_path.store, LocalStore):
        file_of = _files(array)
        return [chunk for chunk in wanted if not file_of(*chunk).is_file()]
    assert isinstance(array.metadata, ArrayV3Metadata)
    if there is None:
        there = _keys(array.store_path.store, array.path) if wanted else ()
    return [chunk for chunk in wanted if f"{array.path}/{array.metadata.encode_chunk_key(chunk)}" not in there]


def listed(group: zarr.Group) -> set[str] | None:
    """All objects of a group, for ``absent``; None of a folder, where looking for a file costs as little."""
    store = group.store_path.store
    return None if isinstance(store, LocalStore) else _keys(store, group.path)


def holds_anything(group: zarr.Group, name: str) -> bool:
    """Whether anything lies under a name in a group, also where its ``zarr.json`` is lost."""
    store, path = group.store_path.store, f"{group.path}/{name}".lstrip("/")
    if isinstance(store, LocalStore):  # the first file will do
        return any(each.is_file() and each.suffix != _HALF_WRITTEN for each in (store.root / path).rglob("*"))
    return bool(_keys(store, path))


def children(group: zarr.Group) -> set[str]:
    """Names in a group, also of what has lost its ``zarr.json``, and of folders that a kill left empty."""
    store = group.store_path.store
    _forget_listings(store)

    async def names() -> set[str]:
        return {name.rstrip("/") async for name in store.list_dir(group.path)}

    return sync(names())


def remove(group: zarr.Group, name: str) -> None:
    """Remove one file or object of a group, where it is there."""
    sync(group.store_path.store.delete(f"{group.path}/{name}".lstrip("/")))


def orphaned(group: zarr.Group) -> list[str]:
    """The ``zarr.json`` that are lost: of arrays and groups below this one that hold something all the same."""
    keys = _keys(group.store_path.store, group.path)
    parts = (key.split("/") for key in keys)
    nodes = {"/".join(each[:n]) for each in parts for n in range(1, len(each)) if "c" not in each[:n]}
    return sorted(f"{node}/zarr.json" for node in nodes if f"{node}/zarr.json" not in keys)


def _keys(store: Store, path: str) -> set[str]:
    """All files or objects below a path of a store."""
    if isinstance(store, LocalStore):
        found = (each for each in (store.root / path).rglob("*") if each.suffix != _HALF_WRITTEN)
        return {each.relative_to(store.root).as_posix() for each in found if each.is_file()}
    _forget_listings(store)

    async def every() -> set[str]:
        return {key async for key in store.list_prefix(f"{path}/" if path else "")}

    return sync(every())


def _forget_listings(store: Store) -> None:
    """Have object storage look again: others wrote meanwhile."""
    files: Any = getattr(store, "fs", None)
    if files is not None:
        files.invalidate_cache()


def read_rows(array: zarr.Array[Any], low: int, high: int) -> npt.NDArray[Any]:
    """Rows ``low`` to ``high`` (not included) of an array, as ``array[low:high]`` gives them."""
    if _holds_numbers(array) and array.chunks[1:] == array.shape[1:] and 0 <= low < high <= array.shape[0]:
        rows = np.empty((high - low, *array.shape[1:]), array.dtype)
        file_of, beside = _files(array), [0] * (rows.ndim - 1)
        if _gather(rows, lambda chunk: file_of(chunk, *beside), array.chunks[0], low):
            return rows
    return np.asarray(array[low:high])


def expect_rows(array: zarr.Array[Any], low: int, high: int) -> None:
    """Have the system fetch the files of these rows, which are read soon, while something else is computed."""
    if not _holds_numbers(array) or sys.platform != "linux":
        return
    file_of, beside = _files(array), [0] * (array.ndim - 1)
    for chunk in range(low // array.chunks[0], -(-high // array.chunks[0])):
        with suppress(OSError), file_of(chunk, *beside).open("rb", buffering=0) as stream:
            try:  # asking for a file that is in memory takes a tenth of reading it
                os.preadv(stream.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
            except OSError:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def read_line(array: zarr.Array[Any], row: int) -> npt.NDArray[Any]:
    """One row of an array with two axes whose chunks hold one row each, as ``array[row]`` gives it."""
    if array.ndim == 2 and array.chunks[0] == 1 and _holds_numbers(array) and 0 <= row < array.shape[0]:
        line = np.empty(array.shape[1], array.dtype)
        file_of = _files(array)
        if _gather(line, lambda chunk: file_of(row, chunk), array.chunks[1], 0):
            return line
    return np.asarray(array[row])


def read_texts(array: zarr.Array[Any], low: int = 0, high: int | None = None) -> list[str]:
    """Rows ``low`` to ``high`` (not included, the end where open) of an array of texts with one axis, as
    ``array[low:high].tolist()`` gives them."""
    high = array.shape[0] if high is None else min(high, array.shape[0])
    codecs = _codecs(array)
    if codecs in (_TEXTS_OF_OLD, [*_TEXTS_OF_OLD, Crc32cCodec]):
        file_of, size = _files(array), array.chunks[0]
        read: list[str] = []
        with suppress(Exception):  # missing, or damaged in one of many ways: Zarr says which
            for chunk in range(low // size, -(-high // size)):
                read += _decoded(file_of(chunk).read_bytes(), size, checked=Crc32cCodec in codecs)
            return read[low % size : low % size + max(0, high - low)]  # chunks are stored whole
    return list(np.asarray(array[low:high]).tolist())


def _decoded(data: bytes, size: int, *, checked: bool) -> list[str]:
    """The texts of a chunk. Raises one of many errors where it is damaged."""
    frame, checksum = (data[:-_CHECKSUM], data[-_CHECKSUM:]) if checked else (data, b"")
    if checked and int.from_bytes(checksum, "little") != int(google_crc32c.value(frame)):
        raise ValueError("checksum")
    texts: list[str] = VLenUTF8().decode(Zstd().decode(frame)).tolist()
    if len(texts) != size:
        raise ValueError("length")
    return texts


def write_texts(array: zarr.Array[Any], texts: Sequence[str]) -> None:
    """Fill an empty array of texts with one axis and one chunk."""
    if _codecs(array) == [*_TEXTS_OF_OLD, Crc32cCodec] and array.chunks == array.shape == (len(texts),):
        frame = Zstd().encode(VLenUTF8().encode(np.asarray(texts, object)))
        file = _files(array)(0)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(frame + int(google_crc32c.value(frame)).to_bytes(_CHECKSUM, "little"))
    elif texts:
        array[:] = np.asarray(texts, dtype=np.dtypes.StringDType())


class Lines:
    """Writes the R lines of an empty array (R, N), all at once and from the left: each chunk holds one line's part.

    A chunk is complete, with its checksum, when its last number came.
    """

    def __init__(self, array: zarr.Array[Any]) -> None:
        self._array, self._file_of = array, _files(array)
        self._done = 0
        self._sums = [0] * array.shape[0]

    @staticmethod
    def can_write(array: zarr.Array[Any]) -> bool:
        """Whether the array's chunks are files of this layout."""
        return array.ndim == 2 and array.chunks[0] == 1 and _holds_numbers(array)

    def append(self, values_RB: npt.NDArray[Any]) -> None:
        """The next B numbers of each line. Raises ``OSError`` where they cannot be written."""
        width, end = self._array.chunks[1], self._array.shape[1]
        taken = 0
        while taken < values_RB.shape[1]:
            chunk, at = divmod(self._done, width)
            part = min(values_RB.shape[1] - taken, width - at)
            self._done += part
            unused = width - at - part if self._done == end else 0  # every chunk is stored in full length
            padding = np.full(unused, self._array.fill_value, self._array.dtype)
            for line, values_B in enumerate(values_RB[:, taken : taken + part]):
                file = self._file_of(line, chunk)
                if at == 0:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    self._sums[line] = 0
                with file.open("ab" if at else "wb") as stream:
                    for piece in (np.ascontiguousarray(values_B).view(np.uint8), padding.view(np.uint8)):
                        stream.write(piece.data)
                        self._sums[line] = google_crc32c.extend(self._sums[line], piece)
                    if at + part + unused == width:
                        stream.write(self._sums[line].to_bytes(_CHECKSUM, "little"))
            taken += part


def _codecs(array: zarr.Array[Any]) -> list[type]:
    """The kinds of codecs of an array in files; none where it lies elsewhere."""
    metadata = array.metadata
    if isinstance(array.store_path.store, LocalStore) and isinstance(metadata, ArrayV3Metadata):
        return [type(codec) for codec in metadata.codecs]
    return []


def _holds_numbers(array: zarr.Array[Any]) -> bool:
    little = sys.byteorder == "little" and array.dtype.kind in "iuf" and array.dtype.isnative
    return little and 0 not in array.shape and _codecs(array) == [BytesCodec, Crc32cCodec]


def _files(array: zarr.Array[Any]) -> Callable[..., Path]:
    """The file of a chunk by its place along each axis. Joining paths thousands of times takes as long as reading."""
    store, metadata = array.store_path.store, array.metadata
    assert isinstance(store, LocalStore)
    assert isinstance(metadata, ArrayV3Metadata)
    folder = str(store.root / array.store_path.path)
    return lambda *chunk: Path(f"{folder}/{metadata.encode_chunk_key(chunk)}")


def _gather(items: npt.NDArray[Any], file_of: Callable[[int], Path], per_chunk: int, low: int) -> bool:
    """Read the items from the one numbered ``low`` on, ``per_chunk`` of which lie in each file, along the first axis.

    Returns:
        False where a file is missing, short or damaged.
    """
    wanted = items.view(np.uint8).reshape(len(items), -1)
    for chunk in range(low // per_chunk, (low + len(items) - 1) // per_chunk + 1):
        first = chunk * per_chunk - low
        whole = first >= 0 and first + per_chunk <= len(items)
        body = wanted[first : first + per_chunk] if whole else np.empty((per_chunk, wanted.shape[1]), np.uint8)
        if not _read_chunk(file_of(chunk), body):
            return False
        if not whole:
            start, stop = max(0, first), min(len(items), first + per_chunk)
            wanted[start:stop] = body[start - first : stop - first]
    return True


def _read_chunk(file: Path, body: npt.NDArray[np.uint8]) -> bool:
    """Read a file of exactly this body and its checksum; False where it is not that, or not sound."""
    checksum = bytearray(_CHECKSUM)
    try:
        handle = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        if os.readv(handle, [body.data, checksum]) != body.nbytes + _CHECKSUM or os.read(handle, 1):
            return False
    finally:
        os.close(handle)
    return int.from_bytes(checksum, "little") == int(google_crc32c.value(body))
