"""Counterfactual fine-tuning: does training on the clips a score chooses help the queries more than other clips do?

For every motion the tuning queries of that motion choose a tenth of the gallery, the embedded model is trained on it,
and the loss of that motion's reporting queries is measured, which chose nothing. All sets have as many steps. What
counts is the loss after another set minus the loss after the chosen one, query by query and seed by seed.

Shapes: Q reporting queries, N clips, R seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.attribution import lds
from benchmarks.attribution.bench import Bench, open_bench
from benchmarks.attribution.corpus import GALLERY, REPORT, TUNE, Kind
from benchmarks.attribution.losses import MOTION, Said, query_losses, training_losses
from benchmarks.attribution.methods import PAPER, Scores, all_scores
from benchmarks.attribution.protocol import Result
from benchmarks.record import goal
from motive_fo.influence.selection import budget_count, rank_clips
from motive_fo.pipeline.motion import TABLE
from motive_fo.quality.intervals import Bootstrap, Estimate
from motive_fo.store.run_store import RunStore

_BUDGET: Final = 0.1
TOP: Final = "top 10 %"
#: what the chosen clips have to beat for the goal.
RIVALS: Final = ("random 10 %", "top 10 % without mask", "most motion 10 %", "all clips")


@dataclass(frozen=True)
class CounterfactualSetting:
    """How large the table is.

    Attributes:
        lds: its corpora, and the trainings that choose the variant.
        kinds: corpora reported.
        seeds: trainings of every set.
        steps: of every training.
    """

    lds: lds.LdsSetting
    kinds: tuple[Kind, ...]
    seeds: int
    steps: int


FULL: Final = CounterfactualSetting(lds.FULL, ("objects", "camera"), seeds=5, steps=20)
FAST: Final = CounterfactualSetting(lds.FAST, ("objects",), seeds=2, steps=4)


def run(cache: Path, setting: CounterfactualSetting, said: Said) -> Result:
    """All trainings, then the table."""
    tuning = lds.measure(
        open_bench(cache, "objects", setting.lds.tuning, setting.lds.bench), "matched", setting.lds, said
    )
    chosen, _, found = lds.choose(all_scores(tuning.bench, setting.lds.extent), tuning)
    unmasked = max((name for name in found if name.startswith("gradient, mask none")), key=found.__getitem__)
    how = Bootstrap(seed=1)
    rows: list[dict[str, Any]] = []
    goals: list[dict[str, Any]] = []
    more: dict[str, Any] = {}
    for kind in setting.kinds:
        bench = open_bench(cache, kind, setting.lds.report, setting.lds.bench)
        loss = relative_losses(bench, all_scores(bench, setting.lds.extent), chosen, unmasked, setting, said)
        better = {name: _difference(each - loss[TOP], how) for name, each in loss.items() if name != TOP}
        for name, each in loss.items():
            row: dict[str, Any] = {"corpus": kind, "trained on": name, "motion loss, % of before": f"{each.mean():.2f}"}
            row["above the top 10 %"] = "" if name == TOP else _text(better[name])
            rows.append(row)
        goals += [
            goal(f"{kind}: {name} above {TOP}, low end of the interval", "> 0", better[name].low, better[name].low > 0)
            for name in RIVALS
        ]
        more[kind] = {name: [round(end, 4) for end in (e.value, e.low, e.high)] for name, e in better.items()}
    more |= {"chosen_on_seed_0": chosen, "without_mask_chosen_on_seed_0": unmasked}
    return Result(rows, goals, more | {"seeds": setting.seeds, "steps": setting.steps})


def relative_losses(
    bench: Bench, scores: Scores, chosen: str, unmasked: str, setting: CounterfactualSetting, said: Said
) -> dict[str, npt.NDArray[np.float64]]:
    """Motion-weighted loss of every reporting query after training on each set, in % of what it was before: (Q, R)."""
    recipe = replace(bench.setting.recipe, steps=setting.steps)
    cut = len(bench.corpus.records[TUNE])
    before_Q = query_losses(bench, bench.base)[MOTION, cut:]
    of_Q = bench.corpus.motions[REPORT]

    def after(name: str, sets: list[npt.NDArray[np.int64]], seeds: int) -> npt.NDArray[np.float64]:
        loss_2QMR = training_losses(bench, f"counterfactual {name}", sets, seeds, recipe, said)
        return 100 * loss_2QMR[MOTION, cut:] / before_Q[:, None, None]

    found: dict[str, npt.NDArray[np.float64]] = {}
    for name, choose in _choices(bench, scores, chosen, unmasked).items():
        motions = sorted(set(of_Q.tolist()))
        loss_QMR = after(name, [choose(motion) for motion in motions], setting.seeds)
        found[name] = np.stack([loss_QMR[q, motions.index(int(motion))] for q, motion in enumerate(of_Q)])
    clips = len(bench.corpus.records[GALLERY])
    found["all clips"] = after("all", [np.arange(clips)], setting.seeds)[:, 0]
    draws = [np.random.default_rng([bench.seed, 40, r]) for r in range(setting.seeds)]
    drawn = [np.sort(rng.choice(clips, budget_count(_BUDGET, clips), replace=False)) for rng in draws]
    found["random 10 %"] = after("random", drawn, 1)[:, :, 0]  # another draw for every seed
    return found


def _choices(
    bench: Bench, scores: Scores, chosen: str, unmasked: str
) -> dict[str, Callable[[int], npt.NDArray[np.int64]]]:
    """Name of a set -> its clips for a motion."""
    size = budget_count(_BUDGET, len(bench.corpus.records[GALLERY]))

    def best(name: str, sign: int = 1) -> Callable[[int], npt.NDArray[np.int64]]:
        def choose(motion: int) -> npt.NDArray[np.int64]:
            asked_QN = sign * scores[name][TUNE][bench.corpus.motions[TUNE] == motion]
            numbers = [f"{n:06d}" for n in range(asked_QN.shape[1])]
            ranked = rank_clips(asked_QN.astype(np.float32), numbers, _BUDGET).by_votes
            return np.sort([int(number) for number in ranked[:size]])

        return choose

    with RunStore(bench.folder / "motion.zarr") as store:
        moved_N = store.table(TABLE).read("mean", [each.id for each in bench.corpus.records[GALLERY]])
    most = np.sort(np.argsort(-moved_N, kind="stable")[:size])
    return {
        TOP: best(chosen),
        "bottom 10 %": best(chosen, -1),
        "top 10 % without mask": best(unmasked),
        "top 10 %, paper's variant": best(PAPER),
        "top 10 % by HOOF": best("HOOF"),
        "most motion 10 %": lambda motion: most,
    }


def _difference(difference_QR: npt.NDArray[np.float64], how: Bootstrap) -> Estimate:
    """Mean over queries and seeds, with the interval over both."""
    queries, seeds = difference_QR.shape
    picks = zip(how.draws(queries, 0), how.draws(seeds, 1), strict=True)
    drawn_R = np.asarray([difference_QR[some_Q][:, some_R].mean() for some_Q, some_R in picks])
    return how.estimate(float(difference_QR.mean()), drawn_R)


def _text(estimate: Estimate) -> str:
    return f"{estimate.value:+.2f} ({estimate.low:+.2f} to {estimate.high:+.2f})"
