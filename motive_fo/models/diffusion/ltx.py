"""LTX-Video: the network takes packed tokens and is told the frame rate.

Outside the network a latent is (B, C, F, h, w), so that masks and noise need no packing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from motive_fo.models.card import ModelCard, Strides
from motive_fo.models.diffusion.folder import ModelFolder
from motive_fo.models.diffusion.model import Condition, DiffusersModel, geometry

if TYPE_CHECKING:
    import torch

    from motive_fo.clips.spec import ClipSpec


class LTXModel(DiffusersModel):
    """``LTXPipeline``."""

    family: ClassVar[str] = "ltx"
    pipeline_class: ClassVar[str] = "LTXPipeline"
    tokens: ClassVar[int] = 128

    @classmethod
    def card_of(cls, folder: ModelFolder) -> ModelCard:
        vae, network = folder.config("vae"), folder.config("transformer")
        doubling = 2 ** sum(vae.get("spatio_temporal_scaling", (True, True, True, False)))
        time = vae.get("temporal_compression_ratio") or vae.get("patch_size_t", 1) * doubling
        space = vae.get("spatial_compression_ratio") or vae.get("patch_size", 4) * doubling
        return geometry(
            folder.name,
            Strides(time, space, space),
            patch=network.get("patch_size", 1),
            patch_time=network.get("patch_size_t", 1),
            frames=161,
            height=512,
            width=704,
            fps=25,
        )

    def normalized(self, z: torch.Tensor, vae: Any) -> torch.Tensor:
        normal: torch.Tensor = self._pipeline_type()._normalize_latents(
            z, vae.latents_mean, vae.latents_std, vae.config.scaling_factor
        )
        return normal

    def encoded_prompt(self, pipeline: Any, caption: str) -> dict[str, torch.Tensor]:
        embeds, attend, _, _ = pipeline.encode_prompt(
            caption, do_classifier_free_guidance=False, max_sequence_length=self.tokens, device=self.device
        )
        return {"embeds": embeds, "attend": attend}

    def predict(self, x_t: torch.Tensor, timestep: torch.Tensor, condition: Condition) -> torch.Tensor:
        network: Any = self.network
        pipeline = self._pipeline_type()
        patch, patch_time = network.config.patch_size, network.config.patch_size_t
        frames, height, width = x_t.shape[2:]
        strides = self.card.strides
        packed = network(
            hidden_states=pipeline._pack_latents(x_t, patch, patch_time).to(network.dtype),
            encoder_hidden_states=condition["embeds"].to(network.dtype),
            timestep=timestep,
            encoder_attention_mask=condition["attend"],
            num_frames=frames,
            height=height,
            width=width,
            rope_interpolation_scale=(strides.time / self._fps, strides.height, strides.width),
            return_dict=False,
        )[0]
        prediction: torch.Tensor = pipeline._unpack_latents(
            packed, frames // patch_time, height // patch, width // patch, patch, patch_time
        )
        return prediction

    def generation(self, spec: ClipSpec) -> dict[str, Any]:
        return {"frame_rate": spec.fps}
