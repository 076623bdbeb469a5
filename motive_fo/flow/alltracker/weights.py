"""AllTracker's official weights: where they are, what they are, and how they come into the network.

``find_weights`` looks, in this order, at the path given, at the file an environment variable names
(``MOTIVE_ALLTRACKER_WEIGHTS``, ``MOTIVE_ALLTRACKER_TINY_WEIGHTS``), in motive-fo's cache folder and in that of the
Hugging Face hub, and last downloads from the hub, which shows progress and goes on where it was cut off.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

from motive_fo.errors import InputError, MissingDependencyError
from motive_fo.flow.alltracker import Variant

if TYPE_CHECKING:
    from torch import Tensor

    from motive_fo.flow.alltracker.network import AllTracker

Origin = Literal["path", "environment", "cache", "hub"]

#: the repository of the official weights on the Hugging Face hub.
REPOSITORY: Final = "aharley/alltracker"
FILES: Final[Mapping[Variant, str]] = MappingProxyType({"full": "alltracker.pth", "tiny": "alltracker_tiny.pth"})
NAMES: Final[Mapping[Variant, str]] = MappingProxyType({"full": "alltracker", "tiny": "alltracker-tiny"})
VARIABLES: Final[Mapping[Variant, str]] = MappingProxyType(
    {"full": "MOTIVE_ALLTRACKER_WEIGHTS", "tiny": "MOTIVE_ALLTRACKER_TINY_WEIGHTS"}
)
#: SHA-256 of the official files, as far as it is known to us, by its beginning.
OFFICIAL: Final[Mapping[Variant, str]] = MappingProxyType(
    {"full": "ffd9ebcfb6d206d594b646999a150540f92c049cf9b2bf940facf7123f62aa1d", "tiny": "43991b4fc"}
)

#: how many names of a list an error shows.
_SHOWN = 3
_WRAPPINGS = ("model", "state_dict", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class Weights:
    """A file of weights.

    Attributes:
        path: the file.
        origin: how it was found.
        sha256: of its bytes: part of the estimator's identity.
        official: whether the sum is that of the official file of its variant.
    """

    path: Path
    origin: Origin
    sha256: str
    official: bool

    def __str__(self) -> str:
        kind = "official" if self.official else "not the official file"
        return f"{self.path} ({self.origin}; sha256 {self.sha256}; {kind})"


def cache_folder() -> Path:
    """Where weights put there by hand are looked for: ``$XDG_CACHE_HOME/motive-fo``, or ``~/.cache/motive-fo``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "motive-fo"


def find_weights(variant: Variant, path: str | Path | None = None, *, download: bool = True) -> Weights:
    """The file of weights that will be used.

    Args:
        variant: ``full`` or ``tiny``.
        path: a file to use whatever else there is.
        download: whether it may be downloaded where it is not on this machine.

    Raises:
        InputError: the file named does not exist, or there is none and it cannot be downloaded; the message says where
            to put it and what needs none.
    """
    if path is not None:
        return _named(variant, Path(path), "path", f"the weights given for {NAMES[variant]}")
    variable = VARIABLES[variant]
    if os.environ.get(variable):
        return _named(variant, Path(os.environ[variable]), "environment", f"the file that {variable} names")
    cached = cache_folder() / FILES[variant]
    if cached.is_file():
        return _described(variant, cached, "cache")
    try:
        return _described(variant, Path(_hub(variant, local=True)), "cache")
    except Exception as error:  # the hub's library says in many ways that it has no such file, or is not installed
        reason: Exception = error
    if download:
        try:
            return _described(variant, Path(_hub(variant, local=False)), "hub")
        except Exception as error:  # no network, no such host, no space, no permission, cut off: all mean no file
            reason = error
    raise InputError(_missing(variant, reason if download else None)) from reason


