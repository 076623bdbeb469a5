"""How a store is named, a path or a URL: for those who only keep the name, and need no Zarr."""

from __future__ import annotations

from pathlib import Path


def is_url(path: str | Path) -> bool:
    """Whether it names object storage."""
    return "://" in str(path)


def whole_path(path: str | Path) -> str:
    """A path from the root, or a URL, by which a store is found from anywhere."""
    return str(path).rstrip("/") if is_url(path) else str(Path(path).expanduser().absolute())
