"""What is lost or altered of a store, in words: which part, which rows, which clips, and the way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import zarr
from zarr.storage import FsspecStore, LocalStore

from motive_fo.errors import MotiveError, StoreDamageError
from motive_fo.store.chunks import absent, read_texts
from motive_fo.store.place import is_of_storage

_SHOWN: Final = 3


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong with a table.

    Attributes:
        what: what it is.
        ids: its clips, where computing them again mends it.
        unreadable: column and rows of a chunk that nothing can be read from, nor be written into.
        column: one whose ``zarr.json`` is lost or altered, which says how its chunks are to be read.
    """

    what: str
    ids: Sequence[str] = ()
    unreadable: tuple[str, slice] | None = None
    column: str | None = None

    def __str__(self) -> str:
        if self.unreadable is None:
            return self.what
        column, rows = self.unreadable
        held = f", of {listing(self.ids)}" if self.ids else ""
        return f"column {column}, rows {rows.start} to {rows.stop - 1}: {self.what}{held}"


def damaged_table(group: zarr.Group, name: str, damages: Sequence[Damage]) -> StoreDamageError:
    """What a step says that needs what is damaged."""
    more = f", and {len(damages) - 1} more" if len(damages) > 1 else ""
    where = address(group)
    return StoreDamageError(
        f"{where} is damaged: table {name}, {damages[0]}{more}. Mark what is damaged as not computed (motive store "
        f"verify {where} --repair), then run the step that computes it again"
    )


def damaged_part(group: zarr.Group, part: str, what: str, way_out: str) -> StoreDamageError:
    """The same of a part that is written whole."""
    return StoreDamageError(f"{address(group)} is damaged: {part}: {what}. {way_out}")


def part_of(parent: zarr.Group, name: str, way_out: str) -> zarr.Group | None:
    """A group in a group, None where there is none. Raises ``StoreDamageError`` where it cannot be read."""
    try:
        return cast(zarr.Group, parent[name]) if name in parent else None
    except Exception as error:
        if not is_damage(error):
            raise
        raise damaged_part(parent, f"{parent.path}/{name}/zarr.json".lstrip("/"), sentence(error), way_out) from error


def whole_array(parent: zarr.Group, part: str, name: str, way_out: str) -> list[Any]:
    """All of an array with one axis, of a part that is written whole.

    Raises:
        StoreDamageError: it is lost or altered; ``way_out`` says what writes the part again.
    """
    try:
        array = cast("zarr.Array[Any]", parent[f"{part}/{name}"])
        if not absent(array):
            return read_texts(array) if array.dtype.kind == "T" else list(np.asarray(array[:]).tolist())
    except Exception as error:
        if not is_damage(error):
            raise
        raise damaged_part(parent, f"{part}/{name}", sentence(error), way_out) from error
    raise damaged_part(parent, f"{part}/{name}", "a chunk is missing", way_out)


def is_damage(error: Exception) -> bool:
    """Whether what reading raised is due to what was read: zarr and the codecs say it in many ways."""
    return not isinstance(error, MemoryError) and not is_of_storage(error)


def address(group: zarr.Group) -> str:
    """Folder or URL of the store that a group is of."""
    store: Any = group.store_path.store
    if isinstance(store, LocalStore):
        return str(store.root)
    if isinstance(store, FsspecStore):
        files = getattr(store.fs, "sync_fs", store.fs)
        return str(files.unstrip_protocol(store.path))
    return "the store"


def listing(ids: Sequence[str]) -> str:
    """The first clips by their ids, and how many more."""
    return ", ".join(ids[:_SHOWN]) + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")


def sentence(error: Exception) -> str:
    """What an error says, in one line. Ours are whole; what reading damaged bytes raises may be long."""
    if isinstance(error, KeyError):
        return "its zarr.json is missing or cannot be read"
    text = " ".join(str(error).split())
    return text if isinstance(error, MotiveError) else text[:200].rstrip(".") or type(error).__name__
