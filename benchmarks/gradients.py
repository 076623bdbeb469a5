"""The gradient step on a real model's size on a GPU: python -m benchmarks.gradients [--small]

Wan2.1-T2V-1.3B's configuration with random weights, 81x480x832, bfloat16 with gradient checkpointing; no encoders, no
FiftyOne, no downloads (torch and diffusers). Measured: seconds per clip of the motion-weighted gradient alone (what the
paper computes) and of both mask sides (what a run keeps), the share of the projection (against the same pass whose
gradients are dropped; the default map in plain torch and fused), peak memory, the share of the chip's dense bfloat16
peak, how far bfloat16 turns sketches, and the projection alone against reading the gradient once. ``--small`` runs
everything on a small network and clip, on a CPU too: for trying the script, not for figures.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.record import goal, write
from benchmarks.wan import WAN_1_3B, RandomWan
from motive_fo.attribution import fused
from motive_fo.attribution.gradients import MASKED, clip_sketch, streaming
from motive_fo.attribution.loss import motion_weighted_loss, shared_noise
from motive_fo.attribution.parameters import attributed_parameters
from motive_fo.attribution.projection import FastfoodProjection, Projection, SRHTProjection
from motive_fo.clips.spec import ClipSpec

TIMESTEP = 750.748
PEAK_TFLOPS = {"H100": 989, "H200": 989, "A100": 312}  # dense bfloat16, as the maker states
SMALL = {"num_attention_heads": 4, "attention_head_dim": 32, "text_dim": 64, "ffn_dim": 512, "num_layers": 3}


def maps(device: torch.device) -> dict[str, SRHTProjection | FastfoodProjection]:
    """Maps to time: the default in plain torch, fused where there is a kernel for it, and the paper's."""
    found: dict[str, SRHTProjection | FastfoodProjection] = {"srht": SRHTProjection(fused=False)}
    if device.type == "cuda" and all(fused.usable(device, dtype) for dtype in (torch.bfloat16, torch.float32)):
        found["srht, fused"] = SRHTProjection()
    return {**found, "fastfood": FastfoodProjection()}


