"""The gradient of one clip's loss, projected while it is computed.

A hook on every attributed parameter projects its gradient in float32 as soon as autograd has it and frees it at once,
so that the memory above the model's own is one tensor's gradient, not all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from motive_fo.attribution.loss import motion_weighted_loss, shared_noise
from motive_fo.attribution.parameters import (
    NamedParameters,
    attributed_parameters,
    parameter_group,
    parameter_groups,
)
from motive_fo.attribution.projection import Projection
from motive_fo.errors import ClipError, MotiveError
from motive_fo.models.base import VideoModel

UNMASKED, MASKED = 0, 1
"""Index of the mask side of sketches: ordinary loss, motion-weighted loss."""


class GradientTask(NamedTuple):
    """One clip at one timestep and noise.

    Attributes:
        x0: clean latent from ``model.encode_frames``.
        condition: from ``model.encode_caption``.
        mask_Fhw: motion weights on the latent grid, or None for a static clip, which has no masked sketch.
        timestep: position in the noise schedule, 0 (clean) to 1000 (noise).
        noise: seed of the noise.
    """

    x0: torch.Tensor
    condition: Any
    mask_Fhw: npt.NDArray[np.float32] | None
    timestep: float
    noise: int


@dataclass(frozen=True)
class Sketch:
    """Projected gradients of one clip at one timestep and noise.

    Attributes:
        sketch_2D: float32, [UNMASKED, MASKED]; NaN where there is no mask.
        norm_2: float64, norm of the gradient before projection.
        loss_2: float64, the loss itself.
        squares_G2: float64, the squared norm by group of parameters: over the groups they sum to the norm's square.
    """

    sketch_2D: npt.NDArray[np.float32]
    norm_2: npt.NDArray[np.float64]
    loss_2: npt.NDArray[np.float64]
    squares_G2: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Projected:
    """One gradient, projected: sketch (D,), norm, and squared norm of each group of parameters (G,)."""

    sketch_D: npt.NDArray[np.float32]
    norm: float
    squares_G: npt.NDArray[np.float64]


class StreamingBackward:
    """Backward passes whose gradients are projected and freed tensor by tensor. Made by ``streaming``.

    What is kept of each tensor goes into arrays made beforehand: small pieces kept in the memory that large gradients
    left would split it, and the next gradient would need new memory (measured: 100 MiB and more for 120 M parameters).
    """

    def __init__(self, parameters: NamedParameters, projection: Projection, device: torch.device | None = None) -> None:
        self._projection = projection
        self._parameters = parameters
        self._place = {name: i for i, (name, _) in enumerate(parameters)}
        self._taken: set[str] = set()
        self._odd: dict[str, torch.Tensor] = {}  # parts of a map whose parts differ in size
        size, device = projection.part_size, parameters[0][1].device if device is None else device
        self._parts = None if size is None else torch.empty(len(parameters), size, dtype=torch.float32, device=device)
        self._squares = torch.zeros(len(parameters), dtype=torch.float64, device=device)

    def take(self, name: str, parameter: torch.Tensor) -> None:
        """Project a parameter's finished gradient and free it: the hook."""
        gradient = parameter.grad
        parameter.grad = None
        if gradient is None:
            return
        if name in self._taken:  # its two halves were projected apart: the norm of their sum is no longer known
            raise MotiveError(f"autograd reached {name} in two rounds: use activation checkpointing without re-entry")
        self._taken.add(name)
        self._keep(name, gradient)
        norm = torch.linalg.vector_norm(gradient.detach(), dtype=torch.float32)
        self._squares[self._place[name]] = norm.double().square()

    def _keep(self, name: str, gradient: torch.Tensor) -> None:
        part = self._projection.project(name, gradient)
        if self._parts is None:
            self._odd[name] = part
        else:
            self._parts[self._place[name]] = part

    def run(self, loss: torch.Tensor, *, keep_graph: bool = False) -> Projected:
        """One backward pass."""
        self._taken.clear()
        self._odd.clear()
        self._squares.zero_()
        loss.backward(retain_graph=keep_graph)  # type: ignore[no-untyped-call]
        for name, parameter in self._parameters:  # a parameter the loss does not reach has a zero gradient
            if name not in self._taken:
                self._keep(name, torch.zeros_like(parameter))
        parts = self._odd
        if self._parts is not None:
            parts = dict(zip(self._place, self._parts.cpu(), strict=True))
        squares = dict(zip(self._place, self._squares.tolist(), strict=True))
        return Projected(
            self._projection.combine(parts).numpy(),
            float(np.sqrt(np.sum(list(squares.values())))),
            squares_by_group(squares),
        )


