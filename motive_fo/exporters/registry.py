"""Exporters by name."""

from __future__ import annotations

from motive_fo.errors import ConfigError
from motive_fo.exporters.base import Exporter
from motive_fo.exporters.diffsynth import DiffSynthExporter

_EXPORTERS: dict[str, type[Exporter]] = {"diffsynth": DiffSynthExporter}


def build_exporter(name: str) -> Exporter:
    """The exporter of a trainer. Raises ``ConfigError`` for an unknown one."""
    if name not in _EXPORTERS:
        raise ConfigError(f"unknown export layout {name!r}: choose one of {', '.join(sorted(_EXPORTERS))}")
    return _EXPORTERS[name]()
