"""A pool as people have it, with queries, and all of it as a model sees it: what the evidence starts from.

Layout of ``CACHE/pool-SEED-DIGEST`` (the digest is of the setting)::

    clips/              the rendered clips of every role
    motion.zarr         motion of all clips; motion/ beside it is shared by the stores of sketches
    latents.pt          clean latents, and masks of the clips whose loss is measured, role by role
    sketches/NAME.zarr  gradients of a model
    losses/SET-SEED.npy of one training
    base-DIGEST/        latents, sketches and losses of another base

Every file is complete or absent, and what is there is not made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.attribution.bench import write_whole
from benchmarks.attribution.methods import Samples, Sketched
from benchmarks.attribution.sketches import turn
from motive_fo.config import AttributionConfig, ClipConfig, FlowConfig, MotionConfig
from motive_fo.models.tiny.model import TinyModel, load
from motive_fo.pipeline.gradients import GradientSettings, compute_sketch_table
from motive_fo.pipeline.motion import TABLE, MotionSettings, compute_motion_table, decoded
from motive_fo.pipeline.record import ClipRecord
from motive_fo.pipeline.report import StepReport
from motive_fo.store.run_store import RunStore
from motive_fo.store.sketches import samples_of
from motive_fo.synthetic.pool import Captions, Mix, PoolClip, PoolConfig, plan_pool, plan_queries, write_pool
from motive_fo.synthetic.scene import MOTIONS

POOL, QUERY, HELD_OUT, KNOWN = "pool", "query", "held-out", "known"
ROLES: Final = (POOL, QUERY, HELD_OUT, KNOWN)
_JUDGED: Final = (HELD_OUT, KNOWN)
_KNOWN_MOTIONS: Final = tuple(motion for motion in MOTIONS if motion != "still")


@dataclass(frozen=True)
class PoolSetting:
    """How large a pool is, and what is asked of it.

    Attributes:
        targets: kinds of motion that queries show.
        size: clips of the pool.
        queries, held_out: clips of each target kind that choose, and that are measured.
        known: clips of each motion that the base knows, measured for what a training costs there.
        mix: shares of the pool.
        captions: one for all, or each scene's own.
    """

    targets: tuple[str, ...]
    size: int = 1500
    queries: int = 6
    held_out: int = 16
    known: int = 2
    mix: Mix = field(default_factory=Mix)
    captions: Captions = "uniform"


@dataclass(frozen=True)
class Pool:
    """A pool and its queries, measured and encoded.

    Attributes:
        clips: role -> clips; kinds one after the other where they are queries.
        latents: role -> clean latents (N, C, F, h, w).
        masks: of the roles that are measured -> motion masks (N, F, h, w).
        base: the model from which every training starts.
        kept: folder of what the base made: latents, sketches, losses.
    """

    seed: int
    setting: PoolSetting
    folder: Path
    kept: Path
    clips: dict[str, list[PoolClip]]
    latents: dict[str, torch.Tensor]
    masks: dict[str, torch.Tensor]
    base: TinyModel

    def ids(self, role: str) -> list[str]:
        return [clip.id for clip in self.clips[role]]

    def of_kinds(self, role: str, kinds: Sequence[str]) -> npt.NDArray[np.int64]:
        """Places of the clips of some kinds."""
        return np.asarray([n for n, clip in enumerate(self.clips[role]) if clip.kind in kinds], np.int64)

    def harmful(self) -> npt.NDArray[np.bool_]:
        """Which clips of the pool were damaged, or have another clip's caption."""
        return np.asarray([clip.harm is not None for clip in self.clips[POOL]])

    def sorts(self, wanted: Sequence[str]) -> dict[str, npt.NDArray[np.int64]]:
        """Places of the pool's clips by their harm, and of sound ones by who knows or wants their motion."""
        named: dict[str, list[int]] = {}
        for n, clip in enumerate(self.clips[POOL]):
            known = "known" if clip.kind in MOTIONS else "unwanted"
            sound = "wanted" if clip.kind in wanted else "other targets" if clip.kind in self.setting.targets else known
            named.setdefault(clip.harm or sound, []).append(n)
        return {sort: np.asarray(places, np.int64) for sort, places in sorted(named.items())}

    def motion(self, column: str, role: str = POOL) -> npt.NDArray[np.float64]:
        """What the motion step measured, (N, ...)."""
        with RunStore(self.folder / "motion.zarr") as store:
            return np.asarray(store.table(TABLE).read(column, self.ids(role)), np.float64)

    def mask(self, role: str) -> npt.NDArray[np.float32]:
        """Motion masks of a role's clips, (N, F, h, w); NaN where a clip stands still."""
        with RunStore(self.folder / "motion.zarr") as store:
            return np.asarray(store.table(TABLE).read("mask", self.ids(role)), np.float32)

    def sketched(self, name: str, model: TinyModel, *sets: Samples) -> Sketched:
        """Sketches of pool and queries by all of these samples, by the product's own step; what is there is not taken
        again."""
        path = self.kept / "sketches" / f"{name}.zarr"
        known, motion = self.folder / "motion", motion_settings(model)
        with turn(path) as store:
            for timesteps, noises in sets:
                config = AttributionConfig(timesteps=timesteps, noises=noises)
                settings = GradientSettings.build(motion, config, model)
                for role, table in ((QUERY, "query"), (POOL, "train")):
                    clips = _records(self.clips[role])
                    _whole(compute_sketch_table(clips, store, settings, table, known_motion=known, progress=_Lines()))
        samples = dict.fromkeys(sample for each in sets for sample in samples_of(*each))
        return Sketched(path, self.ids(QUERY), self.ids(POOL), list(samples))


