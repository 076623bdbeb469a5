"""Operator forms made from the settings classes, and the settings read back from what was filled in."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from fiftyone.operators import types

from motive_fo.config import plain_hint
from motive_fo.errors import ConfigError


def add_settings(inputs: Any, made: type[Any], *, only: tuple[str, ...] = ()) -> None:
    """A field for every setting of a class (or for those named in ``only``), with its default and description."""
    hints = get_type_hints(made, include_extras=True)
    for item in fields(made):
        if only and item.name not in only:
            continue
        hint, info = get_args(hints[item.name])[:2]
        default = getattr(item.default, "default", item.default)  # pydantic keeps the plain default inside
        _add(inputs, item.name, plain_hint(hint), default, info.description)


def read_settings(params: dict[str, Any], made: type[Any]) -> dict[str, Any]:
    """The settings of a class that were filled in."""
    given = {}
    hints = get_type_hints(made, include_extras=True)
    for item in fields(made):
        value = params.get(item.name)
        if value in (None, ""):
            continue
        hint = plain_hint(hints[item.name])
        given[item.name] = _listed(item.name, value, hint) if get_origin(hint) is tuple else value
    return given


def read_changes(params: dict[str, Any], made: type[Any]) -> dict[str, Any]:
    """The settings that were filled in otherwise than the form's defaults.

    For settings a run keeps for good: a default left alone means the run's own, not the default forced upon it.
    """
    defaults = made()
    return {name: value for name, value in read_settings(params, made).items() if value != getattr(defaults, name)}


def _add(inputs: Any, name: str, hint: Any, default: Any, description: str) -> None:
    shown: dict[str, Any] = {
        "label": name.replace("_", " ").capitalize(),
        "description": description,
        "default": default,
    }
    if get_origin(hint) is Literal:
        choices = types.Dropdown()
        for value in get_args(hint):
            choices.add_choice(value, label=str(value))
        inputs.enum(name, choices.values(), view=choices, **shown)
    elif get_origin(hint) is tuple:
        inputs.str(name, **{**shown, "default": None if default is None else ",".join(map(str, default))})
    else:
        {int: inputs.int, float: inputs.float, bool: inputs.bool}.get(hint, inputs.str)(name, **shown)


def _listed(name: str, value: Any, hint: Any) -> tuple[Any, ...]:
    """Values written with commas between them. Raises ``ConfigError`` where one is not of the setting's kind."""
    if not isinstance(value, str):
        return tuple(value)
    kind = plain_hint(get_args(hint)[0])
    try:
        return tuple(kind(part.strip()) for part in value.split(",") if part.strip())
    except ValueError:
        raise ConfigError(f"{name}: {value!r} is not a list of numbers separated by commas") from None
