"""Wan 2.1 and 2.2, text to video: T2V-1.3B and 14B, TI2V-5B with a time for every token, A14B with two experts.

The two experts of A14B share the schedule: ``transformer`` has the timesteps from the boundary up, ``transformer_2``
those below (``boundary_ratio`` in ``model_index.json``). ``Choice:`` a run attributes one of them, the one that its
timesteps belong to; a gradient over both would be zero in one half. Timesteps on both sides are two runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from motive_fo.errors import ConfigError
from motive_fo.models.card import ModelCard, Strides
from motive_fo.models.diffusion.folder import ModelFolder
from motive_fo.models.diffusion.model import STEPS, Condition, DiffusersModel, channels, geometry

if TYPE_CHECKING:
    import torch


class WanModel(DiffusersModel):
    """``WanPipeline``."""

    family: ClassVar[str] = "wan"
    pipeline_class: ClassVar[str] = "WanPipeline"
    tokens: ClassVar[int] = 512

    @classmethod
    def card_of(cls, folder: ModelFolder) -> ModelCard:
        vae = folder.config("vae")
        # what the files of Wan 2.1 leave out has these values in diffusers' class
        halvings = len(vae.get("dim_mult", (1, 2, 4, 4))) - 1
        time = 2 ** sum(vae.get("temperal_downsample", (False, True, True)))
        space = 2**halvings * (vae.get("patch_size") or 1)
        patch_time, patch, _ = folder.config("transformer").get("patch_size", (1, 2, 2))
        large = bool(folder.index.get("expand_timesteps"))  # TI2V-5B is trained on 121 frames of 704x1280 at 24 fps
        return geometry(
            folder.name,
            Strides(time, space, space),
            patch=patch,
            patch_time=patch_time,
            frames=121 if large else 81,
            height=704 if large else 480,
            width=1280 if large else 832,
            fps=24 if large else 16,
        )

    @classmethod
    def network_part(cls, folder: ModelFolder, timesteps: tuple[float, ...]) -> str:
        ratio = folder.index.get("boundary_ratio")
        if ratio is None or not folder.has("transformer_2"):
            return "transformer"
        boundary = float(ratio) * STEPS
        above = [t for t in timesteps if t >= boundary]
        below = [t for t in timesteps if t < boundary]
        if above and below:
            raise ConfigError(
                f"{folder.name} has two experts, one for timesteps from {boundary:g} up and one below: "
                f"{above[0]:g} and {below[0]:g} are on both sides; make a run for each side"
            )
        return "transformer_2" if below else "transformer"

    def normalized(self, z: torch.Tensor, vae: Any) -> torch.Tensor:
        return (z - channels(vae.config.latents_mean, z)) / channels(vae.config.latents_std, z)

    def encoded_prompt(self, pipeline: Any, caption: str) -> dict[str, torch.Tensor]:
        embeds, _ = pipeline.encode_prompt(
            caption, do_classifier_free_guidance=False, max_sequence_length=self.tokens, device=self.device
        )
        return {"embeds": embeds}

    def predict(self, x_t: torch.Tensor, timestep: torch.Tensor, condition: Condition) -> torch.Tensor:
        self._require_side(float(timestep))
        network: Any = self.network
        if self.folder.index.get("expand_timesteps"):
            _, patch_height, patch_width = network.config.patch_size
            timestep = timestep.expand(x_t[0, 0, :, ::patch_height, ::patch_width].numel())[None]
        prediction: torch.Tensor = network(
            hidden_states=x_t.to(network.dtype),
            timestep=timestep,
            encoder_hidden_states=condition["embeds"].to(network.dtype),
            return_dict=False,
        )[0]
        return prediction

    def _require_side(self, timestep: float) -> None:
        responsible = self.network_part(self.folder, (timestep,))
        if responsible != self._part:
            raise ConfigError(
                f"timestep {timestep:g} belongs to {responsible} of {self.folder.name}, the model was loaded with "
                f"{self._part}: name the timesteps when loading it"
            )
