"""What would spoil a ranking without a word: clips that fail by the hundred, outlying gradients, scores all alike.

Zero and non-finite gradients, repeated sketches and queries without motion are refused clip by clip where they arise
(``attribution.gradients``, ``pipeline.gradients``, ``pipeline.scoring``). What is here shows over many clips only.

Shapes: N clips, S samples (timestep and noise), Q queries.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from motive_fo.errors import FailureLimitError
from motive_fo.influence.selection import scored_clips
from motive_fo.store.scores import ALIKE
from motive_fo.store.table import Row, Status, Table

#: failures below this number never stop a step. ``Choice:`` so few can be looked at, a share of few says little.
FEWEST_FAILURES: Final = 10
#: robust standard deviations from the median. ``Choice:`` 3.5 is customary for small tables (Iglewicz and Hoaglin); of
#: a million clips it would name hundreds that are as they should be, 5 names about one.
OUTLYING: Final = 5.0
#: spread of log norms that is taken for granted: what differs by less than a quarter is never outlying.
LEAST_SPREAD: Final = 0.05
#: clips below which a median of deviations says little.
FEWEST_CLIPS: Final = 8

_NORMAL: Final = 1.4826  # median absolute deviation to standard deviation


class FailureLimit:
    """Stops a step once more than a share of its clips has failed: most likely it is not the clips.

    Args:
        share: 0 to 1; 1 never stops.
        clips: ids of all clips of the step.
        before: code of each clip that failed earlier and is not computed again.
    """

    def __init__(self, share: float, clips: Sequence[str], before: Iterable[str] = ()) -> None:
        self._clips, self._share = len(clips), share
        self._codes = Counter(before)
        self._seen: set[str] = set()

    @classmethod
    def of(cls, share: float, clips: Sequence[str], todo: Iterable[str], tables: Iterable[Table]) -> FailureLimit:
        """With what failed before, from the tables; those ``todo`` get another chance."""
        again = set(todo)
        codes: dict[str, str] = {}
        for table in tables:
            failed = [c for c in clips if c not in again and table.status(c) == Status.FAILED]
            codes |= dict(zip(failed, map(str, table.read("code", failed)), strict=True))
        return cls(share, clips, codes.values())

    def check(self, step: str) -> None:
        """Raise ``FailureLimitError`` where the limit is passed."""
        failed = self._codes.total()
        if failed < FEWEST_FAILURES or failed <= self._share * self._clips:
            return
        most = ", ".join(f"{count} {code}" for code, count in self._codes.most_common(3))
        raise FailureLimitError(
            f"{step} stopped: {failed} of {self._clips} clips failed, more than the share of {self._share:g} that is "
            f"allowed ({most}). What was computed is kept; find the cause (motive doctor), then run the step again, "
            "with --max-failed 1 to go on whatever fails, and --retry-failed to try the failed clips again"
        )

    def count(self, step: str, row: Row) -> None:
        """Take note of a finished row. Raises ``FailureLimitError`` where it passes the limit."""
        if row.status == Status.FAILED and row.id not in self._seen:
            self._seen.add(row.id)
            self._codes[row.code] += 1
            self.check(step)


@dataclass(frozen=True)
class Outlier:
    """A clip with a gradient of outlying length: how many times the median length it is, at the sample where it is
    furthest out."""

    id: str
    times: float


def outlying_gradients(ids: Sequence[str], norm_NS2: npt.NDArray[np.floating]) -> list[Outlier]:
    """Clips whose gradient is much longer or shorter than the others', the furthest out first.

    Log norms, each sample and mask side by itself: outlying is what lies more than ``OUTLYING`` robust standard
    deviations (1.4826 median absolute deviations) from the median. A cosine does not see length, but such a clip is
    seldom what it should be, and it weighs in means over clips.

    Args:
        norm_NS2: gradient norms; NaN where there is none.
    """
    if len(ids) < FEWEST_CLIPS:
        return []
    log_NS2 = np.log(np.where(norm_NS2 > 0, norm_NS2, np.nan).astype(np.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a side that no clip has
        away_NS2 = log_NS2 - np.nanmedian(log_NS2, axis=0)
        spread_S2 = np.maximum(_NORMAL * np.nanmedian(np.abs(away_NS2), axis=0), LEAST_SPREAD)
    far_NK = np.nan_to_num(away_NS2 / spread_S2).reshape(len(ids), -1)
    furthest_N = np.abs(far_NK).argmax(1)
    found = [n for n in range(len(ids)) if abs(far_NK[n, furthest_N[n]]) > OUTLYING]
    found.sort(key=lambda n: -abs(far_NK[n, furthest_N[n]]))
    away_NK = away_NS2.reshape(len(ids), -1)
    return [Outlier(ids[n], float(np.exp(away_NK[n, furthest_N[n]]))) for n in found]


def outlier_sentence(found: Sequence[Outlier], clips: int) -> str:
    """The outliers in one sentence with a way out."""
    shown = ", ".join(f"{outlier.id} ({outlier.times:.2g} times the median)" for outlier in found[:5])
    rest = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return (
        f"{len(found)} of {clips} clips have a gradient of outlying length: {shown}{rest}. Look at them (field "
        "gradient_norm): a blank, damaged or mislabelled clip looks like this; delete what does not belong"
    )


class ScoreSpread:
    """Which of Q queries give all scored clips the same score, so that their order says nothing; block by block."""

    def __init__(self, queries: int) -> None:
        self._low, self._high = np.full(queries, np.inf), np.full(queries, -np.inf)
        self._clips = 0

    def add(self, scores_QB: npt.NDArray[np.floating]) -> None:
        """The scores of B more clips; those without a score for every query are not counted."""
        if self._clips > 1 and not self.alike_Q.any():
            return  # more clips only spread further
        known_QK = scores_QB[:, scored_clips(scores_QB)]
        self._clips += known_QK.shape[1]
        self._low = np.minimum(self._low, known_QK.min(1, initial=np.inf))
        self._high = np.maximum(self._high, known_QK.max(1, initial=-np.inf))

    @property
    def alike_Q(self) -> npt.NDArray[np.bool_]:
        """bool (Q,); none where there is one scored clip or none, which leaves nothing to compare."""
        if self._clips < 2:
            return np.zeros(len(self._low), np.bool_)
        return np.asarray(self._high - self._low <= ALIKE)
