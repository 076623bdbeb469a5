"""Train the embedded model: caption-conditioned video diffusion on rendered scenes.

Three stages, each with its own checkpoint, so that a stopped run goes on where it was:

1. a pool of scenes is rendered at the model's own size and rate (17 frames, 16 fps, 64x64) and held as uint8;
2. the causal autoencoder starts as a principal component analysis of pixel blocks and is refined by gradient descent;
3. transformer and caption encoder learn flow matching on the pool's latents; their moving average is what is saved.

Scenes with seeds from ``HELD_OUT`` on are never trained on; the closing evaluation uses only those.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch.nn import functional

from motive_fo.models.tiny.autoencoder import CHANNELS, TIME_STRIDE, Autoencoder
from motive_fo.models.tiny.card import CARD
from motive_fo.models.tiny.evaluation import HELD_OUT, evaluate
from motive_fo.models.tiny.model import WEIGHTS, Parts, load, to_video
from motive_fo.models.tiny.text import LENGTH, Caption, tokenize
from motive_fo.synthetic.scene import render, sample_scene
from motive_fo.synthetic.words import caption

RESULTS: Final = Path(__file__).parents[1] / "benchmarks" / "results" / "tiny_training.json"
#: how much more an error in what changes within four frames counts than one in what stays. ``Choice:`` 1 spends all but
#: one of 16 channels on still detail, and a diffusion model of such latents hardly sees motion; 2.5 gives several of
#: them to change and costs less than 1 dB.
MOTION_WEIGHT: Final = 2.5
_MIRRORED: Final = {"left": "right", "right": "left", "clockwise": "counterclockwise", "counterclockwise": "clockwise"}


def _say(text: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {text}")


# --- stage 1: the pool ------------------------------------------------------------------------------------------------


def _render_one(seed: int) -> npt.NDArray[np.uint8]:
    clip = CARD.default_clip
    return render(sample_scene(seed), frames=clip.frames, fps=clip.fps, height=clip.height, width=clip.width)


def _pool(scenes: int, workers: int, folder: Path) -> npt.NDArray[np.uint8]:
    path = folder / f"pool_{scenes}.npy"
    if not path.exists():
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
            clips = list(executor.map(_render_one, range(scenes), chunksize=64))
        np.save(path, np.stack(clips))
    pool: npt.NDArray[np.uint8] = np.load(path)
    _say(f"pool: {len(pool)} scenes")
    return pool


def _mirror(text: str) -> str:
    return " ".join(_MIRRORED.get(word, word) for word in text.split())


# --- stage 2: the autoencoder -----------------------------------------------------------------------------------------


def _principal(blocks_NP: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (P) and components (P, P) as rows by falling variance."""
    mean = blocks_NP.mean(0)
    centred = (blocks_NP - mean).double()
    return mean, torch.linalg.eigh(centred.T @ centred)[1].T.flip(0).float()


