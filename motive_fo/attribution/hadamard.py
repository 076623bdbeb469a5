"""The Walsh-Hadamard transform, unnormalised, in Sylvester order.

``H_(ab) = H_a (x) H_b``: a transform of size n is two or three products with small Hadamard matrices, which plain
torch does at the speed of its matrix product. On CUDA the compiled kernel of ``fast-hadamard-transform`` is used where
it is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import cast

import torch

_FACTOR = 64  # products of 64x64 measured best on a CPU (benchmarks/projection.py)
_KERNEL_LIMIT = 32768  # fast-hadamard-transform's largest size


def is_power_of_two(n: int) -> bool:
    """Whether n is 1, 2, 4, 8, ..."""
    return n > 0 and n & (n - 1) == 0


@lru_cache(maxsize=32)
def matrix(n: int, device: torch.device, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The n x n Hadamard matrix of +1 and -1."""
    if not is_power_of_two(n):
        raise ValueError(f"a Walsh-Hadamard transform needs a power of two, not {n}")
    h = torch.ones(1, 1, dtype=dtype, device=device)
    while h.shape[0] < n:
        h = torch.cat((torch.cat((h, h), 1), torch.cat((h, -h), 1)), 0)
    return h


def transform_reference(x_Bn: torch.Tensor) -> torch.Tensor:
    """H_n of every row, in plain torch on any device."""
    rows, n = x_Bn.shape
    if n <= _FACTOR:
        return x_Bn @ matrix(n, x_Bn.device, x_Bn.dtype)
    # split n = a * b with b at most the factor; the a-side is transformed recursively
    b = _FACTOR
    a = n // b
    y = (x_Bn.reshape(rows * a, b) @ matrix(b, x_Bn.device, x_Bn.dtype)).view(rows, a, b)
    if a <= _FACTOR:
        return torch.matmul(matrix(a, x_Bn.device, x_Bn.dtype), y).reshape(rows, n)
    y = transform_reference(y.transpose(1, 2).reshape(rows * b, a))
    return y.view(rows, b, a).transpose(1, 2).reshape(rows, n)


def transform(x_Bn: torch.Tensor) -> torch.Tensor:
    """H_n of every row, by the fastest way at hand.

    Args:
        x_Bn: (B, n), n a power of two.

    Returns:
        (B, n), unnormalised: applying it twice multiplies by n.
    """
    kernel = cuda_kernel() if x_Bn.is_cuda and x_Bn.shape[1] <= _KERNEL_LIMIT else None
    return kernel(x_Bn.contiguous()) if kernel else transform_reference(x_Bn)


@lru_cache(maxsize=1)
def cuda_kernel() -> Callable[[torch.Tensor], torch.Tensor] | None:
    """``fast_hadamard_transform.hadamard_transform`` where it is installed."""
    try:
        from fast_hadamard_transform import hadamard_transform
    except ImportError:
        return None
    return cast(Callable[[torch.Tensor], torch.Tensor], hadamard_transform)
