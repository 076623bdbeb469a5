"""Time and peak memory of AllTracker against plain dense matching: python -m benchmarks.alltracker [--device cuda]

Ours is ``motive_fo.flow.alltracker``, the opponent ``alltracker_dense``, both with the same weights made by a formula
and the same frames. Every measurement is a fresh child process, which runs a small clip first; ours and dense follow
each other, so that ratios mean something on a machine that does other things too. ``peak MiB`` is the whole process's
(on a GPU: its allocator's), torch and weights included; ``above MiB`` is how far the peak lies above what was held
before the clip was run. The goal of time is held against processor time, of which others take none away. A measurement
expected to last longer than ``--limit`` seconds, judged from the one before by frames x pixels, is not made, and the
table says so. Sizes and variants that are not asked for keep their rows of the last run. Needs torch alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import torch

from benchmarks.alltracker_dense import dense_alltracker
from benchmarks.record import RESULTS, goal, write
from motive_fo.flow.alltracker import Variant, build_network

_SIZES = "16x256x256,24x384x512,81x480x832"
#: columns that stay empty where nothing was measured; "of the memory" compares "above MiB".
_MEASURED = (
    "seconds",
    "CPU seconds",
    "peak MiB",
    "above MiB",
    "x faster",
    "x less CPU",
    "of the memory",
    "flow error, px",
)
_GAINS = {"flow_head.2": 0.3, "visconf_head.2": 0.1, "upsample_weight.2": 2.0, "update_block.compressor": 0.5}


def formula_state(variant: Variant, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights from names and shapes alone: as trained ones, no residual branch is switched off and no bias is zero."""
    state = {}
    for name, tensor in build_network(variant).state_dict().items():
        noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode()) + seed))
        if name.endswith("layer_scale"):
            state[name] = 0.5 + 0.1 * noise
        elif name.endswith("bias"):
            state[name] = 0.05 * noise
        elif tensor.ndim == 1:
            state[name] = 1 + 0.1 * noise
        else:
            state[name] = _GAINS.get(name.removesuffix(".weight"), 0.9) * noise / tensor[0].numel() ** 0.5
    return state | {"time_emb": build_network(variant).time_emb}


