"""What encoders made of clips and captions, kept for all runs: latents and text embeddings, each under the digest of
everything it depends on.

::

    encodings.zarr/                       attributes: format "motive-fo encodings", version
      latents/<ab>/<digest>/              one array, ``x0``; attributes: what decoded the clip
      captions/<ab>/<digest>/             one array for each tensor of the condition

An entry is written aside and renamed: it is there whole or not at all, whoever is killed, and any number of processes
may write at once. A damaged or deleted entry is made again. Nothing here is part of a result: the folder can be thrown
away at any time.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from motive_fo.errors import StoreError
from motive_fo.store.chunks import EVERY_CHUNK, NUMBERS, absent

Kind = Literal["latents", "captions"]
KINDS: Final[tuple[Kind, ...]] = ("latents", "captions")

_FORMAT: Final = {"format": "motive-fo encodings", "version": 1}
_ABANDONED: Final = 24 * 3600.0  # seconds after which what a killed process left half-written is swept away


@dataclass(frozen=True)
class Contents:
    """How much is kept: entries and bytes by kind."""

    folder: str
    entries: dict[str, int]
    bytes: dict[str, int]


@dataclass(frozen=True)
class Entry:
    """One encoding.

    Attributes:
        arrays: name -> values; bfloat16, which numpy lacks, as the uint16 of the same bits.
        facts: what was noted with it.
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    facts: Mapping[str, Any]


class EncodingStore:
    """See the module's text. Made where it is missing.

    Args:
        write: False to look only, into a folder that is there.

    Raises:
        StoreError: the folder holds something else, or cannot be written.
    """

    def __init__(self, folder: str | Path, *, write: bool = True) -> None:
        self.folder = Path(folder)
        if not write:
            _require_ours(self.folder)
            return
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            if not self.folder.exists():
                self._create()
        except OSError as error:
            raise StoreError(f"cannot keep encodings in {self.folder}: {error.strerror or error}") from None
        _require_ours(self.folder)
        self._sweep()

    def has(self, kind: Kind, digest: str) -> bool:
        """Whether there is an entry."""
        return (self._place(kind, digest) / "zarr.json").is_file()

    def read(self, kind: Kind, digest: str) -> Entry | None:
        """An entry, None where there is none. A damaged one is removed, as if it had never been there."""
        place = self._place(kind, digest)
        if not (place / "zarr.json").is_file():
            return None
        try:
            group = zarr.open_group(place, mode="r")
            facts = cast(dict[str, Any], group.attrs.asdict())
            arrays = {name: _whole(array) for name, array in group.arrays()}
        except Exception:  # flipped bits, a file that is gone: zarr and the disk say it in many ways
            shutil.rmtree(place, ignore_errors=True)
            return None
        return Entry(arrays, facts) if set(arrays) == set(facts.get("names", ())) else None

    def write(self, kind: Kind, digest: str, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> None:
        """Keep an entry; one that is there already stays."""
        place = self._place(kind, digest)
        part = place.with_name(f"part-{uuid.uuid4().hex}")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            group = zarr.create_group(part, attributes={**facts, "names": sorted(arrays)})
            for name, values in arrays.items():
                group.create_array(
                    name,
                    shape=values.shape,
                    chunks=values.shape,
                    dtype=values.dtype,
                    # captions are padded with zeros to one length, which compresses to nothing; latents do not compress
                    compressors=[ZstdCodec(level=1), Crc32cCodec()] if kind == "captions" else NUMBERS,
                    config=EVERY_CHUNK,
                )[...] = values
            part.rename(place)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            if not self.has(kind, digest):  # not only another process that was faster
                raise StoreError(
                    f"cannot keep encodings in {self.folder}: {error.strerror or error}; free space (motive encodings "
                    "clear), or set keep_encodings to false"
                ) from error

    def contents(self) -> Contents:
        """How much is kept."""
        entries: dict[str, int] = {}
        total: dict[str, int] = {}
        for kind in KINDS:
            found = list((self.folder / kind).glob("??/*/zarr.json"))
            entries[kind] = sum(1 for path in found if not path.parent.name.startswith("part-"))
            total[kind] = sum(path.stat().st_size for path in (self.folder / kind).rglob("*") if path.is_file())
        return Contents(str(self.folder), entries, total)

    def _place(self, kind: Kind, digest: str) -> Path:
        return self.folder / kind / digest[:2] / digest

    def _create(self) -> None:
        part = self.folder.with_name(f"{self.folder.name}.{uuid.uuid4().hex}.part")
        zarr.create_group(part, attributes=dict(_FORMAT))
        try:
            part.rename(self.folder)
        except OSError:  # another process made it at the same moment
            shutil.rmtree(part, ignore_errors=True)
            if not self.folder.is_dir():
                raise

    def _sweep(self) -> None:
        for part in self.folder.glob("*/??/part-*"):
            try:
                if time.time() - part.stat().st_mtime > _ABANDONED:
                    shutil.rmtree(part, ignore_errors=True)
            except OSError:
                continue


def contents(folder: str | Path) -> Contents:
    """How much a folder of encodings holds; nothing where there is none. Raises ``StoreError`` for another folder."""
    folder = Path(folder)
    if not folder.exists():
        return Contents(str(folder), dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0))
    return EncodingStore(folder).contents()


def clear(folder: str | Path) -> Contents:
    """Throw a folder of encodings away. Returns what it held. Raises ``StoreError`` for another folder."""
    held = contents(folder)
    folder = Path(folder)
    if folder.exists():
        gone = folder.with_name(f"{folder.name}.{os.getpid()}.gone")
        folder.rename(gone)  # at once, so that a run that is going on sees all of it or nothing
        shutil.rmtree(gone, ignore_errors=True)
    return held


def _whole(array: zarr.Array[Any]) -> npt.NDArray[Any]:
    """All of an array. Raises ``ValueError`` where a chunk is not there, which Zarr takes for zeros."""
    if absent(array):
        raise ValueError("a chunk is missing")
    return np.asarray(array[:])


def _require_ours(folder: Path) -> None:
    try:
        known = zarr.open_group(folder, mode="r").attrs.asdict()
    except Exception as error:
        raise StoreError(f"{folder} is not a folder of encodings: choose another, or remove it") from error
    if known.get("format") != _FORMAT["format"]:
        raise StoreError(f"{folder} is a Zarr group, but no folder of encodings: choose another, or remove it")
    if known.get("version") != _FORMAT["version"]:
        raise StoreError(
            f"{folder} has format version {known.get('version')}, this motive writes {_FORMAT['version']}: "
            "remove the folder, encodings are made again"
        )
