"""Several clips in one pass: each one's sketch is its own, the same to the last bit in whatever company."""

import numpy as np
import pytest
import torch

from motive_fo.attribution.batched import batching
from motive_fo.attribution.gradients import GradientTask, clip_sketch, streaming
from motive_fo.attribution.parameters import attributed_parameters
from motive_fo.attribution.projection import SRHTProjection
from motive_fo.errors import ClipError
from motive_fo.models.base import BatchedModel
from motive_fo.models.tiny.model import TinyModel

WIDTH = 8
PROJECTION = SRHTProjection(128)
FIELDS = ("sketch_2D", "norm_2", "loss_2", "squares_G2")


@pytest.fixture(scope="module")
def model():
    return TinyModel.random(3)


@pytest.fixture(scope="module")
def tasks(model):
    """Clips, captions of several lengths, timesteps and noises; the sixth does not move."""
    rng = np.random.default_rng(0)
    captions = ("", "a ball", "a striped red ball rolls quickly to the left over the grass")
    return [
        GradientTask(
            torch.from_numpy(rng.standard_normal((1, 16, 5, 8, 8), np.float32)),
            model.encode_caption(captions[n % 3]),
            None if n == 5 else rng.random((5, 8, 8), np.float32),
            (750.748, 500.0)[n % 2],
            n % 3,
        )
        for n in range(WIDTH)
    ]


def _equal(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True) for name in FIELDS)


def test_each_clips_sketch_is_that_of_its_own_backward_pass(model, tasks):
    assert isinstance(model, BatchedModel)
    with batching(model, PROJECTION, WIDTH) as batched:
        together = batched.sketches(tasks)
    with streaming(model.network, PROJECTION) as backward:
        alone = [clip_sketch(model, backward, *task) for task in tasks]
    for one, other in zip(together, alone, strict=True):
        for name in FIELDS:
            # float32 rounding of two orders of summation
            np.testing.assert_allclose(
                getattr(one, name), getattr(other, name), rtol=1e-5, atol=3e-6 * np.nanmax(abs(getattr(other, name)))
            )
        assert np.isnan(one.sketch_2D).any() == np.isnan(other.sketch_2D).any()


@pytest.mark.parametrize("company", [[4], [5], [4, 4, 4], [7, 6, 5, 4, 3, 2, 1, 0], [0, 4, 5]])
def test_a_sketch_does_not_depend_on_what_stands_beside_it(model, tasks, company):
    with batching(model, PROJECTION, WIDTH) as batched:
        together = batched.sketches(tasks)
        other = batched.sketches([tasks[n] for n in company])
    assert len(other) == len(company)
    for n, sketch in zip(company, other, strict=True):
        assert _equal(sketch, together[n])


def test_a_clip_without_a_finite_gradient_spoils_no_other(model, tasks):
    bad = tasks[2]._replace(x0=tasks[2].x0 * float("nan"))
    with batching(model, PROJECTION, WIDTH) as batched:
        expected = batched.sketches(tasks)
        made = batched.sketches([*tasks[:2], bad, *tasks[3:]])
    assert isinstance(made[2], ClipError)
    assert made[2].code == "nonfinite_gradient"
    assert all(_equal(made[n], expected[n]) for n in range(WIDTH) if n != 2)


def test_only_attributed_parameters_count_and_all_is_restored(model, tasks):
    parameters = attributed_parameters(model.network, ("blocks.1.*",))
    before = [parameter.requires_grad for parameter in model.network.parameters()]
    with batching(model, PROJECTION, WIDTH, parameters) as batched:
        (made,) = batched.sketches(tasks[:1])
    with streaming(model.network, PROJECTION, parameters) as backward:
        expected = clip_sketch(model, backward, *tasks[0])
    assert made.squares_G2.shape == expected.squares_G2.shape == (1, 2)
    np.testing.assert_allclose(made.norm_2, expected.norm_2, rtol=1e-5)
    assert [parameter.requires_grad for parameter in model.network.parameters()] == before
    assert all(parameter.grad is None for parameter in model.network.parameters())


def test_large_latents_are_taken_one_by_one(model):
    assert model.width((1, 16, 5, 8, 8)) == WIDTH
    assert model.width((1, 16, 9, 32, 32)) == 1
