"""Invariants of the projection, against a plain matrix written here from the paper's formula."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from motive_fo.attribution import counter, hadamard
from motive_fo.attribution.projection import (
    FastfoodProjection,
    GaussianProjection,
    IdentityProjection,
    build_projection,
)
from motive_fo.errors import ConfigError

CPU = torch.device("cpu")
SHAPES = [(1,), (7,), (511,), (512,), (513,), (4096,), (4097,), (160, 64), (3, 16, 2, 2), (129, 257)]


def _gradients(seed=0, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return {f"layer{i}.{'x'.join(map(str, s))}": torch.randn(s, generator=generator) for i, s in enumerate(shapes)}


def _sketch(projection, gradients):
    return projection.combine({name: projection.project(name, g) for name, g in gradients.items()})


def _dense_block(dimension, n, signs, order, gaussians):
    """P = 1/sqrt(n D) S H G Pi H B of the paper for one block, its first D rows kept, as a dense matrix."""
    h = hadamard.matrix(n, CPU, torch.float64)
    kept = h[:dimension]  # the first D rows of H_n in Sylvester order are (row of ones) x H_D
    return (
        kept
        @ torch.diag(gaussians)
        @ torch.eye(n, dtype=torch.float64)[order]
        @ h
        @ torch.diag(signs)
        / math.sqrt(n * dimension)
    )


@pytest.mark.parametrize(
    ("size", "block", "n"),
    [(512, 512, 512), (1024, 1024, 1024), (4096, 4096, 4096), (700, 4096, 2048), (3000, 4096, 4096)],
)
def test_a_block_is_the_papers_matrix(size, block, n):
    projection = FastfoodProjection(512, block, seed=3)
    key = counter.derive_key("fastfood", 3, "w")
    gradient = torch.randn(size, generator=torch.Generator().manual_seed(1))
    signs = counter.signs(key, 0, 0, 1, n, CPU)[0].double()
    gaussians = counter.gaussians(key, 1, 0, 1, n, CPU)[0].double()
    dense = _dense_block(512, n, signs, projection._order(n, CPU), gaussians)
    expected = dense[:, :size] @ gradient.double()
    torch.testing.assert_close(_sketch(projection, {"w": gradient}).double(), expected, rtol=1e-4, atol=1e-4)


def test_streaming_equals_all_at_once_bit_for_bit():
    gradients = _gradients()
    streamed, at_once = FastfoodProjection(), FastfoodProjection()
    parts = {}
    for name in reversed(gradients):  # autograd's order is not the names' order
        parts[name] = streamed.project(name, gradients[name])
    assert torch.equal(streamed.combine(parts), _sketch(at_once, gradients))


def test_projection_of_a_concatenation_is_the_sum_of_the_projections():
    gradients = _gradients()
    projection = FastfoodProjection()
    whole = _sketch(projection, gradients)
    alone = sum(_sketch(projection, {name: g}).double() for name, g in gradients.items())
    torch.testing.assert_close(whole.double(), alone, rtol=1e-5, atol=1e-5)


def test_projection_is_linear():
    projection = FastfoodProjection()
    a, b = _gradients(1), _gradients(2)
    mixed = {name: 2 * a[name] - 3 * b[name] for name in a}
    expected = 2 * _sketch(projection, a) - 3 * _sketch(projection, b)
    torch.testing.assert_close(_sketch(projection, mixed), expected, rtol=1e-3, atol=1e-3)


def test_the_cache_changes_speed_only():
    gradients = _gradients()
    cached, plain = FastfoodProjection(), FastfoodProjection(cache_bytes=0)
    first = _sketch(cached, gradients)
    assert torch.equal(_sketch(cached, gradients), first)
    assert torch.equal(_sketch(plain, gradients), first)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("block", [512, 4096])
def test_inner_products_are_kept_for_every_shape(shape, block):
    """Unbiased, and spread like an ideal map's, whose variance is (|x|^2 |y|^2 + <x, y>^2) / D."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(shape, generator=generator)
    y = 0.6 * x + 0.8 * torch.randn(shape, generator=generator)
    exact = float((x * y).sum())
    ideal = math.sqrt((float(x.norm()) ** 2 * float(y.norm()) ** 2 + exact**2) / 512)
    seeds = 48
    products = []
    for seed in range(seeds):
        projection = FastfoodProjection(512, block, seed)
        products.append(float(_sketch(projection, {"w": x}) @ _sketch(projection, {"w": y})))
    products = torch.tensor(products, dtype=torch.float64)
    assert abs(float(products.mean()) - exact) < 4 * float(products.std()) / math.sqrt(seeds)
    assert float(products.std()) < (1.5 if block > 512 else 2.1) * ideal


