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

from motive_fo.influence.selection import budget_count, percentile_ranks
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


def draw_subsets(clips: int, subsets: int, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Random subsets of ceil(share x N) clips each: bool (M, N). Subset m depends on the seed and m alone.

    Raises:
        ValueError: a subset would be empty or the whole corpus, so that no two could differ.
    """
    size = budget_count(share, clips)
    if not 0 < size < clips:
        raise ValueError(f"subsets of {size} of {clips} clips cannot differ: use another share or more clips")
    member_MN = np.zeros((subsets, clips), np.bool_)
    for m in range(subsets):
        member_MN[m, np.random.default_rng([seed, m]).choice(clips, size, replace=False)] = True
    return member_MN


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
    how = how or Bootstrap()
    predicted_QM = predicted(scores_QN, member_MN)
    fall_QM = -loss_QMR.mean(2, dtype=np.float64)
    lds_Q = spearman(predicted_QM, fall_QM)
    drawn_R = np.empty(how.resamples)
    picks = zip(how.draws(queries, 0), how.draws(subsets, 1), strict=True)
    for r, (some_Q, some_M) in enumerate(picks):
        each = spearman(predicted_QM[some_Q][:, some_M], fall_QM[some_Q][:, some_M])
        drawn_R[r] = each.mean()
    ceiling_Q = noise_ceiling(loss_QMR) if loss_QMR.shape[2] > 1 else None
    return Predictivity(
        how.estimate(float(lds_Q.mean()), drawn_R),
        lds_Q,
        None if ceiling_Q is None else float(ceiling_Q.mean()),
        ceiling_Q,
    )


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
    ranks = [percentile_ranks(each) - 50 for each in (one_QM, other_QM)]  # the mean rank is 50, ties or not
    length_Q = np.sqrt((ranks[0] ** 2).sum(1) * (ranks[1] ** 2).sum(1))
    shared_Q = (ranks[0] * ranks[1]).sum(1)
    return np.asarray(np.divide(shared_Q, length_Q, out=np.zeros_like(shared_Q), where=length_Q > 0))
