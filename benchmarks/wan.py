"""A Wan transformer of any size with random weights behind the model protocol, without encoders: latents and captions
are random numbers. Needs torch and diffusers."""

from __future__ import annotations

from typing import Any

import torch

from motive_fo.clips.spec import ClipSpec, FrameRule
from motive_fo.models.base import Noised
from motive_fo.models.card import ModelCard, Strides

#: Wan2.1-T2V-1.3B as published.
WAN_1_3B = {
    "num_attention_heads": 12,
    "attention_head_dim": 128,
    "text_dim": 4096,
    "ffn_dim": 8960,
    "num_layers": 30,
}


class RandomWan:
    """See the module's text.

    Args:
        size: what ``WanTransformer3DModel`` takes; what is left out is as in Wan 2.1.
        spec: the clips it will be given.
        words: length of a caption's embedding.
    """

    def __init__(
        self,
        size: dict[str, Any],
        spec: ClipSpec,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        checkpointing: bool = False,
        words: int = 16,
    ) -> None:
        from diffusers import WanTransformer3DModel

        self.card = ModelCard("wan", Strides(4, 8, 8), FrameRule(4), 16, spec)
        self.device = torch.device(device)
        self.words = words
        torch.manual_seed(0)
        with torch.device(device):
            network = WanTransformer3DModel(
                in_channels=16,
                out_channels=16,
                freq_dim=256,
                cross_attn_norm=True,
                qk_norm="rms_norm_across_heads",
                **size,
            )
        # as from_pretrained does, which keeps a few small tensors in float32
        kept = network._keep_in_fp32_modules or []
        for name, parameter in network.named_parameters():
            if not any(part in name.split(".") for part in kept):
                parameter.data = parameter.data.to(dtype)
        self.network = network
        self.dtype = dtype
        if checkpointing:
            network.enable_gradient_checkpointing()

    def identity(self) -> dict[str, Any]:
        return {"name": "wan"}

    def encode_frames(self, frames_THW3: Any) -> torch.Tensor:
        return torch.randn(
            self.latent_shape(self.card.default_clip), generator=torch.Generator().manual_seed(int(frames_THW3 or 0))
        ).to(self.device)

    def encode_caption(self, caption: str) -> torch.Tensor:
        width = self.network.config.text_dim
        return torch.randn(1, self.words, width, generator=torch.Generator().manual_seed(2)).to(self.device, self.dtype)

    def latent_shape(self, spec: ClipSpec) -> tuple[int, ...]:
        return (1, 16, *self.card.grid(spec))

    def noise(self, x0: torch.Tensor, e: torch.Tensor, timestep: float) -> Noised:
        s = timestep / 1000
        moment = torch.tensor([timestep], dtype=torch.float32, device=self.device)
        return Noised((1 - s) * x0 + s * e, e - x0, moment)

    def predict(self, x_t: torch.Tensor, timestep: torch.Tensor, condition: Any) -> torch.Tensor:
        prediction: torch.Tensor = self.network(x_t.to(self.dtype), timestep, condition, return_dict=False)[0]
        return prediction

    def arrange_mask(self, mask_Fhw: torch.Tensor) -> torch.Tensor:
        return mask_Fhw[None, None]
