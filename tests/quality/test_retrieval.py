"""Retrieval figures against plain loops, and against every order of ties."""

import itertools
import math

import numpy as np
import pytest

from motive_fo.quality.retrieval import Retrieval, attainable, chance, retrieval


def _plain(order, relevant):
    """The figures of one order, as textbooks have them."""
    hits = [relevant[n] for n in order]
    count = sum(relevant)
    dcg = sum(hit / math.log2(place + 2) for place, hit in enumerate(hits[:20]))
    best = sum(1 / math.log2(place + 2) for place in range(min(count, 20)))
    first = next(place for place, hit in enumerate(hits, 1) if hit)
    return [sum(hits[:5]) / 5, sum(hits[:10]) / 10, sum(hits[:20]) / 20, sum(hits[:20]) / count, 1 / first, dcg / best]


def _values(found, q=0):
    return [found.of(name)[q] for name in Retrieval.names()]


def test_figures_are_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(8, 60))
    relevant = rng.random((8, 60)) < np.linspace(0.05, 0.8, 8)[:, None]
    relevant[:, 0], relevant[:, 1] = True, False
    found = retrieval(scores, relevant)
    for q in range(8):
        expected = _plain(np.argsort(-scores[q]).tolist(), relevant[q].tolist())
        np.testing.assert_allclose(_values(found, q)[:-1], expected, rtol=1e-12)
        gap = (scores[q][relevant[q]].mean() - scores[q][~relevant[q]].mean()) / scores[q].std()
        assert found.gap[q] == pytest.approx(gap)


@pytest.mark.parametrize(
    "scores", [[1, 1, 1, 0, 0, 0, 0], [2, 1, 1, 1, 1, 0, 0], [0] * 7, [3, np.nan, np.nan, 1, 1, 2, 2]]
)
@pytest.mark.parametrize("relevant", [[1, 0, 0, 1, 0, 0, 1], [0, 0, 0, 0, 1, 0, 0], [0, 1, 1, 1, 1, 1, 1]])
def test_ties_give_the_mean_over_all_orders_that_they_allow(scores, relevant):
    key = [-np.inf if np.isnan(score) else score for score in scores]
    allowed = [
        order
        for order in itertools.permutations(range(7))
        if all(key[a] >= key[b] for a, b in itertools.pairwise(order))
    ]
    expected = np.mean([_plain(order, relevant) for order in allowed], axis=0)
    found = retrieval(np.asarray([scores], float), np.asarray([relevant], bool))
    np.testing.assert_allclose(_values(found)[:-1], expected, rtol=1e-12)


def test_chance_is_the_mean_of_random_orders_and_the_formulas():
    relevant = np.zeros((1, 50), bool)
    relevant[0, :12] = True
    found = _values(chance(relevant))
    rng = np.random.default_rng(1)
    drawn = np.asarray([_plain(rng.permutation(50).tolist(), relevant[0].tolist()) for _ in range(20_000)])
    np.testing.assert_allclose(found[:-1], drawn.mean(0), atol=4 * drawn.std(0).max() / np.sqrt(20_000))
    assert found[:4] == pytest.approx([12 / 50] * 3 + [20 / 50])
    assert found[-1] == 0


def test_chance_of_the_seed_benchmark_is_what_its_random_row_shows():
    """Six classes of 33, 25, 41, 31, 45 and 25 clips: a published row of NDCG@20 0.1685 and MRR 0.3896 says nothing."""
    relevant = np.zeros((6, 200), bool)
    for q, (first, size) in enumerate(zip(np.cumsum([0, 33, 25, 41, 31, 45]), (33, 25, 41, 31, 45, 25), strict=True)):
        relevant[q, first : first + size] = True
    found = chance(relevant)
    assert found.ndcg_20.mean() == pytest.approx(1 / 6, abs=1e-9)
    assert found.reciprocal_rank.mean() == pytest.approx(0.357, abs=0.006)


def test_a_perfect_order_reaches_the_attainable_and_no_order_more():
    rng = np.random.default_rng(2)
    relevant = np.zeros((2, 60), bool)
    relevant[0, :8], relevant[1, :30] = True, True
    best = attainable(relevant)
    assert best.precision_10.tolist() == [0.8, 1]
    assert best.precision_20.tolist() == [0.4, 1]
    assert best.recall_20.tolist() == pytest.approx([1, 20 / 30])
    assert best.ndcg_20.tolist() == pytest.approx([1, 1])
    assert best.reciprocal_rank.tolist() == [1, 1]
    for _ in range(50):
        found = retrieval(rng.normal(size=(2, 60)) + rng.uniform(0, 3) * relevant, relevant)
        for name in Retrieval.names():
            assert (found.of(name) <= best.of(name) + 1e-12).all()


def test_clips_without_a_score_come_last():
    relevant = np.asarray([[True, False, False, False]])
    found = retrieval(np.asarray([[np.nan, 3.0, 2.0, 1.0]]), relevant)
    assert found.reciprocal_rank[0] == 1 / 4
    assert found.gap[0] == 0


def test_a_query_without_relevant_clips_or_without_others_is_refused():
    with pytest.raises(ValueError, match="query 1 has 0 relevant clips of 3"):
        retrieval(np.zeros((2, 3)), np.asarray([[True, False, False], [False] * 3]))
    with pytest.raises(ValueError, match="query 0 has 3 relevant clips of 3"):
        chance(np.ones((1, 3), bool))
    with pytest.raises(ValueError, match=r"must both be \(queries, clips\)"):
        retrieval(np.zeros((2, 3)), np.ones((2, 4), bool))
