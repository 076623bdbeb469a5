"""The maps in nanoseconds per gradient element, beside ``torch.sum``: python -m benchmarks.projection

One thread, so that the ratio says what the arithmetic costs; each figure is the least of several runs taken in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from benchmarks.record import goal, write
from motive_fo.attribution.projection import FastfoodProjection, SRHTProjection

ELEMENTS = 16 << 20
RUNS = 5


def _nanoseconds(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    best = dict.fromkeys(works, float("inf"))
    for run in range(RUNS + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if run:  # the first round warms up
                best[name] = min(best[name], time.perf_counter() - start)
    return {name: seconds / ELEMENTS * 1e9 for name, seconds in best.items()}


def main() -> None:
    torch.set_num_threads(1)
    gradient = torch.randn(ELEMENTS)
    works: dict[str, Callable[[], object]] = {"torch.sum": gradient.sum}
    for kind, make in (("fastfood", FastfoodProjection), ("srht", SRHTProjection)):
        for block in (512, 1024, 4096, 16384):
            fresh = make(512, block, cache_bytes=0)
            kept = make(512, block, cache_bytes=1 << 30)
            works[f"{kind} {block}, random numbers made each time"] = lambda p=fresh: p.project("w", gradient)
            works[f"{kind} {block}, random numbers kept"] = lambda p=kept: p.project("w", gradient)
    costs = _nanoseconds(works)
    unit = costs["torch.sum"]
    rows = [{"map": name, "ns per element": cost, "of torch.sum": cost / unit} for name, cost in costs.items()]
    ratio = max(
        costs[f"srht 4096, random numbers {how}"] / costs[f"fastfood 4096, random numbers {how}"]
        for how in ("made each time", "kept")
    )
    goals = [goal("srht against fastfood at the default block, the worse of made and kept", "< 1", ratio, ratio < 1)]
    write("projection", rows, goals, elements=ELEMENTS, threads=1)


if __name__ == "__main__":
    main()
