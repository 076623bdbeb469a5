"""Video models by name: the embedded one, diffusers' folders and hub repositories, and adapters of one's own.

A family of diffusers' pipelines is one file and one line in ``_FAMILIES``. An adapter of one's own is named
``MODULE:NAME``, or by the name its package gives it in the entry point group ``motive_fo.models``; it is anything that
has a ``card`` and that makes a ``VideoModel`` when it is called with ``device`` and ``precision``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final, cast

from motive_fo.errors import ConfigError, InputError, MissingDependencyError, MotiveError
from motive_fo.models.card import ModelCard
from motive_fo.models.diffusion.folder import ModelFolder, find_folder
from motive_fo.models.finetuned import settle_name

if TYPE_CHECKING:
    from motive_fo.clips.spec import ClipSpec
    from motive_fo.config import AttributionConfig
    from motive_fo.models.base import VideoModel
    from motive_fo.models.diffusion.model import DiffusersModel

MODELS = ("tiny",)
ENTRY_POINTS: Final = "motive_fo.models"

#: class of a pipeline -> module and class of its adapter
_FAMILIES: Final = {
    "WanPipeline": "wan:WanModel",
    "LTXPipeline": "ltx:LTXModel",
    "CogVideoXPipeline": "cogvideox:CogVideoXModel",
    "HunyuanVideoPipeline": "hunyuanvideo:HunyuanVideoModel",
}


def model_card(name: str) -> ModelCard:
    """Geometry and defaults of a model, without loading its weights. Raises ``MotiveError`` for an unknown name.

    Args:
        name: ``tiny``; a folder of diffusers' or a hub repository OWNER/NAME, either with ``+FOLDER`` for a fine-tuned
            transformer; what motive finetune wrote; MODULE:NAME, or the name of an installed adapter.
    """
    name, _ = settle_name(name)
    if name == "tiny":
        from motive_fo.models.tiny.card import CARD

        return CARD
    own = _own_adapter(name)
    if own is not None:
        return _card_of(name, own)
    folder = find_folder(name)
    if folder is None:
        raise ConfigError(_unknown(name))
    return _family(folder).card_of(folder)


def load_model(
    name: str,
    device: str = "auto",
    *,
    precision: str = "auto",
    checkpointing: str = "auto",
    offload: str = "off",
    timesteps: Iterable[float] = (),
    spec: ClipSpec | None = None,
) -> VideoModel:
    """The model with its weights, ready for gradients.

    Args:
        name: as for ``model_card``.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``float32``, ``bfloat16``, or ``auto`` for the second on a GPU and the first elsewhere.
        checkpointing: ``on``, ``off``, or ``auto`` for large networks.
        offload: the network's blocks in main memory: ``on``, ``off``, or ``auto`` where they do not fit on the GPU.
        timesteps: those that will be asked for; they choose between the experts of a model that has two.
        spec: the clips that will be given; the model's default where open.

    Raises:
        MotiveError: an unknown name, missing files or packages, or settings the model does not take.
    """
    name, weights = settle_name(name)
    if name == "tiny":
        if precision == "bfloat16":
            raise ConfigError("the embedded model runs in float32: leave attribution.precision at auto")
        from motive_fo.models.tiny.model import load

        _require_no_offload(name, offload)
        return load(pick_device(device), weights)
    own = _own_adapter(name)
    if own is not None:
        _card_of(name, own)
        _require_no_offload(name, offload)
        return cast("VideoModel", own(device=pick_device(device), precision=precision))
    light = find_folder(name)
    if light is None:
        raise ConfigError(_unknown(name))
    family = _family(light)
    folder = find_folder(name, family.weighty_parts(light))  # a hub repository is fetched whole now
    assert folder is not None
    loaded = family(
        folder,
        pick_device(device),
        precision=precision,
        checkpointing=checkpointing,
        timesteps=timesteps,
        fps=None if spec is None else spec.fps,
        offload=offload,
        clip=spec,
    )
    return cast("VideoModel", loaded)


def attributed_model(config: AttributionConfig, spec: ClipSpec | None = None) -> VideoModel:
    """The model a run attributes, as its settings say. See ``load_model``."""
    return load_model(
        config.model,
        _first_device(config),
        precision=config.precision,
        checkpointing=config.checkpointing,
        offload=config.offload,
        timesteps=config.timesteps,
        spec=spec,
    )


def _require_no_offload(name: str, offload: str) -> None:
    if offload == "on":
        raise ConfigError(
            f"{name} is not offloaded from here: leave attribution.offload at auto (an adapter of your own can use "
            "motive_fo.models.offload)"
        )


def _first_device(config: AttributionConfig) -> str:
    """Where the process that runs the step has its own model.

    Raises:
        ConfigError: the devices are of different kinds, whose sketches are not the same to the last bit.
    """
    if not config.devices:
        return config.device
    import torch

    kinds = {torch.device(pick_device(device)).type for device in config.devices}
    if "auto" in config.devices or len(kinds) > 1:
        raise ConfigError(f"devices {','.join(config.devices)} are of different kinds: name GPUs only, such as 0,1")
    return config.devices[0]


def pick_device(device: str) -> str:
    """A device torch can use here. Raises ``ConfigError`` where it cannot."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"unknown device {device!r}: choose auto, cpu, cuda or cuda:N") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise MissingDependencyError(f"device {device!r} was asked for, but torch {torch.__version__} sees no GPU here")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"there is no device {device!r}, torch sees {torch.cuda.device_count()} GPUs here: choose others with "
            "--device or --devices ('' for none)"
        )
    if chosen.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {device!r} is not supported: choose auto, cpu, cuda or cuda:N")
    return device


