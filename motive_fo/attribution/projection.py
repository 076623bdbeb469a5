"""Projection of a gradient to D numbers, tensor by tensor.

A projection is linear and is given one parameter tensor at a time: the sketch of a whole gradient is the sum of its
tensors' parts, so a backward hook can project a tensor and free it, and the full gradient never exists.

``FastfoodProjection`` is the method's map; ``GaussianProjection`` and ``IdentityProjection`` are oracles that say what
a perfect random map and no map at all would give.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch

from motive_fo.attribution import counter, hadamard
from motive_fo.errors import ConfigError

_SIGNS, _GAUSSIANS, _ORDER = 0, 1, 2  # Philox streams
_GROUP_ELEMENTS = 1 << 20  # elements projected at once: bounds scratch memory, depends on nothing but the tensor


class Projection(Protocol):
    """A linear map from named gradient tensors to one sketch."""

    def identity(self) -> Mapping[str, Any]:
        """Map, version and settings: whatever changes the numbers. Part of the store's identity."""
        ...

    def project(self, name: str, gradient: torch.Tensor) -> torch.Tensor:
        """The part of one tensor, float32. ``name`` keys the randomness; any shape and floating dtype."""
        ...

    def combine(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The sketch, float32 (D,) on the CPU, from the parts of all tensors."""
        ...


class FastfoodProjection:
    """Blocked, streamed Fastfood: P = 1/sqrt(n) S H G Pi H B in every block of n elements, the blocks' outputs summed.

    ``Paper: Eq. 8`` for one block. ``Choice:`` blocks, because one transform over all parameters is neither affordable
    nor streamable; every block has its own signs B and Gaussians G, all blocks of one size share the permutation Pi.
    Since the D kept rows of H_n in Sylvester order are (a row of ones) x H_D, the second transform is a sum over the
    n/D pieces of a block and one H_D at the very end. Each block carries its own 1/sqrt(n), so that E|Pg|^2 = |g|^2
    whatever the blocking, and inner products are kept without bias.

    Args:
        dimension: D, a power of two of at least 128.
        block: n, a power of two of at least D; a tensor's last block shrinks to the power of two that holds it, but not
            below 4 D: with n = D every output has one Gaussian, and a block's inner products spread up to 1.7 times as
            far as an ideal map's.
        seed: seed of the map.
        cache_bytes: signs and Gaussians are kept up to this size instead of being made again for every gradient.
            Changes speed only.
    """

    def __init__(self, dimension: int = 512, block: int = 4096, seed: int = 0, cache_bytes: int = 256 << 20) -> None:
        if not hadamard.is_power_of_two(dimension) or dimension < 128:
            raise ConfigError(f"fastfood takes a dimension that is a power of two of at least 128, not {dimension}")
        if not hadamard.is_power_of_two(block):
            raise ConfigError(f"fastfood takes a block that is a power of two, not {block}")
        self.dimension = dimension
        self.block = max(block, dimension)
        self.seed = seed
        self._cache: dict[tuple[str, int, int, torch.device], tuple[torch.Tensor, torch.Tensor]] = {}
        self._cache_left = cache_bytes
        self._orders: dict[tuple[int, torch.device], torch.Tensor] = {}

    def identity(self) -> Mapping[str, Any]:
        return {
            "map": "fastfood",
            "version": 1,
            "dimension": self.dimension,
            "block": self.block,
            "seed": self.seed,
        }

    def project(self, name: str, gradient: torch.Tensor) -> torch.Tensor:
        flat = gradient.detach().reshape(-1).to(torch.float32)
        full = flat.numel() // self.block
        part_D: torch.Tensor = torch.zeros(self.dimension, dtype=torch.float32, device=flat.device)
        group = max(1, _GROUP_ELEMENTS // self.block)
        for first in range(0, full, group):
            rows = min(group, full - first)
            x = flat[first * self.block : (first + rows) * self.block].view(rows, self.block)
            part_D += self._blocks(name, first, x)
        tail = flat[full * self.block :]
        if tail.numel():
            n = min(self.block, 4 * self.dimension)
            while n < tail.numel():
                n *= 2
            part_D += self._blocks(name, full, torch.nn.functional.pad(tail, (0, n - tail.numel()))[None])
        return part_D

    def combine(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        total = torch.zeros(self.dimension, dtype=torch.float64)
        for name in sorted(parts):  # one order and float64: the sum does not depend on when a tensor came
            total += parts[name].to("cpu", torch.float64)
        last = hadamard.matrix(self.dimension, total.device, torch.float64)
        return (last @ total / math.sqrt(self.dimension)).to(torch.float32)

    def _blocks(self, name: str, first: int, x_Bn: torch.Tensor) -> torch.Tensor:
        """Sum over blocks and pieces of G Pi H B x / sqrt(n): float32 (D,)."""
        rows, n = x_Bn.shape
        signs, scale = self._random(name, first, rows, n, x_Bn.device)
        y = hadamard.transform(x_Bn * signs)
        y = y[:, self._order(n, x_Bn.device)] * scale
        return y.view(-1, self.dimension).sum(0) / math.sqrt(n)

    def _random(
        self, name: str, first: int, rows: int, n: int, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """B as int8 and G as float32, both (rows, n)."""
        at = (name, first, n, device)
        known = self._cache.get(at)
        if known is not None:
            return known
        key = counter.derive_key("fastfood", self.seed, name)
        made = (
            counter.signs(key, _SIGNS, first, rows, n, device),
            counter.gaussians(key, _GAUSSIANS, first, rows, n, device),
        )
        size = 5 * rows * n
        if size <= self._cache_left:
            self._cache_left -= size
            self._cache[at] = made
        return made

    def _order(self, n: int, device: torch.device) -> torch.Tensor:
        """Pi: a fixed random order of n elements."""
        at = (n, device)
        if at not in self._orders:
            key = counter.derive_key("fastfood", self.seed)
            drawn = counter.words(key, _ORDER, n, 1, n, torch.device("cpu"))[0]
            self._orders[at] = torch.argsort(drawn, stable=True).to(device)
        return self._orders[at]


class GaussianProjection:
    """The ideal random map: a dense D x P matrix of independent Gaussians over sqrt(D), made again for every tensor.

    Costs D random numbers per element: for tests and small models.
    """

    def __init__(self, dimension: int = 512, seed: int = 0) -> None:
        if dimension % 8:
            raise ConfigError(f"gaussian takes a dimension that is a multiple of 8, not {dimension}")
        self.dimension = dimension
        self.seed = seed

    def identity(self) -> Mapping[str, Any]:
        return {"map": "gaussian", "version": 1, "dimension": self.dimension, "seed": self.seed}

    def project(self, name: str, gradient: torch.Tensor) -> torch.Tensor:
        flat = gradient.detach().reshape(-1).to(torch.float32)
        key = counter.derive_key("gaussian", self.seed, name)
        part_D: torch.Tensor = torch.zeros(self.dimension, dtype=torch.float32, device=flat.device)
        rows = max(1, _GROUP_ELEMENTS // self.dimension)
        for first in range(0, flat.numel(), rows):
            piece = flat[first : first + rows]
            part_D += piece @ counter.gaussians(key, 0, first, piece.numel(), self.dimension, flat.device)
        return part_D / math.sqrt(self.dimension)

    def combine(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        total = torch.zeros(self.dimension, dtype=torch.float64)
        for name in sorted(parts):
            total += parts[name].to("cpu", torch.float64)
        return total.to(torch.float32)


class IdentityProjection:
    """No projection: the sketch is the whole gradient in name order. For tests and small models."""

    def __init__(self, size: int) -> None:
        self.dimension = size

    def identity(self) -> Mapping[str, Any]:
        return {"map": "identity", "version": 1, "dimension": self.dimension}

    def project(self, name: str, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.detach().reshape(-1).to("cpu", torch.float32, copy=True)

    def combine(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        sketch = torch.cat([parts[name] for name in sorted(parts)])
        if sketch.numel() != self.dimension:
            raise ValueError(f"{sketch.numel()} gradient elements came, {self.dimension} were expected")
        return sketch


def build_projection(kind: str, *, dimension: int, block: int, seed: int, parameters: int) -> Projection:
    """The projection chosen by name. ``parameters`` is the model's number of attributed elements."""
    if kind == "fastfood":
        return FastfoodProjection(dimension, block, seed)
    if kind == "gaussian":
        return GaussianProjection(dimension, seed)
    if kind == "identity":
        if parameters > 1 << 26:
            raise ConfigError(f"identity keeps all {parameters:,} numbers of a gradient: choose fastfood")
        return IdentityProjection(parameters)
    raise ConfigError(f"unknown projection {kind!r}: choose fastfood, gaussian or identity")
