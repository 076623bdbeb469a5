"""The motion-weighted loss and the shared noise."""

import torch

from motive_fo.attribution.loss import motion_weighted_loss, shared_noise


def test_a_mask_of_ones_is_the_ordinary_loss():
    p, t = torch.randn(1, 4, 3, 8, 8), torch.randn(1, 4, 3, 8, 8)
    ones = torch.ones(1, 1, 3, 8, 8)
    assert torch.equal(motion_weighted_loss(p, t, ones), motion_weighted_loss(p, t))
    torch.testing.assert_close(motion_weighted_loss(p, t), torch.nn.functional.mse_loss(p, t))


def test_the_loss_is_the_papers_formula_element_by_element():
    p, t = torch.randn(1, 2, 3, 2, 2), torch.randn(1, 2, 3, 2, 2)
    mask = torch.rand(1, 1, 3, 2, 2)
    total = 0.0
    for c in range(2):
        for f in range(3):
            for y in range(2):
                for x in range(2):
                    total += float(mask[0, 0, f, y, x] * (p[0, c, f, y, x] - t[0, c, f, y, x]) ** 2)
    assert abs(float(motion_weighted_loss(p, t, mask)) - total / (2 * 3 * 2 * 2)) < 1e-5


def test_noise_depends_on_seed_and_shape_alone():
    torch.manual_seed(1)
    a = shared_noise((1, 16, 5, 8, 8), 0)
    torch.manual_seed(2)
    torch.randn(100)
    assert torch.equal(a, shared_noise((1, 16, 5, 8, 8), 0))
    assert not torch.equal(a, shared_noise((1, 16, 5, 8, 8), 1))
    assert not torch.equal(a[..., :4], shared_noise((1, 16, 5, 8, 4), 0))
    assert abs(float(a.mean())) < 0.06
    assert abs(float(a.std()) - 1) < 0.06


def test_half_precision_predictions_are_compared_in_float32():
    p, t = torch.randn(1, 4, 3, 8, 8).half(), torch.randn(1, 4, 3, 8, 8).half()
    assert motion_weighted_loss(p, t).dtype == torch.float32


def test_the_noise_of_a_seed_and_a_shape_is_fixed_for_ever():
    """Sketches made years apart are compared: the generator's seed is pinned, and torch's defaults do not reach it."""
    # sha256 of "5|2,3", its first 8 bytes read little-endian, without the lowest bit
    expected = torch.randn((2, 3), generator=torch.Generator("cpu").manual_seed(5570790071737968729))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        noise = shared_noise((2, 3), 5)
    finally:
        torch.set_default_dtype(before)
    assert noise.dtype == torch.float32
    assert torch.equal(noise, expected)