def _family(folder: ModelFolder) -> type[DiffusersModel]:
    place = _FAMILIES.get(folder.pipeline)
    if place is None:
        raise ConfigError(
            f"{folder.name} is a {folder.pipeline or 'pipeline without a class'}, for which there is no adapter; there "
            f"are adapters for {', '.join(_FAMILIES)}, and you can write one: docs/models.md"
        )
    module, _, name = place.partition(":")
    return cast("type[DiffusersModel]", getattr(import_module(f"motive_fo.models.diffusion.{module}"), name))


def _own_adapter(name: str) -> Callable[..., Any] | None:
    """The adapter a name stands for, None where it is no such name. Raises ``InputError`` where it cannot be had."""
    module, colon, attribute = name.partition(":")
    dotted = module.replace(".", "").isidentifier() and attribute.isidentifier()
    try:
        if colon and dotted:
            made: Any = getattr(import_module(module), attribute)
        else:
            found = [point for point in entry_points(group=ENTRY_POINTS) if point.name == name]
            if not found:
                return None
            made = found[0].load()
    except MotiveError:
        raise
    except Exception as error:  # whatever importing a stranger's module raises
        raise InputError(
            f"the adapter {name!r} cannot be imported ({type(error).__name__}: {error}): is its module installed, or "
            "its folder in PYTHONPATH?"
        ) from error
    return cast(Callable[..., Any], made)


def _card_of(name: str, adapter: Callable[..., Any]) -> ModelCard:
    card = getattr(adapter, "card", None)
    if not isinstance(card, ModelCard) or not callable(adapter):
        raise InputError(
            f"{name!r} is no adapter: it must have a ModelCard as its attribute 'card' and be callable with device and "
            "precision (docs/models.md)"
        )
    return card


def _unknown(name: str) -> str:
    near = get_close_matches(name, [*MODELS, *(point.name for point in entry_points(group=ENTRY_POINTS))])
    hint = f"did you mean {near[0]!r}? " if near else ""
    return (
        f"unknown model {name!r}: {hint}give tiny, the folder of a diffusers pipeline, a hub repository OWNER/NAME, "
        "either with +FOLDER for a fine-tuned transformer, or MODULE:NAME for an adapter of your own"
    )
