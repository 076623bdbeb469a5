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
    """The mask on the latent grid of a causal video autoencoder.

    Time, ``Choice:`` (the paper leaves temporal compression out): with stride r, latent frame 0 is frame 0 and latent
    frame k >= 1 the mean of frames rk-r+1 .. rk, the frames the autoencoder folds into it. Space: ``area`` averages
    every pixel of a cell, ``Choice:``; ``bilinear`` is ``Paper: Eq. 14``, which reads 4 of a cell's 64 pixels at
    stride 8.

    Args:
        mask_THW: T = r(F-1)+1 frames; H and W multiples of the strides.

    Returns:
        float32 (F, h, w).
    """
    frames, height, width = mask_THW.shape
    r = strides.time
    if (frames - 1) % r or height % strides.height or width % strides.width:
        raise ValueError(f"a {frames}x{height}x{width} mask does not lie on a grid of strides {strides}")
    mask = torch.from_numpy(mask_THW)
    later = mask[1:].reshape((frames - 1) // r, r, height, width).mean(1)
    folded_F1HW = torch.cat((mask[:1], later))[:, None]
    size = (height // strides.height, width // strides.width)
    if pooling == "area":
        pooled = torch.nn.functional.avg_pool2d(folded_F1HW, (strides.height, strides.width))
    else:
        pooled = torch.nn.functional.interpolate(folded_F1HW, size=size, mode="bilinear", align_corners=False)
    grid: npt.NDArray[np.float32] = pooled[:, 0].numpy()
    return grid
