"""The two layers that encoder and update block share, written for inference.

Shapes: F frames, C channels, h w cells. Feature maps are (F, C, h, w) in channels-last memory, so that a map seen as
rows of C numbers is a view and not a copy.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

#: ``Choice:`` rows that go through a perceptron at once on a CPU. Measured: the four times wider hidden rows stay in
#: the cache and their memory is used again, which halves the time of a whole map at once; 1024 to 4096 are alike.
_CPU_ROWS = 2048


def rows_of(map_FChw: Tensor) -> Tensor:
    """A channels-last map as (F h w, C), sharing its memory."""
    return map_FChw.permute(0, 2, 3, 1).flatten(0, 2)


def project(rows: Tensor, layer: nn.Linear) -> Tensor:
    """``layer(rows)`` for (..., C).

    ``Choice:`` in float32 on a CPU as a 1x1 convolution, for which torch takes oneDNN: 1.3 to 2.5 times the speed of
    its matrix product at these sizes. With one thread torch does so only from 16 pictures on: the rows are dealt out.
    """
    if rows.device.type != "cpu" or rows.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return functional.linear(rows, layer.weight, layer.bias)
    count = rows.numel() // rows.shape[-1]
    pictures = 16 if count % 16 == 0 else 1
    flat = rows.reshape(pictures, 1, -1, rows.shape[-1]).permute(0, 3, 1, 2)
    out = functional.conv2d(flat, layer.weight[:, :, None, None], layer.bias)
    return out.permute(0, 2, 3, 1).reshape(*rows.shape[:-1], -1)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of a (F, C, h, w) map."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """x + scale * MLP(LayerNorm(depthwise 7x7 (x))) (Liu et al., arXiv 2201.03545)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer_scale = nn.Parameter(torch.full((channels, 1, 1), 1e-6))
        # numbered as in the checkpoints, where permutations and the GELU take the numbers left out
        self.block = nn.ModuleDict(
            {
                "0": nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
                "2": nn.LayerNorm(channels, eps=1e-6),
                "3": nn.Linear(channels, 4 * channels),
                "5": nn.Linear(4 * channels, channels),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """The channels-last map (F, C, h, w), **changed in place**, and returned."""
        depthwise, norm, wider, narrower = self.block.values()
        assert isinstance(wider, nn.Linear)
        assert isinstance(narrower, nn.Linear)
        spread, out = rows_of(depthwise(x)), rows_of(x)
        scale = self.layer_scale.flatten()
        step = _CPU_ROWS if x.device.type == "cpu" else len(out)
        for start in range(0, len(out), step):
            some = slice(start, start + step)
            hidden = torch.ops.aten.gelu_(project(norm(spread[some]), wider))
            out[some] += scale * project(hidden, narrower)
        return x
