"""Does it hold for another base? python -m benchmarks.attribution second-base

The rows of ``evidence`` that decide, on its first two pools, with a base of the embedded model's shape that was
trained from another seed. That base is made first, resumably, in half an hour of two cores::

    python scripts/train_tiny.py --seed 1 --checkpoints CACHE/second-base \
        --weights CACHE/second-base/tiny.safetensors --results CACHE/second-base/tiny.json
"""

from __future__ import annotations

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

_WAYS: Final = (RANDOM, CLEAN_RANDOM, THREE_T, PAPER, TARGETS)


def full(cache: Path) -> EvidenceSetting:
    """The first two reporting pools with the base that lies in the cache."""
    return replace(EVIDENCE, pools=EVIDENCE.pools[:2], ways=_WAYS, base=cache / "second-base" / "tiny.safetensors")


#: few clips, and the embedded model's own weights
FAST: Final = replace(FEW, ways=_WAYS, base=WEIGHTS)


def run(cache: Path, setting: EvidenceSetting, said: Said) -> Result:
    """A row for each way, as ``evidence`` has them."""
    base = setting.base
    if base is not None and not base.exists():
        raise SystemExit(
            f"{base} is missing: make it with python scripts/train_tiny.py --seed 1 --checkpoints {base.parent} "
            f"--weights {base} --results {base.with_suffix('.json')}"
        )
    cells = [each for seed in setting.pools for each in cells_of(*opened(cache, setting, seed, said))]
    return Result(table(cells), [], {"cells": cells, "contrasts": contrasts(cells)})
