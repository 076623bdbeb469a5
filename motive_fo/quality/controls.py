"""Scores that need no gradient, or mean nothing: what a score has to beat. All of it is in the run's store.

Shapes: Q queries, N clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from motive_fo.influence.baselines import cosine
from motive_fo.motion.hoof import similarity
from motive_fo.store.table import Table

RANDOM: Final = "random ids"
PERMUTED: Final = "permuted ids"
_BLOCK_BYTES: Final = 32 << 20  # of masks read at once

Scores = dict[str, npt.NDArray[np.float64]]


def control_scores(
    motion: Table, queries: Sequence[str], clips: Sequence[str], scores_QN: npt.NDArray[np.floating], seed: int
) -> Scores:
    """Control -> scores (Q, N), higher is better, NaN where a clip shows no motion to compare.

    * ``random ids`` and ``permuted ids`` say nothing: they have to be at chance;
    * ``flow magnitude``: the most motion first, whatever the query;
    * ``likeness of magnitude``: as much motion as the query's;
    * ``HOOF``: flow histograms like the query's;
    * ``mask only``: motion masks that overlap the query's.

    Args:
        motion: the run's table of motion, which knows all of the clips.
        scores_QN: whose ids are permuted, for each query by itself.
        seed: of the first two.
    """
    rng = np.random.default_rng(seed)
    mean_Q, mean_N = (np.asarray(motion.read("mean", ids), np.float64) for ids in (queries, clips))
    with np.errstate(divide="ignore", invalid="ignore"):
        apart_QN = np.abs(np.log(mean_Q)[:, None] - np.log(mean_N)[None])
    return {
        RANDOM: rng.random(scores_QN.shape),
        PERMUTED: rng.permuted(scores_QN.astype(np.float64), axis=1),
        "flow magnitude": np.repeat(mean_N[None], len(queries), axis=0),
        "likeness of magnitude": np.where(np.isfinite(apart_QN), -apart_QN, np.nan),
        "HOOF": similarity(motion.read("hoof", queries), motion.read("hoof", clips)),
        "mask only": _overlap(motion, queries, clips),
    }


def _overlap(motion: Table, queries: Sequence[str], clips: Sequence[str]) -> npt.NDArray[np.float64]:
    """Cosine of motion masks: (Q, N). Frames that a clip does not have count as without motion."""
    query_QE = _masks(motion, queries)
    rows = max(1, _BLOCK_BYTES // max(1, query_QE[:1].nbytes))
    blocks = [clips[first : first + rows] for first in range(0, len(clips), rows)]
    return np.concatenate([cosine(query_QE, _masks(motion, block)) for block in blocks], axis=1)


def _masks(motion: Table, ids: Sequence[str]) -> npt.NDArray[np.float32]:
    mask_NE: npt.NDArray[np.float32] = motion.read("mask", ids).reshape(len(ids), -1)
    return np.nan_to_num(mask_NE, nan=0.0)
