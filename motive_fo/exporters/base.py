"""What exporters share: what can be exported and what becomes of it, stable names, the manifest, a folder that is
complete or absent and changes only where something changed."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import motive_fo
from motive_fo.clips.worker import DecodePool, decode_ahead
from motive_fo.config import ExportConfig, plain
from motive_fo.errors import ClipError, ExportError
from motive_fo.exporters.captions import clean
from motive_fo.exporters.folder import MANIFEST, Staging, require_free, staged, write_text
from motive_fo.exporters.media import (
    ScoredAs,
    encode,
    link_or_copy,
    measure,
    measure_encoded,
    media_name,
    origin,
    require_encoder,
)
from motive_fo.exporters.survival import Asked, Fate, Measured, Survival
from motive_fo.progress import Progress, silent

_SHOWN = 3


@dataclass(frozen=True)
class ExportItem:
    """One clip to export.

    Attributes:
        start: seconds into the file at which the clip begins.
        about: what else is known of it, for the manifest.
        measured: frames and rate of the file where they are known already; it is probed otherwise.
        stale: whether its file or caption is another one than when it was scored.
    """

    id: str
    path: Path
    caption: str
    start: float = 0.0
    about: Mapping[str, Any] = field(default_factory=dict)
    measured: Measured | None = None
    stale: bool = False


@dataclass(frozen=True)
class Row:
    """One clip as it is written.

    Attributes:
        item: the clip.
        file: its media, relative to the export.
        caption: as the trainer gets it.
        changed: what was done to the caption; empty if nothing.
        origin: what its media is made of.
        measured: frames and rate of its media.
        fate: what the trainer makes of it.
    """

    item: ExportItem
    file: str
    caption: str
    changed: str
    origin: str
    measured: Measured
    fate: Fate


@dataclass(frozen=True)
class Plan:
    """An export before it is written: its clips, those left out and why, and what becomes of all of them."""

    rows: list[Row]
    skipped: dict[str, str]
    survival: Survival


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        folder: absolute path of the export.
        written: number of clips.
        skipped: clip id -> why it is not in the export.
        without_caption: written clips whose caption is empty.
        command: what points the trainer at the folder.
        survival: what the trainer makes of the clips.
        changed_captions: clip id -> what had to be changed in its caption.
        unchanged: the folder held exactly this export already; nothing was touched.
        training: steps and passes over the clips that the command asks for, where a number of steps was given.
        notes: what a user should know of the scores behind it.
    """

    folder: str
    written: int
    skipped: dict[str, str]
    without_caption: int
    command: str
    survival: Survival
    changed_captions: dict[str, str] = field(default_factory=dict)
    unchanged: bool = False
    training: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**self.__dict__, "survival": self.survival.as_dict()}


