"""Exporters by name."""

from __future__ import annotations

from motive_fo.errors import ConfigError
from motive_fo.exporters.base import Exporter
from motive_fo.exporters.diffsynth import DiffSynthExporter
from motive_fo.exporters.diffusion_pipe import DiffusionPipeExporter
from motive_fo.exporters.finetrainers import FinetrainersExporter
from motive_fo.exporters.musubi import MusubiExporter
from motive_fo.exporters.vbench import VBenchExporter
from motive_fo.exporters.videofolder import VideofolderExporter

_EXPORTERS: dict[str, type[Exporter]] = {
    made.name: made
    for made in (
        DiffSynthExporter,
        FinetrainersExporter,
        DiffusionPipeExporter,
        MusubiExporter,
        VideofolderExporter,
        VBenchExporter,
    )
}

LAYOUTS = tuple(_EXPORTERS)


def build_exporter(name: str) -> Exporter:
    """The exporter of a trainer. Raises ``ConfigError`` for an unknown one."""
    if name not in _EXPORTERS:
        raise ConfigError(f"unknown export layout {name!r}: choose one of {', '.join(sorted(_EXPORTERS))}")
    return _EXPORTERS[name]()
