"""diffusion-pipe: a flat folder of media with one ``captions.json`` beside them, and ``dataset.toml``.

It brings clips to 16 frames per second (24 for Wan2.2-5B), which leaves int(frames * 16 / fps) of them, and takes the
longest bucket that is not longer; a clip shorter than every bucket is dropped with a line in the log. Users see its
reader lose a frame, so re-encoded clips carry one more than is trained on, and the buckets hold the next smaller count
for every clip that has none to spare.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from motive_fo.exporters.base import Exporter, Row
from motive_fo.exporters.media import ScoredAs
from motive_fo.exporters.survival import Asked, Fate, Measured, four_n_plus_one, speed
from motive_fo.exporters.toml import document


class DiffusionPipeExporter(Exporter):
    """See the module's text."""

    name = "diffusion-pipe"
    # it tries to open whatever it finds
    suffixes = frozenset({".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv"})
    needs_caption = "has no caption, and diffusion-pipe skips it: give one, or set --missing-caption"
    slack = 1

    def default_fps(self, scored_fps: float) -> float:
        return 24.0 if abs(scored_fps - 24) < 0.1 else 16.0

    def buckets(self, measured: Sequence[Measured], asked: Asked) -> Iterable[int]:
        counts = (_retimed(file, asked) for file in measured)
        fitting = (four_n_plus_one(min(count - lost, asked.frames)) for count in counts for lost in (0, 1))
        return {frames for frames in fitting if frames > 1}

    def fate(self, measured: Measured, asked: Asked) -> Fate:
        count = _retimed(measured, asked)
        below = sorted(bucket for bucket in asked.buckets if 1 < bucket <= count)
        if not below:
            why = f"{count} frames at {asked.trainer_fps:g} fps, shorter than every bucket"
            return Fate(0, why=why)
        on_edge = below[-1] == count
        why = "no frame to spare: some versions lose one and take the next smaller bucket" if on_edge else ""
        return Fate(below[-1], speed(asked.fps, asked.trainer_fps), why)

    def texts(self, folder: Path, rows: Sequence[Row], asked: Asked, scored: ScoredAs, repeats: int) -> dict[str, str]:
        captions = {Path(row.file).name: [row.caption] for row in rows}
        size = [scored.spec.width, scored.spec.height]
        dataset = {
            "resolutions": [size],
            "enable_ar_bucket": True,
            "ar_buckets": [size],
            "frame_buckets": list(asked.buckets),
            "directory": [{"path": str(folder / self.media_folder), "num_repeats": repeats}],
        }
        return {
            f"{self.media_folder}/captions.json": json.dumps(captions, indent=1) + "\n",
            "dataset.toml": document(dataset),
        }

    def command(self, folder: Path, asked: Asked, scored: ScoredAs, steps: int | None, repeats: int) -> str:
        epochs = "" if steps is None else ", epochs = 1, micro_batch_size_per_gpu = 1"
        name = shlex.quote(str(folder / "dataset.toml"))
        return f"deepspeed --num_gpus=1 train.py --deepspeed --config CONFIG.toml, with dataset = {name}{epochs} in it"


def _retimed(measured: Measured, asked: Asked) -> int:
    return int(measured.frames * asked.trainer_fps / measured.fps) if measured.fps > 0 else 0
