"""DiffSynth-Studio: media in ``videos/``, one JSON object per line in ``metadata.jsonl`` with ``video`` and ``prompt``.

JSONL and not CSV: DiffSynth reads CSV through pandas, which turns prompts such as "None" or "NA" into missing values.
It takes the first frames as they are, whatever the file's rate, and cuts shorter files to the largest 4n+1.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from motive_fo.exporters.base import Exporter, Row
from motive_fo.exporters.media import ScoredAs
from motive_fo.exporters.survival import Asked, Fate, Measured, four_n_plus_one, speed


class DiffSynthExporter(Exporter):
    """See the module's text."""

    name = "diffsynth"
    suffixes = frozenset({".gif", ".mp4", ".avi", ".mov", ".wmv", ".mkv", ".flv", ".webm"})

    def fate(self, measured: Measured, asked: Asked) -> Fate:
        frames = asked.frames if measured.frames >= asked.frames else four_n_plus_one(measured.frames)
        if frames == 0:
            return Fate(0, why="the file has no frames")
        if frames == 1:
            return Fate(1, why="trained as a single picture: fewer than 5 frames")
        return Fate(frames, speed(asked.fps, measured.fps))

    def texts(self, folder: Path, rows: Sequence[Row], asked: Asked, scored: ScoredAs, repeats: int) -> dict[str, str]:
        # ASCII escapes: no separator that some reader takes for the end of a line
        lines = [json.dumps({"video": row.file, "prompt": row.caption}) + "\n" for row in rows]
        return {"metadata.jsonl": "".join(lines)}

    def command(self, folder: Path, asked: Asked, scored: ScoredAs, steps: int | None, repeats: int) -> str:
        words = ["--dataset_base_path", str(folder), "--dataset_metadata_path", str(folder / "metadata.jsonl")]
        words += ["--num_frames", str(asked.frames)]
        words += ["--height", str(scored.spec.height), "--width", str(scored.spec.width)]
        words += [] if steps is None else ["--dataset_repeat", str(repeats), "--num_epochs", "1"]
        return shlex.join(words)
