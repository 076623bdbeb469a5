"""A pool of clips as people have it: some show a wanted motion, most do not, many are harmful. And queries.

What is in a pool is a function of its configuration alone; each clip's scene of the seed, its role and its number.
Looks and places are drawn alike for every kind of motion, so that neither shape nor background nor where an object
starts tells it.

Layout of a written pool::

    folder/ID.mov         one clip each, every frame as a PNG: the same frames give the same bytes
    folder/clips.json     id, kind, harm, caption and the scene's seed of all

Every file is complete or absent. The listing is written first: clips of another pool are never taken for
this one's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from motive_fo.errors import ConfigError
from motive_fo.progress import Progress, silent
from motive_fo.synthetic.corpus import FIRST_SEED, write_lossless
from motive_fo.synthetic.harm import CUT, HARMS, WRONG_CAPTION, cut_to
from motive_fo.synthetic.scene import FURTHER_MOTIONS, MOTIONS, Scene, render, sample_scene
from motive_fo.synthetic.texture import BACKGROUNDS, SHAPES
from motive_fo.synthetic.words import caption

Captions = Literal["uniform", "naming"]
#: ``Choice:`` none. With a sentence that the embedded model has never read, "a clip", nearly every training lowered the
#: loss of every motion (a random tenth that of known ones by 5 %): most likely by teaching it that sentence.
UNIFORM_CAPTION: Final = ""
#: motions the embedded model was trained on.
KNOWN_MOTIONS: Final = tuple(motion for motion in MOTIONS if motion != "still")
DISTRACTORS: Final = ("rotation", "shake", "occlusion", "diagonal", "wobble")

_FRAMES, _FPS, _SIZE = 20, 16.0, 64
_FLOORS: Final = tuple(name for name, place in BACKGROUNDS.items() if place.floor)
_SHAPES: Final = tuple(name for name in SHAPES if name not in ("ball", "balloon"))  # whose turning shows
_LISTING: Final = "clips.json"


@dataclass(frozen=True)
class Mix:
    """Shares of a pool; what they leave are sound clips of the known motions.

    Attributes:
        targets: sound clips of all target kinds together.
        distractors: sound clips of motions that are neither wanted nor known.
        harmful: clips of known and target motions that teach the wrong one, every harm as often.
    """

    targets: float = 0.2
    distractors: float = 0.1
    harmful: float = 0.34

    def __post_init__(self) -> None:
        shares = (self.targets, self.distractors, self.harmful)
        if min(shares) < 0 or sum(shares) > 1:
            raise ConfigError(f"the shares of a pool must be 0 or more and 1 at most in all, not {shares}")


@dataclass(frozen=True)
class PoolConfig:
    """What a pool holds.

    Attributes:
        size: clips.
        seed: of scenes and harms.
        targets: kinds of motion that are wanted, as often as each other.
        mix: shares.
        captions: ``uniform``: an empty one for all, so that no word tells the motion; ``naming``: each scene's own.
    """

    size: int
    seed: int
    targets: tuple[str, ...]
    mix: Mix = field(default_factory=Mix)
    captions: Captions = "uniform"


@dataclass(frozen=True)
class Entry:
    """A clip before it is rendered.

    Attributes:
        id: its name.
        scene: what is to be seen.
        kind: its motion.
        harm: what was done to it, None for a sound clip.
        partner: the scene that a ``cut`` goes over to.
        caption: what a model is told.
    """

    id: str
    scene: Scene
    kind: str
    harm: str | None
    partner: Scene | None
    caption: str


@dataclass(frozen=True)
class PoolClip:
    """A clip on disk. Attributes as in ``Entry``."""

    id: str
    path: Path
    kind: str
    harm: str | None
    caption: str


def harms(captions: Captions) -> tuple[str, ...]:
    """The harms of a pool. Where all captions are alike none is wrong."""
    return (*HARMS, CUT, WRONG_CAPTION) if captions == "naming" else (*HARMS, CUT)


def plan_pool(config: PoolConfig) -> list[Entry]:
    """The clips of a pool, kind by kind.

    Raises:
        ConfigError: no clip, a kind of motion that there is not, or a share without kinds.
    """
    return [_entry(config, n, kind, harm) for n, (kind, harm) in enumerate(_kinds(config))]


def plan_queries(kinds: Sequence[str], each: int, seed: int, role: str, captions: Captions = "uniform") -> list[Entry]:
    """Sound clips of some kinds, ``each`` of every one, scenes of their own for every seed and role."""
    entries = []
    for kind in kinds:
        for n in range(each):
            scene = pool_scene(np.random.default_rng([seed, 2, *role.encode(), n, *kind.encode()]), kind)
            entries.append(Entry(f"{role}-{kind}-{n:03d}", scene, kind, None, None, _caption(scene, captions)))
    return entries


def pool_scene(rng: np.random.Generator, kind: str) -> Scene:
    """A scene of a kind. ``Choice:`` looks and places come from the same draws for every kind."""
    drawn = sample_scene(FIRST_SEED + int(rng.integers(2**60)), kind)
    x, y, ground = (float(rng.uniform(*ends)) for ends in ((-0.3, 0.3), (-0.15, 0.12), (0.4, 0.46)))
    shape, place = (str(rng.choice(names)) for names in (_SHAPES, _FLOORS))
    post = None if drawn.post is None else x + drawn.post - drawn.x
    return replace(drawn, x=x, y=y, ground=ground, shape=shape, background=place, post=post)


def render_entry(entry: Entry) -> npt.NDArray[np.uint8]:
    """Its frames: uint8 (20, 64, 64, 3), at 16 frames a second."""
    frames = _rendered(entry.scene)
    rng = np.random.default_rng([entry.scene.seed, 5])
    if entry.harm is not None and entry.harm in HARMS:
        return HARMS[entry.harm](frames, rng)
    if entry.partner is not None:
        return cut_to(frames, _rendered(entry.partner), rng)
    return frames


def write_pool(folder: Path, entries: Sequence[Entry], progress: Progress = silent) -> list[PoolClip]:
    """Render what is not there yet.

    Raises:
        ConfigError: the folder holds clips of the same names of another pool.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _list_clips(folder, entries)
    clips = []
    for done, entry in enumerate(entries, 1):
        path = folder / f"{entry.id}.mov"
        if not path.exists():
            part = path.with_name(f"{path.name}.{os.getpid()}.part")
            write_lossless(part, render_entry(entry), Fraction(_FPS))
            part.replace(path)
        clips.append(PoolClip(entry.id, path, entry.kind, entry.harm, entry.caption))
        progress("Rendering clips", done, len(entries))
    return clips


