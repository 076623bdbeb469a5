"""Clips and captions as they lie on disk: folders, csv, json, jsonl, caption files. No database here.

In a folder, captions come from the nearest of: a ``metadata.jsonl``, ``metadata.json`` or ``metadata.csv`` in the same
folder or above it (a Hugging Face videofolder is that), else a text file of the clip's own name beside it.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from motive_fo.dataset.connect import is_video_name
from motive_fo.errors import InputError

PATH_KEYS: Final = ("video", "file_name", "video_path", "filepath", "path", "file")
CAPTION_KEYS: Final = ("prompt", "caption", "text")
LISTINGS: Final = ("metadata.jsonl", "metadata.json", "metadata.csv")
SUFFIXES: Final = (".jsonl", ".json", ".csv")

MissingCaption = Literal["empty", "skip", "refuse"]


@dataclass(frozen=True)
class Entry:
    """One clip to import: absolute path, stable id, caption (empty where there is none), start in seconds."""

    path: Path
    id: str
    caption: str
    start: float = 0.0


@dataclass
class Listing:
    """What a source holds.

    Attributes:
        entries: clips in a fixed order, each file once.
        skipped: files of the folder that are not taken for videos, and clips left out for want of a caption.
        notes: what a user should know of where captions come from.
    """

    entries: list[Entry] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_source(
    source: Path, *, name: str | None = None, allow_outside: bool = False, missing_caption: MissingCaption = "empty"
) -> Listing:
    """The clips of a folder or a listing.

    Args:
        source: a folder, or a ``.jsonl``, ``.json`` or ``.csv`` file.
        name: first part of the clips' ids; the folder's name where open.
        allow_outside: take rows whose path leads out of the listing's folder.
        missing_caption: ``empty`` imports clips without a caption, ``skip`` leaves them out, ``refuse`` raises.

    Raises:
        InputError: no such source, an unreadable listing, a path that leaves its folder, a caption that is missing.
    """
    if source.is_dir():
        root = Path(os.path.normpath(source.absolute()))  # without '..', as the paths of listings are
        captions, skipped = _folder(root, allow_outside)
    elif not source.exists():
        raise InputError(f"{source} does not exist: name a folder of clips, or a .jsonl, .json or .csv that lists them")
    elif source.suffix.lower() not in SUFFIXES:
        raise InputError(f"{source} is no folder and no listing: name a folder, or a .jsonl, .json or .csv file")
    else:
        root = Path(os.path.normpath(source.absolute())).parent
        captions, skipped = read_listing(source, root, allow_outside), []
    listing = Listing(skipped=skipped)
    without = [path for path, caption in captions.items() if not caption.strip()]
    if without and missing_caption == "refuse":
        raise InputError(f"{len(without)} of {len(captions)} clips have no caption, the first: {without[0]}")
    for path in sorted(captions, key=lambda path: path.parts) if source.is_dir() else captions:
        if not captions[path].strip() and missing_caption == "skip":
            listing.skipped.append(_relative(path, root))
        else:
            listing.entries.append(Entry(path, _clip_id(path, root, name or root.name), captions[path]))
    return listing


def read_listing(path: Path, root: Path, allow_outside: bool) -> dict[Path, str]:
    """Rows of a listing: absolute path -> caption. Raises ``InputError`` naming file and line (or entry)."""
    captions: dict[Path, str] = {}
    inside = _Inside(root)
    for line, row in _rows(path):
        where = f"{path}, {line}"
        name = next((row[key] for key in PATH_KEYS if row.get(key)), None)
        if not isinstance(name, str):
            raise InputError(f"{where} names no clip: one of the keys {', '.join(PATH_KEYS)} is needed")
        caption = next((row[key] for key in CAPTION_KEYS if row.get(key) is not None), "")
        if not isinstance(caption, str):
            raise InputError(f"{where}: the caption must be text, not {type(caption).__name__}")
        if "\0" in name:
            raise InputError(f"{where}: the path holds a null character")
        clip = Path(os.path.normpath(root / name))
        try:
            leads_out = clip not in inside
        except (OSError, RuntimeError) as error:  # a name longer than the file system takes, links in a circle
            why = getattr(error, "strerror", None) or "its links lead in a circle"
            raise InputError(f"{where}: {name[:80]!r} cannot be a file here ({why})") from None
        if leads_out and not allow_outside:
            raise InputError(f"{where}: {name} leads out of {root}; allow it with --allow-outside if it is meant")
        if captions.setdefault(clip, caption) != caption:
            raise InputError(f"{where}: {name} is listed twice with different captions; keep one row for each clip")
    return captions


class _Inside:
    """Tells which files lie in a folder when all links are followed. Each folder is resolved once."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._folders: dict[str, bool] = {}

    def __contains__(self, clip: Path) -> bool:
        if clip.is_symlink():
            return clip.resolve().is_relative_to(self._root)
        folder, _ = os.path.split(clip)
        if folder not in self._folders:
            self._folders[folder] = Path(folder).resolve().is_relative_to(self._root)
        return self._folders[folder]


def _folder(root: Path, allow_outside: bool) -> tuple[dict[Path, str], list[str]]:
    """Every video below a folder with its caption, and the names of the other files."""
    listed: dict[Path, str] = {}
    videos: list[Path] = []
    texts: list[Path] = []
    skipped: list[str] = []
    for at, folders, names in os.walk(root):
        folders.sort()
        here = Path(at)
        for found in [name for name in LISTINGS if name in names][:1]:
            # the nearest listing wins: it is read after those above it
            listed |= read_listing(here / found, here, allow_outside)
        for name in sorted(names):
            if is_video_name(name):
                videos.append(here / name)
            elif name.lower().endswith(".txt"):
                texts.append(here / name)
            elif name not in LISTINGS:
                skipped.append(_relative(here / name, root))
    captions = dict(listed)
    beside = {text.with_suffix(".txt"): text for text in texts}  # of a.TXT and a.txt the last, which is a.txt
    used = set()
    for video in videos:
        if video not in captions:
            text = beside.get(video.with_suffix(".txt"))
            captions[video] = "" if text is None else _read_text(text)
            used.add(text)
    return captions, sorted(skipped + [_relative(text, root) for text in texts if text not in used])


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text") from None


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows as ("line N" or "entry N", row)."""
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                reader = csv.DictReader(file, strict=True)
                for row in reader:
                    yield f"line {reader.line_num}", row
                return
            if path.suffix.lower() == ".json":
                yield from _json_rows(path, json.load(file))
                return
            for line, text in enumerate(file, 1):
                if text.strip():
                    yield f"line {line}", _object(json.loads(text), path, f"line {line}")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {line or error.lineno} is not JSON: {error.msg}") from None
    except RecursionError:
        raise InputError(f"{path} nests too deeply to be a listing") from None
    except csv.Error as error:
        raise InputError(f"{path} is not CSV: {error}") from None


def _json_rows(path: Path, data: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """A list of objects, or one object of file -> caption."""
    if isinstance(data, dict):
        data = [{PATH_KEYS[0]: key, CAPTION_KEYS[0]: value} for key, value in data.items()]
    if not isinstance(data, list):
        raise InputError(f"{path} must hold a list of objects, or one object of file names and captions")
    for number, row in enumerate(data, 1):
        yield f"entry {number}", _object(row, path, f"entry {number}")


def _object(row: object, path: Path, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise InputError(f"{path}, {where} is not an object of keys and values")
    return row


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _clip_id(path: Path, root: Path, name: str) -> str:
    return f"{name}/{path.relative_to(root).as_posix()}" if path.is_relative_to(root) else path.as_posix()
