"""A configuration file that explains itself: every setting with default, choices and reason, made from the classes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from motive_fo.config import RunConfig, plain_hint
from motive_fo.errors import InputError

#: The lines a user fills in; everything else is written as a comment that shows its default.
FILLED: Final = {"dataset": "my-clips", "videos": "clips/", "queries": "wanted/", "export_to": "selected/"}

_HEAD = """\
# A whole run of motive-fo, from clips to an export. Look first, then run; the same command goes on after a stop:
#   motive run {name} --dry-run
#   motive run {name}
# Relative paths are relative to this file. A commented setting shows its default; null leaves it to the model or the
# rule named beside it. Uncomment a line to change it.
"""


def template(name: str = "motive.yaml") -> str:
    """The text of the template: as it is, it means the defaults for a dataset ``my-clips``.

    Args:
        name: the file's name, for the commands shown in it.
    """
    hints = get_type_hints(RunConfig, include_extras=True)
    sections = [item.name for item in fields(RunConfig) if is_dataclass(plain_hint(hints[item.name]))]
    top = [item.name for item in fields(RunConfig) if item.name not in sections]
    lines = [_HEAD.format(name=name)]
    for key in sorted(top, key=lambda key: key not in FILLED):
        lines += _setting(RunConfig, key, hints[key], "")
    for key in sections:
        made = plain_hint(hints[key])
        lines += ["", *_comment(" ".join((made.__doc__ or "").split())), f"{key}:"]
        own = get_type_hints(made, include_extras=True)
        for item in fields(made):
            lines += _setting(made, item.name, own[item.name], "  ")
    return "\n".join(lines) + "\n"


def write_template(path: str | Path) -> Path:
    """Write the template into a new file.

    Raises:
        InputError: the file exists, or cannot be written.
    """
    path = Path(path).expanduser()
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(template(path.name))
    except FileExistsError:
        raise InputError(f"{path} exists and is left as it is: choose another name, or remove it first") from None
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    return path


def _setting(made: type[Any], name: str, hint: Any, indent: str) -> Iterator[str]:
    """Explanation, then the setting: as it is if a user fills it in, else commented with its default."""
    import yaml

    info = get_args(hint)[1]
    kind = plain_hint(hint)
    choices = f" ({' | '.join(map(str, get_args(kind)))})" if get_origin(kind) is Literal else ""
    yield from _comment(f"{info.description}{choices}", indent)
    if made is RunConfig and name in FILLED:
        yield f"{name}: {FILLED[name]}"
        return
    default = next(item.default for item in fields(made) if item.name == name)
    default = getattr(default, "default", default)  # pydantic keeps the plain default inside
    default = list(default) if isinstance(default, tuple) else default
    shown = yaml.safe_dump(default, default_flow_style=True).removesuffix("...\n").strip()
    yield f"{indent}#{name}: {shown}"


def _comment(text: str, indent: str = "") -> Iterator[str]:
    return iter(textwrap.wrap(text, 118 - len(indent), initial_indent=f"{indent}# ", subsequent_indent=f"{indent}#   "))
