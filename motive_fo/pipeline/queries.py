"""Queries of one's own: prompts of the ten motions the paper asks for, and clips a model makes of them.

A folder of them is a tree of text files, ``spin/1.txt``; the clip of a prompt lies beside it, ``spin/1.mp4``, whatever
made it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from motive_fo.errors import ConfigError, InputError
from motive_fo.models.base import VideoGenerator
from motive_fo.models.registry import load_model
from motive_fo.progress import Progress, silent
from motive_fo.synthetic.corpus import write_video

#: the motions of the paper's 50 queries, five prompts each; the prompts are ours: one plain object, one motion, a still
#: camera and a simple place, so that the motion is what the clips of a group have in common.
PROMPTS: Final[dict[str, tuple[str, ...]]] = {
    "compress": (
        "A foam cube is slowly pressed flat by a steel plate, side view, still camera",
        "A hand squeezes a yellow sponge until water runs out, plain background, still camera",
        "A spring is pushed together between two wooden blocks on a table, still camera",
        "An empty drink can is crushed from above by a press, grey background, still camera",
        "A ball of soft dough is pressed down with a flat palm on a floured table, still camera",
    ),
    "bounce": (
        "An orange basketball bounces on a wooden floor, side view, still camera",
        "A small rubber ball bounces down a stone staircase, still camera",
        "A tennis ball bounces several times on a clay court and comes to rest, still camera",
        "A child jumps up and down on a round trampoline in a garden, still camera",
        "A glass marble bounces on a metal plate, close-up, still camera",
    ),
    "roll": (
        "A red ball rolls from left to right across a wooden table, still camera",
        "A car tyre rolls down a grassy hill, side view, still camera",
        "A log rolls slowly over flat sand, side view, still camera",
        "A coin rolls on its edge along a marble floor, close-up, still camera",
        "A bowling ball rolls down the lane towards the pins, still camera",
    ),
    "explode": (
        "A water balloon bursts in mid air, dark background, slow motion, still camera",
        "A firework opens into a sphere of sparks in the night sky, still camera",
        "A watermelon bursts into pieces on a table, slow motion, still camera",
        "A heap of coloured powder is blown apart from its middle, black background, still camera",
        "A soap bubble pops and leaves a spray of droplets, close-up, still camera",
    ),
    "float": (
        "A helium balloon floats slowly up past a brick wall, still camera",
        "A paper boat floats on a calm pond, still camera",
        "A feather floats gently in the air of a sunny room, still camera",
        "A hot-air balloon floats over a valley at dawn, still camera",
        "A jellyfish floats upwards in dark blue water, still camera",
    ),
    "free fall": (
        "An apple falls from a branch to the grass, side view, still camera",
        "A stone is dropped from a bridge into a river, still camera",
        "A book falls from a shelf to the floor, still camera",
        "A raindrop falls from a leaf, close-up, slow motion, still camera",
        "A metal ball falls past a ruler on a white wall, still camera",
    ),
    "slide": (
        "A wooden block slides down a smooth ramp, side view, still camera",
        "A hockey puck slides across the ice, still camera",
        "A mug is pushed and slides along a bar counter, still camera",
        "A child slides down a red playground slide, side view, still camera",
        "A curling stone slides towards the target, still camera",
    ),
    "spin": (
        "A spinning top turns fast on a wooden table, still camera",
        "A figure skater spins on one spot on the ice, still camera",
        "A ceiling fan turns at constant speed, seen from below, still camera",
        "A coin spins upright on a table, close-up, still camera",
        "A windmill turns in the wind in front of a blue sky, still camera",
    ),
    "stretch": (
        "Two hands pull a rubber band apart, white background, still camera",
        "A piece of melted cheese stretches as a slice of pizza is lifted, still camera",
        "A cat stretches its front legs on a carpet, still camera",
        "A lump of slime is pulled into a long thread, close-up, still camera",
        "A metal spring is pulled long by a hanging weight, still camera",
    ),
    "swing": (
        "A pendulum swings from side to side in front of a wall, still camera",
        "A child swings on a playground swing, side view, still camera",
        "A hanging lamp swings slowly on its cord, still camera",
        "A monkey swings from branch to branch in a forest, still camera",
        "A wrecking ball on a chain swings to and fro, still camera",
    ),
}


def write_template(folder: str | Path) -> list[Path]:
    """Write the prompts into a folder: ``MOTION/N.txt``. Prompts that are there are kept as they are.

    Returns:
        the files, all of them. Raises ``InputError`` where the folder cannot be written.
    """
    root = Path(folder).expanduser()
    files = []
    try:
        for motion, prompts in PROMPTS.items():
            place = root / motion.replace(" ", "-")
            place.mkdir(parents=True, exist_ok=True)
            for number, prompt in enumerate(prompts, 1):
                path = place / f"{number}.txt"
                if not path.exists():
                    path.write_text(prompt + "\n", encoding="utf-8")
                files.append(path)
    except OSError as error:
        raise InputError(f"cannot write the prompts to {root}: {error.strerror}; choose another folder") from None
    return files


def generate_queries(
    folder: str | Path, model: str = "tiny", *, device: str = "auto", seed: int = 0, progress: Progress = silent
) -> list[Path]:
    """Let a model make a clip of every prompt in a folder that has none yet.

    Args:
        folder: a tree of ``.txt`` files, one prompt each (``write_template``).
        model: name of the model; queries made by the model that is attributed show what it makes of the motion now.
        device: auto, cpu, cuda or cuda:N.
        seed: of the first prompt's noise; each next prompt, in order of path, takes the next one.

    Returns:
        the clips made, beside their prompts. Complete or absent: an interrupted call goes on with the rest.

    Raises:
        InputError: there are no prompts, or the folder cannot be written.
        ConfigError: there is no such model, or it does not generate.
    """
    root = Path(folder).expanduser()
    prompts = sorted(root.rglob("*.txt")) if root.is_dir() else []
    if not prompts:
        raise InputError(f"{root} holds no prompts (.txt): motive queries template {root}")
    loaded = load_model(model, device)
    if not isinstance(loaded, VideoGenerator):
        raise ConfigError(f"model {model!r} cannot generate clips: make them with another tool, beside their prompts")
    made = []
    for number, prompt in enumerate(prompts):
        progress("generate", number, len(prompts))
        target = prompt.with_suffix(".mp4")
        if target.exists():
            continue
        try:
            text = prompt.read_text(encoding="utf-8-sig").strip()
            part = target.with_name(f".{target.stem}.part.mp4")
            write_video(part, loaded.sample(text, seed=seed + number), loaded.card.default_clip.fps)
            part.replace(target)
        except UnicodeDecodeError:
            raise InputError(f"{prompt} is not UTF-8 text") from None
        except OSError as error:
            raise InputError(f"cannot write {target}: {error.strerror}") from None
        made.append(target)
    progress("generate", len(prompts), len(prompts))
    return made
