"""The corpora: rendered clips of six motions each, gallery and queries of scenes of their own.

``camera``: six motions of a camera before a still object. ``objects``: six motions of an object before a still, painted
background. Beside them its gallery has clips in which only the camera moves, second objects that move otherwise, and
clips that look like a query and move otherwise. Where an object starts is drawn alike for every motion.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from motive_fo.pipeline.record import ClipRecord
from motive_fo.synthetic.corpus import FIRST_SEED, write_lossless
from motive_fo.synthetic.scene import Camera, Scene, render, sample_scene
from motive_fo.synthetic.texture import BACKGROUNDS, SHAPES

Kind = Literal["camera", "objects"]

#: motion -> motion of the scene, what its camera may do, clips in the seed benchmark's gallery. A direction is drawn
#: for each clip where there are several.
MOTIONS: Final[dict[str, tuple[str, tuple[Camera, ...], int]]] = {
    "horizontal pan": ("pan", ("left", "right"), 33),
    "vertical tilt": ("tilt", ("up", "down"), 25),
    "diagonal slide": ("diagonal", ("up left", "up right", "down left", "down right"), 41),
    "clockwise rotation": ("rotation", ("clockwise",), 31),
    "zoom-in": ("zoom", ("in",), 45),
    "random": ("shake", ("hand-held",), 25),
}
#: motion of an object -> clips, in the sizes of the seed benchmark's classes.
OBJECTS: Final = {"slide": 33, "fall": 25, "bounce": 41, "spin": 31, "float": 45, "stretch": 25}
#: clips in which only the camera moves: of no query's motion.
_CAMERAS_ALONE: Final = ("pan", "tilt", "diagonal", "rotation", "zoom", "shake")
_ALONE: Final = 24
#: share of the objects' clips with a second object, and of those that look like a query of another motion.
_BESIDE, _PLANTED = 0.25, 0.15
CAPTION: Final = "a clip"
GALLERY, TUNE, REPORT = "gallery", "tune", "report"
_ROLES: Final = (GALLERY, TUNE, REPORT)
_SIZE, _FPS, _FRAMES, _THUMB = 64, 16.0, 20, 16
_KEPT: Final = "corpus.npz"
_FLOORS: Final = tuple(name for name, place in BACKGROUNDS.items() if place.floor)
_SHAPES: Final = tuple(name for name in SHAPES if name not in ("ball", "balloon"))  # whose turning shows


@dataclass(frozen=True)
class Corpus:
    """Rendered clips of one role after the other.

    Attributes:
        records: role -> clips.
        motions: role -> index of each clip's motion; clips in which only the camera of ``objects`` moves have an index
            of their own, after the six.
        pixels: role -> float32 (N, K), small grey frames of each clip, end to end.
        planted: role of queries -> bool (Q, N), gallery clips with the look of the query and another motion.
        beside: bool (N,), gallery clips with a second object.
    """

    records: dict[str, list[ClipRecord]]
    motions: dict[str, npt.NDArray[np.int64]]
    pixels: dict[str, npt.NDArray[np.float32]]
    planted: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    beside: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))

    def relevant(self, role: str) -> npt.NDArray[np.bool_]:
        """Which clips of the gallery show the motion of which query of the role: (Q, N)."""
        return np.asarray(self.motions[role][:, None] == self.motions[GALLERY][None])


@dataclass(frozen=True)
class _Plan:
    """A clip before it is rendered.

    Attributes:
        scene: its background, object and motion.
        motion: index of its motion.
        beside: whose object moves too, before the same background.
        like: the query, its role and place, whose look it has.
    """

    scene: Scene
    motion: int
    beside: Scene | None = None
    like: tuple[str, int] | None = None


def scene(seed: int, role: int, motion: int, index: int) -> Scene:
    """A clip's scene in ``camera``, which depends on these numbers alone."""
    rng = np.random.default_rng([seed, role, motion, index])
    name, cameras, _ = list(MOTIONS.values())[motion]
    drawn = sample_scene(FIRST_SEED + int(rng.integers(2**60)), name)
    return replace(drawn, camera=cameras[int(rng.integers(len(cameras)))])


