"""The queries' losses after a training, and the trainings on subsets that are to be predicted, one file each.

Layout within a bench's folder::

    losses/NAME/SET-SEED.npy    float64 (2, Q) of one training

A stopped run goes on where it was: a training whose file is there is not done again.

Shapes: Q queries (tuning, then reporting), M sets of clips, R seeds, L timesteps; a leading 2 is [MOTION, PLAIN].
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.attribution.bench import Bench, write_whole
from benchmarks.attribution.corpus import GALLERY, REPORT, TUNE
from benchmarks.attribution.training import Recipe, captions, errors, train
from motive_fo.models.tiny.model import TinyModel
from motive_fo.models.tiny.text import Caption

MOTION, PLAIN = 0, 1
"""Index of the loss: weighted by the query's motion mask, or the ordinary one."""

#: timesteps the queries' losses are measured at, and the first seed of their noise. ``Choice:`` neither is one that
#: gradients are taken with, so that no score sees what it is judged by.
TIMESTEPS: Final = (200.0, 400.0, 600.0, 820.0)
_FIRST_NOISE: Final = 1_000_000
_DRAWS: Final = 2

Said = Callable[[str, int, int], None]


def query_losses(bench: Bench, model: TinyModel) -> npt.NDArray[np.float64]:
    """Mean loss of every query over timesteps and noises that no gradient was taken with: (2, Q)."""
    x0 = torch.cat([bench.latents[role] for role in (TUNE, REPORT)])
    mask = torch.cat([bench.masks[role] for role in (TUNE, REPORT)])
    return unseen_losses(model, x0, mask, captions(model, len(x0)))


@torch.no_grad()
def unseen_losses(
    model: TinyModel, x0: torch.Tensor, mask_QFhw: torch.Tensor, condition: Caption
) -> npt.NDArray[np.float64]:
    """Mean loss of clips over timesteps and noises that no gradient was taken with: (2, Q)."""
    total_2Q = np.zeros((2, len(x0)))
    for draw in range(_DRAWS * len(TIMESTEPS)):
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(_FIRST_NOISE + draw))
        level_B = torch.full((len(x0),), TIMESTEPS[draw % len(TIMESTEPS)])
        error = errors(model, x0, noise, level_B, condition)
        total_2Q[MOTION] += (error * mask_QFhw[:, None]).mean((1, 2, 3, 4)).double().numpy()
        total_2Q[PLAIN] += error.mean((1, 2, 3, 4)).double().numpy()
    return total_2Q / (_DRAWS * len(TIMESTEPS))


def training_losses(
    bench: Bench,
    name: str,
    sets: Sequence[npt.NDArray[np.int64]],
    seeds: int,
    recipe: Recipe,
    said: Said,
) -> npt.NDArray[np.float64]:
    """Losses of the queries after training the base on each set of gallery clips, with each seed: (2, Q, M, R).

    Args:
        name: of the folder they are kept in.
        sets: indices of gallery clips. A file belongs to its clips and the recipe: others make other files.
        said: called with the name, trainings done and all, before each training.
    """
    places = [(m, r) for r in range(seeds) for m in range(len(sets))]
    found: dict[tuple[int, int], npt.NDArray[np.float64]] = {}
    for done, (m, r) in enumerate(places):
        path = bench.folder / "losses" / name / f"{_digest(sets[m], recipe)}-{r}.npy"
        if not path.exists():
            said(f"{bench.kind} {bench.seed}, {name}", done, len(places))
            _train(bench, path, sets[m], recipe, r)
        found[m, r] = np.load(path)
    rows = [np.stack([found[m, r] for r in range(seeds)], axis=-1) for m in range(len(sets))]
    return np.stack(rows, axis=2)


def core_hours(bench: Bench, recipe: Recipe, trainings: int) -> float:
    """Processor time of so many trainings on one core, from a few steps of one; other programs do not count."""
    few = replace(recipe, steps=4)
    begun = time.process_time()
    train(bench.base, bench.latents[GALLERY], few, 0)
    stepped = time.process_time()
    query_losses(bench, bench.base)
    measuring = time.process_time() - stepped
    return round(trainings * ((stepped - begun) / few.steps * recipe.steps + measuring) / 3600, 2)


def _train(bench: Bench, path: Path, chosen: npt.NDArray[np.int64], recipe: Recipe, seed: int) -> None:
    # another number for every set: what two sets have in common is their clips, not their noise
    number = int(_digest(chosen, recipe), 16) % 2**31
    model, _ = train(bench.base, bench.latents[GALLERY][chosen], recipe, number + seed)
    loss_2Q = query_losses(bench, model)

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.save(file, loss_2Q)

    write_whole(path, write)


def _digest(chosen: npt.NDArray[np.int64], recipe: Recipe) -> str:
    text = f"{recipe} {np.sort(chosen).tolist()} {TIMESTEPS} {_DRAWS}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]
