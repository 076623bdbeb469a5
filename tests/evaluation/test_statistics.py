"""Intervals: against formulas, against coverage, and against what resampling must not believe."""

import numpy as np
import pytest

from motive_fo.evaluation.statistics import (
    Resampling,
    difference_paired,
    difference_unpaired,
    mean_interval,
    share_interval,
    wilson,
)

HOW = Resampling(resamples=2000)


def test_wilson_is_the_published_interval():
    # Newcombe (1998), table I: 81 of 263, and the extremes at which the normal interval fails
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=1e-4)
    assert wilson(1, 29) == pytest.approx((0.8830, 1), abs=1e-4)


def test_the_bootstrap_of_a_mean_is_as_wide_as_its_standard_error_says():
    values = np.random.default_rng(0).normal(3, 2, 400).tolist()
    found = mean_interval(values, range(400), HOW)
    error = np.std(values) / 400**0.5
    assert found.value == pytest.approx(np.mean(values))
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.08)
    assert found == mean_interval(values, range(400), HOW)
    assert found != mean_interval(values, range(400), Resampling(resamples=2000, seed=1))


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    how = Resampling(resamples=400, confidence=0.9)
    held = 0
    for _ in range(200):
        found = mean_interval(rng.exponential(1, 40).tolist(), range(40), how)
        held += found.low <= 1 <= found.high
    assert 0.8 < held / 200 < 0.97


def test_clips_of_one_prompt_are_not_independent():
    """Ten seeds that all say the same are one observation, not ten."""
    prompts = np.repeat(np.arange(12), 10)
    values = np.random.default_rng(2).normal(0, 1, 12)[prompts]
    alone = mean_interval(values.tolist(), range(120), HOW)
    together = mean_interval(values.tolist(), prompts.tolist(), HOW)
    assert (together.high - together.low) > 2.5 * (alone.high - alone.low)
    ones = (values > 0).astype(float).tolist()
    wide = share_interval(ones, prompts.tolist(), HOW)
    assert (wide.low, wide.high) == wilson(wide.value, 12)


def test_pairs_see_what_unpaired_sets_cannot():
    rng = np.random.default_rng(3)
    base = rng.normal(0, 5, 60)
    better = base + rng.normal(0.5, 0.3, 60)
    paired = difference_paired(better.tolist(), base.tolist(), range(60), HOW)
    apart = difference_unpaired(better.tolist(), range(60), base.tolist(), range(60), HOW)
    assert paired.value == pytest.approx(apart.value)
    assert paired.low > 0 > apart.low
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * 5 * (2 / 60) ** 0.5, rel=0.25)


def test_too_little_says_nothing():
    assert mean_interval([], [], HOW) is None
    assert difference_unpaired([], [], [1.0], [0], HOW) is None
    one = mean_interval([2.0, 4.0], ["same", "same"], HOW)
    assert (one.value, one.low, one.high, one.count) == (3, None, None, 2)
    equal = difference_paired([1.0, 1.0], [1.0, 1.0], [0, 1], HOW)
    assert (equal.value, equal.low) == (0, None)
