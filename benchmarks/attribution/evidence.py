"""Does training on the chosen tenth teach the wanted motion? python -m benchmarks.attribution evidence

For every pool and every world (two kinds of motion that its queries show) each way chooses clips, the base is trained
on them for equal steps, and the loss of held-out queries is measured at noises and timesteps that no gradient saw. What
was fixed before any reporting pool was rendered is in ``protocol.json`` beside this file.

Shapes: P cells (pool and world), R training seeds, Q held-out queries.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.attribution.bench import write_whole
from benchmarks.attribution.choices import (
    CLEAN_RANDOM,
    CONTROLS,
    ESTIMATORS,
    RANDOM,
    TARGETS,
    UNASKED,
    UNTRAINED,
    Choices,
    Places,
)
from benchmarks.attribution.losses import MOTION, PLAIN, Said, unseen_losses
from benchmarks.attribution.pool import HELD_OUT, KNOWN, POOL, Pool, PoolSetting, open_pool
from benchmarks.attribution.protocol import Result
from benchmarks.attribution.training import Recipe, train
from benchmarks.record import goal
from motive_fo.config import InfluenceConfig

PROTOCOL: Final = json.loads(Path(__file__).with_name("protocol.json").read_text(encoding="utf-8"))
World = tuple[str, ...]


@dataclass(frozen=True)
class EvidenceSetting:
    """How large the table is.

    Attributes:
        pools: their seeds.
        worlds: pairs of kinds; all of them are targets in every pool.
        pool: size and mix, targets aside.
        seeds: trainings of every set.
        recipe: of every training.
        estimators: further scores, by name.
    """

    pools: tuple[int, ...]
    worlds: tuple[World, ...]
    pool: dict[str, Any] = field(default_factory=dict)
    seeds: int = 3
    recipe: Recipe = field(default_factory=lambda: Recipe(steps=40, learning_rate=6e-4))
    estimators: Mapping[str, InfluenceConfig] = field(default_factory=dict)

    def opened(self, cache: Path, seed: int) -> Pool:
        """A pool from the cache, or made there."""
        targets = tuple(kind for world in self.worlds for kind in world)
        return open_pool(cache, seed, PoolSetting(targets, **self.pool))


def _worlds(name: str) -> tuple[World, ...]:
    return tuple(tuple(world) for world in PROTOCOL[name]["worlds"])


CHOOSING: Final = EvidenceSetting(
    tuple(PROTOCOL["choosing"]["pools"]), _worlds("choosing"), seeds=1, estimators=ESTIMATORS
)
FULL: Final = EvidenceSetting(
    tuple(PROTOCOL["reporting"]["pools"]), _worlds("reporting"), seeds=PROTOCOL["training_seeds"]
)
FAST: Final = EvidenceSetting(
    (90,),
    _worlds("choosing"),
    {"size": 60, "queries": 1, "held_out": 2, "known": 1},
    seeds=1,
    recipe=Recipe(steps=8, batch=8, learning_rate=6e-4),
)


def run(cache: Path, setting: EvidenceSetting, said: Said) -> Result:
    """All pools, then the table."""
    made = [make(cache, setting, seed, said) for seed in setting.pools]
    cells = [each for found, _ in made for each in found]
    ratios = contrasts(cells)
    return Result(
        table(cells),
        goals(ratios),
        {
            "protocol": PROTOCOL,
            "protocol_commit": _commit(),
            "cells": cells,
            "contrasts": ratios,
            "kind_by_kind": [kinds for _, kinds in made],
        },
    )


def make(cache: Path, setting: EvidenceSetting, seed: int, said: Said) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One pool's cells, and its table kind by kind."""
    pool = setting.opened(cache, seed)
    trainings, choices = Trainings(pool, setting, said), Choices(pool, estimators=setting.estimators)
    cells = [cell(choices, trainings, world, setting.worlds) for world in setting.worlds]
    return cells, kind_by_kind(choices, trainings, setting.worlds)


