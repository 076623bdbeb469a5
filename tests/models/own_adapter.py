"""An adapter as a user writes it: named ``tests.models.own_adapter:Own``."""

from __future__ import annotations

from dataclasses import replace

import torch

from motive_fo.models.tiny.card import CARD
from motive_fo.models.tiny.model import TinyModel


class Own(TinyModel):
    """The embedded model under another name, with untrained weights."""

    card = replace(CARD, name="own")

    def __init__(self, device: str, precision: str) -> None:
        made = TinyModel.random(3, device)
        super().__init__(made._parts, "own")
        self.asked = (device, precision)

    def identity(self):
        return {"name": "own", "weights": "random 3"}


def no_card(device: str, precision: str):
    return Own(device, precision)


class Flipped(Own):
    """Breaks promises: the mask's rows and columns are exchanged."""

    def arrange_mask(self, mask_Fhw):
        return mask_Fhw.transpose(1, 2)[None, None]


class Backwards(Own):
    """The mask's latent frames are in the wrong order."""

    def arrange_mask(self, mask_Fhw):
        return mask_Fhw.flip(0)[None, None]


class Sampling(Own):
    """Encodes a sample instead of the mode."""

    def encode_frames(self, frames_THW3):
        x0 = super().encode_frames(frames_THW3)
        return x0 + 0.1 * torch.randn_like(x0)


class Deaf(Own):
    """Ignores the caption."""

    def predict(self, x_t, timestep, condition):
        return super().predict(x_t, timestep, self.encode_caption(""))


class Idle(Own):
    """Has a parameter that nothing reaches."""

    def __init__(self, device: str, precision: str) -> None:
        super().__init__(device, precision)
        self.network.register_parameter("idle", torch.nn.Parameter(torch.ones(3)))


class Noisy(Own):
    """Draws something at every prediction."""

    def predict(self, x_t, timestep, condition):
        return super().predict(x_t + 0.05 * torch.randn_like(x_t), timestep, condition)


class Detached(Own):
    """Predicts without a gradient."""

    def predict(self, x_t, timestep, condition):
        return super().predict(x_t, timestep, condition).detach()


class Clean(Own):
    """Puts the noise where the signal belongs."""

    def noise(self, x0, e, timestep):
        return super().noise(x0, e, 1000 - timestep)
