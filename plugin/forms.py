"""Operator forms made from the settings classes: fields with defaults, units and validation, and what was filled in.

A dynamic form is resolved again at every keystroke, so nothing here asks the database to count: what must be counted is
remembered for some seconds (``remember``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from fiftyone.operators import types
from pydantic import ValidationError

from motive_fo.config import PRESET_HELP, Preset, plain_hint
from motive_fo.errors import ConfigError, MotiveError

REMEMBERED_SECONDS: Final = 20.0

_remembered: dict[tuple[str, ...], tuple[float, Any]] = {}


@dataclass(frozen=True)
class Section:
    """The settings of one class in a form.

    Attributes:
        made: the settings class.
        basic: settings that are always shown; all others only behind the switch "advanced".
        only: the form has only these; all where empty.
    """

    made: type[Any]
    basic: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def names(self, advanced: bool | None) -> list[str]:
        """The settings a form shows; with None every setting it ever shows."""
        every = [item.name for item in fields(self.made) if not self.only or item.name in self.only]
        return [name for name in every if advanced is None or (name in self.basic) != advanced]


class Form:
    """The inputs of an operator as they are shown for what was filled in so far."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params
        self.inputs: Any = types.Object()
        self._properties: dict[str, Any] = {}

    def add(self, name: str, kind: str, **shown: Any) -> None:
        """A field; ``kind`` is a method of FiftyOne's ``types.Object``."""
        self._properties[name] = getattr(self.inputs, kind)(name, **shown)

    def choice(self, name: str, options: Mapping[str, str], **shown: Any) -> None:
        """A choice of value -> label."""
        view = types.Dropdown()
        for value, label in options.items():
            view.add_choice(value, label=label)
        self._properties[name] = self.inputs.enum(name, view.values(), view=view, **shown)

    def suggest(self, name: str, options: list[str], **shown: Any) -> None:
        """A text with suggestions."""
        view = types.AutocompleteView(allow_duplicates=False)
        for value in options:
            view.add_choice(value, label=value)
        self._properties[name] = self.inputs.str(name, view=view, **shown)

    def settings(self, section: Section, *, advanced: bool) -> None:
        """The section's fields of one kind, each with default, unit and what is wrong with it."""
        hints = get_type_hints(section.made, include_extras=True)
        for item in fields(section.made):
            if item.name in section.names(advanced):
                hint, info = get_args(hints[item.name])[:2]
                default = getattr(item.default, "default", item.default)  # pydantic keeps the plain default inside
                self._setting(item.name, plain_hint(hint), default, info.description)
        for name, wrong in wrong_settings(self.params, section.made).items():
            self.refuse(name, wrong)

    def preset(self) -> None:
        """A choice of presets."""
        text = f"{PRESET_HELP}; what is left as the form shows it is taken from the preset; the run's own where empty"
        self.choice("preset", {name: name for name in get_args(Preset)}, label="Preset", description=text)

    def refuse(self, name: str, sentence: str) -> None:
        """Mark a field as wrong, which keeps the operator from being executed. Of several sentences the first stays."""
        found = self._properties.get(name)
        if found is None:
            self.problem(sentence)
        elif not found.invalid:
            found.invalid, found.error_message = True, sentence

    def problem(self, sentence: str) -> None:
        """Something that keeps the operator from being executed and is no field's fault."""
        shown = self.inputs.view(f"problem{len(self.inputs.properties)}", types.Error(label=sentence))
        shown.invalid, shown.error_message = True, sentence

    def warn(self, sentence: str) -> None:
        """Something to know that keeps nothing from being executed."""
        self.inputs.view(f"warning{len(self.inputs.properties)}", types.Warning(label=sentence))

    def tell(self, title: str, sentences: list[str]) -> None:
        """What will happen."""
        self.inputs.view("notice", types.Notice(label=title, description=" ".join(sentences)))

    @property
    def is_valid(self) -> bool:
        return not any(found.invalid for found in self.inputs.properties.values())

    def _setting(self, name: str, hint: Any, default: Any, description: str) -> None:
        shown: dict[str, Any] = {
            "label": name.replace("_", " ").capitalize(),
            "description": description,
            "default": default,
        }
        if get_origin(hint) is Literal:
            self.choice(name, {value: str(value) for value in get_args(hint)}, **shown)
        elif get_origin(hint) is tuple:
            self.add(name, "str", **{**shown, "default": None if default is None else ",".join(map(str, default))})
        else:
            self.add(name, {int: "int", float: "float", bool: "bool"}.get(hint, "str"), **shown)