class Trainings:
    """The base trained on sets of a pool's clips, and the losses afterwards, kept in the pool's folder."""

    def __init__(self, pool: Pool, setting: EvidenceSetting, said: Said) -> None:
        self.pool, self.setting, self._said = pool, setting, said
        self._done = 0
        self._x0 = torch.cat([pool.latents[role] for role in (HELD_OUT, KNOWN)])
        self._mask = torch.cat([pool.masks[role].nan_to_num(0.0) for role in (HELD_OUT, KNOWN)])
        self._captions = [clip.caption for role in (HELD_OUT, KNOWN) for clip in pool.clips[role]]
        self.before_2Q = self._kept("base", None, 0)

    def fall(self, places_R: Sequence[Places]) -> npt.NDArray[np.float64]:
        """Fall of the losses in % of what they were, [MOTION, PLAIN], of every held-out and known query: (2, Q, R).

        Args:
            places_R: the clips of each training; its place is its seed.
        """
        losses = [self._kept(_digest(places, self.setting.recipe), places, r) for r, places in enumerate(places_R)]
        return 100 * (1 - np.stack(losses, -1) / self.before_2Q[..., None])

    def _kept(self, name: str, places: Places | None, seed: int) -> npt.NDArray[np.float64]:
        path = self.pool.folder / "losses" / f"{name}-{seed}.npy"
        if not path.exists():
            self._done += 1
            self._said(f"pool {self.pool.seed}, trainings of about 80", self._done, max(80, self._done))
            model = self.pool.base
            if places is not None:
                captions = [self.pool.clips[POOL][n].caption for n in places]
                number = int(name, 16) % 2**31 + seed
                model, _ = train(
                    model, self.pool.latents[POOL][places], self.setting.recipe, number, captions_N=captions
                )
            losses_2Q = unseen_losses(model, self._x0, self._mask, model.encode_captions(self._captions))
            write_whole(path, lambda part: _save(part, losses_2Q))
        return np.asarray(np.load(path))


def cell(choices: Choices, made: Trainings, world: World, worlds: Sequence[World]) -> dict[str, Any]:
    """One pool and world: of every way the fall of losses, the shares of what it took, and the same by other queries.

    ``other`` is what the selection by the other world's queries (or the other world's clips) does to this world's.
    """
    seeds, pool = range(made.setting.seeds), choices.pool
    (other,) = [each for each in worlds if each != world]
    rows: dict[str, Any] = {}
    for way in UNASKED:
        sets = [choices.unasked(way, seed) for seed in seeds]
        rows[way] = _row(pool, world, sets, made.fall(sets))
    for way in (*choices.scored, UNTRAINED, *CONTROLS, TARGETS):
        sets = [choices.asked(way, world)] * len(seeds)
        rows[way] = _row(pool, world, sets, made.fall(sets))
        if way in (*choices.scored, TARGETS):
            theirs = [choices.asked(way, other)] * len(seeds)
            rows[way]["other"] = _row(pool, world, theirs, made.fall(theirs))["motion"]
    return {"pool": pool.seed, "world": list(world), "rows": rows}


def _row(pool: Pool, world: World, sets: Sequence[Places], fall_2QR: npt.NDArray[np.float64]) -> dict[str, Any]:
    wanted = pool.of_kinds(HELD_OUT, world)
    known = np.arange(len(pool.clips[HELD_OUT]), fall_2QR.shape[1])
    targets, harmful = pool.of_kinds(POOL, world), pool.harmful()
    sound = targets[~harmful[targets]]
    return {
        "motion": _mean(fall_2QR[MOTION, wanted]),
        "plain": _mean(fall_2QR[PLAIN, wanted]),
        "known": _mean(fall_2QR[MOTION, known]),
        "by_seed": np.round(fall_2QR[MOTION, wanted].mean(0), 3).tolist(),
        "targets": round(float(np.mean([np.isin(s, sound).mean() for s in sets])), 3),
        "harmful": round(float(np.mean([harmful[s].mean() for s in sets])), 3),
    }


def kind_by_kind(choices: Choices, made: Trainings, worlds: Sequence[World]) -> dict[str, Any]:
    """Queries of one kind choose, held-out queries of every kind are measured; that kind's clips alone beside it."""
    kinds = [kind for world in worlds for kind in world]
    found: dict[str, Any] = {"pool": choices.pool.seed, "kinds": kinds}
    for way, kind in product((*choices.scored, TARGETS), kinds):
        places = choices.asked(way, (kind,))
        fall_Q = made.fall([places])[MOTION, :, 0]
        of = {other: _mean(fall_Q[choices.pool.of_kinds(HELD_OUT, (other,))]) for other in kinds}
        sound = choices.pool.of_kinds(POOL, (kind,))
        found.setdefault(way, {})[kind] = of | {"own share": round(float(np.isin(places, sound).mean()), 3)}
    places = choices.unasked(CLEAN_RANDOM, 0)
    fall_Q = made.fall([places])[MOTION, :, 0]
    found[CLEAN_RANDOM] = {kind: _mean(fall_Q[choices.pool.of_kinds(HELD_OUT, (kind,))]) for kind in kinds}
    return found


