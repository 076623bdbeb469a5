"""AllTracker itself: windows over a clip, each refined a few times at 1/8 resolution.

Shapes: B clips, T frames, S frames of a window, F = B S, H W pixels, h w cells of 8x8 padded pixels, N = h w.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from motive_fo.flow.alltracker import Variant
from motive_fo.flow.alltracker.correlation import LEVELS, Correlation, Way, pool
from motive_fo.flow.alltracker.encoder import ConvNeXtEncoder, ResidualEncoder
from motive_fo.flow.alltracker.update import CHANNELS, UpdateBlock

Mode = Literal["sliding", "whole"]

WINDOW = 16
_STEP = 8
_CELL = 8
#: sides are padded to multiples of this, and to twice this at least: the coarsest level has one cell then.
_MULTIPLE = 64
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
#: ``Choice:`` bytes for what is only held for a moment, on a CPU: what fits its caches is quickest too.
_CPU_MEMORY = 48 * 2**20
#: on a GPU this share of what is free.
_GPU_SHARE = 0.5
#: sequences attention is given at once: attention kernels on GPUs take fewer than 65536.
_MOST_SEQUENCES = 32768
#: float32 numbers per cell of a frame that are alive at once while it is encoded (full, at 1/4 resolution) or updated.
_NUMBERS_PER_CELL = 4096


class AllTracker(nn.Module):
    """Where every pixel of the first frame is in every frame, how visible it is there, and how sure that is.

    Called as ``network(frames_BTCHW, iterations=4, mode="sliding")``; see ``forward``. The names of its parameters are
    those of the official checkpoints. For inference: gradients are not recorded.

    Attributes:
        memory: bytes the network may take for what it only needs for a moment, which decides how many frames, cells
            and matches it works on at once; beside it stand the clip, the result and about 40 kB per cell of a window.
            None: 48 MiB on a CPU, half of what is free on a GPU. The output does not depend on it.
        way: how matches are looked up, see ``correlation``. None: ``tiles`` on a CPU; on a GPU ``volume`` where it fits
            the memory and else ``chunks``. The output does not depend on it.
    """

    time_emb: Tensor

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        if variant not in ("full", "tiny"):
            raise ValueError(f"unknown AllTracker variant {variant!r}: use full or tiny")
        self.variant: Variant = variant
        self.memory: int | None = None
        self.way: Way | None = None
        if variant == "full":
            self.cnn = ConvNeXtEncoder()
            self.dot_conv = nn.Conv2d(384, 2 * CHANNELS, 1)
        else:
            self.fnet = ResidualEncoder()
        self.update_block = UpdateBlock()
        self.flow_head = _head(2, 3)
        self.visconf_head = _head(2, 3)
        self.upsample_weight = _head(9 * _CELL**2, 1)
        self.register_buffer("time_emb", time_embedding())
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def forward(
        self,
        frames_BTCHW: Tensor,
        iterations: int = 4,
        mode: Mode = "sliding",
        known: KnownFeatures | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Track the pixels of the first frame.

        Args:
            frames_BTCHW: RGB in [0, 255], of any real type; two frames or more, of any size.
            iterations: refinements of each window.
            mode: where two windows overlap, ``sliding`` keeps the earlier one's answer, ``whole`` the later one's.
            known: features of these frames from other passes over them, which is used and added to.

        Returns:
            flow (B, T, 2, H, W), x then y, from the pixels of frame 0 to frame t, in pixels; and visibility and
            confidence (B, T, 2, H, W) in [0, 1]; both float32. Of T = 2 frames only the second one's, without an axis
            of time: (B, 2, H, W).
        """
        if frames_BTCHW.ndim != 5 or frames_BTCHW.shape[2] != 3 or 0 in frames_BTCHW.shape:
            raise ValueError(f"frames are (B, T, 3, H, W), not {tuple(frames_BTCHW.shape)}")
        if frames_BTCHW.shape[1] < 2:
            raise ValueError("one frame alone has no motion: AllTracker needs two or more")
        if iterations < 1:
            raise ValueError(f"iterations must be 1 or more, not {iterations}")
        if mode not in ("sliding", "whole"):
            raise ValueError(f"unknown mode {mode!r}: use sliding or whole")
        if frames_BTCHW.shape[1] == 2:
            flow, visconf = self._track(frames_BTCHW, [1], 1, iterations, mode, known)
            return flow[:, 1], visconf[:, 1]
        return self._track(frames_BTCHW, window_starts(frames_BTCHW.shape[1]), WINDOW, iterations, mode, known)

    def _track(
        self,
        frames_BTCHW: Tensor,
        starts: list[int],
        span: int,
        iterations: int,
        mode: Mode,
        known: KnownFeatures | None,
    ) -> tuple[Tensor, Tensor]:
        batch, length, _, height, width = frames_BTCHW.shape
        padding = Padding(height, width)
        h, w = padding.cells
        flow = torch.empty(batch, length, 2, height, width, device=frames_BTCHW.device)
        visconf = torch.empty_like(flow)
        features = _Features(self, frames_BTCHW, padding, known)
        anchor_BNC = features.levels([0])[0].flatten(1, 2)
        cells = torch.zeros(batch, span, 2, h, w, device=frames_BTCHW.device)
        logits = torch.zeros_like(cells)
        answered = starts[0]
        for start in starts:
            if start > starts[0]:
                cells, logits = (
                    torch.cat((x[:, _STEP:], x[:, -1:].expand(-1, _STEP, -1, -1, -1)), 1) for x in (cells, logits)
                )
            # past its end the clip goes on with its last frame
            levels = features.levels([min(t, length - 1) for t in range(start, start + span)])
            window = _Window(self, anchor_BNC, levels, cells.flatten(0, 1), logits.flatten(0, 1))
            for _ in range(iterations):
                window.refine()
            cells, logits = (x.view(batch, span, 2, h, w) for x in (window.cells, window.logits))
            kept = [t for t in range(start, min(start + span, length)) if mode == "whole" or t >= answered]
            for b in range(batch):
                for some in _runs(kept, window.at_once):
                    of_window = slice(b * span + some[0] - start, b * span + some[-1] - start + 1)
                    big_flow, big_logits = window.upsample(of_window)
                    flow[b, some[0] : some[-1] + 1] = padding.crop(big_flow)
                    visconf[b, some[0] : some[-1] + 1] = padding.crop(big_logits).sigmoid()
            answered = start + span
        return flow, visconf

    def encode(self, frames_F3HW: Tensor) -> Tensor:
        """Features (F, C, h, w) of padded and normalised frames."""
        features: Tensor = self.dot_conv(self.cnn(frames_F3HW)) if self.variant == "full" else self.fnet(frames_F3HW)
        return features

    def budget(self) -> int:
        """Bytes for what is only needed for a moment."""
        if self.memory is not None:
            return self.memory
        if self.time_emb.device.type != "cuda":
            return _CPU_MEMORY
        return int(_GPU_SHARE * torch.cuda.mem_get_info(self.time_emb.device)[0])


