"""Does it hold for another base? python -m benchmarks.attribution second-base

The rows of ``evidence`` that decide, on its first two pools, with a base of the embedded model's shape trained from
another seed. That base is made first, in ``CACHE/second-base``: half an hour of two cores.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.attribution.choices import CLEAN_RANDOM, PAPER, RANDOM, TARGETS, THREE_T
from benchmarks.attribution.evidence import FAST as FEW
from benchmarks.attribution.evidence import FULL as EVIDENCE
from benchmarks.attribution.evidence import EvidenceSetting, cells_of, contrasts, opened, table
from benchmarks.attribution.losses import Said
from benchmarks.attribution.protocol import Result
from motive_fo.models.tiny.model import WEIGHTS

_SCRIPT: Final = str(Path(__file__).parents[2] / "scripts" / "train_tiny.py")
_WAYS: Final = (RANDOM, CLEAN_RANDOM, THREE_T, PAPER, TARGETS)


def full(cache: Path) -> EvidenceSetting:
    """The first two reporting pools with the base that lies in the cache."""
    return replace(EVIDENCE, pools=EVIDENCE.pools[:2], ways=_WAYS, base=cache / "second-base" / "tiny.safetensors")


#: few clips, and the embedded model's own weights
FAST: Final = replace(FEW, ways=_WAYS, base=WEIGHTS)


def run(cache: Path, setting: EvidenceSetting, said: Said) -> Result:
    """A row for each way, as ``evidence`` has them."""
    if setting.base is not None and setting.base != WEIGHTS:
        _train(setting.base)
    cells = [each for seed in setting.pools for each in cells_of(*opened(cache, setting, seed, said))]
    return Result(table(cells), [], {"cells": cells, "contrasts": contrasts(cells)})


def _train(weights: Path) -> None:
    """Train these weights; a stopped training goes on. Weights are written while it runs, its results last."""
    results = weights.with_suffix(".json")
    if not results.exists():
        places = ["--checkpoints", weights.parent, "--weights", weights, "--results", results]
        subprocess.run([sys.executable, _SCRIPT, "--seed", "1", *map(str, places)], check=True)
