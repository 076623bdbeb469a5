"""The protocol of an attributed video diffusion model.

Everything that differs between models hides behind it: the autoencoder and its strides, the text encoder, the noising
and target of the objective, the layout of the latents and what counts as "the DiT". One shape covers flow matching
(Wan, LTX, HunyuanVideo: target ``e - x0``), its mirror (Mochi), v-prediction (CogVideoX, frames before channels) and
packed token layouts (LTX), because a latent is opaque to the caller: it is drawn, noised, predicted and compared only
in the model's own layout, and a mask is brought there by ``arrange_mask``.

Shapes: F latent frames, h w latent cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from motive_fo.clips.spec import ClipSpec
from motive_fo.models.card import ModelCard


class Noised(NamedTuple):
    """One training example of the diffusion objective, in the model's own latent layout, batch axis first (1).

    Attributes:
        x_t: noised latent.
        target: what the network should predict from it.
        timestep: the conditioning value the network takes for this level, float32 (bfloat16 rounds 750.75 to 752).
    """

    x_t: torch.Tensor
    target: torch.Tensor
    timestep: torch.Tensor


class VideoModel(Protocol):
    """A video diffusion model whose training loss is to be attributed."""

    @property
    def card(self) -> ModelCard:
        """Geometry and defaults, known without the weights."""
        ...

    @property
    def network(self) -> torch.nn.Module:
        """The denoiser ("the DiT"): all of its parameters are attributed, nothing else is."""
        ...

    @property
    def device(self) -> torch.device: ...

    def identity(self) -> Mapping[str, Any]:
        """Name, objective and weight hash. Part of the store's identity."""
        ...

    def encode_frames(self, frames_THW3: npt.NDArray[np.uint8]) -> torch.Tensor:
        """Clean latent x0 of one clip, in the model's layout, without gradient. Deterministic (mode, not a sample)."""
        ...

    def encode_caption(self, caption: str) -> Any:
        """Conditioning of one caption, without gradient; only ``predict`` looks inside."""
        ...

    def latent_shape(self, spec: ClipSpec) -> tuple[int, ...]:
        """Shape of ``encode_frames``'s result for clips of this specification: the shape noise is drawn in."""
        ...

    def noise(self, x0: torch.Tensor, e: torch.Tensor, timestep: float) -> Noised:
        """Noising, target and network timestep of this model's objective.

        Args:
            timestep: position in the model's training schedule, 0 (clean) to 1000 (noise).
        """
        ...

    def predict(self, x_t: torch.Tensor, timestep: torch.Tensor, condition: Any) -> torch.Tensor:
        """The network's prediction, in the target's layout. Gradients flow to ``network``'s parameters."""
        ...

    def arrange_mask(self, mask_Fhw: torch.Tensor) -> torch.Tensor:
        """The mask in a shape that broadcasts against the prediction (BCFhw, BFChw, packed tokens, ...)."""
        ...


@runtime_checkable
class StagedModel(Protocol):
    """A model whose encoders are too large to stay beside its network, or too slow to be asked twice.

    What they make is kept, by the clip's content and by ``encoder_identity``, and they leave memory before the first
    gradient. Conditions of such a model are mappings of names to tensors.
    """

    def outline(self) -> torch.nn.Module:
        """The network without weights (on torch's device ``meta``): names and shapes of its parameters."""
        ...

    def encoder_identity(self) -> Mapping[str, Mapping[str, Any]]:
        """What latents (``video``) and conditions (``caption``) depend on, beside clip and caption."""
        ...

    def make_room(self) -> None:
        """Let the network leave the device while encoders work there. It comes back when it is asked for."""
        ...

    def leave_encoders(self) -> None:
        """Let the encoders go. They come back by themselves where something is to be encoded."""
        ...


@runtime_checkable
class BatchedModel(VideoModel, Protocol):
    """A small model that takes the gradients of several clips in one pass (``attribution.batched``).

    Its ``predict`` runs under ``torch.func.vmap``: no step of it may depend on a tensor's values.
    """

    def width(self, latent_shape: tuple[int, ...]) -> int:
        """Gradients of one pass for latents of this shape: always the same number; 1 to take each by itself."""
        ...

    def stack_conditions(self, conditions: Sequence[Any]) -> Any:
        """Conditions with a new first axis, tensors or tuples of tensors. A caption's part does not depend on the
        others."""
        ...


@runtime_checkable
class VideoGenerator(Protocol):
    """A model that can also make clips: for queries of its own."""

    @property
    def card(self) -> ModelCard: ...

    def sample(self, caption: str, *, seed: int = 0) -> npt.NDArray[np.uint8]:
        """A clip of the card's default specification, uint8 RGB (T, H, W, 3). The same seed gives the same clip."""
        ...
