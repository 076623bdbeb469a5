"""Is a ranking worth training on? A few steps on the selection, on random clips, and on what other queries choose.

Half of the queries choose, the other half is measured, and the other way round: no query is measured after a training
on clips that it chose itself. Beside the selection, as many random clips are trained on, other ones in every repeat;
and where queries are of several kinds, what the choosing queries of some kinds choose is measured on those of the other
kinds (*other queries*), and on their own (*own kind*). All trainings begin from the same weights and take as many
steps; those of one repeat show their clips in the same order at the same noise. What is measured is the fall of the
motion-weighted loss, in percent of what it was before, at noise that no gradient was taken with.

The verdict. This rule was written down before it was tried on any data, and is not tuned:

* the *gain* is the selection's fall minus that of random clips, its mean over queries and repeats, with a 95 % interval
  that covers other queries, and *other random clips in the selection's place*: a selection has to be ahead by more than
  random clips differ among themselves. Otherwise any set that happens to be a good one would be recommended;
* **use it**: the gain's interval lies above zero, and other queries' choice is not shown to be better than own kind's;
* **do not**: the gain's interval lies below zero, or other queries' choice is shown to be better;
* **take more draws**: all else.

``Choice:`` a trial trains as the benchmark's whole trainings do, 40 steps in which a set is passed four times. Trials
of 10 steps at a smaller learning rate saw only how any clips at all settle a model in: on choosing pools, where whole
trainings of the selection gain 3 to 5 points over random ones, they measured -1 to +1.

Shapes: Q queries, N clips, R repeats, K some of them; a leading 2 is [MOTION, ORDINARY].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from motive_fo.influence.selection import Rows, budget_count, rank_clips
from motive_fo.progress import Progress, silent
from motive_fo.quality.intervals import Estimate, t_interval
from motive_fo.quality.trainings import (
    MOTION,
    ORDINARY,
    Floats,
    Ints,
    Losses,
    Model,
    Train,
    Training,
    compared,
    falls_of,
    known,
    mean_fall,
    of_queries,
    train_and_measure,
)

SELECTION: Final = "selection"
RANDOM: Final = "random clips"
OWN: Final = "own kind's choice"
OTHERS: Final = "other queries' choice"
FEWEST: Final = 4
"""Queries of a half: fewer say nothing of others."""
_FEWEST_OF_KINDS: Final = 4  # queries of either side of the kinds, two in each half
MOST: Final = 16
"""Clips of a step, where nothing is said."""
_PASSES: Final = 4

Verdict = Literal["use it", "take more draws", "do not"]
Choose = Callable[[Sequence[int]], Sequence[int]]
"""From some queries to the clips that they choose, the best first."""


@dataclass(frozen=True)
class TrialDesign:
    """What is trained, how often.

    Attributes:
        share: of the clips that is selected, the budget.
        steps: of every training.
        batch: clips of a step; None for as many as pass the set four times, ``MOST`` at most. Of a set of more than
            ``steps * batch`` clips each repeat trains on so many, drawn at random.
        repeats: trainings of each set, with other random clips and another seed each; 3 or more.
        seed: of the halves, the random clips and what is drawn of large sets.
        level: of the intervals.
    """

    share: float = 0.1
    steps: int = 40
    batch: int | None = None
    repeats: int = 8
    seed: int = 0
    level: float = 0.95

    def batch_of(self, clips: int) -> int:
        """Clips of a step in trainings on a set of so many."""
        return min(MOST, -(-_PASSES * clips // self.steps)) if self.batch is None else self.batch


@dataclass(frozen=True)
class TrialQuality:
    """What a trial found. Falls are in percent of the loss before training, differences in percentage points.

    Attributes:
        queries, clips: measured queries, and clips that were chosen from.
        chosen, shown: clips of a selection, and how many of them a training shows.
        steps, repeats: of a training, and trainings of each set.
        kinds: the two sides that kinds of queries were divided into; empty where there was no such control.
        falls: set -> fall of the motion-weighted loss.
        ordinary: set -> fall of the ordinary loss.
        gain: of the selection over random clips, motion-weighted loss.
        ordinary_gain: the same of the ordinary loss.
        own: own kind's choice minus other queries', motion-weighted loss; None without kinds.
        verdict: by the rule above.
    """

    queries: int
    clips: int
    chosen: int
    shown: int
    steps: int
    repeats: int
    kinds: Sequence[Sequence[str]]
    falls: Mapping[str, Estimate]
    ordinary: Mapping[str, Estimate]
    gain: Estimate
    ordinary_gain: Estimate
    own: Estimate | None
    verdict: Verdict


@dataclass(frozen=True)
class TrialPlan:
    """All trainings of a trial.

    Attributes:
        trainings: in the order in which they are done, repeat by repeat.
        batch: clips of a step.
        queries, clips, chosen, shown: as in ``TrialQuality``.
        side_Q: side of each query's kind, 0 or 1, or -1 for none.
        kinds: labels of the two sides; empty where there is no such control.
    """

    trainings: Sequence[Training]
    batch: int
    queries: int
    clips: int
    chosen: int
    shown: int
    side_Q: Ints
    kinds: Sequence[Sequence[str]] = field(default=())


def trial(
    scores_QN: Rows,
    base: Model,
    train: Train[Model],
    losses: Losses[Model],
    design: TrialDesign | None = None,
    *,
    kinds: Sequence[str | None] = (),
    progress: Progress = silent,
) -> TrialQuality:
    """Try a ranking by votes: plan, train, measure, judge.

    Args:
        scores_QN: influence of every clip on every query, finite.
        base: the model before any training.
        train, losses: see ``quality.trainings``; the losses at noise that no score has seen either.
        kinds: of the queries, None for one without; none at all where empty.

    Raises:
        ValueError: fewer than 2 * ``FEWEST`` queries, or fewer than 3 repeats.
    """
    design = design or TrialDesign()
    plan = plan_trial(len(scores_QN), scores_QN.shape[1], by_votes(scores_QN, design.share), design, kinds)
    losses_of = train_and_measure(plan.trainings, plan.queries, base, train, losses, progress=progress)
    return judged(plan, falls_of(losses_of, plan.trainings, plan.queries), design)


def by_votes(scores_QN: Rows, share: float) -> Choose:
    """The choice that some queries make: the ceil(share * N) clips with most of their votes."""
    ids = [f"{n:012d}" for n in range(scores_QN.shape[1])]

    def choose(some_Q: Sequence[int]) -> Sequence[int]:
        ranking = rank_clips(np.stack([np.asarray(scores_QN[q]) for q in some_Q]), ids, share)
        return [int(clip) for clip in ranking.by_votes[: budget_count(share, len(ranking.ids))]]

    return choose


# -- the plan ----------------------------------------------------------------------------------------------------------


def plan_trial(
    queries: int, clips: int, choose: Choose, design: TrialDesign, kinds: Sequence[str | None] = ()
) -> TrialPlan:
    """Which trainings a trial takes.

    Args:
        queries, clips: how many there are.
        choose: the choice of some of the queries.
        kinds: as for ``trial``.

    Raises:
        ValueError: too few queries or repeats, or queries that choose nothing.
    """
    if queries < 2 * FEWEST:
        raise ValueError(f"{queries} queries: {2 * FEWEST} or more are needed, half to choose and half to be measured")
    if design.repeats < 3:
        raise ValueError(f"{design.repeats} repeats: three or more are needed to see how far random clips differ")
    kinds = kinds or [None] * queries
    sides = two_sides(kinds)
    side_Q = np.asarray([next((n for n, side in enumerate(sides) if kind in side), -1) for kind in kinds], np.int64)
    half_Q = halves(kinds, design.seed)
    sets: list[tuple[str, str, Sequence[int], Ints]] = []
    for measured in (0, 1):
        name, here_Q = "ab"[measured], half_Q == measured
        sets.append((SELECTION, name, choose(np.flatnonzero(~here_Q).tolist()), np.flatnonzero(here_Q)))
        for side in range(len(sides)):
            chosen = choose(np.flatnonzero(~here_Q & (side_Q == side)).tolist())
            for row, of in ((OWN, side), (OTHERS, 1 - side)):
                sets.append((row, f"{name}{of}", chosen, np.flatnonzero(here_Q & (side_Q == of))))
    count = min(len(chosen) for _, _, chosen, _ in sets)
    if not count:
        raise ValueError("half of the queries choose no clip: nothing can be trained on")
    batch = design.batch_of(count)
    shown = min(count, design.steps * batch)
    made: list[Training] = []
    for repeat in range(design.repeats):
        rng = np.random.default_rng([design.seed, 11, repeat])
        some_K = np.sort(rng.permutation(count)[:shown])
        lot = rng.permutation(clips)[:shown]
        made.append(Training(RANDOM, "all", repeat, np.sort(lot), np.arange(queries)))
        made += [
            Training(row, name, repeat, np.asarray(chosen, np.int64)[some_K], measured_K)
            for row, name, chosen, measured_K in sets
        ]
    return TrialPlan(made, batch, queries, clips, count, shown, side_Q, sides)


def halves(kinds: Sequence[Hashable], seed: int) -> Ints:
    """Half of each query, 0 or 1: of every kind as many in either, to one."""
    drawn = np.random.default_rng([seed, 7]).permutation(len(kinds))
    order = sorted(drawn.tolist(), key=lambda q: str(kinds[q]))  # stable: at random within a kind
    half_Q = np.zeros(len(kinds), np.int64)
    half_Q[order[1::2]] = 1
    return half_Q


def two_sides(kinds: Sequence[str | None]) -> list[list[str]]:
    """The kinds of queries in two sides of about as many queries; none where one side would have too few."""
    sides: list[list[str]] = [[], []]
    sizes = [0, 0]
    counts = Counter(kind for kind in kinds if kind is not None)
    for kind, count in sorted(counts.items(), key=lambda each: (-each[1], each[0])):
        least = sizes.index(min(sizes))
        sides[least].append(kind)
        sizes[least] += count
    return sides if min(sizes) >= _FEWEST_OF_KINDS else []


# -- what it shows -----------------------------------------------------------------------------------------------------


def judged(plan: TrialPlan, falls: Mapping[str, Floats], design: TrialDesign) -> TrialQuality:
    """What the falls of a plan's trainings show."""
    gain, ordinary = (compared(falls, SELECTION, RANDOM, loss, design.level) for loss in (MOTION, ORDINARY))
    own = _own(falls, plan.side_Q, design.level) if plan.kinds else None
    return TrialQuality(
        queries=int(np.isfinite(falls[SELECTION][MOTION]).all(1).sum()),
        clips=plan.clips,
        chosen=plan.chosen,
        shown=plan.shown,
        steps=design.steps,
        repeats=design.repeats,
        kinds=plan.kinds,
        falls={name: mean_fall(fall[MOTION], design.level) for name, fall in falls.items()},
        ordinary={name: mean_fall(fall[ORDINARY], design.level) for name, fall in falls.items()},
        gain=gain,
        ordinary_gain=ordinary,
        own=own,
        verdict=verdict_of(gain, own),
    )


def verdict_of(gain: Estimate, own: Estimate | None) -> Verdict:
    """By the rule of this module."""
    if gain.high < 0 or (own is not None and own.high < 0):
        return "do not"
    return "use it" if gain.low > 0 else "take more draws"


def _own(falls: Mapping[str, Floats], side_Q: Ints, level: float) -> Estimate:
    """Own kind's choice minus other queries', where both sides count the same.

    What two sets are to one side more than to the other differs by chance too: how far, random clips tell. Halved, as
    each side is measured after both sets.
    """
    ahead_QR = falls[OWN][MOTION] - falls[OTHERS][MOTION]
    random_QR = falls[RANDOM][MOTION]
    sides = [known(ahead_QR[side_Q == side]) for side in (0, 1)]
    variances = [of_queries(each) for each in sides]
    suits_R = known(random_QR[side_Q == 0]).mean(0) - known(random_QR[side_Q == 1]).mean(0)
    chance = (float(suits_R.var(ddof=1)) / 2, len(suits_R) - 1)
    return t_interval(
        float(np.mean([each.mean() for each in sides])), [*((v / 4, f) for v, f in variances), chance], level
    )
