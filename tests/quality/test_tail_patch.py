"""One step on one clip: against the closed form of a linear model, and everything as it was afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from motive_fo.attribution.loss import shared_noise
from motive_fo.errors import ClipError, ConfigError
from motive_fo.models.base import Noised
from motive_fo.models.tiny.model import TinyModel
from motive_fo.quality.losses import Example
from motive_fo.quality.tail_patch import PatchStep, tail_patch

SIZE = 6
HOW = PatchStep(timesteps=(300.0, 700.0), noises=(1, 2), measured_noises=(3, 4), length=1e-2)


class Linear:
    """Prediction W z of the noise, z = x0 + s e: a loss that is quadratic in W, and an idle part beside it."""

    device = torch.device("cpu")

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        self.network = torch.nn.ModuleDict(
            {"main": torch.nn.Linear(SIZE, SIZE, bias=False), "other": torch.nn.Linear(2, 2)}
        )
        generator = torch.Generator().manual_seed(0)
        for parameter in self.network.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator).to(dtype)
        self.weight = self.network["main"].weight

    def noise(self, x0, e, timestep):
        return Noised(x0 + timestep / 1000 * e, e, torch.tensor([timestep]))

    def predict(self, x_t, timestep, condition):
        return self.network["main"](x_t) * condition

    def arrange_mask(self, mask):
        return mask


def _examples(count, masked=True, dtype=torch.float64):
    rng = np.random.default_rng(5)
    mask = rng.random((count, SIZE)).astype(np.float32)
    return [
        Example(torch.from_numpy(rng.normal(size=SIZE)).to(dtype), 1.0, mask[n] if masked else None)
        for n in range(count)
    ]


def _loss(weight, example, timestep, noise):
    """The loss and its gradient, in numpy."""
    e = shared_noise((SIZE,), noise).numpy().astype(np.float64)
    z = example.x0.numpy() + timestep / 1000 * e
    mask = np.ones(SIZE) if example.mask_Fhw is None else example.mask_Fhw
    error = weight @ z - e
    return float((mask * error**2).mean()), 2 / SIZE * np.outer(mask * error, z)


@pytest.mark.parametrize("rule", ["sgd", "sign"])
@pytest.mark.parametrize("masked", [True, False])
def test_the_fall_is_that_of_a_step_worked_out_by_hand(rule, masked):
    model, how = Linear(), PatchStep(HOW.timesteps, HOW.noises, HOW.measured_noises, 1e-2, rule)
    queries, clips = _examples(3), _examples(4, masked)
    weights = [parameter.detach().numpy().copy() for parameter in model.network.parameters()]
    weight = weights[0]
    with tail_patch(model, queries, how) as patch:
        found = [patch.falls(clip) for clip in clips]
    length = 1e-2 * np.sqrt(sum((each**2).sum() for each in weights))  # the idle part counts among the weights
    for clip, fall_QSR in zip(clips, found, strict=True):
        gradient = np.mean([_loss(weight, clip, t, n)[1] for t in how.timesteps for n in how.noises], axis=0)
        along = np.sign(gradient) if rule == "sign" else gradient
        moved = weight - length * along / np.linalg.norm(along)
        expected = [
            [[_loss(weight, q, t, n)[0] - _loss(moved, q, t, n)[0] for n in how.measured_noises] for t in how.timesteps]
            for q in queries
        ]
        np.testing.assert_allclose(fall_QSR, expected, atol=2e-6)  # losses are float32
        assert np.abs(expected).max() > 1e-3


def test_a_step_on_the_very_example_lowers_its_loss_and_the_order_of_falls_is_the_cosines():
    model = Linear()
    clips = _examples(12, masked=False)
    how = PatchStep((500.0,), (1,), (2,), 1e-4)
    with tail_patch(model, clips[:1], how) as patch:
        falls = [float(patch.falls(clip)[0, 0, 0]) for clip in clips]
    weight = model.weight.detach().numpy()
    wanted = _loss(weight, clips[0], 500.0, 2)[1]
    gradients = [_loss(weight, clip, 500.0, 1)[1] for clip in clips]
    cosines = [float((wanted * g).sum() / np.linalg.norm(g)) for g in gradients]
    assert falls[0] > 0
    assert np.corrcoef(np.argsort(np.argsort(falls)), np.argsort(np.argsort(cosines)))[0, 1] > 0.97


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_everything_is_as_it_was_to_the_last_bit(dtype):
    model = Linear(dtype)
    model.network.train()
    model.network["other"].weight.requires_grad_(False)
    before = [parameter.detach().clone() for parameter in model.network.parameters()]
    how = PatchStep((500.0,), (1,), (2,), 0.5)  # long enough for bfloat16
    clips = _examples(2, dtype=dtype)
    with tail_patch(model, clips[:1], how) as patch:
        first = patch.falls(clips[1])
        np.testing.assert_array_equal(patch.falls(clips[1]), first)  # no step leaves anything behind
    for parameter, value in zip(model.network.parameters(), before, strict=True):
        assert torch.equal(parameter, value)
        assert parameter.grad is None
    assert model.network.training
    assert [parameter.requires_grad for parameter in model.network.parameters()] == [True, False, True]


@pytest.mark.parametrize("condition", [float("nan"), 0.0])
def test_a_clip_that_fails_leaves_the_weights_and_the_next_clip_alone(condition):
    model, clips = Linear(), _examples(3)
    before = model.weight.detach().clone()
    bad = Example(clips[1].x0, condition)  # no finite loss; a loss no weight has a part in
    with tail_patch(model, clips[:1], HOW) as patch:
        expected = patch.falls(clips[2])
        with pytest.raises(ClipError) as raised:
            patch.falls(bad)
        assert raised.value.code == ("zero_gradient" if condition == 0 else "nonfinite_gradient")
        np.testing.assert_array_equal(patch.falls(clips[2]), expected)
    assert torch.equal(model.weight, before)


def test_a_step_that_the_precision_loses_is_refused_and_one_that_it_holds_is_not():
    model, clips = Linear(torch.bfloat16), _examples(2, dtype=torch.bfloat16)
    before = model.weight.detach().clone()
    short, long_ = (PatchStep((500.0,), (1,), (2,), length) for length in (1e-4, 0.3))
    with (
        tail_patch(model, clips[:1], short) as patch,
        pytest.raises(ConfigError, match="rounding of bfloat16: compute in float32"),
    ):
        patch.falls(clips[1])
    assert torch.equal(model.weight, before)
    with tail_patch(model, clips[:1], long_) as patch:
        assert np.isfinite(patch.falls(clips[1])).all()


def test_noise_of_the_step_is_never_measured_with():
    with (
        pytest.raises(ConfigError, match="must not be measured with"),
        tail_patch(Linear(), _examples(1), PatchStep((500.0,), (1, 2), (2,))),
    ):
        pass


def test_a_network_in_two_places_is_refused():
    model = Linear()
    model.network["other"].to("meta")
    with pytest.raises(ConfigError, match="offload to off"), tail_patch(model, _examples(1), HOW):
        pass


def test_the_embedded_model_learns_from_the_very_clip():
    """Its own clip must help a query more than other clips do, on average, at noise the step did not see."""
    model = TinyModel.random(1)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (4, 17, 64, 64, 3), np.uint8)
    with torch.no_grad():
        made = [Example(model.encode_frames(each), model.encode_caption("a clip")) for each in frames]
    how = PatchStep((500.0,), (1,), (2,), 1e-3)
    with tail_patch(model, made, how) as patch:
        fall_QN = np.stack([patch.falls(each)[:, 0, 0] for each in made], axis=1)
    own = np.diag(fall_QN)
    assert (own > 0).all()
    assert own.mean() > (fall_QN.sum() - own.sum()) / 12
