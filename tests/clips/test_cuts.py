from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from motive_fo.clips.cuts import find_cuts
from motive_fo.synthetic.scene import MOTIONS, render, sample_scene

Frames = npt.NDArray[np.uint8]


@cache
def shot(seed: int, motion: str, frames: int = 17) -> Frames:
    return render(sample_scene(seed, motion), frames=frames, fps=16, height=64, width=64)


def joined(count: int) -> Iterator[tuple[Frames, int]]:
    """Clips of two shots, and where the second begins."""
    draw = np.random.default_rng(7)
    for number in range(count):
        first, second = MOTIONS[number % len(MOTIONS)], MOTIONS[(number * 5 + 3) % len(MOTIONS)]
        at = int(draw.integers(3, 15))
        frames = (shot(10_000 + number, first)[:at], shot(20_000 + number, second)[: 17 - at])
        yield np.concatenate(frames), at


@pytest.mark.parametrize(("cuts", "without"), [(25, 13), pytest.param(100, 52, marks=pytest.mark.slow)])
def test_precision_and_recall(cuts: int, without: int) -> None:
    """Clips with one cut and clips without, of every motion, half of those at twice the speed: none seen in tuning."""
    right = false = missed = 0
    for frames, at in joined(cuts):
        found = find_cuts(frames)
        right += at in found
        missed += at not in found
        false += len(set(found) - {at})
    for number in range(without):
        motion = MOTIONS[number % len(MOTIONS)]
        false += len(find_cuts(shot(30_000 + number, motion, 34)[:: 1 + number % 2][:17]))
    assert right / (right + false) >= 0.99
    assert right / (right + missed) >= 0.95


def test_several_cuts() -> None:
    frames = np.concatenate([shot(seed, "pan")[:8] for seed in (40_000, 40_003, 40_007)])
    assert find_cuts(frames) == [8, 16]
    assert find_cuts(frames) == find_cuts(frames.copy())


@pytest.mark.parametrize("motion", ["pan", "bounce", "zoom", "track", "spin"])
def test_flashes_and_changing_light_are_no_cuts(motion: str) -> None:
    frames = shot(50_000, motion)
    for length in (1, 2):
        flash = frames.copy()
        flash[6 : 6 + length] = 255 - (255 - flash[6 : 6 + length]) // 8
        assert find_cuts(flash) == []
    light = np.linspace(0.6, 1.3, len(frames))[:, None, None, None]
    assert find_cuts(np.clip(frames * light, 0, 255).astype(np.uint8)) == []


def test_fast_pan_is_no_cut() -> None:
    wide = render(sample_scene(60_000, "still"), frames=1, fps=16, height=96, width=288)[0]
    pan = np.stack([wide[:, 14 * k : 14 * k + 96] for k in range(14)])  # a seventh of the picture per frame
    assert find_cuts(pan) == []


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_clips(frames: int) -> None:
    assert find_cuts(np.zeros((frames, 40, 30, 3), np.uint8)) == []


def test_noise_on_a_flat_picture_is_no_cut() -> None:
    noise = np.random.default_rng(0).integers(120, 126, (10, 48, 64, 3), np.uint8)
    assert find_cuts(noise) == []
