"""The direction histogram: what it keeps, what it ignores, and what resembles what."""

import numpy as np
import pytest

from motive_fo.flow.base import Displacement
from motive_fo.flow.dis import DISFlow
from motive_fo.motion.hoof import hoof, similarity
from motive_fo.synthetic.scene import displacement, render, sample_scene

CLIP = {"frames": 9, "fps": 16, "height": 64, "width": 64}


def _random(seed=0):
    return np.random.default_rng(seed).normal(0.5, 1, (4, 12, 12, 2)).astype(np.float32)


@pytest.mark.parametrize(("direction", "place"), [((1, 0), 0), ((0, 1), 4), ((-1, 0), 8), ((0, -1), 12)])
def test_a_pan_falls_into_one_bin(direction, place):
    flow = np.broadcast_to(np.float32(direction), (3, 8, 8, 2)) + np.float32(0.01) * _random()[:3, :8, :8]
    found = hoof(Displacement(flow, None, "step"))
    assert found.dtype == np.float32
    assert found.argmax() == place
    assert found[place] > 0.999


def test_turned_flow_turns_the_descriptor():
    angle = 2 * np.pi * 3 / 16
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    still = hoof(Displacement(_random(), None, "step"))
    turned = hoof(Displacement((_random() @ turn.T).astype(np.float32), None, "step"))
    np.testing.assert_allclose(turned, np.roll(still, 3), atol=1e-4)


@pytest.mark.parametrize("scale", [0.1, 40.0])
def test_faster_is_the_same_direction(scale):
    one = hoof(Displacement(_random(), None, "step"))
    np.testing.assert_allclose(hoof(Displacement(_random() * np.float32(scale), None, "step")), one, atol=1e-6)
    assert one.sum() == pytest.approx(1)


def test_a_static_clip_is_zeros_and_resembles_nothing():
    static = hoof(Displacement(np.zeros((3, 8, 8, 2), np.float32), None, "step"))
    assert not static.any()
    assert not hoof(Displacement(_random() * np.float32(0.01), None, "step"), floor=1.0).any()
    found = similarity(static[None], np.stack([static, hoof(Displacement(_random(), None, "step"))]))
    assert found.shape == (1, 2)
    assert np.isnan(found).all()


def test_frame_zero_is_left_out():
    flow = _random()
    changed = flow.copy()
    changed[0] = 100
    assert np.array_equal(hoof(Displacement(flow, None, "step")), hoof(Displacement(changed, None, "step")))


def test_similarity_is_the_cosine():
    clips = np.stack([hoof(Displacement(_random(k), None, "step")) for k in range(3)])
    found = similarity(clips[:2], clips)
    assert found.shape == (2, 3)
    np.testing.assert_allclose(np.diag(found), 1)
    lengths = np.linalg.norm(clips, axis=1)
    assert found[0, 1] == pytest.approx(float(clips[0] @ clips[1] / lengths[0] / lengths[1]))


@pytest.mark.parametrize("motion", ["pan", "slide", "fall", "spin"])
def test_the_estimated_descriptor_resembles_the_exact_one(motion):
    scene = sample_scene(0, motion)
    exact = hoof(Displacement(displacement(scene, **CLIP), None, "step"))
    found = hoof(DISFlow().estimate(render(scene, **CLIP), "step"))
    assert similarity(exact[None], found[None])[0, 0] > 0.8


@pytest.mark.parametrize(("frames", "bins", "says"), [(1, 16, "2 or more frames"), (3, 0, "1 or more bins")])
def test_wrong_use_is_refused(frames, bins, says):
    with pytest.raises(ValueError, match=says):
        hoof(Displacement(np.zeros((frames, 8, 8, 2), np.float32), None, "step"), bins)
