"""Sketches of a real small model against plain autograd."""

import numpy as np
import pytest
import torch

from motive_fo.attribution.gradients import MASKED, UNMASKED, clip_sketch, streaming
from motive_fo.attribution.loss import shared_noise
from motive_fo.attribution.parameters import attributed_parameters, parameter_group, parameter_groups
from motive_fo.attribution.projection import FastfoodProjection, IdentityProjection, SRHTProjection
from motive_fo.errors import ClipError, ConfigError, MotiveError
from motive_fo.influence.cosine import cosine_scores
from motive_fo.models.tiny.model import TinyModel

T, SEED = 750.748, 0


@pytest.fixture(scope="module")
def model():
    return TinyModel.random(3)


@pytest.fixture(scope="module")
def example(model):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (17, 64, 64, 3), dtype=np.uint8)
    with torch.no_grad():
        x0, condition = model.encode_frames(frames), model.encode_caption("a ball rolls over grass")
    return x0, condition, rng.random((5, 8, 8)).astype(np.float32)


def _parameters(model):
    return sum(p.numel() for _, p in attributed_parameters(model.network))


def _plain_gradient(model, example, mask):
    """The gradient by autograd alone, nothing streamed, in name order."""
    x0, condition, _ = example
    noised = model.noise(x0, shared_noise(tuple(x0.shape), SEED), T)
    prediction = model.predict(noised.x_t, noised.timestep, condition)
    error = (prediction - noised.target).square()
    loss = error.mean() if mask is None else (error * model.arrange_mask(torch.from_numpy(mask))).mean()
    parameters = attributed_parameters(model.network)
    gradients = torch.autograd.grad(loss, [p for _, p in parameters], allow_unused=True)
    return torch.cat(
        [torch.zeros(p.numel()) if g is None else g.flatten() for (_, p), g in zip(parameters, gradients, strict=True)]
    )


def _sketch(model, example, projection, mask="given", timestep=T, noise=SEED, parameters=None):
    x0, condition, weights = example
    with streaming(model.network, projection, parameters) as backward:
        chosen = weights if isinstance(mask, str) else mask
        return clip_sketch(model, backward, x0, condition, chosen, timestep, noise)


def test_the_streamed_gradient_is_autograds(model, example):
    sketches = _sketch(model, example, IdentityProjection(_parameters(model)))
    for side, mask in ((UNMASKED, None), (MASKED, example[2])):
        exact = _plain_gradient(model, example, mask)
        torch.testing.assert_close(torch.from_numpy(sketches.sketch_2D[side]), exact, rtol=1e-4, atol=1e-7)
        assert np.isclose(sketches.norm_2[side], float(exact.norm()), rtol=1e-4)


def test_streaming_equals_all_at_once(model, example):
    projection = FastfoodProjection()
    sketches = _sketch(model, example, projection)
    exact = _plain_gradient(model, example, None)
    parts, at = {}, 0
    for name, parameter in attributed_parameters(model.network):
        parts[name] = projection.project(name, exact[at : at + parameter.numel()].view_as(parameter))
        at += parameter.numel()
    assert np.array_equal(sketches.sketch_2D[UNMASKED], projection.combine(parts).numpy())


def test_a_mask_of_ones_gives_the_unmasked_sketch(model, example):
    sketches = _sketch(model, example, FastfoodProjection(), np.ones((5, 8, 8), np.float32))
    np.testing.assert_allclose(sketches.sketch_2D[MASKED], sketches.sketch_2D[UNMASKED], rtol=1e-5, atol=1e-7)


def test_a_scaled_mask_changes_no_cosine(model, example):
    """1/F, the mask's max-scaling, a loss weight: a positive constant per clip is invisible to a cosine."""
    projection = FastfoodProjection()
    one = _sketch(model, example, projection).sketch_2D[None, None, MASKED]
    five = _sketch(model, example, projection, example[2] / 5).sketch_2D[None, None, MASKED]
    assert abs(float(cosine_scores(one, five)[0, 0]) - 1) < 1e-6
    other = _sketch(model, example, projection, 1 - example[2]).sketch_2D[None, None, MASKED]
    assert abs(float(cosine_scores(one, other)[0, 0]) - float(cosine_scores(five, other)[0, 0])) < 1e-5


def test_self_influence_is_one(model, example):
    sketch = _sketch(model, example, FastfoodProjection()).sketch_2D[None, None]
    for side in (UNMASKED, MASKED):
        assert cosine_scores(sketch[:, :, side], sketch[:, :, side])[0, 0] == pytest.approx(1, abs=1e-7)


def test_a_sketch_is_the_same_after_any_other_clip(model, example):
    projection = FastfoodProjection()
    first = _sketch(model, example, projection)
    x0, condition, mask = example
    with streaming(model.network, projection) as backward:
        clip_sketch(model, backward, x0.flip(2), condition, mask, T, SEED)
        again = clip_sketch(model, backward, x0, condition, mask, T, SEED)
    assert np.array_equal(first.sketch_2D, again.sketch_2D)
    assert np.array_equal(first.loss_2, again.loss_2)


