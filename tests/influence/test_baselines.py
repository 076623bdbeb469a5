"""Baselines: orders without gradients, each the same for the same input."""

import numpy as np
import pytest

from motive_fo.influence.baselines import by_similarity, by_value, cosine, random_order

IDS = [f"clip {n}" for n in range(50)]


def test_random_orders_are_seeded_and_do_not_depend_on_the_other_clips():
    first = random_order(IDS, 0)
    assert first == random_order(IDS[::-1], 0)
    assert sorted(first) == sorted(IDS)
    assert first != random_order(IDS, 1)
    assert first != IDS
    fewer = random_order(IDS[::2], 0)
    assert fewer == [clip_id for clip_id in first if clip_id in fewer]


def test_random_orders_are_uniform():
    """Over many seeds every clip is in the first tenth equally often, to within what chance allows."""
    counts = dict.fromkeys(IDS, 0)
    for seed in range(1000):
        for clip_id in random_order(IDS, seed)[:5]:
            counts[clip_id] += 1
    assert min(counts.values()) > 60
    assert max(counts.values()) < 145


def test_by_value_is_descending_with_unknown_values_last():
    values = {"a": 1.0, "b": 3.0, "c": float("nan"), "e": 3.0}
    assert by_value(["e", "d", "c", "b", "a"], values) == ["b", "e", "a", "c", "d"]


def test_by_similarity_follows_and_avoids():
    alike_QN = np.array([[0.9, 0.5, 0.1, np.nan], [0.8, 0.4, 0.2, 0.5]])
    assert by_similarity(alike_QN, ["a", "b", "c", "d"]) == ["a", "b", "c"]
    assert by_similarity(alike_QN, ["a", "b", "c", "d"], np.array([True, True])) == ["c", "b", "a"]
    still_QN = np.array([[np.nan] * 3, [0.1, 0.9, 0.5]])  # a query in which nothing moves
    assert by_similarity(still_QN, ["a", "b", "c"]) == ["b", "c", "a"]


def test_cosine_is_that_of_a_loop_and_unknown_where_nothing_can_be_compared():
    random = np.random.default_rng(0)
    queries, clips = random.normal(size=(3, 8)), random.normal(size=(5, 8))
    clips[1], clips[2, 3] = 0, np.nan
    found = cosine(queries, clips)
    for q in range(3):
        for n in range(5):
            if n in (1, 2):
                assert np.isnan(found[q, n])
            else:
                expected = queries[q] @ clips[n] / np.linalg.norm(queries[q]) / np.linalg.norm(clips[n])
                assert found[q, n] == pytest.approx(expected)
