"""Is the verdict of a trial right? python -m benchmarks.attribution trials

What ``motive evaluate attribution --trial`` does before a selection is trained on, on the pools of ``estimators``, and
on pools where the wanted motions are absent or known; beside it what the whole training of the selection and of random
clips then does. The same with scores that are shuffled over the clips, whose selection is a random one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.attribution.choices import RANDOM, THREE, THREE_T, Choices
from benchmarks.attribution.evidence import CHOOSING, EvidenceSetting, World, cell, opened
from benchmarks.attribution.losses import Said
from benchmarks.attribution.pool import POOL, QUERY, Pool
from benchmarks.attribution.protocol import Result
from benchmarks.attribution.variations import FAST as FEW
from benchmarks.attribution.variations import VARIATIONS
from motive_fo.pipeline.record import ClipRecord
from motive_fo.quality.clip_trainings import ClipTrainings, measured_timesteps, trial_config
from motive_fo.quality.losses import Example
from motive_fo.quality.trial import TrialDesign, TrialQuality, trial
from motive_fo.training.repeated import RepeatedTraining
from motive_fo.training.settings import FinetuneConfig

_NOTHING: Final = ("none shows a wanted motion", "the base knows the motions")
_NOISES: Final = (2_000_000, 2_000_001)
_SHUFFLED: Final = "the same, shuffled"


@dataclass(frozen=True)
class TrialsSetting:
    """Which pools: name -> setting."""

    pools: dict[str, EvidenceSetting]
    design: TrialDesign = field(default_factory=TrialDesign)


FULL: Final = TrialsSetting(
    {
        **{
            f"choosing pool {seed}": replace(CHOOSING, pools=(seed,), estimators={}, ways=(RANDOM, THREE_T))
            for seed in CHOOSING.pools
        },
        **{name: replace(VARIATIONS[name], ways=(RANDOM, THREE_T)) for name in _NOTHING},
    }
)
FAST: Final = TrialsSetting(
    {"few clips": replace(FEW["as it is"], pool={**FEW["as it is"].pool, "queries": 4}, ways=(RANDOM, THREE_T))},
    TrialDesign(steps=2, repeats=3),
)


def run(cache: Path, setting: TrialsSetting, said: Said) -> Result:
    """A row for each pool, world and score."""
    rows, found = [], []
    for name, each in setting.pools.items():
        choices, made = opened(cache, each, each.pools[0], said)
        for world in each.worlds:
            whole = cell(choices, made, world)["rows"]
            ahead = whole[THREE_T]["motion"] - whole[RANDOM]["motion"]
            for scores, quality in tried(choices, world, setting.design):
                rows.append(_row(name, world, scores, quality, ahead if scores == THREE_T else None))
                found.append({"pool": name, "world": list(world), "scores": scores, "verdict": quality.verdict})
    return Result(rows, [], {"verdicts": found})


def tried(choices: Choices, world: World, design: TrialDesign) -> list[tuple[str, TrialQuality]]:
    """Trials of the pool's scores for a world's queries, and of the same scores shuffled over the clips."""
    pool, queries = choices.pool, choices.pool.of_kinds(QUERY, world)
    scores_QN = choices.scores(THREE_T)[queries]
    scored = np.flatnonzero(np.isfinite(scores_QN).all(0))
    trainings = _trainings(pool, queries, scored, design)
    kinds = [pool.clips[QUERY][n].kind for n in queries]
    shuffled = np.random.default_rng([pool.seed, 50]).permutation(len(scored))
    return [
        (name, trial(given_QN, pool.base, trainings.train, trainings.losses, design, kinds=kinds))
        for name, given_QN in ((THREE_T, scores_QN[:, scored]), (_SHUFFLED, scores_QN[:, scored][:, shuffled]))
    ]


def _trainings(
    pool: Pool, queries: npt.NDArray[np.int64], scored: npt.NDArray[np.int64], design: TrialDesign
) -> ClipTrainings:
    """As the product makes them of a run, from what the pool has encoded."""
    given = FinetuneConfig(steps=design.steps, batch=design.batch, device="cpu")
    config = trial_config(pool.base, THREE, given)
    masks = pool.mask(QUERY)

    def example(role: str, n: int, mask: npt.NDArray[np.float32] | None = None) -> Example:
        caption = pool.clips[role][n].caption
        return Example(pool.latents[role][n][None], pool.base.encode_caption(caption), mask)

    def record(n: int) -> ClipRecord:
        clip = pool.clips[POOL][n]
        return ClipRecord(clip.id, clip.path, clip.caption)

    return ClipTrainings(
        RepeatedTraining("tiny", pool.base, config),
        config,
        measured_timesteps(config, THREE),
        _NOISES,
        {place: (record(n), example(POOL, n)) for place, n in enumerate(scored.tolist())},
        {place: example(QUERY, n, masks[n]) for place, n in enumerate(queries.tolist())},
    )


def _row(name: str, world: Sequence[str], scores: str, found: TrialQuality, ahead: float | None) -> dict[str, Any]:
    gain = found.gain
    return {
        "pool": name,
        "queries": " + ".join(world),
        "scores": scores,
        "verdict": found.verdict,
        "selection over random, points, in the trial": f"{gain.value:+.2f} ({gain.low:+.2f} to {gain.high:+.2f})",
        "in a whole training": "" if ahead is None else f"{ahead:+.2f}",
    }
