"""The Triton kernel of ``motive_fo.attribution.fused``: one pass over a gradient. Imports triton, which CUDA builds of
torch bring with them.

Random numbers are those of ``motive_fo.attribution.counter``: the words of Philox4x32-10 with the counter (column,
block, 0, stream). The transform of a block of A x B numbers X is H_A X H_B. Its products run on tensor cores without
loss: a float32 number is the sum of three bfloat16 numbers, signs of +1 and -1 are bfloat16 numbers, and products are
added in float32.
"""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-decorators=False
# what triton compiles may have no annotations but its own
import os

import triton  # type: ignore[import-not-found, import-untyped, unused-ignore]
import triton.language as tl  # type: ignore[import-not-found, import-untyped, unused-ignore]


@triton.jit
def _words(column, block, k0, k1, STREAM: tl.constexpr):
    """The words of a block's row, uint32 (4 columns,), in the order of ``counter.words``."""
    c0 = column.to(tl.uint32)
    c1 = tl.zeros_like(c0) + tl.cast(block, tl.uint32)
    c2 = tl.zeros_like(c0)
    c3 = tl.zeros_like(c0) + STREAM
    for _ in tl.static_range(10):
        high0, high1 = tl.umulhi(c0, 0xD2511F53), tl.umulhi(c2, 0xCD9E8D57)
        low0, low1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 += 0x9E3779B9
        k1 += 0xBB67AE85
    return tl.interleave(tl.interleave(c0, c2), tl.interleave(c1, c3))


@triton.jit
def _split(x, DOT: tl.constexpr):
    """Three bfloat16 numbers whose sum is x, the largest first, in the type that products take."""
    high = x.to(tl.bfloat16)
    rest = x - high.to(tl.float32)
    middle = rest.to(tl.bfloat16)
    low = (rest - middle.to(tl.float32)).to(tl.bfloat16)
    return high.to(DOT), middle.to(DOT), low.to(DOT)


@triton.jit
def _hadamard(n: tl.constexpr, DOT: tl.constexpr):
    """H_n in Sylvester order (n, n): the sign of the parity of the bits that row and column share."""
    shared = tl.arange(0, n)[:, None] & tl.arange(0, n)[None, :]
    shared ^= shared >> 4
    shared ^= shared >> 2
    shared ^= shared >> 1
    return (1 - 2 * (shared & 1)).to(DOT)


@triton.jit(do_not_specialize=["first", "blocks", "k0", "k1"])
def kernel(
    x,
    parts,
    numel,
    first,
    blocks,
    k0,
    k1,
    N: tl.constexpr,
    A: tl.constexpr,
    B: tl.constexpr,
    D: tl.constexpr,
    SIGNS: tl.constexpr,
    ROWS: tl.constexpr,
    SHORT: tl.constexpr,
    DOT: tl.constexpr,
):
    """Part ``program_id`` of a gradient's projection: the sum over every so many blocks, in order, float32 (D,)."""
    program = tl.program_id(0)
    k0 = k0.to(tl.uint32, bitcast=True)
    k1 = k1.to(tl.uint32, bitcast=True)
    left, right = _hadamard(A, DOT), _hadamard(B, DOT)
    places = tl.arange(0, N // 32)[:, None] * 32 + tl.arange(0, 32)[None, :]
    total = tl.zeros((D,), dtype=tl.float32)
    for block in range(program, blocks, tl.num_programs(0)):
        at = tl.cast(block, tl.int64) * N + places
        value = tl.load(x + at, mask=at < numel, other=0.0).to(tl.float32)
        words = _words(tl.arange(0, N // 128), first + block, k0, k1, SIGNS)
        negative = (words[:, None] >> tl.arange(0, 32)[None, :]) & 1
        value = tl.reshape(tl.where(negative != 0, -value, value), (A, B))

        if SHORT:  # a bfloat16 gradient is one bfloat16 number
            value = tl.dot(value.to(DOT), right)
        else:
            high, middle, low = _split(value, DOT)
            value = tl.dot(high, right, acc=tl.dot(middle, right, acc=tl.dot(low, right)))
        high, middle, low = _split(value, DOT)
        value = tl.dot(left, high, acc=tl.dot(left, middle, acc=tl.dot(left, low)))

        drawn = _words(tl.arange(0, D // 8), first + block, k0, k1, ROWS)
        half = tl.interleave(drawn & 0xFFFF, drawn >> 16)
        if N == D:
            kept = tl.reshape(value, (D,))
        else:
            chosen = (half % (N // D)).to(tl.int32)
            here = tl.arange(0, N // D)[None, :] == chosen[:, None]
            kept = tl.sum(tl.where(here, tl.reshape(value, (D, N // D)), 0.0), axis=1)
        total += tl.where(half >> 15 != 0, -kept, kept)
    tl.store(parts + program * D + tl.arange(0, D), total)


#: triton's interpreter, which runs on a CPU (TRITON_INTERPRET=1), multiplies the bits of bfloat16 numbers as integers
dot_type = tl.float32 if os.environ.get("TRITON_INTERPRET") == "1" else tl.bfloat16
