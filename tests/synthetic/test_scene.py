"""Synthetic scenes: the same from the same seed, the same event at any size and rate, displacement exact."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import fields, replace

import cv2
import numpy as np
import pytest

from motive_fo.errors import ConfigError
from motive_fo.synthetic.scene import (
    FURTHER_MOTIONS,
    MOTIONS,
    OBJECT_MOTIONS,
    displacement,
    object_mask,
    render,
    sample_scene,
)
from motive_fo.synthetic.texture import BACKGROUNDS, SHAPES, SKINS
from motive_fo.synthetic.words import caption

CLIP = {"frames": 9, "fps": 16.0, "height": 160, "width": 160}
ALL = (*MOTIONS, *FURTHER_MOTIONS)


def test_same_seed_same_scene_and_pixels() -> None:
    for seed in (0, 5, 2**50 + 3):
        scene = sample_scene(seed)
        assert scene == sample_scene(seed)
        np.testing.assert_array_equal(render(scene, **CLIP), render(sample_scene(seed), **CLIP))
    assert len({sample_scene(seed) for seed in range(50)}) == 50


def test_same_pixels_in_another_process() -> None:
    program = (
        "import zlib; from motive_fo.synthetic.scene import *;"
        "print(zlib.crc32(render(sample_scene(11), frames=5, fps=16, height=64, width=64).tobytes()))"
    )
    runs = {subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(runs) == 1


def test_every_kind_is_drawn() -> None:
    drawn = [sample_scene(seed) for seed in range(600)]
    assert {scene.motion for scene in drawn} == set(MOTIONS)
    assert {scene.shape for scene in drawn} == set(SHAPES)
    assert {scene.texture for scene in drawn} == set(SKINS)
    assert {scene.background for scene in drawn} == set(BACKGROUNDS)


def test_the_draws_the_embedded_model_was_trained_on_are_what_they_were() -> None:
    """Seeds 0 to 299 and two of a corpus, every motion by name and none; post came later and is None in all of them."""
    digest = hashlib.sha256()
    for seed in (*range(300), 2**40, 2**60 + 5):
        for motion in (None, *MOTIONS):
            scene = sample_scene(seed, motion)
            assert scene.post is None
            values = tuple(getattr(scene, field.name) for field in fields(scene) if field.name != "post")
            digest.update(repr(values).encode())
    assert digest.hexdigest() == "f9a3d842a763d4cf41c972a61c1d67bce159d1949840ab877e0946eb89b9f367"


def test_further_motions_are_had_by_name_only() -> None:
    assert not set(FURTHER_MOTIONS) & {sample_scene(seed).motion for seed in range(600)}
    for motion in FURTHER_MOTIONS:
        assert sample_scene(1, motion).motion == motion


@pytest.mark.parametrize("motion", ALL)
def test_displacement_carries_each_frame_to_the_next(motion: str) -> None:
    """Frame t - 1, fetched from where the displacement says each point came from, is frame t (away from outlines)."""
    for seed in (1, 2, 3):
        scene = sample_scene(seed, motion)
        frames = render(scene, **CLIP).astype(np.float32)
        flow = displacement(scene, **CLIP)
        masks = object_mask(scene, **CLIP)
        rows, columns = np.mgrid[0:160, 0:160].astype(np.float32)
        own = []
        moving_error = standing_error = 0.0
        for t in range(1, len(frames)):
            # Pixels near an outline mix two layers; those just uncovered were not seen before.
            layers = (masks[t].astype(np.uint8), (~masks[t]).astype(np.uint8))
            inner = [cv2.erode(layer, np.ones((7, 7))) for layer in layers]
            x, y = columns - flow[t, ..., 0], rows - flow[t, ..., 1]
            before = cv2.remap(masks[t - 1].astype(np.float32), x, y, cv2.INTER_LINEAR)
            seen = (inner[0] > 0) & (before > 0.99) | (inner[1] > 0) & (before < 0.01)
            seen &= (x > 1) & (y > 1) & (x < 158) & (y < 158)
            error = np.abs(cv2.remap(frames[t - 1], x, y, cv2.INTER_LINEAR) - frames[t]).mean(axis=2)
            own.append(float(error[seen].mean()))
            moved = seen & (np.hypot(flow[t, ..., 0], flow[t, ..., 1]) > 0.5)
            moving_error += float(error[moved].sum())
            standing_error += float(np.abs(frames[t - 1] - frames[t]).mean(axis=2)[moved].sum())
        assert np.mean(own) < 4, (seed, np.mean(own))
        assert moving_error <= 0.55 * standing_error, (seed, moving_error / standing_error)


def test_frame_zero_takes_the_step_to_frame_one() -> None:
    scene = replace(sample_scene(4, "slide"), x=0.0, direction=1, speed=0.5)
    flow = displacement(scene, **CLIP)
    mask = object_mask(scene, **CLIP)
    # 0.22 + 0.5 * 0.5 world units (of 160 pixels) per second at 16 frames per second.
    step = 0.47 * 160 / 16
    for t in (0, 1, 5):
        np.testing.assert_allclose(flow[t][mask[t]], np.broadcast_to([step, 0], (mask[t].sum(), 2)), atol=1e-3)
        assert not flow[t][~mask[t]].any()


def test_free_fall_accelerates() -> None:
    scene = replace(sample_scene(9, "fall"), speed=0.0)
    clip = {**CLIP, "frames": 17}
    flow, mask = displacement(scene, **clip), object_mask(scene, **clip)
    steps = np.array([flow[t, ..., 1][mask[t]].mean() for t in range(1, 17)])
    np.testing.assert_allclose(np.diff(steps), np.diff(steps).mean(), rtol=1e-3)
    assert np.diff(steps).mean() > 0.05


def test_still_is_still() -> None:
    for seed in range(6):
        scene = sample_scene(seed, "still")
        frames = render(scene, **CLIP)
        assert (frames == frames[0]).all()
        assert not displacement(scene, **CLIP).any()


@pytest.mark.parametrize("motion", [motion for motion in ALL if motion != "still"])
def test_everything_else_moves(motion: str) -> None:
    for seed in range(6):
        flow = displacement(sample_scene(seed, motion), frames=17, fps=16, height=64, width=64)
        fastest = np.hypot(flow[..., 0], flow[..., 1]).max(axis=(1, 2))
        assert np.median(fastest) > 0.15, seed


@pytest.mark.parametrize("motion", ALL)
def test_size_and_rate_show_the_same_event(motion: str) -> None:
    """24 fps at 256x256 and 16 fps at 64x64, at the instants they share."""
    scene = sample_scene(21, motion)
    small = render(scene, frames=17, fps=16, height=64, width=64)
    large = render(scene, frames=25, fps=24, height=256, width=256)
    for k in (0, 2, 8, 16):
        reduced = cv2.resize(large[k * 3 // 2], (64, 64), interpolation=cv2.INTER_AREA)
        assert np.abs(reduced.astype(float) - small[k]).mean() < 6
    small_flow = displacement(scene, frames=3, fps=16, height=64, width=64)
    large_flow = displacement(scene, frames=3, fps=16, height=256, width=256)
    reduced_flow = cv2.resize(large_flow[2], (64, 64), interpolation=cv2.INTER_AREA) / 4
    assert np.median(np.abs(reduced_flow - small_flow[2])) < 0.05


def test_any_shape_of_frame() -> None:
    for height, width in ((64, 112), (96, 64), (90, 171)):
        for motion in ("swing", "pan", "bounce"):
            frames = render(sample_scene(3, motion), frames=4, fps=8, height=height, width=width)
            assert frames.shape == (4, height, width, 3)
            assert frames.dtype == np.uint8
            assert frames.std() > 10


def test_objects_stay_in_sight() -> None:
    for motion in OBJECT_MOTIONS:
        masks = object_mask(sample_scene(17, motion), frames=25, fps=4, height=64, width=64)
        assert masks.any(axis=(1, 2)).all(), motion


def test_captions_say_what_is_there() -> None:
    for motion, words in (
        ("tilt", "tilts"),
        ("diagonal", "the camera moves"),
        ("rotation", "the camera rolls"),
        ("shake", "shakes"),
        ("occlusion", "behind a post"),
        ("track_zoom", "zooms"),
    ):
        assert words in caption(sample_scene(3, motion))
    verbs = {"slide": "slides", "fall": "falls", "bounce": "bounces", "roll": "rolls", "spin": "spins", "zoom": "zooms"}
    for seed in range(120):
        scene = sample_scene(seed)
        text = caption(scene)
        assert scene.colour in text
        assert scene.shape in text
        assert BACKGROUNDS[scene.background].phrase in text
        assert verbs.get(scene.motion, "") in text
        assert "  " not in text
        if scene.action in ("slide", "roll", "bounce"):
            assert f"to the {'right' if scene.direction > 0 else 'left'}" in text


@pytest.mark.parametrize("seed", range(8))
def test_a_tilt_goes_up_or_down_and_a_diagonal_both_ways_alike(seed: int) -> None:
    across, down = np.moveaxis(displacement(sample_scene(seed, "tilt"), **CLIP), -1, 0)
    assert np.abs(across).max() < 1e-6
    assert np.abs(down).min() > 0.1
    across, down = np.moveaxis(displacement(sample_scene(seed, "diagonal"), **CLIP), -1, 0)
    np.testing.assert_allclose(np.abs(across), np.abs(down), atol=1e-4)
    assert np.abs(down).min() > 0.1


@pytest.mark.parametrize(("camera", "sign"), [("clockwise", 1), ("counterclockwise", -1)])
def test_a_rolling_camera_turns_the_picture_the_other_way_about_its_middle(camera: str, sign: int) -> None:
    flow = displacement(replace(sample_scene(1, "rotation"), camera=camera, camera_speed=0.5), **CLIP)[4]
    rows, columns = np.mgrid[0:160, 0:160] - 79.5
    angle = sign * (0.15 + 0.45 * 0.5) / 16  # radians between two frames
    # where a point was before: turned forward again, clockwise in a picture whose y points down
    before_x = columns * np.cos(angle) - rows * np.sin(angle)
    before_y = columns * np.sin(angle) + rows * np.cos(angle)
    np.testing.assert_allclose(flow[..., 0], columns - before_x, atol=1e-3)
    np.testing.assert_allclose(flow[..., 1], rows - before_y, atol=1e-3)


def test_a_hand_shakes_smoothly_by_the_seed_and_never_twice_alike() -> None:
    """Twice the frame rate halves the steps: a path in time, not a number per frame."""
    scene = replace(sample_scene(2, "shake"), camera_speed=1.0)
    coarse = displacement(scene, frames=33, fps=16, height=64, width=64)[:, 32, 32]
    fine = displacement(scene, frames=65, fps=32, height=64, width=64)[:, 32, 32]
    np.testing.assert_allclose(coarse[1:], fine[1::2] + fine[2::2], atol=0.05)
    assert np.abs(np.diff(coarse[1:], axis=0)).max() < 0.6 * np.abs(coarse).max()
    assert np.sign(coarse[1:, 0]).min() < np.sign(coarse[1:, 0]).max()  # there and back
    other = displacement(replace(scene, seed=3), frames=33, fps=16, height=64, width=64)[:, 32, 32]
    assert np.abs(other - coarse).max() > 0.5


@pytest.mark.parametrize("seed", range(6))
def test_an_object_is_hidden_in_part_by_the_post_it_passes_behind(seed: int) -> None:
    scene = sample_scene(seed, "occlusion")
    clip = {**CLIP, "frames": 17}
    frames, masks, flow = render(scene, **clip), object_mask(scene, **clip), displacement(scene, **clip)
    free = object_mask(replace(scene, post=None), **clip)
    areas = masks.sum(axis=(1, 2)) / free.sum(axis=(1, 2))
    assert areas.min() < 0.8
    hidden = free & ~masks
    assert not flow[hidden].any()  # the post stands where the object is behind it
    assert (np.hypot(*flow[masks].T) > 0.5).any()
    column = round(159 / 2 + 160 * scene.post)  # within the post, which covers 160 * 0.12 pixels
    assert (frames[:, :, column] == frames[:1, :, column]).all()
    assert not masks[:, :, column].any()


@pytest.mark.parametrize("motion", ["track", "track_rotation", "track_zoom", "track_shake"])
def test_an_object_under_a_moving_camera_moves_by_itself(motion: str) -> None:
    scene = sample_scene(0, motion)
    flow, mask = displacement(scene, **CLIP), object_mask(scene, **CLIP)
    camera = displacement(replace(scene, action="still"), **CLIP)
    same_place = mask & ~object_mask(replace(scene, action="still"), **CLIP)
    assert np.hypot(*(flow - camera)[same_place].T).mean() > 0.5
    assert np.median(np.hypot(*flow[~mask].T)) > 0.1


def test_unknown_motion_is_refused() -> None:
    with pytest.raises(ConfigError, match="slide, fall"):
        sample_scene(0, "explode")
    with pytest.raises(ConfigError, match="2 or more frames"):
        displacement(sample_scene(0), frames=1, fps=16, height=64, width=64)
