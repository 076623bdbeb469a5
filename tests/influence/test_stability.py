"""Agreement of rankings, against definitions written out here."""

import numpy as np
import pytest

from motive_fo.influence.stability import stability


def _spearman(a, b):
    ranks = [[sum(y < x for y in row) + (sum(y == x for y in row) - 1) / 2 for x in row] for row in (a, b)]
    return float(np.corrcoef(ranks)[0, 1])


def test_it_is_spearman_and_overlap_of_the_mean_ranks():
    rng = np.random.default_rng(0)
    signal = rng.normal(size=40)
    scores = (signal + rng.normal(size=(3, 1, 40))).astype(np.float32)  # one query: its ranks are the scores'
    found = stability(scores, share=0.25)
    for s in range(3):
        for t in range(3):
            assert found.spearman_SS[s, t] == pytest.approx(_spearman(scores[s, 0], scores[t, 0]))
            tops = [set(sorted(range(40), key=lambda n, k=k: -scores[k, 0, n])[:10]) for k in (s, t)]
            assert found.overlap_SS[s, t] == len(tops[0] & tops[1]) / 10
    assert found.spearman == pytest.approx(np.mean([found.spearman_SS[p] for p in ((0, 1), (0, 2), (1, 2))]))
    assert found.overlap == pytest.approx(np.mean([found.overlap_SS[p] for p in ((0, 1), (0, 2), (1, 2))]))
    assert (found.top, found.by_chance) == (10, 0.25)
    assert 0.2 < found.spearman < 0.8


def test_equal_rankings_agree_wholly_and_opposite_ones_not_at_all():
    row = np.linspace(-1, 1, 20, dtype=np.float32)
    same = stability(np.stack([row, row * 0.1 + 0.5])[:, None], 0.1)
    assert same.spearman == pytest.approx(1)
    assert same.overlap == 1
    opposite = stability(np.stack([row, -row])[:, None], 0.1)
    assert opposite.spearman == pytest.approx(-1)
    assert opposite.overlap == 0


def test_it_ranks_over_several_queries_as_the_run_does():
    """By mean percentile rank: a query with widely spread cosines does not outvote the others."""
    calm = np.linspace(0, 0.001, 10)
    wild = np.linspace(1, -1, 10)
    scores = np.asarray([[calm, calm, wild], [calm, calm, calm]], np.float32)
    assert stability(scores).spearman == pytest.approx(1)


def test_clips_without_a_score_are_left_out_and_one_sample_has_no_agreement():
    scores = np.linspace(0, 1, 30, dtype=np.float32).reshape(1, 1, 30).copy()
    scores[0, 0, :10] = np.nan
    found = stability(scores, 0.1)
    assert (found.top, found.spearman, found.overlap) == (2, None, None)
    with pytest.raises(ValueError, match="two are needed"):
        stability(np.full((2, 1, 5), np.nan, np.float32))
