"""Intervals: how far a figure would move with other queries, other queries and other subsets, or other repeats.

By the bootstrap, where the same seed always gives the same interval, and by t where there are few repeats.

Shapes: Q queries, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        value: of all queries.
        low, high: ends of the interval.
    """

    value: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether a value lies in the interval, ends included."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    Attributes:
        resamples: draws with replacement.
        level: share of the draws in the interval.
        seed: of the draws.
    """

    resamples: int = 2000
    level: float = 0.95
    seed: int = 0

    def draws(self, size: int, stream: int = 0) -> npt.NDArray[np.int64]:
        """Indices drawn with replacement: (R, size). Two streams are independent of each other."""
        return np.random.default_rng([self.seed, stream]).integers(size, size=(self.resamples, size))

    def estimate(self, value: float, drawn_R: npt.NDArray[np.floating]) -> Estimate:
        """A value with the interval of its resamples; those without a value (NaN) are left out."""
        if np.isnan(drawn_R).all():
            return Estimate(value, float("nan"), float("nan"))
        tail = (1 - self.level) / 2
        low, high = np.nanquantile(drawn_R, [tail, 1 - tail])
        return Estimate(value, float(low), float(high))


def mean_over_queries(value_Q: npt.NDArray[np.floating], how: Bootstrap | None = None) -> Estimate:
    """Mean over queries, with the interval over which queries were taken.

    Two figures of the same queries are compared by the mean of their differences: what queries have in common cancels.

    Raises:
        ValueError: there is no query.
    """
    if not len(value_Q):
        raise ValueError("a mean over queries needs one or more")
    how = how or Bootstrap()
    return how.estimate(float(value_Q.mean()), value_Q[how.draws(len(value_Q))].mean(1))


def t_interval(value: float, variances: Sequence[tuple[float, int]], level: float = 0.95) -> Estimate:
    """A mean with the t interval of the sum of its variances, degrees of freedom by Welch and Satterthwaite.

    For few repeats, of which a bootstrap would make too narrow an interval.

    Args:
        variances: of the mean, from each source, and with how many degrees of freedom it is known.
    """
    total = sum(variance for variance, _ in variances)
    if total <= 0:
        return Estimate(value, value, value)
    freedom = total**2 / sum(variance**2 / degrees for variance, degrees in variances)
    half = float(t.ppf((1 + level) / 2, freedom)) * total**0.5
    return Estimate(value, value - half, value + half)