def contrasts(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The primary ratios and the differences behind them, each score's: by cell, and their mean with its interval."""
    scores = [way for way, row in cells[0]["rows"].items() if "other" in row and way != TARGETS]
    made: dict[str, Any] = {}
    for way in scores:
        gain, specific, over_random, over_clean = [], [], [], []
        for each in cells:
            rows = each["rows"]
            clean, targets = rows[CLEAN_RANDOM]["motion"], rows[TARGETS]["motion"]
            gain.append((rows[way]["motion"] - clean) / (targets - clean))
            specific.append((rows[way]["motion"] - rows[way]["other"]) / (targets - rows[TARGETS]["other"]))
            over_random.append(rows[way]["motion"] - rows[RANDOM]["motion"])
            over_clean.append(rows[way]["motion"] - clean)
        named = {"gain": gain, "specificity": specific, "over random": over_random, "over clean random": over_clean}
        made[way] = {name: t_interval(values) for name, values in named.items()}
    return made


def t_interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean of the cells with its interval of 95 % by Student's t; no interval for one cell."""
    from scipy.stats import t

    count, mean = len(values), float(np.mean(values))
    half = float(t.ppf(0.975, count - 1) * np.std(values, ddof=1) / count**0.5) if count > 1 else float("nan")
    return {
        "cells": np.round(values, 3).tolist(),
        "mean": round(mean, 3),
        "low": round(mean - half, 3),
        "high": round(mean + half, 3),
    }


def goals(ratios: dict[str, Any], way: str = PROTOCOL["default_candidate"]) -> list[dict[str, Any]]:
    """What was aimed at, of the score that the protocol names."""
    gain, specific = ratios[way]["gain"], ratios[way]["specificity"]
    lowest = min(gain["cells"])
    return [
        goal(f"{way}: gain, mean", ">= 0.6", gain["mean"], gain["mean"] >= 0.6),
        goal(f"{way}: gain, low end", "> 0.4", gain["low"], gain["low"] > 0.4),
        goal(f"{way}: gain, lowest cell", ">= 0.3", lowest, lowest >= 0.3),
        goal(f"{way}: specificity, mean", ">= 0.5", specific["mean"], specific["mean"] >= 0.5),
        goal(f"{way}: specificity, low end", "> 0.2", specific["low"], specific["low"] > 0.2),
    ]


def table(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each way: means over the cells."""
    ways = sorted(cells[0]["rows"], key=lambda way: -_over(cells, way, "motion"))
    rows = []
    for way in ways:
        motion = [each["rows"][way]["motion"] for each in cells]
        rows.append(
            {
                "trained on": way,
                "motion loss falls by, %": f"{np.mean(motion):+.2f}",
                "lowest and highest cell": f"{min(motion):+.2f} to {max(motion):+.2f}",
                "ordinary loss": f"{_over(cells, way, 'plain'):+.2f}",
                "known motions": f"{_over(cells, way, 'known'):+.2f}",
                "targets": f"{_over(cells, way, 'targets'):.2f}",
                "harmful": f"{_over(cells, way, 'harmful'):.2f}",
                "by other queries": f"{_over(cells, way, 'other'):+.2f}" if "other" in cells[0]["rows"][way] else "",
            }
        )
    return rows


def _over(cells: Sequence[dict[str, Any]], way: str, what: str) -> float:
    return float(np.mean([each["rows"][way][what] for each in cells]))


def _mean(values: npt.NDArray[np.float64]) -> float:
    return round(float(values.mean()), 4)


def _commit() -> str:
    """The commit that the protocol was last changed in; empty without a repository."""
    command = ["git", "log", "-1", "--format=%h", "--", "protocol.json"]
    return subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    ).stdout.strip()


def _digest(places: Places, recipe: Recipe) -> str:
    return hashlib.sha256(f"{recipe} {np.sort(places).tolist()}".encode()).hexdigest()[:12]


def _save(path: Path, array: npt.NDArray[np.float64]) -> None:
    with path.open("wb") as file:
        np.save(file, array)
