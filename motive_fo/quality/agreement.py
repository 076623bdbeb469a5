"""Do scores rank clips as their measured effect on the queries does? Spearman's correlation, query by query.

Shapes: Q queries, N clips, R noises (one measurement each), B bootstrap draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from motive_fo.quality.intervals import Bootstrap, Estimate
from motive_fo.quality.lds import spearman


@dataclass(frozen=True)
class Agreement:
    """How well scores agree with what was measured.

    Attributes:
        by_score: name -> mean over queries of Spearman's correlation, with its interval over queries and clips.
        ahead: name -> the first score's correlation minus this one's, over the same draws.
        ceiling: what a perfect score would reach against measurements with this much noise.
    """

    by_score: Mapping[str, Estimate]
    ahead: Mapping[str, Estimate]
    ceiling: float


def agreement(
    scores: Mapping[str, npt.NDArray[np.floating]], effect_QNR: npt.NDArray[np.float64], how: Bootstrap
) -> Agreement:
    """Compare scores with measured effects.

    Args:
        scores: name -> (Q, N), higher should mean a larger effect; NaN is below all numbers of its query.
        effect_QNR: measured, such as the fall of a query's loss; two or more noises.

    Raises:
        ValueError: shapes differ, there are fewer than three clips, or an effect is not finite.
    """
    queries, clips, _ = effect_QNR.shape
    if clips < 3 or any(each.shape != (queries, clips) for each in scores.values()):
        raise ValueError(f"scores of {queries} queries and {clips} clips, three or more, are needed")
    if not np.isfinite(effect_QNR).all():
        raise ValueError("an effect is not finite: leave out the clip whose measurement failed")
    known = {name: _lowest_for_nan(each) for name, each in scores.items()}
    mean_QN = effect_QNR.mean(2)
    drawn_B: dict[str, list[float]] = {name: [] for name in known}
    for some_Q, some_N in zip(how.draws(queries, 0), how.draws(clips, 1), strict=True):
        effect = mean_QN[some_Q][:, some_N]
        for name, score_QN in known.items():
            drawn_B[name].append(float(spearman(score_QN[some_Q][:, some_N], effect).mean()))
    value = {name: float(spearman(score_QN, mean_QN).mean()) for name, score_QN in known.items()}
    first = next(iter(known))
    draws = {name: np.asarray(each) for name, each in drawn_B.items()}
    return Agreement(
        {name: how.estimate(value[name], draws[name]) for name in known},
        {name: how.estimate(value[first] - value[name], draws[first] - draws[name]) for name in known if name != first},
        _ceiling(effect_QNR),
    )


def _ceiling(effect_QNR: npt.NDArray[np.float64]) -> float:
    """Correlation of the expected effects with the mean over R noises: as ``lds.noise_ceiling``.

    ``Choice:`` from the mean reliability of all queries. Each query's own is a guess at this few clips, and guesses
    below zero, cut off there, would make a ceiling of effects that are noise alone.
    """
    noises = effect_QNR.shape[2]
    pairs = [(a, b) for a in range(noises) for b in range(a)]
    alike = float(np.mean([spearman(effect_QNR[:, :, a], effect_QNR[:, :, b]).mean() for a, b in pairs]))
    alike = max(alike, 0.0)
    return math.sqrt(noises * alike / (1 + (noises - 1) * alike))


def _lowest_for_nan(score_QN: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    wide = score_QN.astype(np.float64)
    known = np.isfinite(wide)
    floor_Q1 = np.where(known, wide, np.inf).min(1, keepdims=True)
    return np.where(known, wide, np.where(np.isfinite(floor_Q1), floor_Q1 - 1, 0.0))
