"""Exports of a dataset's clips: what a trainer would make of them, and the folder it is pointed at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from motive_fo.config import ExportConfig, merge
from motive_fo.dataset.choose import choose_train, records_of
from motive_fo.dataset.connect import as_samples, dataset_of
from motive_fo.dataset.ownership import open_store
from motive_fo.dataset.run_record import RunRecord, load_run, save_run
from motive_fo.dataset.stale import stale_clips
from motive_fo.dataset.toy_model import toy_notes
from motive_fo.dataset.views import selected_view
from motive_fo.errors import InputError
from motive_fo.exporters.base import ExportItem, ExportReport
from motive_fo.exporters.media import ScoredAs
from motive_fo.exporters.registry import LAYOUTS, build_exporter
from motive_fo.exporters.survival import Measured, Survival
from motive_fo.models.registry import model_card
from motive_fo.progress import Progress, silent
from motive_fo.store.place import place_of

_ABOUT = ("influence", "votes", "rank", "motion_mean")


def export(
    samples: Any,
    folder: str | Path,
    run: str = "motive",
    *,
    config: ExportConfig | Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> ExportReport:
    """Write clips as a trainer reads them: media, listing, configuration and a manifest. Complete or absent.

    A second call with the same clips and settings changes nothing. With other clips it needs ``overwrite``; names and
    unchanged media stay, and so do files in the folder that are not motive's, such as a trainer's cache.

    Args:
        samples: a view to export as it is, or a dataset (or its name) for the run's selection.
        folder: new, empty, or an earlier export.
        run: name of the run.
        config: settings, whole or only the ones to change.
        about: more to say in the manifest.

    Raises:
        MotiveError: wrong settings, no such run or selection, a folder in use, no clip that can be exported; with
            ``strict``, a clip that the trainer would drop.
    """
    samples = as_samples(samples)
    dataset = dataset_of(samples)
    record = load_run(dataset, run)
    view = selected_view(dataset, record) if samples is dataset else samples
    given: ExportConfig = merge(ExportConfig(), config, "export")
    report = build_exporter(given.layout).write(
        export_items(view, record),
        Path(folder).expanduser(),
        config=given,
        scored=scored_as(record),
        about={
            "dataset": dataset.name,
            "run": run,
            "view": getattr(view, "name", None),
            "settings": record.settings,
            "steps": record.steps,
            **(about or {}),
        },
        progress=progress,
    )
    if report.folder not in record.exports:
        record.exports.append(report.folder)
        save_run(dataset, record)
    return replace(report, notes=toy_notes(dataset, record))


def survival(
    samples: Any,
    run: str = "motive",
    *,
    config: ExportConfig | Mapping[str, Any] | None = None,
    layouts: Sequence[str] = LAYOUTS,
    progress: Progress = silent,
) -> list[Survival]:
    """What trainers would make of clips if they were exported now: kept, cut, at another speed, dropped.

    Nothing is written.

    Args:
        samples: a view, or a dataset (or its name) for the run's selection, or its training clips where it has none.
        run: name of the run.
        config: settings of the export, whole or only the ones to change; its layout is left aside.
        layouts: the trainers to compare, all where open.

    Raises:
        MotiveError: wrong settings, no such run, an unknown layout.
    """
    samples = as_samples(samples)
    dataset = dataset_of(samples)
    record = load_run(dataset, run)
    view = samples
    if samples is dataset:
        view = selected_view(dataset, record) if "curate" in record.steps else choose_train(dataset, record.train)
    given: ExportConfig = merge(ExportConfig(), config, "export")
    items = export_items(view, record)
    if not items:
        raise InputError("there are no clips in what was chosen: choose another view")
    scored = scored_as(record)
    return [build_exporter(layout).plan(items, given, scored, progress).survival for layout in layouts]


def scored_as(record: RunRecord) -> ScoredAs:
    """How a run decoded its clips."""
    clip = record.section("clip")
    card = model_card(record.section("attribution").model)
    return ScoredAs(clip.resolve(card), clip.decoder, clip.short, card.frame_rule, clip.time_limit)


def export_items(view: Any, record: RunRecord) -> list[ExportItem]:
    """The clips of a view, in its order. Frames and rate come from the import's probe while the file is as large."""
    chosen, run = records_of(view, record), record.run
    stale = frozenset(stale_clips(view, record, open_store(record)) if place_of(record.store).is_there() else ())
    columns = [view.values(f"{run}.{name}") for name in _ABOUT]
    facts = view.values([f"metadata.{name}" for name in ("total_frame_count", "frame_rate", "size_bytes")])
    return [
        ExportItem(
            clip.id,
            clip.path,
            clip.caption,
            clip.start,
            dict(zip(_ABOUT, values, strict=True)),
            _known(clip.path, *known),
            clip.id in stale,
        )
        for clip, values, known in zip(
            chosen.records, zip(*columns, strict=True), zip(*facts, strict=True), strict=True
        )
    ]


def _known(path: Path, frames: int | None, fps: float | None, size: int | None) -> Measured | None:
    try:
        same = size is not None and path.stat().st_size == size
    except OSError:
        return None
    return Measured(frames, fps) if same and frames and fps else None
