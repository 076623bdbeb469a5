"""The model protocol fits what it was written for: thin adapters over diffusers' own networks, nothing changed.

Wan (BCFhw, e - x0), LTX (packed tokens) and CogVideoX (BFChw, v-prediction), small and with random weights: each takes
a mask where its layout has it, and a mask of ones gives the ordinary loss and gradient.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from motive_fo.attribution.gradients import MASKED, UNMASKED, clip_sketch, streaming
from motive_fo.attribution.projection import FastfoodProjection
from motive_fo.clips.spec import ClipSpec, FrameRule
from motive_fo.models.base import Noised, VideoModel
from motive_fo.models.card import ModelCard, Strides

diffusers = pytest.importorskip("diffusers")


class _Base:
    """What the three share: a network, no encoders (latents are given)."""

    device = torch.device("cpu")

    def __init__(self, network, card, channels):
        self.network, self.card, self.channels = network.eval(), card, channels

    def identity(self):
        return {"name": self.card.name}

    def encode_frames(self, frames_THW3):
        shape = self.latent_shape(self.card.default_clip)
        return torch.randn(shape, generator=torch.Generator().manual_seed(int(frames_THW3.sum())))

    def encode_caption(self, caption):
        return torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(len(caption)))

    def noise(self, x0, e, timestep):
        s = timestep / 1000
        return Noised((1 - s) * x0 + s * e, e - x0, torch.tensor([timestep], dtype=torch.float32))

    def latent_shape(self, spec):
        return (1, self.channels, *self.card.grid(spec))

    def arrange_mask(self, mask_Fhw):
        return mask_Fhw[None, None]


class _Wan(_Base):
    def predict(self, x_t, timestep, condition):
        return self.network(x_t, timestep, condition, return_dict=False)[0]


class _LTX(_Base):
    def latent_shape(self, spec):
        f, h, w = self.card.grid(spec)
        return (1, f * h * w, self.channels)

    def arrange_mask(self, mask_Fhw):
        return mask_Fhw.reshape(1, -1, 1)

    def predict(self, x_t, timestep, condition):
        f, h, w = self.card.grid(self.card.default_clip)
        attend = torch.ones(condition.shape[:2])
        return self.network(x_t, condition, timestep, attend, num_frames=f, height=h, width=w, return_dict=False)[0]


class _CogVideoX(_Base):
    schedule = diffusers.CogVideoXDPMScheduler()

    def latent_shape(self, spec):
        f, h, w = self.card.grid(spec)
        return (1, f, self.channels, h, w)

    def arrange_mask(self, mask_Fhw):
        return mask_Fhw[None, :, None]

    def noise(self, x0, e, timestep):
        t = torch.tensor([round(timestep)])
        return Noised(self.schedule.add_noise(x0, e, t), self.schedule.get_velocity(x0, e, t), t)

    def predict(self, x_t, timestep, condition):
        return self.network(x_t, condition, timestep, return_dict=False)[0]


def _models():
    wan = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16,
        freq_dim=16, ffn_dim=32, num_layers=1, cross_attn_norm=True, qk_norm="rms_norm_across_heads",
    )  # fmt: skip
    ltx = diffusers.LTXVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, cross_attention_dim=32,
        num_layers=1, caption_channels=16,
    )  # fmt: skip
    cog = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8,
        text_embed_dim=16, num_layers=1, sample_width=8, sample_height=8, sample_frames=9, max_text_seq_length=8,
    )  # fmt: skip
    small = ClipSpec(0, 16, 9, 64, 64)
    return {
        "wan": _Wan(wan, ModelCard("wan", Strides(4, 8, 8), FrameRule(4), 16, small), 4),
        "ltx": _LTX(ltx, ModelCard("ltx", Strides(8, 32, 32), FrameRule(8), 32, small), 4),
        "cogvideox": _CogVideoX(cog, ModelCard("cogvideox", Strides(4, 8, 8), FrameRule(4), 16, small), 4),
    }


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    return _models()


def _typed(model: VideoModel) -> VideoModel:
    return model


@pytest.mark.parametrize("name", ["wan", "ltx", "cogvideox"])
def test_the_gradient_step_needs_nothing_else(models, name):
    model = _typed(models[name])
    grid = model.card.grid(model.card.default_clip)
    frames = np.zeros((9, 64, 64, 3), np.uint8)
    with torch.no_grad():
        x0, condition = model.encode_frames(frames), model.encode_caption("a ball")
    assert tuple(x0.shape) == model.latent_shape(model.card.default_clip)
    mask = np.random.default_rng(0).random(grid).astype(np.float32)
    with streaming(model.network, FastfoodProjection()) as backward:
        ones = clip_sketch(model, backward, x0, condition, np.ones(grid, np.float32), 750.748, 0)
        weighted = clip_sketch(model, backward, x0, condition, mask, 750.748, 0)
    np.testing.assert_allclose(ones.sketch_2D[MASKED], ones.sketch_2D[UNMASKED], rtol=1e-4, atol=1e-7)
    assert not np.allclose(weighted.sketch_2D[MASKED], weighted.sketch_2D[UNMASKED], rtol=1e-2)
    # the mask lies on the right axes: a mask of one latent frame costs that frame's share of the loss
    total = 0.0
    with streaming(model.network, FastfoodProjection()) as backward:
        for f in range(grid[0]):
            one = np.zeros(grid, np.float32)
            one[f] = 1
            total += clip_sketch(model, backward, x0, condition, one, 750.748, 0).loss_2[MASKED]
    assert total == pytest.approx(weighted.loss_2[UNMASKED], rel=1e-4)
