"""The default map (``SRHTProjection``) on a GPU in one pass over the gradient, by a Triton kernel.

In plain torch the random signs, the transform, the choice of rows and the sum are kernels of their own, each of which
reads and writes as much as the gradient. Here a block stays on the chip from its reading to its D numbers. The matrix
is the same; sums are added in another order, so that sketches agree up to rounding.

Deterministic: no atomic additions. Each of a fixed number of programs adds its own blocks in order, and the programs'
parts are added once. Before its first use on a GPU the kernel is compared with plain torch; where it does not agree or
does not compile, plain torch is used and a warning says so. ``MOTIVE_FUSED=0`` switches it off.
"""

from __future__ import annotations

import os
import warnings
from contextlib import nullcontext
from functools import lru_cache
from importlib.util import find_spec
from typing import Final

import torch

from motive_fo.attribution.counter import Key

SWITCH: Final = "MOTIVE_FUSED"
AGREES: Final = 1e-5
"""Largest difference from plain torch that is taken for rounding, relative to the part's length."""

_PROGRAMS: Final = 512  # a number of its own, not the GPU's: the order of the sum must not depend on the GPU
#: size of a block -> the two factors of its transform; a tensor core takes at least 16.
_FACTORS: Final = {256: (16, 16), 512: (16, 32), 1024: (32, 32), 2048: (32, 64), 4096: (64, 64)}


def covers(dimension: int, block: int) -> bool:
    """Whether there is a kernel for a map's sizes. All blocks, shorter last ones too, are at least D."""
    return dimension in _FACTORS and block in _FACTORS


def project(flat: torch.Tensor, key: Key, dimension: int, block: int, signs: int, rows: int) -> torch.Tensor:
    """The sum over blocks of S R H B x, float32 (D,) on the tensor's device: ``SRHTProjection`` but for 1/sqrt(D).

    Args:
        flat: (P,), contiguous, of any floating type.
        key: of the tensor's random numbers.
        signs, rows: Philox streams of B, and of R and S.
    """
    full = flat.numel() // block
    tail = flat[full * block :]
    programs = min(full, _PROGRAMS)
    parts = torch.empty(max(1, programs + bool(tail.numel())), dimension, dtype=torch.float32, device=flat.device)
    if not flat.numel():
        return parts[0].zero_()
    with torch.cuda.device(flat.device) if flat.is_cuda else nullcontext():
        if full:
            _launch(flat, parts[:programs], 0, full, key, block, signs, rows)
        if tail.numel():
            size = min(block, dimension)
            while size < tail.numel():
                size *= 2
            _launch(tail, parts[programs:], full, 1, key, size, signs, rows)
    return parts.sum(0)


def _launch(
    x: torch.Tensor, parts: torch.Tensor, first: int, blocks: int, key: Key, size: int, signs: int, rows: int
) -> None:
    from motive_fo.attribution.fused_kernel import dot_type, kernel

    a, b = _FACTORS[size]
    kernel[(len(parts),)](
        x,
        parts,
        min(x.numel(), blocks * size),
        first,
        blocks,
        *(word - (word >> 31 << 32) for word in key),  # as signed numbers of 32 bits
        N=size,
        A=a,
        B=b,
        D=parts.shape[1],
        SIGNS=signs,
        ROWS=rows,
        SHORT=x.dtype == torch.bfloat16,
        DOT=dot_type,
    )


@lru_cache(maxsize=16)
def usable(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernel is there and gives what plain torch gives on this device. Compiles it (seconds, once)."""
    if os.environ.get(SWITCH) == "0" or find_spec("triton") is None:
        return False
    try:
        difference = self_test(device, dtype)
    except Exception as error:  # whatever a compiler raises
        problem = f"does not work here ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    else:
        if difference <= AGREES:
            return True
        problem = f"differs from plain torch by {difference:.1e}"
    warnings.warn(
        f"the fused projection {problem}: plain torch is used, which is slower; {SWITCH}=0 leaves this check out",
        RuntimeWarning,
        stacklevel=2,
    )
    return False


def self_test(device: torch.device, dtype: torch.dtype) -> float:
    """Largest relative difference from plain torch on tensors with and without shorter last blocks of every size."""
    from motive_fo.attribution.projection import SRHTProjection

    fused, plain = SRHTProjection(cache_bytes=0), SRHTProjection(cache_bytes=0, fused=False)
    worst = 0.0
    for size in (3, 700, 1500, 4096, 2 * 4096 + 3000):
        x = torch.randn(size, generator=torch.Generator().manual_seed(size)).to(device, dtype)
        expected, made = plain.project("self-test", x), fused.project_fused("self-test", x)
        worst = max(worst, float((made - expected).norm() / expected.norm()))
    return worst
