"""Influence: the cosine of projected gradients. ``Paper: Eq. 17``, identity preconditioner.

Shapes: Q queries, N training clips, S samples (timestep and noise), D numbers in a sketch.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from motive_fo.attribution.gradients import MASKED, UNMASKED
from motive_fo.config import MaskSide

#: mask side -> (index of the query's sketch, index of the training clip's sketch)
SIDES: Final[dict[MaskSide, tuple[int, int]]] = {
    "both": (MASKED, MASKED),
    "query": (MASKED, UNMASKED),
    "train": (UNMASKED, MASKED),
    "none": (UNMASKED, UNMASKED),
}


def cosine_scores(query_QSD: npt.NDArray[np.float32], train_NSD: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Influence of every training clip on every query: the mean over samples of the cosines. ``Paper: Eq. 6``.

    Summed in float64, so that a clip's score does not depend on which other clips it is scored with.

    Returns:
        float32 (Q, N); NaN where a sketch is missing (a static clip has no masked one).
    """
    query, train = _unit(query_QSD), _unit(train_NSD)
    samples = query.shape[1]
    total: npt.NDArray[np.float64] = np.zeros((len(query), len(train)))
    for s in range(samples):
        total += query[:, s] @ train[:, s].T
    return np.asarray(total / samples, np.float32)


def _unit(sketch_XSD: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    wide = sketch_XSD.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=-1, keepdims=True))
