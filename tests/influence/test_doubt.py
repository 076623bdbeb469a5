"""The doubt of a rank against its definition, and what it must not depend on."""

import numpy as np
import pytest

from motive_fo.influence.cosine import Scorer, cosine_scores
from motive_fo.influence.curation import Candidates
from motive_fo.influence.doubt import doubts_of, rank_doubts, rank_text
from motive_fo.influence.selection import percentile_ranks

DRAWS, QUERIES, CLIPS = 4, 3, 30


def _without(draws_SQN):
    return [np.delete(draws_SQN, s, 0).mean(0) for s in range(len(draws_SQN))]


def _rank(row, own):
    """By counting."""
    return 100 * (sum(other < own for other in row) + (sum(other == own for other in row) - 1) / 2) / (len(row) - 1)


@pytest.fixture
def draws():
    rng = np.random.default_rng(0)
    made = rng.normal(size=(QUERIES, CLIPS)) + rng.normal(size=(DRAWS, QUERIES, CLIPS))
    return made.round(1)  # with ties


def test_two_draws_that_turn_an_order_around():
    """The first clip has rank 100 by the one and 0 by the other: a mean of 50, give or take 50."""
    draws = np.asarray([[[3.0, 2.0, 1.0]], [[1.0, 2.0, 3.0]]])
    assert rank_doubts(_without(draws), [0]).tolist() == [50, 0, 50]


def test_it_is_the_jackknife_of_the_mean_rank(draws):
    expected = []
    for n in range(CLIPS):
        ranks = [np.mean([_rank(row, row[n]) for row in scores_QN]) for scores_QN in _without(draws)]
        expected.append(np.sqrt((DRAWS - 1) / DRAWS * sum((r - np.mean(ranks)) ** 2 for r in ranks)))
    np.testing.assert_allclose(rank_doubts(_without(draws), range(QUERIES)), expected)
    places = np.asarray([7, 0, 29])
    follow = np.zeros(QUERIES, np.bool_)
    np.testing.assert_allclose(doubts_of(_without(draws), follow, places), np.asarray(expected)[places])


def test_of_two_draws_it_is_the_standard_error_of_their_ranks(draws):
    ranks = np.stack([percentile_ranks(scores_QN).mean(0) for scores_QN in draws[:2]])
    expected = ranks.std(0, ddof=1) / np.sqrt(2)
    np.testing.assert_allclose(rank_doubts(_without(draws[:2]), range(QUERIES)), expected, atol=1e-12)


def test_a_query_to_avoid_counts_with_its_rank_turned_around(draws):
    avoid = np.asarray([False, True, False])
    turned = draws * np.where(avoid, -1, 1)[:, None]
    expected = rank_doubts(_without(turned), range(QUERIES))
    found = doubts_of(_without(draws), avoid, np.arange(CLIPS))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert not np.allclose(found, rank_doubts(_without(draws), range(QUERIES)))


def test_one_draw_has_no_doubt_and_equal_draws_have_none_left(draws):
    assert rank_doubts([], [0]) is None
    assert rank_doubts(_without(draws)[:1], [0]) is None
    assert Candidates(draws[0], ["a"] * CLIPS, ["q"] * QUERIES, np.zeros(QUERIES, np.bool_)).doubts(["a"]) == {}
    same = [draws[0]] * 3
    assert not rank_doubts(same, range(QUERIES)).any()
    assert not doubts_of(same, np.zeros(QUERIES, np.bool_), np.arange(CLIPS)).any()


def test_equal_sketches_of_every_draw_have_a_doubt_of_zero():
    """Through the sums that leave a draw out: no rounding is left of them."""
    rng = np.random.default_rng(0)
    query, train = (np.repeat(rng.normal(size=(n, 1, 8)).astype(np.float32), 5, axis=1) for n in (2, 500))
    assert not rank_doubts(list(Scorer(query).scores_without(train)[1]), [0, 1]).any()


