"""The camera's motion is found and taken away, the object's stays."""

import cv2
import numpy as np
import pytest

from motive_fo.flow.base import Displacement
from motive_fo.flow.chain import pixel_grid
from motive_fo.flow.dis import DISFlow
from motive_fo.motion.camera import fit_camera, remove_camera
from motive_fo.motion.mask import magnitude
from motive_fo.synthetic.scene import anchor_displacement, displacement, object_mask, render, sample_scene

CLIP = {"frames": 9, "fps": 16, "height": 64, "width": 64}


def _exact(scene):
    return Displacement(displacement(scene, **CLIP), None, "step")


def _iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("model", ["similarity", "affine"])
@pytest.mark.parametrize("motion", ["pan", "zoom"])
@pytest.mark.parametrize("seed", range(3))
def test_a_camera_alone_explains_all_motion(model, motion, seed):
    found = fit_camera(_exact(sample_scene(seed, motion)), model)
    assert found.share > 0.999
    assert magnitude(found.residual).max() < 0.05
    assert (found.followers_T > 0.99).all()


def test_a_tilt_is_a_camera_too():
    scene = next(s for s in (sample_scene(k, "pan") for k in range(99)) if s.camera in ("up", "down"))
    assert fit_camera(_exact(scene)).share > 0.999
    assert fit_camera(DISFlow().estimate(render(scene, **CLIP), "step")).share > 0.95


@pytest.mark.parametrize("motion", ["slide", "spin", "swing", "fall"])
@pytest.mark.parametrize("seed", range(3))
def test_an_object_alone_is_no_camera(motion, seed):
    scene = sample_scene(seed, motion)
    assert fit_camera(_exact(scene)).share < 0.01
    assert fit_camera(DISFlow().estimate(render(scene, **CLIP), "step")).share < 0.1


@pytest.mark.parametrize("seed", range(6))
def test_removing_an_exact_camera_leaves_the_object(seed):
    scene = sample_scene(seed, "track")
    left = magnitude(remove_camera(_exact(scene)))
    assert _iou(left > 0.25, object_mask(scene, **CLIP)) > 0.8


@pytest.mark.parametrize("seed", [0, 1])
def test_removing_an_estimated_camera_leaves_the_object(seed):
    """What is left beyond the object is the halo of block matching round it and the background it uncovers."""
    clip = {"frames": 6, "fps": 16, "height": 256, "width": 256}
    scene = sample_scene(seed, "track")
    left = magnitude(remove_camera(DISFlow().estimate(render(scene, **clip), "step")))[1:]
    strong = np.percentile(left.reshape(len(left), -1), 99, axis=1).mean()
    assert _iou(left > 0.5 * strong, object_mask(scene, **clip)[1:]) > 0.5


def test_a_camera_is_found_under_an_object_that_covers_two_fifths():
    grid = pixel_grid(64, 64)
    turn = np.array([[0.01, -0.03], [0.03, 0.01]])
    flow = np.repeat(((grid - 32) @ turn.T + (1, -0.5))[None], 3, 0).astype(np.float32)
    truth = flow.copy()
    flow[:, :, :25] = (5, 3)
    flow += np.random.default_rng(0).normal(0, 0.1, flow.shape).astype(np.float32)
    assert np.abs(fit_camera(Displacement(flow, None, "step")).flow_THW2 - truth).max() < 0.15


def test_shear_needs_the_affine_model():
    flow = np.zeros((3, 48, 48, 2), np.float32)
    flow[..., 0] = (pixel_grid(48, 48)[..., 1] - 24) * 0.2
    assert fit_camera(Displacement(flow, None, "step"), "affine").share > 0.999
    assert fit_camera(Displacement(flow, None, "step"), "similarity").share < 0.9


def test_the_anchor_reading_is_fitted_on_frame_zeros_grid():
    scene = sample_scene(0, "zoom")
    flow, seen = anchor_displacement(scene, **CLIP)
    found = fit_camera(Displacement(flow, seen.astype(np.float32), "anchor"))
    assert found.residual.reading == "anchor"
    assert found.share > 0.999
    np.testing.assert_allclose(found.flow_THW2, flow, atol=0.05)


def test_no_motion_is_no_camera():
    found = fit_camera(Displacement(np.zeros((3, 32, 32, 2), np.float32), None, "step"))
    assert found.share == 0
    assert np.abs(found.flow_THW2).max() < 1e-5


def test_without_a_common_motion_the_camera_stands_still():
    flow = np.random.default_rng(0).normal(0, 5, (3, 48, 48, 2)).astype(np.float32)
    found = fit_camera(Displacement(flow, None, "step"))
    assert not found.flow_THW2.any()
    assert not found.followers_T.any()
    assert found.share == 0
    assert np.array_equal(found.residual.flow_THW2, flow)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 40), (8, 8)])
def test_tiny_frames_are_no_reason_to_fail(shape):
    found = fit_camera(Displacement(np.ones((2, *shape, 2), np.float32), None, "step"))
    assert np.isfinite(found.flow_THW2).all()


def test_the_same_camera_whatever_came_before_and_on_any_thread_count():
    clip = DISFlow().estimate(render(sample_scene(0, "track"), **CLIP), "step")
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        one = fit_camera(clip).flow_THW2
        cv2.setNumThreads(4)
        cv2.setRNGSeed(5)
        fit_camera(_exact(sample_scene(1, "zoom")))
        assert np.array_equal(fit_camera(clip).flow_THW2, one)
    finally:
        cv2.setNumThreads(threads)


def test_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match="use similarity or affine"):
        fit_camera(Displacement(np.zeros((2, 8, 8, 2), np.float32), None, "step"), "homography")
