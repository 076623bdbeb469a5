"""Centring and the damped Gauss-Newton kernel, against plain dense linear algebra written out here."""

import numpy as np
import pytest

from motive_fo.errors import ConfigError, StoreError
from motive_fo.influence.cosine import cosine_scores, sample_cosines
from motive_fo.influence.preconditioner import LARGEST, Moments, Preconditioner, inverse_root

OPTIONS = [("mean", "identity"), ("none", "gauss-newton"), ("mean", "gauss-newton")]


def _sketches(clips, dimension, seed=0, samples=2):
    """Sketches with a common part and unequal spread and length, as gradients have."""
    rng = np.random.default_rng(seed)
    common = 2 * np.random.default_rng(99).normal(size=(samples, dimension))
    spread = np.random.default_rng(98).uniform(0.2, 3, size=(samples, dimension))
    length = rng.uniform(0.1, 10, size=(clips, samples, 1))
    return ((common + spread * rng.normal(size=(clips, samples, dimension))) * length).astype(np.float32)


def _preconditioner(train, center, kernel, damping=0.1, blocks=1, query_side=None, merged=False):
    made = []
    for side in (train if query_side is None else query_side, train):
        moments = Moments(train.shape[1], train.shape[2], second=True, merged=merged)
        for block in np.array_split(side, blocks):
            moments.add(block)
        made.append(moments)
    return Preconditioner.of(*made, center, kernel, damping)


def _scores(query, train, center, kernel, damping=0.1, **more):
    return sample_cosines(*_preconditioner(train, center, kernel, damping, **more).pair(query, train))


def _dense(query, train, center, kernel, damping):
    """The definition: directions, their mean and second moment, a dense inverse, one pair at a time."""
    query, train = query.astype(np.float64), train.astype(np.float64)
    scores = np.empty((query.shape[1], len(query), len(train)))
    for s in range(query.shape[1]):
        g, h = (x[:, s] / np.linalg.norm(x[:, s], axis=1, keepdims=True) for x in (train, query))
        if center == "mean":
            mean = g.mean(0)
            g, h = g - mean, h - mean
        inverse = np.eye(g.shape[1])
        if kernel == "gauss-newton":
            moment = sum(np.outer(row, row) for row in g) / len(g)
            inverse = np.linalg.inv(moment + damping * np.trace(moment) / len(moment) * np.eye(len(moment)))
        for q, a in enumerate(h):
            for n, b in enumerate(g):
                scores[s, q, n] = a @ inverse @ b / np.sqrt((a @ inverse @ a) * (b @ inverse @ b))
    return scores


@pytest.mark.parametrize(("center", "kernel"), OPTIONS)
@pytest.mark.parametrize(("clips", "dimension"), [(12, 32), (90, 16)])
@pytest.mark.parametrize("damping", [0.01, 0.1, 3.0])
def test_scores_are_those_of_the_dense_definition(center, kernel, clips, dimension, damping):
    train, query = _sketches(clips, dimension), _sketches(4, dimension, seed=1)
    expected = _dense(query, train, center, kernel, damping)
    np.testing.assert_allclose(_scores(query, train, center, kernel, damping), expected, atol=1e-9)
    assert np.abs(expected - sample_cosines(query, train)).max() > 0.05  # the option does something


@pytest.mark.parametrize("center", ["none", "mean"])
def test_infinite_damping_is_the_identity(center):
    train, query = _sketches(40, 16), _sketches(3, 16, seed=1)
    plain = _scores(query, train, center, "identity")
    np.testing.assert_allclose(_scores(query, train, center, "gauss-newton", 1e12), plain, atol=1e-9)
    far = np.abs(_scores(query, train, center, "gauss-newton", 0.1) - plain).max()
    near = np.abs(_scores(query, train, center, "gauss-newton", 10) - plain).max()
    assert far > near > 1e-3


def test_without_options_sketches_are_not_touched():
    train, query = _sketches(5, 8), _sketches(2, 8, seed=1)
    one, other = _preconditioner(train, "none", "identity").pair(query, train)
    assert one is query
    assert other is train


@pytest.mark.parametrize(("center", "kernel"), OPTIONS)
@pytest.mark.parametrize("combine", ["mean-cosine", "concat", "mean-rank"])
def test_scaling_all_sketches_changes_nothing_nor_one_clips_in_single_samples(center, kernel, combine):
    train, query = _sketches(40, 16), _sketches(3, 16, seed=1)
    scores = cosine_scores(*_preconditioner(train, center, kernel).pair(query, train), combine)
    more, wanted = train * 8, query * 8
    again = cosine_scores(*_preconditioner(more, center, kernel).pair(wanted, more), combine)
    np.testing.assert_allclose(again, scores, atol=1e-6)
    own = train * (2.0 ** np.random.default_rng(5).integers(-9, 9, size=(40, 1, 1))).astype(np.float32)
    np.testing.assert_allclose(_scores(query, own, center, kernel), _scores(query, train, center, kernel), atol=1e-9)