def test_a_clip_without_a_score_has_no_doubt_and_changes_no_others(draws):
    fewer = rank_doubts(_without(draws[:, :, 1:]), range(QUERIES))
    draws[:, 1, 0] = np.nan
    found = rank_doubts(_without(draws), range(QUERIES))
    assert np.isnan(found[0])
    np.testing.assert_array_equal(found[1:], fewer)
    some = doubts_of(_without(draws), np.zeros(QUERIES, np.bool_), np.asarray([0, 5]))
    assert np.isnan(some[0])
    assert some[1] == pytest.approx(fewer[4])


def test_it_depends_neither_on_the_order_of_clips_draws_and_queries_nor_on_the_scale_of_a_query(draws):
    expected = rank_doubts(_without(draws), range(QUERIES))
    clips = np.random.default_rng(1).permutation(CLIPS)
    np.testing.assert_array_equal(rank_doubts(_without(draws[:, :, clips]), range(QUERIES)), expected[clips])
    for others in (_without(draws)[::-1], _without(draws * np.asarray([4.0, 0.5, 1.0])[:, None])):
        np.testing.assert_allclose(rank_doubts(others, range(QUERIES)), expected, atol=1e-9)
    np.testing.assert_allclose(rank_doubts(_without(draws), [2, 0, 1]), expected, atol=1e-9)


def test_a_clip_below_all_others_in_every_draw_makes_doubts_smaller_by_its_share(draws):
    """Ranks are shares of the clips: one clip more, and each of the others' places is a smaller step."""
    expected = rank_doubts(_without(draws), range(QUERIES)) * (CLIPS - 1) / CLIPS
    lowest = np.full((DRAWS, QUERIES, 1), -99.0)
    found = rank_doubts(_without(np.concatenate([draws, lowest], axis=2)), range(QUERIES))
    np.testing.assert_allclose(found, [*expected, 0], atol=1e-9)


def test_any_clip_more_moves_a_doubt_by_no_more_than_a_place_in_each_draw(draws):
    before = rank_doubts(_without(draws), range(QUERIES))
    for seed in range(20):
        more = np.random.default_rng(seed).normal(size=(DRAWS, QUERIES, 1))
        after = rank_doubts(_without(np.concatenate([draws, more], axis=2)), range(QUERIES))[:-1]
        assert np.abs(after - before).max() <= 100 / CLIPS * np.sqrt(DRAWS - 1) + 1e-9


def test_it_is_how_far_other_draws_do_move_the_rank():
    """Draws anew, again and again: the spread of the rank is what one set of draws says of it, and the spread of
    single ranks, which are of less varied scores than their mean, says less."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(1, 200))
    ranks, doubts, single = [], [], []
    for _ in range(150):
        draws = signal + 1.5 * rng.normal(size=(5, 1, 200))
        ranks.append(percentile_ranks(draws.mean(0))[0])
        doubts.append(rank_doubts(_without(draws), [0]))
        single.append(percentile_ranks(draws[:, 0]).std(0, ddof=1) / np.sqrt(5))
    true, said, less = (np.sqrt(np.mean(np.square(x))) for x in (np.std(ranks, 0, ddof=1), doubts, single))
    assert 0.9 < said / true < 1.15
    assert abs(said / true - 1) < abs(less / true - 1)


@pytest.mark.parametrize("samples", [2, 3, 9])
def test_scores_without_a_sample_are_those_of_the_others(samples):
    rng = np.random.default_rng(samples)
    query, train = (rng.normal(size=(n, samples, 16)).astype(np.float32) for n in (3, 40))
    train[5, 1] = np.nan
    scores, without = Scorer(query).scores_without(train)
    np.testing.assert_array_equal(scores, Scorer(query).scores(train))
    for s in range(samples):
        expected = cosine_scores(np.delete(query, s, 1), np.delete(train, s, 1))
        expected[:, 5] = np.nan
        np.testing.assert_allclose(without[s], expected, atol=1e-6)


def test_a_rank_reads_with_its_doubt_or_alone():
    assert rank_text(97.04, 2.0) == "97.0 ± 2.0"
    assert rank_text(97.04, None) == rank_text(97.04, np.nan) == "97.0"
