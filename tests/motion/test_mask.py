"""From displacement to the mask on the latent grid."""

import numpy as np
import pytest

from motive_fo.flow.base import Displacement
from motive_fo.models.card import Strides
from motive_fo.motion.mask import fold_time, magnitude, motion_mask, pool_space, to_latent_grid

WAN, LTX = Strides(4, 8, 8), Strides(8, 32, 32)


def _displacement(seed=0, frames=9, height=16, width=24):
    flow = np.random.default_rng(seed).normal(size=(frames, height, width, 2)).astype(np.float32)
    return Displacement(flow, None, "step")


def test_magnitude_is_the_length_in_pixels():
    flow = np.zeros((2, 4, 4, 2), np.float32)
    flow[..., 0], flow[..., 1] = 3, -4
    assert np.allclose(magnitude(Displacement(flow, None, "step")), 5)


def test_the_mask_spans_zero_to_one_over_the_whole_clip():
    mask = motion_mask(magnitude(_displacement()))
    assert mask.min() == 0
    assert 0.999 < mask.max() <= 1


@pytest.mark.parametrize("scale", [0.1, 3.0, 50.0])
def test_flow_scaled_by_a_constant_leaves_the_mask(scale):
    still = _displacement()
    scaled = Displacement(still.flow_THW2 * np.float32(scale), None, "step")
    np.testing.assert_allclose(motion_mask(magnitude(scaled)), motion_mask(magnitude(still)), atol=2e-5)


def test_a_constant_magnitude_gives_zeros_not_noise():
    assert np.array_equal(motion_mask(np.full((5, 8, 8), 2.0, np.float32)), np.zeros((5, 8, 8)))


@pytest.mark.parametrize(("frames", "strides", "latent"), [(17, WAN, 5), (81, WAN, 21), (17, LTX, 3), (9, LTX, 2)])
def test_latent_frames_follow_the_causal_autoencoder(frames, strides, latent):
    """Latent frame 0 is frame 0; latent frame k is the mean of frames rk-r+1 .. rk."""
    values = np.arange(frames, dtype=np.float32)
    mask = np.broadcast_to(values[:, None, None], (frames, 2 * strides.height, strides.width)).copy()
    grid = to_latent_grid(mask, strides)
    assert grid.shape == (latent, 2, 1)
    r = strides.time
    expected = [0.0] + [float(np.mean(values[r * k - r + 1 : r * k + 1])) for k in range(1, latent)]
    np.testing.assert_allclose(grid[:, 0, 0], expected)


def test_area_pooling_sees_every_pixel():
    for y, x in ((0, 0), (7, 7), (3, 12)):
        mask = np.zeros((1, 8, 16), np.float32)
        mask[0, y, x] = 1
        grid = to_latent_grid(mask, WAN)
        assert grid[0, 0, x // 8] == pytest.approx(1 / 64)
        assert grid.sum() == pytest.approx(1 / 64)


def test_bilinear_pooling_is_torchs():
    import torch

    mask = np.random.default_rng(0).random((1, 64, 64)).astype(np.float32)
    plain = torch.nn.functional.interpolate(torch.from_numpy(mask)[:, None], size=(8, 8), mode="bilinear")
    np.testing.assert_allclose(to_latent_grid(mask, WAN, "bilinear"), plain[:, 0].numpy())


def test_cells_that_are_no_squares_are_pooled_by_their_rows_and_columns():
    values = np.random.default_rng(0).random((2, 6, 8)).astype(np.float32)
    by_hand = values.reshape(2, 3, 2, 2, 4).mean((2, 4))
    np.testing.assert_allclose(pool_space(values, (2, 4)), by_hand, rtol=1e-6)  # area is what one gets
    assert pool_space(values, (2, 4), "bilinear").shape == (2, 3, 2)
    with pytest.raises(ValueError, match="6x8 pixels do not divide into cells of 4x8"):
        pool_space(values, (4, 8))


def test_a_mask_is_float32():
    assert motion_mask(magnitude(_displacement())).dtype == np.float32
    assert to_latent_grid(motion_mask(magnitude(_displacement())), WAN).dtype == np.float32


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_short_strides_fold_too(stride):
    values = np.arange(7, dtype=np.float32)[:, None, None]
    expected = [0, *(np.mean(range(k - stride + 1, k + 1)) for k in range(stride, 7, stride))]
    np.testing.assert_allclose(fold_time(values, stride)[:, 0, 0], expected)
    assert np.array_equal(fold_time(values[:1], stride), values[:1])


def test_a_mask_off_the_grid_is_refused():
    with pytest.raises(ValueError, match="16 frames do not fold by 4"):
        to_latent_grid(np.zeros((16, 64, 64), np.float32), WAN)
    with pytest.raises(ValueError, match="64x60 pixels do not divide into cells of 8x8"):
        to_latent_grid(np.zeros((17, 64, 60), np.float32), WAN)
