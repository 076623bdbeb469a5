"""Pixels of the synthetic scenes: backgrounds and object skins, painted from a seed.

Every picture is painted once at a fixed fineness in world units and then resampled to the size that is asked for, so a
scene looks the same at 64 and at 512 pixels. Colours are float32 RGB in [0, 1] while painting, uint8 when handed on.

World units: the shorter side of the frame is 1, x to the right, y down, the origin in the middle of the frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

#: pixels per world unit of a painted background; enough for frames of about 300 pixels, softer above.
FINENESS: Final = 288
#: half width and half height of a painted background in world units; beyond, it is mirrored.
HALF_X: Final = 1.2
HALF_Y: Final = 0.85
#: y of the line where the floor begins, in world units.
HORIZON: Final = 0.1

#: half side of the square a skin is painted on, in object radii (the rest is room for the soft edge).
SKIN_EXTENT: Final = 1.15
SKIN_PIXELS: Final = 224

COLOURS: Final[Mapping[str, tuple[int, int, int]]] = MappingProxyType(
    {
        "red": (208, 48, 44),
        "orange": (238, 132, 32),
        "yellow": (246, 208, 52),
        "green": (58, 158, 74),
        "blue": (44, 104, 206),
        "purple": (132, 68, 178),
        "pink": (238, 122, 168),
        "white": (240, 240, 236),
        "brown": (140, 88, 48),
        "black": (44, 44, 50),
    }
)

#: second colour of a pattern, chosen for contrast.
_ACCENTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "red": "white",
        "orange": "white",
        "yellow": "blue",
        "green": "yellow",
        "blue": "white",
        "purple": "yellow",
        "pink": "purple",
        "white": "red",
        "brown": "yellow",
        "black": "white",
    }
)


def _rgb(*values: int) -> Array:
    return np.array(values, np.float32) / np.float32(255)


def _float32(value: npt.NDArray[Any]) -> Array:
    result: Array = value.astype(np.float32, copy=False)
    return result


def _mix(first: Array, second: Array, share: Array) -> Array:
    """``first`` where ``share`` is 0, ``second`` where it is 1; colours broadcast over (h, w)."""
    # Channel by channel: numpy is slow on a last axis of three.
    channels = [first[..., c] + (second[..., c] - first[..., c]) * share for c in range(3)]
    merged: Array = cv2.merge([_float32(channel) for channel in channels])
    return merged


def _noise(
    rng: np.random.Generator, shape: tuple[int, ...], cells: tuple[float, float], octaves: int = 4, fade: float = 0.55
) -> Array:
    """Sum of smoothly enlarged random grids, each twice as fine as the one before; mean about 0, deviation about 1."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        rows = max(2, round(cells[0] * 2**octave))
        columns = max(2, round(cells[1] * 2**octave))
        if rows > shape[0] or columns > shape[1]:
            break
        grid = rng.standard_normal((rows, columns)).astype(np.float32)
        total += np.float32(fade**octave) * cv2.resize(grid, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return _float32((total - total.mean()) / (total.std() + np.float32(1e-6)))


def _step(value: Array, edge: float, softness: float) -> Array:
    """0 below ``edge``, 1 above, a straight ramp of width ``softness`` between."""
    return _float32(np.clip((value - edge) / softness + 0.5, 0, 1))


# --- backgrounds ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Background:
    """A place.

    Attributes:
        phrase: how a caption names it.
        floor: there is ground to stand on.
        paint: gives RGB (h, w, 3) for world coordinates x, y of shape (h, w).
    """

    phrase: str
    floor: bool
    paint: Callable[[np.random.Generator, Array, Array], Array]


def _sky(rng: np.random.Generator, x_hw: Array, y_hw: Array, top: Array, bottom: Array, cloud: float = 0.85) -> Array:
    sky = _mix(top, bottom, np.clip((y_hw + HALF_Y) / (HORIZON + HALF_Y), 0, 1))
    clouds = _noise(rng, x_hw.shape, (4, 4), octaves=6)
    return _mix(sky, _rgb(252, 252, 250), cloud * _step(clouds, 0.75, 1.6))


def _floor(rng: np.random.Generator, x_hw: Array, y_hw: Array, cells: float, octaves: int, fade: float = 0.7) -> Array:
    """A noise seen as ground that runs back to the horizon: finer and flatter with distance, averaged out far away."""
    nearness = np.clip(y_hw - HORIZON, 0, None) + np.float32(0.14)
    tile = _noise(rng, (512, 512), (cells, cells), octaves, fade)
    # cv2 mirrors outside the tile, so its edges never show as seams.
    column = (0.5 + 0.22 * x_hw / nearness * 0.35) * 511
    row = 0.055 / nearness * 511 * 2
    seen = cv2.remap(tile, _float32(column), _float32(row), cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT)
    return _float32(seen * np.clip(0.35 + 2.2 * (nearness - 0.14), 0, 1))


def _on_floor(wall: Array, floor: Array, y_hw: Array) -> Array:
    return _mix(wall, floor, _step(y_hw, HORIZON, 1.5 / FINENESS))


def _hills(rng: np.random.Generator, picture: Array, x_hw: Array, y_hw: Array, colour: Array, height: float) -> Array:
    points = rng.standard_normal((1, 9)).astype(np.float32)
    outline = cv2.resize(points, (x_hw.shape[1], 1), interpolation=cv2.INTER_CUBIC)
    edge = HORIZON - height * (1 + 0.55 * outline)
    return _mix(picture, colour, _step(y_hw - edge, 0, 1.5 / FINENESS))


def _grass(rng: np.random.Generator, x_hw: Array, y_hw: Array) -> Array:
    sky = _sky(rng, x_hw, y_hw, _rgb(92, 160, 224), _rgb(196, 224, 242))
    sky = _hills(rng, sky, x_hw, y_hw, _rgb(116, 158, 140), 0.075)
    sky = _hills(rng, sky, x_hw, y_hw, _rgb(84, 138, 82), 0.03)
    blades = _floor(rng, x_hw, y_hw, 26, 4, 0.85) * 0.11
    patches = _floor(rng, x_hw, y_hw, 5, 2) * 0.09
    near = np.clip((y_hw - HORIZON) * 1.6, 0, 1)
    green = _mix(_rgb(128, 176, 84), _rgb(62, 128, 44), near)
    return _on_floor(sky, green * (1 + blades + patches)[..., None], y_hw)


def _beach(rng: np.random.Generator, x_hw: Array, y_hw: Array) -> Array:
    sky = _sky(rng, x_hw, y_hw, _rgb(112, 186, 226), _rgb(222, 236, 238), cloud=0.7)
    waves = _noise(rng, x_hw.shape, (70, 9), octaves=3) * 0.05
    sea = _rgb(36, 132, 158) * (1 + waves)[..., None]
    sky = _mix(sky, sea.astype(np.float32), _step(y_hw, HORIZON - 0.11, 1.5 / FINENESS))
    grains = _floor(rng, x_hw, y_hw, 60, 3, 0.9) * 0.05 + _floor(rng, x_hw, y_hw, 7, 3) * 0.07
    sand = _mix(_rgb(236, 214, 164), _rgb(206, 168, 108), np.clip((y_hw - HORIZON) * 1.5, 0, 1))
    return _on_floor(sky, sand * (1 + grains)[..., None], y_hw)


def _snow(rng: np.random.Generator, x_hw: Array, y_hw: Array) -> Array:
    sky = _sky(rng, x_hw, y_hw, _rgb(138, 164, 196), _rgb(226, 230, 238), cloud=0.6)
    sky = _hills(rng, sky, x_hw, y_hw, _rgb(150, 166, 188), 0.12)
    sky = _hills(rng, sky, x_hw, y_hw, _rgb(70, 96, 92), 0.035)
    drifts = _floor(rng, x_hw, y_hw, 6, 4) * 0.055
    snow = _mix(_rgb(214, 222, 236), _rgb(244, 246, 250), np.clip((y_hw - HORIZON) * 2, 0, 1))
    return _on_floor(sky, snow * (1 + drifts - 0.04)[..., None], y_hw)


def _bricks(rng: np.random.Generator, x_hw: Array, y_hw: Array) -> Array:
    height, width = 0.07, 0.165
    row = np.floor(y_hw / height)
    along = x_hw / width + 0.5 * (row % 2)
    column = np.floor(along)
    shade = rng.standard_normal((64, 64)).astype(np.float32)[row.astype(int) % 64, column.astype(int) % 64]
    grain = _noise(rng, x_hw.shape, (90, 90), octaves=2)
    colour = _mix(_rgb(176, 82, 60), _rgb(128, 58, 48), _step(shade, 0, 2.5)) * (1 + 0.05 * grain)[..., None]
    to_joint = np.minimum(
        np.minimum(along - column, 1 - (along - column)) * width,
        np.minimum(y_hw / height - row, 1 - (y_hw / height - row)) * height,
    )
    wall = _mix(_rgb(204, 192, 178), colour.astype(np.float32), _step(to_joint.astype(np.float32), 0.006, 0.006))
    stone = _floor(rng, x_hw, y_hw, 9, 5) * 0.1
    return _on_floor(wall, _rgb(150, 146, 140) * (1 + stone)[..., None], y_hw)


def _room(rng: np.random.Generator, x_hw: Array, y_hw: Array) -> Array:
    paper = 0.5 + 0.5 * np.sin(x_hw * (2 * np.pi / 0.13)).astype(np.float32)
    wall = _mix(_rgb(190, 214, 206), _rgb(160, 192, 186), _step(paper, 0.5, 0.4))
    wall = wall * (1 + 0.02 * _noise(rng, x_hw.shape, (10, 10), octaves=5))[..., None]
    skirting = _step(y_hw, HORIZON - 0.05, 1.5 / FINENESS)
    wall = _mix(wall.astype(np.float32), _rgb(240, 238, 230), skirting)
    # Boards run away from the viewer: they fan out from a vanishing point above the horizon.
    board = x_hw / (y_hw - HORIZON + 0.35) * 4.2
    number = np.floor(board)
    tone = rng.standard_normal(256).astype(np.float32)[number.astype(int) % 256]
    fibre = _noise(rng, x_hw.shape, (6, 110), octaves=2)
    wood = _mix(_rgb(196, 140, 86), _rgb(150, 98, 56), _step(tone, 0, 3)) * (1 + 0.06 * fibre)[..., None]
    gap = np.minimum(board - number, 1 - (board - number)).astype(np.float32)
    wood = _mix(_rgb(86, 54, 32), wood.astype(np.float32), _step(gap, 0.03, 0.04))
    return _on_floor(wall, wood, y_hw)


def _clouds(rng: np.random.Generator, x_hw: Array, y_hw: Array) -> Array:
    sky = _mix(_rgb(64, 134, 214), _rgb(164, 208, 240), np.clip((y_hw + HALF_Y) / (2 * HALF_Y), 0, 1))
    density = _noise(rng, x_hw.shape, (4, 5), octaves=7, fade=0.58)
    lit = _mix(_rgb(255, 255, 253), _rgb(200, 208, 222), _step(density, 1.5, 1.8))
    return _mix(sky, lit, _step(density, 0.35, 0.9))


def _water(rng: np.random.Generator, x_hw: Array, y_hw: Array) -> Array:
    swell = _noise(rng, x_hw.shape, (16, 7), octaves=5, fade=0.6)
    base = _mix(_rgb(16, 84, 122), _rgb(60, 158, 182), _step(swell, 0, 2.6))
    glint = np.abs(_noise(rng, x_hw.shape, (22, 9), octaves=4, fade=0.6))
    return _mix(base, _rgb(222, 244, 246), 0.75 * _step(-glint, -0.12, 0.22))


def _night(rng: np.random.Generator, x_hw: Array, y_hw: Array) -> Array:
    sky = _mix(_rgb(14, 16, 44), _rgb(58, 44, 98), np.clip((y_hw + HALF_Y) / (2 * HALF_Y), 0, 1))
    sky = _mix(sky, _rgb(112, 78, 142), 0.55 * _step(_noise(rng, x_hw.shape, (3, 4), octaves=6), 0.7, 2))
    stars = np.zeros(x_hw.shape, np.float32)
    count = 420
    rows = rng.integers(0, x_hw.shape[0], count)
    columns = rng.integers(0, x_hw.shape[1], count)
    stars[rows, columns] = rng.uniform(0.3, 1, count).astype(np.float32) ** 2
    glow = cv2.GaussianBlur(stars, (0, 0), 1.3) * 9 + cv2.GaussianBlur(stars, (0, 0), 3.5) * 9
    return _mix(sky, _rgb(255, 248, 226), np.clip(glow, 0, 1))


def _leaves(rng: np.random.Generator, x_hw: Array, y_hw: Array) -> Array:
    picture = np.broadcast_to(_rgb(30, 62, 34), (*x_hw.shape, 3)).astype(np.float32)
    tones = ((_rgb(36, 84, 42), _rgb(52, 104, 48)), (_rgb(56, 116, 50), _rgb(112, 166, 70)))
    for layer, (dark, light) in enumerate(tones):
        shape = _noise(rng, x_hw.shape, (15, 17), octaves=3, fade=0.5)
        tone = _mix(dark, light, _step(_noise(rng, x_hw.shape, (34, 34), octaves=3), 0, 3))
        picture = _mix(picture, tone, _step(shape, 0.0 + 0.35 * layer, 0.35))
    return picture


BACKGROUNDS: Final[Mapping[str, Background]] = MappingProxyType(
    {
        "grass": Background("on a grassy field", True, _grass),
        "beach": Background("on a sandy beach", True, _beach),
        "snow": Background("on a snowy plain", True, _snow),
        "bricks": Background("in front of a brick wall", True, _bricks),
        "room": Background("on the wooden floor of a room", True, _room),
        "clouds": Background("against a cloudy blue sky", False, _clouds),
        "water": Background("above rippling water", False, _water),
        "night": Background("against a starry night sky", False, _night),
        "leaves": Background("in front of green leaves", False, _leaves),
    }
)


@lru_cache(maxsize=4)
def background(kind: str, seed: int) -> npt.NDArray[np.uint8]:
    """Paint one background, uint8 RGB, ``FINENESS`` pixels per world unit, covering +-``HALF_X`` and +-``HALF_Y``."""
    rows, columns = round(2 * HALF_Y * FINENESS), round(2 * HALF_X * FINENESS)
    y_h = ((np.arange(rows, dtype=np.float32) + 0.5) / rows * 2 - 1) * np.float32(HALF_Y)
    x_w = ((np.arange(columns, dtype=np.float32) + 0.5) / columns * 2 - 1) * np.float32(HALF_X)
    x_hw, y_hw = np.meshgrid(x_w, y_h)
    picture = BACKGROUNDS[kind].paint(np.random.default_rng([seed, 1]), _float32(x_hw), _float32(y_hw))
    result = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    result.flags.writeable = False
    return result


@lru_cache(maxsize=4)
def post(seed: int) -> npt.NDArray[np.uint8]:
    """Paint a weathered post, uint8 RGB, as high as a background; how wide it is drawn is the scene's affair."""
    rows, columns = round(2 * HALF_Y * FINENESS), 48
    rng = np.random.default_rng([seed, 4])
    grain = _noise(rng, (rows, columns), (40, 3), octaves=4) * 0.1
    stains = _noise(rng, (rows, columns), (12, 2), octaves=3) * 0.08
    round_w = np.cos(np.linspace(-1.1, 1.1, columns, dtype=np.float32))
    picture = _rgb(150, 128, 104) * ((1 + grain + stains) * (0.45 + 0.55 * round_w))[..., None]
    result = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    result.flags.writeable = False
    return result


# --- objects ----------------------------------------------------------------------------------------------------------

#: shape -> it is round, so it can roll.
SHAPES: Final[Mapping[str, bool]] = MappingProxyType(
    {"ball": True, "wheel": True, "box": False, "star": False, "heart": False, "hexagon": False, "balloon": False}
)
#: texture -> the word a caption uses.
SKINS: Final = ("striped", "checkered", "dotted", "wooden", "marbled", "shiny")


def _polygon(pixels: int, corners: int, depth: float = 1.0) -> Array:
    """Signed distance (rough, negative inside) to a regular polygon, or to a star where ``depth`` < 1."""
    points = []
    for k in range(corners * 2 if depth < 1 else corners):
        radius = depth if depth < 1 and k % 2 else 1.0
        angle = np.pi * (k / corners if depth < 1 else 2 * k / corners) - np.pi / 2
        points.append((radius * np.cos(angle), radius * np.sin(angle)))
    return _outline(points, pixels)


def _outline(points: list[tuple[float, float]], pixels: int) -> Array:
    """Signed distance in object radii to a closed outline, negative inside, exact to a fraction of a pixel."""
    scale = pixels / (2 * SKIN_EXTENT)
    fine = 4
    shifted = [((px + SKIN_EXTENT) * scale * fine, (py + SKIN_EXTENT) * scale * fine) for px, py in points]
    mask = np.zeros((pixels * fine, pixels * fine), np.uint8)
    cv2.fillPoly(mask, [np.round(np.array(shifted)).astype(np.int32)], (255,))
    inside = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    outside = cv2.distanceTransform(255 - mask, cv2.DIST_L2, 5)
    signed = cv2.resize(outside - inside, (pixels, pixels), interpolation=cv2.INTER_AREA)
    return _float32(signed / np.float32(scale * fine))


def _signed_distance(shape: str, x_nn: Array, y_nn: Array) -> Array:
    if shape in ("ball", "wheel"):
        return _float32(np.hypot(x_nn, y_nn) - 1)
    if shape == "box":
        beyond_x, beyond_y = np.abs(x_nn) - 0.74, np.abs(y_nn) - 0.74
        outside = np.hypot(np.maximum(beyond_x, 0), np.maximum(beyond_y, 0))
        return _float32(outside + np.minimum(np.maximum(beyond_x, beyond_y), 0) - 0.1)
    if shape == "star":
        return _float32(_polygon(len(x_nn), 5, depth=0.5) - 0.04)
    if shape == "hexagon":
        return _float32(_polygon(len(x_nn), 6) - 0.02)
    turn = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    if shape == "heart":
        across = np.sin(turn) ** 3
        down = -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)) / 16 - 0.08
        return _outline(list(zip(across.tolist(), down.tolist(), strict=True)), len(x_nn))
    # A balloon: an egg with the thin end down, and a knot.
    narrowing = 1 - 0.22 * np.sin(turn) * (np.sin(turn) > 0)
    egg = list(zip((0.82 * np.cos(turn) * narrowing).tolist(), (0.92 * np.sin(turn) - 0.1).tolist(), strict=True))
    knot = [(-0.13, 1.02), (0.0, 0.78), (0.13, 1.02)]
    return np.minimum(_outline(egg, len(x_nn)), _outline(knot, len(x_nn)))


