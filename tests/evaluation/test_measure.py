"""What is measured of a clip, against clips whose motion is known."""

import numpy as np
import pytest

from motive_fo.evaluation.interpolation import motion_smoothness
from motive_fo.evaluation.measure import METRICS, measure_clip
from motive_fo.flow.base import Displacement
from motive_fo.flow.dis import DISFlow
from motive_fo.motion.dynamic import dynamic_degree


class Known:
    """An estimator that is told by how much everything moves between the frames it is given, to the right."""

    def __init__(self, pixels):
        self.pixels, self.first = pixels, None

    def estimate(self, frames_THW3, reading):
        flow = np.zeros((*frames_THW3.shape[:3], 2), np.float32)
        backwards = self.first is not None and not np.array_equal(frames_THW3[0], self.first)
        self.first = frames_THW3[0] if self.first is None else self.first
        flow[..., 0] = -self.pixels if backwards else self.pixels
        return Displacement(flow, None, reading)


def _shifted(frames, pixels):
    """A smooth texture that moves to the right by so many pixels in each frame."""
    rows, columns = np.mgrid[0:64, 0:64]
    t = np.arange(frames)[:, None, None]
    grey = 127 + 60 * np.sin((columns - pixels * t) / 5) + 60 * np.cos(rows / 7)
    return np.repeat(grey[..., None], 3, axis=-1).round().clip(0, 255).astype(np.uint8)


def test_uniform_motion_is_interpolated_exactly_inside_the_frame():
    frames = _shifted(9, 2)
    right = motion_smoothness(frames, Known(4.0))
    wrong = motion_smoothness(frames, Known(0.0))
    against = motion_smoothness(frames, Known(-4.0))
    assert right > 0.995 > wrong > against


def test_every_second_frame_is_judged_and_no_other():
    """VBench's rule: frames 1, 3, 5, ... that have a frame after them."""
    frames = np.zeros((8, 64, 64, 3), np.uint8)
    frames[[1, 3]] = 51  # two of three judged frames differ by a fifth; frame 7 has none after it
    frames[7] = 255
    assert motion_smoothness(frames, Known(0.0)) == pytest.approx(1 - 2 / 3 * 51 / 255)
    frames[2] = 51  # kept frames are not judged, but what they say of 1 and 3 is now half right
    assert motion_smoothness(frames, Known(0.0)) == pytest.approx(1 - (2 * 25.5 / 255) / 3)
    assert motion_smoothness(frames[:2], Known(0.0)) is None


def test_a_jerky_clip_is_less_smooth(moving):
    jerky = moving.copy()
    jerky[1::2] = moving[:-1:2]  # every second frame stands still
    estimator = DISFlow()
    assert motion_smoothness(jerky, estimator) < motion_smoothness(moving, estimator)


def test_speed_does_not_depend_on_size_or_rate():
    """2 px per frame at 16 fps on 64 pixels is half of the short side per second; so is 4 px at 8 fps."""
    one = measure_clip(_shifted(9, 2), 16, Known(2.0))
    other = measure_clip(_shifted(9, 4), 8, Known(4.0))
    assert one.speed == pytest.approx(50)
    assert other.speed == pytest.approx(50)


def test_numbers_are_those_of_the_method(moving):
    found = measure_clip(moving, 16, DISFlow())
    degree = dynamic_degree(DISFlow().estimate(moving, "step"), 16)
    assert (found.dynamic, found.dynamic_score) == (degree.dynamic, degree.score)
    still = measure_clip(np.repeat(moving[:1], 9, axis=0), 16, DISFlow())
    assert not still.dynamic
    assert still.steadiness is None
    assert still.motion_smoothness == pytest.approx(1, abs=1e-3)
    assert still.speed < found.speed
    assert set(METRICS) == set(vars(found))
