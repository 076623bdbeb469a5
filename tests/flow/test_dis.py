"""DIS on scenes whose motion is known exactly."""

import cv2
import numpy as np
import pytest

from motive_fo.config import FlowConfig
from motive_fo.flow.dis import DISFlow
from motive_fo.flow.registry import build_estimator


def _texture(height, width):
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2.5)


def _pan(pixels, frames=5, size=96):
    wide = _texture(size, size + 40)
    return np.stack([wide[:, 30 - t * pixels : 30 - t * pixels + size] for t in range(frames)])


def test_a_pan_has_the_right_sign_and_size_in_every_frame():
    found = DISFlow().estimate(_pan(3), "step")
    assert found.flow_THW2.shape == (5, 96, 96, 2)
    assert found.reading == "step"
    assert found.visibility_THW is None
    inner = found.flow_THW2[:, 16:-16, 16:-16]
    np.testing.assert_allclose(inner[..., 0].mean((1, 2)), 3.0, atol=0.15)
    np.testing.assert_allclose(inner[..., 1].mean((1, 2)), 0.0, atol=0.15)


def test_motion_lies_where_the_object_is_in_that_frame():
    """A square that jumps: the step of frame t covers its place in frame t, not in frame t-1."""
    background, patch = _texture(96, 96), _texture(24, 24)[::-1]
    frames = np.stack([background.copy() for _ in range(4)])
    for t in range(4):
        frames[t, 36:60, 10 + 6 * t : 34 + 6 * t] = patch
    size = np.hypot(*np.moveaxis(DISFlow().estimate(frames, "step").flow_THW2, -1, 0))
    for t in range(1, 4):
        where = size[t] > 3
        inside = np.zeros((96, 96), bool)
        inside[36:60, 10 + 6 * t : 34 + 6 * t] = True
        assert (where & inside).sum() / inside.sum() > 0.8
        assert (where & ~inside).sum() / where.sum() < 0.4  # what the object uncovers has no true motion


def test_the_same_frames_give_the_same_flow_whatever_came_before_and_on_any_thread_count():
    frames = _pan(2)
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        one = DISFlow().estimate(frames, "step").flow_THW2
        cv2.setNumThreads(4)
        estimator = DISFlow()
        estimator.estimate(_pan(5), "step")
        assert np.array_equal(estimator.estimate(frames, "step").flow_THW2, one)
    finally:
        cv2.setNumThreads(threads)


def test_a_still_clip_does_not_move():
    frames = np.repeat(_texture(64, 64)[None], 4, 0)
    assert np.abs(DISFlow().estimate(frames, "step").flow_THW2).max() < 1e-3


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (15, 40), (7, 300)])
def test_tiny_frames_are_no_reason_to_fail(shape):
    frames = np.random.default_rng(0).integers(0, 255, (3, *shape, 3), dtype=np.uint8)
    assert DISFlow().estimate(frames, "step").flow_THW2.shape == (3, *shape, 2)


def test_both_readings_can_be_built():
    assert build_estimator(FlowConfig(reading="anchor")).readings == {"step", "anchor"}
