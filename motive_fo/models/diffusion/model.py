"""What all diffusers video models share: loading, encoding by the pipeline's own rules, noising, prediction, identity.

A family (Wan, LTX, ...) is a class in a file of its own that says where it differs. Parts are loaded when they are
needed, and the encoders can be let go: the text encoder of Wan is four times its smallest network. This module imports
torch and diffusers only where something is loaded, so that a card costs nothing.

Shapes: B batch (always 1), C latent channels, F h w latent grid, T frames, H W pixels. Latents are (B, C, F, h, w) in
every family but CogVideoX, whatever the network itself takes.
"""

from __future__ import annotations

import gc
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from motive_fo.clips.spec import ClipSpec, FrameRule
from motive_fo.errors import ConfigError, InputError, MissingDependencyError
from motive_fo.models.card import ModelCard, Strides
from motive_fo.models.diffusion.folder import ModelFolder
from motive_fo.models.diffusion.weights import digest_files, digest_settings

if TYPE_CHECKING:
    import torch

    from motive_fo.models.base import Noised
    from motive_fo.models.offload import BlockOffload

#: steps of every training schedule here: timestep 1000 is noise.
STEPS: Final = 1000.0
#: networks with more parameters keep no activations, but compute them again in the backward pass.
_LARGE: Final = 100_000_000
#: activations of one block, in rows of its tokens' width.
_ACTIVATIONS: Final = 46
_UNIMPORTANT: Final = ("_name_or_path", "_diffusers_version", "transformers_version")

Condition = Mapping[str, "torch.Tensor"]


