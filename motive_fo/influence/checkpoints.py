"""Influence over several checkpoints of one training: the weighted mean of what each says.

TracIn (Pruthi et al. 2020) sums the products of gradients over checkpoints, each with the learning rate that was in
force; LESS (Xia et al. 2024) sums cosines in the same way. ``Choice:`` the cosines, divided by the sum of weights, so
that scores keep their scale and self-influence stays 1.

Shapes: C checkpoints, Q queries, N training clips.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from motive_fo.errors import ConfigError


def checkpoint_weights(texts: Sequence[str]) -> dict[str, float]:
    """Read ``RUN=WEIGHT``: run -> weight, in the order given. Raises ``ConfigError``."""
    weights: dict[str, float] = {}
    for text in texts:
        run, _, number = (part.strip() for part in text.partition("="))
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not run or not (math.isfinite(weight) and weight > 0):
            raise ConfigError(
                f"influence.checkpoints: {text!r}: a checkpoint reads RUN=WEIGHT, with a weight above 0: late=0.5"
            )
        if run in weights:
            raise ConfigError(f"influence.checkpoints: run {run!r} is named twice: give it one weight")
        weights[run] = weight
    return weights


def weighted_mean(scores: Sequence[npt.NDArray[np.float32]], weights: Sequence[float]) -> npt.NDArray[np.float32]:
    """Mean of C arrays of scores by weight, summed in float64; the very array where there is one. NaN where one is."""
    if len(scores) == 1:
        return scores[0]
    total = math.fsum(weights)
    summed = sum(each.astype(np.float64) * (weight / total) for each, weight in zip(scores, weights, strict=True))
    return np.asarray(summed, np.float32)


def unlike_model(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether two identities of models are of different weights of the same kind of model.

    ``name`` and ``objective`` say the kind; everything else may differ between checkpoints.
    """
    kind = ("name", "objective")
    return one != other and all(one.get(key) == other.get(key) for key in kind)
