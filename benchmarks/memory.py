"""Peak memory of the gradient step on a model of over 100 M parameters: python -m benchmarks.memory

A Wan transformer of diffusers, random weights, float32 on the CPU. Every variant runs in a fresh process, which reports
the most it ever held (``VmHWM``): the same forward and two backward passes (ordinary and motion-weighted loss)

- with every gradient dropped as soon as autograd has it, unprojected: what no method can go below;
- with every gradient projected and dropped (ours), for both structured maps;
- with all gradients kept and projected afterwards (the plain way).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks.record import goal, write
from benchmarks.wan import RandomWan
from motive_fo.attribution.gradients import clip_sketch, streaming
from motive_fo.attribution.loss import motion_weighted_loss, shared_noise
from motive_fo.attribution.parameters import attributed_parameters
from motive_fo.attribution.projection import FastfoodProjection, Projection, SRHTProjection
from motive_fo.clips.spec import ClipSpec

RUNS = 3
ALLOWED_MIB = 64
BASE = "gradients dropped, unprojected"
VARIANTS = {
    "dropped": BASE,
    "srht": "ours, srht",
    "fastfood": "ours, fastfood",
    "plain": "all gradients kept, then projected (srht)",
}


SIZE = {
    "num_attention_heads": 12,
    "attention_head_dim": 64,
    "text_dim": 256,
    "ffn_dim": 3072,
    "num_layers": 12,
}
CLIP = ClipSpec(0, 16, 9, 64, 64)


def _child(variant: str) -> None:
    """One variant, its peak printed as JSON."""
    model = RandomWan(SIZE, CLIP)
    parameters = attributed_parameters(model.network)
    x0, condition = model.encode_frames(None), model.encode_caption("")
    mask = np.random.default_rng(0).random(model.card.grid(model.card.default_clip)).astype(np.float32)
    maps: dict[str, type[SRHTProjection] | type[FastfoodProjection]] = {
        "srht": SRHTProjection,
        "fastfood": FastfoodProjection,
    }
    if variant in maps:
        projection: Projection = maps[variant]()
        with streaming(model.network, projection, parameters) as backward:
            for _ in range(2):  # the second clip finds the random numbers that the first one kept
                clip_sketch(model, backward, x0, condition, mask, 750.748, 0)
    else:
        model.network.eval()
        if variant == "dropped":
            for _, parameter in parameters:
                parameter.register_post_accumulate_grad_hook(_drop)  # type: ignore[no-untyped-call]
        noised = model.noise(x0, shared_noise(tuple(x0.shape), 0), 750.748)
        projection = SRHTProjection()
        for _ in range(2):
            prediction = model.predict(noised.x_t, noised.timestep, condition)
            for weights in (None, model.arrange_mask(torch.from_numpy(mask))):
                loss = motion_weighted_loss(prediction, noised.target, weights)
                loss.backward(retain_graph=weights is None)  # type: ignore[no-untyped-call]
                if variant == "plain":
                    projection.combine({n: projection.project(n, p.grad) for n, p in parameters if p.grad is not None})
                    model.network.zero_grad()
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    sizes = [parameter.numel() for _, parameter in parameters]
    print(json.dumps({"peak": int(peak.split()[1]) / 1024, "parameters": sum(sizes), "largest": max(sizes) / 2**18}))


def _drop(parameter: torch.Tensor) -> None:
    parameter.grad = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", choices=list(VARIANTS), help=argparse.SUPPRESS)
    child = parser.parse_args().child
    if child:
        _child(child)
        return
    found: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    for _ in range(RUNS):
        for variant, runs in found.items():
            command = [sys.executable, "-m", "benchmarks.memory", "--child", variant]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            runs.append(json.loads(out.splitlines()[-1]))
    peaks = {variant: statistics.median(run["peak"] for run in runs) for variant, runs in found.items()}
    one = found["dropped"][0]
    limit = peaks["dropped"] + one["largest"] + ALLOWED_MIB
    rows = [
        {
            "variant": text,
            "peak MiB": round(peaks[variant]),
            "above dropping, MiB": round(peaks[variant] - peaks["dropped"]),
            "spread of runs, MiB": round(max(r["peak"] for r in runs) - min(r["peak"] for r in runs), 1),
        }
        for (variant, runs), text in zip(found.items(), VARIANTS.values(), strict=True)
    ]
    allowed = f"{one['largest']:.0f} (the largest gradient) + {ALLOWED_MIB}"
    goals = [
        goal(
            f"{VARIANTS[variant]}: MiB above the same backward with gradients dropped",
            f"<= {allowed}",
            peaks[variant] - peaks["dropped"],
            peaks[variant] <= limit,
        )
        for variant in ("srht", "fastfood")
    ]
    above = peaks["plain"] - peaks["dropped"]
    goals.append(goal("keeping all gradients exceeds that (MiB above)", f"> {allowed}", above, peaks["plain"] > limit))
    write("memory", rows, goals, parameters=int(one["parameters"]), largest_gradient_mib=round(one["largest"], 1))


if __name__ == "__main__":
    main()
