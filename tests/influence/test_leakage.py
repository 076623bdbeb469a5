"""What mask overlap explains is taken off scores; z-scores over clips."""

import numpy as np
import pytest

from motive_fo.influence.cosine import cosine_scores, mean_ranks, mean_zscores
from motive_fo.influence.leakage import mask_overlap, without_overlap


def _scores(queries=3, clips=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(queries, clips)), rng.uniform(size=(queries, clips))


def test_what_is_left_has_nothing_in_common_with_the_overlap_and_keeps_its_mean():
    scores, overlap = _scores()
    scores += 2 * overlap
    left = without_overlap(scores, overlap)
    for q in range(len(scores)):
        assert abs(np.corrcoef(scores[q], overlap[q])[0, 1]) > 0.3
        assert abs(np.corrcoef(left[q], overlap[q])[0, 1]) < 1e-5
    np.testing.assert_allclose(left.mean(1), scores.mean(1), atol=1e-6)


def test_a_score_that_is_overlap_alone_says_nothing_afterwards_and_its_sign_does_not_matter():
    _, overlap = _scores()
    for slope in (3.0, -3.0):
        left = without_overlap(1 + slope * overlap, overlap)
        np.testing.assert_allclose(left, np.broadcast_to(left.mean(1, keepdims=True), left.shape), atol=1e-6)


def test_it_can_be_done_twice_and_an_overlap_in_other_units_changes_nothing():
    scores, overlap = _scores()
    left = without_overlap(scores, overlap)
    np.testing.assert_allclose(without_overlap(left, overlap), left, atol=1e-6)
    np.testing.assert_allclose(without_overlap(scores, 5 - 3 * overlap), left, atol=1e-6)


def test_each_query_is_corrected_by_itself():
    scores, overlap = _scores()
    together = without_overlap(scores, overlap)
    apart = np.concatenate([without_overlap(scores[[q]], overlap[[q]]) for q in range(len(scores))])
    assert np.array_equal(together, apart)


@pytest.mark.parametrize("overlap", [0.0, 0.7, np.nan])
def test_overlaps_that_are_all_equal_or_unknown_change_nothing(overlap):
    scores, _ = _scores()
    every = np.full(scores.shape, overlap) + np.random.default_rng(1).normal(size=scores.shape) * 1e-9
    np.testing.assert_allclose(without_overlap(scores, every), scores.astype(np.float32), atol=0)


def test_a_clip_without_a_mask_keeps_its_score_and_a_clip_without_a_score_stays_without():
    scores, overlap = _scores()
    scores += 2 * overlap
    overlap[:, 4], scores[:, 7] = np.nan, np.nan
    left = without_overlap(scores, overlap)
    np.testing.assert_allclose(left[:, 4], scores[:, 4].astype(np.float32))
    assert np.isnan(left[:, 7]).all()
    assert np.isfinite(np.delete(left, 7, axis=1)).all()
    kept = [n for n in range(scores.shape[1]) if n not in (4, 7)]
    np.testing.assert_allclose(left[:, kept], without_overlap(scores[:, kept], overlap[:, kept]), atol=1e-6)


def test_two_clips_are_too_few_to_draw_a_line_through():
    scores, overlap = _scores(clips=2)
    assert np.array_equal(without_overlap(scores, overlap), scores.astype(np.float32))


def test_overlap_is_the_cosine_of_masks_and_frames_a_clip_lacks_overlap_with_nothing():
    query = np.asarray([[1.0, 1.0, 0.0, 0.0]])
    clips = np.asarray([[2.0, 2.0, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [1, 1, np.nan, np.nan], [np.nan] * 4])
    np.testing.assert_allclose(mask_overlap(query, clips)[0], [1, 0, 0.5, 1, np.nan])


def _several(seed=0):
    """Cosines of three samples, of which the last spread little."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(3, 2, 30)) * np.asarray([1.0, 0.3, 0.01])[:, None, None] + 0.2


def test_zscores_are_blind_to_each_samples_place_and_spread():
    scores = _several()
    moved = scores * np.asarray([2.0, 50.0, 0.1])[:, None, None] + np.asarray([1.0, -3.0, 0.5])[:, None, None]
    np.testing.assert_allclose(mean_zscores(moved), mean_zscores(scores), atol=1e-5)
    found = mean_zscores(scores[:1])
    np.testing.assert_allclose(found.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(1), 1, atol=1e-5)
    assert np.array_equal(mean_ranks(found[None]), mean_ranks(scores[:1]))  # one sample: its own order


def test_zscores_of_clips_without_a_score_are_missing_and_do_not_move_the_others():
    scores = _several()
    scores[1, :, 5] = np.nan
    found = mean_zscores(scores)
    assert np.isnan(found[:, 5]).all()
    np.testing.assert_allclose(np.delete(found, 5, 1), mean_zscores(np.delete(scores, 5, 2)), atol=1e-6)


def test_a_sample_in_which_all_clips_score_alike_adds_nothing():
    scores = _several()
    scores[2] = 0.25 + np.random.default_rng(3).normal(size=scores[2].shape) * 1e-9
    np.testing.assert_allclose(mean_zscores(scores), mean_zscores(scores[:2]) * 2 / 3, atol=1e-6)


def test_mean_zscore_is_a_way_to_combine_sketches():
    rng = np.random.default_rng(5)
    query, train = rng.normal(size=(2, 3, 8)), rng.normal(size=(20, 3, 8))
    unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (query, train)]
    expected = np.zeros((2, 20))
    for s in range(3):
        cosines = unit[0][:, s] @ unit[1][:, s].T
        expected += (cosines - cosines.mean(1, keepdims=True)) / cosines.std(1, keepdims=True) / 3
    np.testing.assert_allclose(cosine_scores(query, train, "mean-zscore"), expected, atol=1e-5)
