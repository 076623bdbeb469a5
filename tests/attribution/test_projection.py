"""Invariants of the projection, against a plain matrix written here from the paper's formula."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from motive_fo.attribution import counter, hadamard, projection
from motive_fo.attribution.projection import (
    FastfoodProjection,
    GaussianProjection,
    IdentityProjection,
    SRHTProjection,
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


# -- in detail: small maps, by hand ------------------------------------------------------------------------------------


def _by_hand(kind, size, dimension, block, seed, name):
    """The whole map of one tensor as a dense matrix, from the definitions in the classes' texts."""
    if kind == "gaussian":
        key = counter.derive_key("gaussian", seed, name)
        return counter.gaussians(key, 0, 0, size, dimension, CPU).double().T / math.sqrt(dimension)
    key, blocks = counter.derive_key(kind, seed, name), []
    for number, at in enumerate(range(0, size, block)):
        left, n = size - at, block
        if left < block:
            n = min(block, dimension * (4 if kind == "fastfood" else 1))
            while n < left:
                n *= 2
        signs = counter.signs(key, 0, number, 1, n, CPU)[0].double()
        h = hadamard.matrix(n, CPU, torch.float64)
        if kind == "fastfood":
            words = counter.words(counter.derive_key("fastfood", seed), 2, n, 1, n, CPU)[0]
            gaussians = counter.gaussians(key, 1, number, 1, n, CPU)[0].double()
            order = torch.argsort(words, stable=True)
            made = _dense_block(dimension, n, signs, order, gaussians)
        else:
            drawn = counter.halves(key, 3, number, 1, dimension, CPU)[0]
            kept = torch.arange(dimension) * (n // dimension) + drawn % (n // dimension)
            row_signs = 1.0 - 2 * (drawn >> 15).double()
            made = row_signs[:, None] * h[kept] * signs / math.sqrt(dimension)
        blocks.append(made[:, :left])
    return torch.cat(blocks, 1)


@pytest.mark.parametrize("kind", ["fastfood", "srht", "gaussian"])
@pytest.mark.parametrize(("dimension", "block"), [(128, 128), (128, 512), (256, 512)])
@pytest.mark.parametrize("size", [1, 513, 1200])
def test_small_maps_are_their_dense_matrices(kind, dimension, block, size, monkeypatch):
    gradient = torch.randn(size, generator=torch.Generator().manual_seed(size))
    expected = _by_hand(kind, size, dimension, block, 3, "w") @ gradient.double()
    made = build_projection(kind, dimension=dimension, block=block, seed=3, parameters=size)
    found = _sketch(made, {"w": gradient})
    assert (found.dtype, found.shape) == (torch.float32, (dimension,))
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(_sketch(made, {"w": gradient.reshape(1, -1)}), found)  # from what is kept, and of any shape
    # how many elements are worked on at once bounds memory and changes nothing else
    for elements in (1, 2 * block):
        monkeypatch.setattr(projection, "_GROUP_ELEMENTS", elements)
        again = build_projection(kind, dimension=dimension, block=block, seed=3, parameters=size)
        torch.testing.assert_close(_sketch(again, {"w": gradient}), found, rtol=1e-4, atol=1e-5)


def test_elements_are_worked_on_in_pieces_of_bounded_size(monkeypatch):
    flat = torch.arange(1, 23).to(torch.float16)
    monkeypatch.setattr(projection, "_GROUP_ELEMENTS", 8)
    both = torch.stack([flat, -flat])  # of two clips
    pieces = list(projection._blocks(both, 4, 1))
    assert [(first, tuple(piece.shape)) for first, piece in pieces] == [
        (0, (2, 2, 4)),
        (2, (2, 2, 4)),
        (4, (2, 1, 4)),
        (5, (2, 1, 2)),
    ]
    assert torch.equal(torch.cat([piece.flatten(1) for _, piece in pieces], dim=1), both.float())
    assert all(piece.dtype == torch.float32 for _, piece in pieces)
    monkeypatch.setattr(projection, "_GROUP_ELEMENTS", 1)  # a block at least
    assert [piece.shape[1] for _, piece in projection._blocks(both, 4, 1)] == [1] * 6
    (last,) = [piece for _, piece in projection._blocks(flat[None, :3], 16, 8)]
    assert last.tolist() == [[[1, 2, 3, 0, 0, 0, 0, 0]]]
    (last,) = [piece for _, piece in projection._blocks(flat[None, :3], 4, 8)]  # never longer than a block
    assert last.tolist() == [[[1, 2, 3, 0]]]
    assert list(projection._blocks(flat[None, :0], 4, 4)) == []


@pytest.mark.parametrize("kind", ["fastfood", "srht", "gaussian", "identity"])
@pytest.mark.parametrize("shape", [(3,), (130, 70), (5, 4096)])
def test_several_clips_at_once_are_projected_as_each_alone(kind, shape, monkeypatch):
    monkeypatch.setattr(projection, "_GROUP_ELEMENTS", 8192)  # several groups
    size = math.prod(shape)
    made = build_projection(kind, dimension=size if kind == "identity" else 128, block=256, seed=3, parameters=size)
    gradients = torch.randn(4, *shape, generator=torch.Generator().manual_seed(1))
    each = made.project_each("w", gradients)
    assert each.shape == (4, size if kind == "identity" else 128)
    for part, gradient in zip(each, gradients, strict=True):
        assert torch.equal(part, made.project("w", gradient))


@pytest.mark.parametrize("kind", ["fastfood", "srht", "gaussian", "identity"])
def test_torchs_defaults_do_not_reach_a_map(kind):
    """Neither a default device nor a default dtype changes where and in what a sketch is computed."""
    gradient = torch.randn(3000, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def made():
        return build_projection(kind, dimension=128, block=1024, seed=5, parameters=3000)

    part = made().project("w", gradient)
    expected = made().combine({"w": part})
    hadamard.matrix.cache_clear()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = made().project("w", gradient)
        sketch = made().combine({"w": found})
    finally:
        torch.set_default_dtype(before)
    assert (found.device, sketch.device) == (CPU, CPU)
    assert (found.dtype, sketch.dtype) == (torch.float32, torch.float32)
    assert not found.requires_grad
    assert torch.equal(found, part)
    assert torch.equal(sketch, expected)


def test_maps_name_themselves_and_all_that_changes_their_numbers():
    """Part of a store's identity: a word that changes here makes every store that was computed before unreadable."""
    given = {"dimension": 256, "block": 2048, "seed": 7, "parameters": 33}
    blocked = {"version": 1, "dimension": 256, "block": 2048, "seed": 7}
    for kind, made, expected in (
        ("fastfood", FastfoodProjection, {"map": "fastfood", **blocked}),
        ("srht", SRHTProjection, {"map": "srht", **blocked}),
        ("gaussian", GaussianProjection, {"map": "gaussian", "version": 1, "dimension": 256, "seed": 7}),
        ("identity", IdentityProjection, {"map": "identity", "version": 1, "dimension": 33}),
    ):
        built = build_projection(kind, **given)
        assert isinstance(built, made)
        assert built.identity() == expected
        assert built.part_size == (None if kind == "identity" else 256)
    for made in (FastfoodProjection, SRHTProjection):
        assert {key: made().identity()[key] for key in ("dimension", "block", "seed")} == {
            "dimension": 512,
            "block": 4096,
            "seed": 0,
        }
        assert made(512, 128).block == 512  # never shorter than the sketch
    assert (GaussianProjection().dimension, GaussianProjection().seed) == (512, 0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("fastfood", 500, 512), "fastfood takes a dimension that is a power of two of at least 128, not 500"),
        (("srht", 64, 512), "srht takes a dimension that is a power of two of at least 128, not 64"),
        (("fastfood", 128, 3000), "fastfood takes a block that is a power of two, not 3000"),
        (("srht", 128, 3000), "srht takes a block that is a power of two, not 3000"),
        (("srht", 128, 1 << 23), "srht takes a block of at most 4194304 for a dimension of 128"),
        (("gaussian", 516, 512), "gaussian takes a dimension that is a multiple of 8, not 516"),
        (("sjlt", 512, 512), "unknown projection 'sjlt': choose fastfood, srht, gaussian or identity"),
    ],
)
def test_a_refusal_names_the_way_out(given, said):
    kind, dimension, block = given
    with pytest.raises(ConfigError) as caught:
        build_projection(kind, dimension=dimension, block=block, seed=0, parameters=10)
    assert str(caught.value) == said


