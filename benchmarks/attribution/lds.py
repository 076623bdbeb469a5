"""The table of the linear datamodeling score: do scores predict what training on half of the gallery does?

The embedded model is trained on every subset with every seed, and the reporting queries' motion-weighted loss is
measured at noise that no gradient was taken with. Tuning, which is all of the ``objects`` corpus of seed 0 under
matched subsets, chose the variant ``methods.PRESET``; the rows are of the reporting queries of seed 1.

Shapes: Q queries, N clips, M subsets, R seeds; a leading 2 is [MOTION, PLAIN].
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from benchmarks.attribution.bench import FAST as FAST_BENCH
from benchmarks.attribution.bench import FULL as FULL_BENCH
from benchmarks.attribution.bench import Bench, BenchSetting, open_bench
from benchmarks.attribution.corpus import GALLERY, REPORT, TUNE, Kind
from benchmarks.attribution.losses import MOTION, PLAIN, Said, core_hours, training_losses
from benchmarks.attribution.methods import (
    AT_CHANCE,
    MODEL_FREE,
    ONE,
    PAPER,
    PRESET,
    UNTRAINED,
    Extent,
    Scores,
    all_scores,
)
from benchmarks.attribution.protocol import Result
from benchmarks.record import goal
from motive_fo.quality.intervals import Bootstrap, Estimate
from motive_fo.quality.lds import draw_subsets, lds, lds_gain, noise_ceiling, predicted, spearman

Design = Literal["matched", "unmatched"]
DESIGNS: Final[tuple[Design, ...]] = ("matched", "unmatched")
TUNED: Final = "gradient, chosen on seed 0"
UNTRAINED_TUNED: Final = "untrained model, chosen on seed 0"
_SHARE: Final = 0.5
_UNMASKED: Final = "gradient, mask none, "
_OVER_UNTRAINED: Final = "over the same variant of the untrained model"
_OVER_HOOF: Final = "over HOOF"
_CEILING: Final = "noise ceiling"


@dataclass(frozen=True)
class LdsSetting:
    """How large the table is.

    Attributes:
        bench: of every corpus.
        kinds, designs: corpora and subsets reported.
        tuning, report: seeds of the corpora that choose and that report.
        subsets, seeds: trainings of each design; the noise ceiling needs two seeds.
        choosing: subsets of the corpus that chooses.
        extent: of the scores; all of them where None.
    """

    bench: BenchSetting
    kinds: tuple[Kind, ...]
    subsets: int
    choosing: int
    designs: tuple[Design, ...] = DESIGNS
    seeds: int = 2
    tuning: int = 0
    report: int = 1
    extent: Extent | None = None


FULL: Final = LdsSetting(FULL_BENCH, ("objects", "camera"), subsets=24, choosing=12)
FAST: Final = LdsSetting(
    FAST_BENCH, ("objects",), subsets=4, choosing=3, extent=Extent((300.0, ONE), experiments=False, noises=(0,))
)


@dataclass(frozen=True)
class Measured:
    """Trainings of one design on one bench.

    Attributes:
        member_MN: which clips each subset has.
        loss_2QMR: of all queries, the tuning ones first.
    """

    bench: Bench
    member_MN: npt.NDArray[np.bool_]
    loss_2QMR: npt.NDArray[np.float64]

    def of(self, role: str, kind: int = MOTION) -> npt.NDArray[np.float64]:
        """Losses of one role's queries: (Q, M, R)."""
        cut = len(self.bench.corpus.records[TUNE])
        loss_QMR: npt.NDArray[np.float64] = self.loss_2QMR[kind]
        return loss_QMR[:cut] if role == TUNE else loss_QMR[cut:]


def measure(bench: Bench, design: Design, setting: LdsSetting, said: Said) -> Measured:
    """Train on every subset; what is in the cache is not trained again. More subsets begin with the same ones."""
    subsets = setting.choosing if bench.seed == setting.tuning else setting.subsets
    kinds_N = bench.corpus.motions[GALLERY]
    # seeds of the subsets apart from those of scenes and trainings
    seed = 1000 * bench.seed + DESIGNS.index(design)
    group_N = kinds_N if design == "matched" else None
    member_MN = draw_subsets(len(kinds_N), subsets, _SHARE, seed, group_N)
    sets = [np.flatnonzero(row) for row in member_MN]
    losses = training_losses(bench, f"lds {design}", sets, setting.seeds, bench.setting.recipe, said)
    return Measured(bench, member_MN, losses)


def correlations(scores: Scores, measured: Measured, role: str, kind: int = MOTION) -> dict[str, float]:
    """Linear datamodeling score of every method, without interval."""
    fall_QM = -measured.of(role, kind).mean(2)
    return {
        name: float(spearman(predicted(each[role], measured.member_MN), fall_QM).mean())
        for name, each in scores.items()
    }


def choose(scores: Scores, measured: Measured) -> tuple[str, str, dict[str, float]]:
    """The variant that was written down, else the gradient variant that predicts best here; the variant without
    training that does; and what every method has, on a corpus that is not reported."""
    every = {role: correlations(scores, measured, role) for role in (TUNE, REPORT)}
    count = {role: len(measured.bench.corpus.records[role]) for role in (TUNE, REPORT)}
    found = {name: sum(every[role][name] * count[role] for role in count) / sum(count.values()) for name in scores}
    best = [
        max((name for name in found if name.startswith(start)), key=found.__getitem__)
        for start in ("gradient", "untrained model")
    ]
    return PRESET if PRESET in found else best[0], best[1], found


