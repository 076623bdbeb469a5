"""finetrainers: a Hugging Face videofolder in ``data/`` and ``training.json``, which names it and the buckets.

The data have a folder of their own: finetrainers guesses a layout from what it finds. A clip goes into the longest
bucket that is not longer than it and is evenly subsampled to that many frames, so that it plays faster the longer it
is; a clip shorter than every bucket keeps its frames.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from motive_fo.exporters.base import Exporter, Row
from motive_fo.exporters.media import ScoredAs
from motive_fo.exporters.survival import Asked, Fate, Measured, four_n_plus_one, speed
from motive_fo.exporters.videofolder import listing


class FinetrainersExporter(Exporter):
    """See the module's text."""

    name = "finetrainers"
    suffixes = frozenset({".mp4", ".mov"})
    media_folder = "data/videos"
    one_line = True

    def caption(self, text: str) -> tuple[str, str]:
        caption, changed = super().caption(text)
        if caption.startswith("b'") and caption.endswith("'"):  # it would be taken for Python's spelling of bytes
            return f"{caption} ", "; ".join(part for part in (changed, "space added after a closing quote") if part)
        return caption, changed

    def buckets(self, measured: Sequence[Measured], asked: Asked) -> Iterable[int]:
        fitting = (four_n_plus_one(min(file.frames, asked.frames)) for file in measured)
        return (frames for frames in fitting if frames > 1)

    def fate(self, measured: Measured, asked: Asked) -> Fate:
        if measured.frames == 0:
            return Fate(0, why="the file has no frames")
        frames = max((bucket for bucket in asked.buckets if bucket <= measured.frames), default=measured.frames)
        if frames == 1:
            return Fate(1, why="trained as a single picture")
        step = (measured.frames - 1) / (frames - 1)
        why = "" if frames in asked.buckets else "shorter than every bucket"
        return Fate(frames, step * speed(asked.fps, measured.fps), why)

    def texts(self, folder: Path, rows: Sequence[Row], asked: Asked, scored: ScoredAs, repeats: int) -> dict[str, str]:
        dataset = {
            "data_root": str(folder / "data"),
            "dataset_type": "video",
            "video_resolution_buckets": [[b, scored.spec.height, scored.spec.width] for b in asked.buckets],
            "reshape_mode": "center_crop",
            "remove_common_llm_caption_prefixes": False,
        }
        training = json.dumps({"datasets": [dataset]}, indent=2) + "\n"
        return {"data/metadata.jsonl": listing(rows, "data/"), "training.json": training}

    def command(self, folder: Path, asked: Asked, scored: ScoredAs, steps: int | None, repeats: int) -> str:
        words = ["--dataset_config", str(folder / "training.json")]
        words += [] if steps is None else ["--train_steps", str(steps), "--batch_size", "1"]
        return shlex.join(words)
