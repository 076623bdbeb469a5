"""Steps held against the frames: halos and the motion of noise go, what moves stays."""

import numpy as np
import pytest

from motive_fo.flow.chain import PairwiseFlow
from motive_fo.flow.dis import DISFlow
from motive_fo.flow.farneback import FarnebackFlow
from motive_fo.flow.outline import sharpen
from motive_fo.motion.description import describe
from motive_fo.synthetic.scene import displacement, object_mask, render, sample_scene

CLIP = {"frames": 6, "fps": 16, "height": 64, "width": 64}
FLOOR = 0.1


def _matched(frames, estimator=DISFlow):
    between = estimator().open(frames)
    return np.stack([between(0, 1) if t == 0 else -between(t, t - 1) for t in range(len(frames))])


def _noisy(frames, deviation):
    noise = np.random.default_rng(0).normal(0, deviation, frames.shape)
    return np.clip(np.rint(frames + noise), 0, 255).astype(np.uint8)


def _length(flow):
    return np.hypot(flow[..., 0], flow[..., 1])


@pytest.mark.parametrize("estimator", [DISFlow, FarnebackFlow])
@pytest.mark.parametrize("motion", ["slide", "fall", "occlusion", "track", "rotation"])
def test_the_error_falls(estimator, motion):
    before = after = 0.0
    for seed in range(3):
        scene = sample_scene(seed, motion)
        frames, exact = render(scene, **CLIP), displacement(scene, **CLIP)
        matched = _matched(frames, estimator)
        before += _length(matched - exact).mean()
        after += _length(sharpen(matched, frames) - exact).mean()
    assert after < 0.85 * before


def test_a_halo_ends_at_the_outline():
    """An exact field whose object was grown by three pixels, as patches grow it."""
    scene = sample_scene(0, "slide")
    frames, exact, own = render(scene, **CLIP), displacement(scene, **CLIP), object_mask(scene, **CLIP)
    grown = exact.copy()
    for t in range(len(grown)):
        for y in range(-3, 4):
            for x in range(-3, 4):
                grown[t][np.roll(own[t], (y, x), (0, 1))] = exact[t][own[t]][0]
    halo = (_length(grown) > 0) & ~own
    left = _length(sharpen(grown, frames))
    assert (left[halo] > 0.5 * _length(exact).max()).mean() < 0.6
    assert (left[own] > 0.5 * _length(exact).max()).mean() > 0.9


@pytest.mark.parametrize("deviation", [0, 2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_the_noise_of_a_still_clip_does_not_move(deviation, seed):
    frames = _noisy(render(sample_scene(seed, "still"), **CLIP), deviation)
    matched = _matched(frames)
    if deviation:
        assert describe(_length(matched)).peak > 3 * FLOOR  # what there is to take away
    assert describe(_length(sharpen(matched, frames))).is_static(FLOOR)


@pytest.mark.parametrize("motion", ["slide", "fall", "spin", "stretch", "pan", "zoom"])
@pytest.mark.parametrize("deviation", [0, 2])
def test_what_moves_slowly_is_not_taken_for_noise(motion, deviation):
    for seed in range(100, 104):
        frames = _noisy(render(sample_scene(seed, motion), **CLIP), deviation)
        assert not describe(_length(DISFlow().estimate(frames, "step").flow_THW2)).is_static(FLOOR)


def test_exact_steps_stay_nearly_exact():
    for motion in ("spin", "zoom", "track_rotation"):
        scene = sample_scene(1, motion)
        exact = displacement(scene, **CLIP)
        assert _length(sharpen(exact, render(scene, **CLIP)) - exact).mean() < 0.05


@pytest.mark.parametrize("size", [(16, 16), (17, 40), (127, 130), (257, 301)])
def test_any_size(size):
    clip = {"frames": 2, "fps": 16, "height": size[0], "width": size[1]}
    scene = sample_scene(0, "pan")
    exact = displacement(scene, **clip)
    found = sharpen(exact, render(scene, **clip))
    assert found.shape == exact.shape
    assert found.dtype == np.float32
    assert np.abs(found - exact).mean() < 0.05


def test_below_sixteen_pixels_steps_stay_as_they_are():
    step = np.random.default_rng(0).normal(0, 1, (3, 15, 40, 2)).astype(np.float32)
    assert np.array_equal(sharpen(step, np.zeros((3, 15, 40, 3), np.uint8)), step)


@pytest.mark.parametrize("estimator", [DISFlow, FarnebackFlow])
def test_the_step_reading_is_sharpened_and_says_so_and_the_anchor_reading_is_not(estimator):
    frames = render(sample_scene(0, "slide"), **CLIP)
    matched = _matched(frames, estimator)
    assert np.array_equal(estimator().estimate(frames, "step").flow_THW2, sharpen(matched, frames))
    assert estimator().identity("step")["outline"] == 1
    assert "outline" not in estimator().identity("anchor")
    assert PairwiseFlow.correct(estimator(), matched, frames) is matched
