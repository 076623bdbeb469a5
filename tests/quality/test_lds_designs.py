"""Subsets with one mix of kinds, the gain of one score over another, and ranks with many ties."""

import numpy as np
import pytest

from motive_fo.quality.intervals import Bootstrap
from motive_fo.quality.lds import draw_subsets, lds, lds_gain, spearman

FEW = Bootstrap(resamples=100)


def test_matched_subsets_have_the_same_number_of_every_kind():
    group_N = np.repeat([3, 0, 7, 9], [17, 12, 21, 1])
    members = draw_subsets(len(group_N), 40, 0.5, seed=2, group_N=group_N)
    counts = np.asarray([[row[group_N == g].sum() for g in np.unique(group_N)] for row in members])
    assert (counts == counts[0]).all()
    assert counts[0].sum() == 26  # ceil of half of 51
    assert counts[0].tolist() == [6, 9, 11, 0]  # 6.1, 8.7, 10.7 and 0.5: the largest remainders are rounded up
    assert len({tuple(row) for row in members.tolist()}) == 40
    free = draw_subsets(len(group_N), 40, 0.5, seed=2)
    assert len({tuple(row[group_N == g].sum() for g in np.unique(group_N)) for row in free}) > 5
    assert np.array_equal(draw_subsets(len(group_N), 60, 0.5, seed=2, group_N=group_N)[:40], members)


def test_a_clip_is_in_a_matched_subset_as_often_as_its_kind_allows():
    group_N = np.repeat([0, 1], [10, 30])
    often_N = draw_subsets(40, 400, 0.25, seed=0, group_N=group_N).mean(0)
    assert often_N[:10].mean() == pytest.approx(0.3)  # 3 of 10: two and a half clips cannot be
    assert often_N.std() < 0.06


def test_subsets_that_cannot_differ_are_refused():
    with pytest.raises(ValueError, match="in all of the subsets or in none"):
        draw_subsets(4, 3, 0.5, seed=0, group_N=np.asarray([0, 1, 2, 3]))


def _world(queries=6, clips=30, subsets=40):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(queries, clips))
    members = draw_subsets(clips, subsets, 0.5, seed=3)
    loss = -(truth @ members.T)[:, :, None] + rng.normal(size=(queries, subsets, 2))
    return truth, rng.normal(size=truth.shape), members, loss


def test_the_gain_is_the_difference_over_the_same_draws():
    truth, noise, members, loss = _world()
    gain = lds_gain(truth, noise, members, loss, FEW)
    one, other = (lds(each, members, loss, FEW).lds for each in (truth, noise))
    assert gain.value == pytest.approx(one.value - other.value)
    each = []
    for some_Q, some_M in zip(FEW.draws(6, 0), FEW.draws(40, 1), strict=True):
        drawn = (members[some_M], loss[some_Q][:, some_M], Bootstrap(resamples=1))
        each.append(lds(truth[some_Q], *drawn).lds.value - lds(noise[some_Q], *drawn).lds.value)
    assert (gain.low, gain.high) == pytest.approx(tuple(np.quantile(each, [0.025, 0.975])))
    same = lds_gain(truth, truth, members, loss, FEW)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_ranks_with_many_ties_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    for length in range(2, 12):
        one, other = (rng.integers(0, 4, (6, length)).astype(float) for _ in range(2))
        for q, found in enumerate(spearman(one, other)):
            ranks = [[(row < x).sum() + (row == x).sum() / 2 for x in row] for row in (one[q], other[q])]
            spread = np.std(ranks[0]) * np.std(ranks[1])
            assert found == pytest.approx(np.corrcoef(*ranks)[0, 1] if spread else 0)
