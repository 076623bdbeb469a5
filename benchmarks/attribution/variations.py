"""Where does choosing stop paying? python -m benchmarks.attribution variations

The comparison of ``evidence`` with few rows, on pools of its own that differ in one thing from the first: what they
hold, what their captions say, what share is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.attribution.choices import CLEAN_RANDOM, RANDOM, TARGETS, THREE_T
from benchmarks.attribution.evidence import FAST as FEW
from benchmarks.attribution.evidence import FULL, EvidenceSetting, World, cells_of, opened
from benchmarks.attribution.losses import Said
from benchmarks.attribution.protocol import Result
from motive_fo.synthetic.pool import Mix

_WAYS: Final = (RANDOM, CLEAN_RANDOM, THREE_T, TARGETS)
_KNOWN: Final[tuple[World, ...]] = (("slide", "bounce"), ("spin", "stretch"))
_PLAIN: Final = EvidenceSetting((21,), FULL.worlds, {"size": 750}, seeds=2, ways=_WAYS)


def _pool(**changes: Any) -> EvidenceSetting:
    return replace(_PLAIN, pool={**_PLAIN.pool, **changes})


VARIATIONS: Final[Mapping[str, EvidenceSetting]] = {
    "as it is": _PLAIN,
    "2 % are taken": replace(_PLAIN, budget=0.02),
    "5 % are taken": replace(_PLAIN, budget=0.05),
    "30 % are taken": replace(_PLAIN, budget=0.3),
    "50 % are taken": replace(_PLAIN, budget=0.5),
    "captions name the motion": _pool(captions="naming"),
    "no harmful clip": _pool(mix=Mix(harmful=0.0)),
    "2 % show a wanted motion": _pool(mix=Mix(targets=0.02)),
    "30 % show a wanted motion": _pool(mix=Mix(targets=0.3)),
    "none shows a wanted motion": replace(
        _pool(mix=Mix(targets=0.0)), ways=tuple(way for way in _WAYS if way != TARGETS)
    ),
    "the base knows the motions": replace(_PLAIN, worlds=_KNOWN),
}
FAST: Final = {"as it is": replace(FEW, ways=_WAYS)}


def run(cache: Path, variations: Mapping[str, EvidenceSetting], said: Said) -> Result:
    """A row for each variation: means over its two worlds."""
    cells = {name: cells_of(*opened(cache, each, each.pools[0], said)) for name, each in variations.items()}
    return Result([_row(name, each) for name, each in cells.items()], [], {"cells": cells})


def _row(name: str, cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    falls = {way: _mean([each["rows"].get(way, {}).get("motion") for each in cells]) for way in _WAYS}
    other = _mean([each["rows"][THREE_T]["other"] for each in cells])
    chosen = [each["rows"][THREE_T] for each in cells]
    return {
        "pool": name,
        **{way: _said(fall) for way, fall in falls.items()},
        "by other queries": _said(other),
        "harmful among chosen": f"{_mean([each['harmful'] for each in chosen]):.2f}",
        "known motions": _said(_mean([each["known"] for each in chosen])),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _said(fall: float | None) -> str:
    return "" if fall is None else f"{fall:+.2f}"
