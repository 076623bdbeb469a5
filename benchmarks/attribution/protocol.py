"""Retrieval: do scores find clips of a query's motion? The split is described in the package's docstring."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.attribution.bench import FULL as FULL_BENCH
from benchmarks.attribution.bench import Bench, BenchSetting, open_bench
from benchmarks.attribution.corpus import GALLERY, REPORT, TUNE, Kind
from benchmarks.attribution.methods import (
    AT_CHANCE,
    FEW_T,
    MODEL_FREE,
    ONE,
    PAPER,
    SEVERAL,
    UNTRAINED,
    Extent,
    all_scores,
    sample_sets,
)
from benchmarks.attribution.training import Recipe
from benchmarks.record import goal
from motive_fo.influence.selection import percentile_ranks
from motive_fo.quality.intervals import Bootstrap, Estimate, mean_over_queries
from motive_fo.quality.retrieval import Retrieval, attainable, chance, retrieval
from motive_fo.quality.tables import SHOWN

CHOSEN: Final = "gradient, chosen on seed 0"
PUBLISHED: Final = 0.6387
"""NDCG@20 of flow magnitude, the best row published for the benchmark whose class sizes these are."""
CHOOSES, REPORTS = 0, 1
"""Seeds: every query of the one chooses, the report queries of the other are reported."""


@dataclass(frozen=True)
class Setting:
    """How large the table is.

    Attributes:
        bench: size of the corpora and training of their models.
        extent: which variants.
        kinds: corpora.
    """

    bench: BenchSetting
    extent: Extent
    kinds: tuple[Kind, ...] = ("camera", "objects")


FAST: Final = Setting(
    BenchSetting(scale=0.25, tune=2, report=4, recipe=Recipe(steps=6, batch=8)),
    Extent((500.0, ONE), experiments=False, noises=(0,)),
    ("camera",),
)
FULL: Final = Setting(FULL_BENCH, Extent(SEVERAL))


@dataclass(frozen=True)
class Result:
    """Rows and goals for ``benchmarks.record.write``, and what else goes into the file."""

    rows: list[dict[str, Any]]
    goals: list[dict[str, Any]]
    more: dict[str, Any]


def run(cache: Path, setting: Setting = FULL) -> Result:
    """Render, train, take gradients, score, judge. The same setting always gives the same numbers; what the cache holds
    is not computed again."""
    chosen, tuning = choose(cache, setting)
    rows, goals = [], []
    more: dict[str, Any] = {"setting": asdict(setting), "chosen_on_seed_0": chosen, "seed_0_ndcg_20": tuning}
    for kind in setting.kinds:
        judged = _judge(open_bench(cache, kind, REPORTS, setting.bench), setting, chosen, tuning)
        rows += judged.rows
        goals += judged.goals
        more[kind] = judged.more
    return Result(rows, goals, more)


def choose(cache: Path, setting: Setting) -> tuple[str, dict[str, float]]:
    """The variant with the highest NDCG@20 on seed 0 of the last corpus, over all its queries; and every method's."""
    bench = open_bench(cache, setting.kinds[-1], CHOOSES, setting.bench)
    found = {
        name: round(float(np.concatenate([_figures(bench, each, role).ndcg_20 for role in (TUNE, REPORT)]).mean()), 4)
        for name, each in all_scores(bench, setting.extent).items()
    }
    return max((name for name in found if name.startswith("gradient")), key=found.__getitem__), found


def _figures(bench: Bench, scores: dict[str, npt.NDArray[np.float64]], role: str) -> Retrieval:
    return retrieval(scores[role], bench.corpus.relevant(role))


def _judge(bench: Bench, setting: Setting, chosen: str, tuning: dict[str, float]) -> Result:
    scores = all_scores(bench, setting.extent)
    relevant = bench.corpus.relevant(REPORT)
    figures = {"chance": chance(relevant)}
    figures |= {name: _figures(bench, each, REPORT) for name, each in scores.items()}
    figures |= {CHOSEN: figures[chosen], "attainable": attainable(relevant)}
    how = Bootstrap(seed=bench.seed)
    best_control = max(MODEL_FREE, key=tuning.__getitem__)
    gains = _gains(figures, best_control, setting.extent, how)
    alike = {name: look_alikes(bench, each[REPORT]) for name, each in scores.items()}
    alike[CHOSEN] = alike[chosen]
    shown = [name for name in figures if name in _listed(figures, setting.extent)]
    return Result(
        [{"corpus": bench.kind, **_row(name, figures[name], how), **_alike(alike.get(name))} for name in shown],
        [*_chance_goals(figures, bench), *_absolute_goals(figures, bench, how), *_gain_goals(gains, bench)],
        {
            "gallery": [int(n) for n in np.bincount(bench.corpus.motions[GALLERY])],
            "report_queries": len(relevant),
            "look_alikes": int(bench.corpus.planted[REPORT].sum()),
            "gains_ndcg_20": {name: rounded(each) for name, each in gains.items()},
            "intervals": {name: _intervals(found, how) for name, found in figures.items()},
            "rank_of_look_alikes": {name: each for name, each in alike.items() if each is not None},
        },
    )


def look_alikes(bench: Bench, scores_QN: npt.NDArray[np.float64]) -> list[float] | None:
    """Mean percentile rank (50 is chance) of the gallery clips with a query's look and another motion, and the share of
    them among its first 20; None where the corpus has none."""
    planted_QN = bench.corpus.planted.get(REPORT)
    if planted_QN is None or not planted_QN.any():
        return None
    rank_QN = percentile_ranks(scores_QN)
    first_QN = scores_QN >= np.sort(scores_QN, axis=1)[:, [-20]]
    return [round(float(each[planted_QN].mean()), 4) for each in (rank_QN, first_QN)]


