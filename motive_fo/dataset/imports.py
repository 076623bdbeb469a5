"""Clips into a FiftyOne dataset, from a folder, from a file that lists them with captions, or from another dataset."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from motive_fo.clips.probe import probe
from motive_fo.dataset.bulk import in_blocks
from motive_fo.dataset.captions import CAPTION_FIELD, caption_field, usual_fields
from motive_fo.dataset.connect import fiftyone, load_dataset, make_durable, require_video
from motive_fo.dataset.listing import Entry, Listing, MissingCaption, read_source
from motive_fo.errors import ClipError, InputError
from motive_fo.progress import Progress, silent

ID_FIELD = "motive_id"
START_FIELD = "motive_start"
BROUGHT_FIELD = "motive_caption"

_BATCH = 1000


@dataclass
class ImportReport:
    """What an import did.

    Attributes:
        dataset: name of the dataset.
        added, updated: samples new to the dataset, and samples that were there and got a new caption or tag.
        unchanged: samples that were there already.
        kept: of these two, those that keep a caption which the source does not have: see ``caption_after``.
        conflicts: of ``kept``, those for which the source has a new caption too: clip id -> the one that was not taken.
        without_caption: clips of this import that are left with an empty caption.
        unreadable: files that no decoder opens; they are imported and every step records why.
        notes: what a user should know, such as which of several fields the captions were taken from.
        skipped: files in the folder that are not taken for videos, by name.
    """

    dataset: str
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    kept: int = 0
    conflicts: dict[str, str] = field(default_factory=dict)
    without_caption: int = 0
    unreadable: int = 0
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dict(self.__dict__)


def import_clips(
    source: str | Path,
    dataset: str,
    *,
    role: str = "train",
    name: str | None = None,
    missing_caption: MissingCaption = "empty",
    windows: float | None = None,
    allow_outside: bool = False,
    progress: Progress = silent,
) -> ImportReport:
    """Import clips into a dataset, which is made where it does not exist, and tag them with their role.

    Importing the same clips again changes nothing but captions that are new in the source. What was written or
    corrected in the dataset stays, and where both changed the report says so.

    Args:
        source: a folder, searched with its subfolders; or a ``.jsonl``, ``.json`` or ``.csv`` file with one clip per
            row: a path (``video``, ``file_name``, ...) and a caption (``prompt``, ``caption`` or ``text``); or
            ``dataset:NAME`` for the videos of another FiftyOne dataset. In folders captions come from a
            ``metadata.jsonl``, ``.json`` or ``.csv`` (a Hugging Face videofolder), else from a ``.txt`` of the clip's
            name.
        dataset: name of the FiftyOne dataset.
        role: tag of the clips: ``train``, ``query``, or any of yours.
        name: first part of the clips' ids; the folder's name where open.
        missing_caption: ``empty`` imports clips without a caption, ``skip`` leaves them out, ``refuse`` raises.
        windows: cut long videos into windows of so many seconds, each a clip of its own; a shorter rest is left out.
        allow_outside: take rows whose path leads out of the listing's folder.

    Raises:
        InputError: nothing to import, an unreadable listing, a path that leaves its folder, an id that is taken.
    """
    fo = fiftyone()
    listing = list_clips(source, name=name, allow_outside=allow_outside, missing_caption=missing_caption)
    report = ImportReport(dataset, notes=listing.notes, skipped=listing.skipped)
    entries = listing.entries
    if windows is not None:
        entries = [window for entry in entries for window in _windows(entry, windows)]
    target = fo.load_dataset(dataset) if fo.dataset_exists(dataset) else None
    if target is not None and len(target):
        require_video(target)
    known = _known(target, entries)
    new = [entry for entry in entries if (str(entry.path), entry.start) not in known]
    _require_free_ids(target, new)
    if target is None:
        target = fo.Dataset(dataset, persistent=True)
    caption = _declare_fields(target)
    old = {known[at]: entry for entry in entries if (at := (str(entry.path), entry.start)) in known}
    own = str(source) == f"dataset:{dataset}"  # brings no captions, but those that are there
    for sample_ids in in_blocks(list(old)):
        _update(target, {i: old[i] for i in sample_ids}, role, caption, report, own=own)
    progress("import", 0, len(new))
    for first in range(0, len(new), _BATCH):
        samples = []
        for entry in new[first : first + _BATCH]:
            samples.append(_sample(entry, role, caption, report))
            progress("import", report.added + len(samples), len(new))
        target.add_samples(samples, progress=False)
        report.added += len(samples)
    make_durable(target)
    report.without_caption += sum(1 for entry in new if not entry.caption.strip())
    return report


def caption_after(now: str | None, brought: str | None, new: str) -> str:
    """The caption of a clip that is imported again. What a person wrote is never replaced, what an import brought is.

    Args:
        now: the one it has, which may have been corrected since.
        brought: the one that its last import with a caption brought, None where that is not known.
        new: the one in the source now; empty where it has none.
    """
    now = now or ""
    if not new.strip() or new == brought:
        return now
    return new if not now.strip() or now == brought else now


def list_clips(
    source: str | Path,
    *,
    name: str | None = None,
    missing_caption: MissingCaption = "empty",
    allow_outside: bool = False,
) -> Listing:
    """The clips an import would take, at least one. Arguments and errors as for ``import_clips``."""
    text = str(source)
    if text.startswith("dataset:"):
        listing = _dataset_listing(text.removeprefix("dataset:"), missing_caption)
    else:
        place = Path(source).expanduser()
        listing = read_source(place, name=name, allow_outside=allow_outside, missing_caption=missing_caption)
    if not listing.entries:
        shown = f"; skipped: {', '.join(listing.skipped[:5])}" if listing.skipped else ""
        raise InputError(f"{source} holds no videos{shown}")
    return listing


def _windows(entry: Entry, stride: float) -> list[Entry]:
    """The windows of ``stride`` seconds in a video; one that cannot be read stays one clip, and will say why."""
    if not stride > 0:
        raise InputError(f"windows must begin more than 0 seconds apart, not {stride}")
    try:
        duration = probe(entry.path).facts.duration
    except ClipError:
        return [entry]
    count = max(1, math.floor(round(duration / stride, 6)))
    starts = [round(k * stride, 6) for k in range(count)]
    return [replace(entry, id=f"{entry.id}#t={start:g}" if start else entry.id, start=start) for start in starts]


def _known(target: Any | None, entries: Sequence[Entry]) -> dict[tuple[str, float], str]:
    """(file, start) -> sample id of those files that the dataset holds. They are looked up: what an import costs
    depends on what is imported, not on what was before."""
    if target is None or not len(target):
        return {}
    known: dict[tuple[str, float], str] = {}
    for paths in in_blocks(list({str(entry.path) for entry in entries})):
        found = target._sample_collection.find({"filepath": {"$in": paths}}, ["filepath", START_FIELD])
        known |= {(each["filepath"], each.get(START_FIELD) or 0.0): str(each["_id"]) for each in found}
    return known


def _require_free_ids(target: Any | None, new: list[Entry]) -> None:
    """Raise ``InputError`` where an id of the new clips belongs to another clip of the dataset or of this import."""
    counts = Counter(entry.id for entry in new)
    taken = {clip_id for clip_id, count in counts.items() if count > 1}
    if target is not None and ID_FIELD in target.get_field_schema():
        _index_clips(target)
        for ids in in_blocks(list(counts)):
            found = target._sample_collection.find({ID_FIELD: {"$in": ids}}, [ID_FIELD])
            taken |= {each[ID_FIELD] for each in found}
    if taken:
        raise InputError(
            f"{len(taken)} clips would take ids that other clips have, such as "
            f"{min(taken)!r}: give these clips a name of their own (--name)"
        )


def _index_clips(dataset: Any) -> None:
    """The indexes that clips are looked up by; what is there stays."""
    from pymongo import IndexModel

    dataset._sample_collection.create_indexes([IndexModel(ID_FIELD), IndexModel("tags")])


def _dataset_listing(name: str, missing_caption: MissingCaption) -> Listing:
    """The videos of another dataset, with its ids and captions."""
    source = load_dataset(name)
    chosen_ids, starts = (source.values(f) if f in source.get_field_schema() else None for f in (ID_FIELD, START_FIELD))
    sample_ids = source.values("id")
    text_field = caption_field(source)
    paths = source.values("filepath")
    captions = source.values(text_field) if text_field else [None] * len(paths)
    listing = Listing()
    others = [each for each in usual_fields(source) if each != text_field]
    if text_field and others:
        listing.notes.append(f"captions are taken from the field {text_field!r}; {', '.join(others)} hold text too")
    for n, (path, caption) in enumerate(zip(paths, captions, strict=True)):
        caption = caption if isinstance(caption, str) else ""
        if not caption.strip() and missing_caption == "refuse":
            raise InputError(f"{path} of dataset {name!r} has no caption")
        if not caption.strip() and missing_caption == "skip":
            listing.skipped.append(path)
        else:
            clip_id = (chosen_ids and chosen_ids[n]) or f"{name}/{sample_ids[n]}"
            listing.entries.append(Entry(Path(path), clip_id, caption, (starts and starts[n]) or 0.0))
    return listing


def conflict_sentence(conflicts: Mapping[str, str]) -> str:
    """Clips whose captions were corrected in the dataset and in the source: what was done, and the way out."""
    shown = ", ".join(list(conflicts)[:3]) + (", ..." if len(conflicts) > 3 else "")
    return (
        f"{len(conflicts)} have a new caption in the source and another one in the dataset, which stays ({shown}): "
        "to take the source's, empty theirs and import again"
    )


def _declare_fields(dataset: Any) -> str:
    """Returns the field that captions go to: the dataset's own, or a new one."""
    fo = fiftyone()
    caption = caption_field(dataset)
    if caption is None:
        caption = CAPTION_FIELD
        if dataset.has_sample_field(BROUGHT_FIELD):  # what was brought went with the field it was brought into
            dataset.clear_sample_field(BROUGHT_FIELD)
        dataset.add_sample_field(caption, fo.StringField, description="what the clip is trained with")
    dataset.add_sample_field(
        ID_FIELD, fo.StringField, description="stable name of the clip in stores and exports: folder and relative path"
    )
    dataset.add_sample_field(
        START_FIELD,
        fo.FloatField,
        description="seconds into the file at which the clip begins, for windows of a long video",
    )
    dataset.add_sample_field(
        BROUGHT_FIELD,
        fo.StringField,
        description="the caption that an import brought last; one that differs was written or corrected since",
    )
    _index_clips(dataset)
    return caption


