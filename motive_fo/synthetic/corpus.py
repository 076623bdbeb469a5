"""A small synthetic corpus on disk: training clips, query clips, captions, and clips that fail as in real corpora.

Layout::

    folder/train/0007_bounce.mp4     one scene each, every motion about equally often
    folder/train/metadata.jsonl      one {"video": ..., "prompt": ...} per clip, video relative to this file
    folder/queries/0002_roll.mp4     one object motion each, scenes of their own
    folder/queries/metadata.jsonl

The same arguments always give the same bytes (with one version of the encoder).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Final

import av
import numpy as np
import numpy.typing as npt

from motive_fo.errors import ConfigError
from motive_fo.progress import Progress, silent
from motive_fo.synthetic.scene import MOTIONS, OBJECT_MOTIONS, Scene, render, sample_scene
from motive_fo.synthetic.words import caption

#: no scene of a corpus has a seed below this one; the embedded model was trained on smaller ones.
FIRST_SEED: Final = 2**40
#: frames of a ``too_short`` clip.
_SHORT: Final = 5


@dataclass(frozen=True)
class Corpus:
    """What was written.

    Attributes:
        train_metadata, query_metadata: the two metadata.jsonl files.
        train: every training clip, the static and damaged ones too, in the order of the metadata.
        queries: every query clip.
        static: those training clips in which nothing moves.
        damaged: damaged training clip -> a key of ``DAMAGES``.
    """

    train_metadata: Path
    query_metadata: Path
    train: tuple[Path, ...]
    queries: tuple[Path, ...]
    static: tuple[Path, ...]
    damaged: Mapping[Path, str]


def _truncated(video: bytes) -> bytes:
    """As after a broken download: the index is there, most of the pictures are not."""
    return video[: len(video) // 4]


def _empty(video: bytes) -> bytes:
    return b""


def _text(video: bytes) -> bytes:
    return b"<html><body>404: this clip has moved.</body></html>\n" * 20


def _bad_header(video: bytes) -> bytes:
    return bytes(4096) + video[4096:]


#: kind of damage -> what it does to the bytes of a good file. A ``too_short`` clip is a good file of a few frames.
DAMAGES: Final[Mapping[str, Callable[[bytes], bytes]]] = MappingProxyType(
    {
        "truncated": _truncated,
        "empty": _empty,
        "text": _text,
        "bad_header": _bad_header,
        "too_short": bytes,
    }
)


def write_video(path: Path, frames_THW3: npt.NDArray[np.uint8], fps: float) -> None:
    """Write uint8 RGB frames as H.264 (yuv420p, index first, so that a browser can play it).

    Height and width must be even. One encoder thread: the bytes do not depend on the machine's core count.
    """
    height, width = frames_THW3.shape[1:3]
    if height % 2 or width % 2:
        raise ConfigError(f"H.264 in yuv420p needs an even height and width, not {height}x{width}")
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream(
            "libx264",
            rate=Fraction(fps).limit_denominator(1001),
            options={"crf": "18", "preset": "veryfast", "threads": "1"},
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame_HW3 in frames_THW3:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HW3, format="rgb24")))
        container.mux(stream.encode(None))


def write_lossless(path: Path, frames_THW3: npt.NDArray[np.uint8], fps: Fraction) -> None:
    """Every frame as a PNG in a MOV: the same frames give the same bytes.

    H.264 does not at this size: x264's macroblock tree gave up to three different files of one clip.
    """
    with av.open(str(path), "w", format="mov", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("png", rate=fps)
        stream.height, stream.width, stream.pix_fmt = *frames_THW3.shape[1:3], "rgb24"
        for frame_HW3 in frames_THW3:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HW3, format="rgb24")))
        container.mux(stream.encode(None))


def _scene(seed: int, role: int, index: int, motion: str) -> Scene:
    state = np.random.SeedSequence([seed, role, index]).generate_state(1, np.uint64)[0]
    return sample_scene(FIRST_SEED + int(state) % 2**60, motion)


@dataclass(frozen=True)
class _Plan:
    path: Path
    scene: Scene
    damage: str | None = None


def write_corpus(
    folder: Path,
    *,
    train: int,
    queries: int,
    seed: int = 0,
    size: tuple[int, int] = (256, 256),
    seconds: float = 2.0,
    fps: float = 24.0,
    damaged: int = 0,
    static: int = 0,
    progress: Progress = silent,
) -> Corpus:
    """Render, encode and caption a corpus.

    Args:
        folder: where it goes; made if need be, files of the same name are replaced.
        train: training clips that move, each motion about equally often.
        queries: query clips, object motions in turn.
        seed: another seed, other scenes.
        size: height and width in pixels, even.
        seconds: length of every clip.
        fps: frame rate of the files.
        damaged: damaged files beside the ``train`` ones, the kinds of ``DAMAGES`` in turn.
        static: clips in which nothing moves, beside the ``train`` ones.
        progress: called after every clip.
    """
    if min(train, queries, damaged, static) < 0:
        raise ConfigError("the number of clips must be 0 or more")
    frames = round(seconds * fps)
    if frames <= _SHORT:
        raise ConfigError(f"{seconds} s at {fps} fps are {frames} frames: use {_SHORT + 1} or more")
    moving = tuple(motion for motion in MOTIONS if motion != "still")
    plans: dict[str, list[_Plan]] = {"train": [], "queries": []}
    for index in range(train + static + damaged):
        motion, damage = moving[index % len(moving)], None
        if train <= index < train + static:
            motion = "still"
        elif index >= train + static:
            damage = tuple(DAMAGES)[(index - train - static) % len(DAMAGES)]
        path = folder / "train" / f"{index:04d}_{damage or motion}.mp4"
        plans["train"].append(_Plan(path, _scene(seed, 0, index, motion), damage))
    for index in range(queries):
        motion = OBJECT_MOTIONS[index % len(OBJECT_MOTIONS)]
        plans["queries"].append(_Plan(folder / "queries" / f"{index:04d}_{motion}.mp4", _scene(seed, 1, index, motion)))

    total, done = sum(map(len, plans.values())), 0
    progress("Rendering clips", 0, total)
    for role, role_plans in plans.items():
        (folder / role).mkdir(parents=True, exist_ok=True)
        for plan in role_plans:
            count = _SHORT if plan.damage == "too_short" else frames
            clip = render(plan.scene, frames=count, fps=fps, height=size[0], width=size[1])
            write_video(plan.path, clip, fps)
            if plan.damage is not None:
                plan.path.write_bytes(DAMAGES[plan.damage](plan.path.read_bytes()))
            done += 1
            progress("Rendering clips", done, total)
        lines = [json.dumps({"video": plan.path.name, "prompt": caption(plan.scene)}) for plan in role_plans]
        (folder / role / "metadata.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return Corpus(
        train_metadata=folder / "train" / "metadata.jsonl",
        query_metadata=folder / "queries" / "metadata.jsonl",
        train=tuple(plan.path for plan in plans["train"]),
        queries=tuple(plan.path for plan in plans["queries"]),
        static=tuple(plan.path for plan in plans["train"] if plan.scene.motion == "still"),
        damaged={plan.path: plan.damage for plan in plans["train"] if plan.damage is not None},
    )
