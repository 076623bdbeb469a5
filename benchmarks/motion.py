"""Throughput and memory of ``motive motion``: python -m benchmarks.motion [--clips 1000]

A few rendered clips stand for many: each record is a copy of one of them with a number in a box that no decoder reads,
so that every file has content of its own. Memory is the process's resident set after a tenth of the clips and after all
of them; flat means that it does not grow with the corpus. The second run removes the camera: all it needs was measured
by the first.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from benchmarks.record import goal, write
from motive_fo.config import ClipConfig, FlowConfig, MotionConfig
from motive_fo.models.registry import model_card
from motive_fo.pipeline.motion import MotionSettings, compute_motion_table
from motive_fo.pipeline.record import ClipRecord
from motive_fo.store.run_store import RunStore
from motive_fo.synthetic.corpus import write_corpus

_RENDERED = 40


def _free_box(number: int) -> bytes:
    """A box of an MP4 that is skipped: length, name, content."""
    return (12).to_bytes(4, "big") + b"free" + number.to_bytes(4, "big")


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1000)
    clips = parser.parse_args().clips
    settings = MotionSettings.build(ClipConfig(), FlowConfig(), MotionConfig(), model_card("tiny"))
    memory: dict[int, float] = {}

    def progress(label: str, done: int, total: int) -> None:
        if done in (total // 10, total):
            memory[done] = _resident_mib()

    with tempfile.TemporaryDirectory() as scratch:
        corpus = write_corpus(Path(scratch), train=_RENDERED, queries=0)
        records = []
        for i in range(clips):
            copy = Path(scratch) / f"{i:06d}.mp4"
            copy.write_bytes(corpus.train[i % _RENDERED].read_bytes() + _free_box(i))
            records.append(ClipRecord(copy.name, copy))
        known = Path(scratch) / "known"
        with RunStore(Path(scratch) / "run.zarr", write=True) as store:
            report = compute_motion_table(records, store, settings, known=known, progress=progress)
        kept = sum(path.stat().st_size for path in known.rglob("*") if path.is_file()) / clips
        removed = MotionSettings.build(ClipConfig(), FlowConfig(), MotionConfig(camera="remove"), model_card("tiny"))
        with RunStore(Path(scratch) / "again.zarr", write=True) as store:
            again = compute_motion_table(records, store, removed, known=known)
    rows = []
    for step in ("total", "decode", "flow", "statistics"):
        seconds = report.seconds[step]
        rows.append({"step": step, "clips": clips, "ms per clip": seconds / clips * 1e3, "clips/s": clips / seconds})
    second = again.seconds["total"]
    rows.append(
        {
            "step": "another run, camera removed",
            "clips": clips,
            "ms per clip": second / clips * 1e3,
            "clips/s": clips / second,
        }
    )
    early, late = (memory[key] for key in sorted(memory))
    growth = late - early
    goals = [goal(f"memory flat from {clips // 10} to {clips} clips (MiB of growth)", "<= 50", growth, growth <= 50)]
    write(
        "motion",
        rows,
        goals,
        resident_mib={"early": round(early), "late": round(late)},
        kept_bytes_per_clip=round(kept),
    )


if __name__ == "__main__":
    main()