class Exporter(ABC):
    """One trainer: its rules and its layout. A new trainer is one subclass and one line in the registry.

    Attributes:
        name: the layout's name.
        suffixes: files it reads.
        media_folder: where media lie in the export.
        one_line: whether its reader splits captions at line separators.
        needs_caption: why a clip without a caption is dropped; empty where it is trained with an empty prompt.
        slack: frames that re-encoded clips carry beyond the scored ones, for readers that lose one.
    """

    name: ClassVar[str]
    suffixes: ClassVar[frozenset[str]]
    media_folder: ClassVar[str] = "videos"
    one_line: ClassVar[bool] = False
    needs_caption: ClassVar[str] = ""
    slack: ClassVar[int] = 0

    @abstractmethod
    def fate(self, measured: Measured, asked: Asked) -> Fate:
        """What the trainer makes of a file: its rule, as a pure function."""

    @abstractmethod
    def texts(self, folder: Path, rows: Sequence[Row], asked: Asked, scored: ScoredAs, repeats: int) -> dict[str, str]:
        """Listing and configuration: path relative to the export -> text. ``folder``: where the export will be."""

    @abstractmethod
    def command(self, folder: Path, asked: Asked, scored: ScoredAs, steps: int | None, repeats: int) -> str:
        """What points the trainer at the folder."""

    def asked(self, measured: Sequence[Measured], config: ExportConfig, scored: ScoredAs) -> Asked:
        """The trainer's settings for these files: as configured, the rest from what was measured."""
        frames = config.frames or scored.spec.frames
        fps = config.trainer_fps or self.default_fps(scored.spec.fps)
        asked = Asked(frames, scored.spec.fps, fps, (frames,))
        buckets = config.buckets or (*self.buckets(measured, asked), frames)
        return replace(asked, buckets=tuple(sorted(set(buckets))))

    def default_fps(self, scored_fps: float) -> float:
        """Frames per second the trainer takes clips to have: those they were scored at, unless it has its own mind."""
        return scored_fps

    def buckets(self, measured: Sequence[Measured], asked: Asked) -> Iterable[int]:
        """Smaller numbers of frames for clips that do not have all."""
        return ()

    def caption(self, text: str) -> tuple[str, str]:
        """The caption as the trainer's format takes it, and what was changed."""
        return clean(text, one_line=self.one_line)

    def plan(
        self, items: Sequence[ExportItem], config: ExportConfig, scored: ScoredAs, progress: Progress = silent
    ) -> Plan:
        """What an export would write and what would become of it. Nothing is written."""
        found: dict[str, Measured] = {}
        skipped: dict[str, str] = {}
        for item, result in _measured(items, self, config, scored, progress):
            if isinstance(result, str):
                skipped[item.id] = result
            else:
                found[item.id] = result
        asked = self.asked(list(found.values()), config, scored)
        fates: dict[str, Fate] = {}
        rows: list[Row] = []
        for item in items:
            row = self._row(item, found[item.id], asked, config, scored) if item.id in found else None
            fates[item.id] = row.fate if row else _dropped(skipped[item.id])
            if row and row.fate.dropped:
                skipped[item.id] = row.fate.why
            elif row:
                rows.append(row)
        return Plan(rows, skipped, Survival(self.name, asked, fates))

    def _row(self, item: ExportItem, measured: Measured, asked: Asked, config: ExportConfig, scored: ScoredAs) -> Row:
        caption, changed = self.caption(item.caption)
        if not caption and config.missing_caption:
            caption, changed = self.caption(config.missing_caption)[0], "none given, filled in"
        fate = self.fate(measured, asked) if caption or not self.needs_caption else _dropped(self.needs_caption)
        try:
            made_of = origin(item.path, item.start, config.media, scored, self.slack)
        except OSError as error:  # it was there a moment ago
            made_of, fate = "", _dropped(f"cannot be read ({error.strerror})")
        suffix = ".mp4" if config.media == "reencode" else item.path.suffix
        file = f"{self.media_folder}/{media_name(item.id, suffix)}"
        return Row(item, file, caption, changed, made_of, measured, fate)

    def write(
        self,
        items: Iterable[ExportItem],
        folder: Path,
        *,
        config: ExportConfig,
        scored: ScoredAs,
        about: Mapping[str, Any],
        progress: Progress = silent,
    ) -> ExportReport:
        """Write everything aside and move it into place at the end. A second call with the same clips changes nothing.

        Raises:
            ExportError: the folder holds something else, cannot be written, no clip can be exported, or one cannot and
                ``config.strict`` is set.
        """
        folder = folder.absolute()
        try:
            with staged(folder) as staging:
                return self._write(staging, list(items), config, scored, about, progress)
        except OSError as error:
            raise ExportError(f"the export to {folder} failed: {error.strerror or error}") from error

    def _write(
        self,
        staging: Staging,
        items: Sequence[ExportItem],
        config: ExportConfig,
        scored: ScoredAs,
        about: Mapping[str, Any],
        progress: Progress,
    ) -> ExportReport:
        folder = staging.folder
        old = require_free(folder)
        if config.media == "reencode":
            require_encoder(scored.spec)
        plan = self.plan(items, config, scored, progress)
        hopeless: dict[str, str] = dict((old or {}).get("undecodable", {}))  # found out by an earlier export
        plan = _without(plan, {row.item.id: hopeless[row.origin] for row in plan.rows if row.origin in hopeless})
        _require_some(self.name, plan, items, config)
        texts = self._texts(folder, plan.rows, plan.survival, config, scored)
        report = self._report(folder, plan, config, scored)
        manifest = _manifest(report, plan.rows, texts, hopeless, config, scored, about)
        if old is not None:
            if not config.overwrite and not _same_for_trainer(folder, old, plan.rows, texts):
                raise ExportError(
                    f"{folder} is not empty: choose a new folder, or renew the export that is in it with --overwrite"
                )
            if _same(folder, old, manifest, texts):
                return replace(report, unchanged=True)
        staging.begin()
        failed = self._place(staging, old, plan.rows, config, scored, progress)
        if failed:
            hopeless |= {row.origin: failed[row.item.id] for row in plan.rows if row.item.id in failed}
            plan = _without(plan, failed)
            _require_some(self.name, plan, items, config)
            texts = self._texts(folder, plan.rows, plan.survival, config, scored)
            report = self._report(folder, plan, config, scored)
            manifest = _manifest(report, plan.rows, texts, hopeless, config, scored, about)
        for name, text in texts.items():
            write_text(staging.tree / name, text)
        write_text(staging.tree / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
        if old is not None:
            staging.keep_foreign(_files_of(old))
        staging.commit()
        return report

    def _texts(
        self, folder: Path, rows: Sequence[Row], survival: Survival, config: ExportConfig, scored: ScoredAs
    ) -> dict[str, str]:
        return self.texts(folder, rows, survival.asked, scored, _repeats(config.steps, len(rows)))

    def _report(self, folder: Path, plan: Plan, config: ExportConfig, scored: ScoredAs) -> ExportReport:
        count, steps = len(plan.rows), config.steps
        return ExportReport(
            folder=str(folder),
            written=count,
            skipped=plan.skipped,
            without_caption=sum(1 for row in plan.rows if not row.caption),
            command=self.command(folder, plan.survival.asked, scored, steps, _repeats(steps, count)),
            survival=plan.survival,
            changed_captions={row.item.id: row.changed for row in plan.rows if row.changed},
            training={} if steps is None else {"steps": steps, "passes": steps / count},
        )

    def _place(
        self,
        staging: Staging,
        old: Mapping[str, Any] | None,
        rows: Sequence[Row],
        config: ExportConfig,
        scored: ScoredAs,
        progress: Progress,
    ) -> dict[str, str]:
        """Bring every row's media into the new folder. Returns clip id -> why it could not be encoded."""
        (staging.tree / self.media_folder).mkdir(parents=True)
        known = _origins(old)
        todo: list[Row] = []
        done = 0
        for row in rows:
            if known.get(row.file) == row.origin and os.path.lexists(staging.folder / row.file):
                staging.keep(row.file)
            elif config.media == "reencode":
                todo.append(row)
                continue
            else:
                link_or_copy(row.item.path, staging.tree / row.file, config.media)
            done += 1
            progress("export", done, len(rows))
        failed = {}
        for row, why in _encoded(todo, staging, scored, self.slack):
            done += 1
            progress("export", done, len(rows))
            if why:
                failed[row.item.id] = why
        return failed


def _measured(
    items: Sequence[ExportItem], exporter: Exporter, config: ExportConfig, scored: ScoredAs, progress: Progress
) -> Iterator[tuple[ExportItem, Measured | str]]:
    """Each item with frames and rate of what will be exported, or why it cannot be. Files are probed side by side."""

    def look(item: ExportItem) -> Measured | str:
        if item.stale and config.stale == "skip":
            return (
                "file or caption was replaced after it was scored: compute gradients and score again, or --stale keep"
            )
        begins = item.start + scored.spec.start
        if config.media != "reencode":
            if item.path.suffix.lower() not in exporter.suffixes:
                return f"{exporter.name} does not read {item.path.suffix or 'files without a suffix'}; reencode would"
            if begins:
                # a trainer reads from the start of the file: another part than the one that was scored
                return f"a part that begins {begins:g} s into its file: --media reencode cuts it out"
        try:
            if not item.path.is_file():
                return f"{item.path} does not exist"
            if config.media == "reencode":
                found = measure_encoded(item.path, item.start, scored, exporter.slack)
                return found or f"ends before the {scored.spec.frames} frames that were to be scored"
            return item.measured or measure(item.path)
        except ClipError as error:
            return f"cannot be read ({error.code})"
        except OSError as error:
            return f"cannot be read ({error.strerror})"

    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for done, (item, result) in enumerate(zip(items, pool.map(look, items), strict=True), 1):
            progress("measure", done, len(items))
            yield item, result
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C need not wait for thousands of files


def _encoded(rows: Sequence[Row], staging: Staging, scored: ScoredAs, slack: int) -> Iterator[tuple[Row, str]]:
    """Encode rows as they were scored; those a killed export finished are taken over. Yields each with its failure."""
    missing = []
    for row in rows:
        if staging.take_encoded(_key(row), row.file):
            yield row, ""
        else:
            missing.append(row)
    if not missing:
        return
    with DecodePool(seconds=scored.time_limit) as pool:
        ahead = decode_ahead(missing, pool, lambda row: scored.request(row.item.path, row.item.start))
        for row, clip in ahead:
            if isinstance(clip, ClipError):
                yield row, f"cannot be decoded ({clip.code})"
                continue
            staging.add_encoded(_key(row), encode(clip.frames_THW3, scored.spec.fps, slack))
            staging.take_encoded(_key(row), row.file)
            yield row, ""


def _key(row: Row) -> str:
    return row.origin.partition(":")[2]


def _require_some(name: str, plan: Plan, items: Sequence[ExportItem], config: ExportConfig) -> None:
    if config.strict and plan.skipped:
        shown = "; ".join(f"{clip_id}: {why}" for clip_id, why in list(plan.skipped.items())[:_SHOWN])
        more = f"; and {len(plan.skipped) - _SHOWN} more" if len(plan.skipped) > _SHOWN else ""
        raise ExportError(
            f"{len(plan.skipped)} of {len(items)} clips would not be trained on by {name} ({shown}{more}): "
            "change the settings, take them out of the view, or export without --strict"
        )
    if not plan.rows:
        first = f": {next(iter(plan.skipped.values()))}" if plan.skipped else ""
        raise ExportError(f"none of the {len(items)} clips can be exported{first}")


def _without(plan: Plan, failed: Mapping[str, str]) -> Plan:
    fates = {i: _dropped(failed[i]) if i in failed else fate for i, fate in plan.survival.fates.items()}
    rows = [row for row in plan.rows if row.item.id not in failed]
    return Plan(rows, {**plan.skipped, **failed}, replace(plan.survival, fates=fates))


def _dropped(why: str) -> Fate:
    return Fate(0, why=why)


def _repeats(steps: int | None, clips: int) -> int:
    """Passes over the clips, whole ones, that reach the steps at a batch of one."""
    return 1 if steps is None else max(1, round(steps / clips))


def _manifest(
    report: ExportReport,
    rows: Sequence[Row],
    texts: Mapping[str, str],
    undecodable: Mapping[str, str],
    config: ExportConfig,
    scored: ScoredAs,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "format": "motive-fo export",
        "version": motive_fo.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "layout": config.layout,
        "command": report.command,
        "export": {key: value for key, value in plain(config).items() if key not in ("overwrite", "strict")},
        "clip": scored.spec.identity(),
        **({"training": report.training} if report.training else {}),
        **about,
        "survival": report.survival.as_dict(),
        "files": sorted(texts),
        "clips": [
            {
                "file": row.file,
                "id": row.item.id,
                "source": str(row.item.path),
                "caption": row.caption,
                **({"caption_was": row.item.caption, "caption_changed": row.changed} if row.changed else {}),
                **asdict(row.measured),
                "trained_frames": row.fate.frames,
                "speed": round(row.fate.speed, 4),
                "origin": row.origin,
                **row.item.about,
            }
            for row in rows
        ],
        "skipped": report.skipped,
        "undecodable": dict(undecodable),
    }


def _origins(old: Mapping[str, Any] | None) -> dict[str, str]:
    """File -> what it is made of, of the export in the folder."""
    return {clip["file"]: clip.get("origin", "") for clip in old["clips"]} if old is not None else {}


def _files_of(old: Mapping[str, Any]) -> set[str]:
    # a manifest of version 0.1 does not name its listing
    return {MANIFEST, "metadata.jsonl", *old.get("files", ()), *_origins(old)}


def _same_for_trainer(folder: Path, old: Mapping[str, Any], rows: Sequence[Row], texts: Mapping[str, str]) -> bool:
    """Whether the folder holds these media and texts, so that a trainer sees no difference."""
    return (
        _origins(old) == {row.file: row.origin for row in rows}
        and all(os.path.lexists(folder / row.file) for row in rows)
        and all(_holds(folder / name, text) for name, text in texts.items())
    )


def _same(folder: Path, old: Mapping[str, Any], manifest: Mapping[str, Any], texts: Mapping[str, str]) -> bool:
    """Whether nothing would change but the time of writing."""
    then, now = ({**data, "created": ""} for data in (old, json.loads(json.dumps(manifest))))
    there = all(os.path.lexists(folder / clip["file"]) for clip in manifest["clips"])
    return then == now and there and all(_holds(folder / name, text) for name, text in texts.items())


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode("utf-8", "backslashreplace")
    except OSError:
        return False
