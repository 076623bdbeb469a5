"""Sketches stored in float16 beside float32: python -m benchmarks.half

The same clips in two stores, scored by the product. Corpora of random sketches with lengths over six powers of ten:
``random`` directions; ``clustered``, each clip near one of twenty directions; ``near-equal``, all near one, at a tenth
of its length; and ``copies``, all within a hundredth of it, whose cosines differ in the sixth decimal. Times are of
scoring from the file cache and from disk, medians of some turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from benchmarks.record import goal, write
from benchmarks.scale import SAMPLES, forget, sketch_files, timed, warm
from motive_fo.config import InfluenceConfig
from motive_fo.influence.selection import best_clips, budget_count
from motive_fo.pipeline.scoring import score
from motive_fo.store.half import pack
from motive_fo.store.run_store import RunStore
from motive_fo.store.table import Column, Status, exponent_of

QUERIES, DIMENSION, SHARE = 20, 512, 0.1
DTYPES = ("float32", "float16")
#: directions that clips lie near, and how far from it, of its length; None: anywhere.
CORPORA: dict[str, tuple[int, float] | None] = {
    "random": None,
    "clustered": (20, 0.5),
    "near-equal": (1, 0.1),
    "copies": (1, 0.01),
}
SPEARMAN, SAME, BYTES, TIME = 0.999, 0.99, 0.51, 1.0
_BLOCK = 16384


def blocks(count: int, near: tuple[int, float] | None, seed: int) -> Iterator[npt.NDArray[np.float32]]:
    """Sketches (B, 2, D) of the clips, block by block; all of one corpus share the centres."""
    clusters, spread = near or (1, 1.0)
    centre_CD = np.random.default_rng(0).standard_normal((clusters, DIMENSION)) / DIMENSION**0.5
    rng = np.random.default_rng(seed)
    for first in range(0, count, _BLOCK):
        rows = min(_BLOCK, count - first)
        made = rng.standard_normal((rows, 2, DIMENSION)) / DIMENSION**0.5
        if near is not None:
            made = centre_CD[rng.integers(clusters, size=rows)][:, None] + spread * made
        yield (made * 10 ** rng.uniform(-3, 3, (rows, 2, 1))).astype(np.float32)


def fill(path: Path, clips: int, near: tuple[int, float] | None, dtype: str) -> None:
    """A run's store with these sketches."""
    columns = {"sketch": Column(dtype, (2, DIMENSION))}
    if dtype == "float16":
        columns[exponent_of("sketch")] = Column("int16", (2,))
    with RunStore(path, write=True) as store:
        for seed, (role, count) in enumerate((("train", clips), ("query", QUERIES)), 1):
            (table,) = store.sketches(role, SAMPLES, columns, {"sketch_dtype": dtype}).tables.values()
            table.register(f"{role}/{n:07d}.mp4" for n in range(count))
            first = 0
            for block in blocks(count, near, seed):
                rows = slice(first, first + len(block))
                values = pack(block) if dtype == "float16" else (block,)
                for key, part in zip(columns, values, strict=True):
                    table._array(key)[rows] = part
                first = rows.stop
            table.finish(np.full(count, Status.DONE, np.uint8))


def scored(path: Path, clips: int) -> npt.NDArray[np.float32]:
    """Cosines (Q, N)."""
    ids, queries = (
        [f"{role}/{n:07d}.mp4" for n in range(count)] for role, count in (("train", clips), ("query", QUERIES))
    )
    with RunStore(path, write=True) as store:
        return score(ids, queries, store, InfluenceConfig())[0].motion_QN


def agreement(one_QN: npt.NDArray[np.float32], other_QN: npt.NDArray[np.float32]) -> tuple[list[float], list[float]]:
    """Spearman's correlation, and the share of the top 10 % that is the same, for each query."""
    count = budget_count(SHARE, one_QN.shape[1])
    ranks = [float(spearmanr(a, b).statistic) for a, b in zip(one_QN, other_QN, strict=True)]
    same = [
        len(np.intersect1d(best_clips(a, count), best_clips(b, count))) / count
        for a, b in zip(one_QN, other_QN, strict=True)
    ]
    return ranks, same


def compare(clips: int, rounds: int, folder: Path) -> None:
    """Measure and write the result."""
    rows: list[dict[str, Any]] = []
    goals = []
    for name, near in CORPORA.items():
        paths = {dtype: folder / f"{name}-{dtype}.zarr" for dtype in DTYPES}
        for dtype, path in paths.items():
            fill(path, clips, near, dtype)
        size = {dtype: sum(file.stat().st_size for file in sketch_files(path)) for dtype, path in paths.items()}
        whole, half = (scored(path, clips) for path in paths.values())
        ranks, same = agreement(whole, half)
        seconds = _seconds(paths, clips, rounds)
        rows.append(
            {
                "sketches": name,
                "cosines' standard deviation": f"{statistics.mean(row.std() for row in whole.astype(np.float64)):.1e}",
                "largest change of a cosine": f"{np.abs(whole - half).max():.1e}",
                "Spearman, mean (least) of the queries": f"{statistics.mean(ranks):.6f} ({min(ranks):.6f})",
                "same top 10 %, mean (least)": f"{statistics.mean(same):.4f} ({min(same):.4f})",
                "bytes, of float32's": size["float16"] / size["float32"],
                **{
                    f"scoring {state}, s: float32, float16": ", ".join(f"{seconds[state, d][0]:.2f}" for d in DTYPES)
                    for state in ("cached", "from disk")
                },
                "processor s, cached: float32, float16": ", ".join(f"{seconds['cached', d][1]:.2f}" for d in DTYPES),
            }
        )
        goals.append(
            goal(f"Spearman of float16, {name}, least query", f">= {SPEARMAN}", min(ranks), min(ranks) >= SPEARMAN)
        )
        goals.append(goal(f"same top 10 %, {name}, least query", f">= {SAME}", min(same), min(same) >= SAME))
        ratio = seconds["from disk", "float16"][0] / seconds["from disk", "float32"][0]
        if name == "random":
            share = size["float16"] / size["float32"]
            goals.append(goal("bytes of the sketches, of float32's", f"<= {BYTES}", share, share <= BYTES))
            goals.append(goal("scoring from disk, of float32's time", f"<= {TIME}", ratio, ratio <= TIME))
    counts = {"clips": clips, "queries": QUERIES, "dimension": DIMENSION, "load_average": round(os.getloadavg()[0], 1)}
    write("half", rows, goals, **counts)


def _seconds(paths: dict[str, Path], clips: int, rounds: int) -> dict[tuple[str, str], tuple[float, float]]:
    """State of the file cache and dtype -> seconds on the clock and of processors, measured in turns."""
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}
    prepare: dict[str, Callable[[Path], None]] = {"cached": warm, "from disk": forget}
    for _ in range(rounds):
        for dtype, path in paths.items():
            for state, make in prepare.items():
                make(path)
                times.setdefault((state, dtype), []).append(timed(lambda path=path: scored(path, clips)))
    return {key: tuple(statistics.median(each) for each in zip(*found, strict=True)) for key, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        compare(given.clips, given.rounds, Path(scratch))


if __name__ == "__main__":
    main()
