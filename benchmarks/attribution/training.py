"""Training of the benchmark: the embedded model on some of the clips, by its ordinary loss, in little time.

The same objective as ``motive_fo.training.finetune``; what differs is that latents are encoded once for all trainings,
that a step is one pass of a whole batch, and that chance plays a smaller part, because what is measured afterwards is a
small difference between sets: noise levels are spread evenly over a batch, and the weights of the last steps averaged.

Shapes: N clips, B clips of a batch, C F h w a latent.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.attribution.corpus import CAPTION
from motive_fo.models.tiny.model import TinyModel
from motive_fo.models.tiny.text import Caption
from motive_fo.models.tiny.transformer import STEPS

_SHIFT = 3.0  # of the noise levels towards noise, as in FinetuneConfig


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        steps: optimiser steps, the same for all sets that are compared.
        batch: clips of each step.
        learning_rate: of AdamW, constant after the warm-up.
        warmup: steps in which it grows to its value.
        averaged: share of the steps, the last ones, whose weights' mean is the result.
    """

    steps: int
    batch: int = 16
    learning_rate: float = 3e-4
    warmup: int = 5
    averaged: float = 0.5


@dataclass(frozen=True)
class _Batch:
    index_B: npt.NDArray[np.int64]
    timestep_B: torch.Tensor
    noise: torch.Tensor


def captions(model: TinyModel, count: int) -> Caption:
    """The one caption of all clips of a corpus, so often."""
    return model.encode_captions([CAPTION] * count)


def train(
    base: TinyModel,
    x0_NCFhw: torch.Tensor,
    recipe: Recipe,
    seed: int,
    *,
    weight_N: npt.NDArray[np.floating] | None = None,
    captions_N: Sequence[str] | None = None,
    keep: Collection[int] = (),
) -> tuple[TinyModel, dict[int, TinyModel]]:
    """A copy of the model trained on some clips, and copies of it as it was after some of the steps.

    Order, noise levels and noise depend on the seed, the step and the number of clips alone.

    Args:
        x0_NCFhw: clean latents of the clips it is trained on.
        weight_N: of each clip's loss; 1 where None.
        captions_N: of the clips; the one caption of all where None.
        keep: steps to keep the weights of, as they are without averaging.

    Raises:
        RuntimeError: the loss is not finite.
    """
    model = copy.deepcopy(base)
    trained = [each for each in model.network.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
    weights = torch.ones(len(x0_NCFhw)) if weight_N is None else torch.as_tensor(weight_N, dtype=torch.float32)
    texts = [CAPTION] * len(x0_NCFhw) if captions_N is None else captions_N
    last = max(1, round(recipe.averaged * recipe.steps))
    mean = [torch.zeros_like(each) for each in trained]
    kept: dict[int, TinyModel] = {}
    model.network.train()
    for step in range(recipe.steps):
        batch = _drawn(step, x0_NCFhw, recipe, seed)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * min(1.0, (step + 1) / (recipe.warmup + 1))
        optimizer.zero_grad(set_to_none=True)
        condition = model.encode_captions([texts[n] for n in batch.index_B])
        error_B = errors(model, x0_NCFhw[batch.index_B], batch.noise, batch.timestep_B, condition).mean((1, 2, 3, 4))
        loss = (error_B * weights[batch.index_B]).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if step >= recipe.steps - last:
            for total, parameter in zip(mean, trained, strict=True):
                total.add_(parameter.detach(), alpha=1 / last)
        if step + 1 in keep:
            kept[step + 1] = copy.deepcopy(model)
    with torch.no_grad():
        for total, parameter in zip(mean, trained, strict=True):
            if not torch.isfinite(total).all():
                raise RuntimeError("the training's weights are not finite: choose a smaller learning rate")
            parameter.copy_(total)
    model.network.eval()
    for each in kept.values():
        each.network.eval()
    return model, kept


def errors(
    model: TinyModel, x0_BCFhw: torch.Tensor, e_BCFhw: torch.Tensor, timestep_B: torch.Tensor, condition: Caption
) -> torch.Tensor:
    """Squared error of the predicted velocity, element by element: (B, C, F, h, w)."""
    s_B = (timestep_B / STEPS).reshape(-1, 1, 1, 1, 1)
    predicted = model.predict((1 - s_B) * x0_BCFhw + s_B * e_BCFhw, timestep_B, condition)
    return (predicted - (e_BCFhw - x0_BCFhw)).square()


def _drawn(step: int, x0_NCFhw: torch.Tensor, recipe: Recipe, seed: int) -> _Batch:
    """Clips come in passes over all of them, each pass in an order of its own."""
    index_B = np.fromiter(_places(step, len(x0_NCFhw), recipe, seed), np.int64, recipe.batch)
    rng = np.random.default_rng([seed, 1, step])
    # one level from each of B equally likely parts: every step sees the whole schedule
    even_B = (rng.permutation(recipe.batch) + rng.random(recipe.batch)) / recipe.batch
    share_B = torch.special.ndtri(torch.from_numpy(even_B)).sigmoid()
    timestep_B = (STEPS * _SHIFT * share_B / (1 + (_SHIFT - 1) * share_B)).float()
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    return _Batch(index_B, timestep_B, torch.randn((recipe.batch, *x0_NCFhw.shape[1:]), generator=generator))


def _places(step: int, clips: int, recipe: Recipe, seed: int) -> Iterator[int]:
    for place in range(step * recipe.batch, (step + 1) * recipe.batch):
        turn, at = divmod(place, clips)
        yield int(np.random.default_rng([seed, 0, turn]).permutation(clips)[at])
