"""Every kind of scene against its exact motion: what moves is covered, the camera's removal leaves it, numbers agree.

The bounds of exact displacement are those of the arithmetic; the ones of the default estimator (DIS) are those of a
single 9-frame clip, looser than the means in docs/motion.md.
"""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks.motion_truth import (
    BOTH,
    CAMERA,
    OBJECT,
    PAGE,
    draw,
    mean,
    measure,
    moving_pixels,
    overlap,
    pooled,
    ranked,
    render_page,
)
from motive_fo.flow.dis import DISFlow
from motive_fo.models.card import Strides
from motive_fo.motion.camera import fit_camera
from motive_fo.motion.mask import magnitude, motion_mask, to_latent_grid

MOVING = (*OBJECT, *BOTH)


@cache
def _case(kind, side=64):
    return draw(kind, 0, side, 9)


@cache
def _camera(kind):
    return fit_camera(_case(kind).exact)


@cache
def _measured(kind, side=64):
    case = _case(kind, side)
    found = DISFlow().estimate(case.frames_THW3, "step")
    return measure(case, found, fit_camera(found), fit_camera(case.exact))


# --- exact displacement -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MOVING)
def test_the_exact_mask_covers_what_moves_and_only_that(kind):
    own = _case(kind).object_THW[1:]
    found = moving_pixels(_camera(kind).residual, 0.1)
    assert overlap(found, own) > 0.8
    assert (found & ~own).sum() < 0.01 * own.sum()


@pytest.mark.parametrize("kind", MOVING)
def test_the_training_mask_is_heavy_on_the_object_and_light_beside_it(kind):
    mask = to_latent_grid(motion_mask(magnitude(_camera(kind).residual)), Strides(1, 8, 8))
    share = to_latent_grid(_case(kind).object_THW.astype(np.float32), Strides(1, 8, 8))
    assert mask[share == 0].max() < 0.03
    assert mask[share == 1].size == 0 or mask[share == 1].mean() > 0.2


@pytest.mark.parametrize("kind", CAMERA)
def test_of_an_exact_camera_nothing_is_left(kind):
    found = _camera(kind)
    assert found.share > 0.999
    assert magnitude(found.residual).max() < 0.05


@pytest.mark.parametrize("kind", BOTH)
def test_removing_an_exact_camera_leaves_the_object_and_what_it_does_by_itself(kind):
    case, found = _case(kind), _camera(kind)
    beside = magnitude(found.residual)[~case.object_THW]
    assert beside.max() < 0.1
    assert magnitude(case.exact)[~case.object_THW].mean() > 10 * beside.mean()
    assert magnitude(found.residual)[case.object_THW].mean() > 0.3


@pytest.mark.parametrize("kind", OBJECT)
def test_a_still_camera_takes_nothing_from_an_exact_object(kind):
    case, found = _case(kind), _camera(kind)
    assert found.share < 0.01
    np.testing.assert_allclose(found.residual.flow_THW2, case.exact.flow_THW2, atol=0.03)


def test_an_object_behind_a_post_moves_only_where_it_is_seen():
    case = draw("occlusion", 3, 64, 9)
    areas = case.object_THW.sum((1, 2))
    assert areas.min() < 0.8 * areas.max()
    for t in range(1, 9):
        assert overlap(magnitude(case.exact)[t] > 0.1, case.object_THW[t]) == 1


# --- the default estimator, end to end --------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "bound"), [(64, 0.2), (256, 0.4)])
@pytest.mark.parametrize("kind", MOVING)
def test_the_estimated_mask_covers_what_moves(kind, side, bound):
    assert _measured(kind, side)["IoU"] > bound


def test_the_estimated_masks_cover_half_on_average():
    assert np.mean([_measured(kind)["IoU"] for kind in MOVING]) > 0.5
    assert np.mean([_measured(kind, 256)["IoU"] for kind in MOVING]) > 0.6
    assert np.mean([_measured(kind)["IoU, latent grid"] for kind in MOVING]) > 0.5


@pytest.mark.parametrize("kind", CAMERA)
def test_of_an_estimated_camera_little_is_left(kind):
    figures = _measured(kind)
    assert figures["left of the camera, px"] < 0.05
    assert figures["camera share error"] < 0.05


@pytest.mark.parametrize("kind", MOVING)
def test_removing_an_estimated_camera_leaves_little_beside_the_object(kind):
    assert _measured(kind)["left beside the object, px"] < 0.25


@pytest.mark.parametrize("kind", [*MOVING, *CAMERA])
def test_estimated_statistics_are_within_the_stated_error(kind):
    figures = _measured(kind)
    assert figures["moving share error"] < 0.1
    assert figures.get("smoothness error", 0) < 0.5
    assert figures["dynamic score error"] < 0.6
    assert figures["HOOF similarity"] > 0.7
    assert figures["camera share error"] < 0.3


def test_estimated_statistics_are_near_the_truth_on_average():
    figures = mean(_measured(kind) for kind in (*MOVING, *CAMERA))
    assert figures["camera share error"] < 0.06
    assert figures["moving share error"] < 0.04
    assert figures["smoothness error"] < 0.15
    assert figures["dynamic score error"] < 0.2
    assert figures["HOOF similarity"] > 0.93


# --- the benchmark ----------------------------------------------------------------------------------------------------


def test_the_page_shows_the_recorded_numbers():
    page = PAGE.read_text(encoding="utf-8")
    result = json.loads((Path(PAGE).parents[1] / "benchmarks" / "results" / "motion_truth.json").read_text())
    assert set(re.findall(r"<!-- motion_truth (\w+) -->", page)) == set(result["tables"])
    assert render_page(page, result) == page


def test_the_figures_of_a_perfect_estimate_are_perfect():
    case, camera = _case("track"), _camera("track")
    figures = measure(case, case.exact, camera, camera)
    for name, value in figures.items():
        if "error" in name or "bias" in name:
            assert value == 0, name
    assert figures["HOOF similarity"] == pytest.approx(1)
    assert figures["IoU, latent grid"] == pytest.approx(1)


def test_the_area_under_the_curve_against_counting_pairs():
    score = np.array([0.1, 0.4, 0.4, 0.8, 0.2], np.float32)
    truth = np.array([False, True, False, True, False])
    pairs = [(a > b) + 0.5 * (a == b) for a in score[truth] for b in score[~truth]]
    assert ranked(score, truth) == pytest.approx(np.mean(pairs))


def test_means_are_over_the_clips_that_have_the_figure():
    measured = {(64, "dis", "pan"): [{"a": 1.0}, {"a": 3.0, "b": 5.0}]}
    assert pooled(measured, 64, "dis", ("pan",)) == {"a": 2.0, "b": 5.0}