def run(cache: Path, setting: LdsSetting, said: Said) -> Result:
    """All trainings, then the table."""
    tuning = measure(open_bench(cache, "objects", setting.tuning, setting.bench), "matched", setting, said)
    groups = {
        f"{kind}, {design}": measure(open_bench(cache, kind, setting.report, setting.bench), design, setting, said)
        for kind in setting.kinds
        for design in setting.designs
    }
    scores: dict[str, Scores] = {}
    for kind in setting.kinds:
        said(f"scores of {kind}", 0, 1)
        scores[kind] = all_scores(groups[f"{kind}, {setting.designs[0]}"].bench, setting.extent)
    chosen, untrained, tuned = choose(all_scores(tuning.bench, setting.extent), tuning)
    trainings = (len(groups) * setting.subsets + setting.choosing) * setting.seeds
    table = _Table(groups, scores, chosen, untrained)
    return Result(
        table.rows(),
        table.goals(),
        {
            "trainings": trainings,
            "core_hours_of_trainings": core_hours(tuning.bench, setting.bench.recipe, trainings),
            "tuning_ceiling": float(noise_ceiling(tuning.loss_2QMR[MOTION]).mean()),
            "subsets": setting.subsets,
            "chosen_on_seed_0": chosen,
            "untrained_chosen_on_seed_0": untrained,
            "seed_0": _rounded(tuned),
            "motion_loss": table.every(MOTION),
            "plain_loss": table.every(PLAIN),
            "gains": {name: _ends(each) for name, each in table.gains.items()},
        },
    )


class _Table:
    """Rows and goals of the reporting queries."""

    def __init__(self, groups: dict[str, Measured], scores: dict[str, Scores], chosen: str, untrained: str) -> None:
        self._groups, self._scores, self._chosen, self._untrained = groups, scores, chosen, untrained
        self._how = Bootstrap(seed=1)
        self._ceilings = {name: float(noise_ceiling(each.of(REPORT)).mean()) for name, each in groups.items()}
        self.gains = {
            f"{title}, {group}": self._gain(group, chosen, other)
            for group in groups
            for title, other in (
                (_OVER_UNTRAINED, self._same_untrained()),
                ("over the untrained model's best on seed 0", untrained),
                (_OVER_HOOF, "HOOF"),
                ("over the paper's variant", PAPER),
                ("over the mask alone", "mask only"),
            )
        }

    def _same_untrained(self) -> str:
        """The chosen variant with the gradients of the untrained model, where they were taken."""
        name = self._chosen.replace("gradient", "untrained model")
        return name if all(name in scores for scores in self._scores.values()) else self._untrained

    def _score(self, group: str, name: str) -> npt.NDArray[np.float64]:
        return self._scores[group.split(",")[0]][name][REPORT]

    def _gain(self, group: str, one: str, other: str) -> Estimate:
        of = self._groups[group]
        return lds_gain(self._score(group, one), self._score(group, other), of.member_MN, of.of(REPORT), self._how)

    def rows(self) -> list[dict[str, Any]]:
        """One row for each method worth seeing, one column for each corpus and design."""
        names = next(iter(self._scores.values()))
        labels = [name.removeprefix(_UNMASKED) for name in names if re.fullmatch(_UNMASKED + r"\d+ t( x .*)?", name)]
        changes = [*labels, f"gauss-newton, {labels[-1]}"]
        shown = {TUNED: self._chosen}
        shown |= {f"gradient, mask {side}, {change}": "" for change in changes for side in ("both", "query", "none")}
        shown |= {self._same_untrained(): "", UNTRAINED_TUNED: self._untrained, UNTRAINED: ""}
        shown |= dict.fromkeys(("swapped masks", *MODEL_FREE, *AT_CHANCE), "")
        made: list[dict[str, Any]] = []
        for title, name in shown.items():
            row: dict[str, Any] = {"scores by": title}
            for group, of in self._groups.items():
                found = lds(self._score(group, name or title), of.member_MN, of.of(REPORT), self._how).lds
                row[group] = f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"
            made.append(row)
        made.append({"scores by": _CEILING} | {group: f"{value:.2f}" for group, value in self._ceilings.items()})
        return made

    def goals(self) -> list[dict[str, Any]]:
        """The goals of matched subsets."""
        made = []
        for group, of in self._groups.items():
            if not group.endswith(" matched"):
                continue
            value = lds(self._score(group, self._chosen), of.member_MN, of.of(REPORT), Bootstrap(resamples=2)).lds.value
            share = value / self._ceilings[group] if self._ceilings[group] else 0.0
            made.append(goal(f"{group}: share of the noise ceiling", ">= 0.75", share, share >= 0.75))
            for title in (_OVER_UNTRAINED, _OVER_HOOF):
                gain = self.gains[f"{title}, {group}"].value
                made.append(goal(f"{group}: {title}", ">= 0.15", gain, gain >= 0.15))
        return made

    def every(self, kind: int) -> dict[str, dict[str, float]]:
        """Every method's value, and the ceiling, by corpus and design."""
        return {
            group: _rounded(
                {_CEILING: float(noise_ceiling(of.of(REPORT, kind)).mean())}
                | correlations(self._scores[group.split(",")[0]], of, REPORT, kind)
            )
            for group, of in self._groups.items()
        }


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def _ends(estimate: Estimate) -> list[float]:
    return [round(float(end), 4) for end in (estimate.value, estimate.low, estimate.high)]
