"""The training loop: AdamW on a model's own objective, in memory.

Every step shows ``batch`` clips, one forward and backward pass each, gradients added up; the model's own noising and
target; no motion mask. Noise levels are logit-normal. Order and noise of step n depend on seed and n alone, so that a
stopped training ends where an unstopped one does, and sets of clips are compared at equal steps and equal noise.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtr, ndtri

from motive_fo.attribution.loss import motion_weighted_loss
from motive_fo.errors import ConfigError, InputError, MissingDependencyError
from motive_fo.models.base import VideoModel
from motive_fo.models.diffusion.model import DiffusersModel, settle_precision
from motive_fo.models.registry import load_model
from motive_fo.models.tiny.model import TinyModel
from motive_fo.progress import Progress, silent
from motive_fo.training.settings import FinetuneConfig

#: share of the steps drawn evenly over the schedule, so that no level is forgotten.
_EVEN: Final = 0.2
_LORA_TARGETS: Final = ["to_q", "to_k", "to_v", "to_out.0"]


@dataclass
class Examples:
    """Clips as the network sees them, on the CPU.

    Attributes:
        ids, latents, captions: one of each for every clip.
        conditions: caption -> what the model's encoder makes of it.
        failed: clip id -> why it is not among them.
    """

    ids: list[str] = field(default_factory=list)
    latents: list[torch.Tensor] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    conditions: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Kept:
    """Where a training that can be stopped keeps what it has reached.

    Attributes:
        path: file of the last state that was kept.
        wanted: digest of all the weights depend on; a state of another one is not gone on with.
    """

    path: Path
    wanted: str


@dataclass(frozen=True)
class Trained:
    """What a training did.

    Attributes:
        losses: of every step.
        seconds: of all steps, those before a stop too.
        begun: step an earlier call had reached.
    """

    losses: list[float]
    seconds: float
    begun: int


def require_trainable(model: str, loaded: VideoModel, config: FinetuneConfig) -> None:
    """Raises ``ConfigError`` where a model is not one of those that are trained here, or not as asked.

    Args:
        model: the name it was loaded by.
    """
    ours = type(loaded).__module__.startswith("motive_fo.models.")
    if not ours or not isinstance(loaded, TinyModel | DiffusersModel):
        raise ConfigError(f"model {model!r} is an adapter of your own: train it with its own trainer on an export")
    if config.lora is not None and isinstance(loaded, TinyModel):
        raise ConfigError("the embedded model is small enough to be trained whole: leave --lora out")


def trainable(model: str, loaded: VideoModel, config: FinetuneConfig) -> tuple[VideoModel, list[torch.nn.Parameter]]:
    """The model whose network is trained, and the parameters that are.

    Args:
        model: the name it was loaded by.
        loaded: the embedded model, or one of diffusers'.

    A network is trained in float32, whatever it computes in: the steps of a fine-tuning are below what bfloat16 can
    add to a weight. With a LoRA only the added weights are, and the network stays as it was loaded.

    Raises:
        MissingDependencyError: a LoRA is asked for, and peft is not installed.
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


def moved(condition: Any, device: str | torch.device) -> Any:
    """A condition, a tuple or mapping of tensors, on a device."""
    if isinstance(condition, torch.Tensor):
        return condition.to(device)
    if isinstance(condition, Mapping):
        return {name: moved(value, device) for name, value in condition.items()}
    if isinstance(condition, tuple) and hasattr(condition, "_fields"):
        return type(condition)(*(moved(value, device) for value in condition))
    return condition


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
    share_B = _even_shares(step, config)
    for place in range(step * config.batch, (step + 1) * config.batch):
        turn, at = divmod(place, clips)
        order = np.random.default_rng(_number("order", config.seed, turn)).permutation(clips)
        rng = np.random.default_rng(_number("noise", config.seed, place))
        yield _Draw(
            index=int(order[at]),
            timestep=_level(float(share_B[place % config.batch]), config),
            captioned=bool(rng.random() >= config.caption_dropout),
            noise_seed=int(rng.integers(2**62)),
        )


def _even_shares(step: int, config: FinetuneConfig) -> npt.NDArray[np.float64]:
    """One number from each of B equally long parts of 0..1, in random order: every step sees the whole schedule, and
    what a step teaches depends less on chance than with B numbers from anywhere."""
    rng = np.random.default_rng(_number("levels", config.seed, step))
    return np.asarray((rng.permutation(config.batch) + rng.random(config.batch)) / config.batch)