@pytest.mark.parametrize(("center", "kernel"), OPTIONS)
def test_self_influence_is_one_and_the_largest(center, kernel):
    train = _sketches(30, 64)
    scores = _scores(train, train, center, kernel)
    for each in scores:
        np.testing.assert_allclose(np.diag(each), 1, atol=1e-9)
        np.testing.assert_allclose(each, each.T, atol=1e-9)
        assert np.abs(each).max() <= 1 + 1e-9


@pytest.mark.parametrize(("center", "kernel"), OPTIONS)
def test_blocks_and_order_change_nothing(center, kernel):
    train, query = _sketches(41, 16), _sketches(3, 16, seed=1)
    whole = _scores(query, train, center, kernel)
    np.testing.assert_allclose(_scores(query, train, center, kernel, blocks=7), whole, atol=1e-10)
    order = np.random.default_rng(0).permutation(41)
    np.testing.assert_allclose(_scores(query, train[order], center, kernel), whole[:, :, order], atol=1e-10)


def test_missing_sketches_count_for_nothing_and_stay_missing():
    train, query = _sketches(20, 8), _sketches(2, 8, seed=1)
    holes = np.concatenate([train, np.full((3, 2, 8), np.nan, np.float32)])
    scores = _scores(query, holes, "mean", "gauss-newton")
    np.testing.assert_allclose(scores[:, :, :20], _scores(query, train, "mean", "gauss-newton"), atol=1e-12)
    assert np.isnan(scores[:, :, 20:]).all()


def test_each_mask_side_has_its_own_mean_and_the_kernel_is_the_training_clips():
    masked, unmasked = _sketches(50, 8, samples=1), _sketches(50, 8, seed=2, samples=1) + np.float32(5)
    made = _preconditioner(unmasked, "mean", "gauss-newton", query_side=masked)
    for side, mean in ((masked, made.query_mean_SD), (unmasked, made.train_mean_SD)):
        directions = side[:, 0] / np.linalg.norm(side[:, 0], axis=1, keepdims=True)
        np.testing.assert_allclose(mean[0], directions.mean(0), atol=1e-6)
    same = _preconditioner(unmasked, "mean", "gauss-newton")
    assert np.array_equal(made.root_SDD, same.root_SDD)


def test_mean_sketches_are_averaged_before_they_are_changed():
    train, query = _sketches(30, 16, samples=3), _sketches(2, 16, seed=1, samples=3)
    made = _preconditioner(train, "mean", "gauss-newton", merged=True)
    found = cosine_scores(*made.pair(query, train), "mean-sketch")
    expected = _dense(query.mean(1, keepdims=True), train.mean(1, keepdims=True), "mean", "gauss-newton", 0.1)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_common_directions_count_less():
    """A direction all clips share says nothing of any: the kernel lets the one that tells them apart decide."""
    train = np.zeros((20, 1, 4), np.float32)
    train[:, 0, 0] = 10
    train[:10, 0, 1], train[10:, 0, 2] = 1, 1
    query = np.asarray([[[10, 1, 0, 0]]], np.float32)
    plain, weighed = (_scores(query, train, "none", kernel)[0, 0] for kernel in ("identity", "gauss-newton"))
    assert plain[0] - plain[10] < 0.02
    assert weighed[0] - weighed[10] > 0.1
    centred = _scores(query, train, "mean", "identity")[0, 0]
    assert centred[0] == pytest.approx(1, abs=1e-5)
    assert centred[10] == pytest.approx(-1, abs=1e-5)


def test_a_sketch_that_is_the_mean_has_no_score():
    train = np.ones((5, 1, 8), np.float32)
    assert np.isnan(_scores(train, train, "mean", "identity")).all()
    assert np.isnan(_scores(train, train, "mean", "gauss-newton")).all()


def test_the_root_is_an_inverse_root_whatever_the_rank():
    rows = np.random.default_rng(0).normal(size=(3, 7))
    moment = rows.T @ rows / 3
    root = inverse_root(moment, 0.1)
    mean = np.trace(moment) / 7
    np.testing.assert_allclose(root @ root @ (moment / mean + 0.1 * np.eye(7)) / 1.1, np.eye(7), atol=1e-12)
    assert np.array_equal(root, root.T) or np.allclose(root, root.T, atol=1e-14)


def test_too_few_clips_and_too_long_sketches_are_refused():
    lone = Moments(1, 4, second=True)
    lone.add(np.ones((1, 1, 4), np.float32))
    with pytest.raises(StoreError, match="two or more are needed: score more clips, or use center none"):
        Preconditioner.of(lone, lone, "mean", "identity", 0.1)
    none = Moments(1, 4, second=True)
    none.add(np.full((2, 1, 4), np.nan, np.float32))
    with pytest.raises(StoreError, match="use kernel identity"):
        Preconditioner.of(none, none, "none", "gauss-newton", 0.1)
    with pytest.raises(ConfigError, match="project to 8,192 or fewer"):
        Moments(1, LARGEST + 1, second=True)