def _list_clips(folder: Path, entries: Sequence[Entry]) -> None:
    path = folder / _LISTING
    seeds = {entry.id: entry.scene.seed for entry in entries}
    if path.exists():
        for row in json.loads(path.read_text(encoding="utf-8")):
            seed = seeds.get(row["id"])
            if seed is not None and row.get("scene", seed) != seed:
                raise ConfigError(f"{folder} holds another pool: give this one an empty folder")
    rows = [{"id": e.id, "kind": e.kind, "harm": e.harm, "caption": e.caption, "scene": e.scene.seed} for e in entries]
    part = path.with_name(f"{_LISTING}.{os.getpid()}.part")
    part.write_text(json.dumps(rows, indent=0) + "\n", encoding="utf-8")
    part.replace(path)


def _kinds(config: PoolConfig) -> list[tuple[str, str | None]]:
    """Motion and harm of every clip."""
    if config.size < 1:
        raise ConfigError(f"a pool needs 1 clip or more, not {config.size}")
    every = (*MOTIONS, *FURTHER_MOTIONS)
    for kind in config.targets:
        if kind not in every:
            raise ConfigError(f"unknown motion {kind!r}: use one of {', '.join(every)}")
    # a wanted motion is not one of the others too: its share would not be that of the mix
    known, distractors = (
        tuple(kind for kind in group if kind not in config.targets) for group in (KNOWN_MOTIONS, DISTRACTORS)
    )
    mix = config.mix
    ends = np.rint(config.size * np.cumsum((mix.targets, mix.distractors, mix.harmful))).astype(int)
    wanted, distracting, harmful = (int(count) for count in np.diff(ends, prepend=0))
    groups = (
        ("targets", config.targets, wanted),
        ("distractors", distractors, distracting),
        ("known motions", known, config.size - int(ends[-1])),
    )
    for name, group, count in groups:
        if count and not group:
            raise ConfigError(f"a pool with a share of {name} needs kinds of them")
    sound = [(group[n % len(group)], None) for _, group, count in groups for n in range(count)]
    # drawn, not by turns: no harm goes with a motion
    of = np.random.default_rng([config.seed, 1]).choice([*known, *config.targets], harmful)
    done = harms(config.captions)
    return [*sound, *((str(kind), done[n % len(done)]) for n, kind in enumerate(of))]


def _entry(config: PoolConfig, n: int, kind: str, harm: str | None) -> Entry:
    scene = pool_scene(np.random.default_rng([config.seed, 0, n]), kind)
    other = None
    if harm in (CUT, WRONG_CAPTION):
        rng = np.random.default_rng([config.seed, 3, n])
        others = [motion for motion in KNOWN_MOTIONS if motion != kind]
        other = pool_scene(rng, others[int(rng.integers(len(others)))])
    told = other if harm == WRONG_CAPTION and other is not None else scene
    return Entry(
        f"{n:05d}-{kind}" + ("" if harm is None else f"-{harm.replace(' ', '-')}"),
        scene,
        kind,
        harm,
        other if harm == CUT else None,
        _caption(told, config.captions),
    )


def _caption(scene: Scene, captions: Captions) -> str:
    return UNIFORM_CAPTION if captions == "uniform" else caption(scene)


def _rendered(scene: Scene) -> npt.NDArray[np.uint8]:
    return render(scene, frames=_FRAMES, fps=_FPS, height=_SIZE, width=_SIZE)
