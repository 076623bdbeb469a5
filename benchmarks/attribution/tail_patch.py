"""The table of the tail-patch: does one step on a clip lower the loss of the queries it is said to help?

Every clip of the gallery is stepped on from the trained model, whose gradients the scores are made of, at noise and
timesteps no gradient was taken with. Nothing is chosen here: the variant is the one chosen on seed 0 by the linear
datamodeling score.

Layout within a bench's folder: ``tail/DIGEST/CLIP.npy``, float64 (Q, L, R) each, one file for every clip.

Shapes: Q reporting queries, N clips, L timesteps, R noises.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.attribution import lds
from benchmarks.attribution.bench import Bench, open_bench, write_whole
from benchmarks.attribution.corpus import CAPTION, GALLERY, REPORT, Kind
from benchmarks.attribution.losses import TIMESTEPS, Said
from benchmarks.attribution.methods import AT_CHANCE, MODEL_FREE, PAPER, UNTRAINED, Scores, all_scores
from benchmarks.attribution.protocol import Result
from benchmarks.record import goal
from motive_fo.quality.agreement import agreement
from motive_fo.quality.intervals import Bootstrap, Estimate
from motive_fo.quality.losses import Example
from motive_fo.quality.tail_patch import PatchStep, tail_patch

STEP: Final = PatchStep(TIMESTEPS, noises=(2_000_000,), measured_noises=(1_000_000, 1_000_001))


@dataclass(frozen=True)
class TailSetting:
    """How large the table is: the corpora of ``lds``, those reported, and the clips of each (all where None)."""

    lds: lds.LdsSetting
    kinds: tuple[Kind, ...]
    clips: int | None = None


FULL: Final = TailSetting(lds.FULL, ("objects", "camera"))
FAST: Final = TailSetting(lds.FAST, ("objects",), clips=6)


def run(cache: Path, setting: TailSetting, said: Said) -> Result:
    """All steps, then the table."""
    tuning = lds.measure(
        open_bench(cache, "objects", setting.lds.tuning, setting.lds.bench), "matched", setting.lds, said
    )
    chosen, untrained, _ = lds.choose(all_scores(tuning.bench, setting.lds.extent), tuning)
    how = Bootstrap(seed=1)
    cells: dict[str, dict[str, Any]] = {}
    goals: list[dict[str, Any]] = []
    more: dict[str, Any] = {"chosen_on_seed_0": chosen}
    for kind in setting.kinds:
        bench = open_bench(cache, kind, setting.lds.report, setting.lds.bench)
        clips = _spread(len(bench.corpus.records[GALLERY]), setting.clips)
        fall_QNR = falls(bench, clips, said)
        shown = _shown(all_scores(bench, setting.lds.extent), chosen, untrained)
        found = agreement({name: each[:, clips] for name, each in shown.items()}, fall_QNR, how)
        for name, each in found.by_score.items():
            cells.setdefault(name, {"scores by": name})[kind] = _text(each)
        cells.setdefault("noise ceiling", {"scores by": "noise ceiling"})[kind] = f"{found.ceiling:.2f}"
        ahead = found.ahead.get(chosen.replace("gradient", "untrained model"), found.ahead[lds.UNTRAINED_TUNED])
        goals.append(
            goal(f"{kind}: over the untrained model, low end of the interval", "> 0", ahead.low, ahead.low > 0)
        )
        more[kind] = {"ahead": {name: _ends(each) for name, each in found.ahead.items()}, "ceiling": found.ceiling}
    ceiling = cells.pop("noise ceiling")
    return Result([*cells.values(), ceiling], goals, more)


def falls(bench: Bench, clips: npt.NDArray[np.int64], said: Said) -> npt.NDArray[np.float64]:
    """Fall of every reporting query's motion-weighted loss by one step on each clip, mean over timesteps: (Q, N, R)."""
    condition = bench.model.encode_caption(CAPTION)
    folder = bench.folder / "tail" / hashlib.sha256(repr(STEP).encode()).hexdigest()[:8]
    names = [bench.corpus.records[GALLERY][n].id for n in clips]
    missing = [(n, name) for n, name in zip(clips, names, strict=True) if not (folder / f"{name}.npy").exists()]
    if missing:
        queries = [
            Example(x0[None], condition, mask.numpy())
            for x0, mask in zip(bench.latents[REPORT], bench.masks[REPORT], strict=True)
        ]
        with tail_patch(bench.model, queries, STEP) as patch:
            for done, (n, name) in enumerate(missing):
                said(f"{bench.kind} {bench.seed}, tail-patch", done, len(missing))
                _keep(folder / f"{name}.npy", patch.falls(Example(bench.latents[GALLERY][n][None], condition)))
    return np.stack([np.load(folder / f"{name}.npy").mean(1) for name in names], axis=1)


def _keep(path: Path, fall_QLR: npt.NDArray[np.float64]) -> None:
    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.save(file, fall_QLR)

    write_whole(path, write)


def _shown(scores: Scores, chosen: str, untrained: str) -> dict[str, npt.NDArray[np.float64]]:
    """Name in the table -> scores of the reporting queries; the chosen variant first."""
    titles = {lds.TUNED: chosen, lds.UNTRAINED_TUNED: untrained}
    same = chosen.replace("gradient", "untrained model")
    titles |= {same: same} if same in scores else {}
    titles |= {name: name for name in (PAPER, PAPER.replace("both", "query"), PAPER.replace("both", "none"), UNTRAINED)}
    titles |= {name: name for name in ("swapped masks", *MODEL_FREE, *AT_CHANCE)}
    return {title: scores[name][REPORT] for title, name in titles.items()}


def _spread(clips: int, wanted: int | None) -> npt.NDArray[np.int64]:
    """So many of the clips, evenly over all of them."""
    count = clips if wanted is None else min(clips, wanted)
    return np.unique(np.linspace(0, clips - 1, count).round().astype(np.int64))


def _text(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def _ends(estimate: Estimate) -> list[float]:
    return [round(float(end), 4) for end in (estimate.value, estimate.low, estimate.high)]
