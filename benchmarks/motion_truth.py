"""How far the motion that is found is the motion there is: python -m benchmarks.motion_truth

Synthetic scenes whose motion is known exactly, held against what the estimators make of their frames. Writes
results/motion_truth.json and the tables of docs/motion.md, which are marked ``<!-- motion_truth NAME -->``.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from benchmarks.record import goal, text, write
from motive_fo.config import MotionConfig
from motive_fo.flow import farneback
from motive_fo.flow.base import Displacement
from motive_fo.flow.chain import PairwiseFlow
from motive_fo.flow.dis import DISFlow
from motive_fo.flow.farneback import FarnebackFlow
from motive_fo.models.card import Strides
from motive_fo.motion.camera import CameraMotion, fit_camera
from motive_fo.motion.description import describe
from motive_fo.motion.dynamic import dynamic_degree, moving_share, smoothness
from motive_fo.motion.hoof import hoof, similarity
from motive_fo.motion.mask import magnitude, motion_mask, to_latent_grid
from motive_fo.synthetic.scene import anchor_displacement, displacement, object_mask, render, sample_scene

PAGE = Path(__file__).resolve().parents[1] / "docs" / "motion.md"

FRAMES, FPS = 17, 16
#: side in pixels -> scenes of each kind.
SIDES = {64: 3, 256: 1}
OBJECT = ("slide", "fall", "bounce", "roll", "spin", "swing", "stretch", "occlusion")
CAMERA = ("pan", "tilt", "diagonal", "rotation", "zoom", "shake")
BOTH = ("track", "track_rotation", "track_zoom", "track_shake")
#: standard deviations of the noise added to still clips and to some that move, in grey levels of 255.
NOISES = (0, 2, 4, 8)
FLOOR = MotionConfig().static_floor
GRID = Strides(4, 8, 8)

Frames = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Case:
    """One rendered scene and its truth."""

    kind: str
    seed: int
    side: int
    frames_THW3: Frames
    exact: Displacement
    object_THW: Mask


class MatchedDIS(DISFlow):
    """DIS as it matches, its steps not held against the frames."""

    def correct(self, step_THW2: npt.NDArray[np.float32], frames_THW3: Frames) -> npt.NDArray[np.float32]:
        return step_THW2


class MatchedFarneback(FarnebackFlow):
    """Farneback likewise."""

    def correct(self, step_THW2: npt.NDArray[np.float32], frames_THW3: Frames) -> npt.NDArray[np.float32]:
        return step_THW2


ESTIMATORS: Mapping[str, Callable[[], PairwiseFlow]] = {
    "dis": DISFlow,
    "dis as matched": MatchedDIS,
    "farneback": FarnebackFlow,
    "farneback as matched": MatchedFarneback,
}


def draw(kind: str, seed: int, side: int, frames: int = FRAMES) -> Case:
    """One scene, its frames and its exact ``step`` displacement."""
    scene, size = sample_scene(seed, kind), {"frames": frames, "fps": FPS, "height": side, "width": side}
    exact = Displacement(displacement(scene, **size), None, "step")
    return Case(kind, seed, side, render(scene, **size), exact, object_mask(scene, **size))


def with_noise(frames_THW3: Frames, deviation: float) -> Frames:
    """Sensor noise: Gaussian, of its own in every pixel, channel and frame."""
    noise = np.random.default_rng(0).normal(0, deviation, frames_THW3.shape)
    return np.clip(np.rint(frames_THW3 + noise), 0, 255).astype(np.uint8)


def moving_pixels(residual: Displacement, share: float) -> Mask:
    """Pixels (T-1, H, W) that move by more than a share of the clip's strong motion without the camera's.

    Strong is the mean over frames of the 99th percentile.
    """
    left = magnitude(residual)[1:]
    return left > share * float(np.percentile(left.reshape(len(left), -1), 99, axis=1).mean())


def overlap(a: Mask, b: Mask) -> float:
    """Intersection over union."""
    return float((a & b).sum() / max(1, (a | b).sum()))


def latent_overlap(found: Displacement, exact: Displacement) -> float:
    """The same of two training masks on the latent grid of stride 8: sum of the smaller over sum of the larger."""
    masks = [to_latent_grid(motion_mask(magnitude(each)), GRID) for each in (found, exact)]
    return float(np.minimum(*masks).sum() / np.maximum(*masks).sum())


def measure(case: Case, found: Displacement, fitted: CameraMotion, exactly: CameraMotion) -> dict[str, float]:
    """Every figure of one clip; a figure is left out where the truth has none."""
    exact = case.exact
    error = magnitude(Displacement(found.flow_THW2 - exact.flow_THW2, None, "step"))
    figures = {
        "endpoint error": float(error.mean()),
        "camera share error": abs(fitted.share - exactly.share),
        "moving share error": abs(moving_share(found, FLOOR) - moving_share(exact, FLOOR)),
        "HOOF similarity": float(similarity(hoof(exact, floor=FLOOR)[None], hoof(found, floor=FLOOR)[None])[0, 0]),
    }
    score = dynamic_degree(exact, FPS).score
    figures["dynamic score error"] = abs(dynamic_degree(found, FPS).score - score) / score
    figures["dynamic agreement"] = float(dynamic_degree(found, FPS).dynamic == (score > 1))
    smooth = smoothness(found, FLOOR), smoothness(exact, FLOOR)
    if smooth[0] is not None and smooth[1] is not None:
        figures["smoothness error"] = abs(smooth[0] - smooth[1])
        figures["smoothness bias"] = smooth[0] - smooth[1]
    if case.kind in CAMERA:
        figures["left of the camera, px"] = float(magnitude(fitted.residual)[1:].mean())
        return figures
    own = case.object_THW
    figures["endpoint error, object"] = float(error[own].mean())
    figures["left beside the object, px"] = float(magnitude(fitted.residual)[1:][~own[1:]].mean())
    figures["IoU, exact flow"] = overlap(moving_pixels(exactly.residual, 0.1), own[1:])
    figures["IoU"] = overlap(moving_pixels(fitted.residual, 0.5), own[1:])
    figures["IoU, latent grid"] = latent_overlap(fitted.residual, exactly.residual)
    return figures


def mean(measured: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Mean of every figure over the clips that have it."""
    values: dict[str, list[float]] = defaultdict(list)
    for figures in measured:
        for name, value in figures.items():
            values[name].append(value)
    return {name: float(np.nanmean(each)) for name, each in values.items()}


