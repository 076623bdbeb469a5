"""The update block: one refinement of flow, visibility and confidence for all frames of a window.

Shapes: B clips, S frames of a window, F <= B S frames worked on at once, h w cells, N = h w, C = 128 channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from motive_fo.flow.alltracker.correlation import READINGS
from motive_fo.flow.alltracker.layers import ConvNeXtBlock, project, rows_of

CHANNELS = 128
_HEADS = 8


class MotionEncoder(nn.Module):
    """What was looked up and the flow that led there, as 126 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.convc1 = nn.Conv2d(READINGS, 512, 1)
        self.convc2 = nn.Conv2d(512, 192, 3, padding=1)
        self.convf1 = nn.Conv2d(2, 256, 5, padding=2)
        self.convf2 = nn.Conv2d(256, 64, 3, padding=1)
        self.conv = nn.Conv2d(192 + 64, CHANNELS - 2, 3, padding=1)

    def forward(self, correlation: Tensor, flow: Tensor) -> Tensor:
        """(F, 405, h, w) and (F, 2, h, w) -> (F, 126, h, w)."""
        seen = functional.relu_(self.convc2(functional.relu_(self.convc1(correlation))))
        moved = functional.relu_(self.convf2(functional.relu_(self.convf1(flow))))
        return functional.relu_(self.conv(torch.cat((seen, moved), 1)))


class Attention(nn.Module):
    """Self-attention with 8 heads over the second axis from the end."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q = nn.Linear(CHANNELS, CHANNELS)
        self.to_kv = nn.Linear(CHANNELS, 2 * CHANNELS)
        self.to_out = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, x_NSC: Tensor) -> Tensor:
        key_value = project(x_NSC, self.to_kv).chunk(2, -1)
        query, key, value = (
            z.view(*z.shape[:2], _HEADS, -1).transpose(1, 2) for z in (project(x_NSC, self.to_q), *key_value)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return project(mixed.transpose(1, 2).flatten(2), self.to_out)


class Perceptron(nn.Module):
    """Two layers with the tanh form of GELU between them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(CHANNELS, 4 * CHANNELS)
        self.fc2 = nn.Linear(4 * CHANNELS, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.ops.aten.gelu_(project(x, self.fc1), approximate="tanh")
        return project(hidden, self.fc2)


class Transformer(nn.Module):
    """A residual transformer block; its normalisation learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = Attention()
        self.mlp = Perceptron()

    def forward(self, x_NSC: Tensor) -> Tensor:
        x_NSC = x_NSC + self.attn(functional.layer_norm(x_NSC, (CHANNELS,), eps=1e-6))
        mixed: Tensor = x_NSC + self.mlp(functional.layer_norm(x_NSC, (CHANNELS,), eps=1e-6))
        return mixed


class TemporalBlock(nn.Module):
    """x + scale * Transformer(x) along time, every cell by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer_scale = nn.Parameter(torch.full((CHANNELS, 1), 1e-6))
        self.block = Transformer()

    def forward(self, x_BSNC: Tensor, cells: int) -> Tensor:
        """Rows (B, S, N, C), **changed in place** ``cells`` cells at a time, and returned."""
        scale = self.layer_scale.flatten()
        for some in torch.split(x_BSNC, cells, dim=2):
            tokens = some.transpose(1, 2).flatten(0, 1)
            change = scale * self.block(tokens)
            some += change.view(len(some), -1, *change.shape[1:]).transpose(1, 2)
        return x_BSNC


class UpdateBlock(nn.Module):
    """New flow features from the old ones, the context, the motion and the present estimate."""

    def __init__(self) -> None:
        super().__init__()
        self.motion_encoder = MotionEncoder()
        self.compressor = nn.Conv2d(3 * CHANNELS + 2, CHANNELS, 1)
        self.refine = nn.ModuleList(ConvNeXtBlock(CHANNELS) if i % 2 else TemporalBlock() for i in range(6))
        self.final_conv = nn.Conv2d(CHANNELS, CHANNELS, 1)

    def compress(self, feature: Tensor, context: Tensor, correlation: Tensor, flow: Tensor, logits: Tensor) -> Tensor:
        """Everything known of F frames, each (F, c, h, w), as (F, C, h, w)."""
        motion = self.motion_encoder(correlation, flow)
        parts = (feature, context, motion, flow, logits)
        known = torch.cat([part.to(motion.dtype) for part in parts], 1)
        out: Tensor = self.compressor(known.contiguous(memory_format=torch.channels_last))
        return out

    def mix(self, x_FChw: Tensor, span: int, frames: int, cells: int) -> Tensor:
        """The three pairs of temporal and spatial blocks over B windows of S frames, **in place**.

        Args:
            x_FChw: F = B S, in channels-last memory.
            span: S.
            frames: how many frames a spatial block works on at once.
            cells: how many cells a temporal block works on at once.
        """
        rows_BSNC = rows_of(x_FChw).view(-1, span, x_FChw.shape[2] * x_FChw.shape[3], CHANNELS)
        for block in self.refine:
            if isinstance(block, TemporalBlock):
                block(rows_BSNC, cells)
            else:
                for some in torch.split(x_FChw, frames):
                    block(some)
        return x_FChw
