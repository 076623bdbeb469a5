"""Does a projection keep lengths and angles? A few vectors whose lengths and angles are known, put through it.

A map that answers zeros, or that a driver computes wrongly, ranks clips by nothing, and no later step can tell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch

from motive_fo.attribution.projection import Projection

PROBES: Final = 16
_ELEMENTS: Final = (70_001, 3, 4096)  # of three tensors: several blocks and a rest, less than a block, exactly one
_COSINES: Final = (0.0, 0.5, 0.9)
#: standard errors that a sound map may be off. ``Choice:`` 5, so that no sound one is ever called broken.
_ERRORS: Final = 5.0


@dataclass(frozen=True)
class ProjectionProbe:
    """What became of ``PROBES`` pairs of vectors.

    Attributes:
        length: mean squared length after the map by that before; 1 for an ideal map.
        cosine: largest change of a cosine.
        allowed_length, allowed_cosine: how far an ideal random map to as many numbers would be off at most.
    """

    length: float
    cosine: float
    allowed_length: float
    allowed_cosine: float

    @property
    def sound(self) -> bool:
        """Whether lengths and angles are kept."""
        return abs(self.length - 1) <= self.allowed_length and self.cosine <= self.allowed_cosine


def probe_projection(projection: Projection, device: str | torch.device = "cpu") -> ProjectionProbe:
    """Put pairs of random vectors with known cosines through a map, half of them sparse as gradients are."""
    generator = torch.Generator().manual_seed(0)
    squares, changes, dimension = [], [], 1
    for n in range(PROBES):
        a, b = (torch.randn(sum(_ELEMENTS), generator=generator) for _ in range(2))
        if n % 2:
            a, b = (x * (torch.rand(x.shape, generator=generator) < 0.01) for x in (a, b))
        wanted = _COSINES[n % len(_COSINES)]
        a, b = a / a.norm(), b / b.norm()
        b = b - (a @ b) * a
        b = wanted * a + math.sqrt(1 - wanted**2) * b / b.norm()
        one, other = (_through(projection, x, device) for x in (a, b))
        dimension = len(one)
        lengths = float(one.norm() * other.norm())
        squares += [float(one.square().sum()), float(other.square().sum())]
        changes.append(abs(float(one @ other) / lengths - wanted) if lengths > 0 else math.inf)
    return ProjectionProbe(
        sum(squares) / len(squares),
        max(changes),
        _ERRORS * math.sqrt(2 / dimension / PROBES),
        _ERRORS / math.sqrt(dimension),
    )


def device_change(projection: Projection, device: str | torch.device) -> float:
    """By how much of its length a sketch differs between a device and the CPU."""
    gradient = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0))
    here, there = (_through(projection, gradient, where) for where in ("cpu", device))
    return float((here - there).norm() / here.norm())


def _through(projection: Projection, gradient: torch.Tensor, device: str | torch.device) -> torch.Tensor:
    """The sketch of a gradient of some tensors, float64 (D,)."""
    sizes = [*_ELEMENTS, gradient.numel() - sum(_ELEMENTS)]
    parts = {
        f"probe{k}": projection.project(f"probe{k}", part.to(device))
        for k, part in enumerate(torch.split(gradient, sizes))
        if part.numel()
    }
    return projection.combine(parts).double()