def squares_by_group(square_by_name: Mapping[str, float]) -> npt.NDArray[np.float64]:
    """Squared norms of the groups of parameters (G,), in the order of ``parameter_groups``."""
    by_group = dict.fromkeys(parameter_groups(square_by_name), 0.0)
    for name, square in square_by_name.items():
        by_group[parameter_group(name)] += square
    return np.asarray(list(by_group.values()))


@contextmanager
def only_trainable(network: torch.nn.Module, parameters: NamedParameters) -> Iterator[None]:
    """Gradients for these parameters of ``network`` alone, without dropout; all is restored afterwards."""
    was = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    training = network.training
    network.eval()  # no dropout: the same clip must give the same gradient
    try:
        for parameter, _ in was:
            parameter.requires_grad_(False)
            parameter.grad = None
        for _, parameter in parameters:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter, required in was:
            parameter.requires_grad_(required)
            parameter.grad = None
        network.train(training)


@contextmanager
def streaming(
    network: torch.nn.Module,
    projection: Projection,
    parameters: NamedParameters | None = None,
    device: torch.device | None = None,
) -> Iterator[StreamingBackward]:
    """Hooks the attributed parameters of ``network`` for streaming backward passes and restores it afterwards.

    Args:
        parameters: from ``attributed_parameters``; all where open. The others get no gradient at all.
        device: where the network computes; where its parameters are if open, which is not the same for a network
            whose blocks are offloaded.
    """
    parameters = attributed_parameters(network) if parameters is None else parameters
    backward = StreamingBackward(parameters, projection, device)
    with only_trainable(network, parameters):
        hooked = [
            parameter.register_post_accumulate_grad_hook(partial(backward.take, name))  # type: ignore[no-untyped-call]
            for name, parameter in parameters
        ]
        try:
            yield backward
        finally:
            for handle in hooked:
                handle.remove()


def clip_sketch(
    model: VideoModel,
    backward: StreamingBackward,
    x0: torch.Tensor,
    condition: Any,
    mask_Fhw: npt.NDArray[np.float32] | None,
    timestep: float,
    noise: int,
) -> Sketch:
    """Sketch of one clip at one timestep and noise: one forward pass, and one backward pass for each mask side.

    Args:
        x0: clean latent from ``model.encode_frames``.
        mask_Fhw: motion weights on the latent grid, or None for a static clip, which has no masked sketch.
        timestep: position in the noise schedule, 0 (clean) to 1000 (noise).
        noise: seed of the noise.

    Raises:
        ClipError: the loss or a gradient is not finite, or a gradient is zero.
    """
    e = shared_noise(tuple(x0.shape), noise).to(x0.device, x0.dtype)
    noised = model.noise(x0, e, timestep)
    with torch.enable_grad():
        prediction = model.predict(noised.x_t, noised.timestep, condition)
        plain = motion_weighted_loss(prediction, noised.target)
        losses, taken = [plain.item()], [_checked(backward, plain, keep_graph=mask_Fhw is not None)]
        if mask_Fhw is not None:
            mask = model.arrange_mask(torch.from_numpy(mask_Fhw)).to(x0.device, torch.float32)
            weighted = motion_weighted_loss(prediction, noised.target, mask)
            losses.append(weighted.item())
            taken.append(_checked(backward, weighted, keep_graph=False))
    return sketch_of(losses, taken)


def sketch_of(losses: list[float], taken: list[Projected]) -> Sketch:
    """The sketch of one clip from its mask sides; NaN for the masked one of a clip that has no mask."""
    if len(taken) == 1:
        plain, none = taken[0], float("nan")
        losses = [*losses, none]
        taken = [plain, Projected(np.full_like(plain.sketch_D, none), none, np.full_like(plain.squares_G, none))]
    return Sketch(
        np.stack([each.sketch_D for each in taken]),
        np.asarray([each.norm for each in taken], np.float64),
        np.asarray(losses, np.float64),
        np.stack([each.squares_G for each in taken], axis=1),
    )


def _checked(backward: StreamingBackward, loss: torch.Tensor, *, keep_graph: bool) -> Projected:
    check_loss(loss.item())
    taken = backward.run(loss, keep_graph=keep_graph)
    check_gradient(loss.item(), taken)
    return taken


def check_loss(loss: float) -> None:
    """Raises ``ClipError`` where the loss is not finite."""
    if not np.isfinite(loss):
        raise ClipError("gradient", "nonfinite_gradient", f"the loss is {loss}")


def check_gradient(loss: float, taken: Projected) -> None:
    """Raises ``ClipError`` where a gradient is not finite, or is zero."""
    if not (np.isfinite(taken.norm) and np.isfinite(taken.sketch_D).all()):
        raise ClipError("gradient", "nonfinite_gradient", f"the loss is finite ({loss:.4g}), its gradient is not")
    if taken.norm == 0 or not taken.sketch_D.any():
        raise ClipError("gradient", "zero_gradient", f"the loss is {loss:.4g}, its gradient is zero")
