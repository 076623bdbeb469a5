"""Linear datamodeling score and intervals against loops and against worlds whose answer is known."""

import numpy as np
import pytest

from motive_fo.quality.intervals import Bootstrap, mean_over_queries
from motive_fo.quality.lds import draw_subsets, lds, noise_ceiling, predicted, spearman

FEW = Bootstrap(resamples=200)


def _ranks(row):
    return [sum(y < x for y in row) + (sum(y == x for y in row) - 1) / 2 for x in row]


def _world(noise, seeds=4, queries=5, clips=40, subsets=80):
    """Losses that are linear in the clips of the subset, plus training noise."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(queries, clips))
    members = draw_subsets(clips, subsets, 0.5, seed=3)
    clean = -(truth @ members.T)
    return truth, members, clean[:, :, None] + noise * rng.normal(size=(queries, subsets, seeds))


def test_it_is_spearman_of_sums_with_the_fall_of_the_loss():
    truth, members, loss = _world(noise=2)
    scores = truth + np.random.default_rng(1).normal(size=truth.shape)
    found = lds(scores, members, loss, FEW)
    for q in range(len(truth)):
        sums = [sum(scores[q, n] for n in range(40) if members[m, n]) for m in range(80)]
        falls = [-sum(loss[q, m]) / 4 for m in range(80)]
        assert found.lds_Q[q] == pytest.approx(np.corrcoef(_ranks(sums), _ranks(falls))[0, 1])
    assert found.lds.value == pytest.approx(found.lds_Q.mean())
    assert found.lds.low < found.lds.value < found.lds.high


def test_the_truth_without_noise_scores_one_its_opposite_minus_one_and_noise_about_zero():
    truth, members, loss = _world(noise=0)
    found = lds(truth, members, loss, FEW)
    assert found.lds.value == pytest.approx(1)
    assert found.ceiling == pytest.approx(1)
    assert lds(-truth, members, loss, FEW).lds.value == pytest.approx(-1)
    unrelated = lds(np.random.default_rng(9).normal(size=truth.shape), members, loss, FEW)
    assert unrelated.lds.holds(0)


@pytest.mark.parametrize("noise", [1.0, 3.0, 8.0])
def test_the_ceiling_is_what_the_truth_reaches_under_noise(noise):
    truth, members, loss = _world(noise, queries=20, subsets=200)
    found = lds(truth, members, loss, FEW)
    assert found.ceiling == pytest.approx(found.lds.value, abs=0.04)


def test_seeds_that_disagree_leave_nothing_to_predict_and_one_seed_has_no_ceiling():
    row = np.arange(6.0)
    assert noise_ceiling(np.stack([row, -row], axis=1)[None]).tolist() == [0]
    truth, members, loss = _world(1.0, seeds=1)
    assert lds(truth, members, loss, FEW).ceiling is None
    with pytest.raises(ValueError, match="two or more seeds"):
        noise_ceiling(loss)


def test_spearman_takes_ties_at_their_mean_rank():
    one, other = np.asarray([[1, 2, 2, 5.0]]), np.asarray([[3, 3, 1, 9.0]])
    assert spearman(one, other)[0] == pytest.approx(np.corrcoef(_ranks(one[0]), _ranks(other[0]))[0, 1])
    assert spearman(np.ones((1, 4)), other)[0] == 0


def test_subsets_have_one_size_and_depend_on_seed_and_number_alone():
    members = draw_subsets(30, 12, 0.5, seed=1)
    assert members.sum(1).tolist() == [15] * 12
    assert np.array_equal(draw_subsets(30, 20, 0.5, seed=1)[:12], members)
    assert not np.array_equal(draw_subsets(30, 12, 0.5, seed=2), members)
    assert len({tuple(row) for row in members.tolist()}) == 12
    with pytest.raises(ValueError, match="cannot differ"):
        draw_subsets(30, 5, 1.0, seed=0)


def test_intervals_are_those_of_a_plain_bootstrap_and_the_same_again():
    values = np.random.default_rng(0).normal(size=15)
    how = Bootstrap(resamples=500, level=0.9, seed=4)
    found = mean_over_queries(values, how)
    means = [np.mean([values[i] for i in row]) for row in how.draws(15)]
    assert (found.low, found.high) == pytest.approx((np.quantile(means, 0.05), np.quantile(means, 0.95)))
    assert found == mean_over_queries(values, how)
    assert found != mean_over_queries(values, Bootstrap(resamples=500, level=0.9, seed=5))
    assert mean_over_queries(np.ones(4)).low == 1


def test_an_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    how = Bootstrap(resamples=300, level=0.9)
    held = [mean_over_queries(rng.normal(size=40), how).holds(0) for _ in range(300)]
    assert 0.83 < np.mean(held) < 0.95


def test_what_does_not_fit_is_refused():
    truth, members, loss = _world(1.0)
    with pytest.raises(ValueError, match=r"\(queries, subsets, seeds\)"):
        lds(truth, members, loss[:, :5])
    with pytest.raises(ValueError, match="three or more"):
        lds(truth, members[:2], loss[:, :2])
    holes = truth.copy()
    holes[1, 7] = np.nan
    with pytest.raises(ValueError, match="1 clips of the subsets have no score"):
        lds(holes, members, loss)
    members_without = members.copy()
    members_without[:, 7] = False
    assert np.isfinite(predicted(holes, members_without)).all()
    broken = loss.copy()
    broken[0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="leave out the subset"):
        lds(truth, members, broken)
    with pytest.raises(ValueError, match="needs one or more"):
        mean_over_queries(np.empty(0))
