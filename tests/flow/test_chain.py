"""The anchor reading: made of flow between frames, exact where that flow is."""

import numpy as np
import pytest

from motive_fo.errors import ClipError
from motive_fo.flow.chain import chain, consistency, direct, inside, pixel_grid
from motive_fo.flow.dis import DISFlow
from motive_fo.flow.farneback import FarnebackFlow
from motive_fo.synthetic.scene import anchor_displacement, render, sample_scene

CLIP = {"frames": 9, "fps": 16, "height": 64, "width": 64}
ESTIMATORS = [DISFlow, FarnebackFlow]


def _rotation(degrees, size=33):
    """Flow between any two frames of a plane that turns about the middle of the frame."""

    def between(source, target):
        angle = np.radians(degrees * (target - source))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        centred = pixel_grid(size, size) - size // 2
        return (centred @ turn.T - centred).astype(np.float32)

    return between


@pytest.mark.parametrize("way", [chain, direct])
def test_exact_flow_is_followed_exactly(way):
    found = way(_rotation(5), 9, 33, 33)
    exact = np.stack([_rotation(5)(0, t) for t in range(9)])
    disc = np.hypot(*np.moveaxis(pixel_grid(33, 33) - 16, -1, 0)) < 15
    np.testing.assert_allclose(found.flow_THW2[:, disc], exact[:, disc], atol=0.02)
    assert (found.visibility_THW[:, disc] > 0.999).all()
    assert found.reading == "anchor"


@pytest.mark.parametrize("way", [chain, direct])
def test_frame_zero_does_not_move_and_is_seen(way):
    found = way(_rotation(5), 3, 33, 33)
    assert not found.flow_THW2[0].any()
    assert (found.visibility_THW[0] == 1).all()


def test_what_left_the_frame_stays_lost_in_a_chain():
    """Three frames to the right, three back: everything within 9 pixels of the edge was outside."""
    shift = [0, 3, 6, 9, 6, 3, 0]

    def between(source, target):
        return np.broadcast_to(np.float32([shift[target] - shift[source], 0]), (32, 32, 2)).copy()

    found = chain(between, len(shift), 32, 32)
    assert np.abs(found.flow_THW2[-1]).max() < 1e-5
    assert (found.visibility_THW[-1][:, -9:] == 0).all()
    assert (found.visibility_THW[-1][:, :-9] == 1).all()


def test_consistency_forgives_the_bound_and_falls_beyond():
    def at(error):
        return float(consistency(np.zeros((1, 1, 2), np.float32), np.full((1, 1, 2), error, np.float32))[0, 0])

    values = [at(e) for e in (0.0, 0.4, 0.6, 1.0, 3.0)]
    assert values[:2] == [1, 1]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 1e-3


def test_a_point_on_the_border_pixel_is_inside():
    assert inside(pixel_grid(5, 7)).all()
    assert not inside(pixel_grid(5, 7) + 7).any()


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("motion", ["spin", "slide", "pan"])
def test_the_chain_is_within_a_pixel_of_the_truth_where_points_are_seen(estimator, motion):
    scene = sample_scene(1, motion)
    exact, seen = anchor_displacement(scene, **CLIP)
    found = estimator("chain").estimate(render(scene, **CLIP), "anchor")
    assert np.hypot(*np.moveaxis(found.flow_THW2 - exact, -1, 0))[seen].mean() < 1.0


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("mode", ["chain", "direct"])
def test_points_hidden_or_out_of_frame_are_less_visible(estimator, mode):
    hidden, shown = [], []
    for motion in ("slide", "pan"):
        scene = sample_scene(1, motion)
        _, seen = anchor_displacement(scene, **CLIP)
        visibility = estimator(mode).estimate(render(scene, **CLIP), "anchor").visibility_THW
        assert visibility.dtype == np.float32
        assert 0 <= visibility.min() <= visibility.max() <= 1
        hidden.append(visibility[~seen])
        shown.append(visibility[seen])
    assert np.concatenate(shown).mean() > np.concatenate(hidden).mean() + 0.3


def test_the_anchor_mode_is_part_of_the_identity_of_the_anchor_reading_only():
    assert DISFlow("direct").identity() == {"estimator": "dis", "version": 1, "preset": "medium", "outline": 1}
    found = DISFlow("direct").identity("anchor")
    assert found == {"estimator": "dis", "version": 1, "preset": "medium", "anchor": "direct"}
    assert DISFlow().identity("anchor")["anchor"] == "chain"


def test_an_unknown_anchor_mode_is_refused():
    with pytest.raises(ValueError, match="use chain or direct"):
        DISFlow("leap")


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("reading", ["step", "anchor"])
def test_the_same_frames_give_the_same_numbers(estimator, reading):
    frames = render(sample_scene(2, "track"), frames=4, fps=16, height=64, width=64)
    first, again = (estimator().estimate(frames, reading).flow_THW2 for _ in range(2))
    assert np.array_equal(first, again)


def test_what_opencv_refuses_is_a_clip_error():
    with pytest.raises(ClipError, match="farneback refused"):
        FarnebackFlow().estimate(np.zeros((2, 8, 8, 5), np.uint8), "step")
