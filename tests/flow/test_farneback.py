"""Farneback on scenes whose motion is known exactly."""

import numpy as np
import pytest

from motive_fo.flow.farneback import FarnebackFlow
from motive_fo.motion.description import describe
from motive_fo.synthetic.scene import displacement, object_mask, render, sample_scene

CLIP = {"frames": 6, "fps": 16, "height": 64, "width": 64}


@pytest.mark.parametrize("motion", ["slide", "spin", "swing", "track"])
def test_the_object_moves_as_it_does(motion):
    scene = sample_scene(0, motion)
    found = FarnebackFlow().estimate(render(scene, **CLIP), "step")
    error = np.hypot(*np.moveaxis(found.flow_THW2 - displacement(scene, **CLIP), -1, 0))
    assert error[object_mask(scene, **CLIP)].mean() < 0.5
    assert found.reading == "step"
    assert found.visibility_THW is None


def test_frame_zero_takes_the_step_to_frame_one():
    scene = sample_scene(1, "pan")
    flow = FarnebackFlow().estimate(render(scene, **CLIP), "step").flow_THW2
    inner = flow[:, 16:-16, 16:-16].mean((1, 2))
    np.testing.assert_allclose(inner[0], inner[1], atol=0.3)
    assert np.abs(inner[0]).max() > 0.5


@pytest.mark.parametrize("seed", range(4))
def test_a_still_clip_stays_below_the_static_floor(seed):
    frames = render(sample_scene(seed, "still"), **CLIP)
    magnitude = np.hypot(*np.moveaxis(FarnebackFlow().estimate(frames, "step").flow_THW2, -1, 0))
    assert describe(magnitude).is_static(0.05)


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (15, 40), (7, 300)])
@pytest.mark.parametrize("reading", ["step", "anchor"])
def test_tiny_frames_are_no_reason_to_fail(shape, reading):
    frames = np.random.default_rng(0).integers(0, 255, (3, *shape, 3), dtype=np.uint8)
    flow = FarnebackFlow().estimate(frames, reading).flow_THW2
    assert flow.shape == (3, *shape, 2)
    assert np.isfinite(flow).all()


def test_every_setting_is_in_the_identity():
    identity = FarnebackFlow().identity()
    assert identity["estimator"] == "farneback"
    assert {"levels", "pyramid_scale", "window", "iterations", "poly_n", "poly_sigma"} <= set(identity)
