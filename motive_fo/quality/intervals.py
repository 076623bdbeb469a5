"""Bootstrap intervals: how far a figure would move with other queries, or other queries and other subsets.

The same seed always gives the same interval.

Shapes: Q queries, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Estimate:
    """A figure with its percentile interval.

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