class Padding:
    """Frames brought to a size the network takes, by repeating their border evenly on both sides, and back."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        padded = [max(2 * _MULTIPLE, -(-side // _MULTIPLE) * _MULTIPLE) for side in (height, width)]
        self.cells = padded[0] // _CELL, padded[1] // _CELL
        rows, columns = padded[0] - height, padded[1] - width
        self.top, self.left = rows // 2, columns // 2
        self.around = (self.left, columns - self.left, self.top, rows - self.top)

    def prepare(self, frames_FCHW: Tensor, dtype: torch.dtype) -> Tensor:
        """Normalised with ImageNet's mean and deviation, and padded."""
        mean, deviation = (frames_FCHW.new_tensor(x, dtype=torch.float32).view(3, 1, 1) for x in (_MEAN, _DEVIATION))
        normalised = (frames_FCHW.float() / 255 - mean) / deviation
        return functional.pad(normalised, self.around, mode="replicate").to(dtype)

    def crop(self, padded: Tensor) -> Tensor:
        """The part of (..., H, W) that belongs to the frame."""
        return padded[..., self.top : self.top + self.height, self.left : self.left + self.width]


class KnownFeatures:
    """What several passes over the same frames share: the encoder's answer for every frame.

    Args:
        numbers: a number for each frame of the pass, the same frame's being the same in every pass.
        by_number: number -> (B, C, h, w), filled as frames are encoded; shared by the passes.
    """

    def __init__(self, numbers: Sequence[int], by_number: dict[int, Tensor]) -> None:
        self.numbers = numbers
        self.by_number = by_number


