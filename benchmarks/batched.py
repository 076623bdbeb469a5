"""Gradients of several clips of a small model in one pass against one by one: python -m benchmarks.batched

Processor time a clip, both mask sides, one thread, in turn; and how far the sketches are apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.record import goal, write
from motive_fo.attribution.batched import batching
from motive_fo.attribution.gradients import GradientTask, Sketch, clip_sketch, streaming
from motive_fo.attribution.projection import SRHTProjection
from motive_fo.models.tiny.model import TinyModel, load

CLIPS = 32
RUNS = 5
WIDTHS = (2, 4, 8, 16)


def main() -> None:
    torch.set_num_threads(1)
    model, tasks = load(), _tasks()
    projection = SRHTProjection()
    works: dict[str, Callable[[], list[Any]]] = {"one by one": partial(_one_by_one, model, projection, tasks)}
    works |= {f"{width} in a pass": partial(_in_passes, model, projection, tasks, width) for width in WIDTHS}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    made: dict[str, list[Any]] = {}
    for _ in range(RUNS):
        for name, work in works.items():
            begun = time.process_time()
            made[name] = work()
            seconds[name].append((time.process_time() - begun) / CLIPS)
    alone = median(seconds["one by one"])
    rows = [
        {
            "gradients": name,
            "seconds a clip": round(median(each), 4),
            "clips in the time of one": round(alone / median(each), 2),
            "largest difference": f"{_apart(made[name], made['one by one']):.1e}",
        }
        for name, each in seconds.items()
    ]
    chosen = f"{model.width(tuple(tasks[0].x0.shape))} in a pass"
    speed, apart = alone / median(seconds[chosen]), _apart(made[chosen], made["one by one"])
    goals = [
        goal(f"{chosen}: clips in the time of one", ">= 2", speed, speed >= 2),
        goal(f"{chosen}: difference, millionths of a sketch's largest number", "<= 3", 1e6 * apart, apart <= 3e-6),
    ]
    write("batched", rows, goals, clips=CLIPS, runs=RUNS)


def _tasks() -> list[GradientTask]:
    rng = np.random.default_rng(0)
    condition = load().encode_caption("a clip")
    return [
        GradientTask(
            torch.from_numpy(rng.standard_normal((1, 16, 5, 8, 8), np.float32)),
            condition,
            rng.random((5, 8, 8), np.float32),
            750.748,
            0,
        )
        for _ in range(CLIPS)
    ]


def _one_by_one(model: TinyModel, projection: SRHTProjection, tasks: list[GradientTask]) -> list[Sketch]:
    with streaming(model.network, projection) as backward:
        return [clip_sketch(model, backward, *task) for task in tasks]


def _in_passes(model: TinyModel, projection: SRHTProjection, tasks: list[GradientTask], width: int) -> list[Any]:
    with batching(model, projection, width) as gradients:
        return [sketch for n in range(0, CLIPS, width) for sketch in gradients.sketches(tasks[n : n + width])]


def _apart(made: list[Any], other: list[Any]) -> float:
    pairs = zip(made, other, strict=True)
    return max(float(abs(one.sketch_2D - two.sketch_2D).max() / abs(two.sketch_2D).max()) for one, two in pairs)


if __name__ == "__main__":
    main()
