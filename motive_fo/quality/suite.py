"""What can be said of a run's scores: figures of retrieval and of training steps, and what they show, in words.

Shapes: Q queries, N clips, R noises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from motive_fo.quality.agreement import agreement
from motive_fo.quality.controls import PERMUTED, RANDOM
from motive_fo.quality.intervals import Bootstrap, Estimate, mean_over_queries
from motive_fo.quality.retrieval import Retrieval, attainable, chance, retrieval
from motive_fo.quality.trial import TrialQuality, Verdict

MOTION: Final = "motion influence"
WHOLE: Final = "whole-clip influence"
CHANCE: Final = "chance"
ATTAINABLE: Final = "attainable"
_NO_RIVALS: Final = (MOTION, WHOLE, RANDOM, PERMUTED, CHANCE, ATTAINABLE)
_NOISY: Final = 0.3  # ceiling below which falls are mostly noise
#: queries below which a bootstrap interval is too narrow: with 9, random scores are called above chance in 5 % of
#: trials, with 3 in 12 %, where 2.5 % would be right (measured, 400 trials of 110 clips in six kinds).
_ENOUGH_QUERIES: Final = 20

Scores = Mapping[str, npt.NDArray[np.floating]]


@dataclass(frozen=True)
class RetrievalQuality:
    """Do scores find clips of a query's own kind?

    Attributes:
        by: field that says what kind a clip is.
        queries, clips: that were compared.
        kinds: labels among these clips.
        left_out: why -> queries or clips that could not take part.
        by_score: score -> figure -> mean over queries with its interval; ``chance`` and ``attainable`` are rows too.
        above_chance: score -> NDCG@20 minus its value by chance.
        ahead: other score -> NDCG@20 of the motion influence minus its.
    """

    by: str
    queries: int
    clips: int
    kinds: int
    left_out: Mapping[str, int]
    by_score: Mapping[str, Mapping[str, Estimate]]
    above_chance: Mapping[str, Estimate]
    ahead: Mapping[str, Estimate]


@dataclass(frozen=True)
class TrainingQuality:
    """Does a step of training on a clip help the queries as its score says?

    Attributes:
        queries, clips: that were measured.
        failed: clip id -> why no step could be taken on it.
        helped: share of (query, clip) pairs whose loss fell.
        by_score: score -> mean over queries of Spearman's correlation of scores with falls of the loss, with its
            interval over queries and clips.
        ahead: other score -> correlation of the motion influence minus its.
        ceiling: correlation of a perfect score with falls measured at this much noise.
    """

    queries: int
    clips: int
    failed: Mapping[str, str]
    helped: float
    by_score: Mapping[str, Estimate]
    ahead: Mapping[str, Estimate]
    ceiling: float


def retrieval_quality(
    scores: Scores, relevant_QN: npt.NDArray[np.bool_], how: Bootstrap, *, by: str, kinds: int, left_out: dict[str, int]
) -> RetrievalQuality:
    """Figures of every score; the first is compared with the others.

    Args:
        scores: name -> (Q, N), higher is better.
        relevant_QN: which clips are of the query's kind; every query has some and some that are not.
    """
    found = {name: retrieval(each, relevant_QN) for name, each in scores.items()}
    found |= {CHANCE: chance(relevant_QN), ATTAINABLE: attainable(relevant_QN)}
    first = next(iter(scores))
    return RetrievalQuality(
        by=by,
        queries=len(relevant_QN),
        clips=relevant_QN.shape[1],
        kinds=kinds,
        left_out=left_out,
        by_score={
            name: {figure: mean_over_queries(each.of(figure), how) for figure in Retrieval.names()}
            for name, each in found.items()
        },
        above_chance={
            name: mean_over_queries(found[name].ndcg_20 - found[CHANCE].ndcg_20, how) for name in [*scores, ATTAINABLE]
        },
        ahead={
            name: mean_over_queries(found[first].ndcg_20 - found[name].ndcg_20, how) for name in scores if name != first
        },
    )


def training_quality(
    scores: Scores, fall_QNR: npt.NDArray[np.float64], how: Bootstrap, *, failed: dict[str, str]
) -> TrainingQuality:
    """Agreement of every score with measured falls of the loss; the first is compared with the others."""
    found = agreement(scores, fall_QNR, how)
    return TrainingQuality(
        queries=fall_QNR.shape[0],
        clips=fall_QNR.shape[1],
        failed=failed,
        helped=float((fall_QNR.mean(2) > 0).mean()),
        by_score=found.by_score,
        ahead=found.ahead,
        ceiling=found.ceiling,
    )


def retrieval_findings(found: RetrievalQuality) -> list[str]:
    """What retrieval shows of the motion influence, and what it does not."""
    over = found.above_chance[MOTION]
    text = f"Retrieval by {found.by!r}: "
    if over.low > 0:
        text += f"the scores find clips of a query's own kind: NDCG@20 is {said(over)} above chance."
    elif over.high < 0:
        text += f"the scores put clips of other kinds first: NDCG@20 is {said(over)} against chance."
    else:
        text += f"not shown to be above chance: NDCG@20 differs from it by {said(over)}."
    few = f"With {found.queries} queries intervals of retrieval are too narrow: {_ENOUGH_QUERIES} or more are better."
    return [
        text,
        *([few] if found.queries < _ENOUGH_QUERIES else []),
        *_rivals(found.ahead),
        "It says whether scores see what the labels tell apart, not whether training on these clips helps.",
    ]


def training_findings(found: TrainingQuality) -> list[str]:
    """What steps show of the motion influence, and what they do not."""
    agrees = found.by_score[MOTION]
    text = f"One step on each of {found.clips} clips: "
    if agrees.low > 0:
        text += f"clips with higher scores lower the losses of {found.queries} queries more, Spearman {said(agrees)}."
    elif agrees.high < 0:
        text += f"clips with higher scores lower the losses of {found.queries} queries less, Spearman {said(agrees)}."
    else:
        text += (
            f"the scores are not shown to say which lowers the losses of {found.queries} queries more, "
            f"Spearman {said(agrees)}."
        )
    noisy = [
        f"The falls hardly repeat from one draw of noise to another (a perfect score would reach {found.ceiling:.2f}): "
        "take more draws before reading anything into this."
    ]
    return [
        text,
        *(noisy if found.ceiling < _NOISY else []),
        *_rivals(found.ahead),
        "It says what one step from the model's present weights does, not what fine-tuning on a selection does.",
    ]


_LEADS: Final[Mapping[Verdict, str]] = {
    "use it": "Use it: {steps} steps on the selection lower the motion loss of queries that did not choose it by "
    "{gain} percentage points more than as many on random clips.",
    "do not": "Do not: {steps} steps on the selection lower the motion loss of queries that did not choose it by "
    "{gain} percentage points more than as many on random clips, and {reason}.",
    "take more draws": "Take more draws: {steps} steps on the selection are not shown to be better or worse than as "
    "many on random clips for queries that did not choose it: {gain} percentage points of their motion loss.",
}


def trial_findings(found: TrialQuality) -> list[str]:
    """The verdict of a trial in one sentence, and what it rests on."""
    worse = found.gain.high < 0
    reason = "that is less" if worse else "what other queries choose helps them more than their own kind's choice"
    lead = _LEADS[found.verdict].format(steps=found.steps, gain=said(found.gain), reason=reason)
    return [
        lead,
        f"On the ordinary loss: {said(found.ordinary_gain)} percentage points against random clips.",
        _answers(found),
        f"It says what {found.steps} steps do, not what a whole fine-tuning does; another {found.repeats} repeats "
        "narrow the interval, more queries too.",
    ]


def _answers(found: TrialQuality) -> str:
    """Whether a choice helps those who chose more than others."""
    if found.own is None:
        return (
            "Whether the ranking answers to these queries more than to any others is not told: that takes queries of "
            "two kinds or groups, four of each or more."
        )
    sides = " | ".join(", ".join(side) for side in found.kinds)
    told = f"{said(found.own)} percentage points ({sides})"
    if found.own.low > 0:
        return f"It answers to its queries: their own kind's choice is ahead of other queries' by {told}."
    if found.own.high < 0:
        return f"It does not answer to its queries: their own kind's choice is behind other queries' by {told}."
    return f"It is not shown to answer to its queries more than to others: own kind minus other queries, {told}."


def said(estimate: Estimate) -> str:
    """A figure with its interval."""
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def _rivals(ahead: Mapping[str, Estimate]) -> list[str]:
    """How the scores stand against what needs no model."""
    rivals = {name: each for name, each in ahead.items() if name not in _NO_RIVALS}
    better = [name for name, each in rivals.items() if each.low > 0]
    worse = [name for name, each in rivals.items() if each.high < 0]
    open_ = [name for name in rivals if name not in (*better, *worse)]
    parts = [
        (f"better than {', '.join(better)}", better),
        (f"not shown to be better or worse than {', '.join(open_)}", open_),
        (f"worse than {', '.join(worse)}", worse),
    ]
    told = "; ".join(text for text, names in parts if names)
    return [f"Against scores that need no model: {told}."] if told else []
