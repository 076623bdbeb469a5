"""Clips per second of each step on the demo's corpus, and the projection's share: python -m benchmarks.steps

The steps of the method are measured from Python, without a database; import, fields and views are the demo's own time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.record import goal, write
from motive_fo.attribution.projection import SRHTProjection
from motive_fo.clips.decode import decode
from motive_fo.clips.probe import probe
from motive_fo.config import AttributionConfig, ClipConfig, FlowConfig, InfluenceConfig, MotionConfig
from motive_fo.models.registry import load_model, model_card
from motive_fo.pipeline.gradients import GradientSettings, compute_sketch_table
from motive_fo.pipeline.motion import MotionSettings, compute_motion_table
from motive_fo.pipeline.record import ClipRecord
from motive_fo.pipeline.scoring import score
from motive_fo.store.run_store import RunStore
from motive_fo.synthetic.corpus import write_corpus


class TimedProjection(SRHTProjection):
    """The default map; adds up the time spent projecting."""

    seconds = 0.0

    def project(self, name: str, gradient: torch.Tensor) -> torch.Tensor:
        start = time.perf_counter()
        part = super().project(name, gradient)
        self.seconds += time.perf_counter() - start
        return part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=100)
    clips = parser.parse_args().clips
    rows = []

    def row(step: str, count: int, seconds: float, note: str = "") -> None:
        cost = {"ms per clip": seconds / count * 1e3, "clips/s": count / seconds}
        rows.append({"step": step, "clips": count, **cost, "note": note})

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        start = time.perf_counter()
        corpus = write_corpus(folder, train=clips, queries=10)
        row("render and encode (demo only)", clips + 10, time.perf_counter() - start, "48 frames 256x256")
        train = [ClipRecord(p.name, p, "a ball rolls over grass") for p in corpus.train]
        query = [ClipRecord(p.name, p, "a ball rolls over grass") for p in corpus.queries]
        start = time.perf_counter()
        for record in train:
            probe(record.path)
        row("import: probe", clips, time.perf_counter() - start, "without the database")
        motion = MotionSettings.build(ClipConfig(), FlowConfig(), MotionConfig(), model_card("tiny"))
        start = time.perf_counter()
        for record in train:
            decode(record.path, motion.spec)
        row("decode alone", clips, time.perf_counter() - start, "17 of 48 frames, to 64x64")
        projection = TimedProjection()
        model = load_model("tiny", "cpu")
        default = GradientSettings.build(motion, AttributionConfig(), model)
        if projection.identity() != default.projection.identity():
            raise SystemExit("the default map is another one now: time that")
        settings = replace(default, projection=projection)
        with RunStore(folder / "run.zarr", write=True) as store:
            report = compute_motion_table(train, store, motion)
            row("motion step", clips, report.seconds["total"], "decode, DIS, camera, statistics, mask, store")
            row("- of which flow", clips, report.seconds["flow"])
            compute_sketch_table(query, store, settings, "query")
            projection.seconds = 0.0
            report = compute_sketch_table(train, store, settings, "train")
            row("gradient step", clips, report.seconds["total"], "decode, encode, 1 forward, 2 backward, store")
            row("- of which gradients", clips, report.seconds["gradient"], "both sketches, projection included")
            row("- of which projection", clips, projection.seconds, "2 x 1.34 M elements")
            share_of_gradient = projection.seconds / report.seconds["gradient"]
            share_of_step = projection.seconds / report.seconds["total"]
            _, report = score([r.id for r in train], [r.id for r in query], store, InfluenceConfig())
            row("influence", clips, report.seconds["total"], "10 queries, cosines written")
    shares = {"of the gradients": round(share_of_gradient, 4), "of the whole step": round(share_of_step, 4)}
    slow = sum(r["ms per clip"] for r in rows if r["step"] in ("motion step", "gradient step")) * 130 / 1e3
    goals = [goal("motion and gradients of the demo's 130 clips fit its three minutes", "<= 180 s", slow, slow <= 180)]
    write("steps", rows, goals, projection_share=shares)
    print(f"projection: {share_of_gradient:.0%} of the gradients, {share_of_step:.0%} of the gradient step")


if __name__ == "__main__":
    main()
