"""Hugging Face's videofolder: media in ``videos/`` and ``metadata.jsonl`` with ``file_name`` and ``caption``.

``load_dataset`` hands over every frame; what is trained on is up to the script that reads it. It sorts files into
splits by words such as ``test`` in their names, which names of ours therefore never hold.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from motive_fo.exporters.base import Exporter, Row
from motive_fo.exporters.media import ScoredAs
from motive_fo.exporters.survival import Asked, Fate, Measured, speed


class VideofolderExporter(Exporter):
    """See the module's text."""

    name = "videofolder"
    suffixes = frozenset({".mp4", ".mov", ".mkv", ".avi", ".mpeg"})

    def fate(self, measured: Measured, asked: Asked) -> Fate:
        if measured.frames == 0:
            return Fate(0, why="the file has no frames")
        return Fate(measured.frames, speed(asked.fps, measured.fps))

    def texts(self, folder: Path, rows: Sequence[Row], asked: Asked, scored: ScoredAs, repeats: int) -> dict[str, str]:
        return {"metadata.jsonl": listing(rows)}

    def command(self, folder: Path, asked: Asked, scored: ScoredAs, steps: int | None, repeats: int) -> str:
        return f'load_dataset("videofolder", data_dir={json.dumps(str(folder))}, split="train")'


def listing(rows: Sequence[Row], prefix: str = "") -> str:
    """The lines of ``metadata.jsonl``, with paths relative to the folder ``prefix`` it lies in."""
    return "".join(
        json.dumps({"file_name": row.file.removeprefix(prefix), "caption": row.caption}) + "\n" for row in rows
    )
