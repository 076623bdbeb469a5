"""How much a ranking depends on which timestep and noise were drawn: rankings by single samples, compared in pairs.

Shapes: S samples, Q queries, N clips.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from motive_fo.influence.selection import budget_count, mean_ranks, percentile_ranks, scored_clips


@dataclass(frozen=True)
class Stability:
    """Agreement of the rankings by single samples.

    Attributes:
        spearman_SS: rank correlation of each pair of rankings, -1 to 1; 1 on the diagonal.
        overlap_SS: share of the one's first K clips that are among the other's first K, 0 to 1.
        spearman, overlap: means over the pairs of different samples; None where there is only one sample.
        by_chance: the overlap two unrelated rankings have on average, K/N.
        top: K.
    """

    spearman_SS: npt.NDArray[np.float64]
    overlap_SS: npt.NDArray[np.float64]
    spearman: float | None
    overlap: float | None
    by_chance: float
    top: int


def stability(scores_SQN: npt.NDArray[np.float32], share: float = 0.1) -> Stability:
    """Compare the rankings that each sample alone would give.

    ``Choice:`` a sample ranks the clips by their mean percentile rank over the queries, as ``influence_rank`` does.

    Args:
        scores_SQN: cosines of each sample, as ``pipeline.scoring.sample_scores`` gives them; clips without a score are
            left out.
        share: of the clips that counts as the top, 0 to 1: K = ceil(share N).

    Raises:
        ValueError: fewer than two clips have a score.
    """
    known = np.logical_and.reduce([scored_clips(scores_QN) for scores_QN in scores_SQN])
    clips = int(known.sum())
    if clips < 2:
        raise ValueError(f"{clips} clips have a score for every query and sample: two are needed to compare rankings")
    mean_SN = np.stack([mean_ranks(scores_QN[:, known], range(len(scores_QN))) for scores_QN in scores_SQN])
    samples, top = len(mean_SN), budget_count(share, clips)
    centred = percentile_ranks(mean_SN.astype(np.float64)) - 50  # the mean rank is 50, ties or not
    length = np.linalg.norm(centred, axis=1)
    spearman = centred @ centred.T / np.outer(length, length)
    first = [set(np.argsort(-mean_N, kind="stable")[:top].tolist()) for mean_N in mean_SN]
    overlap = np.asarray([[len(a & b) / top for b in first] for a in first])
    pairs = np.triu_indices(samples, 1)
    several = samples > 1
    return Stability(
        spearman,
        overlap,
        float(spearman[pairs].mean()) if several else None,
        float(overlap[pairs].mean()) if several else None,
        top / clips,
        top,
    )
