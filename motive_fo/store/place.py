"""Where a store lies: a folder, or the URL of object storage. What the two do differently is here, and nothing else.

One writer at a time. A folder has a file lock, which is gone with its process. At a URL it is an object,
``<run>.zarr.lock``, created only where there is none, and a kill leaves it. ``Choice:`` it has no time limit: a writer
that was slow, not dead, would lose rows to the next; so whoever knows that nobody writes deletes it. How sure it is,
depends on the storage: S3 creates conditionally, ``memory://`` (of this process, for tests) looks first.

A part that is replaced whole. A folder is renamed, twice; in between, the part before is found as ``NAME-replaced``.
At a URL nothing can be renamed: the attribute ``parts`` of the root, one object that is written at once, names the
group that is the part now.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol, cast

import zarr
from zarr.storage import FsspecStore

from motive_fo.errors import StoreError
from motive_fo.store.address import is_url

#: parts that are replaced whole.
PARTS: Final = ("influence", "parameters")
_REPLACED: Final = "-replaced"
_NAMES: Final = "parts"
#: a process that was killed just now holds the lock until the last of its children has gone too.
_LETTING_GO_SECONDS: Final = 1.0


class Place(Protocol):
    """A folder or URL. ``str`` is what the user calls it."""

    @property
    def name(self) -> str:
        """Its last part."""

    def beside(self, suffix: str) -> Path:
        """A local folder for what a step needs while it works, always the same for this store."""

    def is_there(self) -> bool:
        """Whether anything is there."""

    def holds_other_files(self) -> bool:
        """Whether what is there is no Zarr group."""

    def open(self, *, write: bool) -> zarr.Group:
        """The group, made where it is missing if it is to be written."""

    def acquire(self) -> None:
        """Become the one writer. Raises ``StoreError`` where another is."""

    def release(self) -> None:
        """Let others write."""

    def current(self, root: zarr.Group, name: str) -> str | None:
        """The group that is the part ``name`` now; None before the first."""

    def replace(self, root: zarr.Group, name: str, new: str) -> None:
        """Make the finished group ``new`` the part ``name``. A kill at any moment leaves the one before or the new."""

    def settle(self, root: zarr.Group) -> None:
        """Finish or undo what a kill broke off, and remove its leftovers. For the writer."""

    def leftovers(self, root: zarr.Group) -> list[str]:
        """Groups that a kill left half-written."""

    def sizes(self, root: zarr.Group) -> dict[str, int]:
        """Part of the store -> bytes."""

    def delete(self) -> None:
        """Remove all of it."""


def is_of_storage(error: BaseException) -> bool:
    """Whether it was raised by object storage or the way there: each package of fsspec's has errors of its own."""
    packages = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "azure")
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in packages


def place_of(path: str | Path) -> Place:
    """The place that a path or URL names."""
    return Remote(str(path)) if is_url(path) else Folder(Path(path))


