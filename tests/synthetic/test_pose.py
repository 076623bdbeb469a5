"""Motions that the embedded model has never seen: each is what its name says, and its caption names it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from motive_fo.synthetic.pose import Pose, pose_at
from motive_fo.synthetic.scene import UNSEEN_MOTIONS, sample_scene
from motive_fo.synthetic.words import caption

SEEDS = range(12)
TIMES = np.linspace(0, 1.25, 61)


def poses(kind: str, seed: int) -> list[Pose]:
    scene = replace(sample_scene(seed, kind), x=0.12, y=-0.05, ground=0.42)
    return [pose_at(scene, float(time)) for time in TIMES]


def path(kind: str, seed: int) -> np.ndarray:
    """Centre at every instant, (T, 2)."""
    return np.array([(pose.x, pose.y) for pose in poses(kind, seed)])


def turns(values: np.ndarray) -> int:
    """How often a series changes its direction."""
    steps = np.diff(values)
    signs = np.sign(steps[np.abs(steps) > 1e-9])
    return int((signs[1:] != signs[:-1]).sum())


def centre_of_circle(points: np.ndarray) -> np.ndarray:
    """Of the circle through points (T, 2), by least squares."""
    return np.linalg.lstsq(np.c_[2 * points, np.ones(len(points))], (points**2).sum(1), rcond=None)[0][:2]


@pytest.mark.parametrize("seed", SEEDS)
def test_an_orbit_keeps_its_distance_and_turns_one_way(seed: int) -> None:
    about = path("orbit", seed)
    about = about - centre_of_circle(about)
    np.testing.assert_allclose(np.hypot(*about.T), 0.2, atol=1e-6)
    turned = np.diff(np.unwrap(np.arctan2(about[:, 1], about[:, 0])))
    assert np.sign(turned).tolist() == [sample_scene(seed, "orbit").direction] * len(turned)
    assert abs(turned.sum()) > math.pi


@pytest.mark.parametrize("seed", SEEDS)
def test_a_spiral_comes_nearer_to_its_centre(seed: int) -> None:
    scene = replace(sample_scene(seed, "spiral"), x=0.12, y=-0.05)
    first = math.atan2(scene.y, scene.x)
    about = path("spiral", seed) - [scene.x - 0.27 * math.cos(first), scene.y - 0.27 * math.sin(first)]
    assert (np.diff(np.hypot(*about.T)) < 0).all()
    assert abs(np.unwrap(np.arctan2(about[:, 1], about[:, 0]))[-1] - first) > math.pi


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pulse_grows_and_shrinks_in_place(seed: int) -> None:
    assert np.ptp(path("pulse", seed), axis=0).max() == 0
    scale = np.array([pose.scale_x for pose in poses("pulse", seed)])
    assert scale.max() > 1.3
    assert scale.min() < 0.75
    assert turns(scale) >= 2
    assert scale.tolist() == [pose.scale_y for pose in poses("pulse", seed)]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_looms_grows_ever_faster_and_never_shrinks(seed: int) -> None:
    scale = np.array([pose.scale_x for pose in poses("loom", seed)])
    assert (np.diff(scale) > 0).all()
    assert (np.diff(scale, n=2) > -1e-12).all()
    assert scale[-1] / scale[0] > 1.5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_zigzag_goes_up_and_down_in_straight_strokes(seed: int) -> None:
    x, y = path("zigzag", seed).T
    assert turns(y) >= 2
    assert turns(x) <= 1, "sideways it turns at the edge of the frame alone"
    bent = np.abs(np.diff(y, n=2)) > 1e-9
    assert bent.sum() <= 2 * (turns(y) + 1), "between its turns it goes straight on"


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_thrown_flies_a_parabola_and_stays_on_the_ground(seed: int) -> None:
    scene = replace(sample_scene(seed, "throw"), x=0.12, y=-0.05, ground=0.42)
    y = path("throw", seed)[:, 1]
    assert y.min() < y[0] - 0.1, "up first"
    assert y[-1] == pytest.approx(scene.ground - scene.size)
    landing = 1.15 - 0.45 * scene.speed
    flight = y[landing > TIMES]
    bend = np.diff(flight, n=2)
    np.testing.assert_allclose(bend, bend[0], rtol=1e-6)
    assert bend[0] > 0, "y points down"


@pytest.mark.parametrize("seed", SEEDS)
def test_what_topples_turns_ever_faster_about_a_corner_that_stays(seed: int) -> None:
    scene = replace(sample_scene(seed, "topple"), x=0.12, y=-0.05, ground=0.42)
    shown = poses("topple", seed)
    corner = np.array([scene.direction * 0.8, 1, 1])
    places = np.array([pose.matrix(scene.size) @ corner for pose in shown])
    np.testing.assert_allclose(places, np.broadcast_to(places[0], places.shape), atol=1e-9)
    angle = np.array([pose.angle for pose in shown]) * scene.direction
    assert angle[-1] == pytest.approx(math.pi / 2)
    falling = np.diff(angle[angle < math.pi / 2])
    assert (np.diff(falling) > 0).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_what_leans_stands_on_its_foot(seed: int) -> None:
    size = sample_scene(seed, "lean").size
    matrices = [pose.matrix(size) for pose in poses("lean", seed)]
    feet, tops = (np.array([matrix @ [0, at, 1] for matrix in matrices]) for at in (1, -1))
    np.testing.assert_allclose(feet, np.broadcast_to(feet[0], feet.shape), atol=1e-9)
    assert np.ptp(tops[:, 1]) < 1e-9, "a shear keeps heights"
    assert tops[:, 0].min() < feet[0, 0] - size
    assert tops[:, 0].max() > feet[0, 0] + size


@pytest.mark.parametrize("seed", SEEDS)
def test_a_figure_of_eight_bends_both_ways(seed: int) -> None:
    steps = np.diff(path("eight", seed), axis=0)
    bend = np.diff(np.unwrap(np.arctan2(steps[:, 1], steps[:, 0])))
    assert bend.min() < -0.02
    assert bend.max() > 0.02


@pytest.mark.parametrize("seed", SEEDS)
def test_a_wobble_rocks_about_its_centre_by_a_small_angle(seed: int) -> None:
    assert np.ptp(path("wobble", seed), axis=0).max() == 0
    angle = np.array([pose.angle for pose in poses("wobble", seed)])
    assert turns(angle) >= 2
    assert 0.4 < np.abs(angle).max() <= 0.45


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("orbit", "in a circle"),
        ("pulse", "grows and shrinks"),
        ("zigzag", "in a zigzag"),
        ("throw", "is thrown"),
        ("spiral", "in a spiral"),
        ("topple", "topples"),
        ("loom", "comes"),
        ("lean", "leans"),
        ("eight", "in a figure of eight"),
        ("wobble", "wobbles"),
    ],
)
def test_captions_name_each_and_no_other(kind: str, words: str) -> None:
    for seed in SEEDS:
        assert [other for other in UNSEEN_MOTIONS if words in caption(sample_scene(seed, other))] == [kind]
