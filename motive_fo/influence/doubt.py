"""The doubt of a rank: how far it would move if other timesteps and noises had been drawn.

``Choice:`` the jackknife, its standard error from the ranks that the scores have without each draw in turn. The spread
of the ranks by single draws, divided by sqrt(S), is the same number for two draws and too small for more: a rank is no
mean of single ranks, since cosines are averaged before they are ranked. Averages lie closer together than single
draws, so that the same error of a cosine passes more clips.

Timesteps count as draws like noises: where they are few and rank clips differently on principle, that is in the doubt.
It says nothing of what all draws share, such as the model or the queries.

Shapes: S samples (timestep and noise), Q queries, N clips, B clips of a block, D numbers in a sketch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from motive_fo.config import Combine
from motive_fo.influence.cosine import Scorer
from motive_fo.influence.preconditioner import Preconditioner
from motive_fo.influence.selection import Rows, mean_ranks, scored_clips

Change = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.floating]]


def scores_and_without(
    made: Preconditioner, query_QSD: npt.NDArray[np.float32], combine: Combine
) -> Callable[[npt.NDArray[np.float32]], list[npt.NDArray[np.float32]]]:
    """From sketches (B, S, D) of training clips to their scores (Q, B), and those without each sample in turn.

    ``Choice:`` the training mean and second moment stay those of all samples: they are of all clips, and hardly move.
    """
    samples = query_QSD.shape[1]
    scorer = Scorer(made.query(query_QSD), combine)
    if samples == 1:
        return lambda train_BSD: [scorer.scores(made.train(train_BSD))]
    if combine == "mean-cosine":

        def from_one_pass(train_BSD: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
            scores_QB, without_SQB = scorer.scores_without(made.train(train_BSD))
            return [scores_QB, *without_SQB]

        return from_one_pass

    def left(sketch_XSD: npt.NDArray[np.float32], change: Change, s: int) -> npt.NDArray[np.floating]:
        """Changed sketches without a sample; what is merged before it is changed loses the sample before."""
        return change(np.delete(sketch_XSD, s, 1)) if made.merged else np.delete(change(sketch_XSD), s, 1)

    others = [Scorer(left(query_QSD, made.query, s), combine) for s in range(samples)]
    return lambda train_BSD: [
        scorer.scores(made.train(train_BSD)),
        *(other.scores(left(train_BSD, made.train, s)) for s, other in enumerate(others)),
    ]


def rank_doubts(without: Sequence[Rows], queries: Sequence[int]) -> npt.NDArray[np.float64] | None:
    """Doubt of ``selection.mean_ranks``, in the same points (0 to 100): (N,), NaN for clips without a score.

    Args:
        without: S scorings (Q, N), each without one of the samples.
        queries: those whose ranks are averaged.

    Returns:
        None for fewer than two samples: nothing is known then.
    """
    return _jackknife(mean_ranks(scores_QN, queries) for scores_QN in without) if len(without) > 1 else None


def doubts_of(
    without: Sequence[Rows], avoid_Q: npt.NDArray[np.bool_], places: npt.NDArray[np.integer]
) -> npt.NDArray[np.float64]:
    """Doubt of the rank of some clips in ``selection.Ranking``, where a query to avoid counts with 100 minus its rank:
    (K,). No row is sorted for it.

    Args:
        without: two scorings (Q, N) of the ranking's queries or more, each without one of the samples.
        places: of the clips, among the N.
    """
    return _jackknife(_ranks_at(scores_QN, avoid_Q, places) for scores_QN in without)


def rank_text(rank: float, doubt: float | None) -> str:
    """A rank and its doubt for people, ``97.1 ± 2.0``; the rank alone where its doubt is not known."""
    return f"{rank:.1f}" if doubt is None or doubt != doubt else f"{rank:.1f} ± {doubt:.1f}"


def _ranks_at(
    scores_QN: Rows, avoid_Q: npt.NDArray[np.bool_], places: npt.NDArray[np.integer]
) -> npt.NDArray[np.float64]:
    scored_N = scored_clips(scores_QN)
    most = max(1, int(scored_N.sum()) - 1)
    total = np.zeros(len(places), np.int64)  # of twice the ranks, which are whole numbers
    for query, avoid in enumerate(avoid_Q.tolist()):
        row_N = np.asarray(scores_QN[query])
        row_K = row_N[scored_N]
        doubled = np.asarray([(row_K < own).sum() + (row_K <= own).sum() - 1 for own in row_N[places]], np.int64)
        total += 2 * most - doubled if avoid else doubled
    return np.where(scored_N[places], total * (50.0 / most) / max(1, len(avoid_Q)), np.nan)


def _jackknife(ranks: Iterable[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """sqrt((S - 1) / S * sum (r_s - mean)^2) over S arrays, which are gone through once."""
    count, mean, squares = 1, np.zeros(()), np.zeros(())
    for count, ranks_N in enumerate(ranks, 1):
        away_N = ranks_N - mean
        mean = mean + away_N / count
        squares = squares + away_N * (ranks_N - mean)
    return np.sqrt(squares * ((count - 1) / count))
