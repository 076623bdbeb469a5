"""Clips into a FiftyOne dataset, from a folder or from a file that lists them with captions."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from motive_fo.clips.probe import probe
from motive_fo.dataset.connect import fiftyone, is_video_name, require_video
from motive_fo.errors import ClipError, InputError
from motive_fo.progress import Progress, silent

PATH_KEYS = ("video", "file_name", "video_path", "filepath", "path", "file")
CAPTION_KEYS = ("prompt", "caption", "text")
LISTINGS = ("metadata.jsonl", "metadata.csv")

ID_FIELD = "motive_id"
CAPTION_FIELD = "caption"

_BATCH = 1000


@dataclass
class ImportReport:
    """What an import did.

    Attributes:
        dataset: name of the dataset.
        added, updated: samples new to the dataset, and samples that were there and got a new caption or tag.
        unchanged: samples that were there already.
        without_caption: clips of this import with an empty caption.
        unreadable: files that no decoder opens; they are imported and every step records why.
        skipped: files in the folder that are not taken for videos, by name.
    """

    dataset: str
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    without_caption: int = 0
    unreadable: int = 0
    skipped: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Entry:
    """One clip to import: absolute path, stable id, caption."""

    path: Path
    id: str
    caption: str


def import_clips(
    source: str | Path,
    dataset: str,
    *,
    role: str = "train",
    allow_outside: bool = False,
    progress: Progress = silent,
) -> ImportReport:
    """Import clips into a dataset, which is made where it does not exist, and tag them with their role.

    Importing the same clips again changes nothing but captions that differ.

    Args:
        source: a folder, searched with its subfolders (captions come from a ``metadata.jsonl`` or ``metadata.csv`` in
            it), or a ``.jsonl`` or ``.csv`` file with one clip per row: a path (``video``, ``file_name``, ...) and a
            caption (``prompt``, ``caption`` or ``text``).
        dataset: name of the FiftyOne dataset.
        role: tag of the clips: ``train``, ``query``, or any of yours.
        allow_outside: take rows whose path leads out of the listing's folder.

    Raises:
        InputError: nothing to import, an unreadable listing, or a path that leaves its folder.
    """
    source = Path(source).expanduser()
    report = ImportReport(dataset)
    entries = read_entries(source, report, allow_outside=allow_outside)
    if not entries:
        listing = f"; skipped: {', '.join(report.skipped[:5])}" if report.skipped else ""
        raise InputError(f"{source} holds no videos{listing}")
    fo = fiftyone()
    target = fo.load_dataset(dataset) if fo.dataset_exists(dataset) else fo.Dataset(dataset, persistent=True)
    if len(target):
        require_video(target)
    _declare_fields(target)
    known = dict(zip(*target.values(["filepath", "id"]), strict=True)) if len(target) else {}
    new = [entry for entry in entries if str(entry.path) not in known]
    old = {known[str(entry.path)]: entry for entry in entries if str(entry.path) in known}
    _update(target, old, role, report)
    progress("import", 0, len(new))
    for first in range(0, len(new), _BATCH):
        samples = []
        for entry in new[first : first + _BATCH]:
            samples.append(_sample(entry, role, report))
            progress("import", report.added + len(samples), len(new))
        target.add_samples(samples, progress=False)
        report.added += len(samples)
    report.without_caption = sum(1 for entry in entries if not entry.caption)
    return report


def read_entries(source: Path, report: ImportReport, *, allow_outside: bool = False) -> list[Entry]:
    """The clips of a folder or listing, in a fixed order, without touching a database."""
    if source.is_dir():
        return _folder_entries(source, report, allow_outside)
    if not source.exists():
        raise InputError(f"{source} does not exist: name a folder of clips, or a .jsonl or .csv that lists them")
    if source.suffix.lower() not in (".jsonl", ".csv"):
        raise InputError(f"{source} is no folder and no listing: name a folder of clips, or a .jsonl or .csv file")
    root = source.absolute().parent
    return [_entry(root, path, caption) for path, caption in read_listing(source, root, allow_outside).items()]


def _folder_entries(folder: Path, report: ImportReport, allow_outside: bool) -> list[Entry]:
    root = folder.absolute()
    captions: dict[Path, str] = {}
    for name in LISTINGS:
        if (root / name).is_file():
            captions = read_listing(root / name, root, allow_outside)
            break
    found = set(captions)
    for at, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            if is_video_name(name):
                found.add(Path(at) / name)
            elif name not in LISTINGS:
                report.skipped.append(str((Path(at) / name).relative_to(root)))
    return [_entry(root, path, captions.get(path, "")) for path in sorted(found)]


def _entry(root: Path, path: Path, caption: str) -> Entry:
    inside = path.is_relative_to(root)
    clip_id = f"{root.name}/{path.relative_to(root).as_posix()}" if inside else path.as_posix()
    return Entry(path, clip_id, caption)


def read_listing(path: Path, root: Path, allow_outside: bool) -> dict[Path, str]:
    """Rows of a listing: absolute path -> caption. Raises ``InputError`` naming file and line."""
    captions: dict[Path, str] = {}
    for line, row in _rows(path):
        where = f"{path}, line {line}"
        name = next((row[key] for key in PATH_KEYS if row.get(key)), None)
        if not isinstance(name, str):
            raise InputError(f"{where} names no clip: one of the keys {', '.join(PATH_KEYS)} is needed")
        caption = next((row[key] for key in CAPTION_KEYS if row.get(key) is not None), "")
        if not isinstance(caption, str):
            raise InputError(f"{where}: the caption must be text, not {type(caption).__name__}")
        if "\0" in name:
            raise InputError(f"{where}: the path holds a null character")
        clip = Path(os.path.normpath(root / name))
        if not allow_outside and not clip.resolve().is_relative_to(root.resolve()):
            raise InputError(f"{where}: {name} leads out of {root}; allow it with --allow-outside if it is meant")
        if captions.setdefault(clip, caption) != caption:
            raise InputError(f"{where}: {name} is listed twice with different captions; keep one row for each clip")
    return captions


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                reader = csv.DictReader(file, strict=True)
                for row in reader:
                    yield reader.line_num, row
                return
            for line, text in enumerate(file, 1):
                if not text.strip():
                    continue
                row = json.loads(text)
                if not isinstance(row, dict):
                    raise InputError(f"{path}, line {line} is not an object of keys and values")
                yield line, row
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {line} is not JSON: {error.msg}") from None
    except csv.Error as error:
        raise InputError(f"{path} is not CSV: {error}") from None


def _declare_fields(dataset: Any) -> None:
    fo = fiftyone()
    dataset.add_sample_field(
        ID_FIELD, fo.StringField, description="stable name of the clip in stores and exports: folder and relative path"
    )
    dataset.add_sample_field(CAPTION_FIELD, fo.StringField, description="what the clip is trained with")


def _sample(entry: Entry, role: str, report: ImportReport) -> Any:
    fo = fiftyone()
    sample = fo.Sample(filepath=str(entry.path), tags=[role])
    sample[ID_FIELD] = entry.id
    sample[CAPTION_FIELD] = entry.caption
    sample.metadata = _metadata(entry.path, report)
    return sample


def _metadata(path: Path, report: ImportReport) -> Any:
    """The App's metadata, from our own probe: without it the App asks for ffprobe and refuses the page."""
    fo = fiftyone()
    try:
        facts = probe(path).facts
    except ClipError:
        report.unreadable += 1
        size = path.stat().st_size if path.is_file() else 0
        # the App shows an error tile for the file; these three only keep it from refusing the whole page
        return fo.VideoMetadata(
            size_bytes=size,
            frame_width=1,
            frame_height=1,
            frame_rate=1.0,
            total_frame_count=0,
            encoding_str="unreadable",
        )
    return fo.VideoMetadata(
        size_bytes=facts.size_bytes,
        frame_width=facts.width,
        frame_height=facts.height,
        frame_rate=facts.fps,
        total_frame_count=facts.frames,
        duration=facts.duration,
        encoding_str=facts.codec,
    )


def _update(dataset: Any, entries: dict[str, Entry], role: str, report: ImportReport) -> None:
    if not entries:
        return
    view = dataset.select(list(entries))
    ids, captions, clip_ids, tags = view.values(["id", CAPTION_FIELD, ID_FIELD, "tags"])
    changed = {
        sample_id
        for sample_id, caption, clip_id, tag in zip(ids, captions, clip_ids, tags, strict=True)
        if caption != entries[sample_id].caption or clip_id is None or role not in tag
    }
    report.updated, report.unchanged = len(changed), len(entries) - len(changed)
    if changed:
        both = {sample_id: entries[sample_id] for sample_id in changed}
        dataset.set_values(CAPTION_FIELD, {k: e.caption for k, e in both.items()}, key_field="id")
        missing = {i: entries[i].id for i, c in zip(ids, clip_ids, strict=True) if c is None}
        dataset.set_values(ID_FIELD, missing, key_field="id")
        dataset.select(list(changed)).tag_samples(role)
