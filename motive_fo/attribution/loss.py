"""The motion-weighted diffusion loss and the shared noise it is taken at.

Loss-space only: noising, forward pass and the later fine-tuning stay as they are (``Paper: Eq. 16``).
"""

from __future__ import annotations

import hashlib

import torch


def motion_weighted_loss(
    prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean over all latent elements of mask * (prediction - target)^2, a float32 scalar.

    The paper's 1/F averages over latent frames, as the mean here does; a constant more or less changes no cosine.

    Args:
        prediction, target: one clip in the model's latent layout.
        mask: motion weights in [0, 1] that broadcast against them; None is the ordinary loss, as is a mask of ones.
    """
    error = (prediction.float() - target.float()).square()
    return (error if mask is None else error * mask).mean()


def shared_noise(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """The noise all train and query clips of one latent shape share.

    ``Choice:`` drawn on the CPU in float32 from (seed, shape) alone, never from a position in a batch, so that a
    clip's gradient is the same alone, in any order and on any device.
    """
    digest = hashlib.sha256(f"{seed}|{','.join(map(str, shape))}".encode()).digest()
    generator = torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.randn(shape, generator=generator, dtype=torch.float32)
