"""Statistics of motion, against known fields."""

import numpy as np
import pytest

from motive_fo.motion.description import describe


def test_a_uniform_pan():
    described = describe(np.full((9, 32, 32), 1.5, np.float32))
    assert described.mean == pytest.approx(1.5)
    assert described.p95 == pytest.approx(1.5)
    assert described.peak == pytest.approx(1.5)
    assert described.curve_T.shape == (9,)


def test_a_small_object_is_not_static():
    """A ball of two percent of the frame: mean and p95 miss it, the peak does not."""
    field = np.zeros((9, 50, 50), np.float32)
    field[:, 10:17, 10:17] = 2.0
    described = describe(field)
    assert described.p95 == 0
    assert described.peak == pytest.approx(2.0)
    assert not described.is_static(0.25)


def test_the_curve_follows_the_frames():
    field = np.arange(5, dtype=np.float32)[:, None, None] * np.ones((5, 8, 8), np.float32)
    np.testing.assert_allclose(describe(field).curve_T, [0, 1, 2, 3, 4])


def test_noise_below_the_floor_is_static():
    field = np.random.default_rng(0).random((9, 32, 32)).astype(np.float32) * 0.01
    assert describe(field).is_static(0.05)
