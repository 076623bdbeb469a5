"""The clips of the look-alike benchmark, drawn by seed, and what is known of them: pictures, motion, gradients.

Shapes: N clips, T frames, H W pixels, B bins, S timesteps, D numbers of a sketch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.attribution.bench import write_whole
from motive_fo.attribution.gradients import Sketch
from motive_fo.attribution.parameters import attributed_parameters
from motive_fo.attribution.projection import SRHTProjection
from motive_fo.flow.base import Displacement
from motive_fo.flow.farneback import FarnebackFlow
from motive_fo.models.tiny.model import load
from motive_fo.motion.hoof import hoof
from motive_fo.motion.mask import fold_time, magnitude, motion_mask, pool_space
from motive_fo.pipeline.report import StepReport
from motive_fo.pipeline.sketching import SketchTask, sketching, take_sketches
from motive_fo.quality.retrieval import Retrieval, chance, retrieval
from motive_fo.store.sketches import samples_of

MOTIONS: Final = {
    "horizontal pan": 33,
    "vertical tilt": 25,
    "diagonal slide": 41,
    "clockwise rotation": 31,
    "zoom-in": 45,
    "random": 25,
}
"""Clips of each motion among 200."""
TIMESTEPS: Final = (500.0, 750.748, 900.0)
BINS: Final = (4, 8, 16, 32)
DIMENSION: Final = 512
_VERSION: Final = 1  # of what is measured: what is kept under another one is not read
_FRAMES, _SIZE, _TILE = 16, 32, 128
_SPEEDS: Final = (0.3, 1.0)  # mean displacement of a pixel from frame to frame, in pixels
_RADIUS: Final = 0.3826 * _SIZE  # mean distance of a pixel from the centre

Scores = npt.NDArray[np.floating]


def draw_clip(seed: int, motion: int, index: int) -> npt.NDArray[np.uint8]:
    """Grey frames (T, H, W) of a clip, which depends on these numbers alone."""
    rng = np.random.default_rng([seed, motion, index])
    noise = rng.standard_normal((_TILE, _TILE)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, None, float(rng.uniform(1.0, 2.5)), borderType=cv2.BORDER_REFLECT_101)
    light, contrast = rng.uniform(100, 156), rng.uniform(25, 50)
    texture = np.clip(light + contrast * smooth / smooth.std(), 0, 255).astype(np.float32)
    y, x = np.mgrid[:_SIZE, :_SIZE].astype(np.float32) - (_SIZE - 1) / 2
    frames = []
    for shift_x, shift_y, angle, zoom in _poses(rng, list(MOTIONS)[motion]):
        # where in the texture the point at a pixel lies: its pose undone
        along, across = np.cos(angle) / zoom, np.sin(angle) / zoom
        at_x, at_y = along * x + across * y - shift_x, along * y - across * x - shift_y
        x_HW, y_HW = ((at + _TILE / 2).astype(np.float32) for at in (at_x, at_y))
        frames.append(cv2.remap(texture, x_HW, y_HW, cv2.INTER_LINEAR))
    return np.asarray(np.rint(frames), np.uint8)


def _poses(rng: np.random.Generator, motion: str) -> npt.NDArray[np.float64]:
    """Shift to the right and down in pixels, clockwise angle and magnification of every frame: (T, 4)."""
    speed, steps = float(rng.uniform(*_SPEEDS)), _FRAMES - 1
    quarter = float(rng.integers(4))  # a direction, where a motion has several
    turn_S = {
        "horizontal pan": np.full(steps, 2 * (quarter % 2)),
        "vertical tilt": np.full(steps, 1 + 2 * (quarter % 2)),
        "diagonal slide": np.full(steps, quarter + 0.5),
        "random": rng.uniform(0, 4, steps),
    }.get(motion)
    pose_T4 = np.tile([0.0, 0.0, 0.0, 1.0], (_FRAMES, 1))
    if turn_S is not None:
        turned_S = turn_S * np.pi / 2
        pose_T4[1:, :2] = speed * np.cumsum(np.stack([np.cos(turned_S), np.sin(turned_S)], 1), axis=0)
    elif motion == "zoom-in":
        pose_T4[:, 3] = np.exp(speed / _RADIUS * np.arange(_FRAMES))
    else:
        pose_T4[:, 2] = speed / _RADIUS * np.arange(_FRAMES)
    return pose_T4


# --- what is known of a corpus ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """The clips of a seed, motion by motion, as they are compared.

    Attributes:
        seed: of the clips.
        motion_N, index_N: motion of each clip, and its number within it.
        known: what is known of the clips, the first axis N: ``picture`` and ``magnitude``, the mean intensity of every
            pixel and the mean length of the flow there; ``HOOF B`` with B bins; ``quarters``, HOOF of each quarter of
            the frame; ``sketch``, the model's gradients (N, S, 2, D).
    """

    seed: int
    motion_N: npt.NDArray[np.int64]
    index_N: npt.NDArray[np.int64]
    known: Mapping[str, npt.NDArray[np.float32]]

    def first(self, clips: int) -> Corpus:
        """The first clips of every motion: so many in all, up to rounding."""
        kept = self.index_N < np.asarray(sizes(clips))[self.motion_N]
        known = {name: each[kept] for name, each in self.known.items()}
        return Corpus(self.seed, self.motion_N[kept], self.index_N[kept], known)

    def figures(self, scores_NN: Scores | None = None) -> Retrieval:
        """Every clip as a query of all the others; those of a random order, exactly, where no scores are given."""
        relevant = others(self.motion_N[:, None] == self.motion_N[None])
        return chance(relevant) if scores_NN is None else retrieval(others(scores_NN), relevant)


def sizes(clips: int) -> list[int]:
    """Clips of each motion in a corpus of so many."""
    return [round(size * clips / sum(MOTIONS.values())) for size in MOTIONS.values()]


def others(value_NN: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Without the clip itself: (N, N - 1)."""
    clips = len(value_NN)
    return value_NN[~np.eye(clips, dtype=np.bool_)].reshape(clips, clips - 1)


