"""Votes, ranks and orders against brute force, and the invariants of a selection."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from motive_fo.config import SelectionConfig
from motive_fo.influence import selection
from motive_fo.influence.cosine import cosine_scores
from motive_fo.influence.cosine import mean_ranks as mean_samples
from motive_fo.influence.curation import Candidates, select
from motive_fo.influence.selection import (
    best_clips,
    budget_count,
    majority_votes,
    mean_ranks,
    percentile_ranks,
    rank_clips,
    scored_clips,
    votes_of,
)

SCORES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 30)),
    elements=st.sampled_from([-1.0, -0.5, -0.25, 0.0, 0.125, 0.25, 0.5, 0.75, 1.0]),
)
SHARES = st.sampled_from([0.01, 0.1, 0.25, 0.5, 1.0])


def _ids(n):
    return [f"clip{i:03d}" for i in range(n)]


def test_the_budget_is_a_ceiling_without_rounding_errors():
    assert budget_count(0.1, 30) == 3  # 0.1 * 30 is 3.0000000000000004
    assert budget_count(0.1, 31) == 4
    assert budget_count(0.56, 600_000) == 336_000  # the error grows with the product
    assert budget_count(0.5, 1) == 1
    assert budget_count(1.0, 7) == 7
    assert budget_count(0.1, 0) == 0


@settings(deadline=None)
@given(SCORES, SHARES)
def test_votes_are_counted_as_by_hand(scores, share):
    votes = majority_votes(scores, share)
    count = budget_count(share, scores.shape[1])
    for n in range(scores.shape[1]):
        expected = 0
        for q in range(scores.shape[0]):
            threshold = sorted(scores[q].tolist(), reverse=True)[count - 1]
            expected += scores[q, n] >= threshold
        assert votes[n] == expected


def test_many_clips_are_voted_for_by_threads_as_by_one(monkeypatch):
    scores = np.random.default_rng(2).random((7, 50)).astype(np.float32)
    alone = majority_votes(scores, 0.2)
    for cores in (1, 2, 3, 8):  # queries that do and do not divide among them
        monkeypatch.setattr(selection, "_MANY", 50)
        monkeypatch.setattr(selection.os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert np.array_equal(majority_votes(scores, 0.2), alone)
    assert alone.dtype == np.int64
    assert majority_votes(np.empty((0, 3), np.float32), 0.2).tolist() == [0, 0, 0]


@settings(deadline=None)
@given(SCORES, st.integers(0, 31), st.integers(0, 3))
def test_the_best_clips_are_those_of_a_stable_sort(scores, count, unknown):
    row = scores[0].copy()
    row[:unknown] = np.nan
    known = [n for n in range(len(row)) if n >= unknown]
    expected = sorted(known, key=lambda n: (-row[n], n))[:count]
    found = best_clips(row, count)
    assert found.tolist() == expected
    assert found.dtype == np.int64


@settings(deadline=None)
@given(SCORES, st.integers(0, 3))
def test_mean_ranks_are_over_the_clips_that_all_named_queries_score(scores, unknown):
    scores = scores.copy()
    scores[0, :unknown] = np.nan
    last = len(scores) - 1
    for queries in ([0], [last], [0, last], list(range(len(scores)))):
        scored = np.isfinite(scores[queries]).all(0)
        found = mean_ranks(scores, queries)
        assert np.isnan(found[~scored]).all()
        if scored.any():
            np.testing.assert_allclose(found[scored], percentile_ranks(scores[queries][:, scored]).mean(0))
    assert np.isnan(mean_ranks(scores, [])).all()


def test_without_queries_or_clips_nothing_is_scored():
    none = np.empty((0, 3), np.float32)
    assert scored_clips(none).tolist() == [False, False, False]
    some = np.asarray([[np.nan, 0, 0], [0, 0, np.nan]], np.float32)
    assert scored_clips(some).tolist() == [False, True, False]
    assert votes_of(np.empty(0, np.float32), 0.5).tolist() == []
    assert votes_of(np.empty(0, np.float32), 0.5).dtype == np.bool_
    assert percentile_ranks(none).shape == (0, 3)
    assert percentile_ranks(np.empty((2, 0), np.float32)).shape == (2, 0)
    assert percentile_ranks(np.zeros((2, 1), np.float32)).tolist() == [[100.0], [100.0]]
    ranking = rank_clips(none, _ids(3), 0.1)
    assert (ranking.ids, ranking.queries, ranking.majority()) == ([], 0, [])


@settings(deadline=None)
@given(SCORES, SHARES)
def test_a_ranking_says_what_its_attributes_promise(scores, share):
    """Every number by brute force, with queries to avoid among those to follow."""
    ids = _ids(scores.shape[1])
    avoid = np.arange(len(scores)) % 3 == 1
    found = rank_clips(scores, ids, share, avoid)
    ranks = percentile_ranks(scores)
    count = budget_count(share, len(ids))
    for n, clip_id in enumerate(ids):
        votes = harm = 0
        for q, row in enumerate(scores):
            top = int(row[n] >= sorted(row.tolist(), reverse=True)[count - 1])
            low = int(row[n] <= sorted(row.tolist())[count - 1])
            votes += -top if avoid[q] else top
            harm += top if avoid[q] else low
        assert (found.ids[n], found.votes[n], found.harm[n]) == (clip_id, votes, harm)
        followed, avoided = ranks[~avoid, n].max(initial=0), ranks[avoid, n].max(initial=0)
        assert found.best[n] == pytest.approx(followed - avoided)
    assert found.rank == pytest.approx(np.where(avoid[:, None], 100 - ranks, ranks).mean(0))
    assert found.influence == pytest.approx(np.where(avoid[:, None], -scores, scores).mean(0), abs=1e-6)
    assert found.queries == len(scores)
    assert found.votes.dtype == found.harm.dtype == np.int64
    place = dict(zip(ids, range(len(ids)), strict=True))

    def ties(clip_id):
        return -found.rank[place[clip_id]], -found.influence[place[clip_id]], clip_id

    assert found.by_mean == sorted(ids, key=ties)
    assert found.by_votes == sorted(ids, key=lambda i: (-found.votes[place[i]], *ties(i)))
    assert found.by_max == sorted(ids, key=lambda i: (-found.best[place[i]], *ties(i)))
    assert [found.order(by) for by in ("votes", "mean", "max")] == [found.by_votes, found.by_mean, found.by_max]
    for least in (0, 1, 2):
        harmful = sorted(ids, key=lambda i: (-found.harm[place[i]], -found.by_mean.index(i)))
        assert found.harmful(least) == [i for i in harmful if found.harm[place[i]] >= least]
    assert found.harmful(None) == found.harmful(len(scores) // 2 + 1)


@settings(deadline=None)
@given(SCORES)
def test_percentile_ranks_are_counted_as_by_hand(scores):
    ranks = percentile_ranks(scores)
    clips = scores.shape[1]
    for q, n in np.ndindex(*scores.shape):
        if clips == 1:
            assert ranks[q, n] == 100
            continue
        below = sum(scores[q] < scores[q, n])
        equal = sum(scores[q] == scores[q, n]) - 1
        assert ranks[q, n] == pytest.approx(100 * (below + equal / 2) / (clips - 1))


@settings(deadline=None)
@given(SCORES, SHARES)
def test_the_same_scores_in_any_order_give_the_same_lists(scores, share):
    ids = _ids(scores.shape[1])
    avoid = np.arange(len(scores)) % 3 == 2
    one = rank_clips(scores, ids, share, avoid)
    order = np.random.default_rng(0).permutation(len(ids))
    other = rank_clips(scores[:, order], [ids[i] for i in order], share, avoid)
    assert one.by_votes == other.by_votes
    assert one.by_mean == other.by_mean
    assert one.by_max == other.by_max


def _same_in_any_order(scores, avoid, share, orders):
    ids = _ids(scores.shape[1])
    one, ranks = rank_clips(scores, ids, share, avoid), mean_ranks(scores, range(len(scores)))
    for order in orders:
        other = rank_clips(scores[order], ids, share, avoid[order])
        for by in ("votes", "mean", "max"):
            assert one.order(by) == other.order(by)
        for name in ("votes", "harm", "rank", "best", "influence"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name
        assert np.array_equal(ranks, mean_ranks(scores, order), equal_nan=True)
        assert np.array_equal(mean_samples(scores[:, None]), mean_samples(scores[order][:, None]), equal_nan=True)


@settings(deadline=None)
@given(SCORES, SHARES, st.randoms(use_true_random=False))
def test_the_queries_in_any_order_give_the_same_ranking(scores, share, random):
    order = list(range(len(scores)))
    random.shuffle(order)
    _same_in_any_order(scores, np.arange(len(scores)) % 3 == 2, share, [order, order[::-1]])


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_many_clips_and_queries_in_any_order_give_the_same_ranking(size):
    """Of 1,000 clips and 10 queries some have equal sums of ranks, which sums of floating-point numbers tell apart."""
    rng = np.random.default_rng(4)
    scores = (rng.normal(size=(10, 1000)) * size).astype(np.float32)
    scores[:, 500:] = rng.permuted(scores[:, :500], axis=0)  # the same scores in another order: the same mean
    ranks = sum(percentile_ranks(scores[[query]])[0] for query in range(10))
    assert len(np.unique(ranks)) > len(np.unique(mean_ranks(scores, range(10))))
    orders = [rng.permutation(10) for _ in range(5)]
    _same_in_any_order(scores, np.zeros(10, np.bool_), 0.1, orders)
    _same_in_any_order(scores, np.arange(10) < 3, 0.1, orders)
    found = rank_clips(scores, _ids(1000), 0.1)
    assert np.array_equal(found.influence[:500], found.influence[500:])
    np.testing.assert_allclose(found.influence, scores.mean(0, np.float64), rtol=0, atol=1e-13 * size)


@settings(deadline=None)
@given(hnp.arrays(np.float32, (1, 40), elements=st.floats(-1, 1, width=32), unique=True), SHARES)
def test_the_vote_of_one_query_is_its_top_k(scores, share):
    ids = _ids(40)
    best = sorted(ids, key=lambda i: -scores[0, ids.index(i)])[: budget_count(share, 40)]
    ranking = rank_clips(scores, ids, share)
    for by in ("votes", "mean", "max"):
        assert ranking.order(by)[: len(best)] == best
    assert {i for i, v in zip(ids, ranking.votes, strict=True) if v} == set(best)


def test_ties_go_by_rank_then_influence_then_id():
    scores = np.asarray([[0.9, 0.9, 0.1, 0.1, 0.5, 0.0], [0.1, 0.1, 0.9, 0.9, 0.5, 0.0]], np.float32)
    ranking = rank_clips(scores, ["d", "c", "b", "a", "e", "f"], 1 / 3)
    assert list(ranking.votes) == [1, 1, 1, 1, 0, 0]
    assert ranking.by_votes == ["a", "b", "c", "d", "e", "f"]


def test_clips_without_a_score_are_never_counted():
    scores = np.asarray([[np.nan, 0.9, 0.1, np.nan, 0.5] * 6], np.float32)
    ids = _ids(30)
    ranking = rank_clips(scores, ids, 0.1)
    assert len(ranking.ids) == 18
    made = select(Candidates(scores, ids, ["q"], np.asarray([False])), SelectionConfig(budget=0.1))
    assert len(made.chosen.ids) == math.ceil(1.8)
    assert not set(ranking.by_votes) & {ids[i] for i in range(30) if i % 5 in (0, 3)}


def test_bottom_is_the_other_end():
    scores = np.linspace(-1, 1, 20, dtype=np.float32)[None]
    ranking = rank_clips(scores, _ids(20), 0.1)
    assert ranking.bottom(0.1) == ["clip000", "clip001"]
    assert ranking.by_mean[:2] == ["clip019", "clip018"]
    assert ranking.harmful(1) == ["clip000", "clip001"]


def test_majority_means_more_than_half():
    scores = np.asarray([[1, 0, 0.5], [1, 0, 0.5], [0, 1, 0.5], [0, 1, 0.5]], np.float32)
    ranking = rank_clips(scores, ["a", "b", "c"], 0.3)
    assert ranking.majority() == []  # two of four is no majority
    assert rank_clips(scores[:3], ["a", "b", "c"], 0.3).majority() == ["a"]


def test_the_vote_share_is_apart_from_the_budget():
    scores = np.linspace(0, 1, 10, dtype=np.float32)[None]
    candidates = Candidates(scores, _ids(10), ["q"], np.asarray([False]))
    made = select(candidates, SelectionConfig(budget=0.1, vote_share=0.5))
    assert made.ranking.votes.sum() == 5
    assert len(made.chosen.ids) == 1


@settings(deadline=None)
@given(SCORES, SHARES)
def test_a_query_to_avoid_is_the_opposite_of_one_to_follow(scores, share):
    ids = _ids(scores.shape[1])
    follow = rank_clips(scores, ids, share)
    avoid = rank_clips(scores, ids, share, np.ones(len(scores), np.bool_))
    assert np.array_equal(avoid.votes, -follow.votes)
    assert avoid.rank == pytest.approx(100 - follow.rank)
    assert np.array_equal(avoid.harm, majority_votes(scores, share))
    assert avoid.influence == pytest.approx(-follow.influence)


def test_what_a_bad_generation_learned_from_goes_last():
    scores = np.asarray([[0.9, 0.8, 0.1, 0.0], [0.9, 0.0, 0.1, 0.2]], np.float32)
    ids = ["causes it", "b", "c", "d"]
    assert rank_clips(scores[:1], ids, 0.25).by_votes[0] == "causes it"
    made = rank_clips(scores, ids, 0.25, np.asarray([False, True]))
    assert dict(zip(ids, made.votes, strict=True)) == {"causes it": 0, "b": 0, "c": 0, "d": 0}
    assert made.by_mean[0] == "b"
    assert set(made.harmful(1)) == {"causes it", "d"}
    assert made.harmful(2) == []


def test_the_highest_rank_with_any_query_finds_specialists():
    scores = np.asarray([[0.9, 0.5, 0.6, 0.1], [0.0, 0.5, 0.6, 0.9]], np.float32)
    ranking = rank_clips(scores, ["one", "b", "c", "other"], 0.25)
    assert ranking.by_mean[0] == "c"
    assert set(ranking.by_max[:2]) == {"one", "other"}


def test_no_clip_with_a_score_gives_empty_lists():
    ranking = rank_clips(np.full((2, 3), np.nan, np.float32), ["a", "b", "c"], 0.1)
    assert ranking.by_votes == ranking.by_mean == ranking.by_max == ranking.harmful(1) == []


def test_cosines_are_the_definition_and_mean_over_samples():
    rng = np.random.default_rng(0)
    query, train = rng.normal(size=(2, 3, 16)).astype(np.float32), rng.normal(size=(5, 3, 16)).astype(np.float32)
    scores = cosine_scores(query, train)
    for q, n in np.ndindex(2, 5):
        by_hand = np.mean(
            [query[q, s] @ train[n, s] / np.linalg.norm(query[q, s]) / np.linalg.norm(train[n, s]) for s in range(3)]
        )
        assert scores[q, n] == pytest.approx(by_hand, abs=1e-6)


def test_adding_a_clip_changes_no_other_clips_score():
    rng = np.random.default_rng(1)
    query, train = rng.normal(size=(4, 1, 512)).astype(np.float32), rng.normal(size=(301, 1, 512)).astype(np.float32)
    whole = cosine_scores(query, train)
    assert np.array_equal(cosine_scores(query, train[:300]), whole[:, :300])
    assert np.array_equal(cosine_scores(query, train[7:8]), whole[:, 7:8])


def test_a_missing_sketch_has_no_score():
    train = np.ones((2, 1, 8), np.float32)
    train[1] = np.nan
    assert np.isnan(cosine_scores(np.ones((1, 1, 8), np.float32), train)).tolist() == [[False, True]]


@pytest.mark.parametrize(
    ("share", "clips", "count"), [(0.56, 9_000_000, 5_040_000), (0.1, 30, 3), (1 / 3, 10, 4), (1, 7, 7)]
)
def test_a_share_of_many_clips_is_counted_exactly(share, clips, count):
    assert budget_count(share, clips) == count
