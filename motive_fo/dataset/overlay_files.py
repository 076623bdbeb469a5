"""Where a run's overlays are, in the dataset and on disk, and how they are removed.

Apart from the module that makes them, because deleting a run must not need all that making them does.
"""

from __future__ import annotations

import shutil
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Any, Final

from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.run_record import RunRecord, data_folder
from motive_fo.errors import MotiveError
from motive_fo.store.address import is_url
from motive_fo.store.place import place_of

MARKER: Final = "motive-overlays.txt"
_PLAIN_FIELDS: Final = frozenset(
    {"id", "_id", "frame_number", "_sample_id", "created_at", "last_modified_at", "_dataset_id"}
)


def overlay_field(run: str) -> str:
    """Name of the frame field with the run's overlays."""
    return f"{run}_motion_mask"


def overlay_folder(record: RunRecord) -> Path:
    """Where the run's pictures go: beside its store, which FiftyOne has to reach as files; else in the data folder."""
    if is_url(record.store):
        return data_folder() / "overlays" / place_of(record.store).beside(".overlays").name
    return Path(record.store).with_suffix(".overlays")


def remove_overlays(dataset: Any, record: RunRecord) -> int:
    """Remove the frame field and the pictures, if there are any; the record then names none, and is not saved.

    Returns:
        bytes that were freed.

    Raises:
        MotiveError: the folder holds something else or cannot be removed.
    """
    field = overlay_field(record.run)
    if dataset.media_type == "video" and dataset.has_frame_field(field):
        dataset.delete_frame_field(field)
        _drop_empty_frames(dataset)
    freed = 0
    folder = Path(record.overlays) if record.overlays else None
    if folder is not None and folder.is_dir():
        if not (folder / MARKER).is_file():
            raise MotiveError(f"{folder} is not a folder of overlays ({MARKER} is missing): it was left in place")
        freed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise MotiveError(f"cannot remove {folder}: {error.strerror}") from error
    record.overlays = None
    return freed


def disk_space(count: float) -> str:
    """Bytes for people: ``12 kB``, ``3.4 MB``, ``1.2 GB``."""
    for limit, unit, name in ((1e6, 1e3, "kB"), (1e9, 1e6, "MB")):
        if count < limit:
            return f"{count / unit:.{0 if unit == 1e3 else 1}f} {name}"
    return f"{count / 1e9:.1f} GB"


def _drop_empty_frames(dataset: Any) -> None:
    """Remove the frames that held nothing but overlays."""
    others = set(dataset.get_frame_field_schema()) - _PLAIN_FIELDS
    if not others:
        dataset.clear_frames()
        return
    empty = reduce(and_, (fiftyone().ViewField(name) == None for name in sorted(others)))  # noqa: E711
    dataset.delete_frames(dataset.match_frames(empty).values("frames.id", unwind=True))
