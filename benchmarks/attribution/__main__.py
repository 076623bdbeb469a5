"""Make the tables: python -m benchmarks.attribution [TABLE] [--fast] [--cache FOLDER]"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch

from benchmarks.attribution import (
    ablations,
    counterfactual,
    evidence,
    lds,
    plots,
    protocol,
    removal,
    second_base,
    tail_patch,
    trials,
    variations,
)
from benchmarks.attribution.bench import CACHE
from benchmarks.attribution.losses import Said
from benchmarks.attribution.protocol import Result
from benchmarks.record import show, write

#: table -> what makes it, given the cache, whether fast, and whom to tell.
TABLES: Final[dict[str, Callable[[Path, bool, Said], Result]]] = {
    "retrieval": lambda cache, fast, said: protocol.run(cache, protocol.FAST if fast else protocol.FULL),
    "lds": lambda cache, fast, said: lds.run(cache, lds.FAST if fast else lds.FULL, said),
    "counterfactual": lambda cache, fast, said: counterfactual.run(
        cache, counterfactual.FAST if fast else counterfactual.FULL, said
    ),
    "tail-patch": lambda cache, fast, said: tail_patch.run(cache, tail_patch.FAST if fast else tail_patch.FULL, said),
    "evidence": lambda cache, fast, said: evidence.run(cache, evidence.FAST if fast else evidence.FULL, said),
    "estimators": lambda cache, fast, said: evidence.run(cache, evidence.FAST if fast else evidence.CHOOSING, said),
    "variations": lambda cache, fast, said: variations.run(
        cache, variations.FAST if fast else variations.VARIATIONS, said
    ),
    "second-base": lambda cache, fast, said: second_base.run(
        cache, second_base.FAST if fast else second_base.full(cache), said
    ),
    "removal": lambda cache, fast, said: removal.run(cache, removal.FAST if fast else removal.FULL, said),
    "trials": lambda cache, fast, said: trials.run(cache, trials.FAST if fast else trials.FULL, said),
    "ablations": lambda cache, fast, said: ablations.run(cache, ablations.FAST if fast else ablations.FULL, said),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attribution",
        description="How good attribution scores are. A stopped run goes on where it was.",
    )
    parser.add_argument("table", nargs="?", default="retrieval", choices=[*TABLES, "all"])
    parser.add_argument("--fast", action="store_true", help="very few clips: shows that it works, writes no result")
    parser.add_argument("--pool", type=int, help="of evidence or estimators: make this pool's cells alone, no table")
    parser.add_argument(
        "--sketches", action="store_true", help="of that pool: clips, motion and sketches, no trainings"
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of clips, models and losses (%(default)s)")
    given = parser.parse_args()
    if given.pool is not None and given.table not in ("evidence", "estimators"):
        parser.error("--pool goes with evidence or estimators")
    if given.sketches and given.pool is None:
        parser.error("--sketches goes with --pool")
    torch.set_num_threads(1)
    if given.pool is not None:
        setting = evidence.FULL if given.table == "evidence" else evidence.CHOOSING
        if given.sketches:
            evidence.opened(given.cache, setting, given.pool, Telling())[0].sketch()
        else:
            evidence.make(given.cache, setting, given.pool, Telling())
        return
    for table in TABLES if given.table == "all" else [given.table]:
        begun = time.monotonic()
        result = TABLES[table](given.cache, given.fast, Telling())
        if given.fast:
            show(result.rows, result.goals)
            continue
        name = "attribution" if table == "retrieval" else f"attribution_{table.replace('-', '_')}"
        result.more["hours_of_this_call"] = round((time.monotonic() - begun) / 3600, 2)
        write(name, result.rows, result.goals, **result.more)
        plots.draw(table, result)


class Telling:
    """Says how far it is and how long the rest will take, a line each."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[float, int]] = {}

    def __call__(self, what: str, done: int, count: int) -> None:
        now = time.monotonic()
        begun, before = self._first.setdefault(what, (now, done))
        left = f", {(now - begun) / (done - before) * (count - done) / 60:.0f} min left" if done > before else ""
        print(f"{what}: {done} of {count}{left}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
