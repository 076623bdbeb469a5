"""What is made of tracks, with exact tracks of the synthetic scenes in place of a network's."""

import numpy as np
import pytest

from motive_fo.flow.alltracker.readings import Tracks, anchor_reading, splat, step_reading
from motive_fo.flow.base import Displacement
from motive_fo.flow.chain import pixel_grid
from motive_fo.motion.camera import remove_camera
from motive_fo.motion.mask import magnitude, motion_mask
from motive_fo.synthetic.scene import (
    CAMERA_MOTIONS,
    OBJECT_MOTIONS,
    anchor_displacement,
    displacement,
    object_mask,
    sample_scene,
)
from tests.flow.alltracker.exact import exact_tracks

CLIP = {"frames": 17, "fps": 16, "height": 96, "width": 128}
LAST = CLIP["frames"] - 1


def _step(scene, anchors=(0, LAST)):
    return step_reading([exact_tracks(scene, anchor, **CLIP) for anchor in anchors])


def _error(found, scene):
    return np.hypot(*np.moveaxis(found.flow_THW2 - displacement(scene, **CLIP), -1, 0))


def _iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("motion", ["slide", "zoom", "occlusion"])
def test_the_exact_tracks_of_these_tests_are_the_scenes_own(motion):
    scene = sample_scene(0, motion)
    flow, seen = anchor_displacement(scene, **CLIP)
    tracks = exact_tracks(scene, 0, **CLIP)
    np.testing.assert_allclose(tracks.flow_THW2, flow, atol=1e-4)
    assert (tracks.visibility_THW != seen).mean() < 0.01  # at the frame's edge, rounding


@pytest.mark.parametrize("motion", ["slide", "pan"])
def test_anchor_hands_the_tracks_on(motion):
    tracks = exact_tracks(sample_scene(0, motion), 5, **CLIP)
    found = anchor_reading(tracks)
    assert found.reading == "anchor"
    assert np.abs(found.flow_THW2[5]).max() < 1e-9
    assert found.flow_THW2 is tracks.flow_THW2
    assert found.visibility_THW is tracks.visibility_THW


@pytest.mark.parametrize("motion", [*OBJECT_MOTIONS, *CAMERA_MOTIONS, "rotation", "occlusion"])
@pytest.mark.parametrize("seed", range(2))
def test_step_follows_what_moves_to_a_fortieth_of_a_pixel(motion, seed):
    """On the mean of all pixels; on the object a sixth, whose outline shares pixels with what is behind it."""
    scene = sample_scene(seed, motion)
    error = _error(_step(scene), scene)
    assert error.mean() < 0.025
    assert error[object_mask(scene, **CLIP)].mean() < 0.17


@pytest.mark.parametrize("motion", ["slide", "roll", "fall", "bounce", "swing", "float", "occlusion"])
@pytest.mark.parametrize("seed", range(2))
def test_masks_cover_what_moves_and_only_that(motion, seed):
    scene = sample_scene(seed, motion)
    exact = magnitude(Displacement(displacement(scene, **CLIP), None, "step"))
    found = magnitude(_step(scene))
    assert _iou(found > 0.25, exact > 0.25) > 0.85
    away = ~object_mask(scene, **CLIP)
    for _ in range(2):  # two pixels from every outline
        padded = np.pad(away, ((0, 0), (1, 1), (1, 1)), constant_values=True)
        away = np.logical_and.reduce(
            [padded[:, 1 + y : 97 + y, 1 + x : 129 + x] for y in (-1, 0, 1) for x in (-1, 0, 1)]
        )
    assert motion_mask(found)[away].mean() < 0.005


def test_a_still_scene_has_no_step():
    assert magnitude(_step(sample_scene(0, "still"))).max() < 1e-4


@pytest.mark.parametrize("motion", ["pan", "zoom", "rotation", "shake"])
def test_a_camera_is_found_and_removed(motion):
    found = _step(sample_scene(1, motion))
    assert magnitude(found).mean() > 0.25
    assert magnitude(remove_camera(found)).max() < 0.25


@pytest.mark.parametrize("motion", ["track", "track_zoom", "track_rotation"])
@pytest.mark.parametrize("seed", range(2))
def test_removing_the_camera_leaves_the_object(motion, seed):
    scene = sample_scene(seed, motion)
    exact = magnitude(remove_camera(Displacement(displacement(scene, **CLIP), None, "step")))
    assert _iou(magnitude(remove_camera(_step(scene))) > 0.25, exact > 0.25) > 0.8


@pytest.mark.parametrize("seed", range(3))
def test_removing_the_camera_from_the_anchor_reading_leaves_the_object(seed):
    scene = sample_scene(seed, "track")
    left = magnitude(remove_camera(anchor_reading(exact_tracks(scene, 0, **CLIP))))
    outline = object_mask(scene, **CLIP)[0]
    assert left[-1][outline].mean() > 1
    assert left[-1][~outline].max() < 0.1


