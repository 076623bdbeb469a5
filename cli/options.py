"""Command-line options made from the settings classes, so that names, defaults and help are written once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click

from motive_fo.config import PRESET_HELP, Preset, plain_hint

Command = Callable[..., Any]

preset_option = click.option("--preset", type=click.Choice(get_args(Preset)), help=PRESET_HELP)


def listed(kind: type) -> Callable[[click.Context, click.Parameter, str | None], tuple[Any, ...] | None]:
    """A callback that reads values separated by commas; an empty text is an empty list."""

    def convert(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[Any, ...] | None:
        if value is None:
            return None
        try:
            return tuple(kind(part) for part in value.split(",") if part)
        except ValueError:
            raise click.BadParameter(f"{value!r} is not a list of numbers separated by commas", ctx, param) from None

    return convert


def settings_options(*classes: type[Any], only: tuple[str, ...] = ()) -> Callable[[Command], Command]:
    """Add an option for every setting of the classes (or for those named in ``only``). Options left out stay None."""

    def decorate(command: Command) -> Command:
        for made in reversed(classes):
            hints = get_type_hints(made, include_extras=True)
            for item in reversed(fields(made)):
                if not only or item.name in only:
                    command = _option(item.name, hints[item.name], item.default)(command)
        return command

    return decorate


def changes(made: type[Any], given: dict[str, Any]) -> dict[str, Any]:
    """The settings of a class that were given on the command line."""
    return {item.name: given[item.name] for item in fields(made) if given.get(item.name) is not None}


def _option(name: str, hint: Any, default: Any) -> Callable[[Command], Command]:
    """One click option. What a hint does not say (choices, description) is in its pydantic annotation."""
    hint, info = get_args(hint)[:2]
    default = getattr(default, "default", default)  # pydantic keeps the plain default inside
    hint = plain_hint(hint)
    flag = f"--{name.replace('_', '-')}"
    if hint is bool:
        if default:
            flag += f"/--no-{name.replace('_', '-')}"
        return click.option(flag, name, is_flag=True, default=None, help=info.description)
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    note = f"{info.description} [default: {shown}]" if shown not in (None, "") else info.description
    if get_origin(hint) is tuple:
        part = plain_hint(get_args(hint)[0])
        word = "TEXT" if part is str else "N"
        metavar = f"{word}[,{word}...]"
        return click.option(flag, name, default=None, help=note, metavar=metavar, callback=listed(part))
    kind = click.Choice([str(value) for value in get_args(hint)]) if get_origin(hint) is Literal else hint
    return click.option(flag, name, type=kind, default=None, help=note)
