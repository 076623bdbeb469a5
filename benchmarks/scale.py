"""A million clips scored from the store: python -m benchmarks.scale

Sketches are random numbers: how long scoring takes does not depend on what they are. Scoring is the product's own:
``pipeline.scoring.score`` from opening the store to cosines on disk, then each query's votes and best clips. Beside it,
measured in turns with it in the same process, the two costs nobody can go below: reading the same bytes, and the same
matrix products in memory at the same precision (float64).

Every part is measured twice: with the store in the system's file cache, and with the cache emptied of it before. Times
on the clock suffer from whatever else the machine does; processor time, given beside them, does much less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import goal, write
from motive_fo.config import InfluenceConfig
from motive_fo.influence.selection import best_clips, by_query, majority_votes
from motive_fo.pipeline.scoring import score
from motive_fo.store.run_store import RunStore
from motive_fo.store.sketches import samples_of
from motive_fo.store.table import Column, Status

SAMPLES = samples_of((750.748,), (0,))
QUERIES, DIMENSION, TOP, SHARE = 50, 512, 1000, 0.1
RATIO, MEMORY_MIB = 1.5, 1024
_BLOCK = 16384


def fill_store(path: Path, clips: int, dtype: str = "float32") -> None:
    """A run's store with random sketches of training clips and queries, written a block at a time."""
    rng = np.random.default_rng(0)
    columns = {"sketch": Column(dtype, (2, DIMENSION)), "norm": Column("float64", (2,))}
    with RunStore(path, write=True) as store:
        for role, count in (("train", clips), ("query", QUERIES)):
            (table,) = store.sketches(role, SAMPLES, columns, {"model": "none"}).tables.values()
            table.register(f"{role}/{n:07d}.mp4" for n in range(count))
            for first in range(0, count, _BLOCK):
                rows = slice(first, min(count, first + _BLOCK))
                table._array("sketch")[rows] = rng.standard_normal((rows.stop - first, 2, DIMENSION), np.float32)
            table.finish(np.full(count, Status.DONE, np.uint8))


def sketch_files(path: Path) -> list[Path]:
    """Where the training clips' sketches lie."""
    folders = ("sketch", "sketch_exponent")
    return sorted(file for name in folders for file in path.glob(f"train/*/{name}/**/*") if file.is_file())


def warm(path: Path) -> None:
    """Have the sketches in the system's file cache."""
    _read(sketch_files(path))


def forget(path: Path) -> None:
    """Take the store out of the system's file cache."""
    for file in path.rglob("*"):
        if file.is_file():
            handle = os.open(file, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def _read(files: list[Path]) -> None:
    """The bytes of all sketches, into one buffer."""
    buffer = bytearray(max(file.stat().st_size for file in files))
    for file in files:
        with file.open("rb", buffering=0) as stream:
            stream.readinto(buffer)


def _multiply(clips: int) -> Callable[[], None]:
    """The same products from memory: both mask sides, float64, all cores, in blocks as large as BLAS likes them."""
    rng = np.random.default_rng(0)
    query_QD, block_BD = rng.standard_normal((QUERIES, DIMENSION)), rng.standard_normal((4 * _BLOCK, DIMENSION))

    def run() -> None:
        for _ in range(2):
            for first in range(0, clips, len(block_BD)):
                query_QD @ block_BD[: clips - first].T

    return run


def _score(path: Path, ids: list[str], queries: list[str]) -> None:
    with RunStore(path, write=True) as store:
        scores, _ = score(ids, queries, store, InfluenceConfig())
    majority_votes(scores.motion, SHARE)
    for _ in by_query(scores.motion, lambda scores_N: best_clips(scores_N, TOP)):
        pass


class _Peak:
    """The most memory this process held, in MiB, while a block of code ran."""

    def __enter__(self) -> _Peak:
        self.most, self._over = 0.0, threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, held_mib())

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()


def held_mib() -> float:
    """Resident memory now."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds on the clock and of processors."""
    start = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def scoring(clips: int, rounds: int, folder: Path) -> None:
    """Measure scoring and write the result."""
    start_mib = held_mib()
    path = folder / "run.zarr"
    if not path.exists():
        fill_store(path, clips)
    files, multiply = sketch_files(path), _multiply(clips)
    ids, queries = ([f"{role}/{n:07d}.mp4" for n in range(count)] for role, count in (("train", clips), ("query", 50)))
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}
    peak = 0.0
    for _ in range(rounds):
        for state in ("in the cache", "from disk"):
            parts: dict[str, Callable[[], None]] = {"read": lambda: _read(files), "multiply": multiply}
            for part, work in {**parts, "score": lambda: _score(path, ids, queries)}.items():
                if state == "from disk":
                    forget(path)
                elif part == "read":
                    _read(files)  # so that all of it is there
                with _Peak() as memory:
                    times.setdefault((state, part), []).append(timed(work))
                peak = max(peak, memory.most - start_mib)
                print(state, part, "{:.2f} s, {:.2f} s of processors".format(*times[state, part][-1]), flush=True)
    rows, goals = [], []
    for state in ("in the cache", "from disk"):
        read, product, ours = ([each[0] for each in times[state, part]] for part in ("read", "multiply", "score"))
        busy = [statistics.median(each[1] for each in times[state, part]) for part in ("read", "multiply", "score")]
        ratios = [s / max(r, m) for r, m, s in zip(read, product, ours, strict=True)]
        ratio = statistics.median(ratios)
        rows.append(
            {
                "store": state,
                "reading the bytes, s": statistics.median(read),
                "the products in memory, s": statistics.median(product),
                "scoring, votes, best clips, s": statistics.median(ours),
                "of the larger, each round": ", ".join(f"{each:.2f}" for each in ratios),
                "processor s: read, products, scoring": ", ".join(f"{each:.1f}" for each in busy),
                "clips/s": clips / statistics.median(ours),
            }
        )
        text = f"scoring {clips:,} clips {state} against the larger of the two bare costs (median of {rounds} rounds)"
        goals.append(goal(text, f"<= {RATIO}", ratio, ratio <= RATIO))
    text = "memory beyond the process' start, lists of ids and the benchmark's own arrays included, MiB"
    goals.append(goal(text, f"< {MEMORY_MIB}", peak, peak < MEMORY_MIB))
    counts = {"clips": clips, "queries": QUERIES, "dimension": DIMENSION, "top": TOP, "vote_share": SHARE}
    load = {"load_average": round(os.getloadavg()[0], 1), "sketch_gib": round(clips * 2 * DIMENSION * 4 / 2**30, 2)}
    write("scale", rows, goals, **counts, **load)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the store here and use it again")
    given: Any = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        scoring(given.clips, given.rounds, given.folder or Path(scratch))


if __name__ == "__main__":
    main()
