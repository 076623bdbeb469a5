"""Which clips of a pool each way to choose takes: what the evidence trains on.

Every way takes the same number of clips, but for those that say otherwise. Ways that ask queries are asked by the
queries of some kinds of motion.

Shapes: Q queries, N clips of the pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.attribution.methods import ONE, Samples, Sketched
from benchmarks.attribution.pool import POOL, QUERY, Pool
from motive_fo.config import InfluenceConfig
from motive_fo.influence.baselines import cosine
from motive_fo.influence.selection import Ranking, budget_count, rank_clips
from motive_fo.pipeline.motion import TABLE
from motive_fo.quality.controls import control_scores
from motive_fo.store.run_store import RunStore

Places = npt.NDArray[np.int64]

#: Those of the protocol; a test holds them against it and the product's default.
THREE: Final = (500.0, ONE, 850.0)
THREE_T, PAPER, NO_MASK, UNTRAINED = "three timesteps", "paper", "no mask", "untrained model"
ZSCORES: Final = "three timesteps, z-scores"
#: scores by gradients of the base that a pool's table shows, each asked by the queries.
SCORES: Final = {
    THREE_T: InfluenceConfig(timesteps=THREE, noises=(0,)),
    PAPER: InfluenceConfig(timesteps=(ONE,), noises=(0,)),
    NO_MASK: InfluenceConfig(timesteps=(ONE,), noises=(0,), mask_side="none"),
    ZSCORES: InfluenceConfig(timesteps=THREE, noises=(0,), combine="mean-zscore"),
}
_TWELVE: Final = InfluenceConfig(timesteps=THREE, noises=(0, 1, 2, 3))
#: what choosing pools try instead; some need further gradients.
ESTIMATORS: Final = {
    "three timesteps, centred": replace(SCORES[THREE_T], center="mean"),
    "three timesteps, gauss-newton 0.1": replace(SCORES[THREE_T], kernel="gauss-newton", damping=0.1),
    "three timesteps, gauss-newton 10": replace(SCORES[THREE_T], kernel="gauss-newton", damping=10.0),
    "three timesteps, 900 for 850": replace(SCORES[THREE_T], timesteps=(500.0, ONE, 900.0)),
    "six draws": replace(_TWELVE, noises=(0, 1)),
    "twelve draws": _TWELVE,
    "twelve draws, gauss-newton 0.1": replace(_TWELVE, kernel="gauss-newton", damping=0.1),
}
HOOF, MASK, LATENTS = "HOOF", "mask only", "likeness of latents"
CONTROLS: Final = (HOOF, MASK, LATENTS)
TARGETS: Final = "clips of the target kind"
RANDOM, CLEAN_RANDOM, WHOLE, ALL_CLEAN, MOST_MOTION = (
    "random",
    "clean random",
    "whole pool",
    "all clean clips",
    "most motion",
)
#: all of the pool but some share of it: the worst by the queries, or any.
WITHOUT_WORST: Final = {"without the worst fifth": 0.2, "without the worst third": 0.34}
WITHOUT_RANDOM: Final = {"without a random fifth": 0.2, "without a random third": 0.34}
#: ways that ask no query; random ones are drawn anew for every training.
UNASKED: Final = (RANDOM, CLEAN_RANDOM, WHOLE, ALL_CLEAN, MOST_MOTION, *WITHOUT_RANDOM)


@dataclass
class Choices:
    """Ways to choose from one pool. Sketches are taken when they are first asked for.

    Args:
        budget: share of the pool that is taken.
        estimators: further scores, by name.
    """

    pool: Pool
    budget: float = 0.1
    estimators: Mapping[str, InfluenceConfig] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return budget_count(self.budget, len(self.pool.clips[POOL]))

    @property
    def scored(self) -> dict[str, InfluenceConfig]:
        """Scores by gradients of the base."""
        return {**SCORES, **self.estimators}

    def unasked(self, way: str, seed: int) -> Places:
        """Clips of a way that asks no query, for one training."""
        clips, clean = len(self.pool.clips[POOL]), np.flatnonzero(~self.pool.harmful())
        if way == WHOLE:
            return np.arange(clips)
        if way == ALL_CLEAN:
            return clean
        if way == MOST_MOTION:
            mean_N = np.nan_to_num(self.pool.motion("mean"))
            return np.sort(np.argsort(-mean_N, kind="stable")[: self.size])
        rng = np.random.default_rng([self.pool.seed, 40, seed])
        if way in WITHOUT_RANDOM:
            return np.sort(rng.permutation(clips)[budget_count(WITHOUT_RANDOM[way], clips) :])
        return np.sort(rng.choice(clean if way == CLEAN_RANDOM else clips, self.size, replace=False))

    def asked(self, way: str, kinds: Sequence[str]) -> Places:
        """Clips that the queries of some kinds choose, as the product does: by votes, ties by mean rank."""
        if way == TARGETS:
            of_kinds = self.pool.of_kinds(POOL, kinds)
            return of_kinds[~self.pool.harmful()[of_kinds]][: self.size]
        if way in WITHOUT_WORST:
            # clips without a score stand still: they are the first to go
            ranked = self._ranking(THREE_T, kinds).by_mean
            kept = len(self.pool.clips[POOL]) - budget_count(WITHOUT_WORST[way], len(self.pool.clips[POOL]))
            return np.sort(np.asarray(ranked[:kept], np.int64))
        return np.sort(np.asarray(self._ranking(way, kinds).by_votes[: self.size], np.int64))

    def _ranking(self, way: str, kinds: Sequence[str]) -> Ranking:
        scores_QN = self.scores(way)[self.pool.of_kinds(QUERY, kinds)]
        numbers = [f"{n:06d}" for n in range(scores_QN.shape[1])]
        return rank_clips(scores_QN.astype(np.float32), numbers, self.budget)

    def scores(self, way: str) -> npt.NDArray[np.floating]:
        """(Q, N), NaN where a clip has no score."""
        if way == UNTRAINED:
            return self._untrained.scores(SCORES[PAPER])
        if way in CONTROLS:
            return self._controls[way]
        return self._trained.scores(self.scored[way])

    def sketch(self) -> None:
        """Take all sketches that the scores need; nothing where they are there."""
        _ = self._trained, self._untrained

    @cached_property
    def _trained(self) -> Sketched:
        sets: dict[Samples, None] = {(each.timesteps or (), each.noises or ()): None for each in self.scored.values()}
        return self.pool.sketched("base", self.pool.base, *sets)

    @cached_property
    def _untrained(self) -> Sketched:
        return self.pool.sketched("untrained", self.pool.base.randomized(self.pool.seed), ((ONE,), (0,)))

    @cached_property
    def _controls(self) -> dict[str, npt.NDArray[np.float64]]:
        queries, clips = (self.pool.ids(role) for role in (QUERY, POOL))
        with RunStore(self.pool.folder / "motion.zarr") as store:
            made = control_scores(store.table(TABLE), queries, clips, np.zeros((len(queries), len(clips))), 0)
        flat = [self.pool.latents[role].flatten(1).numpy() for role in (QUERY, POOL)]
        return {HOOF: made["HOOF"], MASK: made["mask only"], LATENTS: cosine(*flat)}
