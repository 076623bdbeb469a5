"""Selections that need no gradients: what a selection by influence has to beat.

Each is an order of the same clips, of which as many are taken as the selection has.

Shapes: Q queries, N clips, E numbers in an embedding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from motive_fo.influence.selection import rank_clips


def random_order(ids: Sequence[str], seed: int) -> list[str]:
    """The clips in an order that depends on the seed and each id alone: a clip more or less changes no other's place
    against another's."""
    salt = str(seed).encode()
    return sorted(ids, key=lambda clip_id: hashlib.blake2b(clip_id.encode(), key=salt, digest_size=8).digest())


def by_value(ids: Sequence[str], values: Mapping[str, float]) -> list[str]:
    """The clips with the highest value first; clips without one (missing or NaN) last, ties by id."""
    known = {clip_id: values[clip_id] for clip_id in ids if np.isfinite(values.get(clip_id, np.nan))}
    return sorted(ids, key=lambda clip_id: (clip_id not in known, -known.get(clip_id, 0.0), clip_id))


def by_similarity(
    alike_QN: npt.NDArray[np.floating], ids: Sequence[str], avoid_Q: npt.NDArray[np.bool_] | None = None
) -> list[str]:
    """The clips most like the queries first, by mean percentile rank; those to avoid count the other way.

    Clips that cannot be compared with every query (NaN) are left out; a query that can be compared with none counts
    for nothing.
    """
    used = np.isfinite(alike_QN).any(1)
    avoid = np.zeros(len(alike_QN), np.bool_) if avoid_Q is None else avoid_Q
    return rank_clips(alike_QN[used].astype(np.float32), ids, 1.0, avoid[used]).by_mean


def cosine(queries_QE: npt.NDArray[np.floating], clips_NE: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Cosine of every query's embedding with every clip's: float64 (Q, N), NaN where either is zero or not finite."""
    return _unit(queries_QE) @ _unit(clips_NE).T


def _unit(vectors_ME: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    wide = vectors_ME.astype(np.float64)
    norm_M1 = np.linalg.norm(wide, axis=1, keepdims=True)
    known_M1 = np.isfinite(norm_M1) & (norm_M1 > 0)
    unit: npt.NDArray[np.float64] = np.divide(wide, norm_M1, out=np.full_like(wide, np.nan), where=known_M1)
    return unit
