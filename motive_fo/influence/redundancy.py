"""How much clips of a set repeat each other, by the cosines of their gradient sketches.

Shapes: K clips, D numbers in a sketch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Redundancy:
    """How much clips of a set repeat each other.

    Attributes:
        ids: clips that have a sketch, in the order given.
        nearest_K: cosine of each with the nearest other one.
        mean: mean cosine over all pairs.
        effective: how many clips with orthogonal gradients would be as varied: 1 where all point one way, K where no
            two have anything in common.
        closest: the pairs with the highest cosines, the highest first.
        near_duplicates: groups of clips that are linked by cosines of at least ``least``, the largest first.
    """

    ids: list[str]
    nearest_K: npt.NDArray[np.float64]
    mean: float
    effective: float
    closest: list[tuple[str, str, float]]
    near_duplicates: list[list[str]]


def redundancy(ids: Sequence[str], sketch_KD: npt.NDArray[np.floating], *, least: float, pairs: int = 10) -> Redundancy:
    """Compare every two clips of a set.

    ``Choice:`` the effective number is the participation ratio of the eigenvalues of the matrix G of cosines,
    (tr G)^2 / |G|^2 = K^2 / sum of squared cosines, which needs no eigenvalues.

    Args:
        sketch_KD: their sketches; rows with NaN or of zeros are left out. K^2 cosines are held.
        least: cosine from which two clips count as near-duplicates.
        pairs: how many of the closest pairs are named.

    Raises:
        ValueError: fewer than two clips have a sketch.
    """
    wide = sketch_KD.astype(np.float64)
    length_K = np.linalg.norm(wide, axis=1)
    known = np.flatnonzero(np.isfinite(length_K) & (length_K > 0))
    if len(known) < 2:
        raise ValueError(f"{len(known)} clips have a sketch: two are needed to compare them")
    names = [ids[n] for n in known.tolist()]
    unit_KD = wide[known] / length_K[known, None]
    cosine_KK = np.clip(unit_KD @ unit_KD.T, -1.0, 1.0)
    count = len(names)
    rows, columns = np.triu_indices(count, 1)
    upper = cosine_KK[rows, columns]
    first = np.argsort(-upper, kind="stable")[:pairs].tolist()
    effective = count**2 / float((cosine_KK**2).sum())
    np.fill_diagonal(cosine_KK, -np.inf)
    return Redundancy(
        names,
        cosine_KK.max(1),
        float(upper.mean()),
        effective,
        [(names[rows[n]], names[columns[n]], float(upper[n])) for n in first],
        _linked(names, cosine_KK >= least),
    )


def _linked(names: Sequence[str], near_KK: npt.NDArray[np.bool_]) -> list[list[str]]:
    """Groups of two and more that are linked by any chain."""
    from scipy.sparse.csgraph import connected_components  # takes longer to import than most commands to run

    _, group_K = connected_components(near_KK, directed=False)
    groups: dict[int, list[str]] = {}
    for name, group in zip(names, group_K.tolist(), strict=True):
        groups.setdefault(group, []).append(name)
    return sorted((group for group in groups.values() if len(group) > 1), key=len, reverse=True)
