"""AllTracker as a flow estimator: frames in, either reading of displacement out.

Shapes: T frames, H W pixels, 2 = x (right) then y (down).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from motive_fo.errors import ClipError, ConfigError
from motive_fo.flow.alltracker import Variant, build_network
from motive_fo.flow.alltracker.readings import Tracks, anchor_reading, step_reading
from motive_fo.flow.alltracker.weights import NAMES, Weights, find_weights, load_weights
from motive_fo.flow.base import Displacement, Reading

if TYPE_CHECKING:
    from torch import Tensor

    from motive_fo.flow.alltracker.network import AllTracker, KnownFeatures

Precision = Literal["float32", "bfloat16"]

#: of the numbers this module and ``readings`` make of the network's output.
_VERSION = 1
#: bytes that the features of a clip may take on a CPU between two anchors: 81 frames of 512x288 take 0.2 GiB.
_SHARED_ON_CPU = 2**30


class AllTrackerFlow:
    """Dense displacement by AllTracker.

    Args:
        variant: ``full`` (16.5 M parameters) or ``tiny`` (6.3 M).
        weights: a file of weights; None looks for the official ones, see ``weights.find_weights``.
        input_size: long side of what the network sees, in pixels; frames are scaled to it, up or down, both sides
            floored to multiples of 8, and the displacement is scaled back. 0: frames as they are. ``Choice:`` 512. The
            authors claim 76.3 (of 100) at 384x512 against 80.6 at 768x1024, for which the network works 4 times as
            long; a mask on the latent grid averages cells of 8 pixels or more. Not measured by us on masks.
        anchor: the frame whose pixels are tracked; counted from the end if negative.
        second_anchor: another one for the ``step`` reading, whose tracks show what the first's do not; None: no other,
            for half the time. ``Choice:`` the last frame: docs/alltracker.md.
        iterations: refinements of each window, 4 as the network was trained.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``bfloat16`` runs the network under autocast.
        memory_mib: what the network may take for a moment, see ``network.AllTracker``.
        download: whether missing weights may be downloaded.

    Raises:
        ConfigError: an argument out of its range.
        InputError: no weights, or weights of something else.
    """

    readings: frozenset[Reading] = frozenset({"step", "anchor"})

    def __init__(
        self,
        variant: Variant = "full",
        weights: str | Path | None = None,
        *,
        input_size: int = 512,
        anchor: int = 0,
        second_anchor: int | None = -1,
        iterations: int = 4,
        device: str = "auto",
        precision: Precision = "float32",
        memory_mib: int | None = None,
        download: bool = True,
    ) -> None:
        from motive_fo.models.registry import pick_device

        if variant not in NAMES:
            raise ConfigError(f"unknown AllTracker variant {variant!r}: use full or tiny")
        if input_size != 0 and input_size < 64:
            raise ConfigError(f"input_size is 0 (frames as they are) or 64 pixels and more, not {input_size}")
        if iterations < 1:
            raise ConfigError(f"iterations must be 1 or more, not {iterations}")
        if precision not in ("float32", "bfloat16"):
            raise ConfigError(f"unknown precision {precision!r}: use float32 or bfloat16")
        if memory_mib is not None and memory_mib < 1:
            raise ConfigError(f"memory_mib must be 1 or more, not {memory_mib}")
        self.variant: Variant = variant
        self.input_size = input_size
        self.anchor, self.second_anchor = anchor, second_anchor
        self.iterations = iterations
        self.precision: Precision = precision
        self.device = pick_device(device)
        self.weights: Weights = find_weights(variant, weights, download=download)
        self.network: AllTracker = build_network(variant)
        load_weights(self.network, self.weights)
        self.network.to(self.device)
        self.network.memory = None if memory_mib is None else memory_mib * 2**20

    def identity(self, reading: Reading = "step") -> Mapping[str, Any]:
        """See ``FlowEstimator``. Device and memory are no part of it: they change the numbers by rounding only."""
        return {
            "estimator": NAMES[self.variant],
            "version": _VERSION,
            "weights": self.weights.sha256,
            "input_size": self.input_size,
            "iterations": self.iterations,
            "precision": self.precision,
            "anchor": self.anchor,
            **({"second_anchor": self.second_anchor} if reading == "step" else {}),
        }

    def estimate(self, frames_THW3: npt.NDArray[np.uint8], reading: Reading) -> Displacement:
        """See ``FlowEstimator``. Raises ``ClipError`` (``flow_failed``) where the network's answer is not finite."""
        if reading not in self.readings:
            raise ConfigError(f"unknown reading {reading!r}: use step or anchor")
        length = len(frames_THW3)
        first = _frame_number(self.anchor, length)
        if reading == "anchor":
            return anchor_reading(self.track(frames_THW3, first))
        anchors = [first]
        if self.second_anchor is not None and _frame_number(self.second_anchor, length) != first:
            anchors.append(_frame_number(self.second_anchor, length))
        features: dict[int, Tensor] | None
        features = {} if len(anchors) > 1 and self._can_share(*frames_THW3.shape[:3]) else None
        return step_reading([self.track(frames_THW3, anchor, features) for anchor in anchors])

    def track(
        self, frames_THW3: npt.NDArray[np.uint8], anchor: int = 0, features: dict[int, Tensor] | None = None
    ) -> Tracks:
        """Tracks of one frame's pixels through the clip: forwards to its end, and backwards to its start.

        Args:
            features: of this clip's frames by number, from tracks of other anchors; used and added to.
        """
        import torch

        from motive_fo.flow.alltracker.network import KnownFeatures

        def shared(numbers: Sequence[int]) -> KnownFeatures | None:
            return None if features is None else KnownFeatures(numbers, features)

        if frames_THW3.ndim != 4 or frames_THW3.shape[-1] != 3 or len(frames_THW3) < 2:
            raise ValueError(f"frames are (T, H, W, 3) with T >= 2, not {frames_THW3.shape}")
        frames = self._prepare(torch.from_numpy(np.ascontiguousarray(frames_THW3)))
        length, height, width = frames_THW3.shape[:3]
        flow_THW2 = np.zeros((length, height, width, 2), np.float32)
        visibility_THW = np.ones((length, height, width), np.float32)
        # the anchor's own frame comes with the later part, as upstream has it; alone at the end it has not moved
        if anchor > 0:
            flow, visibility = self._run(frames[: anchor + 1].flip(0), (height, width), shared(range(anchor, -1, -1)))
            flow_THW2[: anchor + 1], visibility_THW[: anchor + 1] = flow[::-1], visibility[::-1]
        if anchor < length - 1:
            flow, visibility = self._run(frames[anchor:], (height, width), shared(range(anchor, length)))
            flow_THW2[anchor:], visibility_THW[anchor:] = flow, visibility
        if not (np.isfinite(flow_THW2).all() and np.isfinite(visibility_THW).all()):
            raise ClipError("flow", "flow_failed", f"{NAMES[self.variant]} gave displacements that are not finite")
        return Tracks(flow_THW2, visibility_THW, anchor)

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of what the network sees of frames of this size."""
        if not self.input_size:
            return height, width
        scale = self.input_size / max(height, width)
        rows, columns = (max(8, int(side * scale + 1e-6) // 8 * 8) for side in (height, width))
        return rows, columns

    def _prepare(self, frames_THW3: Tensor) -> Tensor:
        """Frames as (T, 3, h, w) of the network's size on the device."""
        import torch
        from torch.nn import functional

        height, width = frames_THW3.shape[1:3]
        size = self.network_size(height, width)
        frames = frames_THW3.to(self.device).permute(0, 3, 1, 2)
        if size == (height, width):
            return frames
        shrinks = size[0] * size[1] < height * width
        # one frame at a time: a clip in float32 is four times as large
        scaled = [
            functional.interpolate(f[None].float(), size, mode="bilinear", align_corners=False, antialias=shrinks)
            for f in frames
        ]
        return torch.cat(scaled)

    def _can_share(self, length: int, height: int, width: int) -> bool:
        """Whether the features of a whole clip may be kept from one anchor to the next."""
        rows, columns = self.network_size(height, width)
        channels = 256 if self.variant == "full" else 128
        size = 4 * channels * length * (rows // 8 + 8) * (columns // 8 + 8)  # padding is less than 8 cells a side
        if self.network.memory is None and self.device == "cpu":
            return size <= _SHARED_ON_CPU
        return size <= self.network.budget()

    def _run(
        self,
        frames_TChw: Tensor,
        size: tuple[int, int],
        known: KnownFeatures | None = None,
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Displacement (T, H, W, 2) and visibility (T, H, W) of the first frame's pixels, in pixels of the clip."""
        import torch
        from torch.nn import functional

        kind = torch.device(self.device).type
        with torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bfloat16"):
            flow, visconf = self.network(frames_TChw[None], iterations=self.iterations, known=known)
        if len(frames_TChw) == 2:  # the network answers for the second frame alone
            flow = torch.stack((torch.zeros_like(flow), flow), 1)
            visconf = torch.stack((torch.ones_like(visconf), visconf), 1)
        flow, visibility = flow[0], visconf[0].prod(1, keepdim=True)
        rows, columns = flow.shape[-2:]
        if (rows, columns) != size:
            flow = functional.interpolate(flow, size, mode="bilinear", align_corners=False)
            flow *= flow.new_tensor([size[1] / columns, size[0] / rows]).view(2, 1, 1)
            visibility = functional.interpolate(visibility, size, mode="bilinear", align_corners=False)
        return flow.permute(0, 2, 3, 1).cpu().numpy(), visibility[:, 0].cpu().numpy()


def _frame_number(anchor: int, length: int) -> int:
    """The frame an anchor names. Raises ``ConfigError`` where the clip has no such frame."""
    number = anchor + length if anchor < 0 else anchor
    if not 0 <= number < length:
        raise ConfigError(f"anchor frame {anchor} is not in a clip of {length} frames: use {-length} to {length - 1}")
    return number
