"""What may be done to sketches before they are compared: the training mean taken off, common directions weighed down.

A sketch x becomes W (x - |x| m), with

* m the mean of the training sketches' directions x/|x| (``center``), or 0;
* W the inverse square root of the damped second moment of what is left of the training directions (``kernel``), or 1.

``Choice:`` moments are of directions, not of sketches. A clip's gradient length is set by what the cosine is blind to
(loss weight, 1/F, the mask's largest value), and stays without say: a clip scaled by any constant changes no score.

``Choice:`` the cosine of two sketches under W is g_q' K g_n / sqrt(g_q' K g_q g_n' K g_n) with K = W'W. For one query
and sample it ranks clips as the l-relative influence of RelatIF (Barshan et al. 2020) does, with the Gauss-Newton
matrix in the projected space, as in TRAK (Park et al. 2023). Unlike g_q' K g_n it is 1 for a clip with itself and is
not led by clips with unusual gradients.

Every score depends on which training clips are scored together, as with ``mean-rank``.

Shapes: Q queries, N training clips, S samples (timestep and noise), D numbers in a sketch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from motive_fo.config import Center, Kernel
from motive_fo.errors import ConfigError, StoreError
from motive_fo.influence.cosine import unit

#: sketches longer than this have no second moment: 512 MiB a matrix in float64.
LARGEST: Final = 8192
#: what is left of a direction of length 1 below this is rounding of float32 sketches.
_NOTHING: Final = 1e-6


class Moments:
    """Mean and second moment of training directions, gathered block by block in float64: D x D numbers a sample.

    Sketches that are missing (NaN) or zero are left out, for each sample by itself.

    Args:
        samples, dimension: S and D.
        second: whether the second moment is wanted.
        merged: the mean over samples is taken first, and counts as one sample.

    Raises:
        ConfigError: sketches are too long for a D x D matrix.
    """

    def __init__(self, samples: int, dimension: int, *, second: bool, merged: bool = False) -> None:
        self.merged = merged
        samples = 1 if merged else samples
        if second and dimension > LARGEST:
            raise ConfigError(
                f"sketches of {dimension:,} numbers are too long for kernel gauss-newton, which solves with a matrix "
                f"of that many rows: project to {LARGEST:,} or fewer, or use kernel identity"
            )
        self.count_S = np.zeros(samples, np.int64)
        self._sum_SD = np.zeros((samples, dimension))
        self._second_SDD = np.zeros((samples, dimension, dimension)) if second else None

    def add(self, sketch_NSD: npt.NDArray[np.floating]) -> None:
        """Gather some clips."""
        directions = unit(_merge(sketch_NSD) if self.merged else sketch_NSD)
        for s in range(len(self.count_S)):
            known_KD = directions[np.isfinite(directions[:, s]).all(1), s]
            self.count_S[s] += len(known_KD)
            self._sum_SD[s] += known_KD.sum(0)
            if self._second_SDD is not None:
                self._second_SDD[s] += known_KD.T @ known_KD

    @property
    def mean_SD(self) -> npt.NDArray[np.float64]:
        """Mean direction. Raises ``StoreError`` where fewer than two clips have one: nothing would be left of it."""
        fewest = int(self.count_S.min())
        if fewest < 2:
            raise StoreError(
                f"{fewest} training clips have the gradients that center mean needs, two or more are needed: score "
                "more clips, or use center none"
            )
        return np.asarray(self._sum_SD / self.count_S[:, None])

    def second_SDD(self, *, centred: bool) -> npt.NDArray[np.float64]:
        """Mean of u u' over directions u, or of (u - m)(u - m)'. Raises ``StoreError`` where no clip has one."""
        if self._second_SDD is None:
            raise ValueError("the second moment was not gathered")
        if not self.count_S.min():
            raise StoreError(
                "no training clip has the gradients that kernel gauss-newton needs: score other clips, or use "
                "kernel identity"
            )
        second = self._second_SDD / self.count_S[:, None, None]
        return second - self.mean_SD[:, :, None] * self.mean_SD[:, None, :] if centred else second


@dataclass(frozen=True)
class Preconditioner:
    """Changes sketches of queries and training clips for one pair of mask sides.

    Attributes:
        query_mean_SD, train_mean_SD: mean training direction on the queries' and on the training clips' mask side;
            None where it is not taken off.
        root_SDD: symmetric W of each sample; None for the identity.
        merged: the mean over samples is taken first, and counts as one sample.
    """

    query_mean_SD: npt.NDArray[np.float64] | None = None
    train_mean_SD: npt.NDArray[np.float64] | None = None
    root_SDD: npt.NDArray[np.float64] | None = None
    merged: bool = False

    @classmethod
    def of(cls, query_side: Moments, train_side: Moments, center: Center, kernel: Kernel, damping: float) -> Self:
        """From the training clips' moments on the mask side of the queries and on their own.

        ``Choice:`` the second moment is that of the training clips' own side: it stands for the curvature of the loss
        that they are scored with.

        Raises:
            StoreError: too few training clips have a sketch.
        """
        centred = center == "mean"
        root = None
        if kernel == "gauss-newton":
            root = np.stack([inverse_root(m, damping) for m in train_side.second_SDD(centred=centred)])
        if not centred:
            return cls(root_SDD=root, merged=train_side.merged)
        return cls(query_side.mean_SD, train_side.mean_SD, root, train_side.merged)

    def pair(
        self, query_QSD: npt.NDArray[np.floating], train_NSD: npt.NDArray[np.floating]
    ) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
        """Both sides, changed; the very arrays where there is nothing to change."""
        return self.query(query_QSD), self.train(train_NSD)

    def query(self, sketch_QSD: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """The queries' sketches, changed; NaN where nothing is left of one."""
        if self._changes_nothing:
            return sketch_QSD
        return self._changed(sketch_QSD, self.query_mean_SD)

    def train(self, sketch_NSD: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """The training clips' sketches, changed; NaN where nothing is left of one."""
        if self._changes_nothing:
            return sketch_NSD
        return self._changed(sketch_NSD, self.train_mean_SD)

    @property
    def _changes_nothing(self) -> bool:
        return self.train_mean_SD is None and self.root_SDD is None

    def _changed(
        self, sketch_XSD: npt.NDArray[np.floating], mean_SD: npt.NDArray[np.float64] | None
    ) -> npt.NDArray[np.float64]:
        wide = _merge(sketch_XSD) if self.merged else sketch_XSD.astype(np.float64)
        if mean_SD is not None:
            length = np.linalg.norm(wide, axis=-1, keepdims=True)
            wide = wide - length * mean_SD
            left = np.linalg.norm(wide, axis=-1, keepdims=True)
            wide = np.where(left > _NOTHING * length, wide, np.nan)
        if self.root_SDD is not None:
            wide = np.stack([wide[:, s] @ root_DD for s, root_DD in enumerate(self.root_SDD)], axis=1)
        return wide


def _merge(sketch_XSD: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    return np.asarray(sketch_XSD.astype(np.float64).mean(1, keepdims=True))


def inverse_root(second_DD: npt.NDArray[np.float64], damping: float) -> npt.NDArray[np.float64]:
    """((M/e + damping) / (1 + damping))^(-1/2) with e the mean eigenvalue of the second moment M: symmetric (D, D).

    Damping is a share of the mean eigenvalue, so that it means the same for every sketch size, spread and number of
    clips. Infinite damping gives the identity. Fewer clips than dimensions leave eigenvalues of 0, which it makes
    finite.
    """
    value_D, vector_DD = np.linalg.eigh((second_DD + second_DD.T) / 2)
    value_D = np.maximum(value_D, 0)  # rounding makes zeros negative
    mean = value_D.mean()
    relative_D = value_D / mean if mean > 0 else np.ones_like(value_D)
    scale_D = np.sqrt((1 + damping) / (relative_D + damping))
    return np.asarray((vector_DD * scale_D) @ vector_DD.T)
