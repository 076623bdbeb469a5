"""Diffusion transformer of the embedded model: velocity of a noised video latent, given the noise level and a caption.

``Choice:`` the usual parts in a small size: tokens of 2x2 cells, self-attention over all of space and time with rotary
positions, cross-attention to the caption, scale-shift-gate modulation by the timestep (one shared network, one learned
offset table per block). The output starts from the best *linear* guess of the velocity, so the network spends its few
parameters on what is not linear.

Shapes: B batch, C latent channels, F h w latent grid, N = F * h/2 * w/2 tokens, D width, L caption tokens.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import nn
from torch.nn import functional

from motive_fo.models.tiny.autoencoder import CHANNELS
from motive_fo.models.tiny.text import Caption

PATCH: Final = 2
#: the timestep of pure noise; the noise level is timestep / 1000.
STEPS: Final = 1000.0


def _waves(value_N: torch.Tensor, width: int, longest: float) -> torch.Tensor:
    """Sines and cosines (N, width) with geometrically growing periods up to ``longest`` units."""
    count = width // 2
    power = torch.arange(count, dtype=torch.float32, device=value_N.device) / max(1, count - 1)
    angle = value_N[:, None].float() * (2 * math.pi * longest ** (-power))
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def _rotate(x_BHNd: torch.Tensor, angle_Nd: torch.Tensor) -> torch.Tensor:
    """Turn each pair of features (k, k + d/2) by its angle: attention then sees only differences of positions."""
    first, second = x_BHNd.chunk(2, dim=-1)
    cosine, sine = angle_Nd.cos(), angle_Nd.sin()
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


class _Attention(nn.Module):
    """Multi-head attention with normalised queries and keys (keeps the logits bounded, so few steps train it)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.query_norm = nn.RMSNorm(width // heads, eps=1e-6)
        self.key_norm = nn.RMSNorm(width // heads, eps=1e-6)
        self.out = nn.Linear(width, width)

    def forward(
        self, x_BND: torch.Tensor, y_BMD: torch.Tensor, angle_Nd: torch.Tensor | None, used_BM: torch.Tensor | None
    ) -> torch.Tensor:
        b, n, d = x_BND.shape
        query = self.query(x_BND).reshape(b, n, self.heads, -1).transpose(1, 2)
        key, value = self.key_value(y_BMD).reshape(b, y_BMD.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key = self.query_norm(query), self.key_norm(key)
        if angle_Nd is not None:
            query, key = _rotate(query, angle_Nd), _rotate(key, angle_Nd)
        mask = None if used_BM is None else used_BM[:, None, None, :]
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        out: torch.Tensor = self.out(mixed.transpose(1, 2).reshape(b, n, d))
        return out


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.self_attention = _Attention(width, heads)
        self.cross_norm = nn.LayerNorm(width, eps=1e-6)
        self.cross_attention = _Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, ratio * width), nn.SiLU(), nn.Linear(ratio * width, width))
        self.modulation = nn.Parameter(torch.randn(6, width) / width**0.5)

    def forward(
        self, x_BND: torch.Tensor, level_B6D: torch.Tensor, caption: Caption, angle_Nd: torch.Tensor
    ) -> torch.Tensor:
        parts = (level_B6D + self.modulation)[:, :, None]
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = parts.unbind(1)
        normed = self.self_norm(x_BND) * (1 + scale) + shift
        x_BND = x_BND + gate * self.self_attention(normed, normed, angle_Nd, None)
        x_BND = x_BND + self.cross_attention(self.cross_norm(x_BND), caption.tokens_BLD, None, caption.used_BL)
        normed = self.mlp_norm(x_BND) * (1 + mlp_scale) + mlp_shift
        result: torch.Tensor = x_BND + mlp_gate * self.mlp(normed)
        return result


class Transformer(nn.Module):
    """Velocity e - x0 of a noised latent."""

    def __init__(self, width: int = 128, depth: int = 5, heads: int = 4, ratio: int = 3) -> None:
        super().__init__()
        self.width = width
        self.heads = heads
        cell = CHANNELS * PATCH**2
        self.patch_in = nn.Linear(cell, width)
        self.place = nn.Linear(48, width)
        self.level = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.level_parts = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList([_Block(width, heads, ratio) for _ in range(depth)])
        self.out_norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.out_parts = nn.Linear(width, 2 * width)
        self.patch_out = nn.Linear(width, cell)
        nn.init.zeros_(self.out_parts.weight)
        nn.init.zeros_(self.out_parts.bias)
        nn.init.normal_(self.patch_out.weight, std=0.02)
        nn.init.zeros_(self.patch_out.bias)

    def forward(self, x_t_BCFhw: torch.Tensor, timestep_B: torch.Tensor, caption: Caption) -> torch.Tensor:
        """Prediction (B, C, F, h, w).

        Args:
            x_t_BCFhw: noised latent; h and w even.
            timestep_B: float32, 0 (clean) to 1000 (noise).
            caption: one per latent.
        """
        b, c, f, height, width = x_t_BCFhw.shape
        h, w = height // PATCH, width // PATCH
        s_B = timestep_B.float() / STEPS
        cells = x_t_BCFhw.reshape(b, c, f, h, PATCH, w, PATCH).permute(0, 2, 3, 5, 1, 4, 6).reshape(b, f * h * w, -1)
        place_N48, angle_Nd = self._positions(f, h, w, cells.device)
        x_BND = self.patch_in(cells) + self.place(place_N48)
        level_BD = functional.silu(self.level(_waves(s_B * 10, 64, 40.0)))
        level_B6D = self.level_parts(level_BD).reshape(b, 6, self.width)
        for block in self.blocks:
            x_BND = block(x_BND, level_B6D, caption, angle_Nd)
        shift, scale = self.out_parts(level_BD)[:, None].chunk(2, dim=-1)
        out = self.patch_out(self.out_norm(x_BND) * (1 + scale) + shift)
        out = out.reshape(b, f, h, w, c, PATCH, PATCH).permute(0, 4, 1, 2, 5, 3, 6).reshape(x_t_BCFhw.shape)
        # For independent cells of unit variance E[e - x | z] = z (2s - 1) / (s^2 + (1-s)^2); the network adds the rest.
        linear_B = (2 * s_B - 1) / (s_B**2 + (1 - s_B) ** 2)
        prediction: torch.Tensor = x_t_BCFhw * linear_B.reshape(-1, 1, 1, 1, 1) + out
        return prediction

    def _positions(self, f: int, h: int, w: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Absolute place features (N, 48) and rotary angles (N, d/2) of the tokens of a grid."""
        frame, row, column = (
            axis.flatten().float()
            for axis in torch.meshgrid(*(torch.arange(n, device=device) for n in (f, h, w)), indexing="ij")
        )
        # Rows and columns as shares of the frame: the ground is low and the sky high at any resolution.
        share_row, share_column = (row + 0.5) / h, (column + 0.5) / w
        place = torch.cat([_waves(frame, 16, 64.0), _waves(share_row, 16, 0.25), _waves(share_column, 16, 0.25)], dim=1)
        pairs = self.width // self.heads // 2
        in_time = pairs // 4
        in_row = (pairs - in_time) // 2
        angles = []
        for axis, count in ((frame, in_time), (row, in_row), (column, pairs - in_time - in_row)):
            speed = 100.0 ** (-torch.arange(count, dtype=torch.float32, device=device) / count)
            angles.append(axis[:, None] * speed)
        return place, torch.cat(angles, dim=1)
