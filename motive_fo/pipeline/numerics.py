"""Is a model's precision good enough on this machine? The same clip alone, repeated, after others, and in float32.

A sketch that depends on what came before it, or that bfloat16 turns by more than the projection itself does, ranks
clips by noise. Nobody sees that in the ranking, so it is measured before a week is spent on one.

Shapes: N clips, D numbers of a sketch.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import torch

from motive_fo.attribution.gradients import Sketch
from motive_fo.attribution.probe import device_change
from motive_fo.clips.spec import ClipSpec
from motive_fo.config import AttributionConfig
from motive_fo.errors import ClipError
from motive_fo.models.base import StagedModel, VideoModel
from motive_fo.models.registry import attributed_model
from motive_fo.pipeline.gradients import GradientSettings
from motive_fo.pipeline.motion import MotionSettings
from motive_fo.pipeline.report import StepReport
from motive_fo.pipeline.sketching import SketchTask, sketching, take_sketches
from motive_fo.synthetic.scene import render, sample_scene

Verdict = Literal["ok", "warn", "fail"]

REPEATABLE: Final = 1e-3
"""Relative change of a sketch that repeating it may make; reductions on a GPU may add in another order."""

#: sine of the angle by which a precision may turn a sketch. ``Choice:`` the projection to 512 numbers moves cosines by
#: 1 / sqrt(512) = 0.04; half of it is lost in that, twice as much is worse than the projection.
FINE: Final = 0.02
UNSAFE: Final = 0.1

_MOTIONS = ("slide", "spin", "swing")


@dataclass(frozen=True)
class Check:
    """One line of the answer."""

    verdict: Verdict
    subject: str
    text: str


@dataclass(frozen=True)
class _Clip:
    x0: torch.Tensor
    condition: Any
    mask_Fhw: npt.NDArray[np.float32]


def check_numerics(
    motion: MotionSettings,
    attribution: AttributionConfig,
    frames: Sequence[npt.NDArray[np.uint8]] = (),
) -> list[Check]:
    """Compare sketches that should be equal, and say which setting is safe.

    Args:
        motion: clip specification and model card.
        attribution: the model, its device and precision.
        frames: real clips of the specification, uint8 (T, H, W, 3); rendered ones make them up to three.

    Raises:
        MotiveError: the model cannot be loaded.
    """
    videos = [*frames, *rendered(motion.spec, 3 - len(frames))]
    model = attributed_model(attribution, motion.spec)
    clips = _encoded(model, motion, videos)
    first = _sketches(model, motion, attribution, [*clips, clips[0]])
    beside = _sketches(model, motion, attribution, clips, together=True)
    checks = [
        *_projection_on(model, motion, attribution),
        _equal("repeated", "the same clip again after the others", first[0], first[-1]),
        _equal("alone", "the same clip alone and beside others", first[0], beside[0]),
    ]
    # diffusers keeps some tensors of a bfloat16 network in float32
    chosen = next((p.dtype for p in model.network.parameters() if p.dtype != torch.float32), torch.float32)
    if chosen == torch.float32:
        return [*checks, Check("ok", "precision", "float32 throughout: nothing to compare with")]
    del model
    _free()
    try:
        exact = attributed_model(_in_float32(attribution), motion.spec)
        reference = _sketches(exact, motion, _in_float32(attribution), clips)
    except RuntimeError as error:  # torch's OutOfMemoryError is one, and a CPU has none of its own
        if "memory" not in str(error):
            raise
        text = (
            f"float32 does not fit here, so that {_name(chosen)} was not compared ({str(error).splitlines()[0][:80]})"
        )
        return [*checks, Check("warn", "precision", text)]
    return [*checks, _precision(_name(chosen), first[: len(clips)], reference)]


def rendered(spec: ClipSpec, count: int) -> list[npt.NDArray[np.uint8]]:
    """Clips to compare with where there are no real ones."""
    return [
        render(
            sample_scene(100 + i, _MOTIONS[i % 3]),
            frames=spec.frames,
            fps=spec.fps,
            height=spec.height,
            width=spec.width,
        )
        for i in range(max(0, count))
    ]


def _encoded(model: VideoModel, motion: MotionSettings, videos: Sequence[npt.NDArray[np.uint8]]) -> list[_Clip]:
    grid = motion.card.grid(motion.spec)
    masks = np.random.default_rng(0).random((len(videos), *grid), np.float32)
    with torch.no_grad():
        clips = [
            _Clip(model.encode_frames(video), model.encode_caption(f"clip number {i}"), mask)
            for i, (video, mask) in enumerate(zip(videos, masks, strict=True))
        ]
    if isinstance(model, StagedModel):
        model.leave_encoders()
    return clips


def _sketches(
    model: VideoModel,
    motion: MotionSettings,
    attribution: AttributionConfig,
    clips: Sequence[_Clip],
    *,
    together: bool = False,
) -> npt.NDArray[np.float64]:
    """Both sides of each clip's sketch at the first timestep and noise, one clip after the other or as many together as
    the model takes: (N, 2, D)."""
    settings = GradientSettings.build(motion, attribution, model)
    sample = settings.samples()[0]
    tasks = [SketchTask(clip.x0, clip.condition, clip.mask_Fhw, [sample]) for clip in clips]
    with sketching(model, settings.projection, settings.parameters(), motion.spec) as sketcher:
        taken = [
            outcomes[sample]
            for some in ([tasks] if together else [[task] for task in tasks])
            for outcomes in take_sketches(sketcher, some, StepReport("numerics"))
        ]
    made = []
    for sketch in taken:
        if isinstance(sketch, Sketch):
            made.append(sketch.sketch_2D)
        elif isinstance(sketch, ClipError):  # no finite gradient at all: as different as can be
            made.append(np.full((2, int(settings.projection.identity()["dimension"])), np.nan, np.float32))
        else:
            raise sketch
    return np.stack(made).astype(np.float64)


def _projection_on(model: VideoModel, motion: MotionSettings, attribution: AttributionConfig) -> list[Check]:
    """Whether the device projects as the CPU does; nothing to say on a CPU."""
    if model.device.type == "cpu":
        return []
    projection = GradientSettings.build(motion, attribution, model).projection
    change = device_change(projection, model.device)
    verdict: Verdict = "ok" if change < 1e-5 else "fail"
    return [Check(verdict, "projection", f"on {model.device} and on the CPU: differs by {change:.1e} of its length")]


def _equal(subject: str, what: str, a_2D: npt.NDArray[np.float64], b_2D: npt.NDArray[np.float64]) -> Check:
    if np.array_equal(a_2D, b_2D):
        return Check("ok", subject, f"{what}: equal to the last bit")
    change = float((np.linalg.norm(a_2D - b_2D, axis=1) / np.linalg.norm(a_2D, axis=1)).max())
    if change <= REPEATABLE:
        return Check("ok", subject, f"{what}: differs by {change:.1e} of its length, which is rounding")
    return Check("fail", subject, f"{what}: differs by {change:.1e} of its length; try --checkpointing off or float32")


def _precision(name: str, made_N2D: npt.NDArray[np.float64], exact_N2D: npt.NDArray[np.float64]) -> Check:
    """How far a precision turns sketches, and the cosines between them."""
    unit, exact = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (made_N2D, exact_N2D))
    turned = float(np.sqrt(np.maximum(0, 1 - (unit * exact).sum(-1) ** 2)).max())
    moved = float(np.abs(np.einsum("nsd,msd->snm", unit, unit) - np.einsum("nsd,msd->snm", exact, exact)).max())
    text = f"{name} turns sketches by {turned:.1e} and moves cosines between clips by {moved:.1e} against float32"
    if not turned < UNSAFE:
        return Check("fail", "precision", f"{text}: not safe, take --precision float32")
    if turned > FINE:
        return Check("warn", "precision", f"{text}: as much as the projection does; float32 is safer")
    return Check("ok", "precision", f"{text}: safe, it is lost in the projection")


def _in_float32(attribution: AttributionConfig) -> AttributionConfig:
    return replace(attribution, precision="float32")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
