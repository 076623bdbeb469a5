"""Scenes with one known motion each: what is in them, what they are called, how they look, how every pixel moves.

A scene is a function of continuous time and of world units (the shorter side of the frame is 1), so 24 fps at 256x256
and 16 fps at 64x64 show the same event. Everything in it is an affine map per layer - a camera in front of a painted
background, one object, and at times a post before both - which makes the displacement of every pixel exact.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from motive_fo.errors import ConfigError
from motive_fo.synthetic.pose import Matrix, Pose, pingpong, pose_at
from motive_fo.synthetic.texture import (
    BACKGROUNDS,
    COLOURS,
    FINENESS,
    HALF_X,
    HALF_Y,
    SHAPES,
    SKIN_EXTENT,
    SKINS,
    background,
    post,
    skin,
)

Camera = Literal[
    "fixed",
    "left",
    "right",
    "up",
    "down",
    "in",
    "out",
    "up left",
    "up right",
    "down left",
    "down right",
    "clockwise",
    "counterclockwise",
    "hand-held",
]

#: motions of the object in front of a fixed camera.
OBJECT_MOTIONS: Final = ("slide", "fall", "bounce", "roll", "spin", "swing", "float", "stretch", "compress")
#: motions of the camera; in ``track`` the object moves by itself too.
CAMERA_MOTIONS: Final = ("pan", "zoom", "track")
MOTIONS: Final = (*OBJECT_MOTIONS, *CAMERA_MOTIONS, "still")
#: motions of the object that the embedded model has never seen; ``wobble`` is the smallest of them.
UNSEEN_MOTIONS: Final = ("orbit", "pulse", "zigzag", "throw", "spiral", "topple", "loom", "lean", "eight", "wobble")
#: motions for measuring, had by name only. ``Choice:`` a draw without a name and a corpus keep to ``MOTIONS``: the
#: embedded model was trained on those draws, and a longer tuple would change every one of them.
FURTHER_MOTIONS: Final = (
    "tilt",
    "diagonal",
    "rotation",
    "shake",
    "occlusion",
    "track_rotation",
    "track_zoom",
    "track_shake",
    *UNSEEN_MOTIONS,
)

#: what the camera may do in each motion of the camera; a name more than once is drawn more often.
_CAMERAS: Final[Mapping[str, tuple[Camera, ...]]] = MappingProxyType(
    {
        "pan": ("left", "right", "left", "right", "up", "down"),
        "zoom": ("in", "out"),
        "track": ("left", "right"),
        "tilt": ("up", "down"),
        "diagonal": ("up left", "up right", "down left", "down right"),
        "rotation": ("clockwise", "counterclockwise"),
        "shake": ("hand-held",),
        "track_rotation": ("clockwise", "counterclockwise"),
        "track_zoom": ("in", "out"),
        "track_shake": ("hand-held",),
    }
)

#: motions that happen on the ground and need a background with a floor.
_GROUNDED: Final = frozenset({"slide", "fall", "bounce", "roll", "compress", "throw"})
#: motions that a shaded ball hides: it looks the same at every angle.
_TURNING: Final = frozenset({"spin", "throw", "topple", "wobble"})
#: motions in the air, without a shadow on the ground.
_FLOATING: Final = frozenset({"swing", "spin", "float", "stretch", *UNSEEN_MOTIONS} - {"throw"})
#: how far the camera pans before it turns back; keeps it over the painted background.
_PAN_X: Final = 0.6
_PAN_Y: Final = 0.3
_ZOOM_MAX: Final = 1.9
#: half width of the post an object passes behind.
_POST: Final = 0.06
#: below this size (pixels of the shorter side) a frame is drawn twice as fine and averaged.
_FINE_BELOW: Final = 160


@dataclass(frozen=True)
class Scene:
    """One scene. All lengths in world units, all times in seconds.

    Attributes:
        seed: fixes the painted textures.
        motion: one of ``MOTIONS`` or ``FURTHER_MOTIONS``: the motion the clip is about.
        action: what the object itself does: one of ``OBJECT_MOTIONS`` or ``UNSEEN_MOTIONS``, or ``still``.
        speed: 0 (slow) to 1 (fast), of the object.
        direction: -1 to the left, counter-clockwise or downwards, 1 to the right, clockwise or upwards.
        shape, texture, colour: of the object.
        size: radius of the object.
        x, y: where the object starts (its centre; for ``swing`` x of the pivot).
        ground: y of the ground under the object.
        background: a key of ``BACKGROUNDS``.
        camera: what the camera does.
        camera_speed: 0 to 1.
        post: x of a still post in front of the object; None where there is none.
    """

    seed: int
    motion: str
    action: str
    speed: float
    direction: int
    shape: str
    texture: str
    colour: str
    size: float
    x: float
    y: float
    ground: float
    background: str
    camera: Camera
    camera_speed: float
    post: float | None = None


def sample_scene(seed: int, motion: str | None = None) -> Scene:
    """Draw a scene; the same seed (and motion) always gives the same one.

    Args:
        seed: any integer >= 0.
        motion: one of ``MOTIONS`` or ``FURTHER_MOTIONS``; None draws one of ``MOTIONS``.
    """
    known = (*MOTIONS, *FURTHER_MOTIONS)
    if motion is not None and motion not in known:
        raise ConfigError(f"unknown motion {motion!r}: use one of {', '.join(known)}")
    rng = np.random.default_rng([seed, 0])
    drawn = MOTIONS[int(rng.integers(len(MOTIONS)))]
    motion = drawn if motion is None else motion
    direction = 1 if rng.random() < 0.5 else -1
    speed, camera_speed = float(rng.random()), float(rng.random())
    action = motion
    camera: Camera = "fixed"
    if motion in _CAMERAS:
        by_itself = motion.startswith("track")
        action = ("slide", "bounce", "roll", "float", "spin")[int(rng.integers(5))] if by_itself else "still"
        camera = _CAMERAS[motion][int(rng.integers(len(_CAMERAS[motion])))]
    elif motion == "occlusion":
        action = ("slide", "roll")[int(rng.integers(2))]

    shapes = [name for name, is_round in SHAPES.items() if name != "balloon" and (is_round or action != "roll")]
    if action in _TURNING:
        shapes.remove("ball")
    if action == "float":
        shapes = ["balloon", "balloon", "heart", "star"]
    shape = shapes[int(rng.integers(len(shapes)))]
    texture = SKINS[int(rng.integers(len(SKINS)))]
    if texture == "shiny" and action in ("roll", "spin"):
        texture = "striped"  # a plain ball that turns looks the same at every angle
    colour = tuple(COLOURS)[int(rng.integers(len(COLOURS)))]
    places = [name for name, place in BACKGROUNDS.items() if place.floor or action not in _GROUNDED]
    place = places[int(rng.integers(len(places)))]

    size = float(rng.uniform(0.11, 0.18))
    ground = float(rng.uniform(0.26, 0.42))
    x, y = float(rng.uniform(-0.15, 0.15)), float(rng.uniform(-0.15, 0.1))
    if action in ("slide", "roll"):
        x, y = -direction * float(rng.uniform(0.12, 0.34)), ground - size
    elif action in ("fall", "bounce"):
        start = float(rng.uniform(-0.48, -0.38) if action == "fall" else rng.uniform(-0.36, -0.2))
        x, y = (x if action == "fall" else -direction * float(rng.uniform(0.05, 0.3))), start
    elif action == "float":
        y = float(rng.uniform(0.12, 0.3))
    elif action == "compress" or (action == "still" and BACKGROUNDS[place].floor):
        y = ground - size
    post = None
    if motion == "occlusion":
        post = x + direction * size * float(rng.uniform(0.9, 1.3))  # met by the slowest within a second
    return Scene(
        seed=seed,
        motion=motion,
        action=action,
        speed=speed,
        direction=direction,
        shape=shape,
        texture=texture,
        colour=colour,
        size=size,
        x=x,
        y=y,
        ground=ground,
        background=place,
        camera=camera,
        camera_speed=camera_speed,
        post=post,
    )


# --- motion -----------------------------------------------------------------------------------------------------------


def _view(scene: Scene, time: float) -> Matrix:
    """3x3 map from world units to frame units (the same, seen by the camera) at one instant."""
    pace = 0.14 + 0.4 * scene.camera_speed
    x = y = roll = 0.0
    zoom = 1.0
    if scene.camera in ("left", "right"):
        way = 1 if scene.camera == "right" else -1
        x = pingpong(way * (pace * time - 0.2), _PAN_X)
    elif scene.camera in ("up", "down"):
        way = 1 if scene.camera == "down" else -1
        y = pingpong(way * (pace * time - 0.2), _PAN_Y)
    elif scene.camera in ("in", "out"):
        half = math.log(_ZOOM_MAX) / 2
        way = 1 if scene.camera == "in" else -1
        zoom = math.exp(half + way * pingpong((0.25 + 0.5 * scene.camera_speed) * time - half, half))
    elif " " in scene.camera:
        along = pingpong(pace * time - 0.2, _PAN_Y)
        x = along * (1 if "right" in scene.camera else -1)
        y = along * (1 if "down" in scene.camera else -1)
    elif scene.camera in ("clockwise", "counterclockwise"):
        roll = (0.15 + 0.45 * scene.camera_speed) * time * (1 if scene.camera == "clockwise" else -1)
    elif scene.camera == "hand-held":
        x, y, roll = _shaken(scene, time)
    view = np.array([[zoom, 0, -zoom * x], [0, zoom, -zoom * y], [0, 0, 1]])
    if not roll:
        return view
    cosine, sine = math.cos(roll), math.sin(roll)  # a camera that rolls clockwise sees the world roll back
    rolled: Matrix = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]]) @ view
    return rolled


def _shaken(scene: Scene, time: float) -> tuple[float, float, float]:
    """Where a hand holds the camera, x and y, and its roll: three slow waves each, fixed by the seed."""
    rng = np.random.default_rng([scene.seed, 3])
    rate_3K, phase_3K = rng.uniform(0.5, 2.2, (3, 3)), rng.uniform(0, 2 * math.pi, (3, 3))
    wave_3K = np.sin(2 * math.pi * rate_3K * time + phase_3K) / rate_3K  # the slower the wider, as a hand drifts
    x, y, roll = (0.012 + 0.02 * scene.camera_speed) * wave_3K.sum(axis=1)
    return float(x), float(y), float(roll)


@dataclass(frozen=True)
class _Instant:
    """The layers of one frame as 3x3 maps to its pixels."""

    world: Matrix
    turned: Matrix
    upright: Matrix
    pose: Pose


def _instant(scene: Scene, time: float, height: int, width: int) -> _Instant:
    short = min(height, width)
    # World 0 is the middle of the frame; pixel centres are at whole numbers.
    pixels = np.array([[short, 0, width / 2 - 0.5], [0, short, height / 2 - 0.5], [0, 0, 1.0]])
    world = pixels @ _view(scene, time)
    pose = pose_at(scene, time)
    return _Instant(world, world @ pose.matrix(scene.size), world @ pose.matrix(scene.size, upright=True), pose)


def _instants(scene: Scene, frames: int, fps: float, height: int, width: int) -> list[_Instant]:
    if frames < 1 or height < 8 or width < 8 or not fps > 0:
        raise ConfigError(
            f"cannot render {frames} frames of {height}x{width} at {fps} fps: "
            "use 1 frame or more, 8x8 pixels or more and a rate above 0"
        )
    return [_instant(scene, k / fps, height, width) for k in range(frames)]


# --- pixels -----------------------------------------------------------------------------------------------------------


def _grid_to_local(pixels: int) -> Matrix:
    """3x3 map from pixels of a square skin picture to object radii."""
    step = 2 * SKIN_EXTENT / pixels
    return np.array([[step, 0, step / 2 - SKIN_EXTENT], [0, step, step / 2 - SKIN_EXTENT], [0, 0, 1]])


def _box(matrix: Matrix, height: int, width: int, reach: float = SKIN_EXTENT) -> tuple[int, int, int, int]:
    """Rows and columns (top, bottom, left, right) of the frame an object can touch; may be empty."""
    corners = matrix[:2] @ np.array([[-reach, reach, -reach, reach], [-reach, -reach, reach, reach], [1, 1, 1, 1]])
    left, top = np.floor(corners.min(axis=1)).astype(int)
    right, bottom = np.ceil(corners.max(axis=1)).astype(int) + 1
    return max(0, int(top)), min(height, int(bottom)), max(0, int(left)), min(width, int(right))


def _warp(
    picture: npt.NDArray[np.float32], to_frame: Matrix, box: tuple[int, int, int, int]
) -> npt.NDArray[np.float32]:
    """A skin picture seen inside a box of the frame; 0 outside the picture."""
    top, bottom, left, right = box
    to_picture = np.linalg.inv(to_frame @ _grid_to_local(picture.shape[0]))
    to_picture = to_picture @ np.array([[1, 0, left], [0, 1, top], [0, 0, 1]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen: npt.NDArray[np.float32] = cv2.warpAffine(picture, to_picture[:2], (right - left, bottom - top), flags=flags)
    return seen


def _rope(scene: Scene, instant: _Instant, height: int, width: int) -> npt.NDArray[np.float32]:
    """Coverage (H, W) of the rope a swinging object hangs on."""
    ends = instant.turned @ np.array([[0, 0], [-(0.56 - scene.size) / scene.size, -0.9], [1, 1]])
    start, end = ends[:2, 0], ends[:2, 1]
    along = (end - start) / max(1e-9, float(np.hypot(*(end - start))))
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    ahead = (columns - start[0]) * along[0] + (rows - start[1]) * along[1]
    aside = np.abs((rows - start[1]) * along[0] - (columns - start[0]) * along[1])
    beyond = np.maximum(np.maximum(-ahead, ahead - np.hypot(*(end - start))), 0)
    half_width = 0.008 * min(height, width)
    coverage: npt.NDArray[np.float32] = np.clip(half_width + 0.5 - np.hypot(aside, beyond), 0, 1).astype(np.float32)
    return coverage


def _post(scene: Scene, instant: _Instant, height: int, width: int) -> npt.NDArray[np.float32]:
    """Coverage (H, W) of the post before the object; 0 where there is none."""
    if scene.post is None:
        return np.zeros((height, width), np.float32)
    rows, columns = np.mgrid[0:height, 0:width]
    to_world = np.linalg.inv(instant.world)
    aside = np.abs(to_world[0, 0] * columns + to_world[0, 1] * rows + to_world[0, 2] - scene.post)
    scale = math.sqrt(float(np.linalg.det(instant.world[:2, :2])))
    coverage: npt.NDArray[np.float32] = np.clip((_POST - aside) * scale + 0.5, 0, 1).astype(np.float32)
    return coverage


def _draw_post(scene: Scene, instant: _Instant, frame_HW3: npt.NDArray[np.uint8]) -> None:
    """Draw the post over everything."""
    if scene.post is None:
        return
    height, width = frame_HW3.shape[:2]
    painted = post(scene.seed)
    rows, columns = painted.shape[:2]
    # a little wider than the post, so that its soft edge has a colour
    half_x = 1.2 * _POST
    to_world = np.array(
        [
            [2 * half_x / columns, 0, half_x / columns - half_x + scene.post],
            [0, 2 * HALF_Y / rows, HALF_Y / rows - HALF_Y],
            [0, 0, 1],
        ]
    )
    seen = cv2.warpAffine(
        painted,
        (instant.world @ to_world)[:2],
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    share = _post(scene, instant, height, width)[..., None]
    frame_HW3[:] = (frame_HW3 * (1 - share) + share * seen + 0.5).astype(np.uint8)


def _shade_ground(scene: Scene, instant: _Instant, frame_HW3: npt.NDArray[np.uint8]) -> None:
    """Darken the ground under the object: the higher it is, the wider and fainter its shadow."""
    if not BACKGROUNDS[scene.background].floor or scene.action in _FLOATING:
        return
    pose = instant.pose
    above = max(0.0, scene.ground - scene.size * pose.scale_y - pose.y)
    wide = scene.size * pose.scale_x * (1.05 + 0.8 * above)
    place = instant.world @ np.array([[wide, 0, pose.x], [0, 0.24 * wide, scene.ground], [0, 0, 1]])
    top, bottom, left, right = _box(place, frame_HW3.shape[0], frame_HW3.shape[1], reach=1.6)
    if top >= bottom or left >= right:
        return
    across = (np.arange(left, right) - place[0, 2]) / place[0, 0]
    down = (np.arange(top, bottom) - place[1, 2]) / place[1, 1]
    dark = 0.55 / (1 + 3 * above) * np.exp(-1.6 * (across[None, :] ** 2 + down[:, None] ** 2))
    part = frame_HW3[top:bottom, left:right]
    part[:] = (part * (1 - dark[..., None]) + 0.5).astype(np.uint8)


def _mip(scene: Scene, short: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    """The object's pictures at about the fineness it is seen with, so that the warp neither blurs nor aliases."""
    painted = skin(scene.shape, scene.texture, scene.colour, scene.seed)
    zoom = _ZOOM_MAX**0.5 if scene.camera in ("in", "out") else 1.0
    pixels = max(8, min(painted.rgba_NN4.shape[0], round(1.2 * zoom * 2 * SKIN_EXTENT * scene.size * short)))
    rgba = cv2.resize(painted.rgba_NN4, (pixels, pixels), interpolation=cv2.INTER_AREA)
    if painted.light_NN is None:
        return rgba, None
    return rgba, cv2.resize(painted.light_NN, (pixels, pixels), interpolation=cv2.INTER_AREA)