def object_scene(rng: np.random.Generator, motion: str, look: Scene | None = None) -> Scene:
    """A scene in which one object moves. ``Choice:`` looks and places are drawn alike for every motion, so that
    neither shape nor background nor the place of the mask tells it.

    Args:
        motion: a key of ``OBJECTS``.
        look: another scene, to have its background and object where it has them.
    """
    drawn = sample_scene(FIRST_SEED + int(rng.integers(2**60)), motion)
    x, y, ground = (float(rng.uniform(*ends)) for ends in ((-0.3, 0.3), (-0.15, 0.12), (0.4, 0.46)))
    shape, place = (str(rng.choice(names)) for names in (_SHAPES, _FLOORS))
    if look is None:
        return replace(drawn, x=x, y=y, ground=ground, shape=shape, background=place)
    return replace(look, motion=motion, action=motion, speed=drawn.speed, direction=drawn.direction)


def render_corpus(folder: Path, *, kind: Kind = "camera", scale: float, tune: int, report: int, seed: int) -> Corpus:
    """Render and encode all clips, or read those that the folder holds from the same arguments.

    Args:
        kind: which corpus.
        scale: of the seed benchmark's class sizes.
        tune, report: queries of each motion.
        seed: of the scenes.
    """
    asked = json.dumps({"kind": kind, "scale": scale, "tune": tune, "report": report, "seed": seed, "version": 1})
    kept = folder / _KEPT
    if kept.exists():
        with np.load(kept) as stored:
            if str(stored["asked"]) == asked:
                return _read(folder, dict(stored))
    plans = _camera_plans(scale, tune, report, seed) if kind == "camera" else _object_plans(scale, tune, report, seed)
    pixels = {role: _write_clips(folder, role, each) for role, each in plans.items()}
    arrays = {"asked": np.asarray(asked), "beside": np.asarray([plan.beside is not None for plan in plans[GALLERY]])}
    for role, each in plans.items():
        arrays[f"motions {role}"] = np.asarray([plan.motion for plan in each], np.int64)
        arrays[f"pixels {role}"] = pixels[role]
        arrays[f"names {role}"] = np.asarray([path.name for path, _ in _named(folder, role, each)])
        if role != GALLERY:
            like = [[plan.like == (role, q) for plan in plans[GALLERY]] for q in range(len(each))]
            arrays[f"planted {role}"] = np.asarray(like, np.bool_)
    part = kept.with_name(f"{_KEPT}.{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes further names for its one option
    part.replace(kept)
    return _read(folder, arrays)


def _read(folder: Path, arrays: dict[str, npt.NDArray[np.generic]]) -> Corpus:
    made = Corpus({}, {}, {}, {}, np.asarray(arrays["beside"], np.bool_))
    for role in _ROLES:
        paths = [folder / str(name) for name in arrays[f"names {role}"]]
        made.records[role] = [ClipRecord(path.stem, path, CAPTION) for path in paths]
        made.motions[role] = np.asarray(arrays[f"motions {role}"], np.int64)
        made.pixels[role] = np.asarray(arrays[f"pixels {role}"], np.float32)
        if role != GALLERY:
            made.planted[role] = np.asarray(arrays[f"planted {role}"], np.bool_)
    return made


# --- what is in them --------------------------------------------------------------------------------------------------


def _counts(sizes: list[int], scale: float, tune: int, report: int) -> dict[str, list[int]]:
    return {GALLERY: [round(n * scale) for n in sizes], TUNE: [tune] * len(sizes), REPORT: [report] * len(sizes)}


def _camera_plans(scale: float, tune: int, report: int, seed: int) -> dict[str, list[_Plan]]:
    counts = _counts([size for _, _, size in MOTIONS.values()], scale, tune, report)
    return {
        role: [
            _Plan(scene(seed, number, motion, index), motion)
            for motion, size in enumerate(counts[role])
            for index in range(size)
        ]
        for number, role in enumerate(_ROLES)
    }


def _object_plans(scale: float, tune: int, report: int, seed: int) -> dict[str, list[_Plan]]:
    counts = _counts(list(OBJECTS.values()), scale, tune, report)
    plans: dict[str, list[_Plan]] = {}
    for number in (1, 2, 0):  # queries first: planted clips look like them
        plans[_ROLES[number]] = [
            _object_plan(np.random.default_rng([seed, 10 + number, motion, index]), motion, plans)
            for motion, size in enumerate(counts[_ROLES[number]])
            for index in range(size)
        ]
    for index in range(round(_ALONE * scale)):
        rng = np.random.default_rng([seed, 20, index])
        name = _CAMERAS_ALONE[index % len(_CAMERAS_ALONE)]
        plans[GALLERY].append(_Plan(sample_scene(FIRST_SEED + int(rng.integers(2**60)), name), len(OBJECTS)))
    return {role: plans[role] for role in _ROLES}


def _object_plan(rng: np.random.Generator, motion: int, queries: dict[str, list[_Plan]]) -> _Plan:
    """A clip of ``objects``; the gallery's, for which the queries are known, may have a look or a companion."""
    name = list(OBJECTS)[motion]
    if not queries or REPORT not in queries:
        return _Plan(object_scene(rng, name), motion)
    like = None
    if rng.random() < _PLANTED:
        role = (TUNE, REPORT)[int(rng.integers(2))]
        others = [place for place, plan in enumerate(queries[role]) if plan.motion != motion]
        like = (role, int(rng.choice(others))) if others else None
    main = object_scene(rng, name, None if like is None else queries[like[0]][like[1]].scene)
    if rng.random() >= _BESIDE:
        return _Plan(main, motion, like=like)
    other = object_scene(rng, str(rng.choice([each for each in OBJECTS if each != name])))
    # the same painted background, so that both can be seen before it
    beside = replace(other, background=main.background, seed=main.seed, size=0.7 * other.size)
    return _Plan(main, motion, beside, like)


# --- pixels and files -------------------------------------------------------------------------------------------------


def _named(folder: Path, role: str, plans: list[_Plan]) -> Iterator[tuple[Path, _Plan]]:
    """Each plan with its file: role, motion and number within both."""
    seen: dict[int, int] = {}
    for plan in plans:
        index = seen[plan.motion] = seen.get(plan.motion, -1) + 1
        yield folder / f"{role}-{plan.motion}-{index:03d}.mov", plan


def _write_clips(folder: Path, role: str, plans: list[_Plan]) -> npt.NDArray[np.float32]:
    """Small grey frames of every clip, (N, K)."""
    pixels = []
    for path, plan in _named(folder, role, plans):
        clip = _frames(plan)
        write_lossless(path, clip, Fraction(_FPS))
        pixels.append(np.stack([_thumb(frame) for frame in clip]).ravel())
    return np.stack(pixels)


def _frames(plan: _Plan) -> npt.NDArray[np.uint8]:
    """The clip's frames. A second object is behind the first: seen wherever the first one changes no pixel."""
    main = _rendered(plan.scene)
    if plan.beside is None:
        return main
    empty = _rendered(replace(plan.scene, action="still", x=9.0))  # far outside the frame
    first = (main != empty).any(-1, keepdims=True)
    return np.where(first, main, _rendered(plan.beside))


def _rendered(drawn: Scene) -> npt.NDArray[np.uint8]:
    return render(drawn, frames=_FRAMES, fps=_FPS, height=_SIZE, width=_SIZE)


def _thumb(frame_HW3: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    grey = cv2.cvtColor(frame_HW3, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255 - 0.5
    return np.asarray(cv2.resize(grey, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA), np.float32)
