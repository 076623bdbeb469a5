"""What exporters share: stable file names, links or copies, a manifest, a folder that is complete or absent."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import motive_fo
from motive_fo.clips.spec import ClipSpec
from motive_fo.config import ExportConfig, plain
from motive_fo.errors import ExportError
from motive_fo.progress import Progress, silent

MANIFEST: Final = "motive-manifest.json"


@dataclass(frozen=True)
class ExportItem:
    """One clip to export, with what is known of it (``about`` goes into the manifest)."""

    id: str
    path: Path
    caption: str
    start: float = 0.0
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        folder: absolute path of the export.
        written: number of clips.
        skipped: clip id -> why it is not in the export.
        without_caption: written clips whose caption is empty.
        command: arguments that point the trainer at the folder.
    """

    folder: str
    written: int
    skipped: dict[str, str]
    without_caption: int
    command: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dict(self.__dict__)


class Exporter(ABC):
    """Writes one trainer's layout. A new trainer is one subclass and one line in the registry."""

    name: str
    suffixes: frozenset[str]
    media_folder: str

    @abstractmethod
    def write_listing(self, folder: Path, rows: Sequence[tuple[str, ExportItem]]) -> None:
        """Write the trainer's listing. ``rows``: media path relative to ``folder``, and the clip."""

    @abstractmethod
    def command(self, folder: Path, spec: ClipSpec) -> str:
        """Arguments that point the trainer at the folder."""

    def write(
        self,
        items: Iterable[ExportItem],
        folder: Path,
        *,
        config: ExportConfig,
        spec: ClipSpec,
        about: Mapping[str, Any],
        progress: Progress = silent,
    ) -> ExportReport:
        """Write everything aside and move it into place at the end.

        Raises:
            ExportError: the folder holds something, cannot be written, or no clip can be exported.
        """
        folder = folder.absolute()
        _require_free(folder, config.overwrite)
        items = list(items)
        rows, skipped = self._sort_out(items)
        if not rows:
            listing = f": {next(iter(skipped.values()))}" if skipped else ""
            raise ExportError(f"none of the {len(items)} clips can be exported{listing}")
        report = ExportReport(
            folder=str(folder),
            written=len(rows),
            skipped=skipped,
            without_caption=sum(1 for _, item in rows if not item.caption.strip()),
            command=self.command(folder, spec),
        )
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.part-", dir=folder.parent))
        except OSError as error:
            raise ExportError(f"cannot write into {folder.parent}: {error.strerror}") from None
        try:
            part.chmod(0o755)
            (part / self.media_folder).mkdir()
            for done, (name, item) in enumerate(rows, 1):
                _place(item.path, part / name, config.media)
                progress("export", done, len(rows))
            self.write_listing(part, rows)
            manifest = _manifest(self.name, config, spec, report, rows, about)
            (part / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            _swap_in(part, folder)
        except OSError as error:
            raise ExportError(f"the export to {folder} failed: {error.strerror or error}") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return report

    def _sort_out(self, items: Sequence[ExportItem]) -> tuple[list[tuple[str, ExportItem]], dict[str, str]]:
        rows: list[tuple[str, ExportItem]] = []
        skipped: dict[str, str] = {}
        for item in items:
            if item.path.suffix.lower() not in self.suffixes:
                skipped[item.id] = f"{self.name} does not read {item.path.suffix or 'files without a suffix'}"
            elif item.start:
                # a trainer reads from the start of the file: another part than the one that was scored
                skipped[item.id] = f"a window that begins {item.start:g} s into its file; cut it out first"
            elif not item.path.is_file():
                skipped[item.id] = f"{item.path} does not exist"
            else:
                rows.append((f"{self.media_folder}/{media_name(item)}", item))
        return rows, skipped


def media_name(item: ExportItem) -> str:
    """A file name that is unique, safe everywhere, and the same in every export (trainers key their caches by it)."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(item.id).stem).strip("-")[:48] or "clip"
    return f"{stem}_{hashlib.blake2b(item.id.encode(), digest_size=5).hexdigest()}{item.path.suffix.lower()}"


def _place(source: Path, target: Path, media: str) -> None:
    if media == "copy":
        shutil.copy2(source, target)
    else:
        target.symlink_to(source.resolve())


def _require_free(folder: Path, overwrite: bool) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ExportError(f"{folder} is not a folder: choose another place")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise ExportError(f"{folder} is not empty: choose a new folder, or replace an earlier export with --overwrite")
    if not (folder / MANIFEST).is_file():
        raise ExportError(
            f"{folder} is not empty and not an export of motive (it has no {MANIFEST}): choose another folder"
        )


def _swap_in(part: Path, folder: Path) -> None:
    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old-", dir=folder.parent))
        folder.replace(old)
        part.replace(folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        part.replace(folder)


def _manifest(
    layout: str,
    config: ExportConfig,
    spec: ClipSpec,
    report: ExportReport,
    rows: Sequence[tuple[str, ExportItem]],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "format": "motive-fo export",
        "version": motive_fo.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "layout": layout,
        "command": report.command,
        "export": plain(config),
        "clip": spec.identity(),
        **about,
        "clips": [
            {"file": name, "id": item.id, "source": str(item.path), "caption": item.caption, **item.about}
            for name, item in rows
        ],
        "skipped": report.skipped,
    }