def _draw(scene: Scene, instants: list[_Instant], height: int, width: int) -> npt.NDArray[np.uint8]:
    short = min(height, width)
    painted = background(scene.background, scene.seed)
    zoom = _ZOOM_MAX**0.5 if scene.camera in ("in", "out") else 1.0
    shrink = min(1.0, zoom * short / FINENESS)
    if shrink < 1:
        size = (round(painted.shape[1] * shrink), round(painted.shape[0] * shrink))
        painted = cv2.resize(painted, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    rows, columns = painted.shape[:2]
    to_world = np.array(
        [
            [2 * HALF_X / columns, 0, HALF_X / columns - HALF_X],
            [0, 2 * HALF_Y / rows, HALF_Y / rows - HALF_Y],
            [0, 0, 1],
        ]
    )
    rgba, light = _mip(scene, short)
    frames = np.empty((len(instants), height, width, 3), np.uint8)
    seen: npt.NDArray[np.uint8] | None = None
    for frame_HW3, instant in zip(frames, instants, strict=True):
        if seen is None or scene.camera != "fixed":
            to_frame = (instant.world @ to_world)[:2]
            seen = cv2.warpAffine(
                painted, to_frame, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
            ).astype(np.uint8)
        frame_HW3[:] = seen
        _shade_ground(scene, instant, frame_HW3)
        if scene.action == "swing":
            rope = 0.9 * _rope(scene, instant, height, width)[..., None]
            frame_HW3[:] = (frame_HW3 * (1 - rope) + rope * (74, 56, 40) + 0.5).astype(np.uint8)
        box = _box(instant.turned, height, width)
        top, bottom, left, right = box
        if top < bottom and left < right:
            part = _warp(rgba, instant.turned, box)
            colour, alpha = part[..., :3], part[..., 3:]
            if light is not None:
                colour = np.minimum(colour * _warp(light, instant.upright, box)[..., None], alpha)
            below = frame_HW3[top:bottom, left:right]
            below[:] = np.clip(colour * 255 + below * (1 - alpha) + 0.5, 0, 255).astype(np.uint8)
        _draw_post(scene, instant, frame_HW3)
    return frames


def render(scene: Scene, *, frames: int, fps: float, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Draw the scene from time 0 on: uint8 RGB (T, H, W, 3).

    Args:
        frames: T, 1 or more.
        fps: frames per second.
        height, width: pixels, 8 or more each; the shorter side shows one world unit.
    """
    if min(height, width) >= _FINE_BELOW:
        return _draw(scene, _instants(scene, frames, fps, height, width), height, width)
    fine = _draw(scene, _instants(scene, frames, fps, 2 * height, 2 * width), 2 * height, 2 * width)
    halves = fine.reshape(frames, height, 2, width, 2, 3).astype(np.uint16).sum(axis=(2, 4))
    averaged: npt.NDArray[np.uint8] = ((halves + 2) // 4).astype(np.uint8)
    return averaged


def object_mask(scene: Scene, *, frames: int, fps: float, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Pixels (T, H, W) that show the object (or its rope) rather than what stands; the shadow is background."""
    return _masks(scene, _instants(scene, frames, fps, height, width), height, width)


def _masks(scene: Scene, instants: list[_Instant], height: int, width: int) -> npt.NDArray[np.bool_]:
    alpha = np.ascontiguousarray(_mip(scene, min(height, width))[0][..., 3])
    masks = np.zeros((len(instants), height, width), np.bool_)
    for mask_HW, instant in zip(masks, instants, strict=True):
        top, bottom, left, right = box = _box(instant.turned, height, width)
        if top < bottom and left < right:
            mask_HW[top:bottom, left:right] = _warp(alpha, instant.turned, box) > 0.5
        if scene.action == "swing":
            mask_HW |= _rope(scene, instant, height, width) > 0.5
        if scene.post is not None:
            mask_HW &= _post(scene, instant, height, width) <= 0.5
    return masks


def displacement(scene: Scene, *, frames: int, fps: float, height: int, width: int) -> npt.NDArray[np.float32]:
    """Exact ``step`` displacement: float32 (T, H, W, 2), x then y, in pixels.

    Entry t says, for each pixel of frame t, where the point shown there is now minus where it was in frame t - 1.
    Frame 0 takes the step 0 -> 1 of the points shown in frame 0. ``Choice:`` a shadow is background: the ground under
    it does not move.
    """
    if frames < 2:
        raise ConfigError(f"displacement needs 2 or more frames, not {frames}")
    instants = _instants(scene, frames, fps, height, width)
    masks = _masks(scene, instants, height, width)
    rows, columns = np.mgrid[0:height, 0:width]
    here = np.stack([columns, rows, np.ones_like(rows)], axis=-1).astype(np.float64)
    flow = np.empty((frames, height, width, 2), np.float32)
    for t in range(frames):
        now, other, sign = (instants[t], instants[t - 1], 1.0) if t else (instants[0], instants[1], -1.0)
        for layer, chosen in (("world", ~masks[t]), ("turned", masks[t])):
            step = np.eye(3) - getattr(other, layer) @ np.linalg.inv(getattr(now, layer))
            step[np.abs(step) < 1e-9] = 0  # what does not move has a displacement of 0, not of a rounding error
            flow[t][chosen] = sign * (here[chosen] @ step[:2].T)
    return flow


def anchor_displacement(
    scene: Scene, *, frames: int, fps: float, height: int, width: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Exact ``anchor`` displacement: float32 (T, H, W, 2), x then y, in pixels, and what is seen: bool (T, H, W).

    Entry t says, for each pixel of frame 0, where the point shown there is in frame t minus where it was in frame 0. It
    is seen if it lies within frame t and its pixel shows the same layer there.
    """
    instants = _instants(scene, frames, fps, height, width)
    masks = _masks(scene, instants, height, width)
    rows, columns = np.mgrid[0:height, 0:width]
    here = np.stack([columns, rows, np.ones_like(rows)], axis=-1).astype(np.float64)
    flow = np.zeros((frames, height, width, 2), np.float32)
    seen = np.zeros((frames, height, width), np.bool_)
    for t in range(frames):
        for layer, chosen in (("world", ~masks[0]), ("turned", masks[0])):
            moved = getattr(instants[t], layer) @ np.linalg.inv(getattr(instants[0], layer))
            flow[t][chosen] = (here[chosen] @ moved.T)[:, :2] - here[chosen][:, :2]
        x, y = np.moveaxis(np.rint(here[..., :2] + flow[t]).astype(int), -1, 0)
        within = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        seen[t] = within & (masks[t][y.clip(0, height - 1), x.clip(0, width - 1)] == masks[0])
    return flow, seen
