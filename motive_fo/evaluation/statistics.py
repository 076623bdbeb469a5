"""Means and differences with intervals, by resampling what is independent of each other.

Clips of one prompt are alike: where prompts repeat (several seeds), prompts are resampled and not clips, or intervals
would be too narrow.

Shapes: N values, G groups, R resamples.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

_AT_ONCE = 2_000_000  # weights drawn at once


@dataclass(frozen=True)
class Interval:
    """A number and the interval it lies in.

    Attributes:
        value: mean or difference.
        low, high: ends of the interval; None where fewer than two independent values, or equal ones, cannot say.
        count: values it is made of.
    """

    value: float
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True)
class Resampling:
    """How intervals are made: number of resamples, level, seed."""

    resamples: int = 10_000
    confidence: float = 0.95
    seed: int = 0


def mean_interval(values: Sequence[float], groups: Sequence[Hashable], how: Resampling) -> Interval | None:
    """Mean with a percentile bootstrap interval over groups; None without values."""
    if not len(values):
        return None
    value = float(np.mean(values))
    drawn_R = _means(values, groups, how, stream=0)
    return Interval(value, *_ends(drawn_R, how), count=len(values))


def share_interval(values: Sequence[float], groups: Sequence[Hashable], how: Resampling) -> Interval | None:
    """Share of ones with Wilson's interval; as many independent cases as there are groups. None without values."""
    if not len(values):
        return None
    share = float(np.mean(values))
    return Interval(share, *wilson(share, len(set(groups)), how.confidence), count=len(values))


def difference_paired(
    first: Sequence[float], second: Sequence[float], groups: Sequence[Hashable], how: Resampling
) -> Interval | None:
    """Mean of first minus second, pair by pair, with a bootstrap interval over groups of pairs."""
    return mean_interval(np.subtract(first, second).tolist(), groups, how)


def difference_unpaired(
    first: Sequence[float],
    first_groups: Sequence[Hashable],
    second: Sequence[float],
    second_groups: Sequence[Hashable],
    how: Resampling,
) -> Interval | None:
    """Mean of first minus mean of second, each resampled by itself."""
    if not len(first) or not len(second):
        return None
    one_R, other_R = _means(first, first_groups, how, stream=0), _means(second, second_groups, how, stream=1)
    drawn_R = None if one_R is None or other_R is None else one_R - other_R
    return Interval(float(np.mean(first) - np.mean(second)), *_ends(drawn_R, how), count=len(first) + len(second))


def wilson(share: float, count: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share among ``count`` independent cases (Wilson, JASA 1927)."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def _means(
    values: Sequence[float], groups: Sequence[Hashable], how: Resampling, stream: int
) -> npt.NDArray[np.float64] | None:
    """Means of R resamples of the groups; None where there is only one group, or all say the same.

    Resampling equal values gives an interval without width, as if nothing else could ever come.
    """
    number = {group: n for n, group in enumerate(dict.fromkeys(groups))}
    count = len(number)
    if count < 2 or len(set(values)) < 2:
        return None
    at_N = np.array([number[group] for group in groups])
    sums_G = np.bincount(at_N, np.asarray(values, np.float64), count)
    sizes_G = np.bincount(at_N, minlength=count).astype(np.float64)
    rng = np.random.default_rng([how.seed, stream])
    means = []
    for start in range(0, how.resamples, at_once := max(1, _AT_ONCE // count)):
        rows = min(at_once, how.resamples - start)
        weights = rng.multinomial(count, np.full(count, 1 / count), size=rows)
        means.append((weights @ sums_G) / (weights @ sizes_G))
    return np.concatenate(means)


def _ends(drawn_R: npt.NDArray[np.float64] | None, how: Resampling) -> tuple[float | None, float | None]:
    if drawn_R is None:
        return None, None
    rest = (1 - how.confidence) / 2
    low, high = np.quantile(drawn_R, [rest, 1 - rest])
    return float(low), float(high)
