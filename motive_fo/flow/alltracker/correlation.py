"""How well the anchor frame's cells match the cells of each frame around where they are thought to be.

The whole volume of matches is h w times as large as a frame's features, and a look-up reads 81 of its cells per level.
Three ways to the same numbers: ``volume`` builds it once for the window and reads it in every iteration; ``chunks``
builds it anew in every look-up, for as many frames or rows as the memory allows; ``tiles`` builds, for 8x8
neighbouring cells of the anchor, only the part that one of them reads, which is small because neighbours move alike.

Shapes: B clips, S frames of a window, F = B S, h w cells, N = h w, C channels, level l maps of h_l w_l = M cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Way = Literal["volume", "chunks", "tiles"]

LEVELS = 5
_RADIUS = 4
_SIDE = 2 * _RADIUS + 1
#: what a look-up reads for one cell.
READINGS = LEVELS * _SIDE**2
#: side of a tile in cells; sizes are multiples of 8 cells.
_TILE = 8
#: a tile that reads more than this share of a level's cells is matched with all of them.
_WORTH = 0.5


def pool(features_FChw: Tensor) -> list[Tensor]:
    """The levels of the features, each half as fine as the one before, as rows: [(F, h_l, w_l, C)]."""
    levels = [features_FChw]
    while len(levels) < LEVELS:
        levels.append(functional.interpolate(levels[-1], scale_factor=0.5, mode="area"))
    return [level.permute(0, 2, 3, 1).contiguous() for level in levels]


class Correlation:
    """Looks up matches of the anchor's cells in the frames of a window.

    The reading of offset (i, j) at level l is the product of the anchor cell's features with the level's, taken
    bilinearly at point / 2^l + (i - 4, j - 4), the frame's border continued outwards, divided by sqrt(C). **i moves
    x**, not y.

    Args:
        anchor_BNC: features of the anchor frame's cells.
        levels: ``pool`` of the window's frames, F = B S of them.
        way: see the module.
        memory: bytes a look-up may take for matches; one row of cells is always taken.
    """

    def __init__(self, anchor_BNC: Tensor, levels: Sequence[Tensor], way: Way, memory: int) -> None:
        self.anchor_BNC = anchor_BNC / math.sqrt(anchor_BNC.shape[-1])
        self.levels = levels
        self.span = len(levels[0]) // len(anchor_BNC)
        self.way = way
        self.memory = memory
        self.volumes: list[Tensor] = []
        if way == "volume":
            queries = self.anchor_BNC.repeat_interleave(self.span, 0)
            self.volumes = [matches(queries, level.flatten(1, 2)) for level in levels]

    def read(self, first: int, points_Fhw2: Tensor) -> Tensor:
        """Readings of some frames, from number ``first`` on.

        Args:
            first: of the F frames of all windows.
            points_Fhw2: where each of the anchor's cells is thought to be, x then y, in cells; float32.

        Returns:
            float32 (F, 405, h, w) in channels-last memory.
        """
        frames, h, w = points_Fhw2.shape[:3]
        out = points_Fhw2.new_empty(frames, h, w, LEVELS, _SIDE**2)
        for number, level in enumerate(self.levels):
            points = points_Fhw2 / 2**number
            if self.way == "volume":
                volume = self.volumes[number][first : first + frames]
                read = sample(volume, around(points.flatten(1, 2)), level.shape[1:3])
                out[..., number, :] = read.view(frames, h, w, -1)
                continue
            fill = self._read_tiles if self.way == "tiles" else self._read_all
            for f in range(frames):
                query_hwC = self.anchor_BNC[(first + f) // self.span].view(h, w, -1)
                fill(query_hwC, level[first + f], points[f], out[f, :, :, number])
        return out.flatten(3).permute(0, 3, 1, 2)

    def _read_all(self, query_hwC: Tensor, level_yxC: Tensor, points_hw2: Tensor, out_hwR: Tensor) -> None:
        """Every cell of a frame against every cell of a level, as many rows of cells at once as the memory allows."""
        size = level_yxC.shape[:2]
        w = query_hwC.shape[1]
        at_once = max(1, self.memory // (8 * w * size[0] * size[1]))
        for start in range(0, len(query_hwC), at_once):
            rows = slice(start, start + at_once)
            volume = matches(query_hwC[rows].flatten(0, 1)[None], level_yxC.flatten(0, 1)[None])
            read = sample(volume, around(points_hw2[rows].reshape(1, -1, 2)), size)
            out_hwR[rows] = read.view(-1, w, _SIDE**2)

    def _read_tiles(self, query_hwC: Tensor, level_yxC: Tensor, points_hw2: Tensor, out_hwR: Tensor) -> None:
        """Tiles of 8x8 cells against the smallest box that holds all they read; in full where boxes do not pay."""
        height, width, channels = level_yxC.shape
        points, queries = _tiles(points_hw2), _tiles(query_hwC)
        last = points.new_tensor([width - 1, height - 1])
        low = (points.amin(1).floor() - _RADIUS).clamp(min=0).minimum(last)
        high = (points.amax(1).floor() + _RADIUS + 1).clamp(min=0).minimum(last)
        sides = high - low + 1
        small = sides.prod(1) <= _WORTH * height * width
        if not small.any():
            self._read_all(query_hwC, level_yxC, points_hw2, out_hwR)
            return
        found = points.new_empty(*points.shape[:2], _SIDE**2)
        # all boxes take the size of the largest; those that would pass the border are moved inwards
        box_x, box_y = (int(side) for side in sides[small].amax(0))
        corner = low.minimum(points.new_tensor([width - box_x, height - box_y]))
        first_cell = (corner[:, 1] * width + corner[:, 0]).nan_to_num().long()
        box = (torch.arange(box_y)[:, None] * width + torch.arange(box_x)).flatten().to(first_cell.device)
        targets = level_yxC.flatten(0, 1)
        at_once = max(1, self.memory // (4 * len(box) * (channels + _TILE**2)))
        for some in torch.split(small.nonzero()[:, 0], at_once):
            cells = (first_cell[some, None] + box).flatten()
            volume = matches(queries[some], targets[cells].view(len(some), -1, channels))
            # what continues outwards is the frame's border, not the box's
            wanted = around(points[some]).clamp(min=0).minimum(last) - corner[some, None, None, None]
            found[some] = sample(volume, wanted, (box_y, box_x))
        at_once = max(1, self.memory // (8 * _TILE**2 * len(targets)))
        wide = (~small).nonzero()[:, 0]
        for some in torch.split(wide, at_once) if len(wide) else ():
            volume = matches(queries[some].flatten(0, 1)[None], targets[None])
            read = sample(volume, around(points[some].reshape(1, -1, 2)), (height, width))
            found[some] = read.view(len(some), _TILE**2, -1)
        across = query_hwC.shape[1] // _TILE
        untiled = found.view(-1, across, _TILE, _TILE, _SIDE**2).transpose(1, 2)
        out_hwR.copy_(untiled.reshape(out_hwR.shape))


def matches(queries_FNC: Tensor, targets_FMC: Tensor) -> Tensor:
    """Products of every query with every target of the same frame: float32 (F, N, M).

    ``Choice:`` those of one frame in float32 on a CPU as a 1x1 convolution, as in ``layers.project``.
    """
    on_cpu = queries_FNC.device.type == "cpu" and queries_FNC.dtype == torch.float32
    if not on_cpu or len(queries_FNC) > 1 or torch.is_autocast_enabled("cpu"):
        return (queries_FNC @ targets_FMC.transpose(1, 2)).float()
    queries = queries_FNC.transpose(1, 2)[:, :, None]
    return functional.conv2d(queries, targets_FMC[0, :, :, None, None])[:, :, 0].transpose(1, 2)


def around(points_FN2: Tensor) -> Tensor:
    """The 9x9 positions around each point: (F, N, 9, 9, 2). The first of the two axes moves x."""
    steps = torch.arange(-_RADIUS, _RADIUS + 1, device=points_FN2.device, dtype=points_FN2.dtype)
    return points_FN2[:, :, None, None] + torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1)


def sample(volume_FNM: Tensor, where_FNij2: Tensor, size: Sequence[int]) -> Tensor:
    """Volumes whose M cells are a map of ``size``, read bilinearly with their border continued: (F, N, 81)."""
    height, width = size
    half = where_FNij2.new_tensor([max(1, width - 1) / 2, max(1, height - 1) / 2])
    maps = volume_FNM.reshape(-1, 1, height, width)
    with torch.autocast(maps.device.type, enabled=False):
        read = functional.grid_sample(
            maps, where_FNij2.flatten(0, 1) / half - 1, padding_mode="border", align_corners=True
        )
    return read.view(*where_FNij2.shape[:2], -1)


def _tiles(map_hwc: Tensor) -> Tensor:
    """A map cut into tiles of 8x8 cells, row by row: (tiles, 64, c)."""
    h, w, channels = map_hwc.shape
    cut = map_hwc.view(h // _TILE, _TILE, w // _TILE, _TILE, channels).transpose(1, 2)
    return cut.reshape(-1, _TILE**2, channels)
