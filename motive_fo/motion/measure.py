"""What is kept of a clip's flow: enough for every mask and statistic, so that no option of theirs needs the flow again.

Both sides of the camera option are measured, the whole motion and what the camera leaves, because the flow is what
costs. The mask stays per frame on a coarse grid of cells; the mask of any model whose latent cells are whole numbers of
these cells follows from it.

Shapes: T frames, H W pixels, h w cells, B bins; a leading 2 is [WHOLE, LEFT].
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from motive_fo.flow.base import Displacement
from motive_fo.models.card import Strides
from motive_fo.motion.camera import Model, fit_camera
from motive_fo.motion.description import describe
from motive_fo.motion.dynamic import dynamic_degree, moving_share, smoothness
from motive_fo.motion.hoof import hoof
from motive_fo.motion.mask import Pooling, fold_time, magnitude, motion_mask, pool_space

WHOLE, LEFT = 0, 1
"""Index of the side: all motion, or the motion that is not the camera's."""

MOVES_PX: Final = 0.05
"""Pixels per frame above which a pixel counts as moving in ``moving_share``, ``smoothness`` and ``hoof``.

``Choice:`` rendered still clips stay below 0.003, the slowest that move reach 0.07."""

_CELL: Final = 8  # pixels: divides the strides of all known video autoencoders

Cell = tuple[int, int]


@dataclass(frozen=True)
class Measured:
    """The motion of one clip. Lengths in pixels, per frame in the ``step`` reading; NaN where a number is not defined.

    Attributes:
        camera_share: see ``CameraMotion``.
        dynamic_score: VBench's dynamic degree of the whole motion, as a number.
        mean, p95, peak, moving_share, smoothness: (2,).
        curve: (2, T), mean magnitude of each frame.
        hoof: (2, B), share of the motion in each direction.
        mask: float16 (2, T, h, w) in [0, 1], the mask of every frame pooled over cells.
    """

    camera_share: float
    dynamic_score: float
    mean: npt.NDArray[np.float32]
    p95: npt.NDArray[np.float32]
    peak: npt.NDArray[np.float32]
    moving_share: npt.NDArray[np.float32]
    smoothness: npt.NDArray[np.float32]
    curve: npt.NDArray[np.float32]
    hoof: npt.NDArray[np.float32]
    mask: npt.NDArray[np.float16]

    def values(self) -> dict[str, Any]:
        """Name -> number or array."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def latent_mask(self, side: int, strides: Strides, cell: Cell, pooling: Pooling) -> npt.NDArray[np.float32]:
        """Motion mask on a latent grid, float32 (F, h, w) in [0, 1]. ``Paper: Eq. 13, 14``."""
        mask_Thw = self.mask[side].astype(np.float32)
        factor = (strides.height // cell[0], strides.width // cell[1])
        return fold_time(mask_Thw if factor == (1, 1) else pool_space(mask_Thw, factor, pooling), strides.time)


def cell_of(strides: Strides, pooling: Pooling) -> Cell:
    """Pixels per cell (rows, columns) that masks for these strides can be made from.

    Cells of 8 pixels serve every model whose strides are multiples of 8. ``bilinear`` reads single pixels, other ones
    for every stride.
    """
    coarse = pooling == "area" and strides.height % _CELL == 0 and strides.width % _CELL == 0
    return (_CELL, _CELL) if coarse else (strides.height, strides.width)


def measure(
    whole: Displacement, *, fps: float, camera_model: Model, bins: int, cell: Cell, pooling: Pooling
) -> Measured:
    """Measure a clip's displacement, with and without the camera's.

    Args:
        whole: T >= 2 frames of either reading; H and W multiples of the cell.
        fps: frames per second of the clip.
        camera_model, bins: of ``fit_camera`` and ``hoof``.
    """
    camera = fit_camera(whole, camera_model)
    sides = [_side(whole, bins, cell, pooling)]
    still = not camera.flow_THW2.any()
    sides.append(sides[0] if still else _side(camera.residual, bins, cell, pooling))
    score = dynamic_degree(whole, fps).score if whole.reading == "step" else float("nan")
    return Measured(camera.share, score, **{name: np.stack([side[name] for side in sides]) for name in sides[0]})


def _side(displacement: Displacement, bins: int, cell: Cell, pooling: Pooling) -> dict[str, npt.NDArray[Any]]:
    size_THW = magnitude(displacement)
    described = describe(size_THW)
    moving = smooth = float("nan")
    if displacement.reading == "step":
        moving = moving_share(displacement, MOVES_PX)
        known = smoothness(displacement, MOVES_PX)
        smooth = float("nan") if known is None else known
    numbers = {
        "mean": described.mean,
        "p95": described.p95,
        "peak": described.peak,
        "moving_share": moving,
        "smoothness": smooth,
    }
    return {
        **{name: np.asarray(value, np.float32) for name, value in numbers.items()},
        "curve": described.curve_T,
        "hoof": hoof(displacement, bins, floor=MOVES_PX),
        "mask": pool_space(motion_mask(size_THW), cell, pooling).astype(np.float16),
    }