# --- tables -----------------------------------------------------------------------------------------------------------

Rows = list[dict[str, Any]]
#: (side, estimator, kind) -> figures of every clip.
Measured = dict[tuple[int, str, str], list[dict[str, float]]]

OVERALL = (
    "endpoint error",
    "endpoint error, object",
    "IoU",
    "IoU, latent grid",
    "left of the camera, px",
    "left beside the object, px",
    "camera share error",
    "moving share error",
    "smoothness error",
    "smoothness bias",
    "dynamic score error",
    "dynamic agreement",
    "HOOF similarity",
    "processor time, dis as matched = 1",
)


def measure_steps(cases: list[Case]) -> Measured:
    """Every case with every estimator, and with its exact displacement."""
    measured: Measured = defaultdict(list)
    for case in cases:
        exactly = fit_camera(case.exact)
        measured[case.side, "exact", case.kind].append(measure(case, case.exact, exactly, exactly))
        for name, make in ESTIMATORS.items():
            start = time.process_time()
            found = make().estimate(case.frames_THW3, "step")
            seconds = time.process_time() - start
            figures = measure(case, found, fit_camera(found), exactly)
            measured[case.side, name, case.kind].append(figures | {"seconds": seconds})
    return measured


def pooled(measured: Measured, side: int, name: str, kinds: tuple[str, ...] = (*OBJECT, *CAMERA, *BOTH)) -> Any:
    """Means over the scenes of some kinds."""
    return mean(figures for kind in kinds for figures in measured[side, name, kind])


def kinds_table(measured: Measured, side: int) -> Rows:
    """One line a kind of scene, with the default estimator."""
    columns = {
        "IoU, exact flow": "IoU, exact flow",
        "IoU": "IoU",
        "IoU, latent grid": "IoU, latent grid",
        "left, px": "left beside the object, px",
        "camera share": "camera share error",
        "moving share": "moving share error",
        "smoothness": "smoothness error",
        "dynamic score": "dynamic score error",
        "HOOF": "HOOF similarity",
    }
    rows = []
    for kind in (*OBJECT, *CAMERA, *BOTH):
        figures = pooled(measured, side, "dis", (kind,))
        if kind in CAMERA:
            figures["left beside the object, px"] = figures["left of the camera, px"]
        cells = {head: shown(figures[name]) if name in figures else "-" for head, name in columns.items()}
        rows.append({"scene": kind.replace("_", ", "), **cells})
    return rows


