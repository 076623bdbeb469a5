"""A folder that is replaced as a whole or not at all, whatever ends the process, and that keeps what did not change.

Everything of an export of FOLDER is made in ``.FOLDER.motive-part`` beside it::

    lock       held while an export runs
    encoded/   finished re-encoded files, by what they are made of; they outlive a kill, and are taken over then
    tree/      the new folder; exchanged with the old one in one step when it is complete
    old/       the old folder, where the system cannot exchange two folders in one step

Files of the old folder that motive did not write (a trainer's cache, notes) are linked into the new one.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

from motive_fo.errors import ExportError

MANIFEST: Final = "motive-manifest.json"


class Staging:
    """The place where a folder is made. Use ``staged``."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.folder = folder
        self.tree = work / "tree"
        self.encoded = work / "encoded"
        self._work = work

    def recover(self) -> None:
        """Put an old folder back that a killed export had moved aside, and clear away what it left half made."""
        park = self._work / "old"
        if park.exists() and not self.folder.exists():
            park.replace(self.folder)
        for leftover in (park, self.tree):
            shutil.rmtree(leftover, ignore_errors=True)

    def begin(self) -> None:
        """Make room for the new folder."""
        self.tree.mkdir()
        self.encoded.mkdir(exist_ok=True)

    def keep(self, name: str) -> None:
        """Take over a file of the old folder: the same file, not a copy, where the file system can link."""
        _link(self.folder / name, self.tree / name)

    def add_encoded(self, key: str, data: bytes) -> None:
        """Store an encoded file, whole or not at all."""
        part = self.encoded / f"{key}.part"
        part.write_bytes(data)
        part.replace(self.encoded / key)

    def take_encoded(self, key: str, name: str) -> bool:
        """Put an encoded file into the new folder; False where there is none."""
        if not (self.encoded / key).exists():
            return False
        _link(self.encoded / key, self.tree / name)
        return True

    def keep_foreign(self, ours: Collection[str]) -> None:
        """Take over everything in the old folder that is not one of ``ours``."""
        known = set(ours)
        for at, folders, files in os.walk(self.folder):
            here = Path(at).relative_to(self.folder)
            linked = [name for name in folders if (Path(at) / name).is_symlink()]
            for name in [*files, *linked]:
                path = (here / name).as_posix()
                if path not in known and not os.path.lexists(self.tree / path):
                    (self.tree / path).parent.mkdir(parents=True, exist_ok=True)
                    _link(self.folder / path, self.tree / path)

    def commit(self) -> None:
        """The new folder in the old one's place, in one step where the system can."""
        if not self.folder.exists():
            self.tree.replace(self.folder)
        elif not exchange(self.tree, self.folder):
            self.folder.replace(self._work / "old")
            self.tree.replace(self.folder)


@contextmanager
def staged(folder: Path) -> Iterator[Staging]:
    """A staging place for a folder. Afterwards it is gone, or holds what was encoded where the export was stopped.

    Raises:
        ExportError: another export of the same folder is running, or nothing can be written beside it.
    """
    work = folder.parent / f".{folder.name}.motive-part"
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = (work / "lock").open("a")
    except OSError as error:
        with suppress(OSError):
            work.rmdir()
        raise ExportError(f"cannot write into {folder.parent}: {error.strerror}") from None
    with lock:
        if not _locked(lock):
            raise ExportError(f"another export into {folder} is running: wait for it, or choose another folder")
        staging = Staging(folder, work)
        try:
            staging.recover()
            yield staging
        except BaseException as error:
            staging.recover()  # first of all: an old folder that stands aside must not be cleared away
            nothing = not staging.encoded.exists() or not any(staging.encoded.iterdir())
            if nothing or isinstance(error, OSError):  # the disk may be full: leave nothing on it
                shutil.rmtree(work, ignore_errors=True)
            raise  # else what was encoded is kept: the same call goes on from there
        shutil.rmtree(work, ignore_errors=True)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of an export, None where the folder is none of ours.

    Raises:
        ExportError: there is a manifest and it cannot be read.
    """
    try:
        data = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ExportError(f"{folder / MANIFEST} cannot be read ({error}): choose another folder") from None
    return data if isinstance(data, dict) else None


def require_free(folder: Path) -> Mapping[str, Any] | None:
    """The manifest of the export that is in a folder, None where the folder is new or empty.

    Raises:
        ExportError: the folder is a file, or holds something that is not an export of ours.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ExportError(f"{folder} is not a folder: choose another place")
    if not folder.exists() or not any(folder.iterdir()):
        return None
    manifest = read_manifest(folder)
    if manifest is None:
        raise ExportError(
            f"{folder} is not empty and not an export of motive (it has no {MANIFEST}): choose another folder"
        )
    return manifest


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8 with ``\\n`` line ends; undecodable bytes of file names become JSON's own escapes."""
    path.write_bytes(text.encode("utf-8", "backslashreplace"))


def exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    at_cwd, rename_exchange = -100, 2
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), rename_exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
            raise
        shutil.copy2(source, target, follow_symlinks=False)


def _locked(lock: IO[str]) -> bool:
    """Whether the lock is ours now. Where the system has no such locks it always is."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
