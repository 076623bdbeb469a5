"""Displacement -> magnitude -> mask -> the model's latent grid."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from motive_fo.flow.base import Displacement
from motive_fo.models.card import Strides

Pooling = Literal["area", "bilinear"]

_EPSILON = 1e-6


def magnitude(displacement: Displacement) -> npt.NDArray[np.float32]:
    """|D| in pixels, float32 (T, H, W). ``Paper: Eq. 12``; visibility is not used there."""
    flow = displacement.flow_THW2
    return np.hypot(flow[..., 0], flow[..., 1])


def motion_mask(magnitude_THW: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Magnitude stretched to [0, 1] over all frames and pixels of the clip. ``Paper: Eq. 13``.

    A displacement scaled by a constant leaves the mask as it is (up to the 1e-6 in the denominator).
    """
    low, high = float(magnitude_THW.min()), float(magnitude_THW.max())
    return ((magnitude_THW - low) / (high - low + _EPSILON)).astype(np.float32)


def to_latent_grid(
    mask_THW: npt.NDArray[np.float32], strides: Strides, pooling: Pooling = "area"
) -> npt.NDArray[np.float32]:
    """The mask on the latent grid of a causal video autoencoder: ``pool_space``, then ``fold_time``.

    Args:
        mask_THW: T = r(F-1)+1 frames; H and W multiples of the strides.

    Returns:
        float32 (F, h, w).
    """
    return fold_time(pool_space(mask_THW, (strides.height, strides.width), pooling), strides.time)


def pool_space(
    values_THW: npt.NDArray[np.float32], cell: tuple[int, int], pooling: Pooling = "area"
) -> npt.NDArray[np.float32]:
    """One value for every cell of so many rows and columns: float32 (T, h, w).

    ``area`` averages every pixel of a cell, ``Choice:``; ``bilinear`` is ``Paper: Eq. 14``, which reads 4 of a cell's
    64 pixels at stride 8.
    """
    height, width = values_THW.shape[1:]
    if height % cell[0] or width % cell[1]:
        raise ValueError(f"{height}x{width} pixels do not divide into cells of {cell[0]}x{cell[1]}")
    values_T1HW = torch.from_numpy(values_THW)[:, None]
    if pooling == "area":
        pooled = torch.nn.functional.avg_pool2d(values_T1HW, cell)
    else:
        size = (height // cell[0], width // cell[1])
        pooled = torch.nn.functional.interpolate(values_T1HW, size=size, mode="bilinear", align_corners=False)
    cells: npt.NDArray[np.float32] = pooled[:, 0].numpy()
    return cells


def fold_time(values_Thw: npt.NDArray[np.float32], stride: int) -> npt.NDArray[np.float32]:
    """T frames to the F latent frames of a causal autoencoder: float32 (F, h, w).

    ``Choice:`` (the paper leaves temporal compression out) with stride r, latent frame 0 is frame 0 and latent frame
    k >= 1 the mean of frames rk-r+1 .. rk, the frames the autoencoder folds into it.
    """
    frames, height, width = values_Thw.shape
    if (frames - 1) % stride:
        raise ValueError(f"{frames} frames do not fold by {stride}")
    later = values_Thw[1:].reshape((frames - 1) // stride, stride, height, width).mean(1)
    return np.concatenate((values_Thw[:1], later))
