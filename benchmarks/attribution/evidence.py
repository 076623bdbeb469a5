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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.attribution.bench import write_whole
from benchmarks.attribution.choices import (
    ALL_CLEAN,
    CLEAN_RANDOM,
    CONTROLS,
    ESTIMATORS,
    RANDOM,
    TARGETS,
    UNASKED,
    UNTRAINED,
    WHOLE,
    WITHOUT_WORST,
    Choices,
    Places,
)
from benchmarks.attribution.losses import MOTION, PLAIN, Said, unseen_losses
from benchmarks.attribution.pool import HELD_OUT, KNOWN, POOL, Pool, PoolSetting, open_pool
from benchmarks.attribution.protocol import Result
from benchmarks.attribution.training import Recipe, train
from benchmarks.record import goal
from motive_fo.config import InfluenceConfig
from motive_fo.models.tiny.model import TinyModel

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
        budget: share of a pool that is chosen.
        ways: rows that are made; all where None.
        base: weights from which every training starts; the embedded model's own where None.
    """

    pools: tuple[int, ...]
    worlds: tuple[World, ...]
    pool: dict[str, Any] = field(default_factory=dict)
    seeds: int = 3
    recipe: Recipe = field(default_factory=lambda: Recipe(steps=40, learning_rate=6e-4))
    estimators: Mapping[str, InfluenceConfig] = field(default_factory=dict)
    budget: float = 0.1
    ways: tuple[str, ...] | None = None
    base: Path | None = None

    def opened(self, cache: Path, seed: int) -> Pool:
        """A pool from the cache, or made there."""
        targets = tuple(kind for world in self.worlds for kind in world)
        return open_pool(cache, seed, PoolSetting(targets, **self.pool), self.base)

    def kept(self, ways: Iterable[str]) -> list[str]:
        """Those of some rows that are made."""
        return [way for way in ways if self.ways is None or way in self.ways]


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
    ratios, removed = contrasts(cells), removals(cells)
    return Result(
        table(cells),
        [*goals(ratios), *removal_goals(removed)],
        {
            "protocol": PROTOCOL,
            "protocol_commit": _commit(),
            "cells": cells,
            "contrasts": ratios,
            "removals": removed,
            "kind_by_kind": [kinds for _, kinds in made],
        },
    )


def make(cache: Path, setting: EvidenceSetting, seed: int, said: Said) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One pool's cells, and its table kind by kind."""
    choices, made = opened(cache, setting, seed, said)
    return cells_of(choices, made), kind_by_kind(choices, made)


def opened(cache: Path, setting: EvidenceSetting, seed: int, said: Said) -> tuple[Choices, Trainings]:
    """A pool's ways to choose, and its trainings."""
    pool = setting.opened(cache, seed)
    return Choices(pool, setting.budget, estimators=setting.estimators), Trainings(pool, setting, said)


def cells_of(choices: Choices, made: Trainings) -> list[dict[str, Any]]:
    """A pool's cells, one for each world."""
    return [cell(choices, made, world) for world in made.setting.worlds]


