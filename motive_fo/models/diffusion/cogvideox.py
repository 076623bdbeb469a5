"""CogVideoX 1.0 and 1.5: v-prediction, whole timesteps, latents with frames before channels (B, F, C, h, w).

1.5 takes two latent frames to a token. Its pipeline pads an odd number of them; here the clip must have an even one
(8n+5 frames), so that no frame that was never there enters a gradient.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from motive_fo.errors import ConfigError
from motive_fo.models.card import ModelCard, Strides
from motive_fo.models.diffusion.folder import ModelFolder
from motive_fo.models.diffusion.model import STEPS, Condition, DiffusersModel, check_timestep, geometry

if TYPE_CHECKING:
    import torch

    from motive_fo.clips.spec import ClipSpec
    from motive_fo.models.base import Noised


class CogVideoXModel(DiffusersModel):
    """``CogVideoXPipeline``."""

    family: ClassVar[str] = "cogvideox"
    pipeline_class: ClassVar[str] = "CogVideoXPipeline"
    objective: ClassVar[str] = "v-prediction"
    tokens: ClassVar[int] = 226
    decodes_exactly: ClassVar[bool] = False
    _schedule: torch.Tensor | None = None

    @classmethod
    def card_of(cls, folder: ModelFolder) -> ModelCard:
        vae, network = folder.config("vae"), folder.config("transformer")
        prediction = folder.config("scheduler").get("prediction_type", "epsilon")
        if prediction != "v_prediction":
            raise ConfigError(
                f"{folder.name} predicts {prediction!r}; CogVideoX is attributed where it predicts v: "
                "set prediction_type to v_prediction in scheduler_config.json if that is what it was trained for"
            )
        space = 2 ** (len(vae.get("block_out_channels", (128, 256, 256, 512))) - 1)
        pairs = network.get("patch_size_t")
        return geometry(
            folder.name,
            Strides(int(vae.get("temporal_compression_ratio", 4)), space, space),
            patch=network.get("patch_size", 2),
            patch_time=pairs or 1,
            frames=network.get("sample_frames", 49),
            height=network.get("sample_height", 60) * space,
            width=network.get("sample_width", 90) * space,
            fps=16 if pairs else 8,
        )

    def latent_shape(self, spec: ClipSpec) -> tuple[int, ...]:
        """(1, F, C, h, w)."""
        _, channels, frames, height, width = super().latent_shape(spec)
        return (1, frames, channels, height, width)

    def arrange_mask(self, mask_Fhw: torch.Tensor) -> torch.Tensor:
        """(1, F, 1, h, w)."""
        return mask_Fhw[None, :, None]

    def normalized(self, z: torch.Tensor, vae: Any) -> torch.Tensor:
        return (z * float(vae.config.scaling_factor)).transpose(1, 2)

    def encoded_prompt(self, pipeline: Any, caption: str) -> dict[str, torch.Tensor]:
        embeds, _ = pipeline.encode_prompt(
            caption, do_classifier_free_guidance=False, max_sequence_length=self.tokens, device=self.device
        )
        return {"embeds": embeds}

    def noise(self, x0: torch.Tensor, e: torch.Tensor, timestep: float) -> Noised:
        """x_t = sqrt(a) x0 + sqrt(1-a) e, target v = sqrt(a) e - sqrt(1-a) x0, at the nearest whole timestep."""
        import torch

        from motive_fo.models.base import Noised

        check_timestep(timestep)
        step = min(round(timestep), int(STEPS) - 1)
        kept = self._signal_left()[step].to(x0.device)
        signal, rest = kept.sqrt(), (1 - kept).sqrt()
        level = torch.tensor([float(step)], dtype=torch.float32, device=x0.device)
        return Noised(signal * x0 + rest * e, signal * e - rest * x0, level)

    def _signal_left(self) -> torch.Tensor:
        """The share of the signal's power that is left at each step, as the pipeline's scheduler has it."""
        if self._schedule is None:
            scheduler = self._class("scheduler").from_pretrained(self.folder.path("scheduler"))
            self._schedule = scheduler.alphas_cumprod.float()
        return self._schedule

    def predict(self, x_t: torch.Tensor, timestep: torch.Tensor, condition: Condition) -> torch.Tensor:
        network: Any = self.network
        prediction: torch.Tensor = network(
            hidden_states=x_t.to(network.dtype),
            encoder_hidden_states=condition["embeds"].to(network.dtype),
            timestep=timestep,
            image_rotary_emb=self._rotary(x_t) if network.config.use_rotary_positional_embeddings else None,
            return_dict=False,
        )[0]
        return prediction

    def _rotary(self, x_t: torch.Tensor) -> Any:
        """Position embeddings as the pipeline makes them; it needs no more of itself than these two."""
        strides = self.card.strides
        _, frames, _, height, width = x_t.shape
        own = SimpleNamespace(transformer=self.network, vae_scale_factor_spatial=strides.height)
        return self._pipeline_type()._prepare_rotary_positional_embeddings(
            own, height * strides.height, width * strides.width, frames, x_t.device
        )

    def generation(self, spec: ClipSpec) -> dict[str, Any]:
        # the decoder of 1.5 wants the odd number of latent frames that its pipeline pads: the last frames are cut off
        pairs = self.folder.config("transformer").get("patch_size_t")
        return {"num_frames": spec.frames + self.card.strides.time} if pairs else {}
