"""Losses of clips under a model, at noise that is told: the ordinary one, and the one weighted by the motion mask.

Shapes: Q clips, F latent frames, h w latent cells; a leading 2 is [MOTION, ORDINARY].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from motive_fo.attribution.loss import motion_weighted_loss, shared_noise
from motive_fo.models.base import VideoModel
from motive_fo.quality.trainings import MOTION, ORDINARY


@dataclass(frozen=True)
class Example:
    """A clip whose loss can be taken.

    Attributes:
        x0: clean latent, on the model's device.
        condition: of its caption, for the model's ``predict``.
        mask_Fhw: motion weights on the latent grid; None for the ordinary loss.
    """

    x0: torch.Tensor
    condition: Any
    mask_Fhw: npt.NDArray[np.float32] | None = None


def predicted(model: VideoModel, example: Example, timestep: float, noise: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What the model predicts for an example at a timestep and a seed of noise, and what it should."""
    x0 = example.x0
    e = shared_noise(tuple(x0.shape), noise).to(x0.device, x0.dtype)
    noised = model.noise(x0, e, timestep)
    return model.predict(noised.x_t, noised.timestep, example.condition), noised.target


def arranged_mask(model: VideoModel, example: Example) -> torch.Tensor | None:
    """The example's motion mask in the model's latent layout."""
    if example.mask_Fhw is None:
        return None
    return model.arrange_mask(torch.from_numpy(example.mask_Fhw)).to(example.x0.device, torch.float32)


@torch.no_grad()
def mean_losses(
    model: VideoModel, examples: Sequence[Example], timesteps: Sequence[float], noises: Sequence[int]
) -> npt.NDArray[np.float64]:
    """Both losses of every example, means over timesteps and noises: (2, Q)."""
    loss_2Q = np.zeros((2, len(examples)))
    for q, example in enumerate(examples):
        mask = arranged_mask(model, example)
        for timestep in timesteps:
            for noise in noises:
                prediction, target = predicted(model, example, timestep, noise)
                loss_2Q[MOTION, q] += float(motion_weighted_loss(prediction, target, mask))
                loss_2Q[ORDINARY, q] += float(motion_weighted_loss(prediction, target))
    return loss_2Q / (len(timesteps) * len(noises))
