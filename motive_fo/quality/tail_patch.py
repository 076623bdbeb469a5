"""Tail-patch: does one step of training on a clip lower the losses of the queries it is said to help? (Chang et al.
2024.)

From the model's own weights, one step is taken on one clip's loss, the fall of every query's loss is measured at noise
that the scores never saw, and the weights are put back, bit for bit. It is the cheapest question about training that
can be answered on one's own model: a forward and backward pass or two for each clip, and some forward passes for each
query. It is local: what many steps on many clips do together is another matter (``motive_fo.quality.lds``).

``Choice:`` every step has one length, a share of the weights' own. Fine-tuning uses Adam, whose steps do not grow with
the gradient either; plain gradient steps would rank the clips by the norms of their gradients first.

Shapes: Q queries, S timesteps, R noises.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch

from motive_fo.attribution.gradients import only_trainable
from motive_fo.attribution.loss import motion_weighted_loss
from motive_fo.attribution.parameters import NamedParameters, attributed_parameters
from motive_fo.errors import ClipError, ConfigError
from motive_fo.models.base import VideoModel
from motive_fo.quality.losses import Example, arranged_mask, predicted

KEPT: Final = 0.9
"""Least cosine between the step that was asked for and the one the weights' precision let them take."""


@dataclass(frozen=True)
class PatchStep:
    """How a step is taken and what is measured after it.

    Attributes:
        timesteps: of the step and of the measurement, 0 (clean) to 1000 (noise); a loss is their mean.
        noises: seeds of the step's noise; the gradient is of the mean over them.
        measured_noises: seeds of the measurement's noise; each is measured by itself.
        length: of the step, as a share of the weights' norm.
        rule: ``sgd`` goes along the gradient, ``sign`` along its signs, as the first step of Adam does.
    """

    timesteps: tuple[float, ...]
    noises: tuple[int, ...]
    measured_noises: tuple[int, ...]
    length: float = 1e-3
    rule: Literal["sgd", "sign"] = "sgd"


class TailPatch:
    """Steps on one clip after another, all from the same weights. Made by ``tail_patch``.

    Attributes:
        loss_QSR: loss of every query before any step, float64.
    """

    def __init__(
        self, model: VideoModel, parameters: NamedParameters, queries: Sequence[Example], how: PatchStep
    ) -> None:
        self._model = model
        self._parameters = [parameter for _, parameter in parameters]
        self._queries = queries
        self._how = how
        self._weights = [parameter.detach().to("cpu", copy=True) for parameter in self._parameters]
        squares = sum(float(torch.linalg.vector_norm(w, dtype=torch.float64)) ** 2 for w in self._weights)
        self._length = how.length * math.sqrt(squares)
        self.loss_QSR = self._measured()

    def falls(self, example: Example) -> npt.NDArray[np.float64]:
        """Fall of every query's loss by one step on a clip: (Q, S, R), positive where it helped.

        The weights are as before afterwards, whatever is raised.

        Raises:
            ClipError: a gradient or a loss is not finite, or the gradient is zero.
            ConfigError: the weights' precision does not hold a step of this length.
        """
        try:
            self._backward(example)
            self._take()
            after_QSR = self._measured()
        finally:
            self._put_back()
        if not np.isfinite(after_QSR).all():
            raise ClipError("gradient", "nonfinite_gradient", "the loss of a query is not finite after the step")
        return self.loss_QSR - after_QSR

    def _backward(self, example: Example) -> None:
        pairs = [(t, noise) for t in self._how.timesteps for noise in self._how.noises]
        with torch.enable_grad():
            for timestep, noise in pairs:
                loss = self._loss(example, timestep, noise) / len(pairs)
                if not torch.isfinite(loss):
                    raise ClipError("gradient", "nonfinite_gradient", f"the loss is {loss.item()}")
                loss.backward()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def _take(self) -> None:
        """One step along the gradient, of the asked length."""
        moved = [
            (parameter, parameter.grad.sign() if self._how.rule == "sign" else parameter.grad)
            for parameter in self._parameters
            if parameter.grad is not None
        ]
        norm = math.sqrt(sum(float(torch.linalg.vector_norm(d, dtype=torch.float64)) ** 2 for _, d in moved))
        if not math.isfinite(norm):
            raise ClipError("gradient", "nonfinite_gradient", "the loss is finite, its gradient is not")
        if norm == 0:
            raise ClipError("gradient", "zero_gradient", "the gradient is zero: no step can be taken")
        along = squares = 0.0
        for parameter, direction in moved:
            before = parameter.detach().clone()
            parameter.sub_((direction.float() * (self._length / norm)).to(parameter.dtype))
            taken = before.float() - parameter.float()
            along += float((taken * direction.float()).sum(dtype=torch.float64))
            squares += float(torch.linalg.vector_norm(taken, dtype=torch.float64)) ** 2
        if squares == 0 or along / (norm * math.sqrt(squares)) < KEPT:
            raise ConfigError(
                f"a step of {self._how.length:g} of the weights' norm is lost in the rounding of "
                f"{str(self._parameters[0].dtype).removeprefix('torch.')}: compute in float32, or take a longer step"
            )

    @torch.no_grad()
    def _put_back(self) -> None:
        for parameter, weights in zip(self._parameters, self._weights, strict=True):
            parameter.copy_(weights)
            parameter.grad = None

    @torch.no_grad()
    def _measured(self) -> npt.NDArray[np.float64]:
        how = self._how
        return np.asarray(
            [
                [[float(self._loss(query, t, noise)) for noise in how.measured_noises] for t in how.timesteps]
                for query in self._queries
            ],
            np.float64,
        )

    def _loss(self, example: Example, timestep: float, noise: int) -> torch.Tensor:
        prediction, target = predicted(self._model, example, timestep, noise)
        return motion_weighted_loss(prediction, target, arranged_mask(self._model, example))


@contextmanager
def tail_patch(
    model: VideoModel, queries: Sequence[Example], how: PatchStep, parameters: NamedParameters | None = None
) -> Iterator[TailPatch]:
    """Set a model up for steps on single clips; afterwards it is as it was.

    Memory beside what a gradient takes: one copy of the trained parameters in main memory, and their gradients on the
    device, all at once.

    Args:
        queries: whose losses are measured. One that has not a finite loss before any step is refused.
        parameters: the trained ones, from ``attributed_parameters``; all where open.

    Raises:
        ConfigError: noise of the step is measured with, or the network's blocks are offloaded.
        ClipError: the loss of a query is not finite.
    """
    if set(how.noises) & set(how.measured_noises):
        raise ConfigError("the noise of the step must not be measured with: choose other seeds for one of the two")
    network = model.network
    parameters = attributed_parameters(network) if parameters is None else parameters
    if len({parameter.device for parameter in network.parameters()}) > 1:
        raise ConfigError("the network's blocks are offloaded, a step would be lost with them: set offload to off")
    with only_trainable(network, parameters):
        patch = TailPatch(model, parameters, queries, how)
        if not np.isfinite(patch.loss_QSR).all():
            raise ClipError("gradient", "nonfinite_gradient", "the loss of a query is not finite")
        yield patch
