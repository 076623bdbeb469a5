"""Throughput and memory of ``motive motion``: python -m benchmarks.motion [--clips 1000]

A few rendered clips stand for many: each record is a link to one of them with an id of its own. Memory is the process's
resident set after a tenth of the clips and after all of them; flat means that it does not grow with the corpus.
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
            link = Path(scratch) / f"{i:06d}.mp4"
            link.symlink_to(corpus.train[i % _RENDERED])
            records.append(ClipRecord(link.name, link))
        with RunStore(Path(scratch) / "run.zarr", write=True) as store:
            report = compute_motion_table(records, store, settings, progress=progress)
    rows = []
    for step in ("total", "decode", "flow", "statistics"):
        seconds = report.seconds[step]
        rows.append({"step": step, "clips": clips, "ms per clip": seconds / clips * 1e3, "clips/s": clips / seconds})
    early, late = (memory[key] for key in sorted(memory))
    growth = late - early
    goals = [goal(f"memory flat from {clips // 10} to {clips} clips (MiB of growth)", "<= 50", growth, growth <= 50)]
    write("motion", rows, goals, resident_mib={"early": round(early), "late": round(late)})


if __name__ == "__main__":
    main()
