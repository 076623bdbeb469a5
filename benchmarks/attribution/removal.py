"""Does a query lose by what is taken away? python -m benchmarks.attribution removal

The query loss difference (QLD): the base is trained on a small pool with and without some clips, in the same order
and with the same noise, and the loss of held-out queries is compared. Taken away are the best by the queries, clips of
the very kinds that the queries show (all there are, where they are fewer), and as many at random. Where even the wanted
clips are not missed more than random ones, nothing can be measured, and the table says so.

Cells are pool and world; what is averaged are their means over queries and trainings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.attribution.choices import PAPER, RANDOM, TARGETS, THREE_T, Choices, Places
from benchmarks.attribution.evidence import FAST as FEW
from benchmarks.attribution.evidence import FULL as EVIDENCE
from benchmarks.attribution.evidence import EvidenceSetting, Trainings, opened, t_interval
from benchmarks.attribution.losses import MOTION, Said
from benchmarks.attribution.pool import HELD_OUT
from benchmarks.attribution.protocol import Result

_BEST: Final = (THREE_T, PAPER)
_NOTHING: Final = np.zeros(0, np.int64)


@dataclass(frozen=True)
class RemovalSetting:
    """Which pools, and what shares of them are taken away."""

    evidence: EvidenceSetting
    shares: tuple[float, ...] = (0.05, 0.1, 0.2)


FULL: Final = RemovalSetting(EvidenceSetting((31, 32), EVIDENCE.worlds, {"size": 400}, seeds=4))
FAST: Final = RemovalSetting(FEW, (0.1,))


def run(cache: Path, setting: RemovalSetting, said: Said) -> Result:
    """A row for each share and what is taken away."""
    cells = [
        each
        for seed in setting.evidence.pools
        for each in losses_of(*opened(cache, setting.evidence, seed, said), setting.shares)
    ]
    rows = [_row(share, way, cells) for share in setting.shares for way in (TARGETS, *_BEST, RANDOM)]
    return Result(rows, [], {"cells": cells})


def losses_of(choices: Choices, made: Trainings, shares: Sequence[float]) -> list[dict[str, Any]]:
    """A pool's cells: how many points less the loss of the world's held-out queries falls, share by share."""
    found = []
    for world in made.setting.worlds:
        held = choices.pool.of_kinds(HELD_OUT, world)

        def fall(removed: Places, held: Places = held) -> float:
            return float(made.fall_without(removed)[MOTION, held].mean())

        whole = fall(_NOTHING)
        lost: dict[str, dict[str, float]] = {}
        for share in shares:
            some = replace(choices, budget=share)
            sets = {way: some.asked(way, world) for way in (TARGETS, *_BEST)} | {RANDOM: some.unasked(RANDOM, 0)}
            lost[f"{share:g}"] = {way: round(whole - fall(removed), 4) for way, removed in sets.items()}
        found.append({"pool": choices.pool.seed, "world": list(world), "whole": round(whole, 4), "lost": lost})
    return found


def _row(share: float, way: str, cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    lost = {name: np.asarray([each["lost"][f"{share:g}"][name] for each in cells]) for name in (way, TARGETS, RANDOM)}
    reference = t_interval(lost[TARGETS] - lost[RANDOM])
    return {
        "taken away": f"{share:.0%}",
        "which": way if way in (TARGETS, RANDOM) else f"best by {way}",
        "the motion loss falls less by, points": _said(lost[way]),
        "than without random ones": "" if way == RANDOM else _said(lost[way] - lost[RANDOM]),
        "measurable": "yes" if reference["low"] > 0 else "no: the wanted clips are not missed more than others",
    }


def _said(points: npt.NDArray[np.float64]) -> str:
    found = t_interval(points)
    return f"{found['mean']:+.2f} ({found['low']:+.2f} to {found['high']:+.2f})"
