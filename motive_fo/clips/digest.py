"""Whether a video file is still the one that was scored: a cheap stamp, and a digest of every byte if that differs."""

from __future__ import annotations

import hashlib
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
        OSError: the file is missing or its folder cannot be read.
    """
    facts = Path(path).stat()
    return FileStamp(facts.st_size, facts.st_mtime_ns)


def content_digest(path: str | PathLike[str]) -> str:
    """BLAKE2b-256 of a file's bytes in hexadecimal, read in pieces of 1 MiB.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.blake2b(digest_size=32)
    with Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