def test_the_largest_and_smallest_sizes_are_taken():
    assert SRHTProjection(128, 128 << 15).block == 128 << 15
    assert FastfoodProjection(128, 128).dimension == 128
    assert GaussianProjection(520).dimension == 520
    assert isinstance(
        build_projection("identity", dimension=1, block=1, seed=0, parameters=1 << 26), IdentityProjection
    )
    with pytest.raises(ConfigError) as caught:
        build_projection("identity", dimension=1, block=1, seed=0, parameters=(1 << 26) + 1)
    assert str(caught.value) == "identity keeps all 67,108,865 numbers of a gradient: choose fastfood or srht"


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize(("made", "size"), [(FastfoodProjection, 5 * 1024), (SRHTProjection, 1024 + 9 * 128)])
def test_random_numbers_are_kept_up_to_a_size(made, size, blocks, monkeypatch):
    """``size`` is what a block of 1024 needs: signs of a byte, and Gaussians of 4 or rows of 8 and their signs."""
    drawn = []
    signs = counter.signs
    monkeypatch.setattr(counter, "signs", lambda *args: drawn.append(args) or signs(*args))
    size *= blocks
    # room for both tensors, for one of them, for none: how often was drawn after each of three rounds
    for room, times in ((2 * size, [2, 2, 2]), (2 * size - 1, [2, 3, 4]), (size, [2, 3, 4]), (size - 1, [2, 4, 6])):
        drawn.clear()
        kept = made(128, 1024, cache_bytes=room)
        for expected in times:
            for name in ("a", "b"):
                kept.project(name, torch.ones(blocks * 1024))
            assert len(drawn) == expected