def test_a_static_clip_has_no_masked_sketch(model, example):
    sketches = _sketch(model, example, FastfoodProjection(), None)
    assert np.isnan(sketches.sketch_2D[MASKED]).all()
    assert np.isfinite(sketches.sketch_2D[UNMASKED]).all()
    with_mask = _sketch(model, example, FastfoodProjection())
    assert np.array_equal(sketches.sketch_2D[UNMASKED], with_mask.sketch_2D[UNMASKED])


def test_another_timestep_or_noise_is_another_sketch(model, example):
    one = _sketch(model, example, FastfoodProjection()).sketch_2D
    for changed in ({"timestep": 300.0}, {"noise": 1}):
        assert not np.allclose(_sketch(model, example, FastfoodProjection(), **changed).sketch_2D, one, rtol=1e-2)


@pytest.mark.parametrize("make", [FastfoodProjection, SRHTProjection])
def test_a_filtered_sketch_is_that_of_the_kept_tensors(model, example, make):
    """Attributing some parameters is projecting their gradients alone: the others have no part in it."""
    kept = attributed_parameters(model.network, ["blocks.*"], ["*.bias"])
    assert 0 < len(kept) < len(attributed_parameters(model.network))
    projection = make()
    filtered = _sketch(model, example, projection, parameters=kept)
    exact, parts, at = _plain_gradient(model, example, None), {}, 0
    squares = 0.0
    for name, parameter in attributed_parameters(model.network):
        gradient = exact[at : at + parameter.numel()].view_as(parameter)
        if name.startswith("blocks.") and not name.endswith(".bias"):
            parts[name] = projection.project(name, gradient)
            squares += float(gradient.double().square().sum())
        at += parameter.numel()
    assert sorted(parts) == [name for name, _ in kept]
    assert np.array_equal(filtered.sketch_2D[UNMASKED], projection.combine(parts).numpy())
    assert filtered.norm_2[UNMASKED] == pytest.approx(np.sqrt(squares), rel=1e-5)


def test_groups_squared_norms_are_those_of_their_tensors_and_sum_to_the_norms_square(model, example):
    sketch = _sketch(model, example, FastfoodProjection())
    parameters = attributed_parameters(model.network)
    groups = parameter_groups(name for name, _ in parameters)
    np.testing.assert_allclose(sketch.squares_G2.sum(0), sketch.norm_2**2, rtol=1e-12)
    exact, expected, at = _plain_gradient(model, example, None), dict.fromkeys(groups, 0.0), 0
    for name, parameter in parameters:
        expected[parameter_group(name)] += float(exact[at : at + parameter.numel()].double().square().sum())
        at += parameter.numel()
    np.testing.assert_allclose(sketch.squares_G2[:, UNMASKED], list(expected.values()), rtol=1e-4)
    assert {"blocks.0", "blocks.1"} <= set(groups)
    static = _sketch(model, example, FastfoodProjection(), None)
    assert np.isnan(static.squares_G2[:, MASKED]).all()


def test_groups_are_named_as_a_reader_expects():
    names = ["blocks.10.ff.0.weight", "blocks.2.attn.q.weight", "proj_out.bias", "time.net.0.weight", "scale_shift"]
    assert parameter_groups(names) == ["blocks.2", "blocks.10", "proj_out", "scale_shift", "time.net.0"]


@pytest.mark.parametrize(
    ("include", "exclude", "problem"),
    [
        (["block.*"], [], r"include: no parameter is called 'block\.\*'; there are .*blocks\.0"),
        (["*"], ["head"], r"exclude: no parameter is called 'head'"),
        (["blocks.*"], ["*"], "leave no parameter"),
    ],
)
def test_a_pattern_that_fits_nothing_shows_some_names(model, include, exclude, problem):
    with pytest.raises(ConfigError, match=problem):
        attributed_parameters(model.network, include, exclude)


def test_parameters_left_out_get_no_gradient_and_are_restored(model, example):
    kept = attributed_parameters(model.network, ["blocks.1.*"])
    left_out = [p for n, p in attributed_parameters(model.network) if not n.startswith("blocks.1.")]

    class Watching(FastfoodProjection):
        wanted = False

        def project(self, name, gradient):
            self.wanted = self.wanted or any(p.requires_grad or p.grad is not None for p in left_out)
            return super().project(name, gradient)

    projection = Watching()
    _sketch(model, example, projection, parameters=kept)
    assert not projection.wanted
    assert all(p.requires_grad for p in left_out)


def test_the_network_is_left_as_it_was(model, example):
    model.network.train()
    flags = [p.requires_grad for p in model.network.parameters()]
    _sketch(model, example, FastfoodProjection())
    assert model.network.training
    assert all(p.grad is None for p in model.network.parameters())
    assert [p.requires_grad for p in model.network.parameters()] == flags
    model.network.eval()


