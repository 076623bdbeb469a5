"""What weights are, whatever folder they lie in: the SHA-256 of their files. Light: no torch.

Every byte is read, once for each version of a file: sums of large files are kept by path, size and modification time
in ``weights.json`` of motive-fo's cache folder. ``Choice:`` a sum of headers and samples would miss a fine-tuning that
moved few tensors; reading costs about what loading does, and only once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from motive_fo.flow.alltracker.weights import cache_folder

#: smaller files are read again: that is as fast as looking the sum up.
_WORTH_KEEPING: Final = 1 << 24


def digest_files(files: Iterable[Path]) -> str:
    """SHA-256 over the files' sums, in the order given; for one file its own sum."""
    sums = [_digest(file) for file in files]
    return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()


def digest_settings(settings: object) -> str:
    """Short digest of plain data."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _digest(file: Path) -> str:
    file = file.resolve()  # the hub's cache is made of links
    stat = file.stat()
    key = f"{file}|{stat.st_size}|{stat.st_mtime_ns}"
    large = stat.st_size >= _WORTH_KEEPING
    if large and (known := _kept().get(key)):
        return known
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if large:
        _keep({**_kept(), key: digest})
    return digest


def _place() -> Path:
    return cache_folder() / "weights.json"


def _kept() -> dict[str, str]:
    try:
        data = json.loads(_place().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _keep(sums: dict[str, str]) -> None:
    place = _place()
    part = place.with_name(f"{place.name}.{os.getpid()}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(sums, indent=1), encoding="utf-8")
        part.replace(place)
    except OSError:  # only the time of the next reading is lost
        return