class Trainings:
    """The base trained on sets of a pool's clips, and the losses afterwards, kept in the pool's folder."""

    def __init__(self, pool: Pool, setting: EvidenceSetting, said: Said) -> None:
        self.pool, self.setting, self._said = pool, setting, said
        self._done = 0
        self._x0 = torch.cat([pool.latents[role] for role in (HELD_OUT, KNOWN)])
        self._mask = torch.cat([pool.masks[role].nan_to_num(0.0) for role in (HELD_OUT, KNOWN)])
        self._captions = [clip.caption for role in (HELD_OUT, KNOWN) for clip in pool.clips[role]]
        self.before_2Q = self._kept("base-0", lambda: pool.base)

    def fall(self, places_R: Sequence[Places]) -> npt.NDArray[np.float64]:
        """Fall of the losses in % of what they were, [MOTION, PLAIN], of every held-out and known query: (2, Q, R).

        Args:
            places_R: the clips of each training; its place is its seed.
        """
        names = [_digest(places, self.setting.recipe) for places in places_R]
        # another number for every set: what two sets have in common is their clips, not their noise
        numbers = [int(name, 16) % 2**31 + r for r, name in enumerate(names)]
        return self._falls(
            self._kept(f"{name}-{r}", lambda places=places, number=number: self._trained(places, number))
            for r, (name, places, number) in enumerate(zip(names, places_R, numbers, strict=True))
        )

    def fall_without(self, removed: Places) -> npt.NDArray[np.float64]:
        """The same after trainings on the whole pool in which some clips weigh nothing. Order and noise are those of
        every such training with the same seed, whatever weighs nothing."""
        every = np.arange(len(self.pool.clips[POOL]))
        weight_N = (~np.isin(every, removed)).astype(np.float32)
        name = _digest(removed, self.setting.recipe)
        return self._falls(
            self._kept(f"without-{name}-{r}", lambda r=r: self._trained(every, r, weight_N))
            for r in range(self.setting.seeds)
        )

    def _falls(self, losses_2Q: Iterable[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        return 100 * (1 - np.stack(list(losses_2Q), -1) / self.before_2Q[..., None])

    def _trained(self, places: Places, number: int, weight_N: npt.NDArray[np.floating] | None = None) -> TinyModel:
        captions = [self.pool.clips[POOL][n].caption for n in places]
        x0 = self.pool.latents[POOL][places]
        made, _ = train(self.pool.base, x0, self.setting.recipe, number, weight_N=weight_N, captions_N=captions)
        return made

    def _kept(self, name: str, model: Callable[[], TinyModel]) -> npt.NDArray[np.float64]:
        path = self.pool.kept / "losses" / f"{name}.npy"
        if not path.exists():
            self._done += 1
            self._said(f"pool {self.pool.seed}, trainings of about 100", self._done, max(100, self._done))
            made = model()
            losses_2Q = unseen_losses(made, self._x0, self._mask, made.encode_captions(self._captions))
            write_whole(path, lambda part: _save(part, losses_2Q))
        return np.asarray(np.load(path))


def cell(choices: Choices, made: Trainings, world: World) -> dict[str, Any]:
    """One pool and world: of every way the fall of losses, the shares of what it took, and the same by other queries.

    ``other`` is what the selection by the other world's queries (or the other world's clips) does to this world's.
    """
    seeds, pool = range(made.setting.seeds), choices.pool
    (other,) = [each for each in made.setting.worlds if each != world]
    rows: dict[str, Any] = {}
    for way in made.setting.kept(UNASKED):
        sets = [choices.unasked(way, seed) for seed in seeds]
        rows[way] = _row(pool, world, sets, made.fall(sets))
    for way in made.setting.kept((*choices.scored, UNTRAINED, *CONTROLS, *WITHOUT_WORST, TARGETS)):
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
    sorts = pool.sorts(world)
    return {
        "motion": _mean(fall_2QR[MOTION, wanted]),
        "plain": _mean(fall_2QR[PLAIN, wanted]),
        "known": _mean(fall_2QR[MOTION, known]),
        "by_seed": np.round(fall_2QR[MOTION, wanted].mean(0), 3).tolist(),
        "targets": round(float(np.mean([np.isin(s, sound).mean() for s in sets])), 3),
        "harmful": round(float(np.mean([harmful[s].mean() for s in sets])), 3),
        "taken": {sort: round(float(np.mean([np.isin(at, s).mean() for s in sets])), 3) for sort, at in sorts.items()},
    }


def kind_by_kind(choices: Choices, made: Trainings) -> dict[str, Any]:
    """Queries of one kind choose, held-out queries of every kind are measured; that kind's clips alone beside it."""
    kinds = [kind for world in made.setting.worlds for kind in world]
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
    """The primary ratios and the differences behind them, each score's: by cell, and their mean with its interval.

    ``of sums`` is the ratio of the sums over the cells, in which a cell whose targets teach little counts little.
    """
    targets = np.asarray([_motion(each, TARGETS) for each in cells])
    clean, chance = (np.asarray([_motion(each, way) for each in cells]) for way in (CLEAN_RANDOM, RANDOM))
    others_targets = np.asarray([each["rows"][TARGETS]["other"] for each in cells])
    made: dict[str, Any] = {}
    for way in [way for way, row in cells[0]["rows"].items() if "other" in row and way != TARGETS]:
        own = np.asarray([_motion(each, way) for each in cells])
        other = np.asarray([each["rows"][way]["other"] for each in cells])
        ratios = {"gain": (own - clean, targets - clean), "specificity": (own - other, targets - others_targets)}
        made[way] = {
            name: t_interval(part / whole) | {"of sums": round(float(part.sum() / whole.sum()), 3)}
            for name, (part, whole) in ratios.items()
        }
        against = {"over random": chance, "over clean random": clean, "over other queries": other}
        made[way] |= {name: t_interval(own - each) for name, each in against.items()}
    return made


def removals(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What training without the worst clips gains, in points, by cell: over the whole pool, over going without as many
    random ones, and over all clean clips."""
    made: dict[str, Any] = {}
    for way in WITHOUT_WORST:
        others = {"whole pool": WHOLE, "random removal": way.replace("the worst", "a random"), "all clean": ALL_CLEAN}
        made[way] = {
            f"over {name}": t_interval([_motion(each, way) - _motion(each, other) for each in cells])
            for name, other in others.items()
        }
    return made


def removal_goals(removed: dict[str, Any]) -> list[dict[str, Any]]:
    """What was aimed at: without the worst third more is learned than from all, and than without a random third."""
    worst = removed["without the worst third"]
    return [
        goal(f"without the worst third: {name}, low end", "> 0", worst[name]["low"], worst[name]["low"] > 0)
        for name in ("over whole pool", "over random removal")
    ]


def t_interval(values: Sequence[float] | npt.NDArray[np.float64]) -> dict[str, Any]:
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
                "motion loss falls by, %": _with_interval(motion),
                "lowest and highest cell": f"{min(motion):+.2f} to {max(motion):+.2f}",
                "ordinary loss": f"{_over(cells, way, 'plain'):+.2f}",
                "known motions": f"{_over(cells, way, 'known'):+.2f}",
                "targets": f"{_over(cells, way, 'targets'):.2f}",
                "harmful": f"{_over(cells, way, 'harmful'):.2f}",
                "by other queries": f"{_over(cells, way, 'other'):+.2f}" if "other" in cells[0]["rows"][way] else "",
            }
        )
    return rows


def _with_interval(values: Sequence[float]) -> str:
    found = t_interval(values)
    return f"{found['mean']:.2f}" + (f" ({found['low']:.2f} to {found['high']:.2f})" if len(values) > 1 else "")


def _motion(each: dict[str, Any], way: str) -> float:
    return float(each["rows"][way]["motion"])


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