def _pattern(rng: np.random.Generator, skin: str, x_nn: Array, y_nn: Array, round_object: bool) -> Array:
    """Share of the second colour, (n, n) in [0, 1]."""
    if round_object:
        # As if wrapped around a sphere: the pattern gets denser towards the rim.
        bulge = 1 + 0.35 * np.clip(x_nn**2 + y_nn**2, 0, 1)
        x_nn, y_nn = x_nn * bulge, y_nn * bulge
    tilt = float(rng.uniform(-0.5, 0.5))
    across = x_nn * np.cos(tilt) + y_nn * np.sin(tilt)
    down = y_nn * np.cos(tilt) - x_nn * np.sin(tilt)
    soft = 0.05
    if skin == "striped":
        return _step(np.sin(across * np.float32(2 * np.pi / 0.62)).astype(np.float32), 0, soft * 6)
    if skin == "checkered":
        wave = np.sin(across * np.float32(np.pi / 0.42)) * np.sin(down * np.float32(np.pi / 0.42))
        return _step(wave.astype(np.float32), 0, soft * 5)
    if skin == "dotted":
        pitch = 0.56
        row = np.round(down / pitch)
        shifted = across / pitch + 0.5 * (row % 2)
        apart = np.hypot((shifted - np.round(shifted)) * pitch, down - row * pitch)
        return _step(-apart.astype(np.float32), -0.17, soft)
    if skin == "wooden":
        bend = _noise(rng, x_nn.shape, (3, 2), octaves=3) * 0.12
        rings = np.sin((across + bend) * np.float32(2 * np.pi / 0.3)).astype(np.float32)
        return _float32((0.25 + 0.3 * rings + 0.08 * _noise(rng, x_nn.shape, (50, 8), octaves=2)).clip(0, 1))
    if skin == "marbled":
        veins = np.abs(_noise(rng, x_nn.shape, (3, 3), octaves=4, fade=0.6))
        return _step(-veins, -0.28, 0.4)
    return np.zeros(x_nn.shape, np.float32)


