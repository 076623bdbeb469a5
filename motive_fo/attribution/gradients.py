"""The gradient of one clip's loss, projected while it is computed.

A hook on every attributed parameter projects its gradient in float32 as soon as autograd has it and frees it at once,
so that the memory above the model's own is one tensor's gradient, not all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from motive_fo.attribution.loss import motion_weighted_loss, shared_noise
from motive_fo.attribution.projection import Projection
from motive_fo.errors import ClipError, MotiveError
from motive_fo.models.base import VideoModel

_WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")

UNMASKED, MASKED = 0, 1
"""Index of the second axis of sketches: ordinary loss, motion-weighted loss."""


def attributed_parameters(module: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    """Every parameter of the denoiser once, by name in name order.

    Tied parameters appear once, under their first name. Names lose the prefixes of wrappers (``module.``,
    ``_orig_mod.``): the projection is keyed by name and must not depend on how a module is wrapped.
    """
    named = [(_plain_name(name), parameter) for name, parameter in module.named_parameters()]
    return sorted(named, key=lambda item: item[0])


def _plain_name(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name


@dataclass(frozen=True)
class Sketches:
    """Projected gradients of one clip.

    Attributes:
        sketch_S2D: float32, S samples (one for each timestep and noise), [UNMASKED, MASKED]; NaN where there is no
        mask.
        norm_S2: float64, norm of the gradient before projection.
        loss_S2: float64, the loss itself.
    """

    sketch_S2D: npt.NDArray[np.float32]
    norm_S2: npt.NDArray[np.float64]
    loss_S2: npt.NDArray[np.float64]


class StreamingBackward:
    """Backward passes whose gradients are projected and freed tensor by tensor. Made by ``streaming``."""

    def __init__(self, network: torch.nn.Module, projection: Projection) -> None:
        self._projection = projection
        self._parts: dict[str, torch.Tensor] = {}
        self._squares: dict[str, torch.Tensor] = {}
        self._parameters = attributed_parameters(network)

    def take(self, name: str, parameter: torch.Tensor) -> None:
        """Project a parameter's finished gradient and free it: the hook."""
        gradient = parameter.grad
        parameter.grad = None
        if gradient is None:
            return
        if name in self._parts:  # its two halves were projected apart: the norm of their sum is no longer known
            raise MotiveError(f"autograd reached {name} in two rounds: use activation checkpointing without re-entry")
        self._parts[name] = self._projection.project(name, gradient)
        self._squares[name] = torch.linalg.vector_norm(gradient.detach(), dtype=torch.float32).double().square()

    def run(self, loss: torch.Tensor, *, keep_graph: bool = False) -> tuple[npt.NDArray[np.float32], float]:
        """One backward pass.

        Returns:
            sketch (D,) and the norm of the unprojected gradient.
        """
        self._parts.clear()
        self._squares.clear()
        loss.backward(retain_graph=keep_graph)  # type: ignore[no-untyped-call]
        parts = dict(self._parts)
        for name, parameter in self._parameters:  # a parameter the loss does not reach has a zero gradient
            if name not in parts:
                parts[name] = self._projection.project(name, torch.zeros_like(parameter))
        squares = [float(self._squares[name]) for name in sorted(self._squares)]
        return self._projection.combine(parts).numpy(), float(np.sqrt(np.sum(squares)))


@contextmanager
def streaming(network: torch.nn.Module, projection: Projection) -> Iterator[StreamingBackward]:
    """Hooks every parameter of ``network`` for streaming backward passes and restores it afterwards."""
    parameters = attributed_parameters(network)
    was = [(parameter, parameter.requires_grad) for _, parameter in parameters]
    training = network.training
    network.eval()  # no dropout: the same clip must give the same gradient
    backward = StreamingBackward(network, projection)
    handles = []
    try:
        for name, parameter in parameters:
            parameter.requires_grad_(True)
            parameter.grad = None
            hook = partial(backward.take, name)
            handles.append(parameter.register_post_accumulate_grad_hook(hook))  # type: ignore[no-untyped-call]
        yield backward
    finally:
        for handle in handles:
            handle.remove()
        for parameter, required in was:
            parameter.requires_grad_(required)
            parameter.grad = None
        network.train(training)


def clip_sketches(
    model: VideoModel,
    backward: StreamingBackward,
    x0: torch.Tensor,
    condition: Any,
    mask_Fhw: npt.NDArray[np.float32] | None,
    timesteps: Sequence[float],
    noises: Sequence[int],
) -> Sketches:
    """Sketches of one clip: for each (timestep, noise) one forward pass and one backward pass per stored sketch.

    Args:
        x0: clean latent from ``model.encode_frames``.
        mask_Fhw: motion weights on the latent grid, or None for a static clip, which has no masked sketch.

    Raises:
        ClipError: the loss or a gradient is not finite, or a gradient is zero.
    """
    mask = None if mask_Fhw is None else model.arrange_mask(torch.from_numpy(mask_Fhw)).to(x0.device, torch.float32)
    sketches, norms, losses = [], [], []
    for timestep in timesteps:
        for seed in noises:
            e = shared_noise(tuple(x0.shape), seed).to(x0.device, x0.dtype)
            noised = model.noise(x0, e, timestep)
            with torch.enable_grad():
                prediction = model.predict(noised.x_t, noised.timestep, condition)
                plain = motion_weighted_loss(prediction, noised.target)
                sketch, norm = _checked(backward, plain, keep_graph=mask is not None)
                pair, pair_norm, pair_loss = [sketch], [norm], [plain.item()]
                if mask is None:
                    pair.append(np.full_like(sketch, np.nan))
                    pair_norm.append(float("nan"))
                    pair_loss.append(float("nan"))
                else:
                    weighted = motion_weighted_loss(prediction, noised.target, mask)
                    sketch, norm = _checked(backward, weighted, keep_graph=False)
                    pair.append(sketch)
                    pair_norm.append(norm)
                    pair_loss.append(weighted.item())
            sketches.append(pair)
            norms.append(pair_norm)
            losses.append(pair_loss)
    return Sketches(np.asarray(sketches, np.float32), np.asarray(norms, np.float64), np.asarray(losses, np.float64))


def _checked(
    backward: StreamingBackward, loss: torch.Tensor, *, keep_graph: bool
) -> tuple[npt.NDArray[np.float32], float]:
    if not torch.isfinite(loss):
        raise ClipError("gradient", "nonfinite_gradient", f"the loss is {loss.item()}")
    sketch, norm = backward.run(loss, keep_graph=keep_graph)
    if not (np.isfinite(norm) and np.isfinite(sketch).all()):
        raise ClipError(
            "gradient", "nonfinite_gradient", f"the loss is finite ({loss.item():.4g}), its gradient is not"
        )
    if norm == 0 or not sketch.any():
        raise ClipError("gradient", "zero_gradient", f"the loss is {loss.item():.4g}, its gradient is zero")
    return sketch, norm
