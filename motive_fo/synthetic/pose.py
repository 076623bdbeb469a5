"""Where the object of a scene is at an instant: an affine map, so that the displacement of its every pixel is exact."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from motive_fo.synthetic.scene import Scene

#: y of the point a pendulum hangs from.
PIVOT_Y: Final = -0.46

Matrix = npt.NDArray[np.float64]


def pingpong(value: float, limit: float) -> float:
    """``value`` reflected into [-limit, limit]: whatever moves turns at the edge instead of leaving the frame."""
    phase = (value + limit) % (4 * limit)
    return (phase if phase <= 2 * limit else 4 * limit - phase) - limit


def _bounced(drop: float, fall_time: float, time: float, keep: float = 0.86) -> float:
    """Height above the ground of a ball let go ``drop`` above it; each rebound keeps ``keep`` of the speed."""
    gravity = 2 * drop / fall_time**2
    if time <= fall_time:
        return drop - gravity * time**2 / 2
    time -= fall_time
    upward = keep * gravity * fall_time
    while upward > 0.02 * gravity * fall_time:
        flight = 2 * upward / gravity
        if time <= flight:
            return upward * time - gravity * time**2 / 2
        time -= flight
        upward *= keep
    return 0.0


@dataclass(frozen=True)
class Pose:
    """Where the object is: centre, clockwise angle, its scale along its own axes, and how far it leans: how many radii
    its top is beside its foot, to the right, for each radius of height."""

    x: float
    y: float
    angle: float = 0.0
    scale_x: float = 1.0
    scale_y: float = 1.0
    lean: float = 0.0

    def matrix(self, size: float, *, upright: bool = False) -> Matrix:
        """3x3 map from object radii to world units."""
        angle = 0.0 if upright else self.angle
        cosine, sine = math.cos(angle), math.sin(angle)
        own = np.array(
            [
                [cosine * size * self.scale_x, -sine * size * self.scale_y, self.x],
                [sine * size * self.scale_x, cosine * size * self.scale_y, self.y],
                [0, 0, 1],
            ]
        )
        if not self.lean:
            return own
        leant: Matrix = own @ np.array([[1, -self.lean, self.lean], [0, 1, 0], [0, 0, 1]])  # its foot, at (0, 1), stays
        return leant


def pose_at(scene: Scene, time: float) -> Pose:
    """Where the object is, ``time`` seconds after the clip began."""
    edge = 0.5 - scene.size
    pace = 0.22 + 0.5 * scene.speed
    if scene.action in ("slide", "roll"):
        x = pingpong(scene.x + scene.direction * pace * time, edge)
        return Pose(x, scene.y, (x - scene.x) / scene.size if scene.action == "roll" else 0.0)
    if scene.action == "fall":
        drop = scene.ground - scene.size - scene.y
        duration = 1.35 - 0.6 * scene.speed
        return Pose(scene.x, scene.y + drop * min(1.0, time / duration) ** 2)
    if scene.action == "bounce":
        drop = scene.ground - scene.size - scene.y
        x = pingpong(scene.x + scene.direction * 0.6 * pace * time, edge)
        return Pose(x, scene.ground - scene.size - _bounced(drop, 0.46 - 0.2 * scene.speed, time))
    if scene.action == "spin":
        return Pose(scene.x, scene.y, scene.direction * (1.4 + 4.2 * scene.speed) * time)
    if scene.action == "swing":
        length = 0.56 - scene.size
        angle = scene.direction * 0.75 * math.cos(2 * math.pi * time / (1.7 - 0.7 * scene.speed))
        return Pose(scene.x - length * math.sin(angle), PIVOT_Y + length * math.cos(angle), angle)
    if scene.action == "float":
        sway = math.sin(2 * math.pi * time / 1.7)
        y = pingpong(scene.y - (0.14 + 0.22 * scene.speed) * time, edge)
        return Pose(scene.x + scene.direction * 0.06 * sway, y, scene.direction * 0.12 * sway)
    if scene.action in _FURTHER:
        return _FURTHER[scene.action](scene, time)
    done = 1 - math.exp(-time / 0.7)
    if scene.action == "stretch":
        longer = 1 + (0.5 + 0.9 * scene.speed) * done
        thinner = longer**-0.4
        factors = (thinner, longer) if scene.direction > 0 else (longer, thinner)
        return Pose(scene.x, scene.y, 0.0, *factors)
    if scene.action == "compress":
        flatter = 1 - (0.4 + 0.3 * scene.speed) * done
        return Pose(scene.x, scene.ground - scene.size * flatter, 0.0, flatter**-0.5, flatter)
    return Pose(scene.x, scene.y)


def _orbit(scene: Scene, time: float) -> Pose:
    x, y = _circle(scene, 0.2, scene.direction * (2.6 + 3.4 * scene.speed) * time)
    return Pose(x, y)


def _spiral(scene: Scene, time: float) -> Pose:
    """Round and round towards a centre."""
    radius = 0.27 * (1 - 0.85 * min(1.0, time / 1.3))
    x, y = _circle(scene, 0.27, scene.direction * (4.2 + 3.6 * scene.speed) * time, radius)
    return Pose(x, y)


def _eight(scene: Scene, time: float) -> Pose:
    """Begins where its x is on a figure of eight that lies about the middle of the frame."""
    first = math.asin(max(-1.0, min(1.0, scene.x / 0.35)))
    angle = first + scene.direction * (2.6 + 2.6 * scene.speed) * time
    x, y = 0.26 * (math.sin(angle) - math.sin(first)), 0.15 * (math.sin(2 * angle) - math.sin(2 * first))
    return Pose(scene.x + x, scene.y + y)


def _pulse(scene: Scene, time: float) -> Pose:
    scale = math.exp(0.42 * math.sin(2 * math.pi * (0.8 + 0.8 * scene.speed) * time) * scene.direction)
    return Pose(scene.x, scene.y, 0.0, scale, scale)


def _loom(scene: Scene, time: float) -> Pose:
    """Small at first, grows as what comes nearer at an even pace does, drifting to its side."""
    scale = min(2.4, 0.6 / (1 - min(0.75, (0.35 + 0.25 * scene.speed) * time)))
    return Pose(0.7 * scene.x + scene.direction * 0.1 * time, 0.7 * scene.y, 0.0, scale, scale)


def _zigzag(scene: Scene, time: float) -> Pose:
    x = pingpong(scene.x + scene.direction * (0.22 + 0.35 * scene.speed) * time, 0.5 - scene.size)
    return Pose(x, scene.y + pingpong((0.7 + 0.6 * scene.speed) * time + 0.07, 0.14) - 0.07)


def _throw(scene: Scene, time: float) -> Pose:
    """Up and over to the ground, where it stays, turning while it flies."""
    drop, duration = scene.ground - scene.size - scene.y, 1.15 - 0.45 * scene.speed
    flight = min(1.0, time / duration)
    # gravity that brings it down in time after a throw that rises by 0.22 at least
    y = scene.y - 4 * 0.26 * flight * (1 - flight) + drop * flight**2
    x = pingpong(scene.x + scene.direction * 0.5 * flight, 0.5 - scene.size)
    return Pose(x, y, scene.direction * 2.4 * flight)


def _topple(scene: Scene, time: float) -> Pose:
    """About a lower corner until it lies on its side, the faster the further."""
    share = min(1.0, time / (1.2 - 0.5 * scene.speed))
    angle = scene.direction * (0.04 + (math.pi / 2 - 0.04) * share**2)
    corner_x, corner_y = scene.x + scene.direction * 0.8 * scene.size, scene.y + scene.size
    reach_x, reach_y = -scene.direction * 0.8 * scene.size, -scene.size
    cosine, sine = math.cos(angle), math.sin(angle)
    return Pose(corner_x + cosine * reach_x - sine * reach_y, corner_y + sine * reach_x + cosine * reach_y, angle)


def _lean(scene: Scene, time: float) -> Pose:
    swing = math.sin(2 * math.pi * (0.7 + 0.6 * scene.speed) * time)
    return Pose(scene.x, scene.y, lean=scene.direction * 0.8 * swing)


def _wobble(scene: Scene, time: float) -> Pose:
    swing = math.sin(2 * math.pi * (1.0 + 0.8 * scene.speed) * time)
    return Pose(scene.x, scene.y, scene.direction * 0.45 * swing)


_FURTHER: Final[Mapping[str, Callable[[Scene, float], Pose]]] = MappingProxyType(
    {
        "orbit": _orbit,
        "pulse": _pulse,
        "zigzag": _zigzag,
        "throw": _throw,
        "spiral": _spiral,
        "topple": _topple,
        "loom": _loom,
        "lean": _lean,
        "eight": _eight,
        "wobble": _wobble,
    }
)


def _circle(scene: Scene, radius: float, angle: float, now: float | None = None) -> tuple[float, float]:
    """A place about the centre that lies one radius from the object's first place, towards the middle of the frame:
    one radius from it too, or as far as it is ``now``."""
    first = math.atan2(scene.y, scene.x)
    x, y = scene.x - radius * math.cos(first), scene.y - radius * math.sin(first)
    away = radius if now is None else now
    return x + away * math.cos(first + angle), y + away * math.sin(first + angle)
