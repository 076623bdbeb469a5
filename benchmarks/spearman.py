"""Rank agreement of projected with exact influence on the embedded model: python -m benchmarks.spearman

Rendered clips and queries, gradients of the motion-weighted loss over every parameter, exact cosines without any
projection. For each query the Spearman correlation over the training clips, averaged over the queries. Each map is
drawn several times, and the spread over the draws is the noise that a comparison with the ideal map must allow for: a
structured map is as good where its mean lies at most three standard errors of the difference below the ideal's.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.record import goal, write
from motive_fo.attribution.gradients import MASKED, clip_sketch, streaming
from motive_fo.attribution.parameters import attributed_parameters
from motive_fo.attribution.projection import (
    FastfoodProjection,
    IdentityProjection,
    Projection,
    SRHTProjection,
)
from motive_fo.clips.decode import decode
from motive_fo.config import ClipConfig, FlowConfig, MotionConfig
from motive_fo.influence.cosine import cosine_scores
from motive_fo.influence.selection import percentile_ranks
from motive_fo.models.registry import load_model, model_card
from motive_fo.pipeline.motion import MotionSettings, clip_mask, measure_clip
from motive_fo.pipeline.report import StepReport
from motive_fo.synthetic.corpus import write_corpus

DIMENSIONS = (128, 256, 512, 1024, 2048)
PAPER = {512: 0.747, 1024: 0.757, 2048: 0.761}
SIGMAS = 3.0
IDEAL_MAPS = 200


def _exact_gradients(train: int, queries: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Masked gradients of training clips (N, P) and queries (Q, P), unprojected."""
    model = load_model("tiny", "cpu")
    settings = MotionSettings.build(ClipConfig(), FlowConfig(), MotionConfig(), model_card("tiny"))
    size = sum(p.numel() for _, p in attributed_parameters(model.network))
    report = StepReport("exact")
    with tempfile.TemporaryDirectory() as scratch:
        corpus = write_corpus(Path(scratch), train=train, queries=queries, static=0, damaged=0)
        found = []
        with streaming(model.network, IdentityProjection(size)) as backward:
            captions = {
                row["video"]: row["prompt"]
                for listing in (corpus.train_metadata, corpus.query_metadata)
                for row in map(json.loads, listing.read_text(encoding="utf-8").splitlines())
            }
            for path in (*corpus.train, *corpus.queries):
                clip = decode(path, settings.spec)
                mask = clip_mask(measure_clip(clip, settings, report), settings)
                with torch.no_grad():
                    x0, condition = model.encode_frames(clip.frames_THW3), model.encode_caption(captions[path.name])
                found.append(clip_sketch(model, backward, x0, condition, mask, 750.748, 0).sketch_2D[MASKED])
    return np.stack(found[: len(corpus.train)]), np.stack(found[len(corpus.train) :])


def _spearman(exact_QN: npt.NDArray[np.float32], other_QN: npt.NDArray[np.float32]) -> float:
    one, two = percentile_ranks(exact_QN) - 50, percentile_ranks(other_QN) - 50
    return float(((one * two).sum(1) / np.sqrt((one**2).sum(1) * (two**2).sum(1))).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=80)
    parser.add_argument("--queries", type=int, default=16)
    parser.add_argument("--maps", type=int, default=8, help="draws of each structured map")
    given = parser.parse_args()
    torch.set_num_threads(1)
    train_NP, query_QP = _exact_gradients(given.clips, given.queries)
    exact_QN = cosine_scores(query_QP[:, None], train_NP[:, None])
    sizes = {name: p.shape for name, p in attributed_parameters(load_model("tiny", "cpu").network)}
    gradients_KP = torch.from_numpy(np.concatenate((query_QP, train_NP)))

    def sketches(projection: Projection) -> npt.NDArray[np.float32]:
        """(K, 1, D): every gradient, tensor by tensor."""
        made = []
        for row in gradients_KP:
            parts = zip(sizes, row.split([math.prod(shape) for shape in sizes.values()]), strict=True)
            made.append(projection.combine({n: projection.project(n, g.view(sizes[n])) for n, g in parts}).numpy())
        return np.stack(made)[:, None]

    # rows of R in gradients = R Q; float64, or the Gram matrix of nearly parallel gradients loses its small directions
    triangle_KK = np.linalg.qr(gradients_KP.double().numpy().T, mode="r").transpose()
    kinds: dict[str, Callable[[int, int], npt.NDArray[np.float32]]] = {
        "gaussian (ideal)": lambda d, s: _ideal_sketches(triangle_KK, d, s),
        "fastfood": lambda d, s: sketches(FastfoodProjection(d, seed=s)),
        "srht": lambda d, s: sketches(SRHTProjection(d, seed=s)),
    }
    rows, found = [], {}
    for dimension in DIMENSIONS:
        for kind, make in kinds.items():
            start = time.perf_counter()
            values = []
            draws = IDEAL_MAPS if kind.startswith("gaussian") else given.maps
            for seed in range(draws):
                sketch = make(dimension, seed)
                values.append(_spearman(exact_QN, cosine_scores(sketch[: given.queries], sketch[given.queries :])))
            mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(draws))
            found[dimension, kind] = (mean, error)
            ideal = found[dimension, "gaussian (ideal)"]
            apart = (mean - ideal[0]) / math.hypot(error, ideal[1])
            rows.append(
                {
                    "D": dimension,
                    "map": kind,
                    "Spearman": round(mean, 4),
                    "standard error": round(error, 4),
                    "from ideal, in standard errors": "-" if kind.startswith("gaussian") else round(apart, 2),
                    "paper (its model, its corpus)": PAPER.get(dimension, "-") if kind == "fastfood" else "-",
                }
            )
            print(rows[-1], f"{time.perf_counter() - start:.0f} s", flush=True)
    goals = []
    for kind in ("fastfood", "srht"):
        worst = min(float(r["from ideal, in standard errors"]) for r in rows if r["map"] == kind)
        goals.append(
            goal(
                f"{kind} is no worse than the ideal Gaussian map at any D (least difference, in standard errors)",
                f">= -{SIGMAS:g}",
                worst,
                worst >= -SIGMAS,
            )
        )
    counts = {"clips": given.clips, "queries": given.queries, "maps": given.maps, "parameters": train_NP.shape[1]}
    write("spearman", rows, goals, **counts)


def _ideal_sketches(triangle_KK: npt.NDArray[np.float64], dimension: int, seed: int) -> npt.NDArray[np.float32]:
    """(K, 1, D): what a dense matrix of independent Gaussians makes of K gradients, in distribution.

    With the gradients as R Q, Q orthonormal rows and R (K, K), their projections are R (Q G), and Q G is a matrix of
    independent Gaussians again: drawing it directly is the same map at a millionth of the cost.
    """
    gaussians_KD = np.random.default_rng(seed).normal(size=(len(triangle_KK), dimension))
    return (triangle_KK @ gaussians_KD / math.sqrt(dimension)).astype(np.float32)[:, None]


if __name__ == "__main__":
    main()