def read_settings(params: Mapping[str, Any], made: type[Any]) -> dict[str, Any]:
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


def read_changes(params: Mapping[str, Any], made: type[Any]) -> dict[str, Any]:
    """The settings that were filled in otherwise than the form's defaults.

    For settings a run keeps for good: a default left alone means the run's own, not the default forced upon it.
    """
    defaults = made()
    return {name: value for name, value in read_settings(params, made).items() if value != getattr(defaults, name)}


def shown_params(params: Mapping[str, Any], sections: tuple[Section, ...]) -> dict[str, Any]:
    """What was filled in, without what is folded away: a switch turned off takes back what was set behind it.

    A call from Python knows no switch, and none of its settings are folded away.
    """
    if params.get("advanced") is not False:
        return dict(params)
    folded = {name for section in sections for name in section.names(advanced=True)} | {"preset"}
    return {name: value for name, value in params.items() if name not in folded}


def wrong_settings(params: Mapping[str, Any], made: type[Any]) -> dict[str, str]:
    """Setting -> what is wrong with it."""
    wrong: dict[str, str] = {}
    given: dict[str, Any] = {}
    for item in fields(made):
        try:
            given |= read_settings({item.name: params.get(item.name)}, made)
        except ConfigError as error:
            wrong[item.name] = str(error)
    try:
        made(**given)
    except ValidationError as error:
        for each in error.errors():
            wrong.setdefault(str(each["loc"][0]), f"{each['msg'][:1].lower()}{each['msg'][1:]}, not {each['input']!r}")
    return wrong


def chosen_path(params: Mapping[str, Any], name: str) -> str:
    """The path that was chosen in a field for files, or given to it as a text; empty where there is none."""
    value = params.get(name)
    return str((value.get("absolute_path") if isinstance(value, dict) else value) or "")


def wrong_folder(path: str) -> str | None:
    """What keeps a folder from being written to, looking at the nearest one that exists."""
    place = Path(path).expanduser()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return f"{place} is a file, not a folder"
    try:
        place.stat()
    except OSError as error:
        return f"{place}: {error.strerror}"
    return None if _may(place, write=True) else f"you may not write to {place}: choose another folder"


def wrong_source(path: str) -> str | None:
    """What keeps a folder or file from being read."""
    place = Path(path).expanduser()
    if not place.exists():
        return f"there is no {place}"
    return None if _may(place, write=False) else f"you may not read {place}"


def said(check: Callable[[], Any]) -> str | None:
    """What a check of ours raises, as a sentence; None where it does not."""
    try:
        check()
    except MotiveError as error:
        return " ".join(str(error).split())
    return None


def remember(key: tuple[str, ...], make: Callable[[], Any], *, renew: bool = False) -> Any:
    """What ``make`` returned within the last seconds, or what it returns now."""
    now = time.monotonic()
    found = _remembered.get(key)
    if found is None or renew or now - found[0] > REMEMBERED_SECONDS:
        for old in [k for k, (made, _) in _remembered.items() if now - made > REMEMBERED_SECONDS]:
            del _remembered[old]
        found = _remembered[key] = (now, make())
    return found[1]


def _may(place: Path, *, write: bool) -> bool:
    return os.access(place, (os.W_OK if write else os.R_OK) | (os.X_OK if place.is_dir() else 0))


def _listed(name: str, value: Any, hint: Any) -> tuple[Any, ...]:
    """Values written with commas between them. Raises ``ConfigError`` where one is not of the setting's kind."""
    if not isinstance(value, str):
        return tuple(value)
    kind = plain_hint(get_args(hint)[0])
    try:
        return tuple(kind(part.strip()) for part in value.split(",") if part.strip())
    except ValueError:
        raise ConfigError(f"{name}: {value!r} is not a list of numbers separated by commas") from None
