"""Linear datamodeling score: do influences predict what training on a subset does? (Park et al. 2023, TRAK.)

Subsets of the corpus are drawn, the model is trained on each, and its loss on each query is measured. The influence of
a subset is predicted as the sum of its clips'; the score of a query is Spearman's correlation, over subsets, of the
prediction with the measured fall of the loss. Training has noise of its own (order of batches, noise draws): seeds that
disagree with each other cannot be predicted, which sets the ceiling.

Nothing here trains: losses are given.

Shapes: Q queries, N clips, M subsets, R seeds of one subset's training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from motive_fo.influence.selection import budget_count
from motive_fo.quality.intervals import Bootstrap, Estimate


@dataclass(frozen=True)
class Predictivity:
    """A linear datamodeling score.

    Attributes:
        lds: mean over queries of Spearman's correlation, -1 to 1, with its interval over queries and subsets.
        lds_Q: each query's.
        ceiling: mean over queries of what a perfect predictor of the expected loss would reach against losses with
            this much noise; None with one seed.
        ceiling_Q: each query's; None with one seed.
    """

    lds: Estimate
    lds_Q: npt.NDArray[np.float64]
    ceiling: float | None
    ceiling_Q: npt.NDArray[np.float64] | None


def draw_subsets(
    clips: int, subsets: int, share: float, seed: int, group_N: npt.NDArray[np.integer] | None = None
) -> npt.NDArray[np.bool_]:
    """Random subsets of ceil(share x N) clips each: bool (M, N). Subset m depends on the seed, m and the groups alone.

    Args:
        group_N: kind of each clip, to be matched: every subset then has the same number of each kind, as near to its
            share as whole clips allow. ``Choice:`` where subsets differ in their mix of kinds, telling the kinds
            apart predicts the losses well, and a description of the clips does that as well as an attribution.

    Raises:
        ValueError: the subsets could not differ.
    """
    size = budget_count(share, clips)
    if not 0 < size < clips:
        raise ValueError(f"subsets of {size} of {clips} clips cannot differ: use another share or more clips")
    of_G = [np.arange(clips)] if group_N is None else [np.flatnonzero(group_N == g) for g in np.unique(group_N)]
    taken_G = _quotas(size, np.asarray([len(of) for of in of_G]))
    if all(taken in (0, len(of)) for taken, of in zip(taken_G, of_G, strict=True)):
        raise ValueError("every kind is in all of the subsets or in none: use another share or more clips of each kind")
    member_MN = np.zeros((subsets, clips), np.bool_)
    for m in range(subsets):
        rng = np.random.default_rng([seed, m])
        for taken, of in zip(taken_G, of_G, strict=True):
            member_MN[m, of[rng.choice(len(of), taken, replace=False)]] = True
    return member_MN


def _quotas(size: int, count_G: npt.NDArray[np.integer]) -> list[int]:
    """So many of each group, in sum ``size``: its share rounded down, what is left to the largest remainders."""
    share_G = size * count_G / count_G.sum()
    taken_G = np.floor(share_G).astype(int)
    taken_G[np.argsort(taken_G - share_G, kind="stable")[: size - taken_G.sum()]] += 1
    return [int(taken) for taken in taken_G]


def predicted(scores_QN: npt.NDArray[np.floating], member_MN: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Influence of every subset on every query, the sum of its clips': float64 (Q, M).

    Raises:
        ValueError: a clip of a subset has no score: leave it out of the subsets.
    """
    missing = ~np.isfinite(scores_QN).all(0) & member_MN.any(0)
    if missing.any():
        raise ValueError(
            f"{int(missing.sum())} clips of the subsets have no score for every query: draw subsets of scored clips"
        )
    return np.where(member_MN.any(0), scores_QN, 0).astype(np.float64) @ member_MN.T


def lds(
    scores_QN: npt.NDArray[np.floating],
    member_MN: npt.NDArray[np.bool_],
    loss_QMR: npt.NDArray[np.floating],
    how: Bootstrap | None = None,
) -> Predictivity:
    """How well scores predict losses after training.

    Args:
        scores_QN: influence, higher helps more (lowers the loss more).
        member_MN: which clips are in which subset.
        loss_QMR: loss on each query after training on each subset, one for each seed.
        how: the bootstrap; queries and subsets are drawn apart, and together.

    Raises:
        ValueError: shapes do not fit, fewer than three subsets, a loss is not finite, or a clip has no score.
    """
    how = how or Bootstrap()
    lds_Q, drawn_R = _lds(scores_QN, member_MN, loss_QMR, how)
    ceiling_Q = noise_ceiling(loss_QMR) if loss_QMR.shape[2] > 1 else None
    return Predictivity(
        how.estimate(float(lds_Q.mean()), drawn_R),
        lds_Q,
        None if ceiling_Q is None else float(ceiling_Q.mean()),
        ceiling_Q,
    )