class DiffusersModel(ABC):
    """A pipeline's networks behind the protocols ``VideoModel``, ``StagedModel`` and ``VideoGenerator``.

    Args:
        folder: the pipeline.
        device: where it runs.
        precision: of network and text encoder; ``auto`` is bfloat16 on a GPU and float32 elsewhere. The autoencoder
            always runs in float32 (``Choice:`` its rounding would be in every gradient, and it runs once per clip).
        checkpointing: whether activations are computed again in the backward pass; ``auto`` for large networks.
        timesteps: the timesteps that will be asked for; they choose the expert of a model that has several.
        fps: frame rate of the clips, for models that are told it; the card's where open.
        offload: whether the network's blocks wait in main memory; ``auto`` where its weights and what a clip needs are
            more than the GPU has free. Activations are then computed again.
        clip: the clips that will be given, for ``auto``; the card's where open.

    Raises:
        MotiveError: a package is missing, the folder is incomplete, or the settings do not fit.
    """

    family: ClassVar[str]
    pipeline_class: ClassVar[str]
    objective: ClassVar[str] = "flow-matching e-x0"
    #: parts that make a caption a condition, in the pipeline's own names.
    text_parts: ClassVar[tuple[str, ...]] = ("tokenizer", "text_encoder")
    #: tokens of a caption, as the pipeline's own call has it.
    tokens: ClassVar[int]
    #: whether the pipeline hands its latents over to an autoencoder of another precision.
    decodes_exactly: ClassVar[bool] = True

    def __init__(
        self,
        folder: ModelFolder,
        device: str = "cpu",
        *,
        precision: str = "auto",
        checkpointing: str = "auto",
        timesteps: Iterable[float] = (),
        fps: float | None = None,
        offload: str = "off",
        clip: ClipSpec | None = None,
    ) -> None:
        import torch

        require_packages()
        self.folder = folder
        self._card = self.card_of(folder)
        self._device = torch.device(device)
        self._precision = settle_precision(precision, device)
        self._checkpointing = checkpointing
        self._fps = self._card.default_clip.fps if fps is None else fps
        if offload == "on" and checkpointing == "off":
            raise ConfigError("offload takes a network that computes activations again: leave checkpointing at auto")
        self._offload = offload
        self._clip = self._card.default_clip if clip is None else clip
        self._blocks: BlockOffload | None = None
        self._part = self.network_part(folder, tuple(timesteps))
        self._network: torch.nn.Module | None = None
        self._outline: torch.nn.Module | None = None
        self._encoders: dict[str, Any] = {}
        self._identity: dict[str, Any] | None = None
        self._encoder_identity: dict[str, dict[str, Any]] | None = None
        for part in self.weighty_parts(folder):
            folder.weights(part)  # what is missing is said now, not in an hour

    # -- what a family says -------------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def card_of(cls, folder: ModelFolder) -> ModelCard:
        """Geometry and default clip, from the settings files alone."""

    @classmethod
    def network_part(cls, folder: ModelFolder, timesteps: tuple[float, ...]) -> str:
        """Which part of the pipeline is attributed at these timesteps."""
        return "transformer"

    @classmethod
    def weighty_parts(cls, folder: ModelFolder) -> list[str]:
        """Parts with weights, as far as the folder has them."""
        names = ("transformer", "transformer_2", "vae", *(p for p in cls.text_parts if p.startswith("text_encoder")))
        return [part for part in names if folder.has(part)]

    @abstractmethod
    def normalized(self, z: torch.Tensor, vae: Any) -> torch.Tensor:
        """The autoencoder's latent (B, C, F, h, w) as the network knows it, in the family's layout."""

    @abstractmethod
    def encoded_prompt(self, pipeline: Any, caption: str) -> dict[str, torch.Tensor]:
        """What the pipeline's own ``encode_prompt`` makes of a caption, without guidance, by names of ours."""

    @abstractmethod
    def predict(self, x_t: torch.Tensor, timestep: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The network's prediction, in the target's layout."""

    def generation(self, spec: ClipSpec) -> dict[str, Any]:
        """Further arguments of the pipeline's own call."""
        return {}

    # -- protocol -----------------------------------------------------------------------------------------------------

    @property
    def card(self) -> ModelCard:
        """Geometry and default clip."""
        return self._card

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self._device

    @property
    def network(self) -> torch.nn.Module:
        """The denoiser. Loaded when it is first asked for."""
        from motive_fo.models.offload import BlockOffload

        if self._network is None:
            offloaded = self._does_not_fit()
            network = self._loaded(self._part, self._precision, "cpu" if offloaded else None)
            on = self._checkpointing == "on" or (
                self._checkpointing == "auto" and sum(p.numel() for p in network.parameters()) > _LARGE
            )
            if on or offloaded:
                network.enable_gradient_checkpointing()  # diffusers' own, without re-entry
            if offloaded:
                self._blocks = BlockOffload(network, self._device)
            self._network = network.requires_grad_(True)
        if self._blocks is None:
            return self._network.to(self._device)
        self._blocks.come()
        return self._network

    def _does_not_fit(self) -> bool:
        """Whether the network's blocks are to wait in main memory."""
        from motive_fo.models.offload import free_memory

        free = free_memory(self._device) if self._offload == "auto" and self._checkpointing != "off" else None
        return self._offload == "on" or (free is not None and sum(self.needs(self._clip)) > free)

    def needs(self, clip: ClipSpec) -> tuple[int, int]:
        """Bytes of the network's weights, and about what the gradient of such a clip needs beside them.

        ``Choice:`` with checkpointing one row of tokens for each block, and for the block that is computed again the
        activations (46 rows measured in Wan) twice, for their gradients. Wan2.1-T2V-1.3B at 81x480x832: 2.8 + 12.3 GB.
        """
        from motive_fo.models.offload import blocks_of

        network: Any = self.outline()
        size = 2 if self._precision == "bfloat16" else 4
        config = network.config  # what the file leaves out has the class's own value
        patch = config.get("patch_size") or 1
        cells = np.prod(patch) if isinstance(patch, list | tuple) else patch**2 * (config.get("patch_size_t") or 1)
        tokens = int(np.prod(self._card.grid(clip)) / cells)
        width = int(config.num_attention_heads) * int(config.attention_head_dim)
        rows = len(blocks_of(network)) + 2 * _ACTIVATIONS
        return sum(p.numel() for p in network.parameters()) * size, tokens * width * size * rows

    def outline(self) -> torch.nn.Module:
        """The denoiser without weights: the names and shapes of its parameters cost nothing."""
        import torch

        if self._network is not None:
            return self._network
        if self._outline is None:
            with torch.device("meta"):
                self._outline = self._class(self._part).from_config(self.folder.config(self._part))
        assert self._outline is not None
        return self._outline

    def identity(self) -> Mapping[str, Any]:
        """Family, objective, precision, classes, settings and the sums of all weights that matter to a gradient."""
        if self._identity is None:
            self._identity = {
                "name": self.family,
                "objective": self.objective,
                "precision": self._precision,
                "part": self._part,
                "network": self._described(self._part),
                **self.encoder_identity(),
            }
        return self._identity

    def encoder_identity(self) -> Mapping[str, Mapping[str, Any]]:
        """What latents (``video``) and conditions (``caption``) depend on."""
        if self._encoder_identity is None:
            text: dict[str, Any] = {"precision": self._precision, "tokens": self.tokens}
            for part in self.text_parts:
                if part.startswith("tokenizer"):
                    files = (p for p in self.folder.path(part).iterdir() if p.suffix in (".json", ".txt", ".model"))
                    text[part] = digest_files(sorted(files))
                else:
                    text[part] = self._described(part)
            self._encoder_identity = {"video": {"family": self.family, "vae": self._described("vae")}, "caption": text}
        return self._encoder_identity

    def encode_frames(self, frames_THW3: npt.NDArray[np.uint8]) -> torch.Tensor:
        """Clean latent, float32: the mode of the autoencoder's posterior, normalised as the pipeline does."""
        import torch

        count, height, width = frames_THW3.shape[:3]
        self._card.check(ClipSpec(start=0, fps=self._fps, frames=count, height=height, width=width))
        vae = self._encoder("vae")
        with torch.no_grad():
            video = torch.from_numpy(np.ascontiguousarray(frames_THW3)).to(self._device)
            video_1CTHW = (video.permute(3, 0, 1, 2)[None].float() / 127.5 - 1).to(vae.dtype)
            return self.normalized(vae.encode(video_1CTHW).latent_dist.mode().float(), vae).contiguous()

    def encode_caption(self, caption: str) -> Condition:
        """Condition of one caption, on the model's device."""
        import torch

        with torch.no_grad():
            return self.encoded_prompt(self._encoder("text"), caption)

    def make_room(self) -> None:
        """Let the network wait in main memory, as it is, while the encoders work."""
        if self._blocks is not None:
            self._blocks.leave()
        elif self._network is not None:
            self._network.to("cpu")
        self._tidy()

    def leave_encoders(self) -> None:
        """Let autoencoder and text encoder go; they are loaded again where something has to be encoded."""
        self._encoders.clear()
        self._tidy()

    def _tidy(self) -> None:
        import torch

        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def latent_shape(self, spec: ClipSpec) -> tuple[int, ...]:
        """(1, C, F, h, w) of clips of this specification."""
        return (1, int(self.folder.config(self._part)["in_channels"]), *self._card.grid(spec))

    def noise(self, x0: torch.Tensor, e: torch.Tensor, timestep: float) -> Noised:
        """``Paper: Eq. 1`` for flow matching: z = (1 - s) x0 + s e, target e - x0, s = timestep / 1000."""
        import torch

        from motive_fo.models.base import Noised

        check_timestep(timestep)
        s = timestep / STEPS
        level = torch.tensor([timestep], dtype=torch.float32, device=x0.device)
        return Noised((1 - s) * x0 + s * e, e - x0, level)

    def arrange_mask(self, mask_Fhw: torch.Tensor) -> torch.Tensor:
        """(1, 1, F, h, w): the same weight for every channel of a cell."""
        return mask_Fhw[None, None]

    def sample(
        self,
        caption: str,
        spec: ClipSpec | None = None,
        *,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> npt.NDArray[np.uint8]:
        """A clip, uint8 RGB (T, H, W, 3), by the pipeline's own call with its own defaults.

        Args:
            caption: what to show.
            spec: how many frames of what size; the card's default clip if None.
            seed: of the noise.
            steps, guidance: of the pipeline; its own defaults if None.
        """
        import torch

        spec = self._card.default_clip if spec is None else spec
        self._card.check(spec)
        given = {"num_inference_steps": steps, "guidance_scale": guidance}
        arguments = {"num_frames": spec.frames, **self.generation(spec)}
        frames_THW3 = self.pipeline()(
            prompt=caption,
            height=spec.height,
            width=spec.width,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="np",
            **arguments,
            **{name: value for name, value in given.items() if value is not None},
        ).frames[0]
        made: npt.NDArray[np.uint8] = (frames_THW3[: spec.frames] * 255).round().clip(0, 255).astype(np.uint8)
        return made

    # -- parts --------------------------------------------------------------------------------------------------------

    def pipeline(self) -> Any:
        """The whole pipeline with this model's parts, all on its device."""
        parts: dict[str, Any] = {}
        for part, entry in self.folder.index.items():
            if not isinstance(entry, list):
                if not part.startswith("_"):
                    parts[part] = entry
            elif not self.folder.has(part):
                parts[part] = None
            elif part == self._part:
                parts[part] = self.network
            elif part == "vae":
                same = self.decodes_exactly or self._precision == "float32"
                parts[part] = self._encoder("vae") if same else self._loaded("vae", self._precision)
            elif part in self.text_parts:
                parts[part] = getattr(self._encoder("text"), part)
            elif part == "scheduler":
                parts[part] = self._class(part).from_pretrained(self.folder.path(part))
            else:
                parts[part] = self._loaded(part, self._precision)
        made = self._pipeline_type()(**parts)
        made.set_progress_bar_config(disable=True)
        return made

    def _encoder(self, name: str) -> Any:
        """The autoencoder (``vae``), or a pipeline that has nothing but what captions need (``text``)."""
        if name not in self._encoders:
            if name == "vae":
                self._encoders[name] = self.prepared_vae(self._loaded("vae", "float32"))
            else:
                parts = dict.fromkeys(key for key, entry in self.folder.index.items() if isinstance(entry, list))
                parts.update({part: self._loaded(part, self._precision) for part in self.text_parts})
                self._encoders[name] = self._pipeline_type()(**parts)
        return self._encoders[name]

    def prepared_vae(self, vae: Any) -> Any:
        """The autoencoder, set up as this family's should be."""
        return vae

    def _pipeline_type(self) -> Any:
        import diffusers

        return getattr(diffusers, self.pipeline_class)

    def _class(self, part: str) -> Any:
        import diffusers
        import transformers

        library, name = self.folder.class_of(part)
        module = diffusers if library == "diffusers" else transformers
        found = getattr(module, name, None)
        if found is None:
            raise MissingDependencyError(
                f"{self.folder.name} needs {library}.{name}, which {library} {module.__version__} lacks: "
                f"pip install -U {library}"
            )
        return found

    def _loaded(self, part: str, precision: str, device: str | None = None) -> Any:
        import torch

        _hush()
        made = self._class(part)
        path = self.folder.path(part)
        if part.startswith("tokenizer"):
            return made.from_pretrained(path, local_files_only=True)
        self.folder.weights(part)  # refuses pickles before anything is read
        # transformers renamed the argument in version 5 and takes the old name with a warning; diffusers keeps it
        named = "torch_dtype" if self.folder.class_of(part)[0] == "diffusers" else "dtype"
        try:
            loaded = made.from_pretrained(
                path, use_safetensors=True, local_files_only=True, **{named: getattr(torch, precision)}
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path} cannot be loaded as {made.__name__} ({reason}): download it again") from error
        return loaded.to(device or self._device).eval().requires_grad_(False)

    def _described(self, part: str) -> dict[str, Any]:
        """Class, settings and sum of a part's weights. The settings of encoders, which are long, by their digest."""
        config = {key: value for key, value in self.folder.config(part).items() if key not in _UNIMPORTANT}
        return {
            "class": self.folder.class_of(part)[1],
            "config": config if part == self._part else digest_settings(config),
            "sha256": digest_files(self.folder.weights(part)),
        }


def _hush() -> None:
    """No bars of their own: progress goes through the caller's."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


def settle_precision(precision: str, device: str) -> str:
    """``auto`` by the device: bfloat16 on a GPU, float32 elsewhere."""
    if precision != "auto":
        return precision
    return "bfloat16" if device.startswith("cuda") else "float32"


def check_timestep(timestep: float) -> None:
    """Raise ``ConfigError`` for a timestep outside the schedule."""
    if not 0 <= timestep <= STEPS:
        raise ConfigError(f"timestep must be between 0 (clean) and {STEPS:g} (noise), not {timestep}")


def require_packages() -> None:
    """Raise ``MissingDependencyError`` unless diffusers, transformers and accelerate are there."""
    from importlib.util import find_spec

    missing = [name for name in ("diffusers", "transformers", "accelerate") if find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"models in diffusers' folders need {' and '.join(missing)}: pip install 'motive-fo[diffusers]'"
        )


def geometry(
    name: str,
    strides: Strides,
    *,
    patch: int,
    patch_time: int = 1,
    frames: int,
    height: int,
    width: int,
    fps: float,
) -> ModelCard:
    """A card from strides and the network's patches.

    Args:
        patch, patch_time: latent cells of one token, in each direction of space and in time.
        frames, height, width, fps: the clip the model was trained on, made to fit its own rules.
    """
    # F latent frames are strides.time (F - 1) + 1 frames, and F must be a multiple of patch_time
    rule = FrameRule(strides.time * patch_time, strides.time * (patch_time - 1) + 1)
    multiple = max(strides.height, strides.width) * patch
    fitting = rule.below(frames) or rule.multiple + rule.offset
    default = ClipSpec(
        start=0,
        fps=fps,
        frames=fitting,
        height=max(multiple, height // multiple * multiple),
        width=max(multiple, width // multiple * multiple),
    )
    return ModelCard(name, strides, rule, multiple, default)


def channels(values: Iterable[float], like: torch.Tensor) -> torch.Tensor:
    """Values per channel, shaped to go with a latent (B, C, F, h, w)."""
    import torch

    return torch.tensor(list(values), dtype=like.dtype, device=like.device).reshape(1, -1, 1, 1, 1)
