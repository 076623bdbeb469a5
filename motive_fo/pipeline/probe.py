"""What a gradient takes beside time: tokens of a clip, bytes of weights, and the most memory held meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from motive_fo.models.base import StagedModel, VideoModel
from motive_fo.models.offload import blocks_of


class Probe:
    """See the module's text. Made by ``probed``.

    Attributes:
        tokens: length of the sequence that a block of the network was last given; None where none computed.
        memory: ``weights`` and ``peak``, bytes; empty until ``finish``, and where a network was never loaded.
        memory_on: ``GPU``, or ``process`` for the resident set of the whole process.
    """

    def __init__(self, model: VideoModel) -> None:
        self._model = model
        outline = model.outline() if isinstance(model, StagedModel) else model.network
        self._blocks = {type(block) for block in blocks_of(outline)}
        self.tokens: int | None = None
        self.memory: dict[str, int] = {}
        self.memory_on = "GPU" if model.device.type == "cuda" else "process"
        _reset_peak(model.device)

    def see(self, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        """A global forward hook: blocks give tokens as (batch, tokens, width)."""
        first = output[0] if isinstance(output, tuple) else output
        if type(module) in self._blocks and isinstance(first, torch.Tensor) and first.ndim == 3:
            self.tokens = int(first.shape[1])

    def finish(self) -> None:
        """Read off the memory, while the network is still there."""
        if self.tokens is None and isinstance(self._model, StagedModel):  # not there, and not loaded to be weighed
            return
        weights = sum(p.numel() * p.element_size() for p in self._model.network.parameters())
        peak = _peak(self._model.device)
        self.memory = {"weights": weights, **({} if peak is None else {"peak": peak})}


@contextmanager
def probed(model: VideoModel) -> Iterator[Probe]:
    """Watches a model's gradients being taken."""
    probe = Probe(model)
    handle = torch.nn.modules.module.register_module_forward_hook(probe.see)
    try:
        yield probe
    finally:
        handle.remove()


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform.startswith("linux"):
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
        except OSError:  # then it is that of the process so far, which is no less
            return


def _peak(device: torch.device) -> int | None:
    """Bytes; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if not sys.platform.startswith("linux"):
        return None
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