def measured(cache: Path, seed: int, clips: int) -> Corpus:
    """A corpus with its motion and gradients, from the cache or made there."""
    path = cache / f"{seed}-{clips}-{_VERSION}.npz"
    if not path.exists():
        made = _measure(seed, clips)
        write_whole(path, lambda part: _save(part, made))
    with np.load(path) as kept:
        known = dict(kept)
        return Corpus(seed, known.pop("motion"), known.pop("index"), known)


def _save(path: Path, corpus: Corpus) -> None:
    with path.open("wb") as file:
        np.savez(file, motion=corpus.motion_N, index=corpus.index_N, **corpus.known)  # type: ignore[arg-type]


def _measure(seed: int, clips: int) -> Corpus:
    keys = [(motion, index) for motion, size in enumerate(sizes(clips)) for index in range(size)]
    clip_NTHW = np.stack([draw_clip(seed, *key) for key in keys])
    estimator = FarnebackFlow()
    moved = [estimator.estimate(_in_colour(clip), "step") for clip in clip_NTHW]
    length_NTHW = np.stack([magnitude(each) for each in moved])
    known = {
        "picture": clip_NTHW.mean(1, dtype=np.float32).reshape(len(keys), -1),
        "magnitude": length_NTHW[:, 1:].mean(1).reshape(len(keys), -1),
        "quarters": np.stack([_hoof_of_quarters(each) for each in moved]),
        "sketch": _sketches(clip_NTHW, length_NTHW),
    }
    known |= {f"HOOF {bins}": np.stack([hoof(each, bins) for each in moved]) for bins in BINS}
    motion_N, index_N = np.asarray(keys, np.int64).T
    return Corpus(seed, motion_N, index_N, known)


def _in_colour(clip_THW: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.repeat(clip_THW[..., None], 3, axis=-1)


def _hoof_of_quarters(moved: Displacement) -> npt.NDArray[np.float32]:
    """HOOF of each quarter of the frame, end to end. ``Choice:`` over the whole frame a zoom and a rotation are one
    and the same: every direction as much."""
    half = _SIZE // 2
    corners = product((0, half), repeat=2)
    quarters = [moved.flow_THW2[:, y : y + half, x : x + half] for y, x in corners]
    return np.concatenate([hoof(replace(moved, flow_THW2=quarter)) for quarter in quarters])


def _sketches(clip_NTHW: npt.NDArray[np.uint8], length_NTHW: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Projected gradients of the embedded model, (N, S, 2, D).

    It takes 17 frames of 64x64 in colour: clips are enlarged to twice their size, their grey is repeated in three
    channels and their last frame once more, in which nothing moves.
    """
    model = load()
    caption = model.encode_caption("a clip")  # no word tells the motion
    samples = samples_of(TIMESTEPS, (0,))
    clips = []
    for clip_THW, length_THW in zip(clip_NTHW, length_NTHW, strict=True):
        large = [cv2.resize(frame, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR) for frame in clip_THW]
        x0 = model.encode_frames(_in_colour(np.stack([*large, large[-1]])))
        moves_THW = motion_mask(np.concatenate((length_THW, np.zeros_like(length_THW[:1]))))
        mask_Fhw = fold_time(pool_space(moves_THW, (4, 4)), model.card.strides.time)
        clips.append(SketchTask(x0, caption, mask_Fhw, samples))
    parameters = attributed_parameters(model.network)
    with sketching(model, SRHTProjection(DIMENSION), parameters, model.card.default_clip) as sketcher:
        taken = take_sketches(sketcher, clips, StepReport("gradients"))
    return np.stack([[_sketch(each[sample]) for sample in samples] for each in taken])


def _sketch(found: Sketch | Exception) -> npt.NDArray[np.float32]:
    if isinstance(found, Exception):
        raise RuntimeError("every clip must have a gradient") from found
    return found.sketch_2D