class _Features:
    """Features of the frames of some clips, each encoded once and kept while windows may ask for it."""

    def __init__(
        self, network: AllTracker, frames_BTCHW: Tensor, padding: Padding, known: KnownFeatures | None
    ) -> None:
        self.network = network
        self.known = known
        self.frames = frames_BTCHW
        self.padding = padding
        self.kept: dict[int, list[Tensor]] = {}

    def levels(self, wanted: list[int]) -> list[Tensor]:
        """``correlation.pool`` of frames by number, rising: [(B S, h_l, w_l, C)]. Frames before them are forgotten."""
        self.kept = {t: levels for t, levels in self.kept.items() if t >= wanted[0]}
        missing = sorted(set(wanted) - set(self.kept))
        batch = len(self.frames)
        if self.known is not None:
            elsewhere = {t: self.known.by_number.get(self.known.numbers[t]) for t in missing}
            self.kept |= {t: pool(encoded) for t, encoded in elsewhere.items() if encoded is not None}
            missing = [t for t in missing if t not in self.kept]
        dtype = self.network.update_block.final_conv.weight.dtype
        h, w = self.padding.cells
        at_once = max(1, self.network.budget() // (4 * _NUMBERS_PER_CELL * batch * h * w))
        for some in _runs(missing, at_once):
            frames = self.frames[:, some[0] : some[-1] + 1].flatten(0, 1)
            encoded = self.network.encode(self.padding.prepare(frames, dtype))
            if self.known is not None:
                for i, of_frame in enumerate(encoded.view(batch, len(some), *encoded.shape[1:]).unbind(1)):
                    self.known.by_number[self.known.numbers[some[i]]] = of_frame.clone()
            pyramid = pool(encoded)
            each = [level.view(batch, len(some), *level.shape[1:]) for level in pyramid]
            self.kept |= {t: [level[:, i].clone() for level in each] for i, t in enumerate(some)}
        return [torch.stack([self.kept[t][i] for t in wanted], 1).flatten(0, 1) for i in range(LEVELS)]


class _Window:
    """The frames of one window of every clip, and what is known of them so far."""

    def __init__(
        self, network: AllTracker, anchor_BNC: Tensor, levels: list[Tensor], cells: Tensor, logits: Tensor
    ) -> None:
        self.network = network
        self.cells, self.logits = cells, logits
        frames, h, w = levels[0].shape[:3]
        batch = len(anchor_BNC)
        self.span = frames // batch
        memory = network.budget()
        matches = frames * h * w * sum(level[0, ..., 0].numel() for level in levels)
        way = network.way or _choose_way(cells.device, memory, matches)
        self.correlation = Correlation(anchor_BNC, levels, way, memory)
        self.at_once = max(1, min(frames, memory // (4 * _NUMBERS_PER_CELL * h * w)))
        fitting = memory // (4 * 16 * CHANNELS * frames)
        self.cells_at_once = max(1, min(h * w, fitting, _MOST_SEQUENCES // batch))
        anchor = anchor_BNC.view(batch, h, w, -1).permute(0, 3, 1, 2)
        feature, self.context = anchor[:, :CHANNELS], anchor[:, -CHANNELS:]
        self.feature = feature.repeat_interleave(self.span, 0).contiguous(memory_format=torch.channels_last)
        time_SC = network.time_emb[0] if self.span == WINDOW else network.time_emb[0, 1:2]
        self.time = time_SC.to(anchor.dtype)[:, :, None, None]
        self.mixed = torch.empty_like(self.feature)
        columns, rows = torch.meshgrid(torch.arange(w), torch.arange(h), indexing="xy")
        self.grid_hw2 = torch.stack((columns, rows), -1).to(cells)

    def refine(self) -> None:
        """One iteration: look up, update the features, move the estimate."""
        network = self.network
        for some in self._chunks():
            points = self.grid_hw2 + self.cells[some].permute(0, 2, 3, 1)
            found = self.correlation.read(some.start, points).to(self.feature.dtype)
            which = torch.arange(some.start, some.stop, device=points.device)
            context = self.context[which // self.span] + self.time[which % self.span]
            flow, logits = (x[some].to(self.feature.dtype) for x in (self.cells, self.logits))
            self.mixed[some] = network.update_block.compress(self.feature[some], context, found, flow, logits)
        network.update_block.mix(self.mixed, self.span, self.at_once, self.cells_at_once)
        moved, changed = torch.empty_like(self.cells), torch.empty_like(self.logits)
        for some in self._chunks():
            feature = network.update_block.final_conv(self.mixed[some])
            moved[some] = network.flow_head(feature)
            changed[some] = network.visconf_head(feature)
            self.feature[some] = feature
        self.cells, self.logits = self.cells + moved, self.logits + changed

    def upsample(self, some: slice) -> tuple[Tensor, Tensor]:
        """Flow in pixels and logits of some frames at full resolution: (F, 2, 8h, 8w) each."""
        weights = 0.25 * self.network.upsample_weight(self.feature[some]).float()
        frames, _, h, w = weights.shape
        weights = weights.view(frames, 1, 9, _CELL, _CELL, h, w).softmax(2)
        both = torch.cat((self.cells[some], self.logits[some]), 1)
        # the logits are multiplied by the side of a cell too: so the official weights were trained
        near = functional.unfold(_CELL * both, 3, padding=1).view(frames, 4, 9, 1, 1, h, w)
        big = both.new_zeros(frames, 4, _CELL, _CELL, h, w)
        for i in range(9):
            big += weights[:, :, i] * near[:, :, i]
        full = big.permute(0, 1, 4, 2, 5, 3).reshape(frames, 4, _CELL * h, _CELL * w)
        return full[:, :2], full[:, 2:]

    def _chunks(self) -> Iterator[slice]:
        for start in range(0, len(self.cells), self.at_once):
            yield slice(start, min(start + self.at_once, len(self.cells)))


def window_starts(length: int) -> list[int]:
    """The first frames of the windows over a clip: 8 apart, until one reaches the clip's end."""
    starts = [0]
    while starts[-1] + WINDOW < length:
        starts.append(starts[-1] + _STEP)
    return starts


def time_embedding() -> Tensor:
    """Sines, then cosines, of 0 to 15 at 64 rates from 1 down to nearly 1/10000: (1, 16, 128)."""
    rates = 1 / 10000 ** (torch.arange(CHANNELS // 2, dtype=torch.float64) / (CHANNELS // 2))
    angles = torch.arange(WINDOW, dtype=torch.float64)[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), 1).float()[None]


def _head(outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(CHANNELS, 2 * CHANNELS, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(2 * CHANNELS, outputs, kernel, padding=kernel // 2),
    )


def _choose_way(device: torch.device, memory: int, matches: int) -> Way:
    if device.type == "cpu":
        return "tiles"
    return "volume" if 4 * matches <= memory // 2 else "chunks"


def _runs(numbers: list[int], longest: int) -> Iterator[list[int]]:
    """Rising numbers cut into runs without gaps of at most ``longest``."""
    run: list[int] = []
    for number in numbers:
        if run and (number != run[-1] + 1 or len(run) == longest):
            yield run
            run = []
        run.append(number)
    if run:
        yield run
