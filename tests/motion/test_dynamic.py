"""Dynamic degree, moving share and smoothness, against fields whose answer is known."""

import numpy as np
import pytest

from motive_fo.flow.base import Displacement
from motive_fo.flow.dis import DISFlow
from motive_fo.motion.dynamic import dynamic_degree, moving_share, smoothness
from motive_fo.synthetic.scene import displacement, object_mask, render, sample_scene

CLIP = {"frames": 17, "fps": 16, "height": 64, "width": 64}


def _uniform(steps):
    """A field of 64x64 where everything takes the same steps; the first is repeated for frame 0."""
    flow = np.zeros((len(steps) + 1, 64, 64, 2), np.float32)
    flow[1:] = np.asarray(steps, np.float32)[:, None, None]
    flow[0] = flow[1]
    return Displacement(flow, None, "step")


@pytest.mark.parametrize(("fps", "pairs", "score"), [(8, 16, 1), (16, 8, 2), (24, 5, 3), (30, 4, 4), (4, 16, 1)])
def test_pairs_are_sampled_at_about_eight_frames_a_second(fps, pairs, score):
    found = dynamic_degree(_uniform([(1, 0)] * 16), fps)
    np.testing.assert_allclose(found.pair_scores_S, np.full(pairs, score), rtol=1e-5)
    assert found.threshold == pytest.approx(6 * 64 / 256)
    assert found.needed == max(1, round((pairs + 1) / 4))
    assert found.score == pytest.approx(score / 1.5)
    assert found.dynamic == (score > 1.5)


def test_there_and_back_between_sampled_frames_is_no_motion():
    found = dynamic_degree(_uniform([(4, 0), (-4, 0)] * 8), 16)
    assert found.pair_scores_S.max() < 1e-4


def test_a_clip_is_dynamic_from_the_needed_number_of_pairs_on():
    """17 frames at 8 fps: round(17 / 4) = 4 pairs."""
    for moving, dynamic in ((3, False), (4, True)):
        found = dynamic_degree(_uniform([(2, 0)] * moving + [(0, 0)] * (16 - moving)), 8)
        assert found.needed == 4
        assert found.dynamic is dynamic


def test_the_strongest_twentieth_counts():
    flow = np.zeros((3, 40, 40, 2), np.float32)
    flow[:, :2, :, 0] = 3  # 80 of 1600 pixels
    assert dynamic_degree(Displacement(flow, None, "step"), 8).pair_scores_S == pytest.approx([3, 3])


def test_the_moving_share_is_the_objects():
    scene = sample_scene(2, "slide")
    share = moving_share(Displacement(displacement(scene, **CLIP), None, "step"), 0.05)
    assert share == pytest.approx(object_mask(scene, **CLIP)[1:].mean(), abs=0.01)


def test_frame_zero_is_counted_nowhere():
    still = _uniform([(0, 0)] * 4)
    still.flow_THW2[0] = 9
    assert moving_share(still, 0.05) == 0
    assert smoothness(still, 0.05) is None
    assert dynamic_degree(still, 8).pair_scores_S.max() == 0


def test_constant_velocity_is_smooth_and_jitter_is_not():
    assert smoothness(_uniform([(1.5, -0.5)] * 8), 0.05) == pytest.approx(1, abs=1e-5)
    assert smoothness(_uniform([(1, 0), (-1, 0)] * 4), 0.05) == 0
    noise = np.random.default_rng(0).normal(0, 1, (9, 64, 64, 2)).astype(np.float32)
    assert smoothness(Displacement(noise, None, "step"), 0.05) < 0.2


def test_a_steady_acceleration_is_its_ratio_to_the_speed():
    """Steps 1, 2, 3, 4: the three changes of 1 over speeds of 2, 3, 4."""
    assert smoothness(_uniform([(k, 0) for k in (1, 2, 3, 4)]), 0.05) == pytest.approx(1 - 3 / 9, abs=0.02)


def test_a_steady_turn_loses_its_centripetal_part_only():
    """Every point of a plane that turns by a per frame changes its step by 2 sin(a/2) of its speed."""
    grid = np.stack(np.meshgrid(np.arange(64.0), np.arange(64.0)), -1) - 31.5
    back = np.array([[np.cos(0.1), np.sin(0.1)], [-np.sin(0.1), np.cos(0.1)]])
    flow = np.repeat((grid - grid @ back.T)[None], 6, 0).astype(np.float32)
    assert smoothness(Displacement(flow, None, "step"), 0.05) == pytest.approx(1 - 2 * np.sin(0.05), abs=0.02)


def test_smoothness_of_a_still_or_short_clip_is_unknown():
    assert smoothness(_uniform([(0, 0)] * 5), 0.05) is None
    assert smoothness(_uniform([(1, 0)]), 0.05) is None


@pytest.mark.parametrize("motion", ["slide", "spin", "pan", "track"])
def test_estimated_statistics_are_near_the_exact_ones(motion):
    scene = sample_scene(1, motion)
    exact = Displacement(displacement(scene, **CLIP), None, "step")
    found = DISFlow().estimate(render(scene, **CLIP), "step")
    assert moving_share(found, 0.25) == pytest.approx(moving_share(exact, 0.25), abs=0.15)
    assert dynamic_degree(found, 16).score == pytest.approx(dynamic_degree(exact, 16).score, rel=0.3)


def test_wrong_use_is_refused():
    anchor = Displacement(np.zeros((3, 8, 8, 2), np.float32), None, "anchor")
    for statistic in (dynamic_degree, moving_share, smoothness):
        with pytest.raises(ValueError, match="step reading"):
            statistic(anchor, 8)
    with pytest.raises(ValueError, match="above 0"):
        dynamic_degree(_uniform([(1, 0)]), 0)
    with pytest.raises(ValueError, match="2 or more"):
        moving_share(Displacement(np.zeros((1, 8, 8, 2), np.float32), None, "step"), 0)
