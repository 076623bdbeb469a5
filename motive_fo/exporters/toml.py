"""The little of TOML that trainers' configurations need: strings, numbers, lists, tables and lists of tables.

``Choice:`` our own, because JSON's escapes are not TOML's (a surrogate pair for an emoji is invalid there) and Python
reads TOML but does not write it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def document(settings: Mapping[str, object]) -> str:
    """A document: plain values first, then tables (mappings) and lists of tables, in the order given.

    Raises:
        TypeError: a value that is none of these.
    """
    plain = [f"{key} = {_value(value)}" for key, value in settings.items() if not _tables(key, value)]
    tables = [table for key, value in settings.items() for table in _tables(key, value)]
    lines = [*plain, *(line for head, table in tables for line in ("", head, *_lines(table)))]
    return "\n".join(lines).lstrip("\n") + "\n"


def _tables(key: str, value: object) -> list[tuple[str, Mapping[str, object]]]:
    """The tables a value is made of, each with its head line; none where it is a plain value."""
    if isinstance(value, Mapping):
        return [(f"[{key}]", value)]
    if isinstance(value, list):
        return [(f"[[{key}]]", entry) for entry in value if isinstance(entry, Mapping)]
    return []


def _lines(table: Mapping[str, object]) -> list[str]:
    return [f"{name} = {_value(value)}" for name, value in table.items()]


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return '"' + "".join(map(_character, value)) + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    raise TypeError(f"{type(value).__name__} has no place in these configurations")


def _character(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    code = ord(character)
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"
    return f"\\u{code:04x}" if code < 32 or code == 127 else character
