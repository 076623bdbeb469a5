"""musubi-tuner: media in ``videos/`` and ``dataset.toml`` with one dataset for each source rate and number of frames.

musubi brings clips to 16 frames per second only where it is told their own rate, one rate (a float) for a whole
dataset; it leaves frames out and never adds any. It takes the first ``target_frames`` and drops shorter clips in
silence. Its cache goes by file name alone, so every dataset has a cache folder of its own and names never change.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from motive_fo.exporters.base import Exporter, Row
from motive_fo.exporters.media import ScoredAs
from motive_fo.exporters.survival import SAME_SPEED, Asked, Fate, Measured, four_n_plus_one, speed
from motive_fo.exporters.toml import document

_LEAST = 5


class MusubiExporter(Exporter):
    """See the module's text."""

    name = "musubi"
    suffixes = frozenset({".mp4", ".webm", ".avi", ".mkv", ".mov", ".flv", ".wmv", ".m4v", ".mpg", ".mpeg"})

    def default_fps(self, scored_fps: float) -> float:
        return 24.0 if abs(scored_fps - 24) < 0.1 else 16.0

    def fate(self, measured: Measured, asked: Asked) -> Fate:
        source_fps, frames = _dataset(measured, asked)
        if not frames:
            count = _left(measured.frames, source_fps, asked.trainer_fps)
            return Fate(0, why=f"{count} frames at {asked.trainer_fps:g} fps, fewer than musubi can be asked for")
        taken_fps = measured.fps if source_fps is None else asked.trainer_fps
        return Fate(frames, speed(asked.fps, taken_fps))

    def texts(self, folder: Path, rows: Sequence[Row], asked: Asked, scored: ScoredAs, repeats: int) -> dict[str, str]:
        groups: dict[tuple[float | None, int], list[Row]] = {}
        for row in rows:
            groups.setdefault(_dataset(row.measured, asked), []).append(row)
        texts: dict[str, str] = {}
        datasets = []
        for source_fps, frames in sorted(groups, key=lambda group: (group[0] or 0.0, group[1])):
            name = f"{'as-is' if source_fps is None else f'{source_fps:g}fps'}-{frames}"
            lines = [
                # absolute: musubi resolves relative paths against the working directory
                json.dumps({"video_path": str(folder / row.file), "caption": row.caption}) + "\n"
                for row in groups[source_fps, frames]
            ]
            texts[f"{name}.jsonl"] = "".join(lines)
            datasets.append(
                {
                    "video_jsonl_file": str(folder / f"{name}.jsonl"),
                    "cache_directory": str(folder / "cache" / name),
                    "target_frames": [frames],
                    "frame_extraction": "head",
                    **({} if source_fps is None else {"source_fps": source_fps}),
                    "num_repeats": repeats,
                }
            )
        general = {
            "resolution": [scored.spec.width, scored.spec.height],
            "batch_size": 1,
            "enable_bucket": True,
            "bucket_no_upscale": False,
        }
        texts["dataset.toml"] = document({"general": general, "datasets": datasets})
        return texts

    def command(self, folder: Path, asked: Asked, scored: ScoredAs, steps: int | None, repeats: int) -> str:
        words = ["--dataset_config", str(folder / "dataset.toml")]
        words += [] if steps is None else ["--max_train_steps", str(steps)]
        return shlex.join(words)


def _dataset(measured: Measured, asked: Asked) -> tuple[float | None, int]:
    """The dataset of a clip: its rate where musubi has to change it, and the frames taken; 0 where it has too few."""
    fps = round(measured.fps, 2)
    slower = fps > asked.trainer_fps * (1 + SAME_SPEED)
    source_fps = float(fps) if slower else None
    count = _left(measured.frames, source_fps, asked.trainer_fps)
    if len(asked.buckets) > 1:
        return source_fps, max((bucket for bucket in asked.buckets if bucket <= count), default=0)
    frames = four_n_plus_one(min(count, asked.frames))
    return source_fps, frames if frames >= _LEAST else 0


def _left(frames: int, source_fps: float | None, target_fps: float) -> int:
    """Frames that are left of a clip brought to a lower rate: added up as musubi adds, rounding errors included."""
    if source_fps is None:
        return frames
    left, last, position = 0, -1, 0.0
    for _ in range(frames):
        if int(position) != last:
            left, last = left + 1, int(position)
        position += target_fps / source_fps
    return left
