"""Sketches of a bench's clips, kept in its folder: of the trained model, of others, and of gradients changed before
they are projected.

Everything goes through the product's gradient step; what an experiment changes is the model or the projection it is
given. A store that is complete costs nothing, and one that a killed run left goes on.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.attribution.bench import Bench, motion_settings
from benchmarks.attribution.corpus import CAPTION, GALLERY, REPORT, TUNE
from motive_fo.attribution.gradients import clip_sketch, streaming
from motive_fo.attribution.loss import motion_weighted_loss, shared_noise
from motive_fo.attribution.parameters import attributed_parameters
from motive_fo.attribution.projection import Projection
from motive_fo.config import AttributionConfig, FlowConfig, MotionConfig
from motive_fo.models.base import Noised, VideoModel
from motive_fo.pipeline.gradients import GradientSettings, compute_sketch_table
from motive_fo.pipeline.motion import MotionSettings
from motive_fo.pipeline.record import ClipRecord
from motive_fo.pipeline.sketching import projection_of
from motive_fo.store.run_store import RunStore

_MOMENT_NOISE: Final = 90_000  # seeds of the noise of squared gradients, apart from those of any sketch
_MOMENT_CLIPS: Final = 48
_EPSILON: Final = 1e-8  # Adam's


@dataclass(frozen=True)
class Taken:
    """How sketches are taken.

    Attributes:
        timesteps, noises: every pair is one sketch.
        include: glob patterns of the attributed parameters.
        dimension: numbers in a sketch.
        power: gradients are divided element by element by (sqrt(v) + eps)^power, v the mean square of training
            gradients: 0 not at all; 0.5 on both sides makes the product of two the effect of an Adam step; 1 is the
            diagonal of the Gauss-Newton matrix.
        output: of the mean square of the model's output instead of its loss (D-TRAK, Zheng et al. 2024).
        flow, motion: settings of the mask that differ from the bench's.
    """

    timesteps: tuple[float, ...]
    noises: tuple[int, ...] = (0,)
    include: tuple[str, ...] = ("*",)
    dimension: int = 512
    power: float = 0.0
    output: bool = False
    flow: Mapping[str, Any] | None = None
    motion: Mapping[str, Any] | None = None


@contextmanager
def turn(path: Path) -> Iterator[RunStore]:
    """A store for writing, once whoever writes to it has finished."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".turn").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with RunStore(path, write=True) as store:
            yield store


def sketched(
    bench: Bench, name: str, model: VideoModel, taken: Taken, records: Mapping[str, Sequence[ClipRecord]] | None = None
) -> Path:
    """The store with the sketches of all clips of the bench (or of ``records``, role of a store -> clips)."""
    path = bench.folder / "sketches" / f"{name}.zarr"
    settings = _settings(bench, model, taken)
    every = bench.corpus.records
    wanted = records or {"query": every[TUNE] + every[REPORT], "train": every[GALLERY]}
    with turn(path) as store:
        for role in ("query", "train"):
            report = compute_sketch_table(wanted[role], store, settings, role, known_motion=bench.folder / "motion")
            if set(report.status) - {"done", "static"} or (report.status["static"] and taken.motion is None):
                raise RuntimeError(f"every rendered clip must have a gradient: {dict(report.status)}, {report.codes}")
    return path


def _settings(bench: Bench, model: VideoModel, taken: Taken) -> GradientSettings:
    motion = motion_settings(model.card)
    if taken.flow is not None or taken.motion is not None:
        flow = replace(FlowConfig(estimator="dis"), **(taken.flow or {}))
        masks = replace(MotionConfig(static_floor=0), **(taken.motion or {}))
        motion = MotionSettings.build(motion.clip, flow, masks, model.card)
    seen = _OutputModel(model) if taken.output else model
    attribution = AttributionConfig(
        timesteps=taken.timesteps, noises=taken.noises, include=taken.include, dimension=taken.dimension
    )
    projection = projection_of(seen, attribution)
    if taken.power:
        scale = _adam_scale(bench, model, taken.timesteps, taken.power)
        projection = _Scaled(projection, scale, f"{taken.power:g} of {_MOMENT_CLIPS} clips at {taken.timesteps}")
    return GradientSettings(motion, attribution, seen, projection)


def query_sketches_with_swapped_masks(
    bench: Bench, model: VideoModel, taken: Taken, role: str
) -> npt.NDArray[np.float32]:
    """Sketches (Q, S, 2, D) of the role's queries, each under the mask of a query of another motion."""
    settings = _settings(bench, model, taken)
    motions = bench.corpus.motions[role]
    step = int((motions == motions[0]).sum())  # queries lie motion by motion, as many of each
    order = np.roll(np.arange(len(motions)), step)
    condition = model.encode_caption(CAPTION)
    masks = bench.masks[role].numpy()[order]
    with streaming(model.network, settings.projection) as backward:
        made = [
            [
                clip_sketch(model, backward, x0[None], condition, mask, *sample).sketch_2D
                for sample in settings.samples()
            ]
            for x0, mask in zip(bench.latents[role], masks, strict=True)
        ]
    return np.asarray(made, np.float32)


def _adam_scale(bench: Bench, model: VideoModel, timesteps: Sequence[float], power: float) -> dict[str, torch.Tensor]:
    """(sqrt(v) + eps)^-power of every parameter, v the mean over gallery clips of the squared gradient of the ordinary
    loss, the timesteps by turns."""
    network, parameters = model.network, attributed_parameters(model.network)
    squares = {name: torch.zeros_like(parameter) for name, parameter in parameters}
    condition = model.encode_caption(CAPTION)
    clips = np.linspace(0, len(bench.latents[GALLERY]) - 1, _MOMENT_CLIPS).round().astype(int)
    for n, clip in enumerate(clips.tolist()):
        x0 = bench.latents[GALLERY][clip][None]
        noised = model.noise(x0, shared_noise(tuple(x0.shape), _MOMENT_NOISE + n), timesteps[n % len(timesteps)])
        loss = motion_weighted_loss(model.predict(noised.x_t, noised.timestep, condition), noised.target)
        network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for name, parameter in parameters:
            if parameter.grad is not None:
                squares[name] += parameter.grad.detach().square() / _MOMENT_CLIPS
    network.zero_grad(set_to_none=True)
    return {name: (square.sqrt() + _EPSILON).pow(-power) for name, square in squares.items()}


class _Scaled:
    """A projection of gradients that are scaled element by element first."""

    def __init__(self, inner: Projection, scale: Mapping[str, torch.Tensor], label: str) -> None:
        self._inner, self._scale, self._label = inner, scale, label

    @property
    def part_size(self) -> int | None:
        return self._inner.part_size

    def identity(self) -> dict[str, Any]:
        return {**self._inner.identity(), "scaled": self._label}

    def project(self, name: str, gradient: torch.Tensor) -> torch.Tensor:
        return self._inner.project(name, gradient * self._scale[name])

    def combine(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self._inner.combine(parts)


class _OutputModel:
    """A model whose loss is the mean square of its output: its target is zero."""

    def __init__(self, inner: VideoModel) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def identity(self) -> dict[str, Any]:
        return {**self._inner.identity(), "objective": "square of the output"}

    def noise(self, x0: torch.Tensor, e: torch.Tensor, timestep: float) -> Noised:
        noised = self._inner.noise(x0, e, timestep)
        return noised._replace(target=torch.zeros_like(noised.target))
