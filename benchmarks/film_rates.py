"""Is the motion of a film the same at whatever rate it was filmed? python -m benchmarks.film_rates

Synthetic scenes that move evenly, rendered at many rates and read as clips of 17 frames at 16 fps; figures of the
default estimator (DIS) against those of the same scene rendered at 16 fps, where ``timing`` is ``film`` and ``frames``.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, Final

import numpy as np

from benchmarks.record import goal, write
from motive_fo.clips.clip import Clip, VideoFacts
from motive_fo.clips.policy import plan
from motive_fo.clips.spec import ClipSpec
from motive_fo.clips.timeline import Timeline
from motive_fo.flow.dis import DISFlow
from motive_fo.motion.measure import LEFT, WHOLE, Measured, measure
from motive_fo.motion.timing import Timing, clip_displacement
from motive_fo.synthetic.scene import Scene, render, sample_scene

FRAMES, FPS, SIDE = 17, 16, 128
NTSC: Final = (Fraction(24000, 1001), Fraction(60000, 1001))
RATES: Final = (Fraction(10), Fraction(12), NTSC[0], *map(Fraction, (24, 25, 30, 50)), NTSC[1])
KINDS: Final = ("slide", "spin", "pan", "rotation", "zoom", "track")
#: kinds of which a mask is left when the camera is taken away.
_MASKED: Final = ("slide", "spin", "track")
_SEEDS: Final = 2


def film_clip(scene: Scene, rate: Fraction, frames: int = FRAMES, fps: float = FPS, side: int = SIDE) -> Clip:
    """The clip that is read from a film of the scene at this rate."""
    count = math.ceil(frames * rate / Fraction(fps)) + 1
    film = Timeline(tuple(range(count)), count, 1 / rate)
    chosen = plan(film, ClipSpec(0, fps, frames, side, side))
    assert chosen is not None
    indices = list(chosen.indices)
    frames_NHW3 = render(scene, frames=count, fps=float(rate), height=side, width=side)
    facts = VideoFacts(side, side, float(rate), count, float(film.duration), "", "", 0, True, False, 0)
    return Clip(frames_NHW3[indices], np.array([float(each) for each in film.moments(indices)]), "", facts)


def figures(clip: Clip, timing: Timing, fps: float = FPS) -> Measured:
    """What the motion step measures of a clip."""
    found = clip_displacement(DISFlow(), clip, "step", fps, timing)
    return measure(found, fps=fps, camera_model="similarity", bins=16, cell=(8, 8), pooling="area")


def differences(found: Measured, own: Measured) -> dict[str, float]:
    """How far figures are from those of the scene at the clip's own rate; relative but for the first."""
    masks_2Thw = np.stack((found.mask[LEFT], own.mask[LEFT])).astype(np.float64)
    curve_T = found.curve[WHOLE][1:]
    return {
        "smoothness": abs(float(found.smoothness[WHOLE] - own.smoothness[WHOLE])),
        "mean motion": abs(float(found.mean[WHOLE] / own.mean[WHOLE]) - 1),
        "dynamic score": abs(found.dynamic_score / own.dynamic_score - 1),
        "mask": 1 - float(masks_2Thw.min(0).sum() / masks_2Thw.max(0).sum()),
        "curve, step to step": float(np.abs(np.diff(curve_T)).mean() / curve_T.mean()),
    }


def run() -> tuple[list[dict[str, Any]], dict[tuple[str, Timing], float]]:
    """A row for each rate; and figure, timing -> its largest mean difference over the six rates of films."""
    scenes = [sample_scene(seed, kind) for kind in KINDS for seed in range(_SEEDS)]
    masked = [kind in _MASKED for kind in KINDS for _ in range(_SEEDS)]
    own = [figures(film_clip(scene, Fraction(FPS)), "film") for scene in scenes]
    timings: tuple[Timing, ...] = ("film", "frames")
    rows, worst = [], {}
    for rate in RATES:
        row: dict[str, Any] = {"film, fps": f"{float(rate):.5g}"}
        clips = [film_clip(scene, rate) for scene in scenes]
        for timing in timings:
            found = [differences(figures(clip, timing), known) for clip, known in zip(clips, own, strict=True)]
            for name in found[0]:
                counted = masked if name == "mask" else [True] * len(found)
                value = float(np.mean([each[name] for each, yes in zip(found, counted, strict=True) if yes]))
                row[f"{name}, {timing}"] = f"{value:.3f}"
                if rate > FPS:
                    worst[name, timing] = max(worst.get((name, timing), 0.0), value)
        rows.append({"film, fps": row.pop("film, fps"), **{name: row[name] for name in sorted(row)}})
    return rows, worst


def main() -> None:
    rows, worst = run()
    bounds = {"smoothness": 0.05, "mean motion": 0.05, "dynamic score": 0.05, "mask": 0.15, "curve, step to step": 0.05}
    goals = [
        goal(
            f"{name}: a film of 23.976 to 59.94 fps against the same scene at 16 fps, largest mean difference",
            f"<= {bound:g}",
            worst[name, "film"],
            worst[name, "film"] <= bound,
        )
        for name, bound in bounds.items()
    ]
    write("film_rates", rows, goals)


if __name__ == "__main__":
    main()