def _listed(figures: dict[str, Retrieval], extent: Extent) -> set[str]:
    """What the table shows of it; the file has all."""
    labels = list(sample_sets(extent.timesteps, extent.noises))
    few = {name for name in figures if name.startswith("experiment, mask query") and "gauss" not in name}
    named = {
        *(f"gradient, mask {side}, {label}" for side in ("both", "query", "none") for label in labels),
        *(f"gradient, mask {side}, gauss-newton, {labels[-1]}" for side in ("both", "query", "none")),
        *(f"gradient, mask both{change}, 1 t" for change in (", overlap removed", ", centred", ", gauss-newton")),
        *(f"gradient, mask both{change}, {labels[-1]}" for change in (", overlap removed", ", z-scores")),
        UNTRAINED,
        f"untrained model, mask both, gauss-newton, {labels[-1]}",
    }
    return named | few | {"chance", CHOSEN, "swapped masks", *AT_CHANCE, *MODEL_FREE, "attainable"}


def _gains(figures: dict[str, Retrieval], control: str, extent: Extent, how: Bootstrap) -> dict[str, Estimate]:
    """Differences of NDCG@20, query by query."""
    t = list(sample_sets(extent.timesteps, extent.noises))[-1]
    pairs = {
        "paper's variant over chance": (PAPER, "chance"),
        "paper's variant over an untrained model": (PAPER, UNTRAINED),
        "paper's variant over swapped masks": (PAPER, "swapped masks"),
        "no mask over the paper's mask on both sides": ("gradient, mask none, 1 t", PAPER),
        "mask on the query's side over both": ("gradient, mask query, 1 t", PAPER),
        "overlap removed, both masked": ("gradient, mask both, overlap removed, 1 t", PAPER),
        "centring, both masked": ("gradient, mask both, centred, 1 t", PAPER),
        "gauss-newton, both masked": ("gradient, mask both, gauss-newton, 1 t", PAPER),
        f"{t} over one, both masked": (f"gradient, mask both, {t}", PAPER),
        f"gauss-newton, both masked, {t}": (f"gradient, mask both, gauss-newton, {t}", f"gradient, mask both, {t}"),
        f"gauss-newton with {t} over the paper's variant": (f"gradient, mask both, gauss-newton, {t}", PAPER),
        f"gauss-newton with {t} over an untrained model": (
            f"gradient, mask both, gauss-newton, {t}",
            f"untrained model, mask both, gauss-newton, {t}",
        ),
        "chosen variant over the paper's": (CHOSEN, PAPER),
        "chosen variant over flow magnitude": (CHOSEN, "flow magnitude"),
        f"chosen variant over the best control without a model ({control})": (CHOSEN, control),
    }
    base = f"experiment, mask query, {FEW_T}"
    for name in ("Adam scaling", "diagonal scaling", "self-attention alone", "square of the output", "checkpoints"):
        pairs[f"{name}, mask query, {FEW_T}"] = (f"experiment, mask query, {name}, {FEW_T}", base)
    return {
        name: mean_over_queries(figures[one].ndcg_20 - figures[other].ndcg_20, how)
        for name, (one, other) in pairs.items()
        if one in figures and other in figures
    }


def _chance_goals(figures: dict[str, Retrieval], bench: Bench) -> list[dict[str, Any]]:
    """Of so many intervals of 95 % one leaves chance out now and then: together they are to hold it in 95 %."""
    how = Bootstrap(resamples=20_000, level=1 - 0.05 / (len(AT_CHANCE) * len(Retrieval.names())), seed=bench.seed)
    made = []
    for name in AT_CHANCE:
        missed = [key for key in Retrieval.names() if not _holds_chance(figures, name, key, how)]
        text = f"{bench.kind}: {name}: figures whose interval leaves chance out"
        made.append(goal(text, "0", len(missed), not missed))
    return made


def _holds_chance(figures: dict[str, Retrieval], name: str, key: str, how: Bootstrap) -> bool:
    """Chance differs between motions, the queries are what is drawn: so it is their difference that must hold 0."""
    return mean_over_queries(figures[name].of(key) - figures["chance"].of(key), how).holds(0)


def _absolute_goals(figures: dict[str, Retrieval], bench: Bench, how: Bootstrap) -> list[dict[str, Any]]:
    found = mean_over_queries(figures[CHOSEN].ndcg_20, how)
    text = f"{bench.kind}: chosen gradient variant: NDCG@20"
    return [goal(text, f"> {PUBLISHED} (flow magnitude as published)", found.value, found.value > PUBLISHED)]


def _gain_goals(gains: dict[str, Estimate], bench: Bench) -> list[dict[str, Any]]:
    return [
        goal(f"{bench.kind}: {name}: NDCG@20 gained, low end of the interval", "> 0", gain.low, gain.low > 0)
        for name, gain in gains.items()
    ]


def _row(name: str, found: Retrieval, how: Bootstrap) -> dict[str, Any]:
    row: dict[str, Any] = {"scores by": name}
    row |= {title: f"{found.of(key).mean():.3f}" for key, title in SHOWN.items()}
    sure = mean_over_queries(found.ndcg_20, how)
    row["NDCG@20, 95 %"] = f"{sure.low:.3f} to {sure.high:.3f}"
    return row


def _alike(found: list[float] | None) -> dict[str, str]:
    return {"rank of look-alikes": "" if found is None else f"{found[0]:.0f}"}


def _intervals(found: Retrieval, how: Bootstrap) -> dict[str, list[float]]:
    return {title: rounded(mean_over_queries(found.of(key), how)) for key, title in SHOWN.items()}


def rounded(estimate: Estimate) -> list[float]:
    """Value and both ends."""
    return [round(float(end), 4) for end in (estimate.value, estimate.low, estimate.high)]