class Folder:
    """A folder of a file system that renames and locks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        return self.path.name

    def beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def is_there(self) -> bool:
        return self.path.is_dir()

    def holds_other_files(self) -> bool:
        return self.path.is_dir() and any(self.path.iterdir()) and not (self.path / "zarr.json").is_file()

    def open(self, *, write: bool) -> zarr.Group:
        return zarr.open_group(self.path, mode="a" if write else "r")

    def acquire(self) -> None:
        lock = self.beside(".lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreError(
                f"cannot write to {self.path.parent}: {error.strerror}; choose another folder with --store"
            ) from None
        deadline = time.monotonic() + _LETTING_GO_SECONDS
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    break
            time.sleep(0.05)
        self.release()
        raise StoreError(f"another process is writing to {self.path}: wait for it, or choose another run name")

    def release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def current(self, root: zarr.Group, name: str) -> str | None:
        # asked for twice: the new one may have come after the first look, and the one before gone after the second
        looked = (name, f"{name}{_REPLACED}", name)
        return next((found for found in looked if (self.path / found / "zarr.json").is_file()), None)

    def replace(self, root: zarr.Group, name: str, new: str) -> None:
        if (self.path / name).exists():
            (self.path / name).rename(self.path / f"{name}{_REPLACED}")
        (self.path / new).rename(self.path / name)

    def settle(self, root: zarr.Group) -> None:
        for name in PARTS:
            replaced = self.path / f"{name}{_REPLACED}"
            if replaced.exists() and not (self.path / name).exists():
                replaced.rename(self.path / name)
        for leftover in self.leftovers(root):
            shutil.rmtree(self.path / leftover, ignore_errors=True)

    def leftovers(self, root: zarr.Group) -> list[str]:
        current = {self.current(root, name) for name in PARTS}
        return sorted(part.name for name in PARTS for part in self.path.glob(f"{name}-*") if part.name not in current)

    def sizes(self, root: zarr.Group) -> dict[str, int]:
        return {
            part.name: sum(file.stat().st_size for file in part.rglob("*") if file.is_file())
            for part in sorted(self.path.iterdir())
            if part.is_dir()
        }

    def delete(self) -> None:
        shutil.rmtree(self.path)
        self.beside(".lock").unlink(missing_ok=True)


class Remote:
    """A URL that fsspec knows. Raises ``StoreError`` where it does not, or its package is missing."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        if re.search(r"://[^/]*:[^/]*@", url):
            raise StoreError(
                "the store's URL has a password in it, which would be kept with the run: leave it out, and give it to "
                "the storage's package as that reads it (environment or a file)"
            )
        try:
            from fsspec.core import url_to_fs  # type: ignore[import-untyped]

            self._files, self._path = url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise StoreError(f"cannot open {url}: {error}") from error
        self._held = False

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    def beside(self, suffix: str) -> Path:
        whose = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"motive-{whose}{suffix}"

    def is_there(self) -> bool:
        self._files.invalidate_cache()
        try:
            return bool(self._files.exists(self._path))
        except Exception as error:
            if not is_of_storage(error):
                raise
            raise StoreError(
                f"cannot reach {self.url}: {error}. Is the URL right, and does the storage's package find its endpoint "
                "and keys (environment or a file)?"
            ) from error

    def holds_other_files(self) -> bool:
        return self.is_there() and not self._files.exists(f"{self._path}/zarr.json")

    def open(self, *, write: bool) -> zarr.Group:
        return zarr.open_group(FsspecStore.from_url(self.url, read_only=not write), mode="a" if write else "r")

    def acquire(self) -> None:
        who = json.dumps({"host": platform.node(), "process": os.getpid(), "since": datetime.now(UTC).isoformat()})
        try:
            self._files.pipe_file(f"{self._path}.lock", who.encode(), mode="create")
        except FileExistsError:
            holder = bytes(self._files.cat_file(f"{self._path}.lock")).decode(errors="replace")
            raise StoreError(
                f"another process is writing to {self.url}, or was killed while it did ({holder}): wait for it, or "
                f"delete {self.url}.lock when you know that it is gone"
            ) from None
        except (TypeError, NotImplementedError, ValueError) as error:
            raise StoreError(
                f"{self.url} cannot be written to: its storage cannot keep a second writer away ({error}). Compute in "
                "a folder, and copy the finished store"
            ) from error
        except Exception as error:
            if not is_of_storage(error):
                raise
            raise StoreError(f"cannot write to {self.url}: {error}") from error
        self._held = True

    def release(self) -> None:
        if self._held:
            self._held = False
            try:
                self._files.rm_file(f"{self._path}.lock")
            except Exception as error:
                if not is_of_storage(error):
                    raise
                raise StoreError(
                    f"cannot reach {self.url} any more: {error}. What was written is kept; delete {self.url}.lock when "
                    "it can be reached, then run the step again"
                ) from error

    def current(self, root: zarr.Group, name: str) -> str | None:
        known = self._names(root).get(name)
        if known is None:  # copied there from a folder
            self._files.invalidate_cache()
            known = name if self._files.exists(f"{self._path}/{name}/zarr.json") else None
        return known

    def replace(self, root: zarr.Group, name: str, new: str) -> None:
        root.attrs.update({_NAMES: {**self._names(root), name: new}})

    def settle(self, root: zarr.Group) -> None:
        for leftover in self.leftovers(root):
            self._files.rm(f"{self._path}/{leftover}", recursive=True)

    def leftovers(self, root: zarr.Group) -> list[str]:
        current = {self.current(root, name) for name in PARTS}
        return [
            part
            for part in self._groups()
            if part not in current and any(part == name or part.startswith(f"{name}-") for name in PARTS)
        ]

    def sizes(self, root: zarr.Group) -> dict[str, int]:
        names = {group: name for name, group in self._names(root).items()}
        return dict(sorted((names.get(group, group), size) for group, size in self._groups().items()))

    def _groups(self) -> dict[str, int]:
        self._files.invalidate_cache()
        sizes: dict[str, int] = {}
        for file, facts in self._files.find(self._path, detail=True).items():
            part, _, rest = file[len(self._path) :].lstrip("/").partition("/")
            if rest:
                sizes[part] = sizes.get(part, 0) + int(facts["size"])
        return dict(sorted(sizes.items()))

    def delete(self) -> None:
        self._files.rm(self._path, recursive=True)

    def _names(self, root: zarr.Group) -> dict[str, str]:
        """Part -> its group, as written last: the attributes of ``root`` are of when it was opened."""
        fresh = zarr.open_group(root.store_path, mode="r")
        return cast(dict[str, Any], fresh.attrs.asdict().get(_NAMES, {}))