def load_weights(network: AllTracker, weights: Weights) -> None:
    """Load a file into a network of its variant, every tensor by its official name.

    Takes pickles of tensors (nothing in them is run) and safetensors; a state dict alone or under ``model`` or
    ``state_dict``, with or without the prefixes of parallel or compiled modules.

    Raises:
        InputError: it is not a file of weights, or not this network's; the message says what differs.
    """
    loaded = {_plain(name): tensor for name, tensor in read_state(weights.path).items()}
    expected = network.state_dict()
    # a table that can be computed, and is in the official files: either will do
    loaded.setdefault("time_emb", expected["time_emb"])
    problems = _differences(loaded, expected)
    if problems:
        hint = _other_variant(network.variant, loaded)
        raise InputError(f"{weights.path} is not a file of {NAMES[network.variant]}: {'; '.join(problems)}{hint}")
    network.load_state_dict(loaded, strict=True)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name. Raises ``InputError`` where it holds none."""
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = f"{path} holds more than tensors, or is no file of torch.save; it was not run. {_hint(path)}"
        raise InputError(text.strip()) from error
    except Exception as error:  # truncated archives, wrong headers and so on: each reader has its own exceptions
        raise InputError(f"{path} cannot be read as weights ({_first_line(error)}). {_hint(path)}".strip()) from error
    for key in _WRAPPINGS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path} holds a {type(content).__name__} instead of named tensors")
    others = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise InputError(f"{path} holds other things than tensors: {_some(others)}")
    return {str(name): tensor for name, tensor in content.items()}


def _named(variant: Variant, path: Path, origin: Origin, what: str) -> Weights:
    path = path.expanduser()
    if not path.is_file():
        raise InputError(f"{what} is not there: {path}")
    return _described(variant, path, origin)


def _described(variant: Variant, path: Path, origin: Origin) -> Weights:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Weights(path, origin, digest, digest.startswith(OFFICIAL[variant]))


def _hub(variant: Variant, *, local: bool) -> str:
    """The path of the official file in the hub's cache; ``local``: only if it is there already."""
    try:
        from huggingface_hub import constants, hf_hub_download
    except ImportError as error:
        raise MissingDependencyError(
            "huggingface_hub is not installed (pip install 'motive-fo[alltracker]')"
        ) from error
    host = urlsplit(constants.ENDPOINT).hostname
    if not local and host and not getproxies():
        # offline, this says so at once; the hub's library tries for half a minute
        socket.getaddrinfo(host, None)
    return str(hf_hub_download(REPOSITORY, FILES[variant], local_files_only=local))


def _missing(variant: Variant, reason: Exception | None) -> str:
    why = f" and it could not be downloaded ({_first_line(reason)})" if reason is not None else ""
    return (
        f"the weights of {NAMES[variant]} are not on this machine{why}: put {FILES[variant]} from the hub repository "
        f"{REPOSITORY} into {cache_folder()} or name it with {VARIABLES[variant]}, "
        "or use an estimator that needs none: dis or farneback"
    )


def _plain(name: str) -> str:
    """A tensor's name without what parallel and compiled modules put before it."""
    while name.startswith(_PREFIXES):
        name = name.split(".", 1)[1]
    return name


def _differences(loaded: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    problems = []
    missing = [name for name in expected if name not in loaded]
    unexpected = [name for name in loaded if name not in expected]
    if missing:
        problems.append(f"{len(missing)} of {len(expected)} tensors are missing ({_some(missing)})")
    if unexpected:
        problems.append(f"{len(unexpected)} are not the network's ({_some(unexpected)})")
    common = [name for name in expected if name in loaded]
    misshapen = [
        f"{name} is {tuple(loaded[name].shape)}, not {tuple(expected[name].shape)}"
        for name in common
        if loaded[name].shape != expected[name].shape
    ]
    if misshapen:
        problems.append(f"{len(misshapen)} have another shape ({_some(misshapen)})")
    broken = [name for name in common if not loaded[name].isfinite().all()]
    if broken:
        problems.append(f"{len(broken)} are not finite ({_some(broken)})")
    return problems


def _other_variant(variant: Variant, loaded: Mapping[str, Tensor]) -> str:
    """What the file seems to be instead."""
    marks: dict[Variant, str] = {"full": "dot_conv.weight", "tiny": "fnet.conv1.weight"}
    for other, mark in marks.items():
        if other != variant and mark in loaded and "update_block.compressor.weight" in loaded:
            return f"; it looks like weights of {NAMES[other]}"
    return ""


def _hint(path: Path) -> str:
    """What a file that is no file of weights often is."""
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "It is a Git LFS pointer: the file itself was not fetched."
    return "It is a web page, not the file behind it." if start.startswith((b"<!doctype", b"<html")) else ""


def _some(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0][:160].rstrip(". ") if lines else "") or type(error).__name__