@pytest.mark.parametrize("kind", ["fastfood", "srht", "gaussian", "identity"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_gradients_of_any_floating_type_are_projected_in_float32(kind, dtype):
    gradient = torch.randn(700, generator=torch.Generator().manual_seed(1)).to(dtype)
    made = build_projection(kind, dimension=128, block=512, seed=0, parameters=700)
    assert torch.equal(made.project("w", gradient), made.project("w", gradient.float()))


def test_a_gpu_is_asked_about_the_tensors_device_and_type(monkeypatch):
    class OnGPU:
        """As much of a tensor on a GPU as the choice between the two ways needs."""

        is_cuda, device, dtype = True, "cuda:1", torch.bfloat16

        def detach(self):
            return self

        def reshape(self, _):
            return self

    asked = []
    monkeypatch.setattr(projection.fused_map, "usable", lambda *args: asked.append(args) or True)
    made = SRHTProjection(256, 2048)
    monkeypatch.setattr(made, "project_fused", lambda name, flat: (name, type(flat)))
    assert made.project("w", OnGPU()) == ("w", OnGPU)
    assert asked == [("cuda:1", torch.bfloat16)]
    assert isinstance(made.project("w", torch.ones(5)), torch.Tensor)  # on the CPU nobody is asked
    assert len(asked) == 1


def test_the_identity_map_copies_and_counts():
    kept = IdentityProjection(5)
    gradient = torch.tensor([[1.0, 2.0]])
    parts = {"b": kept.project("b", gradient), "a": kept.project("a", torch.tensor([3.0, 4.0, 5.0]).double())}
    gradient.zero_()  # autograd uses the memory again
    assert kept.combine(parts).tolist() == [3, 4, 5, 1, 2]
    assert parts["a"].dtype == torch.float32
    with pytest.raises(NotImplementedError):  # a tensor without data cannot come to the CPU
        kept.project("w", torch.ones(5, device="meta"))
    with pytest.raises(ValueError, match=r"^2 gradient elements came, 5 were expected$"):
        kept.combine({"b": parts["b"]})


def test_parts_are_added_in_float64():
    parts = {name: torch.full((128,), value) for name, value in (("a", 3e8), ("b", 1.0), ("c", -3e8))}
    for made in (SRHTProjection(128, 128), GaussianProjection(128)):
        assert made.combine(parts).tolist() == [1.0] * 128


def test_the_fused_map_is_given_the_same_random_numbers(monkeypatch):
    """What the kernel makes of them is compared in test_fused.py, where there is triton."""
    asked = []
    monkeypatch.setattr(projection.fused_map, "project", lambda *args: asked.append(args) or torch.full((256,), 32.0))
    part = SRHTProjection(256, 2048, 7).project_fused("w", torch.ones(3, 5, requires_grad=True))
    ((flat, *rest),) = asked
    assert (flat.shape, flat.requires_grad) == ((15,), False)
    assert rest == [counter.derive_key("srht", 7, "w"), 256, 2048, 0, 3]
    assert part.tolist() == [2.0] * 256
    for made, covered in ((SRHTProjection(256, 2048), True), (SRHTProjection(256, 2048, fused=False), False)):
        assert made._fused is covered
    assert not SRHTProjection(128, 8192)._fused