def test_no_gradient_outlives_its_projection(model, example):
    """While a tensor is projected, no other parameter holds a gradient."""
    parameters = [p for _, p in attributed_parameters(model.network)]

    class Watching(FastfoodProjection):
        held = 0

        def project(self, name, gradient):
            self.held = max(self.held, sum(p.grad is not None for p in parameters))
            return super().project(name, gradient)

    projection = Watching()
    _sketch(model, example, projection)
    assert projection.held == 0


def test_a_nonfinite_gradient_is_refused(model, example):
    x0, condition, mask = example
    with streaming(model.network, FastfoodProjection()) as backward:
        with pytest.raises(ClipError) as caught:
            clip_sketch(model, backward, x0 * float("nan"), condition, mask, T, SEED)
        assert caught.value.code == "nonfinite_gradient"


def test_a_zero_gradient_is_refused(model, example):
    with pytest.raises(ClipError) as caught:
        _sketch(model, example, FastfoodProjection(), np.zeros((5, 8, 8), np.float32))
    assert caught.value.code == "zero_gradient"


def test_parameters_are_listed_once_without_wrappers():
    inner = torch.nn.Linear(3, 3)

    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = inner, torch.nn.Linear(3, 3)
            self.b.weight = inner.weight

    class Wrapper(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.module = Tied()

    names = [name for name, _ in attributed_parameters(Wrapper())]
    assert names == ["a.bias", "a.weight", "b.bias"]


def test_a_parameter_reached_in_two_rounds_is_refused():
    layer = torch.nn.Linear(600, 2)
    with streaming(layer, FastfoodProjection()) as backward:
        backward.run(layer(torch.ones(1, 600)).sum())
        layer.weight.grad = torch.ones_like(layer.weight)
        with pytest.raises(MotiveError, match="two rounds"):
            backward.take("weight", layer.weight)


class _Repeating(torch.nn.Module):
    """A weight under two names, and a block that is called twice."""

    def __init__(self, checkpointed):
        super().__init__()
        torch.manual_seed(0)
        self.block = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.SiLU(), torch.nn.Linear(6, 6))
        self.enter, self.leave = torch.nn.Linear(6, 6), torch.nn.Linear(6, 6)
        self.leave.weight = self.enter.weight
        self.checkpointed = checkpointed

    def forward(self, x):
        x = self.enter(x)
        for _ in range(2):
            again = (
                torch.utils.checkpoint.checkpoint(self.block, x, use_reentrant=False)
                if self.checkpointed
                else self.block(x)
            )
            x = x + again
        return self.leave(x)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_tied_and_repeated_parameters_are_projected_once_and_whole(checkpointed):
    """Under the first name, and not before every use has added its part."""
    network = _Repeating(checkpointed)
    names = [name for name, _ in attributed_parameters(network)]
    assert names == [
        "block.0.bias", "block.0.weight", "block.2.bias", "block.2.weight", "enter.bias", "enter.weight", "leave.bias",
    ]  # fmt: skip
    x = torch.linspace(-1, 1, 18).reshape(3, 6)

    seen = []

    class Watching(IdentityProjection):
        def project(self, name, gradient):
            seen.append(name)
            return super().project(name, gradient)

    projection = Watching(sum(p.numel() for _, p in attributed_parameters(network)))
    with streaming(network, projection) as backward:
        y = network(x)
        losses = y.square().mean(), (y * torch.linspace(0, 1, 6)).square().mean()
        made = [backward.run(loss, keep_graph=n == 0) for n, loss in enumerate(losses)]
    assert sorted(seen) == sorted(2 * names)
    for taken, weights in zip(made, (1.0, torch.linspace(0, 1, 6)), strict=True):
        loss = (network(x) * weights).square().mean()
        exact = torch.autograd.grad(loss, [p for _, p in attributed_parameters(network)])
        whole = torch.cat([g.flatten() for g in exact])
        torch.testing.assert_close(torch.from_numpy(taken.sketch_D), whole, rtol=1e-5, atol=1e-8)
        assert taken.norm == pytest.approx(float(whole.double().norm()), rel=1e-6)
    # the parts are really several: one use alone gives another gradient
    with torch.no_grad():
        entered = network.enter(x)
        half = entered + network.block(entered)
        before_last = half + network.block(half)
    weight = network.enter.weight.detach().requires_grad_()
    alone = torch.nn.functional.linear(before_last, weight, network.leave.bias).square().mean()
    (one_use,) = torch.autograd.grad(alone, [weight])
    both = made[0].sketch_D[sum(p.numel() for n, p in attributed_parameters(network) if n < "enter.weight") :][:36]
    assert not np.allclose(both, one_use.flatten(), rtol=1e-2)
