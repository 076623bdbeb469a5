"""A corpus with a model that was really trained on it: what every table starts from, kept on disk between runs.

Layout of ``CACHE/KIND-SEED-DIGEST`` (the digest is of the setting)::

    clips/             the rendered corpus
    motion.zarr        motion of all clips; motion/ beside it is shared by the stores of gradients
    latents.pt         clean latents and motion masks, role by role
    model/STEP.safetensors, model/final.safetensors

Every file is complete or absent.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from benchmarks.attribution.corpus import GALLERY, REPORT, TUNE, Corpus, Kind, render_corpus
from benchmarks.attribution.training import Recipe, train
from motive_fo.config import ClipConfig, FlowConfig, MotionConfig
from motive_fo.models.card import ModelCard
from motive_fo.models.tiny.model import TinyModel, load
from motive_fo.pipeline.motion import TABLE, MotionSettings, compute_motion_table, decoded
from motive_fo.pipeline.report import StepReport
from motive_fo.store.run_store import RunStore

ROLES: Final = (GALLERY, TUNE, REPORT)
CACHE: Final = Path(__file__).resolve().parents[1] / ".cache" / "attribution"


@dataclass(frozen=True)
class BenchSetting:
    """How large a bench is.

    Attributes:
        scale: of the seed benchmark's class sizes.
        tune, report: queries of each motion.
        recipe: of every training on this bench: the model's on the whole gallery and the subsets'.
    """

    scale: float
    tune: int
    report: int
    recipe: Recipe


FULL: Final = BenchSetting(scale=0.5, tune=2, report=5, recipe=Recipe(steps=40, learning_rate=5e-4))
FAST: Final = BenchSetting(scale=0.08, tune=1, report=2, recipe=Recipe(steps=3, batch=8))


@dataclass(frozen=True)
class Checkpoint:
    """The model during its training.

    Attributes:
        step: steps it had taken; 0 is the model as it came, before it saw the corpus.
        learning_rate: the weight of its gradients in a sum over checkpoints (TracIn).
    """

    step: int
    learning_rate: float
    model: TinyModel


@dataclass(frozen=True)
class Bench:
    """A corpus, the models that belong to it, and its clips as a model sees them.

    Attributes:
        base: the embedded model, from which every training starts.
        model: trained on the whole gallery.
        checkpoints: on the way from one to the other, the base first.
        untrained: the same with random weights.
        latents: role -> clean latents (N, C, F, h, w).
        masks: role -> motion masks (N, F, h, w) in [0, 1].
    """

    kind: Kind
    seed: int
    setting: BenchSetting
    folder: Path
    corpus: Corpus
    base: TinyModel
    model: TinyModel
    checkpoints: tuple[Checkpoint, ...]
    untrained: TinyModel
    latents: dict[str, torch.Tensor]
    masks: dict[str, torch.Tensor]


def motion_settings(card: ModelCard) -> MotionSettings:
    """How motion is measured on every bench. A slow hand-held camera is a motion to be found: no clip is static."""
    return MotionSettings.build(ClipConfig(), FlowConfig(estimator="dis"), MotionConfig(static_floor=0), card)


def open_bench(cache: Path, kind: Kind, seed: int, setting: BenchSetting = FULL) -> Bench:
    """The bench from the cache, or made there: rendered, measured and trained."""
    text = json.dumps(asdict(setting), sort_keys=True)
    folder = cache / f"{kind}-{seed}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    (folder / "setting.json").write_text(text + "\n", encoding="utf-8")
    corpus = render_corpus(
        folder / "clips", kind=kind, scale=setting.scale, tune=setting.tune, report=setting.report, seed=seed
    )
    base = load()
    latents, masks = _clips(folder, corpus, base)
    model, checkpoints = _models(folder, base, latents[GALLERY], setting.recipe, seed)
    return Bench(kind, seed, setting, folder, corpus, base, model, checkpoints, base.randomized(seed), latents, masks)


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """A file that is complete or absent, whoever else writes it at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    write(part)
    part.replace(path)


def _clips(folder: Path, corpus: Corpus, model: TinyModel) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Latents and masks of every role."""
    path = folder / "latents.pt"
    if not path.exists():
        write_whole(path, lambda part: torch.save(_encoded(folder, corpus, model), part))
    kept = torch.load(path, weights_only=True)
    return kept["latents"], kept["masks"]


def _encoded(folder: Path, corpus: Corpus, model: TinyModel) -> dict[str, dict[str, torch.Tensor]]:
    settings = motion_settings(model.card)
    records = [record for role in ROLES for record in corpus.records[role]]
    with RunStore(folder / "motion.zarr", write=True) as store:
        report = compute_motion_table(records, store, settings, known=folder / "motion")
        if report.status != {"done": len(records)}:
            raise RuntimeError(f"every rendered clip must have a motion: {dict(report.status)}, {report.codes}")
        table = store.table(TABLE)
        masks = {role: table.read("mask", [each.id for each in corpus.records[role]]) for role in ROLES}
    latents = {}
    for role in ROLES:
        frames = []
        for record, _, clip in decoded(corpus.records[role], settings, StepReport("decode")):
            if isinstance(clip, Exception):
                raise RuntimeError(f"{record.path} cannot be decoded: delete the folder and start again") from clip
            frames.append(model.encode_frames(clip.frames_THW3))
        latents[role] = torch.cat(frames)
    return {"latents": latents, "masks": {role: torch.from_numpy(np.asarray(mask)) for role, mask in masks.items()}}


def _models(
    folder: Path, base: TinyModel, x0_NCFhw: torch.Tensor, recipe: Recipe, seed: int
) -> tuple[TinyModel, tuple[Checkpoint, ...]]:
    """The trained model and its checkpoints, after a third and two thirds of the steps."""
    steps = sorted({round(recipe.steps / 3), round(2 * recipe.steps / 3)})
    paths = {step: folder / "model" / f"{step:06d}.safetensors" for step in steps}
    final = folder / "model" / "final.safetensors"
    if not all(path.exists() for path in (final, *paths.values())):
        model, kept = train(base, x0_NCFhw, recipe, seed, keep=steps)
        for step, path in paths.items():
            write_whole(path, kept[step].save)
        write_whole(final, model.save)
    model = load(weights=final)
    at = [Checkpoint(0, recipe.learning_rate, base)]
    at += [Checkpoint(step, recipe.learning_rate, load(weights=path)) for step, path in paths.items()]
    return model, (*at, Checkpoint(recipe.steps, recipe.learning_rate, model))
