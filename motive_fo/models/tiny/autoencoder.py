"""Causal video autoencoder of the embedded model: 4 x 8 x 8 pixels to one cell of 16 channels.

Latent 0 sees frame 0 alone, latent k >= 1 the frames up to 4k: nothing in here looks ahead in time, neither when
encoding nor when decoding. Blocks of pixels become channels before the first layer (``Choice:`` a network on 8x8 cells
is some 50 times cheaper than one on pixels).

Shapes: B batch, T = 4 (F - 1) + 1 frames, F latent frames, H W pixels, h = H/8, w = W/8, C channels.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import nn
from torch.nn import functional

CHANNELS: Final = 16
TIME_STRIDE: Final = 4
SPACE_STRIDE: Final = 8
_PIXELS: Final = 3 * SPACE_STRIDE**2


class _CellNorm(nn.Module):
    """Layer norm over channels, cell by cell: a norm over space and time would let the past see the future."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x_BCFhw: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = self.norm(x_BCFhw.movedim(1, -1))
        return normed.movedim(-1, 1)


class _Block(nn.Module):
    """Residual block: a 3x3 convolution over space in fewer channels, mixed with the latent frame before."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.norm = _CellNorm(channels)
        self.down = nn.Conv2d(channels, inner, 1)
        self.space = nn.Conv2d(inner, inner, 3, padding=1)
        self.now = nn.Conv2d(inner, channels, 1)
        self.before = nn.Conv2d(inner, channels, 1, bias=False)

    def forward(self, x_BCFhw: torch.Tensor) -> torch.Tensor:
        b, c, f, h, w = x_BCFhw.shape
        flat = self.norm(x_BCFhw).transpose(1, 2).reshape(b * f, c, h, w)
        hidden = functional.silu(self.space(functional.silu(self.down(flat))))
        update = self.now(hidden).reshape(b, f, c, h, w)
        if f > 1:
            past = hidden.reshape(b, f, -1, h, w)[:, :-1].flatten(0, 1)
            carried = self.before(past).reshape(b, f - 1, c, h, w)
            update = update + functional.pad(carried, (0, 0, 0, 0, 0, 0, 1, 0))
        result: torch.Tensor = x_BCFhw + update.transpose(1, 2)
        return result


class Autoencoder(nn.Module):
    """Frames to latents and back. ``encode`` and ``decode`` work on normalised latents."""

    latent_mean: torch.Tensor
    latent_std: torch.Tensor

    def __init__(self, width: int = 160, inner: int = 96, blocks: int = 2) -> None:
        super().__init__()
        self.first_in = nn.Linear(_PIXELS, width)
        self.group_in = nn.Linear(TIME_STRIDE * _PIXELS, width)
        self.encoder = nn.Sequential(*[_Block(width, inner) for _ in range(blocks)])
        self.to_latent = nn.Linear(width, CHANNELS)
        self.from_latent = nn.Linear(CHANNELS, width)
        self.decoder = nn.Sequential(*[_Block(width, inner) for _ in range(blocks)])
        self.first_out = nn.Linear(width, _PIXELS)
        self.group_out = nn.Linear(width, TIME_STRIDE * _PIXELS)
        self.register_buffer("latent_mean", torch.zeros(CHANNELS))
        self.register_buffer("latent_std", torch.ones(CHANNELS))

    def encode_raw(self, video_BCTHW: torch.Tensor) -> torch.Tensor:
        """Latents before normalisation, (B, 16, F, h, w), of RGB in [-1, 1]; training uses it."""
        b, _, t, height, width = video_BCTHW.shape
        if t % TIME_STRIDE != 1 or height % SPACE_STRIDE or width % SPACE_STRIDE:
            raise ValueError(f"needs 4n+1 frames of multiples of 8 pixels, not {t} of {height}x{width}")
        cells = functional.pixel_unshuffle(video_BCTHW.transpose(1, 2), SPACE_STRIDE)  # B T 192 h w
        cells = cells.movedim(2, -1)
        first = self.first_in(cells[:, :1])
        _, _, h, w, _ = cells.shape
        groups = cells[:, 1:].reshape(b, -1, TIME_STRIDE, h, w, _PIXELS)
        later = self.group_in(groups.permute(0, 1, 3, 4, 2, 5).flatten(-2))
        hidden = self.encoder(torch.cat([first, later], dim=1).movedim(-1, 1))
        latent: torch.Tensor = self.to_latent(hidden.movedim(1, -1)).movedim(-1, 1)
        return latent

    def decode_raw(self, latent_BCFhw: torch.Tensor) -> torch.Tensor:
        """RGB (B, 3, T, H, W), about [-1, 1], of latents before normalisation."""
        b, _, f, h, w = latent_BCFhw.shape
        hidden = self.from_latent(latent_BCFhw.movedim(1, -1)).movedim(-1, 1)
        hidden = self.decoder(hidden).movedim(1, -1)  # B F h w width
        first = self.first_out(hidden[:, :1])
        later = self.group_out(hidden[:, 1:]).reshape(b, f - 1, h, w, TIME_STRIDE, _PIXELS)
        later = later.permute(0, 1, 4, 2, 3, 5).reshape(b, TIME_STRIDE * (f - 1), h, w, _PIXELS)
        cells = torch.cat([first, later], dim=1).movedim(-1, 2)
        return functional.pixel_shuffle(cells, SPACE_STRIDE).transpose(1, 2)

    def encode(self, video_BCTHW: torch.Tensor) -> torch.Tensor:
        """Latents of about zero mean and unit deviation per channel."""
        return (self.encode_raw(video_BCTHW) - self._per_channel(self.latent_mean)) / self._per_channel(self.latent_std)

    def decode(self, latent_BCFhw: torch.Tensor) -> torch.Tensor:
        """The inverse of ``encode``, as far as there is one."""
        return self.decode_raw(latent_BCFhw * self._per_channel(self.latent_std) + self._per_channel(self.latent_mean))

    @staticmethod
    def _per_channel(value_C: torch.Tensor) -> torch.Tensor:
        return value_C.reshape(1, -1, 1, 1, 1)
