"""Small sets of rendered clips, as models would have made them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from motive_fo.synthetic.corpus import write_video
from motive_fo.synthetic.scene import render, sample_scene

PROMPTS = ["a ball rolls", "=a box slides </script><b>", 'a "star" spins']


def _made(folder, seeds, fps=16):
    """A folder as ``motive generate`` writes it: three prompts, one seed, with scenes of these numbers."""
    (folder / "videos").mkdir(parents=True)
    clips = []
    for number, prompt in zip(seeds, PROMPTS, strict=True):
        file = f"videos/clip-{len(clips)}_s0.mp4"
        frames = render(sample_scene(number, "slide"), frames=9, fps=fps, height=64, width=64)
        write_video(folder / file, frames, fps)
        clips.append({"file": file, "prompt": prompt, "seed": 0})
    (folder / "generated.json").write_text(json.dumps({"format": "motive-fo generated", "clips": clips}))
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Two folders of three generated clips each, and one of which the second clip is damaged."""
    root = tmp_path_factory.mktemp("made")
    one, other, damaged = (
        _made(root / name, seeds) for name, seeds in zip("abc", ((1, 2, 3), (4, 5, 6), (7, 8, 9)), strict=True)
    )
    (damaged / "videos" / "clip-1_s0.mp4").write_bytes(b"no video at all")
    return one, other, damaged


@pytest.fixture(scope="session")
def moving():
    """17 frames of 64x64 at 16 fps in which something slides."""
    return np.ascontiguousarray(render(sample_scene(11, "slide"), frames=17, fps=16, height=64, width=64))
