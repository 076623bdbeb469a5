"""Clips named in one way wherever some are asked for: a folder, a listing, a view or tag of a dataset, a dataset.

========================  ============================================================================
``clips/``                a folder: an export, what ``motive generate`` made, or any videos
``clips.jsonl``           a listing, as for ``motive import``
``my-clips:VIEW``         a saved view or tag of dataset my-clips; ``tag:x``, ``view:x`` where it is both
``dataset:my-clips``      all clips of a dataset
========================  ============================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from motive_fo.dataset.choose import choose_train, records_of
from motive_fo.dataset.connect import dataset_of, load_dataset
from motive_fo.dataset.listing import read_source
from motive_fo.errors import InputError
from motive_fo.evaluation.clips import ClipSet, EvaluatedClip
from motive_fo.exporters.folder import read_manifest
from motive_fo.pipeline.record import ClipRecord
from motive_fo.training.generated import read_generated


@dataclass(frozen=True)
class NamedClips:
    """What a source names.

    Attributes:
        label: short name of the source.
        records: its clips, in a fixed order, each id once.
        seeds: clip id -> seed of its noise, for generated clips.
        clip: the clip specification of an export, as its manifest says it; a file begins where its clip does.
    """

    label: str
    records: tuple[ClipRecord, ...]
    seeds: Mapping[str, int] = field(default_factory=dict)
    clip: Mapping[str, Any] | None = None


def named_clips(source: Any) -> NamedClips:
    """The clips of a source, which may also be a FiftyOne view or dataset.

    Raises:
        InputError: nothing of that name, or no clips in it.
    """
    found = _named(source)
    if not found.records:
        raise InputError(f"there are no clips in {source if isinstance(source, str | Path) else found.label}")
    return found


def clip_sets(sources: Sequence[Any]) -> list[ClipSet]:
    """Sources as sets to evaluate, each with a label of its own: the short one, or what was named where that is twice.

    Raises:
        InputError: see ``named_clips``.
    """
    found = [named_clips(source) for source in sources]
    labels = [each.label for each in found]
    sets = []
    for source, each in zip(sources, found, strict=True):
        clear = labels.count(each.label) == 1 or not isinstance(source, str | Path)
        clips = [EvaluatedClip(r.id, r.path, r.caption, each.seeds.get(r.id), r.start) for r in each.records]
        sets.append(ClipSet(each.label if clear else str(source), tuple(clips)))
    return sets


def _named(source: Any) -> NamedClips:
    if not isinstance(source, str | Path):
        return _of(source, getattr(source, "name", None) or dataset_of(source).name)
    path = Path(source).expanduser()
    if path.exists():
        return _on_disk(path)
    name, colon, selector = str(source).partition(":")
    if not colon or not selector:
        raise InputError(
            f"{source} is no folder or listing here; clips of a dataset are named DATASET:VIEW, DATASET:TAG or "
            "dataset:NAME"
        )
    if name == "dataset":
        return _of(load_dataset(selector), selector)
    return _of(choose_train(load_dataset(name), selector), selector)


def _of(samples: Any, label: str) -> NamedClips:
    return NamedClips(label, tuple(records_of(samples).records))


def _on_disk(path: Path) -> NamedClips:
    label = path.absolute().name if path.is_dir() else path.stem
    if path.is_dir():
        manifest = read_manifest(path)
        if manifest is not None:
            records = [ClipRecord(clip["id"], path / clip["file"], clip["caption"]) for clip in manifest["clips"]]
            return NamedClips(label, tuple(records), clip={**manifest["clip"], "start": 0.0})
        generated = read_generated(path)
        if generated is not None:
            records = [ClipRecord(clip.file, path / clip.file, clip.prompt) for clip in generated]
            return NamedClips(label, tuple(records), {clip.file: clip.seed for clip in generated})
    root = path if path.is_dir() else path.parent
    entries = read_source(path).entries
    base = root.absolute()
    ids = [e.path.relative_to(base).as_posix() if e.path.is_relative_to(base) else e.path.as_posix() for e in entries]
    return NamedClips(
        label, tuple(ClipRecord(i, e.path, e.caption, e.start) for i, e in zip(ids, entries, strict=True))
    )