def test_a_second_anchor_shows_what_was_hidden_from_the_first():
    """An object that comes from behind a post is on no track of the frame in which it was hidden."""
    scene = next(
        s
        for s in (sample_scene(k, "occlusion") for k in range(99))
        if object_mask(s, **CLIP).sum((1, 2)).min() < 0.6 * object_mask(s, **CLIP).sum((1, 2)).max()
    )
    hidden = int(object_mask(scene, **CLIP).sum((1, 2)).argmin())
    outline = object_mask(scene, **CLIP)
    alone, together = (
        _error(_step(scene, anchors), scene)[outline].mean() for anchors in ((hidden,), (hidden, 0, LAST))
    )
    assert together < 0.1 * alone


def test_what_enters_the_frame_moves_with_the_camera():
    scene = next(s for s in (sample_scene(k, "pan") for k in range(99)) if s.camera == "right")
    found = _step(scene, anchors=(0,))
    new = found.visibility_THW == 0
    assert new[-1].mean() > 0.05
    assert _error(found, scene)[new].max() < 0.01


def test_a_single_covered_pixel_fills_a_whole_frame():
    """No neighbourhood reaches from one corner to the other: the filling ends all the same."""
    flow = np.full((3, 200, 300, 2), 2.0, np.float32)
    flow[1:, 0, 0] = 1.0
    flow[0] = 0
    seen = np.zeros((3, 200, 300), np.float32)
    seen[:, 0, 0] = 1
    found = step_reading([Tracks(flow, seen)])
    assert np.isfinite(found.flow_THW2).all()
    assert np.allclose(found.flow_THW2[1], 1.0, atol=1e-5)


def test_holes_without_a_camera_are_filled_from_their_neighbours():
    """Three bands that move apart, none of which two fifths of the frame follow."""
    rows, width = 60, 40
    flow = np.zeros((2, rows, width, 2), np.float32)
    flow[1, :, :, 0] = np.repeat([9, -9, 3], rows // 3)[:, None]
    flow[1, ..., 1] = np.sin(pixel_grid(rows, width)[..., 0])  # no similarity says this
    visibility = np.ones((2, rows, width), np.float32)
    visibility[:, 5:9, 15:20] = 0
    found = step_reading([Tracks(flow, visibility)])
    hole = found.visibility_THW[0] == 0
    assert hole[5:9, 15:20].all()
    assert np.abs(found.flow_THW2[0][hole][:, 0] - 9).max() < 0.5


def test_a_frame_nothing_is_seen_in_takes_the_neighbouring_pair():
    tracks = exact_tracks(sample_scene(0, "pan"), 0, **CLIP)
    tracks.visibility_THW[7] = 0
    found = step_reading([tracks])
    assert not found.visibility_THW[7].any()
    assert np.array_equal(found.flow_THW2[7], found.flow_THW2[6])


def test_hidden_points_do_not_move_what_hides_them():
    """A still wall in front of a background that runs past."""
    flow = np.zeros((3, 20, 30, 2), np.float32)
    flow[1, :, :10, 0], flow[2, :, :10, 0] = 10, 20
    visibility = np.ones((3, 20, 30), np.float32)
    visibility[1:, :, :10] = 0
    found = step_reading([Tracks(flow, visibility)])
    assert not found.flow_THW2[1:, :, 10:].any()


def test_frame_zero_takes_the_first_step_where_its_points_are():
    flow = np.zeros((3, 16, 16, 2), np.float32)
    flow[1], flow[2] = (2, 1), (5, 1)
    found = step_reading([Tracks(flow, np.ones((3, 16, 16), np.float32))])
    np.testing.assert_allclose(found.flow_THW2[0], np.broadcast_to((2, 1), (16, 16, 2)))
    np.testing.assert_allclose(found.flow_THW2[2, 2:, 6:], np.broadcast_to((3, 0), (14, 10, 2)))


def test_splat_is_what_a_loop_gives():
    rng = np.random.default_rng(0)
    values, places = rng.normal(size=(7, 9, 2)).astype(np.float32), rng.uniform(-3, 12, (7, 9, 2)).astype(np.float32)
    weight = rng.random((7, 9)).astype(np.float32)
    places[0, 0], places[0, 1] = np.nan, 1e30
    expected = np.zeros((7, 9, 3))
    for row in range(7):
        for column in range(9):
            x, y = places[row, column].astype(float)
            if not (abs(x) < 1e6):
                continue
            for r in range(7):
                for c in range(9):
                    share = max(0, 1 - abs(c - x)) * max(0, 1 - abs(r - y)) * weight[row, column]
                    expected[r, c] += share * np.append(values[row, column], 1)
    np.testing.assert_allclose(splat(values, places, weight), expected, atol=1e-6)


def test_tracks_of_a_wrong_shape_are_refused():
    with pytest.raises(ValueError, match="T >= 2"):
        Tracks(np.zeros((1, 4, 4, 2), np.float32), np.zeros((1, 4, 4), np.float32))
    with pytest.raises(ValueError, match="anchor frame 3"):
        Tracks(np.zeros((3, 4, 4, 2), np.float32), np.zeros((3, 4, 4), np.float32), anchor=3)
    with pytest.raises(ValueError, match="one anchor"):
        step_reading([])
