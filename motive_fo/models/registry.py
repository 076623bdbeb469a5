"""Video models by name. A new model is one package and one line in each of the two functions."""

from __future__ import annotations

from motive_fo.errors import ConfigError, MissingDependencyError
from motive_fo.models.base import VideoModel
from motive_fo.models.card import ModelCard

MODELS = ("tiny",)


def model_card(name: str) -> ModelCard:
    """Geometry and defaults of a model, without loading its weights. Raises ``ConfigError`` for an unknown name."""
    if name == "tiny":
        from motive_fo.models.tiny.card import CARD

        return CARD
    raise ConfigError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}")


def load_model(name: str, device: str = "auto") -> VideoModel:
    """The model with its weights, ready for gradients.

    Args:
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
    """
    model_card(name)
    from motive_fo.models.tiny.model import load

    return load(pick_device(device))


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
    if chosen.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {device!r} is not supported: choose auto, cpu, cuda or cuda:N")
    return device
