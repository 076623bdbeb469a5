"""Random numbers by counter: the same bits on every device, in every process, in any order.

Philox4x32-10 (Salmon et al., SC 2011), written with torch integers. The n-th number of a stream depends on (key, n)
alone, so a projection needs no state and no stored matrix. Gaussians are 16-bit quantiles read from a table instead of
Box-Muller, whose logarithms and cosines differ in the last bit between devices.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from statistics import NormalDist

import torch

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK32 = 0xFFFFFFFF
_ROUNDS = 10
_LEVELS = 1 << 16

Key = tuple[int, int]


def derive_key(*parts: object) -> Key:
    """A 64-bit Philox key from anything printable, equal on every machine."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def philox(counter_4N: torch.Tensor, key: Key) -> torch.Tensor:
    """Philox4x32-10.

    Args:
        counter_4N: int64 in [0, 2^32), four counter words for each of N blocks.
        key: two 32-bit words.

    Returns:
        int64 (4, N): four random 32-bit words for each block.
    """
    c0, c1, c2, c3 = counter_4N
    k0, k1 = key
    for _ in range(_ROUNDS):
        # int64 products wrap modulo 2^64, which keeps both 32-bit halves right
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (p1 >> 32) & _MASK32 ^ c1 ^ k0,
            p1 & _MASK32,
            (p0 >> 32) & _MASK32 ^ c3 ^ k1,
            p0 & _MASK32,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK32, (k1 + _WEYL[1]) & _MASK32
    return torch.stack((c0, c1, c2, c3))


def words(key: Key, stream: int, first_row: int, rows: int, count: int, device: torch.device) -> torch.Tensor:
    """int64 (rows, count): 32-bit words of a stream, ``count`` for each row; ``count`` is a multiple of 4."""
    column = torch.arange(count // 4, dtype=torch.int64, device=device)
    row = torch.arange(first_row, first_row + rows, dtype=torch.int64, device=device)
    counter = torch.stack(
        (
            column.expand(rows, -1).reshape(-1),
            (row & _MASK32)[:, None].expand(-1, count // 4).reshape(-1),
            (row >> 32)[:, None].expand(-1, count // 4).reshape(-1),
            torch.full((rows * (count // 4),), stream, dtype=torch.int64, device=device),
        )
    )
    return philox(counter, key).T.reshape(rows, count)


def signs(key: Key, stream: int, first_row: int, rows: int, columns: int, device: torch.device) -> torch.Tensor:
    """Fair random signs, int8 (rows, columns), one bit each; ``columns`` is a multiple of 128."""
    drawn = words(key, stream, first_row, rows, columns // 32, device)
    octets = (drawn[..., None] >> torch.arange(0, 32, 8, dtype=torch.int64, device=device)) & 0xFF
    return _sign_octets(device)[octets.reshape(-1)].view(torch.int8).reshape(rows, columns)


def halves(key: Key, stream: int, first_row: int, rows: int, columns: int, device: torch.device) -> torch.Tensor:
    """Random numbers of 16 bits, int64 (rows, columns); ``columns`` is a multiple of 8."""
    drawn = words(key, stream, first_row, rows, columns // 2, device)
    return torch.stack((drawn & 0xFFFF, drawn >> 16), dim=-1).reshape(rows, columns)


def gaussians(key: Key, stream: int, first_row: int, rows: int, columns: int, device: torch.device) -> torch.Tensor:
    """Standard normal numbers, float32 (rows, columns), 16 bits each; ``columns`` is a multiple of 8."""
    return quantiles(device)[halves(key, stream, first_row, rows, columns, device)]


@lru_cache(maxsize=8)
def _sign_octets(device: torch.device) -> torch.Tensor:
    """int64 (256,): the eight signs of every octet, lowest bit first, as the eight int8 of one number.

    One look-up makes eight signs; bit by bit they would cost more than the Hadamard transform of the numbers they turn.
    """
    bits = (torch.arange(256)[:, None] >> torch.arange(8)) & 1
    return (1 - 2 * bits).to(torch.int8).view(torch.int64).reshape(-1).to(device)


@lru_cache(maxsize=8)
def quantiles(device: torch.device) -> torch.Tensor:
    """float32 (65536,): the normal quantiles at (i + 1/2)/65536, scaled to variance exactly 1.

    ``Choice:`` from Python's own ``NormalDist``, whose arithmetic is the same everywhere.
    """
    normal = NormalDist()
    upper = [normal.inv_cdf((i + 0.5) / _LEVELS) for i in range(_LEVELS // 2, _LEVELS)]
    half = torch.tensor(upper, dtype=torch.float64)
    half = half / half.square().mean().sqrt()
    return torch.cat((-half.flip(0), half)).to(torch.float32).to(device)
