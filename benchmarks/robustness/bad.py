"""Every bad input through motion, gradients and scoring, in a process that is watched from outside."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.robustness.inputs import Bad, inputs

SECONDS = 10.0  # one clip may take this long to decode


def measure_inputs(folder: Path, answer: Path) -> None:
    """Make the inputs and run the steps over them; the rows go to ``answer``. For a process of its own."""
    from motive_fo.config import AttributionConfig, ClipConfig, FlowConfig, InfluenceConfig, MotionConfig
    from motive_fo.models.registry import attributed_model
    from motive_fo.models.tiny.card import CARD
    from motive_fo.pipeline.gradients import GradientSettings, compute_sketch_table
    from motive_fo.pipeline.motion import MotionSettings
    from motive_fo.pipeline.record import ClipRecord
    from motive_fo.pipeline.scoring import score
    from motive_fo.store.run_store import RunStore

    (folder / "files").mkdir()
    files = [*inputs(folder / "files"), *_found()]
    records = [ClipRecord(f"{n}", bad.path, f"clip number {n}") for n, bad in enumerate(files)]
    motion = MotionSettings.build(
        ClipConfig(short="pad", time_limit=SECONDS), FlowConfig(estimator="dis"), MotionConfig(), CARD
    )
    attribution = AttributionConfig()
    settings = GradientSettings.build(motion, attribution, attributed_model(attribution, motion.spec))
    times = [time.monotonic()]
    stop = threading.Event()
    changer = threading.Thread(target=_change, args=([b.path for b in files if b.kind == "change while read"], stop))
    changer.start()
    try:
        with RunStore(folder / "bad.zarr", write=True) as store:
            compute_sketch_table(records, store, settings, "train", progress=lambda *_: times.append(time.monotonic()))
            sketches = store.sketches("train")
            ids = [record.id for record in records]
            queries = [record for record in records if sketches.status(record.id).name == "DONE"][:3]
            compute_sketch_table(queries, store, settings, "query")
            score(ids, [record.id for record in queries], store, InfluenceConfig())
            scored_N = np.isfinite(store.scores("motion")[0])
            codes = sketches.read("code", ids)
            ends = [
                (bad.kind, "scored" if scored else sketches.status(clip_id).name.lower(), str(code))
                for bad, clip_id, code, scored in zip(files, ids, codes, scored_N, strict=True)
            ]
    finally:
        stop.set()
        changer.join()
    longest = max(b - a for a, b in pairwise(times))
    answer.write_text(json.dumps({"ends": ends, "longest": longest}))


def rows_of(ends: list[list[str]]) -> list[dict[str, Any]]:
    """One row for each kind: inputs, and how they ended."""
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for kind, status, code in ends:
        kinds[kind][code or status] += 1
    return [
        {
            "tried": f"input: {kind}",
            "times": ends.total(),
            "ended": ", ".join(f"{c} {e}" for e, c in ends.most_common()),
        }
        for kind, ends in kinds.items()
    ]


def _found() -> list[Bad]:
    """Odd files of other projects, where they lie beside the repository."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "videos" / "odd"
    return [Bad("found odd files", path) for path in sorted(folder.glob("*"))]


def _change(paths: list[Path], stop: threading.Event) -> None:
    good = paths[0].read_bytes()
    turn = 0
    while not stop.wait(0.002):
        turn += 1
        for path in paths:
            with path.open("r+b") as file:  # never empty: that would be another kind
                file.write(good)
                file.truncate(len(good) * (turn % 6 + 1) // 6)
