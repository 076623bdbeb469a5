"""Gradients of several clips of a small model in one pass, each clip's its own.

Every clip gets the attributed weights as a view of its own (nothing is copied), the network runs on all clips at once
under ``torch.func.vmap``, and the gradient at a clip's view is that clip's gradient alone. What a small network costs
is the number of its operations more than their size (docs/benchmarks.md).

``Choice:`` every pass has the model's ``width``; a short one is filled up with its last gradient. So all passes run
through the same routines, and a sketch is the same to the last bit whatever and however many stand beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from motive_fo.attribution.gradients import (
    GradientTask,
    Projected,
    Sketch,
    check_gradient,
    check_loss,
    only_trainable,
    sketch_of,
    squares_by_group,
)
from motive_fo.attribution.loss import shared_noise
from motive_fo.attribution.parameters import NamedParameters, attributed_parameters
from motive_fo.attribution.projection import Projection
from motive_fo.errors import ClipError
from motive_fo.models.base import BatchedModel


class BatchedGradients:
    """Sketches of up to ``width`` gradients in one pass. Made by ``batching``."""

    def __init__(self, model: BatchedModel, projection: Projection, parameters: NamedParameters, width: int) -> None:
        self.width = width
        self._model, self._projection = model, projection
        self._predict = _Predict(model)
        known = {id(parameter): name for name, parameter in self._predict.named_parameters()}
        self._parameters = [(name, known[id(parameter)], parameter) for name, parameter in parameters]

    def sketches(self, tasks: Sequence[GradientTask]) -> list[Sketch | ClipError]:
        """A sketch of each task, or why it has none: at most ``width`` tasks, all of one latent shape."""
        filled = [*tasks, *[tasks[-1]] * (self.width - len(tasks))]
        with torch.enable_grad():
            views = {
                name: parameter.detach().expand(self.width, *parameter.shape).requires_grad_()
                for _, name, parameter in self._parameters
            }
            error_W = self._squared_errors(views, filled)
            losses = [error_W.flatten(1).mean(1)]
            if any(task.mask_Fhw is not None for task in tasks):
                losses.append((error_W * self._masks(filled)).flatten(1).mean(1))
            sides = [
                self._projected(loss_W, views, keep_graph=loss_W is not losses[-1]) for loss_W in losses
            ]  # [UNMASKED], then [MASKED]
        numbers = [loss_W.tolist() for loss_W in losses]
        return [
            _checked(
                [number[n] for number in numbers][: 1 if task.mask_Fhw is None else 2],
                [side[n] for side in sides][: 1 if task.mask_Fhw is None else 2],
            )
            for n, task in enumerate(tasks)
        ]

    def _squared_errors(self, views: Mapping[str, torch.Tensor], tasks: Sequence[GradientTask]) -> torch.Tensor:
        """(prediction - target)^2 of every task, float32 (W, 1, ...)."""
        noised = [
            self._model.noise(
                task.x0, shared_noise(tuple(task.x0.shape), task.noise).to(task.x0.device, task.x0.dtype), task.timestep
            )
            for task in tasks
        ]
        x_t, target, timestep = (torch.stack(parts) for parts in zip(*noised, strict=True))
        condition = self._model.stack_conditions([task.condition for task in tasks])

        def predict(weights: Mapping[str, torch.Tensor], *given: Any) -> Any:
            return functional_call(self._predict, dict(weights), given)

        # the fused kernels of a CPU have no rule for vmap and would be called clip by clip
        with sdpa_kernel(SDPBackend.MATH):
            prediction: torch.Tensor = vmap(predict)(views, x_t, timestep, condition)
        return (prediction.float() - target.float()).square()

    def _masks(self, tasks: Sequence[GradientTask]) -> torch.Tensor:
        """The tasks' masks in the prediction's layout (W, 1, ...); zeros where there is none."""
        some = next(task.mask_Fhw for task in tasks if task.mask_Fhw is not None)
        masks = [np.zeros_like(some) if task.mask_Fhw is None else task.mask_Fhw for task in tasks]
        arranged = [self._model.arrange_mask(torch.from_numpy(mask)) for mask in masks]
        return torch.stack(arranged).to(tasks[0].x0.device, torch.float32)

    def _projected(
        self, loss_W: torch.Tensor, views: Mapping[str, torch.Tensor], *, keep_graph: bool
    ) -> list[Projected]:
        """The gradient of every task's loss. A loss depends on its task's views alone: their sum has them all."""
        gradients = torch.autograd.grad(
            loss_W.sum(), list(views.values()), retain_graph=keep_graph, materialize_grads=True
        )
        parts: dict[str, torch.Tensor] = {}
        square_WP = np.empty((len(loss_W), len(self._parameters)))
        for n, ((name, _, _), gradient_W) in enumerate(zip(self._parameters, gradients, strict=True)):
            parts[name] = self._projection.project_each(name, gradient_W)
            norm_W = torch.linalg.vector_norm(gradient_W.flatten(1), dim=1, dtype=torch.float32)
            square_WP[:, n] = norm_W.double().square().cpu().numpy()
        names = [name for name, _, _ in self._parameters]
        return [
            Projected(
                sketch_D, float(np.sqrt(square_P.sum())), squares_by_group(dict(zip(names, square_P, strict=True)))
            )
            for sketch_D, square_P in zip(self._projection.combine(parts).numpy(), square_WP, strict=True)
        ]


@contextmanager
def batching(
    model: BatchedModel, projection: Projection, width: int, parameters: NamedParameters | None = None
) -> Iterator[BatchedGradients]:
    """The model's network without dropout, its attributed parameters (all where open) ready; restored afterwards."""
    parameters = attributed_parameters(model.network) if parameters is None else parameters
    with only_trainable(model.network, parameters):
        yield BatchedGradients(model, projection, parameters, width)


class _Predict(torch.nn.Module):
    """A model's ``predict`` as a module, so that its network can be called with other weights."""

    def __init__(self, model: BatchedModel) -> None:
        super().__init__()
        self.network = model.network
        self._model = model

    def forward(self, *given: Any) -> torch.Tensor:
        return self._model.predict(*given)


def _checked(losses: list[float], taken: list[Projected]) -> Sketch | ClipError:
    try:
        for loss, each in zip(losses, taken, strict=True):
            check_loss(loss)
            check_gradient(loss, each)
    except ClipError as error:
        return error
    return sketch_of(losses, taken)
