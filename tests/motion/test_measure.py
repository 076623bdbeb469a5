"""What is measured serves every option: masks for any strides, with or without the camera's motion."""

import numpy as np
import pytest

from motive_fo.flow.base import Displacement
from motive_fo.models.card import Strides
from motive_fo.motion.camera import fit_camera
from motive_fo.motion.description import describe
from motive_fo.motion.hoof import hoof
from motive_fo.motion.mask import magnitude, motion_mask, to_latent_grid
from motive_fo.motion.measure import LEFT, MOVES_PX, WHOLE, cell_of, measure

WAN, WAN_22, LTX = Strides(4, 8, 8), Strides(4, 16, 16), Strides(8, 32, 32)


@pytest.fixture(scope="module")
def moving():
    """A block that moves to the right under a camera that pans down."""
    flow = np.zeros((17, 64, 96, 2), np.float32)
    flow[..., 1] = 1.5
    flow[:, 20:36, 30:60, 0] = np.linspace(1, 3, 17, dtype=np.float32)[:, None, None]
    return Displacement(flow, None, "step")


def _measure(displacement, strides=WAN, pooling="area"):
    cell = cell_of(strides, pooling)
    return measure(displacement, fps=16, camera_model="similarity", bins=16, cell=cell, pooling=pooling)


@pytest.mark.parametrize("pooling", ["area", "bilinear"])
@pytest.mark.parametrize("strides", [WAN, WAN_22, LTX, Strides(4, 4, 4)])
def test_masks_are_those_of_the_pixels(moving, strides, pooling):
    measured = _measure(moving, strides, pooling)
    sides = {WHOLE: moving, LEFT: fit_camera(moving).residual}
    for side, displacement in sides.items():
        expected = to_latent_grid(motion_mask(magnitude(displacement)), strides, pooling)
        made = measured.latent_mask(side, strides, cell_of(strides, pooling), pooling)
        np.testing.assert_allclose(made, expected, atol=5e-4)  # float16


def test_one_measurement_serves_models_of_different_strides(moving):
    assert cell_of(WAN, "area") == cell_of(WAN_22, "area") == cell_of(LTX, "area") == (8, 8)
    measured = _measure(moving, WAN)
    for strides in (WAN, WAN_22, LTX):
        expected = to_latent_grid(motion_mask(magnitude(moving)), strides)
        np.testing.assert_allclose(measured.latent_mask(WHOLE, strides, (8, 8), "area"), expected, atol=5e-4)


def test_statistics_of_both_sides(moving):
    measured = _measure(moving)
    for side, displacement in ((WHOLE, moving), (LEFT, fit_camera(moving).residual)):
        described = describe(magnitude(displacement))
        assert measured.mean[side] == np.float32(described.mean)
        assert measured.peak[side] == np.float32(described.peak)
        assert np.array_equal(measured.curve[side], described.curve_T)
        assert np.array_equal(measured.hoof[side], hoof(displacement, 16, floor=MOVES_PX))
    assert measured.mean[LEFT] < measured.mean[WHOLE]
    assert measured.moving_share[WHOLE] == 1
    assert measured.moving_share[LEFT] == pytest.approx(16 * 30 / (64 * 96), abs=1e-3)


def test_a_constant_magnitude_stays_an_empty_mask():
    """Rounding to 16 bits must not be stretched to a mask."""
    flow = np.zeros((9, 16, 16, 2), np.float32)
    flow[..., 0] = 2.001
    assert not _measure(Displacement(flow, None, "step")).mask[WHOLE].any()


def test_what_the_anchor_reading_does_not_define_is_unknown(moving):
    anchored = Displacement(np.cumsum(moving.flow_THW2, 0) - moving.flow_THW2[:1], None, "anchor")
    measured = _measure(anchored)
    assert np.isnan(measured.moving_share).all()
    assert np.isnan(measured.smoothness).all()
    assert np.isnan(measured.dynamic_score)
    assert np.isfinite(measured.mean).all()
