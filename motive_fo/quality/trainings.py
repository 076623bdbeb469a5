"""Several short trainings from the same weights, and how far each lowers the losses of queries.

Nothing here knows a model: what trains and what measures are given.

Shapes: Q queries, R repeats, K some clips or queries; a leading 2 is [MOTION, ORDINARY].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from motive_fo.progress import Progress, silent
from motive_fo.quality.intervals import Estimate, t_interval

MOTION, ORDINARY = 0, 1
"""Index of the loss: weighted by the query's motion mask, or the ordinary one."""

BASE: Final = "base"
TRAINING: Final = "trial trainings"

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Model = TypeVar("Model")
Train = Callable[[Ints, int], Model]
"""From places of clips and the number of a repeat to a model trained on them, from the same weights every time. The
trainings of one repeat show their clips in the same order at the same noise."""
Losses = Callable[[Model, Ints], Floats]
"""From a model and places of queries to their losses, (2, K), at noise that no training has seen; NaN for a query that
cannot be measured."""


@dataclass(frozen=True)
class Training:
    """One training and what is measured after it.

    Attributes:
        name: of the set.
        half: which half of the queries is measured, ``all`` for both.
        repeat: its number, the seed of the order and noise of its clips.
        clips: places of the clips.
        queries: places of the queries that are measured.
    """

    name: str
    half: str
    repeat: int
    clips: Ints
    queries: Ints

    @property
    def key(self) -> str:
        """Its name among those of one trial."""
        return f"{self.name}, {self.half}, {self.repeat}"


def train_and_measure(
    trainings: Sequence[Training],
    queries: int,
    base: Model,
    train: Train[Model],
    losses: Losses[Model],
    *,
    known: MutableMapping[str, Floats] | None = None,
    keep: Callable[[], None] = lambda: None,
    progress: Progress = silent,
) -> MutableMapping[str, Floats]:
    """Do the trainings: key -> losses (2, K) of the queries that are measured after it, and ``BASE`` before any.

    Two trainings of one repeat on the same clips are one.

    Args:
        base: the model before any training.
        known: what was done before, which is not done again; it is added to.
        keep: called when something was added.
    """
    known = {} if known is None else known
    if BASE not in known:
        known[BASE] = losses(base, np.arange(queries))
        keep()
    done = sum(training.key in known for training in trainings)
    progress(TRAINING, done, len(trainings))
    open_: dict[tuple[int, bytes], list[Training]] = {}
    for training in trainings:
        if training.key not in known:
            open_.setdefault((training.repeat, training.clips.tobytes()), []).append(training)
    for alike in open_.values():
        model = train(alike[0].clips, alike[0].repeat)
        for training in alike:
            known[training.key] = losses(model, training.queries)
        keep()
        done += len(alike)
        progress(TRAINING, done, len(trainings))
    return known


def falls_of(losses: Mapping[str, Floats], trainings: Sequence[Training], queries: int) -> dict[str, Floats]:
    """Set -> fall of every query's losses in percent: (2, Q, R), NaN for a query that is not measured."""
    repeats = 1 + max(training.repeat for training in trainings)
    found: dict[str, Floats] = {}
    for each in trainings:
        fall_2QR = found.setdefault(each.name, np.full((2, queries, repeats), np.nan))
        before_2K = losses[BASE][:, each.queries]
        fall_2QR[:, each.queries, each.repeat] = 100 * (before_2K - losses[each.key]) / before_2K
    return found


def mean_fall(fall_QR: Floats, level: float) -> Estimate:
    """Mean over queries and repeats, with the interval over which ones they are."""
    known_KR = known(fall_QR)
    return t_interval(float(known_KR.mean()), [of_queries(known_KR), of_repeats(known_KR, 0)], level)


def compared(falls: Mapping[str, Floats], one: str, other: str, loss: int, level: float) -> Estimate:
    """Fall of one set minus that of another, paired by query and repeat, in percentage points.

    The interval covers other queries, and for the first set another one that is as different from the rest as the
    repeats of the two are from each other: the second's are random clips.
    """
    ahead_QR = known(falls[one][loss] - falls[other][loss])
    return t_interval(float(ahead_QR.mean()), [of_queries(ahead_QR), of_repeats(ahead_QR, 1)], level)


def known(value_QR: Floats) -> Floats:
    """The rows of queries that were measured."""
    return value_QR[np.isfinite(value_QR).all(1)]


def of_queries(value_QR: Floats) -> tuple[float, int]:
    """Variance of the mean over queries, and its degrees of freedom."""
    return float(value_QR.mean(1).var(ddof=1)) / len(value_QR), len(value_QR) - 1


def of_repeats(value_QR: Floats, another: int) -> tuple[float, int]:
    """Variance of the mean over repeats, with that of another repeat or not, and its degrees of freedom."""
    repeats = value_QR.shape[1]
    return float(value_QR.mean(0).var(ddof=1)) * (another + 1 / repeats), repeats - 1
