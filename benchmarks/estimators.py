"""How much the motion estimator matters: one corpus scored with each, and how far the rankings agree.

    python -m benchmarks.estimators

An open question of the paper. Each variant masks the loss by its own motion; everything else is the same: clips,
captions, model, timestep, noise, projection. Two draws of the noise under one estimator are the yardstick. AllTracker
takes part where its weights are at hand.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.record import goal, write
from motive_fo.config import AttributionConfig, ClipConfig, FlowConfig, InfluenceConfig, MotionConfig
from motive_fo.influence.stability import stability
from motive_fo.models.registry import load_model
from motive_fo.pipeline.gradients import GradientSettings, compute_sketch_table
from motive_fo.pipeline.motion import MotionSettings
from motive_fo.pipeline.record import ClipRecord
from motive_fo.pipeline.scoring import score
from motive_fo.store.run_store import RunStore
from motive_fo.synthetic.corpus import write_corpus

_SHARE = 0.1


def _variants() -> dict[str, tuple[FlowConfig, MotionConfig, int, str]]:
    """Name -> flow, motion, noise, side of the mask; the first is the default."""
    keep, remove = MotionConfig(static_floor=0), MotionConfig(static_floor=0, camera="remove")
    made: dict[str, tuple[FlowConfig, MotionConfig, int, str]] = {}
    for estimator in ("dis", "farneback"):
        made[f"{estimator} step"] = (FlowConfig(estimator=estimator), keep, 0, "both")
        made[f"{estimator} step, camera removed"] = (FlowConfig(estimator=estimator), remove, 0, "both")
        made[f"{estimator} anchor"] = (FlowConfig(estimator=estimator, reading="anchor"), keep, 0, "both")
    made["dis anchor, direct"] = (FlowConfig(reading="anchor", anchor="direct"), keep, 0, "both")
    made["dis step, another noise"] = (FlowConfig(estimator="dis"), keep, 1, "both")
    made["no mask"] = (FlowConfig(estimator="dis"), keep, 0, "none")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=80)
    parser.add_argument("--queries", type=int, default=9)
    given = parser.parse_args()
    model = load_model("tiny", "cpu")
    variants = _variants()
    scores = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        corpus = write_corpus(folder, train=given.clips, queries=given.queries, seed=11)
        train = [ClipRecord(p.name, p, "a ball rolls over grass") for p in corpus.train]
        query = [ClipRecord("q" + p.name, p, "a ball rolls over grass") for p in corpus.queries]
        for number, (flow, motion, noise, side) in enumerate(variants.values()):
            config = AttributionConfig(noises=(noise,))
            settings = GradientSettings.build(
                MotionSettings.build(ClipConfig(), flow, motion, model.card), config, model
            )
            with RunStore(folder / f"{number}.zarr", write=True) as store:
                compute_sketch_table(query, store, settings, "query")
                compute_sketch_table(train, store, settings, "train")
                influence = InfluenceConfig(mask_side="none" if side == "none" else "both")
                found, _ = score([r.id for r in train], [r.id for r in query], store, influence)
            scores.append(found.motion_QN)
    agreement = stability(np.stack(scores), _SHARE)
    names = list(variants)
    rows = [
        {
            "masks by": name,
            "Spearman with the default": round(float(agreement.spearman_SS[0, n]), 3),
            f"first {agreement.top} in common": round(float(agreement.overlap_SS[0, n]), 3),
            "mean Spearman with all others": round(float(np.delete(agreement.spearman_SS[n], n).mean()), 3),
        }
        for n, name in enumerate(names)
    ]
    draw, estimator = names.index("dis step, another noise"), names.index("farneback step")
    by_draw, by_estimator = (float(agreement.spearman_SS[0, n]) for n in (draw, estimator))
    goals = [
        goal(
            "another estimator changes the ranking less than another noise (Spearman)",
            f"> {by_draw:.3f}",
            by_estimator,
            by_estimator > by_draw,
        )
    ]
    write("estimators", rows, goals, clips=given.clips, queries=given.queries, overlap_by_chance=agreement.by_chance)


if __name__ == "__main__":
    main()
