"""HunyuanVideo: two text encoders, and a guidance value where the network was distilled with one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from motive_fo.models.card import ModelCard, Strides
from motive_fo.models.diffusion.folder import ModelFolder
from motive_fo.models.diffusion.model import Condition, DiffusersModel, geometry

if TYPE_CHECKING:
    import torch

#: the guidance a distilled network is trained on with the ordinary loss: none (its pipeline multiplies by 1000).
_GUIDANCE: Final = 1.0 * 1000


class HunyuanVideoModel(DiffusersModel):
    """``HunyuanVideoPipeline``."""

    family: ClassVar[str] = "hunyuanvideo"
    pipeline_class: ClassVar[str] = "HunyuanVideoPipeline"
    text_parts: ClassVar[tuple[str, ...]] = ("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2")
    tokens: ClassVar[int] = 256

    @classmethod
    def card_of(cls, folder: ModelFolder) -> ModelCard:
        vae, network = folder.config("vae"), folder.config("transformer")
        space = vae.get("spatial_compression_ratio", 8)
        return geometry(
            folder.name,
            Strides(vae.get("temporal_compression_ratio", 4), space, space),
            patch=network.get("patch_size", 2),
            patch_time=network.get("patch_size_t", 1),
            frames=129,
            height=720,
            width=1280,
            fps=24,
        )

    def prepared_vae(self, vae: Any) -> Any:
        vae.enable_tiling()  # a clip of the default size does not fit otherwise; smaller frames are not cut
        return vae

    def normalized(self, z: torch.Tensor, vae: Any) -> torch.Tensor:
        return z * float(vae.config.scaling_factor)

    def encoded_prompt(self, pipeline: Any, caption: str) -> dict[str, torch.Tensor]:
        embeds, pooled, attend = pipeline.encode_prompt(caption, max_sequence_length=self.tokens, device=self.device)
        return {"embeds": embeds, "pooled": pooled, "attend": attend}

    def predict(self, x_t: torch.Tensor, timestep: torch.Tensor, condition: Condition) -> torch.Tensor:
        import torch

        network: Any = self.network
        told = {name: value.to(network.dtype) for name, value in condition.items()}
        prediction: torch.Tensor = network(
            hidden_states=x_t.to(network.dtype),
            timestep=timestep,
            encoder_hidden_states=told["embeds"],
            encoder_attention_mask=told["attend"],
            pooled_projections=told["pooled"],
            guidance=torch.full((1,), _GUIDANCE, dtype=network.dtype, device=x_t.device),
            return_dict=False,
        )[0]
        return prediction