def lds_gain(
    scores_QN: npt.NDArray[np.floating],
    other_QN: npt.NDArray[np.floating],
    member_MN: npt.NDArray[np.bool_],
    loss_QMR: npt.NDArray[np.floating],
    how: Bootstrap | None = None,
) -> Estimate:
    """How much better one score predicts than another: the difference of their ``lds``, drawn together.

    What queries and subsets have in common cancels: the interval is narrower than those of the two suggest.

    Raises:
        ValueError: as ``lds``.
    """
    how = how or Bootstrap()
    (one_Q, one_R), (other_Q, other_R) = (_lds(each, member_MN, loss_QMR, how) for each in (scores_QN, other_QN))
    return how.estimate(float((one_Q - other_Q).mean()), one_R - other_R)


def _lds(
    scores_QN: npt.NDArray[np.floating],
    member_MN: npt.NDArray[np.bool_],
    loss_QMR: npt.NDArray[np.floating],
    how: Bootstrap,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Each query's correlation (Q,), and the mean over queries of every resample (R,)."""
    _require(scores_QN, member_MN, loss_QMR)
    predicted_QM = predicted(scores_QN, member_MN)
    fall_QM = -loss_QMR.mean(2, dtype=np.float64)
    queries, subsets = fall_QM.shape
    drawn_R = np.empty(how.resamples)
    picks = zip(how.draws(queries, 0), how.draws(subsets, 1), strict=True)
    for r, (some_Q, some_M) in enumerate(picks):
        drawn_R[r] = spearman(predicted_QM[some_Q][:, some_M], fall_QM[some_Q][:, some_M]).mean()
    return spearman(predicted_QM, fall_QM), drawn_R


def _require(
    scores_QN: npt.NDArray[np.floating], member_MN: npt.NDArray[np.bool_], loss_QMR: npt.NDArray[np.floating]
) -> None:
    queries, clips = scores_QN.shape
    subsets = len(member_MN)
    if member_MN.shape != (subsets, clips) or loss_QMR.shape[:2] != (queries, subsets) or loss_QMR.ndim != 3:
        raise ValueError(
            f"scores {scores_QN.shape}, subsets {member_MN.shape} and losses {loss_QMR.shape} must be (queries, clips),"
            " (subsets, clips) and (queries, subsets, seeds)"
        )
    if subsets < 3:
        raise ValueError(f"{subsets} subsets: three or more are needed to rank them")
    if not np.isfinite(loss_QMR).all():
        raise ValueError("a loss is not finite: leave out the subset whose training failed")


def noise_ceiling(loss_QMR: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Correlation that the expected loss itself would have with the mean over R >= 2 seeds: (Q,) in 0 to 1.

    The mean rank correlation r of two seeds' losses over the subsets is one seed's reliability; that of the mean of R
    is R r / (1 + (R - 1) r) (Spearman-Brown), and its square root the correlation with what has no noise. Seeds that
    disagree on average (r < 0) leave nothing to predict: 0. An estimate: with few subsets a score may lie above it.

    Raises:
        ValueError: there is one seed.
    """
    seeds = loss_QMR.shape[2]
    if seeds < 2:
        raise ValueError("a noise ceiling needs two or more seeds")
    pairs = [(a, b) for a in range(seeds) for b in range(a)]
    alike_Q = np.mean([spearman(loss_QMR[:, :, a], loss_QMR[:, :, b]) for a, b in pairs], axis=0)
    alike_Q = np.maximum(alike_Q, 0)
    return np.asarray(np.sqrt(seeds * alike_Q / (1 + (seeds - 1) * alike_Q)))


def spearman(one_QM: npt.NDArray[np.floating], other_QM: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Rank correlation of each pair of rows, ties at their mean rank: (Q,); 0 where all of a row are equal."""
    ranks = [_centred_ranks(each) for each in (one_QM, other_QM)]
    length_Q = np.sqrt((ranks[0] ** 2).sum(1) * (ranks[1] ** 2).sum(1))
    shared_Q = (ranks[0] * ranks[1]).sum(1)
    return np.asarray(np.divide(shared_Q, length_Q, out=np.zeros_like(shared_Q), where=length_Q > 0))


def _centred_ranks(values_QM: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Rank of each value in its row minus the mean rank, ties at their mean; all rows at once, as a bootstrap ranks
    often."""
    order_QM = np.argsort(values_QM, axis=1, kind="stable")
    sorted_QM = np.take_along_axis(values_QM, order_QM, axis=1)
    places_QM = np.broadcast_to(np.arange(values_QM.shape[1]), values_QM.shape)
    begins_QM = np.ones(values_QM.shape, np.bool_)
    begins_QM[:, 1:] = sorted_QM[:, 1:] != sorted_QM[:, :-1]
    ends_QM = np.roll(begins_QM, -1, axis=1)  # the first always begins, so that the last always ends
    first_QM = np.maximum.accumulate(np.where(begins_QM, places_QM, 0), axis=1)
    last_QM = np.minimum.accumulate(np.where(ends_QM, places_QM, values_QM.shape[1])[:, ::-1], axis=1)[:, ::-1]
    ranks_QM = np.empty(values_QM.shape)
    np.put_along_axis(ranks_QM, order_QM, (first_QM + last_QM - (values_QM.shape[1] - 1)) / 2, axis=1)
    return ranks_QM
