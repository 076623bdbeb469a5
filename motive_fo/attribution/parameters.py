"""Which parameters of a network are attributed, what they are called, and which of them belong together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import torch

from motive_fo.errors import ConfigError

_WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
_SHOWN = 5  # names an error shows

NamedParameters = list[tuple[str, torch.nn.Parameter]]


def attributed_parameters(
    module: torch.nn.Module, include: Sequence[str] = ("*",), exclude: Sequence[str] = ()
) -> NamedParameters:
    """The attributed parameters of the denoiser, each once, by name in name order.

    Tied parameters appear once, under their first name. Names lose the prefixes of wrappers (``module.``,
    ``_orig_mod.``): patterns and the projection go by name and must not depend on how a module is wrapped.

    Args:
        include, exclude: glob patterns (``blocks.*``, ``*.bias``). A parameter is attributed if a pattern of
            ``include`` matches its whole name and none of ``exclude`` does.

    Raises:
        ConfigError: a pattern matches no name, or none is left.
    """
    named = sorted(((_plain_name(name), parameter) for name, parameter in module.named_parameters()), key=_by_name)
    names = [name for name, _ in named]
    for setting, patterns in (("include", include), ("exclude", exclude)):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigError(
                    f"attribution.{setting}: no parameter is called {pattern!r}; there are {_shown(names)}"
                )
    kept = [item for item in named if _matches(item[0], include) and not _matches(item[0], exclude)]
    if not kept:
        raise ConfigError(
            f"attribution.include and exclude leave no parameter of {len(names)}; there are {_shown(names)}"
        )
    return kept


def parameter_group(name: str) -> str:
    """The group of a parameter: its name up to the first number (``blocks.3``), else the name's first part.

    Fits the networks of diffusers, which number their blocks and name the rest.
    """
    parts = name.split(".")
    for i, part in enumerate(parts):
        if part.isdecimal():
            return ".".join(parts[: i + 1])
    return parts[0]


def parameter_groups(names: Iterable[str]) -> list[str]:
    """The groups of these parameters, each once, in the order a reader expects: ``blocks.2`` before ``blocks.10``."""
    return sorted({parameter_group(name) for name in names}, key=_natural)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _by_name(item: tuple[str, torch.nn.Parameter]) -> str:
    return item[0]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _plain_name(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def _shown(names: list[str]) -> str:
    step = max(1, len(names) // _SHOWN)  # some from everywhere: the first ones are often all alike
    some = names[::step][:_SHOWN]
    return ", ".join(some) + (f" and {len(names) - len(some)} more" if len(names) > len(some) else "")
