"""The embedded model behind the ``VideoModel`` protocol, and a sampler that makes clips with it.

The objective is flow matching: z = (1 - s) x0 + s e, target e - x0, timestep 1000 s. Everything runs in float32; the
weights are stored as float16 next to this module.

Shapes: T frames, H W pixels, F h w latent grid, B batch (always 1 here), C latent channels.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from motive_fo.clips.spec import ClipSpec
from motive_fo.errors import ConfigError, InputError, is_out_of_memory
from motive_fo.models.base import Noised
from motive_fo.models.card import ModelCard
from motive_fo.models.tiny.autoencoder import CHANNELS, Autoencoder
from motive_fo.models.tiny.card import CARD
from motive_fo.models.tiny.text import LENGTH, Caption, TextEncoder, tokenize
from motive_fo.models.tiny.transformer import STEPS, Transformer

WEIGHTS: Final = Path(__file__).with_name("weights.safetensors")
OBJECTIVE: Final = "flow-matching e-x0"
_WIDTH: Final = 8
_LARGEST_BATCHED: Final = 4 * CHANNELS * 5 * 8 * 8  # elements of a latent: four default clips


class Parts(nn.Module):
    """All weights of the model, under the names of the weights file."""

    def __init__(self) -> None:
        super().__init__()
        self.autoencoder = Autoencoder()
        self.text = TextEncoder(128)
        self.transformer = Transformer(128)


class TinyModel:
    """A text-to-video diffusion model of a few million parameters that runs on one CPU core.

    Args:
        parts: the networks, already on their device.
        weights_sha256: of the file the weights came from, or a text that says where they came from otherwise.
    """

    def __init__(self, parts: Parts, weights_sha256: str) -> None:
        self._parts = parts.float().eval().requires_grad_(False)
        self._parts.transformer.requires_grad_(True)
        self._weights_sha256 = weights_sha256

    @classmethod
    def random(cls, seed: int = 0, device: str | torch.device = "cpu") -> TinyModel:
        """An untrained model: the same weights for the same seed, whatever was drawn before."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            parts = Parts()
        return cls(parts.to(device), f"random:{seed}")

    def randomized(self, seed: int = 0) -> TinyModel:
        """A copy whose transformer is untrained, all else as it is: for randomisation checks."""
        other = TinyModel.random(seed, self.device)
        other._parts.autoencoder.load_state_dict(self._parts.autoencoder.state_dict())
        other._parts.text.load_state_dict(self._parts.text.state_dict())
        other._weights_sha256 = f"{self._weights_sha256}, transformer random:{seed}"
        return other

    def save(self, path: Path) -> None:
        """Write all weights, exactly, for ``load(weights=path)``."""
        from safetensors.torch import save_file

        state = {name: value.detach().cpu().contiguous() for name, value in self._parts.state_dict().items()}
        save_file(state, path, metadata={"model": CARD.name})

    @property
    def card(self) -> ModelCard:
        """Geometry and defaults."""
        return CARD

    @property
    def network(self) -> nn.Module:
        """The transformer alone; autoencoder and caption encoder are not attributed."""
        return self._parts.transformer

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._parts.transformer.patch_in.weight.device

    def identity(self) -> Mapping[str, Any]:
        """Name, objective and weight hash."""
        return {"name": CARD.name, "objective": OBJECTIVE, "weights_sha256": self._weights_sha256}

    @torch.no_grad()
    def encode_frames(self, frames_THW3: npt.NDArray[np.uint8]) -> torch.Tensor:
        """Clean latent (1, 16, F, H/8, W/8), zero mean and unit deviation over the training corpus."""
        return self.encode_clips(frames_THW3[None])

    @torch.no_grad()
    def encode_clips(self, frames_BTHW3: npt.NDArray[np.uint8]) -> torch.Tensor:
        """Clean latents (B, 16, F, H/8, W/8) of several clips of one shape."""
        frames, height, width = frames_BTHW3.shape[1:4]
        CARD.check(ClipSpec(start=0, fps=CARD.default_clip.fps, frames=frames, height=height, width=width))
        return self._parts.autoencoder.encode(to_video(frames_BTHW3).to(self.device))

    @torch.no_grad()
    def decode_latent(self, x0_1CFhw: torch.Tensor) -> npt.NDArray[np.uint8]:
        """uint8 RGB (T, H, W, 3) of a clean latent."""
        video = self._parts.autoencoder.decode(x0_1CFhw.to(self.device))[0]
        pixels = ((video.permute(1, 2, 3, 0) + 1) * 127.5).round().clamp(0, 255)
        frames: npt.NDArray[np.uint8] = pixels.to(torch.uint8).cpu().numpy()
        return frames

    @torch.no_grad()
    def encode_caption(self, caption: str) -> Caption:
        """Features of one caption of any length; words after the 31st are not read."""
        return self.encode_captions([caption])

    @torch.no_grad()
    def encode_captions(self, captions: Sequence[str]) -> Caption:
        """Features of several captions, for a batch of as many latents."""
        encoded: Caption = self._parts.text(tokenize(captions).to(self.device))
        return encoded

    def latent_shape(self, spec: ClipSpec) -> tuple[int, ...]:
        """(1, 16, F, h, w) of clips of this specification."""
        return (1, CHANNELS, *CARD.grid(spec))

    def noise(self, x0: torch.Tensor, e: torch.Tensor, timestep: float) -> Noised:
        """``Paper: Eq. 1`` for flow matching: z = (1 - s) x0 + s e, target e - x0, s = timestep / 1000."""
        if not 0 <= timestep <= STEPS:
            raise ConfigError(f"timestep must be between 0 (clean) and {STEPS:g} (noise), not {timestep}")
        s = timestep / STEPS
        level = torch.tensor([timestep], dtype=torch.float32, device=x0.device)
        return Noised((1 - s) * x0 + s * e, e - x0, level)

    def predict(self, x_t: torch.Tensor, timestep: torch.Tensor, condition: Any) -> torch.Tensor:
        """The velocity e - x0 as the network sees it."""
        prediction: torch.Tensor = self._parts.transformer(x_t, timestep, condition)
        return prediction

    def width(self, latent_shape: tuple[int, ...]) -> int:
        """``Choice:`` measured best on one core for clips of the default size; larger ones keep a core busy alone, and
        eight at once would need more memory."""
        return _WIDTH if math.prod(latent_shape) <= _LARGEST_BATCHED else 1

    def stack_conditions(self, conditions: Sequence[Caption]) -> Caption:
        """Captions (1, L, D) to (B, 1, ``LENGTH``, D): all of one length, so that none depends on the others'."""
        padded = [
            (
                functional.pad(each.tokens_BLD, (0, 0, 0, LENGTH - each.tokens_BLD.shape[1])),
                functional.pad(each.used_BL, (0, LENGTH - each.used_BL.shape[1])),
            )
            for each in conditions
        ]
        tokens, used = zip(*padded, strict=True)
        return Caption(torch.stack(tokens), torch.stack(used))

    def arrange_mask(self, mask_Fhw: torch.Tensor) -> torch.Tensor:
        """(1, 1, F, h, w): the same weight for every channel of a cell."""
        return mask_Fhw[None, None]

    @torch.no_grad()
    def sample(
        self, caption: str, spec: ClipSpec | None = None, *, seed: int = 0, steps: int = 24, guidance: float = 2.5
    ) -> npt.NDArray[np.uint8]:
        """Generate a clip, uint8 RGB (T, H, W, 3): Euler steps from noise to a clip.

        Args:
            caption: what to show.
            spec: how many frames of what size; the card's default clip if None.
            seed: of the noise.
            steps: Euler steps; more are slower and smoother.
            guidance: how far to go from the prediction without caption towards the one with it; 1 stops there.
        """
        shape = self.latent_shape(CARD.default_clip if spec is None else spec)
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(shape, generator=generator).to(self.device)
        wanted, free = self.encode_caption(caption), self.encode_caption("")
        share = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        # Larger steps where the clip is nearly clean, smaller ones where its layout is decided.
        levels = (3 * share / (1 + 2 * share)).tolist()
        for s, lower in pairwise(levels):
            level = torch.tensor([s * STEPS], dtype=torch.float32, device=self.device)
            velocity = self.predict(x, level, wanted)
            if guidance != 1:
                plain = self.predict(x, level, free)
                velocity = plain + guidance * (velocity - plain)
            x = x + (lower - s) * velocity
        return self.decode_latent(x)


def to_video(frames_BTHW3: npt.NDArray[np.uint8]) -> torch.Tensor:
    """uint8 RGB to float32 (B, 3, T, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames_BTHW3)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def load(device: str | torch.device = "cpu", weights: Path | None = None) -> TinyModel:
    """The trained model.

    Args:
        device: where it runs.
        weights: another weights file of the same shapes; the one that comes with the package if None.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as parse

    path = WEIGHTS if weights is None else weights
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"the embedded model's weights cannot be read from {path} ({error.strerror}): install the package again, "
            "or train them with scripts/train_tiny.py"
        ) from error
    parts = Parts()
    try:
        stored = {name: value.float() for name, value in parse(data).items()}
        parts.load_state_dict(stored)
    except (SafetensorError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"{path} does not hold weights of this version of the embedded model: install the package again, or train "
            f"them with scripts/train_tiny.py ({str(error).splitlines()[0]})"
        ) from error
    return TinyModel(parts.to(device), hashlib.sha256(data).hexdigest())