def _motion_weighted(blocks_NP: torch.Tensor, pixels: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Components of groups of frames in which change counts more: mean, rows that encode, columns that decode."""
    mean_over_group = torch.kron(torch.full((TIME_STRIDE, TIME_STRIDE), 1 / TIME_STRIDE), torch.eye(pixels))
    change = torch.eye(TIME_STRIDE * pixels) - mean_over_group
    _, rows = _principal(blocks_NP @ (mean_over_group + MOTION_WEIGHT * change))
    return (
        blocks_NP.mean(0),
        rows @ (mean_over_group + MOTION_WEIGHT * change),
        (mean_over_group + change / MOTION_WEIGHT) @ rows.T,
    )


def _start_from_components(autoencoder: Autoencoder, video_BCTHW: torch.Tensor) -> None:
    """Set the linear layers so that the untrained autoencoder is a principal component analysis.

    In a group of four frames what changes counts ``MOTION_WEIGHT`` times what stays. The first frame's latents are
    turned to agree with the static part of the groups' latents, so that a channel means the same in every latent frame.
    """
    cells = functional.pixel_unshuffle(video_BCTHW.transpose(1, 2), 8).movedim(2, -1)  # B T h w 192
    b, _, h, w, pixels = cells.shape
    first_NP = cells[:, ::TIME_STRIDE].reshape(-1, pixels)
    groups = cells[:, 1:].reshape(b, -1, TIME_STRIDE, h, w, pixels).permute(0, 1, 3, 4, 2, 5)
    groups = groups.reshape(-1, TIME_STRIDE * pixels)
    keep = torch.randperm(len(groups), generator=torch.Generator().manual_seed(0))[:60_000]
    first_mean, first_rows = _principal(first_NP[keep.remainder(len(first_NP))])
    group_mean, group_rows, group_columns = _motion_weighted(groups[keep], pixels)
    static = group_rows[:CHANNELS].reshape(CHANNELS, TIME_STRIDE, pixels).sum(1) / TIME_STRIDE**0.5
    left, _, right = torch.linalg.svd(static @ first_rows[:CHANNELS].T)
    first_rows = torch.cat([(left @ right) @ first_rows[:CHANNELS], first_rows[CHANNELS:]])
    width = autoencoder.first_in.out_features
    # One frame's components times 2 weigh as much as the same picture repeated in a group of 4 frames.
    for layer, out, mean, rows, columns, scale in (
        (autoencoder.first_in, autoencoder.first_out, first_mean, first_rows, first_rows.T, TIME_STRIDE**0.5),
        (autoencoder.group_in, autoencoder.group_out, group_mean, group_rows, group_columns, 1.0),
    ):
        layer.weight.copy_(rows[:width] * scale)
        layer.bias.copy_(-(rows[:width] @ mean) * scale)
        out.weight.copy_(columns[:, :width] / scale)
        out.bias.copy_(mean)
    for linear in (autoencoder.to_latent, autoencoder.from_latent):
        linear.bias.zero_()
        linear.weight.copy_(torch.eye(*linear.weight.shape))
    for block in (*autoencoder.encoder, *autoencoder.decoder):
        block.now.weight.zero_()
        block.now.bias.zero_()
        block.before.weight.zero_()


def _psnr(autoencoder: Autoencoder, clips: npt.NDArray[np.uint8]) -> float:
    with torch.no_grad():
        video = to_video(clips)
        error = (autoencoder.decode_raw(autoencoder.encode_raw(video)).clamp(-1, 1) - video).square().mean((1, 2, 3, 4))
    return float((10 * torch.log10(4 / error)).mean())


def _motion_weighted_error(difference_BCTHW: torch.Tensor) -> torch.Tensor:
    """Squared error with change within a group of four frames weighted up, and a little absolute error."""
    first, later = difference_BCTHW[:, :, :1], difference_BCTHW[:, :, 1:]
    b, c, _, height, width = later.shape
    groups = later.reshape(b, c, -1, TIME_STRIDE, height, width)
    still = groups.mean(3, keepdim=True)
    change = MOTION_WEIGHT * (groups - still)
    errors = torch.cat([first.flatten(), (still + change).flatten()])
    return errors.square().mean() + 0.1 * difference_BCTHW.abs().mean()


def _train_autoencoder(
    parts: Parts, pool: npt.NDArray[np.uint8], held_out: npt.NDArray[np.uint8], steps: int, seed: int
) -> None:
    autoencoder = parts.autoencoder
    generator = np.random.default_rng(1 + seed)
    with torch.no_grad():
        _start_from_components(autoencoder, to_video(pool[:400]))
        deviation = autoencoder.encode_raw(to_video(pool[:200])).std()
    _say(f"autoencoder: {_psnr(autoencoder, held_out):.2f} dB as principal components")
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1.2e-3 * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        chosen = generator.integers(0, len(pool), 8)
        video = to_video(pool[chosen])
        if generator.random() < 0.5:
            video = video.flip(-1)
        latent = autoencoder.encode_raw(video)
        # A little noise on the latents: neighbouring latents must decode alike, or the diffusion model has no hold.
        noisy = latent + 0.05 * deviation * torch.randn_like(latent)
        difference = autoencoder.decode_raw(noisy) - video
        loss = _motion_weighted_error(difference)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), 0.5)
        optimizer.step()
        if (step + 1) % 200 == 0:
            _say(f"autoencoder: step {step + 1}, held-out {_psnr(autoencoder, held_out):.2f} dB")
    _say(f"autoencoder: {steps} steps, held-out {_psnr(autoencoder, held_out):.2f} dB")


@torch.no_grad()
def _encode_pool(autoencoder: Autoencoder, pool: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Latents (2 N, C, F, h, w) of the pool and of its mirror images; sets the latent statistics."""
    autoencoder.latent_mean.zero_()
    autoencoder.latent_std.fill_(1)
    rows = []
    for mirrored in (False, True):
        for start in range(0, len(pool), 64):
            video = to_video(pool[start : start + 64])
            rows.append(autoencoder.encode_raw(video.flip(-1) if mirrored else video))
    latents = torch.cat(rows)
    # Float16 first: the model that is loaded later must normalise with the numbers it was trained with.
    autoencoder.latent_mean.copy_(latents.mean((0, 2, 3, 4)).half().float())
    autoencoder.latent_std.copy_(latents.std((0, 2, 3, 4)).half().float())
    shape = (1, CHANNELS, 1, 1, 1)
    return latents.sub_(autoencoder.latent_mean.reshape(shape)).div_(autoencoder.latent_std.reshape(shape))


# --- stage 3: transformer and caption encoder -------------------------------------------------------------------------


@dataclass
class _Run:
    """What a stopped run needs to go on."""

    parts: Parts
    average: dict[str, torch.Tensor]
    optimizer: torch.optim.Optimizer
    step: int = 0

    def save(self, path: Path) -> None:
        state = {"parts": self.parts.state_dict(), "average": self.average, "optimizer": self.optimizer.state_dict()}
        part = path.with_suffix(".part")
        torch.save({**state, "step": self.step}, part)
        part.replace(path)

    def restore(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.parts.load_state_dict(state["parts"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def _levels(count: int, generator: torch.Generator) -> torch.Tensor:
    """Noise levels in (0, 1): logit-normal with shift 3 (most near 0.75), a fifth of them uniform."""
    share = torch.sigmoid(torch.randn(count, generator=generator))
    uniform = torch.rand(count, generator=generator)
    pick = torch.rand(count, generator=generator) < 0.2
    return torch.where(pick, uniform, 3 * share / (1 + 2 * share)).clamp(0.002, 0.998)


def _train_transformer(
    run: _Run,
    latents: torch.Tensor,
    token_NL: torch.Tensor,
    steps: int,
    batch: int,
    seed: int,
    keep: Callable[[_Run], None],
) -> None:
    trained = {
        **dict(run.parts.transformer.named_parameters(prefix="transformer")),
        **dict(run.parts.text.named_parameters(prefix="text")),
    }
    generator = torch.Generator().manual_seed(1000 + run.step + 1_000_000 * seed)
    blank = token_NL[:1] * 0
    blank[:, 0] = 1
    smoothed = 0.0
    while run.step < steps:
        for group in run.optimizer.param_groups:
            falling = 0.51 + 0.49 * math.cos(math.pi * run.step / steps)
            group["lr"] = group["peak"] * min(1.0, (run.step + 1) / 200) * falling
        chosen = torch.randint(len(latents), (batch,), generator=generator)
        x0, tokens = latents[chosen], token_NL[chosen]
        dropped = torch.rand(batch, 1, generator=generator) < 0.1
        tokens = torch.where(dropped, blank, tokens)
        s = _levels(batch, generator)
        e = torch.randn(x0.shape, generator=generator)
        share = s.reshape(-1, 1, 1, 1, 1)
        condition: Caption = run.parts.text(tokens)
        prediction = run.parts.transformer((1 - share) * x0 + share * e, 1000 * s, condition)
        loss = (prediction - (e - x0)).square().mean()
        run.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(trained.values()), 1.0)
        run.optimizer.step()
        decay = min(0.999, (run.step + 1) / (run.step + 20))
        with torch.no_grad():
            torch._foreach_lerp_([run.average[name] for name in trained], list(trained.values()), 1 - decay)
        run.step += 1
        smoothed = smoothed + max(0.005, 1 / run.step) * (float(loss.detach()) - smoothed)
        if run.step % 100 == 0:
            _say(f"transformer: step {run.step} of {steps}, loss {smoothed:.4f}")
            keep(run)
    keep(run)


def _write_weights(parts: Parts, average: dict[str, torch.Tensor], path: Path) -> None:
    state = {name: average.get(name, value).detach().half().contiguous() for name, value in parts.state_dict().items()}
    part = path.with_suffix(".part")
    save_file(state, part, metadata={"model": CARD.name})
    part.chmod(0o644)
    part.replace(path)


# --- the run ----------------------------------------------------------------------------------------------------------


@click.command()
@click.option("--scenes", default=7000, show_default=True, help="Scenes in the pool; their mirror images are used too.")
@click.option("--autoencoder-steps", default=600, show_default=True, help="Steps of 8 clips for the autoencoder.")
@click.option("--transformer-steps", default=2370, show_default=True, help="Steps for transformer and captions.")
@click.option("--batch", default=32, show_default=True, help="Clips per step of the transformer.")
@click.option(
    "--seed", default=0, show_default=True, help="Of first weights, batches and noise; the scenes are the same."
)
@click.option("--threads", default=2, show_default=True, help="Processor threads.")
@click.option(
    "--checkpoints",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for the pool and for checkpoints; a stopped run goes on from it.",
)
@click.option("--weights", type=click.Path(path_type=Path), default=WEIGHTS, help="Where the weights go.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Where the metrics go.")
@click.option("--evaluate-only", is_flag=True, help="Measure the weights that are there.")
def main(
    scenes: int,
    autoencoder_steps: int,
    transformer_steps: int,
    batch: int,
    seed: int,
    threads: int,
    checkpoints: Path,
    weights: Path,
    results: Path,
    evaluate_only: bool,
) -> None:
    """Train the embedded model and measure it on scenes it has not seen."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    checkpoints.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {"scenes": scenes, "mirrored": True, "batch": batch, "seed": seed, "threads": threads}
    notes = checkpoints / "training.json"
    if not evaluate_only:
        _train(scenes, autoencoder_steps, transformer_steps, batch, seed, threads, checkpoints, weights, record)
        notes.write_text(json.dumps(record))
    elif notes.exists():
        record = json.loads(notes.read_text())
    report = evaluate(load(weights=weights), weights.stat().st_size)
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps({"training": record, **report}, indent=2) + "\n")
    for goal in report["goals"]:
        _say(f"{'met    ' if goal['met'] else 'NOT MET'} {goal['goal']}: {goal['value']:.4g} (target {goal['target']})")


def _train(
    scenes: int,
    autoencoder_steps: int,
    transformer_steps: int,
    batch: int,
    seed: int,
    threads: int,
    checkpoints: Path,
    weights: Path,
    record: dict[str, Any],
) -> None:
    parts = Parts()
    pool = _pool(scenes, threads, checkpoints)
    trained_autoencoder = checkpoints / "autoencoder.pt"
    if trained_autoencoder.exists():
        parts.autoencoder.load_state_dict(torch.load(trained_autoencoder, weights_only=True))
    else:
        held_out = np.stack([_render_one(HELD_OUT + k) for k in range(48)])
        _train_autoencoder(parts, pool, held_out, autoencoder_steps, seed)
        with torch.no_grad():
            for value in parts.autoencoder.parameters():
                value.copy_(value.half().float())  # the latents must be those of the stored weights
        torch.save(parts.autoencoder.state_dict(), trained_autoencoder)
    latents = _encode_pool(parts.autoencoder, pool)
    texts = [caption(sample_scene(seed)) for seed in range(scenes)]
    token_NL = tokenize([*texts, *map(_mirror, texts)])
    if token_NL.shape[1] > LENGTH:
        raise click.ClickException("a caption is longer than the caption encoder reads")
    _say(f"latents: {tuple(latents.shape)}, longest caption {token_NL.shape[1]} tokens")

    matrices = [p for m in (parts.transformer, parts.text) for p in m.parameters() if p.ndim >= 2]
    vectors = [p for m in (parts.transformer, parts.text) for p in m.parameters() if p.ndim < 2]
    peak = 2e-3
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": 0.02, "peak": peak},
            {"params": vectors, "weight_decay": 0.0, "peak": peak},
        ],
        lr=peak,
        betas=(0.9, 0.98),
    )
    average = {
        f"{prefix}.{name}": value.detach().clone()
        for prefix, module in (("transformer", parts.transformer), ("text", parts.text))
        for name, value in module.named_parameters()
    }
    run = _Run(parts, average, optimizer)
    path = checkpoints / "transformer.pt"
    if path.exists():
        run.restore(path)

    def keep(current: _Run) -> None:
        current.save(path)
        _write_weights(current.parts, current.average, weights)

    _train_transformer(run, latents, token_NL, transformer_steps, batch, seed, keep)
    record.update(
        {
            "autoencoder_steps": autoencoder_steps,
            "transformer_steps": transformer_steps,
            "parameters": {name: sum(p.numel() for p in part.parameters()) for name, part in parts.named_children()},
        }
    )


if __name__ == "__main__":
    main()