def open_pool(cache: Path, seed: int, setting: PoolSetting, weights: Path | None = None) -> Pool:
    """The pool from the cache, or rendered, measured and encoded there.

    Args:
        weights: of the base; the embedded model's own where None.
    """
    text = json.dumps(asdict(setting), sort_keys=True)
    folder = cache / f"pool-{seed}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "setting.json").write_text(text + "\n", encoding="utf-8")
    entries = {
        POOL: plan_pool(PoolConfig(setting.size, seed, setting.targets, setting.mix, setting.captions)),
        QUERY: plan_queries(setting.targets, setting.queries, seed, QUERY, setting.captions),
        HELD_OUT: plan_queries(setting.targets, setting.held_out, seed, HELD_OUT, setting.captions),
        KNOWN: plan_queries(_KNOWN_MOTIONS, setting.known, seed, KNOWN, setting.captions),
    }
    clips = {role: write_pool(folder / "clips" / role, each) for role, each in entries.items()}
    base, kept = load(weights=weights), folder
    if weights is not None:
        kept = folder / f"base-{hashlib.sha256(weights.read_bytes()).hexdigest()[:8]}"
        kept.mkdir(exist_ok=True)
    latents, masks = _encoded(folder, kept, clips, base)
    return Pool(seed, setting, folder, kept, clips, latents, masks, base)


def motion_settings(model: TinyModel) -> MotionSettings:
    """The product's defaults, with the flow that needs no weights: a frozen clip is static and has no score."""
    return MotionSettings.build(ClipConfig(), FlowConfig(estimator="dis"), MotionConfig(), model.card)


def _records(clips: Sequence[PoolClip]) -> list[ClipRecord]:
    return [ClipRecord(clip.id, clip.path, clip.caption) for clip in clips]


def _encoded(
    folder: Path, kept: Path, clips: dict[str, list[PoolClip]], model: TinyModel
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    path = kept / "latents.pt"
    if not path.exists():
        made = {"latents": _latents(clips, model), "masks": _masks(folder, clips, model)}
        write_whole(path, lambda part: torch.save(made, part))
    parts = torch.load(path, weights_only=True)
    return parts["latents"], parts["masks"]


def _masks(folder: Path, clips: dict[str, list[PoolClip]], model: TinyModel) -> dict[str, torch.Tensor]:
    every = [record for role in ROLES for record in _records(clips[role])]
    with turn(folder / "motion.zarr") as store:
        known = folder / "motion"
        _whole(compute_motion_table(every, store, motion_settings(model), known=known, progress=_Lines()))
        table = store.table(TABLE)
        read = {role: table.read("mask", [clip.id for clip in clips[role]]) for role in _JUDGED}
    return {role: torch.from_numpy(np.asarray(mask)) for role, mask in read.items()}


def _latents(clips: dict[str, list[PoolClip]], model: TinyModel) -> dict[str, torch.Tensor]:
    latents = {}
    for role in ROLES:
        made = []
        for record, _, clip in decoded(_records(clips[role]), motion_settings(model), StepReport("decode")):
            if isinstance(clip, Exception):
                raise RuntimeError(f"{record.path} cannot be decoded: delete the folder and start again") from clip
            made.append(model.encode_frames(clip.frames_THW3))
        latents[role] = torch.cat(made)
    return latents


def _whole(report: StepReport) -> None:
    if set(report.status) - {"done", "static"}:
        raise RuntimeError(f"every rendered clip must be measured: {dict(report.status)}, {report.codes}")


class _Lines:
    """Says how far a step is, once in a while."""

    def __call__(self, what: str, done: int, count: int) -> None:
        if count and done % max(1, count // 5) == 0:
            print(f"  {what}: {done} of {count}", flush=True)
