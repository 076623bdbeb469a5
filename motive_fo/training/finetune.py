"""A plain reference trainer: any model behind our protocol that can be saved, on clips as they were scored.

It is there to close the loop on one machine, and to be read. Every step shows ``batch`` clips, one forward and backward
pass each, gradients added up; AdamW; the model's own noising and target; no motion mask. Noise levels are logit-normal.
Order and noise of step n depend on seed and n alone, so that a stopped training ends where an unstopped one does, and
sets of clips are compared at equal steps and equal noise.

What a training of FOLDER keeps until it is complete lies in ``.FOLDER.motive-part`` beside it (``exporters.folder``);
FOLDER itself is complete or absent.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from motive_fo.attribution.loss import motion_weighted_loss
from motive_fo.clips.messages import Request
from motive_fo.clips.spec import ClipSpec
from motive_fo.clips.worker import DecodePool, decode_ahead
from motive_fo.config import plain
from motive_fo.errors import ClipError, ConfigError, InputError, MissingDependencyError, MotiveError
from motive_fo.exporters.folder import Staging, staged, write_text
from motive_fo.models.base import StagedModel, VideoModel
from motive_fo.models.diffusion.model import DiffusersModel, settle_precision
from motive_fo.models.finetuned import FORMAT, MARK, TINY_WEIGHTS, read_mark
from motive_fo.models.registry import load_model
from motive_fo.models.tiny.model import TinyModel
from motive_fo.pipeline.record import ClipRecord, version_of
from motive_fo.progress import Progress, silent
from motive_fo.store.identity import provenance
from motive_fo.training.settings import FinetuneConfig

_STATE: Final = "state.pt"
#: share of the steps drawn evenly over the schedule, so that no level is forgotten.
_EVEN: Final = 0.2
#: share of the first and of the last steps whose mean loss is reported.
_TELLING: Final = 0.1
_LORA_TARGETS: Final = ["to_q", "to_k", "to_v", "to_out.0"]


@dataclass(frozen=True)
class FinetuneReport:
    """A finished training.

    Attributes:
        folder: absolute path of the model: ``--model FOLDER``.
        clips: clips it was trained on.
        failed: clip id -> why it was left out.
        steps, passes: training steps, and how often they showed each clip.
        first_loss, last_loss: mean loss of the first and of the last tenth of the steps.
        seconds: time of the training steps.
        resumed_at: step an earlier call had reached, 0 where there was none.
        unchanged: the folder held this very model already; nothing was done.
    """

    folder: str
    clips: int
    failed: Mapping[str, str]
    steps: int
    passes: float
    first_loss: float
    last_loss: float
    seconds: float
    resumed_at: int = 0
    unchanged: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass
class _Examples:
    """Clips as the network sees them, on the CPU."""

    ids: list[str] = field(default_factory=list)
    latents: list[torch.Tensor] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    conditions: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def finetune_clips(
    records: Sequence[ClipRecord],
    folder: str | Path,
    model: str = "tiny",
    *,
    clip: Mapping[str, Any] | None = None,
    config: FinetuneConfig | None = None,
    overwrite: bool = False,
    about: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> FinetuneReport:
    """Fine-tune a model on clips and write it as a folder that is a model again.

    A clip that cannot be decoded or encoded is named in the report and left out. The same call again after a stop goes
    on from the last saved step, and after its end changes nothing.

    Args:
        records: the clips.
        folder: new, empty, or an earlier model of ours with ``overwrite``.
        model: the embedded one, a folder or hub repository of diffusers', or one that was fine-tuned before.
        clip: clip specification of an export; the model's default where open.
        config: how it is trained.
        about: more to say in the model's record, such as the source of the clips.

    Raises:
        MotiveError: no clip can be used, a model that cannot be saved, settings that do not fit, a folder in use.
    """
    config = config or FinetuneConfig()
    if config.lowest >= config.highest:
        raise ConfigError(f"there are no timesteps from {config.lowest:g} to {config.highest:g}: choose a wider range")
    root = Path(folder).expanduser().absolute()
    loaded = _loaded(model, config)
    spec = ClipSpec(**clip) if clip is not None else loaded.card.default_clip
    loaded.card.check(spec)
    wanted = _described(records, loaded, spec, config)
    old = _require_free(root, wanted, overwrite)
    if old is not None:
        return FinetuneReport(**{**old["training"], "folder": str(root), "unchanged": True})
    with staged(root) as staging:
        staging.encoded.mkdir(exist_ok=True)
        examples = _encoded(records, loaded, spec, config, progress)
        network, trained = _trainable(model, loaded, config)
        state = staging.encoded / _STATE
        losses, seconds, begun = _train(network, trained, examples, state, wanted, config, progress)
        report = _report(root, examples, losses, seconds, begun, config)
        staging.begin()
        base = _save(network, staging, config)
        mark = {
            "format": FORMAT,
            "base": base,
            "wanted": wanted,
            "training": report.as_dict(),
            "settings": plain(config),
            "clip": spec.identity(),
            "clips": examples.ids,
            "losses": [round(loss, 6) for loss in losses],
            "versions": provenance(config.device),
            **(about or {}),
        }
        write_text(staging.tree / MARK, json.dumps(mark, indent=1) + "\n")
        staging.commit()
    return report


def _loaded(model: str, config: FinetuneConfig) -> VideoModel:
    """The model that encodes, which is also the one that is trained where its numbers allow it."""
    precision = "auto" if model_is_embedded(model) else config.precision
    loaded = load_model(
        model,
        config.device,
        precision=precision,
        checkpointing=config.checkpointing,
        timesteps=(config.highest - 1e-3, config.lowest),
    )
    ours = type(loaded).__module__.startswith("motive_fo.models.")
    if not ours or not isinstance(loaded, TinyModel | DiffusersModel):
        raise ConfigError(f"model {model!r} is an adapter of your own: train it with its own trainer on an export")
    if config.lora is not None and isinstance(loaded, TinyModel):
        raise ConfigError("the embedded model is small enough to be trained whole: leave --lora out")
    return loaded


def model_is_embedded(model: str) -> bool:
    """Whether a name is the embedded model or one fine-tuned from it."""
    mark = read_mark(model) if model != "tiny" else None
    return model == "tiny" or (mark is not None and mark["base"] == "tiny")


def _trainable(model: str, loaded: VideoModel, config: FinetuneConfig) -> tuple[VideoModel, list[torch.nn.Parameter]]:
    """The model whose network is trained, and the parameters that are.

    A network is trained in float32, whatever it computes in: the steps of a fine-tuning are below what bfloat16 can
    add to a weight. With a LoRA only the added weights are, and the network stays as it was loaded.
    """
    if isinstance(loaded, TinyModel):
        return loaded, list(loaded.network.parameters())
    assert isinstance(loaded, DiffusersModel)
    if config.lora is None:
        if settle_precision(config.precision, str(loaded.device)) != "float32":  # its network was not loaded yet
            loaded = load_model(
                model,
                config.device,
                precision="float32",
                checkpointing=config.checkpointing,
                timesteps=(config.highest - 1e-3, config.lowest),
            )
        return loaded, list(loaded.network.parameters())
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise MissingDependencyError(
            "a LoRA needs peft: pip install 'motive-fo[train]', or leave --lora out"
        ) from error
    network: Any = loaded.network
    network.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network.add_adapter(
            LoraConfig(
                r=config.lora, lora_alpha=config.lora, init_lora_weights="gaussian", target_modules=_LORA_TARGETS
            )
        )
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    return loaded, trained


# --- the examples -----------------------------------------------------------------------------------------------------


def _encoded(
    records: Sequence[ClipRecord], model: VideoModel, spec: ClipSpec, config: FinetuneConfig, progress: Progress
) -> _Examples:
    """Latents and conditions of all clips, in main memory."""
    if isinstance(model, StagedModel):
        model.make_room()
    examples = _Examples()

    def request(record: ClipRecord) -> Request:
        return Request(record.path, ClipSpec(**{**spec.identity(), "start": spec.start + record.start}))

    progress("encode", 0, len(records))
    with DecodePool(seconds=config.time_limit) as pool:
        for done, (record, outcome) in enumerate(decode_ahead(records, pool, request), 1):
            if isinstance(outcome, ClipError):
                examples.failed[record.id] = f"{outcome.code}: {outcome.message}"
            else:
                try:
                    latent = model.encode_frames(outcome.frames_THW3).cpu()
                    for caption in (record.caption, ""):
                        if caption not in examples.conditions:
                            examples.conditions[caption] = _moved(model.encode_caption(caption), "cpu")
                except MotiveError:
                    raise
                except Exception as error:  # a clip never stops the others, whatever an encoder raises on it
                    examples.failed[record.id] = f"encode_failed: {type(error).__name__}: {error}"
                else:
                    examples.ids.append(record.id)
                    examples.latents.append(latent)
                    examples.captions.append(record.caption)
            progress("encode", done, len(records))
    if not examples.ids:
        first = next(iter(examples.failed.items()), ("", "there are none"))
        raise InputError(f"none of the {len(records)} clips can be trained on: {first[0]} {first[1]}")
    if isinstance(model, StagedModel):
        model.leave_encoders()
    return examples


def _moved(condition: Any, device: str | torch.device) -> Any:
    """A condition, a tuple or mapping of tensors, on a device."""
    if isinstance(condition, torch.Tensor):
        return condition.to(device)
    if isinstance(condition, Mapping):
        return {name: _moved(value, device) for name, value in condition.items()}
    if isinstance(condition, tuple) and hasattr(condition, "_fields"):
        return type(condition)(*(_moved(value, device) for value in condition))
    return condition


# --- the steps --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Draw:
    """One clip of one step: which, at what noise level, and whether with its caption."""

    index: int
    timestep: float
    captioned: bool
    noise_seed: int


def draws(step: int, clips: int, config: FinetuneConfig) -> Iterator[_Draw]:
    """What a step shows, of its number, the seed and the number of clips alone.

    Clips come in passes over all of them, each pass in an order of its own: every clip is shown equally often, to one.
    """
    for place in range(step * config.batch, (step + 1) * config.batch):
        turn, at = divmod(place, clips)
        order = np.random.default_rng(_number("order", config.seed, turn)).permutation(clips)
        rng = np.random.default_rng(_number("noise", config.seed, place))
        yield _Draw(
            index=int(order[at]),
            timestep=_level(rng, config),
            captioned=bool(rng.random() >= config.caption_dropout),
            noise_seed=int(rng.integers(2**62)),
        )


def _level(rng: np.random.Generator, config: FinetuneConfig) -> float:
    """A timestep of the shifted logit-normal distribution, cut to the range that is trained."""
    for _ in range(100):
        if rng.random() < _EVEN:
            break
        share = 1 / (1 + np.exp(-rng.standard_normal()))
        timestep = 1000 * config.shift * share / (1 + (config.shift - 1) * share)
        if config.lowest <= timestep <= config.highest:
            return float(timestep)
    return float(rng.uniform(config.lowest, config.highest))


def _number(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:8], "little")


def _train(
    model: VideoModel,
    trained: list[torch.nn.Parameter],
    examples: _Examples,
    state: Path,
    wanted: str,
    config: FinetuneConfig,
    progress: Progress,
) -> tuple[list[float], float, int]:
    """Loss of every step, seconds, and the step an earlier call had reached."""
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay)
    losses: list[float] = []
    seconds = 0.0
    if state.exists():
        kept = torch.load(state, map_location="cpu", weights_only=True)
        if kept["wanted"] == wanted:  # else of other settings, which were given up
            with torch.no_grad():
                for parameter, value in zip(trained, kept["weights"], strict=True):
                    parameter.copy_(value)
            optimizer.load_state_dict(kept["optimizer"])
            losses, seconds = list(kept["losses"]), float(kept["seconds"])
    begun = len(losses)
    model.network.train()
    progress("train", begun, config.steps)
    last = time.monotonic()
    for step in range(begun, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / (config.warmup + 1))
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for draw in draws(step, len(examples.ids), config):
            loss = _loss(model, examples, draw, config) / config.batch
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        if not np.isfinite(total):
            raise InputError(f"the loss of step {step} is not finite: choose a smaller learning rate, or float32")
        torch.nn.utils.clip_grad_norm_(trained, config.clip_norm)
        optimizer.step()
        losses.append(total)
        now = time.monotonic()
        seconds, last = seconds + now - last, now
        progress("train", step + 1, config.steps)
        if (step + 1) % config.save_every == 0 and step + 1 < config.steps:
            _keep(state, wanted, trained, optimizer, losses, seconds)
            last = time.monotonic()
    model.network.eval()
    return losses, seconds, begun


def _loss(model: VideoModel, examples: _Examples, draw: _Draw, config: FinetuneConfig) -> torch.Tensor:
    """The ordinary loss of one clip."""
    x0 = examples.latents[draw.index]
    e = torch.randn(x0.shape, generator=torch.Generator().manual_seed(draw.noise_seed))
    noised = model.noise(x0.to(model.device), e.to(model.device), draw.timestep)
    caption = examples.captions[draw.index] if draw.captioned else ""
    condition = _moved(examples.conditions[caption], model.device)
    with _computing(model, config):
        prediction = model.predict(noised.x_t, noised.timestep, condition)
    return motion_weighted_loss(prediction, noised.target)


def _computing(model: VideoModel, config: FinetuneConfig) -> AbstractContextManager[Any]:
    """bfloat16 for the products where it was asked for; the weights stay what they are."""
    low = config.precision == "bfloat16" or (config.precision == "auto" and model.device.type == "cuda")
    if not low or isinstance(model, TinyModel):
        return nullcontext()
    return torch.autocast(model.device.type, torch.bfloat16)


def _keep(
    state: Path,
    wanted: str,
    trained: list[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    losses: list[float],
    seconds: float,
) -> None:
    part = state.with_suffix(".part")
    data = {
        "wanted": wanted,
        "weights": [parameter.detach() for parameter in trained],
        "optimizer": optimizer.state_dict(),
        "losses": losses,
        "seconds": seconds,
    }
    torch.save(data, part)
    part.replace(state)


# --- the folder -------------------------------------------------------------------------------------------------------


def _described(records: Sequence[ClipRecord], model: VideoModel, spec: ClipSpec, config: FinetuneConfig) -> str:
    """Digest of everything the trained weights depend on."""
    settings = {key: value for key, value in plain(config).items() if key not in ("save_every", "device", "time_limit")}
    clips = [[record.id, record.start, version_of(record, with_caption=True).content] for record in records]
    parts = [settings, dict(model.identity()), spec.identity(), clips]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


def _require_free(root: Path, wanted: str, overwrite: bool) -> dict[str, Any] | None:
    """The record of this very model if the folder holds it. Raises ``InputError`` where the folder holds another."""
    if root.is_symlink() or (root.exists() and not root.is_dir()):
        raise InputError(f"{root} is not a folder: choose another place")
    if not root.exists() or not any(root.iterdir()):
        return None
    mark = read_mark(root)
    if mark is None:
        raise InputError(f"{root} is not empty and holds no model of motive finetune: choose another folder")
    if mark.get("wanted") == wanted:
        return mark
    if not overwrite:
        raise InputError(f"{root} holds a model of other clips or settings: choose another folder, or --overwrite")
    return None


def _save(model: VideoModel, staging: Staging, config: FinetuneConfig) -> str:
    """Write the trained network as a model; returns the name of what it is laid over."""
    if isinstance(model, TinyModel):
        model.save(staging.tree / TINY_WEIGHTS)
        return "tiny"
    assert isinstance(model, DiffusersModel)
    network: Any = model.network
    part = model.network_part(model.folder, (config.highest - 1e-3,))
    if config.lora is not None:
        from diffusers.utils import convert_state_dict_to_diffusers
        from peft.utils import get_peft_model_state_dict
        from safetensors.torch import save_file

        added = convert_state_dict_to_diffusers(get_peft_model_state_dict(network))
        named = {f"{part}.{name}": value.detach().cpu().contiguous() for name, value in added.items()}
        save_file(named, staging.tree / "pytorch_lora_weights.safetensors", metadata={"format": "pt"})
        network.fuse_lora()
        network.unload_lora()
    network.save_pretrained(staging.tree / part, safe_serialization=True)
    for other, place in model.folder.over.items():  # an expert that was fine-tuned before
        if other != part:
            shutil.copytree(place, staging.tree / other)
    return str(model.folder.root)


def _report(
    root: Path, examples: _Examples, losses: list[float], seconds: float, begun: int, config: FinetuneConfig
) -> FinetuneReport:
    telling = max(1, round(_TELLING * len(losses)))
    return FinetuneReport(
        folder=str(root),
        clips=len(examples.ids),
        failed=examples.failed,
        steps=config.steps,
        passes=config.steps * config.batch / len(examples.ids),
        first_loss=float(np.mean(losses[:telling])),
        last_loss=float(np.mean(losses[-telling:])),
        seconds=seconds,
        resumed_at=begun,
    )
