"""Projection of a gradient to D numbers, tensor by tensor.

A projection is linear and is given one parameter tensor at a time: the sketch of a whole gradient is the sum of its
tensors' parts, so a backward hook can project a tensor and free it, and the full gradient never exists.

``FastfoodProjection`` is the paper's map, ``SRHTProjection`` a cheaper one of the same quality (docs/benchmarks.md);
``GaussianProjection`` and ``IdentityProjection`` are oracles that say what a perfect random map and no map at all would
give.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch

from motive_fo.attribution import counter, hadamard
from motive_fo.attribution import fused as fused_map
from motive_fo.errors import ConfigError

_SIGNS, _GAUSSIANS, _ORDER, _ROWS = 0, 1, 2, 3  # Philox streams
_GROUP_ELEMENTS = 1 << 19  # elements projected at once: bounds scratch memory, depends on nothing but the tensor


CACHE_BYTES = 16 << 20
"""Random numbers a map keeps: enough for a model of a few million parameters, where making them costs most of the time,
and little beside a large one."""


class Projection(Protocol):
    """A linear map from named gradient tensors to one sketch."""

    @property
    def part_size(self) -> int | None:
        """How many numbers every part has; None where they differ from tensor to tensor."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """Map, version and settings: whatever changes the numbers. Part of the store's identity."""
        ...

    def project(self, name: str, gradient: torch.Tensor) -> torch.Tensor:
        """The part of one tensor, float32. ``name`` keys the randomness; any shape and floating dtype."""
        ...

    def project_each(self, name: str, gradients_B: torch.Tensor) -> torch.Tensor:
        """The parts of several clips' gradients of one tensor, (B, ...) to (B, D): ``project`` of each, bit for bit."""
        return torch.stack([self.project(name, gradient) for gradient in gradients_B])

    def combine(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The sketch, float32 (D,) on the CPU, from the parts of all tensors; (B, D) from parts (B, D)."""
        ...


def _blocks(flat_BP: torch.Tensor, n: int, least: int) -> Iterator[tuple[int, torch.Tensor]]:
    """A tensor's elements in float32 blocks, B clips at once: (number of the first block, (B, K, n)), K bounded.

    The last block is padded with zeros to the power of two that holds it, at least ``least`` (and at most n).
    """
    clips, elements = flat_BP.shape
    full = elements // n
    group = max(1, _GROUP_ELEMENTS // n)
    for first in range(0, full, group):
        rows = min(group, full - first)
        yield first, flat_BP[:, first * n : (first + rows) * n].reshape(clips, rows, n).to(torch.float32)
    tail = flat_BP[:, full * n :].to(torch.float32)
    if tail.numel():
        size = min(n, least)
        while size < tail.shape[1]:
            size *= 2
        yield full, torch.nn.functional.pad(tail, (0, size - tail.shape[1]))[:, None]


def _sum_of_parts(parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """float64 (..., D) on the CPU, added in name order: the sum does not depend on when a tensor came."""
    first, *others = sorted(parts)
    total = parts[first].to("cpu", torch.float64, copy=True)
    for name in others:
        total += parts[name].to("cpu", torch.float64)
    return total


def _require_powers(kind: str, dimension: int, block: int) -> None:
    if not hadamard.is_power_of_two(dimension) or dimension < 128:
        raise ConfigError(f"{kind} takes a dimension that is a power of two of at least 128, not {dimension}")
    if not hadamard.is_power_of_two(block):
        raise ConfigError(f"{kind} takes a block that is a power of two, not {block}")


class FastfoodProjection(Projection):
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

    def __init__(self, dimension: int = 512, block: int = 4096, seed: int = 0, cache_bytes: int = CACHE_BYTES) -> None:
        _require_powers("fastfood", dimension, block)
        self.dimension = dimension
        self.block = max(block, dimension)
        self.seed = seed
        self._cache: dict[tuple[str, int, int, int, torch.device], tuple[torch.Tensor, torch.Tensor]] = {}
        self._cache_left = cache_bytes
        self._orders: dict[tuple[int, torch.device], torch.Tensor] = {}

    @property
    def part_size(self) -> int | None:
        return self.dimension

    def identity(self) -> Mapping[str, Any]:
        return {
            "map": "fastfood",
            "version": 1,
            "dimension": self.dimension,
            "block": self.block,
            "seed": self.seed,
        }

    def project(self, name: str, gradient: torch.Tensor) -> torch.Tensor:
        return self.project_each(name, gradient[None])[0]

    def project_each(self, name: str, gradients_B: torch.Tensor) -> torch.Tensor:
        flat_BP = gradients_B.detach().flatten(1)
        part_BD = torch.zeros(len(flat_BP), self.dimension, dtype=torch.float32, device=flat_BP.device)
        for first, x in _blocks(flat_BP, self.block, 4 * self.dimension):
            part_BD += self._project_blocks(name, first, x)
        return part_BD

    def combine(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        total = _sum_of_parts(parts)
        last = hadamard.matrix(self.dimension, total.device, torch.float64)
        return (total @ last / math.sqrt(self.dimension)).to(torch.float32)  # it is symmetric

    def _project_blocks(self, name: str, first: int, x_BKn: torch.Tensor) -> torch.Tensor:
        """Sum over blocks and pieces of G Pi H B x / sqrt(n): float32 (B, D)."""
        clips, rows, n = x_BKn.shape
        signs, scale = self._random(name, first, rows, n, x_BKn.device)
        y = hadamard.transform((x_BKn * signs).view(-1, n)).view(clips, rows, n)
        y = y[..., self._order(n, x_BKn.device)] * scale
        return y.view(clips, -1, self.dimension).sum(1) / math.sqrt(n)

    def _random(
        self, name: str, first: int, rows: int, n: int, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """B as int8 and G as float32, both (rows, n)."""
        at = (name, first, rows, n, device)
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


class SRHTProjection(Projection):
    """Blocked, streamed subsampled randomised Hadamard transform: P = 1/sqrt(D) S R H B in every block of n elements.

    ``Choice:`` beside the paper's Fastfood, for a small part of its random numbers and no permutation. In each block
    B are random signs, H the Walsh-Hadamard transform, R one row at random out of every n/D neighbours, S random signs
    of the D rows kept; the blocks' outputs are summed. B, R and S are drawn anew for every block.

    Inner products are kept without bias, and for *any* two gradients the variance is at most that of an ideal Gaussian
    map: two elements i, j of one block meet with the weight sum over kept rows r of (-1)^|r & (i ^ j)|, whose square
    is 0 or D on average since a row is free among its n/D neighbours; two elements of different blocks meet with the
    square D because S gives every row a sign of its own.

    Args:
        dimension: D, a power of two of at least 128.
        block: n, a power of two of at least D and at most 2^15 D; a tensor's last block shrinks to the power of two
            that holds it, but not below D.
        seed: seed of the map.
        cache_bytes: signs and rows are kept up to this size instead of being made again for every gradient. Changes
            speed only.
        fused: whether a GPU does it in one pass where it can (``motive_fo.attribution.fused``). Changes rounding only.
    """

    def __init__(
        self,
        dimension: int = 512,
        block: int = 4096,
        seed: int = 0,
        cache_bytes: int = CACHE_BYTES,
        *,
        fused: bool = True,
    ) -> None:
        _require_powers("srht", dimension, block)
        if block > dimension << 15:
            raise ConfigError(f"srht takes a block of at most {dimension << 15} for a dimension of {dimension}")
        self.dimension = dimension
        self.block = max(block, dimension)
        self.seed = seed
        self._fused = fused and fused_map.covers(self.dimension, self.block)
        self._cache: dict[tuple[str, int, int, int, torch.device], tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}
        self._cache_left = cache_bytes

    @property
    def part_size(self) -> int | None:
        return self.dimension

    def identity(self) -> Mapping[str, Any]:
        return {"map": "srht", "version": 1, "dimension": self.dimension, "block": self.block, "seed": self.seed}

    def project(self, name: str, gradient: torch.Tensor) -> torch.Tensor:
        flat = gradient.detach().reshape(-1)
        if self._fused and flat.is_cuda and fused_map.usable(flat.device, flat.dtype):
            return self.project_fused(name, flat)
        return self._project_each(name, flat[None])[0]

    def project_each(self, name: str, gradients_B: torch.Tensor) -> torch.Tensor:
        if gradients_B.is_cuda:
            return super().project_each(name, gradients_B)
        return self._project_each(name, gradients_B.detach().flatten(1))

    def _project_each(self, name: str, flat_BP: torch.Tensor) -> torch.Tensor:
        part_BD = torch.zeros(len(flat_BP), self.dimension, dtype=torch.float32, device=flat_BP.device)
        for first, x_BKn in _blocks(flat_BP, self.block, self.dimension):
            clips, blocks, n = x_BKn.shape
            signs, rows, row_signs = self._random(name, first, blocks, n, x_BKn.device)
            # a product of float32 and int8 is several times slower than one of two float32
            y = hadamard.transform((x_BKn * signs.float()).view(-1, n)).view(clips, blocks, n)
            part_BD += (y.gather(2, rows.expand(clips, -1, -1)) * row_signs.float()).sum(1)
        return part_BD / math.sqrt(self.dimension)

    def project_fused(self, name: str, gradient: torch.Tensor) -> torch.Tensor:
        """``project`` by the Triton kernel, whether or not it is known to be usable."""
        flat = gradient.detach().reshape(-1)
        key = counter.derive_key("srht", self.seed, name)
        return fused_map.project(flat, key, self.dimension, self.block, _SIGNS, _ROWS) / math.sqrt(self.dimension)

    def combine(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return _sum_of_parts(parts).to(torch.float32)

    def _random(
        self, name: str, first: int, blocks: int, n: int, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """B as int8 (blocks, n); the rows kept, int64, and their signs S as int8, both (blocks, D)."""
        at = (name, first, blocks, n, device)
        known = self._cache.get(at)
        if known is not None:
            return known
        key = counter.derive_key("srht", self.seed, name)
        drawn = counter.halves(key, _ROWS, first, blocks, self.dimension, device)
        neighbours = n // self.dimension  # at most 2^15: one of the 16 bits is left for the sign
        rows = torch.arange(self.dimension, device=device) * neighbours + drawn % neighbours
        row_signs = (1 - 2 * (drawn >> 15)).to(torch.int8)
        made = counter.signs(key, _SIGNS, first, blocks, n, device), rows, row_signs
        size = sum(each.numel() * each.element_size() for each in made)
        if size <= self._cache_left:
            self._cache_left -= size
            self._cache[at] = made
        return made


class GaussianProjection(Projection):
    """The ideal random map: a dense D x P matrix of independent Gaussians over sqrt(D), made again for every tensor.

    Costs D random numbers per element: for tests and small models.
    """

    def __init__(self, dimension: int = 512, seed: int = 0) -> None:
        if dimension % 8:
            raise ConfigError(f"gaussian takes a dimension that is a multiple of 8, not {dimension}")
        self.dimension = dimension
        self.seed = seed

    @property
    def part_size(self) -> int | None:
        return self.dimension

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
        return _sum_of_parts(parts).to(torch.float32)


class IdentityProjection(Projection):
    """No projection: the sketch is the whole gradient in name order. For tests and small models."""

    def __init__(self, size: int) -> None:
        self.dimension = size

    @property
    def part_size(self) -> int | None:
        return None

    def identity(self) -> Mapping[str, Any]:
        return {"map": "identity", "version": 1, "dimension": self.dimension}

    def project(self, name: str, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.detach().reshape(-1).to("cpu", torch.float32, copy=True)

    def combine(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        sketch = torch.cat([parts[name] for name in sorted(parts)], dim=-1)
        if sketch.shape[-1] != self.dimension:
            raise ValueError(f"{sketch.shape[-1]} gradient elements came, {self.dimension} were expected")
        return sketch


def build_projection(kind: str, *, dimension: int, block: int, seed: int, parameters: int) -> Projection:
    """The projection chosen by name. ``parameters`` is the model's number of attributed elements."""
    if kind == "fastfood":
        return FastfoodProjection(dimension, block, seed)
    if kind == "srht":
        return SRHTProjection(dimension, block, seed)
    if kind == "gaussian":
        return GaussianProjection(dimension, seed)
    if kind == "identity":
        if parameters > 1 << 26:
            raise ConfigError(f"identity keeps all {parameters:,} numbers of a gradient: choose fastfood or srht")
        return IdentityProjection(parameters)
    raise ConfigError(f"unknown projection {kind!r}: choose fastfood, srht, gaussian or identity")
