"""Frames to features at 1/8 resolution: a ConvNeXt for the full variant, a residual network for the tiny one.

Shapes: F frames, H W padded pixels, h = H/8, w = W/8 cells, C = 256 (full) or 128 (tiny) channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from motive_fo.flow.alltracker.layers import ChannelNorm, ConvNeXtBlock


class ConvNeXtEncoder(nn.Module):
    """ConvNeXt-T cut after its third stage, which keeps 1/8 resolution: its 3x3 convolution is dilated, not strided.

    (F, 3, H, W) -> (F, 384, h, w).
    """

    def __init__(self) -> None:
        super().__init__()

        def blocks(channels: int, count: int) -> nn.Sequential:
            return nn.Sequential(*(ConvNeXtBlock(channels) for _ in range(count)))

        self.features = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 96, 4, stride=4), ChannelNorm(96)),
            blocks(96, 3),
            nn.Sequential(ChannelNorm(96), nn.Conv2d(96, 192, 2, stride=2)),
            blocks(192, 3),
            nn.Sequential(ChannelNorm(192), nn.Conv2d(192, 384, 3, padding=2, dilation=2)),
            blocks(384, 9),
        )

    def forward(self, frames_F3HW: Tensor) -> Tensor:
        x = frames_F3HW
        for stage in self.features:
            # the blocks work in place on rows, which asks for channels-last memory
            x = stage(x.contiguous(memory_format=torch.channels_last))
        return x


class ResidualEncoder(nn.Module):
    """Four residual stages at 1/2, 1/4, 1/8 and 1/16, brought to 1/8 and mixed. (F, 3, H, W) -> (F, 128, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.layer1 = nn.Sequential(ResidualBlock(64, 64, 1), ResidualBlock(64, 64, 1))
        self.layer2 = nn.Sequential(ResidualBlock(64, 96, 2), ResidualBlock(96, 96, 1))
        self.layer3 = nn.Sequential(ResidualBlock(96, 128, 2), ResidualBlock(128, 128, 1))
        self.layer4 = nn.Sequential(ResidualBlock(128, 128, 2), ResidualBlock(128, 128, 1))
        self.conv2 = nn.Conv2d(64 + 96 + 128 + 128, 256, 3, padding=1)
        self.conv3 = nn.Conv2d(256, 128, 1)

    def forward(self, frames_F3HW: Tensor) -> Tensor:
        height, width = frames_F3HW.shape[-2:]
        x = frames_F3HW.contiguous(memory_format=torch.channels_last)
        x = functional.relu_(instance_norm(self.conv1(x)))
        scales = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            scales.append(functional.interpolate(x, (height // 8, width // 8), mode="bilinear", align_corners=True))
        mixed: Tensor = functional.relu_(instance_norm(self.conv2(torch.cat(scales, 1))))
        out: Tensor = self.conv3(mixed)
        return out


def instance_norm(x: Tensor) -> Tensor:
    """Every channel of every frame brought to mean 0 and variance 1, with nothing learned.

    ``Choice:`` in float32 on a CPU by hand: torch's own copies channels-last maps, hands on another layout and takes
    nearly 4 times as long.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return functional.instance_norm(x)
    centred = x - x.mean((2, 3), keepdim=True)
    return centred.mul_((centred.square().mean((2, 3), keepdim=True) + 1e-5).rsqrt())


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance normalisation (nothing learned in it) beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        # a list, for the official name downsample.0
        self.downsample = nn.ModuleList([nn.Conv2d(inputs, outputs, 1, stride=stride)] if stride > 1 else [])

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu_(instance_norm(self.conv1(x)))
        y = functional.relu_(instance_norm(self.conv2(y)))
        for shortcut in self.downsample:
            x = instance_norm(shortcut(x))
        return functional.relu_(y.add_(x))