def drifting_frames(length: int, height: int, width: int) -> torch.Tensor:
    """A texture that drifts by 3 and 1 pixels a frame, as bytes: (1, T, 3, H, W)."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = height + length, width + 3 * length
    coarse = torch.rand(1, 3, rows // 6, columns // 6, generator=generator)
    texture = (torch.nn.functional.interpolate(coarse, (rows, columns), mode="bilinear") * 255).byte()[0]
    return torch.stack([texture[:, t : t + height, 3 * t : 3 * t + width] for t in range(length)])[None]


def measure(job: dict[str, Any], output: Path) -> None:
    """The child: one clip, its time and the process's peak memory."""
    device = job["device"]
    state = {name: tensor.to(device) for name, tensor in formula_state(job["variant"]).items()}
    autocast = torch.autocast(device, torch.bfloat16, enabled=job["precision"] == "bfloat16")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = job["precision"] == "tf32"
    network = build_network(job["variant"]).to(device)
    network.load_state_dict(state)

    def run(frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with autocast:
            if job["who"] == "dense":
                return dense_alltracker(state, frames.float(), job["iterations"])
            return network(frames, iterations=job["iterations"])

    cuda = device == "cuda"
    warm = job["size"] if cuda else [3, 128, 128]
    run(drifting_frames(*warm).to(device))
    frames = drifting_frames(*job["size"]).to(device)
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated() / 2**20 if cuda else _resident_mib()
    start, cpu = time.perf_counter(), time.process_time()
    flow, visconf = run(frames)
    if cuda:
        torch.cuda.synchronize()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else 0.0
    peak = peak or _peak_mib()
    kept = [x[..., ::5, ::5].float().cpu() for x in (flow, visconf)]
    found = {"seconds": seconds, "cpu": cpu, "mib": peak, "above": peak - held, "flow": kept[0], "visconf": kept[1]}
    torch.save(found, output)


def _peak_mib() -> float:
    """The most this process ever held. Not getrusage's, which begins with what the parent held."""
    return _status_mib("VmHWM")


def _resident_mib() -> float:
    return _status_mib("VmRSS")


def _status_mib(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 2**10


def _child(job: dict[str, Any], scratch: Path) -> dict[str, Any]:
    output = scratch / "measured.pt"
    command = [sys.executable, "-m", "benchmarks.alltracker", "--child", json.dumps(job), str(output)]
    done = subprocess.run(command, check=False)
    if done.returncode:
        return {"failed": f"failed ({done.returncode})"}
    measured: dict[str, Any] = torch.load(output, weights_only=True)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sizes", default=_SIZES, help="frames x rows x columns, separated by commas")
    parser.add_argument("--variants", default="full,tiny")
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("--limit", type=float, default=240, help="longest measurement in seconds")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        measure(json.loads(options.child[0]), Path(options.child[1]))
        return
    precisions = ["float32"] if options.device == "cpu" else ["float32", "tf32", "bfloat16"]
    rows: list[dict[str, Any]] = []
    goals = []
    speed: dict[tuple[str, str], float] = {}  # seconds per pixel of a frame
    with tempfile.TemporaryDirectory() as scratch:
        for variant in options.variants.split(","):
            for size in ([int(n) for n in text.split("x")] for text in options.sizes.split(",")):
                clip = "x".join(map(str, size))
                dense: dict[str, Any] = {}
                for who, precision in [("dense", "float32"), *(("ours", p) for p in precisions)]:
                    pixels = size[0] * size[1] * size[2]
                    row = {"variant": variant, "clip": clip, "who": who, "precision": precision}
                    row |= dict.fromkeys(_MEASURED, "")
                    expected = speed.get((variant, who), 0.0) * pixels
                    if expected > options.limit:
                        row["seconds"] = f"not run: {expected:.0f} or more expected"
                        rows.append(row)
                        continue
                    job = {"variant": variant, "size": size, "who": who, "precision": precision}
                    job |= {"device": options.device, "iterations": options.iterations}
                    found = _child(job, Path(scratch))
                    if "failed" in found:
                        rows.append(row | {"seconds": found["failed"]})
                        continue
                    speed[variant, who] = found["seconds"] / pixels
                    row |= {"seconds": found["seconds"], "CPU seconds": found["cpu"]}
                    row |= {"peak MiB": found["mib"], "above MiB": found["above"]}
                    if who == "dense":
                        dense = found
                    elif dense:
                        row["x faster"] = dense["seconds"] / found["seconds"]
                        row["x less CPU"] = less = dense["cpu"] / found["cpu"]
                        row["of the memory"] = share = found["above"] / dense["above"]
                        row["flow error, px"] = worst = float((found["flow"] - dense["flow"]).abs().max())
                        if options.device == "cpu":
                            what = f"{variant}, {clip}, CPU"
                            goals += [
                                goal(f"{what}: times less processor time than dense matching", ">= 2", less, less >= 2),
                                goal(
                                    f"{what}: share of its peak memory, above what was held before",
                                    "<= 0.5",
                                    share,
                                    share <= 0.5,
                                ),
                                goal(f"{what}: largest difference of flow (px)", "< 0.001", worst, worst < 1e-3),
                            ]
                    if options.device == "cuda" and size == [81, 480, 832] and precision == "bfloat16":
                        seconds = found["seconds"]
                        goals.append(goal(f"{variant}, {clip}, GPU: seconds per clip", "< 1", seconds, seconds < 1))
                    rows.append(row)
                    print(row, flush=True)
    name = "alltracker" if options.device == "cpu" else "alltracker_gpu"
    rows, goals = _with_earlier(name, rows, goals)
    write(name, rows, goals, iterations=options.iterations, threads=torch.get_num_threads(), device=options.device)


def _with_earlier(
    name: str, rows: list[dict[str, Any]], goals: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows and goals of the last run beside those measured now, in the order of variants and sizes."""
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        return rows, goals
    earlier = json.loads(path.read_text())
    now = {(row["variant"], row["clip"]) for row in rows}
    kept = [row for row in earlier["rows"] if (row["variant"], row["clip"]) not in now]
    begins = tuple(f"{variant}, {clip}," for variant, clip in now)
    kept_goals = [each for each in earlier["goals"] if not each["goal"].startswith(begins)]

    def place(text: str) -> tuple[int, int]:
        variant, clip = text.split(", ")[:2]
        frames, height, width = map(int, clip.split("x"))
        return ("full", "tiny").index(variant), frames * height * width

    return (
        sorted([*kept, *rows], key=lambda row: place(f"{row['variant']}, {row['clip']}")),
        sorted([*kept_goals, *goals], key=lambda each: place(each["goal"])),
    )


if __name__ == "__main__":
    main()
