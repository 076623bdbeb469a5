"""VBench's custom input: nothing but media in ``videos/``, and ``prompts.json`` that maps file names to prompts.

Here clips are judged and not trained on: every frame counts, at the file's own rate. Dynamic degree compares frames
about an eighth of a second apart, and needs two.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from motive_fo.config import ExportConfig
from motive_fo.exporters.base import Exporter, Row
from motive_fo.exporters.media import ScoredAs
from motive_fo.exporters.survival import Asked, Fate, Measured

_PAIR = 2


class VBenchExporter(Exporter):
    """See the module's text."""

    name = "vbench"
    suffixes = frozenset({".mp4", ".gif"})

    def asked(self, measured: Sequence[Measured], config: ExportConfig, scored: ScoredAs) -> Asked:
        return replace(super().asked(measured, config, scored), frames=_PAIR, buckets=())

    def fate(self, measured: Measured, asked: Asked) -> Fate:
        apart = max(1, round(measured.fps / 8))
        if -(-measured.frames // apart) < _PAIR:
            return Fate(0, why=f"{measured.frames} frames hold no two that are {apart} apart, as dynamic degree asks")
        return Fate(measured.frames)

    def texts(self, folder: Path, rows: Sequence[Row], asked: Asked, scored: ScoredAs, repeats: int) -> dict[str, str]:
        prompts = {Path(row.file).name: row.caption for row in rows}
        return {"prompts.json": json.dumps(prompts, indent=1) + "\n"}

    def command(self, folder: Path, asked: Asked, scored: ScoredAs, steps: int | None, repeats: int) -> str:
        words = ["python", "evaluate.py", "--mode=custom_input", "--videos_path", str(folder / self.media_folder)]
        words += ["--prompt_file", str(folder / "prompts.json"), "--dimension", "dynamic_degree", "motion_smoothness"]
        return shlex.join(words)