def _level(share: float, config: FinetuneConfig) -> float:
    """The timestep below which this share lies: of the shifted logit-normal distribution, but for the part of it that
    is spread evenly, each cut to the range that is trained."""
    if share < _EVEN:
        return config.lowest + share / _EVEN * (config.highest - config.lowest)
    low, high = (float(ndtr(_normal(bound / 1000, config.shift))) for bound in (config.lowest, config.highest))
    z = ndtri(low + (share - _EVEN) / (1 - _EVEN) * (high - low))
    even = 1 / (1 + np.exp(-z))
    timestep = 1000 * config.shift * even / (1 + (config.shift - 1) * even)
    return float(np.clip(timestep, config.lowest, config.highest))


def _normal(level: float, shift: float) -> float:
    """What is normally distributed, of a noise level 0..1."""
    if level in (0.0, 1.0):
        return float("-inf") if level == 0 else float("inf")
    return float(np.log(level / (shift * (1 - level))))


def _number(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:8], "little")


def train(
    model: VideoModel,
    trained: list[torch.nn.Parameter],
    examples: Examples,
    config: FinetuneConfig,
    *,
    kept: Kept | None = None,
    after: Callable[[int], None] = lambda step: None,
    progress: Progress = silent,
) -> Trained:
    """Train some parameters of a model where they are.

    Args:
        model, trained: from ``trainable``.
        kept: where to go on from, and to keep what is reached; None keeps nothing.
        after: called after every step with its number.

    Raises:
        InputError: a loss is not finite.
    """
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay)
    losses: list[float] = []
    seconds = 0.0
    if kept is not None and kept.path.exists():
        state = torch.load(kept.path, map_location="cpu", weights_only=True)
        if state["wanted"] == kept.wanted:  # else of other settings, which were given up
            with torch.no_grad():
                for parameter, value in zip(trained, state["weights"], strict=True):
                    parameter.copy_(value)
            optimizer.load_state_dict(state["optimizer"])
            losses, seconds = list(state["losses"]), float(state["seconds"])
    begun = len(losses)
    model.network.train()
    progress("train", begun, config.steps)
    last = time.monotonic()
    for step in range(begun, config.steps):
        losses.append(_step(model, trained, optimizer, examples, step, config))
        after(step)
        now = time.monotonic()
        seconds, last = seconds + now - last, now
        progress("train", step + 1, config.steps)
        if kept is not None and (step + 1) % config.save_every == 0 and step + 1 < config.steps:
            _keep(kept, trained, optimizer, losses, seconds)
            last = time.monotonic()
    model.network.eval()
    return Trained(losses, seconds, begun)


def _step(
    model: VideoModel,
    trained: list[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    examples: Examples,
    step: int,
    config: FinetuneConfig,
) -> float:
    """One step of the optimizer; its loss."""
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
    return total


def _loss(model: VideoModel, examples: Examples, draw: _Draw, config: FinetuneConfig) -> torch.Tensor:
    """The ordinary loss of one clip."""
    x0 = examples.latents[draw.index]
    e = torch.randn(x0.shape, generator=torch.Generator().manual_seed(draw.noise_seed))
    noised = model.noise(x0.to(model.device), e.to(model.device), draw.timestep)
    caption = examples.captions[draw.index] if draw.captioned else ""
    condition = moved(examples.conditions[caption], model.device)
    with computing(model, config):
        prediction = model.predict(noised.x_t, noised.timestep, condition)
    return motion_weighted_loss(prediction, noised.target)


def computing(model: VideoModel, config: FinetuneConfig) -> AbstractContextManager[Any]:
    """Where a trained network computes: bfloat16 for products where it was asked for; weights stay what they are."""
    low = config.precision == "bfloat16" or (config.precision == "auto" and model.device.type == "cuda")
    if not low or isinstance(model, TinyModel):
        return nullcontext()
    return torch.autocast(model.device.type, torch.bfloat16)


def _keep(
    kept: Kept,
    trained: list[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    losses: list[float],
    seconds: float,
) -> None:
    part = kept.path.with_suffix(".part")
    data = {
        "wanted": kept.wanted,
        "weights": [parameter.detach() for parameter in trained],
        "optimizer": optimizer.state_dict(),
        "losses": losses,
        "seconds": seconds,
    }
    torch.save(data, part)
    part.replace(kept.path)
