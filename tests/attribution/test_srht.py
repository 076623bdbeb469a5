"""Invariants of the subsampled randomised Hadamard transform, against a dense matrix built here from its definition."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from motive_fo.attribution import counter, hadamard
from motive_fo.attribution.projection import FastfoodProjection, GaussianProjection, SRHTProjection, build_projection
from motive_fo.errors import ConfigError

CPU = torch.device("cpu")
SHAPES = [(1,), (7,), (511,), (512,), (513,), (4096,), (4097,), (160, 64), (3, 16, 2, 2), (129, 257)]


def _gradients(seed=0, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return {f"layer{i}.{'x'.join(map(str, s))}": torch.randn(s, generator=generator) for i, s in enumerate(shapes)}


def _sketch(projection, gradients):
    return projection.combine({name: projection.project(name, g) for name, g in gradients.items()})


def _dense(dimension, block, seed, name, size):
    """The whole map of one tensor, D x size: P = 1/sqrt(D) S R H B in every block, the blocks side by side."""
    key = counter.derive_key("srht", seed, name)
    blocks, at = [], 0
    while at < size:
        n = block
        if size - at < block:
            n = min(block, dimension)
            while n < size - at:
                n *= 2
        row = at // block
        b = counter.signs(key, 0, row, 1, n, CPU)[0].double()
        drawn = counter.halves(key, 3, row, 1, dimension, CPU)[0]
        kept = [d * (n // dimension) + int(drawn[d]) % (n // dimension) for d in range(dimension)]
        s = torch.tensor([-1.0 if int(v) >> 15 else 1.0 for v in drawn], dtype=torch.float64)
        h = hadamard.matrix(n, CPU, torch.float64)
        blocks.append((torch.diag(s) @ h[kept] @ torch.diag(b) / math.sqrt(dimension))[:, : size - at])
        at += n
    return torch.cat(blocks, 1)


@pytest.mark.parametrize(
    ("size", "dimension", "block"),
    [(512, 512, 512), (4096, 512, 4096), (700, 512, 4096), (9000, 128, 2048), (5, 128, 1024), (3000, 256, 256)],
)
def test_the_map_is_its_dense_matrix(size, dimension, block):
    gradient = torch.randn(size, generator=torch.Generator().manual_seed(1))
    dense = _dense(dimension, block, 3, "w", size)
    sketch = _sketch(SRHTProjection(dimension, block, seed=3), {"w": gradient})
    torch.testing.assert_close(sketch.double(), dense @ gradient.double(), rtol=1e-4, atol=1e-4)


def test_streaming_equals_all_at_once_bit_for_bit():
    gradients = _gradients()
    streamed, at_once = SRHTProjection(), SRHTProjection(cache_bytes=0)
    parts = {name: streamed.project(name, gradients[name]) for name in reversed(gradients)}
    assert torch.equal(streamed.combine(parts), _sketch(at_once, gradients))
    again = {name: streamed.project(name, g) for name, g in gradients.items()}  # from the cache
    assert torch.equal(streamed.combine(again), streamed.combine(parts))


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=3), min_size=1, max_size=3),
    st.sampled_from([128, 512]),
    st.sampled_from([512, 2048]),
    st.integers(0, 2**31),
)
def test_inner_products_of_any_shapes_are_kept_as_an_ideal_map_keeps_them(shapes, dimension, block, seed):
    """Whatever the shapes, the error over 24 maps is that of an ideal one: the mean of squares of so many standard
    normal numbers lies below 3.5 but once in a hundred thousand times."""
    x, y = _gradients(seed, shapes), _gradients(seed + 1, shapes)
    exact = sum(float((x[n].double() * y[n].double()).sum()) for n in x)
    squares = [sum(float(g.double().square().sum()) for g in each.values()) for each in (x, y)]
    ideal = (squares[0] * squares[1] + exact**2) / dimension
    errors = []
    for k in range(24):
        projection = SRHTProjection(dimension, block, k)
        errors.append(float(_sketch(projection, x).double() @ _sketch(projection, y).double()) - exact)
    assert sum(e * e for e in errors) / 24 < 3.5 * ideal
    assert abs(sum(errors) / 24) < 5 * math.sqrt(ideal / 24)


@pytest.mark.parametrize("kind", ["one column", "one row", "one block", "every 512th", "dense"])
def test_the_variance_is_at_most_an_ideal_maps_wherever_the_energy_is(kind):
    """Weights are multiples of 512 wide; a map that folds by such a number would collapse on their columns."""
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(64, 512, generator=generator), torch.randn(64, 512, generator=generator)
    keep = torch.zeros(64, 512)
    keep[{"one column": (slice(None), 0), "one row": 5, "one block": slice(8, 16), "every 512th": (slice(None), 448),
          "dense": slice(None)}[kind]] = 1  # fmt: skip
    x, y = x * keep, (0.5 * x + y) * keep
    exact = float((x.double() * y.double()).sum())
    ideal = (float(x.double().square().sum() * y.double().square().sum()) + exact**2) / 128
    maps = 160
    errors = []
    for seed in range(maps):
        projection = SRHTProjection(128, 1024, seed)
        errors.append(float(_sketch(projection, {"w": x}) @ _sketch(projection, {"w": y})) - exact)
    variance = sum(e * e for e in errors) / maps
    assert variance < ideal * (1 + 5 * math.sqrt(2 / maps))
    assert abs(sum(errors) / maps) < 4 * math.sqrt(ideal / maps)


def test_it_is_as_good_as_fastfood_and_gaussians():
    pairs = [(_gradients(s, [(64, 80)]), _gradients(s + 100, [(64, 80)])) for s in range(40)]
    errors = {}
    for kind in (SRHTProjection, FastfoodProjection, GaussianProjection):
        squares = []
        for seed, (x, y) in enumerate(pairs):
            a, b = (_sketch(kind(512, seed=seed), g) for g in (x, y))
            (name,) = x
            exact = torch.nn.functional.cosine_similarity(x[name].flatten(), y[name].flatten(), dim=0)
            squares.append(float(torch.nn.functional.cosine_similarity(a, b, dim=0) - exact) ** 2)
        errors[kind] = math.sqrt(sum(squares) / len(squares))
    assert errors[SRHTProjection] < 1.3 * errors[GaussianProjection]
    assert errors[SRHTProjection] < 1.3 * errors[FastfoodProjection]


def test_projection_is_linear_and_sums_over_tensors():
    projection = SRHTProjection()
    a, b = _gradients(1), _gradients(2)
    mixed = {name: 2 * a[name] - 3 * b[name] for name in a}
    expected = 2 * _sketch(projection, a) - 3 * _sketch(projection, b)
    torch.testing.assert_close(_sketch(projection, mixed), expected, rtol=1e-3, atol=1e-3)
    alone = sum(_sketch(projection, {name: g}).double() for name, g in a.items())
    torch.testing.assert_close(_sketch(projection, a).double(), alone, rtol=1e-5, atol=1e-5)


def test_names_and_seeds_key_the_randomness():
    g = torch.randn(5000)
    first = _sketch(SRHTProjection(), {"a": g})
    for other in (_sketch(SRHTProjection(), {"b": g}), _sketch(SRHTProjection(seed=1), {"a": g})):
        assert abs(float(torch.nn.functional.cosine_similarity(first, other, dim=0))) < 0.25


def test_half_precision_gradients_are_projected_in_float32():
    g = torch.randn(5000).to(torch.bfloat16)
    projection = SRHTProjection()
    assert torch.equal(projection.project("w", g), projection.project("w", g.float()))


@pytest.mark.parametrize(
    ("dimension", "block", "text"),
    [(500, 4096, "srht takes a dimension"), (64, 4096, "at least 128"), (512, 3000, "block that is a power of two"),
     (128, 1 << 23, "a block of at most 4194304")],
)  # fmt: skip
def test_wrong_settings_are_refused(dimension, block, text):
    with pytest.raises(ConfigError, match=text):
        build_projection("srht", dimension=dimension, block=block, seed=0, parameters=10)


@pytest.mark.parametrize("make", [SRHTProjection, FastfoodProjection])
def test_what_is_kept_for_one_size_is_not_taken_for_another(make):
    """Networks of one name in different sizes: the last layer of a model with more channels."""
    kept = make()
    sizes = (4096, 3 * 4096, 2 * 4096)
    for size in sizes:
        x = torch.randn(size, generator=torch.Generator().manual_seed(size))
        assert torch.equal(kept.project("w", x), make(cache_bytes=0).project("w", x))
