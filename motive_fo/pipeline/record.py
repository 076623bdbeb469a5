"""One clip as the steps see it, and which version of its file a result belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motive_fo.clips.digest import content_digest, file_stamp
from motive_fo.errors import ClipError, is_out_of_memory
from motive_fo.store.sketches import SketchTables
from motive_fo.store.table import Row, Status, Table


@dataclass(frozen=True)
class ClipRecord:
    """A clip to be computed: a stable id, its file, its caption (empty where there is none).

    Attributes:
        start: seconds into the file at which this clip begins, for one of several windows of a long video.
    """

    id: str
    path: Path
    caption: str = ""
    start: float = 0.0


@dataclass(frozen=True)
class Version:
    """What a result was computed from: size and modification time of the file, and ``content``: digest of the file,
    ``@`` and the start of the clip unless it is the file's, ``+`` and the digest of the caption where it matters."""

    size: int
    mtime_ns: int
    content: str


def caption_digest(caption: str) -> str:
    """Short digest of a caption."""
    return hashlib.blake2b(caption.encode(), digest_size=8).hexdigest()


def version_of(record: ClipRecord, *, with_caption: bool) -> Version:
    """The version of the record's file and caption. A file that cannot be read has a version too, an empty one."""
    try:
        stamp = file_stamp(record.path)
        digest = content_digest(record.path)
    except (ClipError, OSError):
        return Version(-1, -1, "")
    content = f"{digest}{_window(record)}"
    return Version(
        stamp.size, stamp.mtime_ns, f"{content}+{caption_digest(record.caption)}" if with_caption else content
    )


def _window(record: ClipRecord) -> str:
    return f"@{record.start!r}" if record.start else ""


def had_caption(table: Table | SketchTables, records: Sequence[ClipRecord]) -> list[ClipRecord]:
    """The records whose row was computed with a caption."""
    known = [record for record in records if record.id in table]
    digests = [str(content).partition("+")[2] for content in table.read("content", [record.id for record in known])]
    return [record for record, digest in zip(known, digests, strict=True) if digest not in ("", caption_digest(""))]


def outdated(
    table: Table, records: Sequence[ClipRecord], *, with_caption: bool, retry_failed: bool = False
) -> list[ClipRecord]:
    """The records whose row is missing, unfinished, or belongs to another version of the file or caption.

    A file whose size and modification time are unchanged is taken as unchanged; otherwise its content decides.
    """
    ids = [record.id for record in records]
    known = [clip_id for clip_id in ids if clip_id in table]
    columns = (table.read(key, known) for key in ("size", "mtime_ns", "content"))
    stored = dict(zip(known, zip(*columns, strict=True), strict=True)) if known else {}
    return [
        record
        for record in records
        if not _is_current(table, record, stored.get(record.id), with_caption, retry_failed)
    ]


def _is_current(
    table: Table, record: ClipRecord, stored: tuple[np.int64, np.int64, str] | None, with_caption: bool, retry: bool
) -> bool:
    status = table.status(record.id)
    if stored is None or status == Status.PENDING or (retry and status == Status.FAILED):
        return False
    size, mtime_ns, content = int(stored[0]), int(stored[1]), str(stored[2])
    if with_caption and content and not content.endswith(f"+{caption_digest(record.caption)}"):
        return False
    _, at, start = content.partition("+")[0].partition("@")
    if content and at + start != _window(record):
        return False
    try:
        stamp = file_stamp(record.path)
    except (ClipError, OSError):
        return content == ""
    if (stamp.size, stamp.mtime_ns) == (size, mtime_ns):
        return True
    return version_of(record, with_caption=with_caption).content == content


def replaced(table: Table, records: Sequence[ClipRecord], *, with_caption: bool) -> list[ClipRecord]:
    """The records with a result of another file or caption than they have now.

    A file that was touched and is equal is none of them, nor is one that cannot be read: whoever needs it says so.
    """
    states = table.states([record.id for record in records])
    computed = [
        record for record, state in zip(records, states.tolist(), strict=True) if state in (Status.DONE, Status.STATIC)
    ]
    return [record for record in outdated(table, computed, with_caption=with_caption) if _is_readable(record.path)]


def _is_readable(path: Path) -> bool:
    try:
        file_stamp(path)
    except (ClipError, OSError):
        return False
    return True


def as_clip_error(error: BaseException) -> ClipError:
    """What is recorded on a clip. Anything unforeseen is ``internal_error``, with one line of text."""
    if isinstance(error, ClipError):
        return error
    text = " ".join(str(error).split())[:500]
    if is_out_of_memory(error):
        return ClipError("internal", "out_of_memory", text or type(error).__name__)
    return ClipError("internal", "internal_error", f"{type(error).__name__}: {text}")


def failed_row(record: ClipRecord, version: Version, error: BaseException, decoder: str = "") -> Row:
    """The row of a clip that failed: stage, code and one line of text."""
    told = as_clip_error(error)
    return Row(
        id=record.id,
        status=Status.FAILED,
        code=told.code,
        stage=told.stage,
        message=told.message,
        size=version.size,
        mtime_ns=version.mtime_ns,
        content=version.content,
        decoder=decoder,
    )