@dataclass(frozen=True)
class Skin:
    """The picture of an object, upright, centred, ``SKIN_EXTENT`` radii to each side.

    Attributes:
        rgba_NN4: float32, colours premultiplied by alpha, all in [0, 1].
        light_NN: float32 factor that stays upright when the object turns (the lamp does not turn with it), or None.
    """

    rgba_NN4: Array
    light_NN: Array | None


@lru_cache(maxsize=4)
def skin(shape: str, texture: str, colour: str, seed: int) -> Skin:
    """Paint one object."""
    n = SKIN_PIXELS
    axis = ((np.arange(n, dtype=np.float32) + 0.5) / n * 2 - 1) * np.float32(SKIN_EXTENT)
    x_nn, y_nn = (_float32(grid) for grid in np.meshgrid(axis, axis))
    rng = np.random.default_rng([seed, 2])
    distance = _signed_distance(shape, x_nn, y_nn)
    first, second = _rgb(*COLOURS[colour]), _rgb(*COLOURS[_ACCENTS[colour]])
    if texture == "wooden":
        second = first * np.float32(0.42)
    pattern = _pattern(rng, texture, x_nn, y_nn, shape in ("ball", "balloon"))
    picture = _mix(first, second, pattern)
    if shape == "wheel":
        # Tyre, hub and spokes: a wheel that turns must be seen to turn.
        radius = np.hypot(x_nn, y_nn)
        spokes = np.abs(np.sin(np.arctan2(y_nn, x_nn) * np.float32(2.5))) * radius
        hollow = _step(-np.abs(radius - 0.48), -0.2, 0.06) * _step(spokes.astype(np.float32), 0.16, 0.06)
        picture = _mix(picture, picture * np.float32(0.35) + np.float32(0.06), hollow)
        picture = _mix(picture, _rgb(46, 46, 52), _step(radius.astype(np.float32), 0.8, 0.06))
    rim = 0.09 if shape != "wheel" else 0.03
    picture = _float32(picture * (1 - 0.5 * _step(distance, -rim / 2, rim))[..., None])
    light: Array | None = None
    if shape in ("ball", "balloon"):
        reach = np.hypot(x_nn + 0.38, y_nn + 0.42)
        light = (1.12 - 0.34 * reach**1.5 + 0.42 * np.exp(-((reach / 0.24) ** 2))).clip(0.5, 1.5).astype(np.float32)
    else:
        picture = _float32(picture * (1.06 - 0.12 * y_nn)[..., None])
        if texture == "shiny":
            band = np.exp(-(((x_nn + y_nn * 0.6 + 0.25) / 0.16) ** 2)) * 0.45
            picture = _float32(picture + band[..., None])
    edge = np.float32(2 * SKIN_EXTENT / n)
    alpha = np.clip(0.5 - distance / (2 * edge), 0, 1).astype(np.float32)
    rgba = np.concatenate([np.clip(picture, 0, 1) * alpha[..., None], alpha[..., None]], axis=2).astype(np.float32)
    rgba.flags.writeable = False
    return Skin(rgba, light)
