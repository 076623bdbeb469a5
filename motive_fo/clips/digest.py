"""Whether a video file is still the one that was scored: a cheap stamp, and a digest of every byte if that differs."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class FileStamp:
    """Size in bytes and time of the last change in nanoseconds; equal stamps are taken to mean an unchanged file."""

    size: int
    mtime_ns: int


def file_stamp(path: str | PathLike[str]) -> FileStamp:
    """Stamp of a file, without opening it.

    Raises:
        OSError: the file is missing, its folder cannot be read, or it is no regular file: a pipe would block whoever
            reads it, a device may never end.
    """
    try:
        facts = Path(path).stat()
    except ValueError as error:  # a zero byte in the name
        raise OSError(errno.EINVAL, f"{error}", str(path)) from error
    _require_regular(facts, path)
    return FileStamp(facts.st_size, facts.st_mtime_ns)


def content_digest(path: str | PathLike[str]) -> str:
    """BLAKE2b-256 of a file's bytes in hexadecimal, read in pieces of 1 MiB.

    Raises:
        OSError: the file cannot be read, or is no regular file.
    """
    digest = hashlib.blake2b(digest_size=32)
    file_stamp(path)
    with open(path, "rb", opener=_open_at_once) as file:
        _require_regular(os.fstat(file.fileno()), path)  # it may have changed since
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for another end."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _require_regular(facts: os.stat_result, path: str | PathLike[str]) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