def overall_table(measured: Measured) -> Rows:
    """One line a figure, over all scenes."""
    columns = [
        (side, name) for side in SIDES for name in ("dis as matched", "dis", "farneback as matched", "farneback")
    ]
    means = {column: pooled(measured, *column) for column in columns}
    for side, name in columns:
        unit = means[side, "dis as matched"]["seconds"]
        means[side, name]["processor time, dis as matched = 1"] = means[side, name]["seconds"] / unit
    return [
        {"mean over scenes": figure}
        | {f"{name}, {side} px": shown(means[side, name][figure]) for side, name in columns}
        for figure in OVERALL
    ]


def anchor_table(cases: list[Case]) -> Rows:
    """Endpoint errors of the ``anchor`` reading, and what its visibility is worth."""
    errors: dict[tuple[str, str], list[float]] = defaultdict(list)
    for case in cases:
        size = {"frames": FRAMES, "fps": FPS, "height": case.side, "width": case.side}
        exact_THW2, seen_THW = anchor_displacement(sample_scene(case.seed, case.kind), **size)
        own_THW = np.broadcast_to(case.object_THW[0], seen_THW.shape)
        for name, estimator in (("dis", DISFlow), ("farneback", FarnebackFlow)):
            for mode in ("chain", "direct"):
                found = estimator(mode).estimate(case.frames_THW3, "anchor")
                assert found.visibility_THW is not None
                error = magnitude(Displacement(found.flow_THW2 - exact_THW2, None, "anchor"))[1:]
                seen, visible = seen_THW[1:], found.visibility_THW[1:]
                column = f"{name}, {case.side} px"
                errors[f"{mode}, visible", column].append(float(error[seen].mean()))
                both = seen & own_THW[1:]
                if case.kind not in CAMERA and both.any():
                    errors[f"{mode}, object", column].append(float(error[both].mean()))
                errors[f"{mode}, visibility above 0.5", column].append(float(error[visible > 0.5].mean()))
                if not seen.all():
                    errors[f"{mode}, visible or not by visibility (AUC)", column].append(ranked(visible, seen))
    columns = [f"{name}, {side} px" for side in SIDES for name in ("dis", "farneback")]
    names = dict.fromkeys(name for name, _ in errors)
    return [{"anchor": name} | {column: shown(np.mean(errors[name, column])) for column in columns} for name in names]