class Dropped:
    """No projection: the gradient is freed as it comes. What no method can go below."""

    part_size = 1

    def identity(self) -> Mapping[str, Any]:
        return {"map": "dropped", "dimension": 1}

    def project(self, name: str, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.new_ones(1, dtype=torch.float32)

    def combine(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return torch.ones(1)


def forward_tflop(model: RandomWan) -> float:
    """Matrix products of one forward pass: 2 per weight and token, and attention over all pairs of tokens."""
    frames, height, width = model.card.grid(model.card.default_clip)
    _, patch_height, patch_width = model.network.config.patch_size
    tokens = frames * (height // patch_height) * (width // patch_width)
    config = model.network.config
    width = config.num_attention_heads * config.attention_head_dim
    # cross-attention's keys and values, and the embedders, see words and single vectors instead of tokens
    per_block = 4 * width**2 + 2 * width**2 + 2 * width * config.ffn_dim
    words = 2 * model.words * 2 * width**2
    pairs = 4 * tokens * tokens * width + 4 * tokens * model.words * width
    return float(config.num_layers * (2 * tokens * per_block + words + pairs)) / 1e12


def timed(work: Callable[[], object], device: torch.device, runs: int) -> tuple[float, float]:
    """Median seconds of some runs after one that warms up, and peak bytes of the GPU (0 elsewhere)."""
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    return float(np.median(seconds)), float(peak)


def masked_pass(model: RandomWan, projection: Projection, x0: torch.Tensor, mask: torch.Tensor) -> Callable[[], object]:
    """The motion-weighted gradient alone."""
    condition = model.encode_caption("")
    e = shared_noise(tuple(x0.shape), 0).to(x0)

    def work() -> object:
        with streaming(model.network, projection) as backward:
            noised = model.noise(x0, e, TIMESTEP)
            prediction = model.predict(noised.x_t, noised.timestep, condition)
            return backward.run(motion_weighted_loss(prediction, noised.target, mask))

    return work


def sketches(model: RandomWan, mask: npt.NDArray[np.float32], clips: int) -> npt.NDArray[np.float64]:
    """Unit sketches of the motion-weighted loss: (N, D)."""
    condition = model.encode_caption("")
    with streaming(model.network, SRHTProjection()) as backward:
        rows = [
            clip_sketch(model, backward, model.encode_frames(i), condition, mask, TIMESTEP, 0).sketch_2D[MASKED]
            for i in range(clips)
        ]
    made = np.stack(rows).astype(np.float64)
    unit: npt.NDArray[np.float64] = made / np.linalg.norm(made, axis=1, keepdims=True)
    return unit


def projection_rows(device: torch.device, large: int, runs: int) -> list[dict[str, Any]]:
    """Projection alone, of one large tensor and of many small ones, in times of reading them once."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    kinds = {"one large tensor": [large], "a hundred of 1536": [1536] * 100}
    rows = []
    for kind, sizes in kinds.items():
        tensors = [torch.randn(size, device=device, dtype=dtype) for size in sizes]
        read, _ = timed(lambda: [t.sum() for t in tensors], device, runs)  # noqa: B023 (used at once)
        for name, projection in maps(device).items():
            whole, _ = timed(
                lambda: [projection.project(f"w{i}", t) for i, t in enumerate(tensors)],  # noqa: B023
                device,
                runs,
            )
            rows.append(
                {
                    "what": f"{name}, {kind}",
                    "elements": sum(sizes),
                    "seconds": whole,
                    "times of reading": whole / read,
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a small network and clip, for trying the script")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    cuda = torch.cuda.is_available()
    if not cuda and not options.small:
        parser.error("there is no GPU here: --small tries the script")
    device = torch.device("cuda" if cuda else "cpu")
    size, spec = (SMALL, ClipSpec(0, 16, 9, 64, 64)) if options.small else (WAN_1_3B, ClipSpec(0, 16, 81, 480, 832))
    words = 16 if options.small else 512
    model = RandomWan(size, spec, device=str(device), dtype=torch.bfloat16, checkpointing=True, words=words)
    count = sum(parameter.numel() for _, parameter in attributed_parameters(model.network))
    mask = np.random.default_rng(0).random(model.card.grid(spec)).astype(np.float32)
    mask_here = torch.from_numpy(mask).to(device)
    x0 = model.encode_frames(0)
    rows: list[dict[str, Any]] = []
    peak_tflops = next((v for k, v in PEAK_TFLOPS.items() if cuda and k in torch.cuda.get_device_name()), None)

    def add(what: str, seconds: float, peak: float, tflop: float) -> None:
        use = tflop / seconds / peak_tflops if peak_tflops else float("nan")
        rows.append(
            {
                "what": what,
                "seconds per clip": seconds,
                "peak GB": peak / 1e9,
                "TFLOP": tflop,
                "of the chip's peak": use,
            }
        )
        print(rows[-1], flush=True)

    one = 4 * forward_tflop(model)  # forward, again forward for the checkpoints, and backward twice as much
    both = 7 * forward_tflop(model)
    found: dict[str, float] = {}
    timed_maps: dict[str, Projection] = {"dropped": Dropped(), **maps(device)}
    best = "srht, fused" if "srht, fused" in timed_maps else "srht"  # what a run takes
    for name, projection in timed_maps.items():
        seconds, peak = timed(masked_pass(model, projection, x0, mask_here), device, options.runs)
        found[name], found[f"{name} peak"] = seconds, peak
        add(f"motion-weighted gradient, {name}", seconds, peak, one)
    condition = model.encode_caption("")
    with streaming(model.network, SRHTProjection()) as backward:
        seconds, peak = timed(
            lambda: clip_sketch(model, backward, x0, condition, mask, TIMESTEP, 0), device, options.runs
        )
    add(f"both mask sides, {best}", seconds, peak, both)
    low = sketches(model, mask, 3)
    exact = sketches(RandomWan(size, spec, device=str(device), checkpointing=True, words=words), mask, 3)
    turned = float(np.sqrt(np.maximum(0, 1 - (low * exact).sum(1) ** 2)).max())
    moved = float(np.abs(low @ low.T - exact @ exact.T).max())
    alone = projection_rows(device, 1 << 16 if options.small else 14_155_776, 10)
    share = (found[best] - found["dropped"]) / found[best]
    ratio = next(row["times of reading"] for row in alone if row["what"].startswith(f"{best}, one"))
    memory = found[f"{best} peak"] / 1e9
    goals = [
        goal("seconds per clip, motion-weighted gradient", "<= 3.5", found[best], found[best] <= 3.5),
        goal("share of the projection in it", "<= 0.02", share, share <= 0.02),
        goal("peak memory (GB)", "<= 40", memory, memory <= 40),
        goal("projection of a tensor of 14 M elements, in times of reading it", "<= 2", ratio, ratio <= 2),
    ]
    name = "gradients" if cuda and not options.small else "gradients_small"
    write(
        name,
        rows,
        goals,
        parameters=count,
        bfloat16={"turns sketches by": turned, "moves cosines by": moved},
        alone=alone,
    )


if __name__ == "__main__":
    main()
