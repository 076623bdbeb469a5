"""DiffSynth-Studio: media in ``videos/``, one JSON object per line in ``metadata.jsonl`` with ``video`` and ``prompt``.

JSONL and not CSV: DiffSynth reads CSV through pandas, which turns prompts such as "None" or "NA" into missing values.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from motive_fo.clips.spec import ClipSpec
from motive_fo.exporters.base import Exporter, ExportItem


class DiffSynthExporter(Exporter):
    """See the module's text."""

    name = "diffsynth"
    suffixes = frozenset({".gif", ".mp4", ".avi", ".mov", ".wmv", ".mkv", ".flv", ".webm"})
    media_folder = "videos"

    def write_listing(self, folder: Path, rows: Sequence[tuple[str, ExportItem]]) -> None:
        with (folder / "metadata.jsonl").open("w", encoding="utf-8") as file:
            for name, item in rows:
                # ASCII escapes: no separator that some reader takes for the end of a line
                file.write(json.dumps({"video": name, "prompt": item.caption}) + "\n")

    def command(self, folder: Path, spec: ClipSpec) -> str:
        return shlex.join(
            [
                "--dataset_base_path",
                str(folder),
                "--dataset_metadata_path",
                str(folder / "metadata.jsonl"),
                "--num_frames",
                str(spec.frames),
                "--height",
                str(spec.height),
                "--width",
                str(spec.width),
            ]
        )