def test_energy_in_one_column_is_kept():
    """Weight shapes are multiples of 512; a map that folds by such a number would collapse here."""
    x = torch.zeros(1024, 512)
    y = torch.zeros(1024, 512)
    x[:, 7] = torch.randn(1024, generator=torch.Generator().manual_seed(0))
    y[:, 7] = torch.randn(1024, generator=torch.Generator().manual_seed(1))
    cosines = []
    for seed in range(16):
        projection = FastfoodProjection(seed=seed)
        a, b = _sketch(projection, {"w": x}), _sketch(projection, {"w": y})
        cosines.append(float(torch.nn.functional.cosine_similarity(a, b, dim=0)))
    exact = float(torch.nn.functional.cosine_similarity(x.flatten(), y.flatten(), dim=0))
    error = (torch.tensor(cosines) - exact).square().mean().sqrt()
    assert float(error) < 0.075  # an ideal map: 0.044


def test_block_sizes_do_not_weigh_tensors_apart():
    """A short tensor (a small block) and a long one (large blocks) keep their shares of the norm."""
    short, long = torch.randn(600), torch.randn(40000)
    for name, gradient in {"short": short, "long": long}.items():
        ratios = [
            float(_sketch(FastfoodProjection(seed=s), {name: gradient}).norm() / gradient.norm()) for s in range(16)
        ]
        assert abs(sum(ratios) / 16 - 1) < 0.05


def test_names_key_the_randomness():
    g = torch.randn(5000)
    projection = FastfoodProjection()
    a, b = _sketch(projection, {"a": g}), _sketch(projection, {"b": g})
    assert abs(float(torch.nn.functional.cosine_similarity(a, b, dim=0))) < 0.25


def test_half_precision_gradients_are_projected_in_float32():
    g = torch.randn(5000).to(torch.bfloat16)
    projection = FastfoodProjection()
    assert torch.equal(projection.project("w", g), projection.project("w", g.float()))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=4), st.sampled_from([128, 512]), st.sampled_from([512, 2048])
)
def test_any_sizes_sum_up(sizes, dimension, block):
    gradients = {f"p{i}": torch.randn(size) for i, size in enumerate(sizes)}
    projection = FastfoodProjection(dimension, block)
    sketch = _sketch(projection, gradients)
    assert sketch.shape == (dimension,)
    assert torch.isfinite(sketch).all()
    alone = sum(_sketch(projection, {n: g}).double() for n, g in gradients.items())
    torch.testing.assert_close(sketch.double(), alone, rtol=1e-4, atol=1e-4)


def test_oracles_identity_is_exact_and_gaussian_is_unbiased():
    x, y = _gradients(1, [(40, 30), (700,)]), _gradients(2, [(40, 30), (700,)])
    exact = sum(float((x[n] * y[n]).sum()) for n in x)
    identity = IdentityProjection(sum(g.numel() for g in x.values()))
    assert math.isclose(float(_sketch(identity, x) @ _sketch(identity, y)), exact, rel_tol=1e-4, abs_tol=1e-3)
    products = [
        float(_sketch(GaussianProjection(512, s), x) @ _sketch(GaussianProjection(512, s), y)) for s in range(24)
    ]
    norm = sum(float(g.square().sum()) for g in x.values())
    assert abs(sum(products) / 24 - exact) < 4 * norm / math.sqrt(512 * 24)


def test_fastfood_is_as_good_as_the_ideal_map():
    """Cosine errors of many pairs: Fastfood against dense Gaussians."""
    pairs = [(_gradients(s, [(64, 80)]), _gradients(s + 100, [(64, 80)])) for s in range(30)]
    errors = {}
    for kind in (FastfoodProjection, GaussianProjection):
        squares = []
        for seed, (x, y) in enumerate(pairs):
            a, b = (_sketch(kind(512, seed=seed), g) for g in (x, y))
            (name,) = x
            exact = torch.nn.functional.cosine_similarity(x[name].flatten(), y[name].flatten(), dim=0)
            squares.append(float(torch.nn.functional.cosine_similarity(a, b, dim=0) - exact) ** 2)
        errors[kind] = math.sqrt(sum(squares) / len(squares))
    assert errors[FastfoodProjection] < 1.5 * errors[GaussianProjection]
    assert errors[FastfoodProjection] < 1.6 / math.sqrt(512)


@pytest.mark.parametrize(
    ("kind", "dimension", "block", "text"),
    [
        ("fastfood", 500, 4096, "power of two"),
        ("fastfood", 64, 4096, "at least 128"),
        ("fastfood", 512, 3000, "block that is a power of two"),
        ("gaussian", 510, 4096, "multiple of 8"),
        ("sjlt", 512, 4096, "unknown projection 'sjlt'"),
    ],
)
def test_wrong_settings_are_refused(kind, dimension, block, text):
    with pytest.raises(ConfigError, match=text):
        build_projection(kind, dimension=dimension, block=block, seed=0, parameters=10)


def test_identity_refuses_a_large_model():
    with pytest.raises(ConfigError, match="choose fastfood"):
        build_projection("identity", dimension=512, block=4096, seed=0, parameters=10**9)