def _sample(entry: Entry, role: str, caption: str, report: ImportReport) -> Any:
    fo = fiftyone()
    sample = fo.Sample(filepath=str(entry.path), tags=[role])
    sample[ID_FIELD] = entry.id
    sample[caption] = entry.caption
    sample[BROUGHT_FIELD] = entry.caption if entry.caption.strip() else None
    sample[START_FIELD] = entry.start or None
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


def _update(
    dataset: Any, entries: dict[str, Entry], role: str, caption: str, report: ImportReport, *, own: bool
) -> None:
    """Captions (in the field ``caption``) and tags of samples that are there; ``own``: captions were read from them, so
    none is brought."""
    view = dataset.select(list(entries))
    columns = view.values(["id", caption, BROUGHT_FIELD, ID_FIELD, "tags"])
    captions: dict[str, str] = {}
    brought: dict[str, str] = {}
    changed = set()
    for sample_id, now, before, clip_id, tags in zip(*columns, strict=True):
        entry = entries[sample_id]
        after = caption_after(now, before, entry.caption)
        if after != (now or ""):
            captions[sample_id] = after
        if after.strip() != entry.caption.strip():
            report.kept += 1
            if entry.caption.strip() and entry.caption != before:
                report.conflicts[clip_id or entry.id] = entry.caption
        elif after.strip() and after != before and not own:
            brought[sample_id] = after
        report.without_caption += not after.strip()
        if sample_id in captions or clip_id is None or role not in tags:
            changed.add(sample_id)
    report.updated += len(changed)
    report.unchanged += len(entries) - len(changed)
    unnamed = {i: entries[i].id for i, clip_id in zip(columns[0], columns[3], strict=True) if clip_id is None}
    for name, values in ((caption, captions), (BROUGHT_FIELD, brought), (ID_FIELD, unnamed)):
        if values:
            dataset.set_values(name, values, key_field="id")
    if changed:
        dataset.select(list(changed)).tag_samples(role)
