"""Is the verdict of a trial right? python -m benchmarks.attribution trials

What ``motive evaluate attribution --trial`` does before a selection is trained on, on the pools of ``estimators``, and
on pools where the wanted motions are absent or known; beside it what the whole training of the selection and of random
clips then does. The same with scores that are shuffled over the clips, whose selection is a random one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.attribution.bench import write_whole
from benchmarks.attribution.choices import RANDOM, THREE, THREE_T, Choices
from benchmarks.attribution.evidence import CHOOSING, EvidenceSetting, World, cell, opened
from benchmarks.attribution.losses import Said
from benchmarks.attribution.pool import POOL, QUERY, Pool
from benchmarks.attribution.protocol import Result
from benchmarks.attribution.variations import FAST as FEW
from benchmarks.attribution.variations import VARIATIONS
from motive_fo.influence.selection import budget_count
from motive_fo.pipeline.record import ClipRecord
from motive_fo.quality.clip_trainings import ClipTrainings, measured_timesteps, trial_config, trial_rate
from motive_fo.quality.losses import Example
from motive_fo.quality.trainings import BASE, Floats, falls_of, train_and_measure
from motive_fo.quality.trial import RANDOM as OF_RANDOM
from motive_fo.quality.trial import TrialDesign, TrialQuality, by_votes, judged, plan_trial
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
            for scores, quality in tried(choices, world, setting.design, said):
                rows.append(_row(name, world, scores, quality, ahead if scores == THREE_T else None))
                found.append({"pool": name, "world": list(world), "scores": scores, "verdict": quality.verdict})
    return Result(rows, [], {"verdicts": found})


def tried(choices: Choices, world: World, design: TrialDesign, said: Said) -> list[tuple[str, TrialQuality]]:
    """Trials of the pool's scores for a world's queries, and of the same scores shuffled over the clips. The random
    clips of the two are the same ones. Kinds of queries are not told: the second control has no part in a gain."""
    pool, queries = choices.pool, choices.pool.of_kinds(QUERY, world)
    scores_QN = choices.scores(THREE_T)[queries]
    scored = np.flatnonzero(np.isfinite(scores_QN).all(0))
    scores_QN = scores_QN[:, scored]
    trainings = _trainings(pool, queries, scored, design)
    shuffled = np.random.default_rng([pool.seed, 50]).permutation(len(scored))
    found, known = [], {}
    for name, given_QN in ((THREE_T, scores_QN), (_SHUFFLED, scores_QN[:, shuffled])):
        plan = plan_trial(len(queries), len(scored), by_votes(given_QN, design.share), design)
        kept = _Kept(pool, [[each.key, each.clips.tolist()] for each in plan.trainings], design)
        known = {
            **{key: value for key, value in known.items() if key == BASE or key.startswith(OF_RANDOM)},
            **kept.read(),
        }

        def told(what: str, done: int, count: int, name: str = name) -> None:
            said(f"pool {pool.seed}, {' + '.join(world)}, {name}", done, count)

        def keep(kept: _Kept = kept, known: dict[str, Floats] = known) -> None:
            kept.write(known)

        train_and_measure(
            plan.trainings,
            plan.queries,
            pool.base,
            trainings.train,
            trainings.losses,
            known=known,
            keep=keep,
            progress=told,
        )
        found.append((name, judged(plan, falls_of(known, plan.trainings, plan.queries), design)))
    return found


class _Kept:
    """The losses of one trial, in the pool's folder."""

    def __init__(self, pool: Pool, trainings: object, design: TrialDesign) -> None:
        digest = hashlib.sha256(json.dumps([trainings, asdict(design)]).encode()).hexdigest()[:12]
        self._path = pool.kept / "trials" / f"{digest}.json"

    def read(self) -> dict[str, Floats]:
        if not self._path.exists():
            return {}
        return {key: np.asarray(loss) for key, loss in json.loads(self._path.read_text(encoding="utf-8")).items()}

    def write(self, known: dict[str, Floats]) -> None:
        text = json.dumps({key: loss.tolist() for key, loss in known.items()})
        write_whole(self._path, lambda part: part.write_text(text, encoding="utf-8"))


def _trainings(
    pool: Pool, queries: npt.NDArray[np.int64], scored: npt.NDArray[np.int64], design: TrialDesign
) -> ClipTrainings:
    """As the product makes them of a run, from what the pool has encoded."""
    given = FinetuneConfig(
        steps=design.steps,
        batch=design.batch_of(budget_count(design.share, len(scored))),
        learning_rate=trial_rate(pool.base),
        device="cpu",
    )
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
