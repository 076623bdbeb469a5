"""Does planted damage in real footage land among the worst? python -m benchmarks.real_damage FOLDER

Real videos are cut into windows of twenty frames. Some windows of every video are queries; of the others a third is
damaged, every harm as often: frames shuffled, reversed, held (jerky), flickering, a cut into another video. Frozen
clips are left out: they have no motion and no score. The embedded model, which has seen rendered scenes alone, scores
all of them, and as many clips as were damaged are taken from the end of the ranking.

Shapes: W windows, T frames, H W pixels, Q queries, N clips.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.attribution.choices import PAPER, SCORES, THREE, THREE_T
from benchmarks.attribution.methods import Sketched
from benchmarks.attribution.pool import motion_settings
from benchmarks.lookalike import over_seeds
from benchmarks.record import goal, write
from motive_fo.clips.container import FrameReader, open_video
from motive_fo.clips.decode import fit
from motive_fo.config import AttributionConfig
from motive_fo.errors import MotiveError
from motive_fo.influence.selection import rank_clips
from motive_fo.models.tiny.model import load
from motive_fo.pipeline.gradients import GradientSettings, compute_sketch_table
from motive_fo.pipeline.motion import TABLE
from motive_fo.pipeline.record import ClipRecord
from motive_fo.quality.controls import control_scores
from motive_fo.store.run_store import RunStore
from motive_fo.store.sketches import samples_of
from motive_fo.synthetic.corpus import write_lossless
from motive_fo.synthetic.harm import CUT, HARMS, cut_to

Frames = npt.NDArray[np.uint8]

_FRAMES, _SIZE, _FPS = 20, 96, Fraction(16)
_QUERY_EVERY: Final = 4
_DAMAGED: Final = 1 / 3
_SEEDS: Final = 8
PLANTED: Final = (*(name for name in HARMS if name != "frozen"), CUT)
CONTROLS: Final = ("HOOF", "mask only", "flow magnitude")
RANDOM: Final = "at random"


@dataclass(frozen=True)
class Window:
    """Some frames of a video in a row, (T, H, W, 3)."""

    video: str
    number: int
    frames: Frames

    @property
    def id(self) -> str:
        return f"{self.video}-{self.number:02d}"


@dataclass(frozen=True)
class Planted:
    """One way to damage: the harm of every damaged window, by its place among those that are scored."""

    seed: int
    harm: Mapping[int, str]

    def name(self, windows: Sequence[Window], n: int) -> str:
        return windows[n].id if n not in self.harm else f"{windows[n].id}-{self.harm[n]}-{self.seed}"


def windows_of(folder: Path) -> list[Window]:
    """All whole windows of the videos of a folder that can be read, in the order of their names."""
    found = []
    for path in sorted(folder.iterdir()):
        try:
            for number, frames in enumerate(_cut(path)):
                found.append(Window(path.stem, number, frames))
        except MotiveError:
            continue  # a licence, or a video that cannot be opened
    return found


def _cut(path: Path) -> Iterator[Frames]:
    held: list[Frames] = []
    with open_video(path, "decode") as (container, stream):
        for frame in FrameReader(container, stream).frames():
            held.append(fit(frame.to_ndarray(format="rgb24"), _SIZE, _SIZE, "center"))
            if len(held) == _FRAMES:
                yield np.stack(held)
                held = []


def plant(windows: Sequence[Window], seed: int) -> Planted:
    """A third of the windows, every harm as often."""
    rng = np.random.default_rng([seed, 60])
    places = rng.permutation(len(windows))[: round(_DAMAGED * len(windows))]
    return Planted(seed, {int(n): PLANTED[k % len(PLANTED)] for k, n in enumerate(places)})


def _damaged(windows: Sequence[Window], n: int, harm: str, seed: int) -> Frames:
    rng = np.random.default_rng([seed, 61, n])
    if harm != CUT:
        return HARMS[harm](windows[n].frames, rng)
    others = [each for each in windows if each.video != windows[n].video]
    return cut_to(windows[n].frames, others[int(rng.integers(len(others)))].frames, rng)


def run(folder: Path, scratch: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """Table, goals and more."""
    every = windows_of(folder)
    queries = [each for each in every if each.number % _QUERY_EVERY == 1]
    if len({each.video for each in queries}) < 2:
        raise SystemExit(f"{folder} holds too little: two videos or more of {2 * _FRAMES} frames are needed")
    windows = [each for each in every if each.number % _QUERY_EVERY != 1]
    plants = [plant(windows, seed) for seed in range(_SEEDS)]
    path = _measured(windows, queries, plants, scratch)
    shares: dict[str, list[float]] = {}
    by_harm: dict[str, dict[str, list[float]]] = {}
    for planted in plants:
        for way, scores_QN in _scores(path, windows, queries, planted).items():
            worst = set(_worst(scores_QN, len(planted.harm)))
            shares.setdefault(way, []).append(len(worst & set(planted.harm)) / len(planted.harm))
            for harm in PLANTED:
                of = [n for n, each in planted.harm.items() if each == harm]
                by_harm.setdefault(way, {}).setdefault(harm, []).append(float(np.mean([n in worst for n in of])))
    chance = len(plants[0].harm) / len(windows)
    rows = [_row(way, share, by_harm[way]) for way, share in shares.items()]
    rows.append(
        {"scores by": RANDOM, "planted among the worst": f"{chance:.2f}"} | dict.fromkeys(PLANTED, f"{chance:.2f}")
    )
    low = over_seeds(shares[THREE_T]).low
    text = f"{THREE_T}: planted damage among as many of the worst, low end of the interval"
    goals = [goal(text, f"> {chance:.2f} (chance)", low, low > chance)]
    return (
        rows,
        goals,
        {"windows": len(windows), "queries": len(queries), "planted": len(plants[0].harm), "seeds": _SEEDS},
    )


def _measured(windows: Sequence[Window], queries: Sequence[Window], plants: Sequence[Planted], scratch: Path) -> Path:
    """A store with motion and sketches of all windows, as they are and damaged."""
    clips: dict[str, Frames] = {each.id: each.frames for each in windows}
    for planted in plants:
        for n, harm in planted.harm.items():
            clips[planted.name(windows, n)] = _damaged(windows, n, harm, planted.seed)
    model = load()
    settings = GradientSettings.build(motion_settings(model), AttributionConfig(timesteps=THREE, noises=(0,)), model)
    with RunStore(scratch / "run.zarr", write=True) as store:
        for role, frames in (("query", {each.id: each.frames for each in queries}), ("train", clips)):
            records = [_written(scratch, name, each) for name, each in frames.items()]
            compute_sketch_table(records, store, settings, role, known_motion=scratch / "motion")
    return scratch / "run.zarr"


def _written(scratch: Path, name: str, frames: Frames) -> ClipRecord:
    path = scratch / f"{name}.mov"
    write_lossless(path, frames, _FPS)
    return ClipRecord(name, path, "")


def _scores(
    path: Path, windows: Sequence[Window], queries: Sequence[Window], planted: Planted
) -> dict[str, npt.NDArray[np.floating]]:
    """Way -> (Q, N)."""
    asked = [each.id for each in queries]
    names = [planted.name(windows, n) for n in range(len(windows))]
    sketched = Sketched(path, asked, names, list(samples_of(THREE, (0,))))
    made: dict[str, npt.NDArray[np.floating]] = {way: sketched.scores(SCORES[way]) for way in (THREE_T, PAPER)}
    with RunStore(path) as store:
        controls = control_scores(store.table(TABLE), asked, names, made[PAPER], planted.seed)
    return made | {way: controls[way] for way in CONTROLS}


def _worst(scores_QN: npt.NDArray[np.floating], count: int) -> list[int]:
    """Places of the last clips by mean rank. A query without motion asks nothing, a clip without one has no rank."""
    asked = np.isfinite(scores_QN).any(1)
    ids = [f"{n:06d}" for n in range(scores_QN.shape[1])]
    ranking = rank_clips(scores_QN[asked].astype(np.float32), ids, 0.1)
    return [int(clip) for clip in ranking.by_mean[::-1][:count]]


def _row(way: str, share: Sequence[float], by_harm: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    sure = over_seeds(share)
    return {
        "scores by": way,
        "planted among the worst": f"{sure.value:.2f} ({sure.low:.2f} to {sure.high:.2f})",
        **{harm: f"{np.mean(found):.2f}" for harm, found in by_harm.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="real videos")
    given = parser.parse_args()
    if not given.folder.is_dir():
        parser.error(f"{given.folder} is no folder")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        rows, goals, more = run(given.folder, Path(scratch))
    write("real_damage", rows, goals, **more)


if __name__ == "__main__":
    main()