def ranked(score: npt.NDArray[np.float32], truth: Mask) -> float:
    """Area under the ROC curve, ties counted half."""
    _, place, count = np.unique(score.ravel(), return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    yes = int(truth.sum())
    return float((rank[truth.ravel()].sum() - yes * (yes + 1) / 2) / (yes * (truth.size - yes)))


def noise_table() -> tuple[Rows, dict[tuple[int, str, int], float]]:
    """The peak of still clips, and the overlap of some that move, under sensor noise."""
    rows, peaks = [], {}
    for side, seeds in SIDES.items():
        still = [draw("still", seed, side, 9) for seed in range(4 * seeds)]
        moving = [draw(kind, seed, side, 9) for kind in ("slide", "spin", "swing", "track") for seed in range(seeds)]
        for noise in NOISES:
            row: dict[str, Any] = {"size": f"{side} px", "noise": noise}
            for name in ("dis as matched", "dis"):
                estimate = partial(ESTIMATORS[name]().estimate, reading="step")
                tops = [describe(magnitude(estimate(with_noise(c.frames_THW3, noise)))).peak for c in still]
                peaks[side, name, noise] = max(tops)
                row[f"still, highest peak, {name}"] = shown(max(tops))
                ious = [
                    overlap(moving_pixels(fit_camera(estimate(with_noise(c.frames_THW3, noise))).residual, 0.5), own)
                    for c in moving
                    for own in (c.object_THW[1:],)
                ]
                row[f"moving, IoU, {name}"] = shown(np.mean(ious))
            rows.append(row)
    return rows, peaks


def farneback_table() -> Rows:
    """Endpoint error of Farneback's flow as matched, by its settings: all pixels / the object."""
    kinds = ("slide", "fall", "spin", "swing", "stretch", "zoom", "track")
    cases = [draw(kind, 0, side, 6) for side in SIDES for kind in kinds]
    rows = []
    for window, poly, rounds in ((9, 5, 3), (15, 5, 3), (21, 5, 3), (31, 5, 3), (21, 7, 3), (21, 5, 10)):
        row: dict[str, Any] = {"window, polynomial, iterations": f"{window}, {poly}, {rounds}"}
        with patch.multiple(farneback, _WINDOW=window, _POLY_N=poly, _ITERATIONS=rounds):
            for side in SIDES:
                errors = []
                for case in (c for c in cases if c.side == side):
                    flow = MatchedFarneback().estimate(case.frames_THW3, "step").flow_THW2 - case.exact.flow_THW2
                    error = np.hypot(flow[..., 0], flow[..., 1])
                    errors.append((error.mean(), error[case.object_THW].mean()))
                every, own = np.mean(errors, axis=0)
                row[f"{side} px"] = f"{shown(every)} / {shown(own)}"
        rows.append(row)
    return rows


def shown(value: float | np.floating[Any]) -> str:
    """Three decimals, as the tables have them."""
    return f"{float(value):.3f}"


def judge(measured: Measured, peaks: Mapping[tuple[int, str, int], float]) -> list[dict[str, Any]]:
    """The contract: masks cover what moves, the camera's removal leaves the object, statistics are near the truth."""
    goals = []
    moving = (*OBJECT, *BOTH)

    def least(what: str, bound: float, value: float) -> None:
        goals.append(goal(what, f">= {bound:g}", value, value >= bound))

    def most(what: str, bound: float, value: float) -> None:
        goals.append(goal(what, f"<= {bound:g}", value, value <= bound))

    exact = [min(pooled(measured, side, "exact", (kind,))["IoU, exact flow"] for kind in moving) for side in SIDES]
    least("mask covers what moves, exact flow, worst kind of scene (IoU)", 0.8, min(exact))
    for side in SIDES:
        dis = pooled(measured, side, "dis")
        camera, both = (pooled(measured, side, "dis", kinds) for kinds in (CAMERA, BOTH))
        least(f"mask covers what moves, dis, {side} px (IoU)", 0.5, pooled(measured, side, "dis", moving)["IoU"])
        least(f"removing the camera leaves the object, dis, {side} px (IoU under a moving camera)", 0.5, both["IoU"])
        most(f"of a camera alone nothing is left, dis, {side} px (pixels)", 0.1, camera["left of the camera, px"])
        most(f"camera share, dis, {side} px (mean error)", 0.05, dis["camera share error"])
        most(f"moving share, dis, {side} px (mean error)", 0.05, dis["moving share error"])
        most(f"smoothness, dis, {side} px (mean error)", 0.1, dis["smoothness error"])
        most(f"dynamic score, dis, {side} px (mean relative error)", 0.15, dis["dynamic score error"])
        least(f"HOOF, dis, {side} px (similarity to exact)", 0.95, dis["HOOF similarity"])
        most(f"a still clip stays static under noise of 4 levels, dis, {side} px (peak)", FLOOR, peaks[side, "dis", 4])
    return goals


def markdown(rows: Rows) -> str:
    """Rows as a Markdown table."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(text(row[column]) for column in columns) + " |" for row in rows])


def render_page(page: str, result: Mapping[str, Any]) -> str:
    """docs/motion.md with every marked table replaced by the recorded one."""

    def replace(match: re.Match[str]) -> str:
        return f"<!-- motion_truth {match[1]} -->\n{markdown(result['tables'][match[1]])}\n<!-- end -->"

    return re.sub(r"<!-- motion_truth (\w+) -->\n.*?<!-- end -->", replace, page, flags=re.DOTALL)


def main() -> None:
    cases = [
        draw(kind, seed, side)
        for side, seeds in SIDES.items()
        for kind in (*OBJECT, *CAMERA, *BOTH)
        for seed in range(seeds)
    ]
    measured = measure_steps(cases)
    noise, peaks = noise_table()
    followed = [
        c
        for c in cases
        if c.seed == 0 and c.kind in ("slide", "fall", "spin", "swing", "stretch", "pan", "zoom", "track")
    ]
    overall = overall_table(measured)
    tables: dict[str, Rows] = {
        **{f"kinds{side}": kinds_table(measured, side) for side in SIDES},
        "overall": overall,
        "noise": noise,
        "anchor": anchor_table(followed),
        "farneback": farneback_table(),
    }
    write("motion_truth", overall, judge(measured, peaks), tables=tables)
    PAGE.write_text(render_page(PAGE.read_text(encoding="utf-8"), {"tables": tables}), encoding="utf-8")


if __name__ == "__main__":
    main()
