"""Scores of every gallery clip for every query: the gradient method in its variants, and the controls beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.attribution.corpus import GALLERY, REPORT, TUNE, Corpus
from motive_fo.config import AttributionConfig, ClipConfig, FlowConfig, InfluenceConfig, MotionConfig
from motive_fo.influence.baselines import cosine
from motive_fo.models.base import VideoModel
from motive_fo.pipeline.gradients import GradientSettings, compute_sketch_table
from motive_fo.pipeline.motion import MotionSettings
from motive_fo.pipeline.scoring import score
from motive_fo.store.run_store import RunStore

ONE: Final = 750.748
"""The paper's timestep."""

#: method -> role of the queries -> (Q, N)
Scores = dict[str, dict[str, npt.NDArray[np.float64]]]
_CHANGES: Final = {
    "": {},
    ", centred": {"center": "mean"},
    ", gauss-newton": {"kernel": "gauss-newton"},
    ", centred, gauss-newton": {"center": "mean", "kernel": "gauss-newton"},
}
DAMPINGS: Final = (0.01, 0.1, 1.0)


def sketch(path: Path, corpus: Corpus, model: VideoModel, timesteps: Sequence[float]) -> None:
    """Motion and gradients of all clips into a store."""
    # a slow hand-held camera is a motion to be found: no clip counts as static
    motion = MotionSettings.build(ClipConfig(), FlowConfig(estimator="dis"), MotionConfig(static_floor=0), model.card)
    settings = GradientSettings.build(motion, AttributionConfig(timesteps=tuple(timesteps)), model)
    with RunStore(path, write=True) as store:
        for role, records in (
            ("query", corpus.records[TUNE] + corpus.records[REPORT]),
            ("train", corpus.records[GALLERY]),
        ):
            report = compute_sketch_table(records, store, settings, role, known_motion=path.with_name("motion"))
            if report.status != {"done": len(records)}:
                raise RuntimeError(f"every rendered clip must have a gradient: {dict(report.status)}, {report.codes}")


def gradient(path: Path, corpus: Corpus, config: InfluenceConfig) -> dict[str, npt.NDArray[np.float64]]:
    """Influence by one variant, from the stored sketches, for the queries of either role."""
    train = [record.id for record in corpus.records[GALLERY]]
    queries = [record.id for role in (TUNE, REPORT) for record in corpus.records[role]]
    with RunStore(path, write=True) as store:
        scores_QN = score(train, queries, store, config)[0].motion_QN.astype(np.float64)
    cut = len(corpus.records[TUNE])
    return {TUNE: scores_QN[:cut], REPORT: scores_QN[cut:]}


def variants(timesteps: Sequence[float]) -> dict[str, InfluenceConfig]:
    """Every variant of the gradient method that the table has; the first is the paper's."""
    made = {}
    for several in (False, True) if len(timesteps) > 1 else (False,):
        for side in ("both", "query", "none"):
            for change, settings in _CHANGES.items():
                name = f"gradient, mask {side}{change}, {len(timesteps) if several else 1} t"
                used = None if several else (ONE,)
                made[name] = InfluenceConfig(mask_side=side, timesteps=used, **settings)  # type: ignore[arg-type]
    return made


def damped(named: dict[str, InfluenceConfig]) -> dict[str, InfluenceConfig]:
    """All variants with all dampings: what the tuning queries choose from."""
    made = {}
    for name, config in named.items():
        kinds = DAMPINGS if config.kernel == "gauss-newton" else (config.damping,)
        for damping in kinds:
            made[name if damping == config.damping else f"{name}, damping {damping:g}"] = replace(
                config, damping=damping
            )
    return made


def controls(path: Path, corpus: Corpus, paper: dict[str, npt.NDArray[np.float64]], seed: int) -> Scores:
    """Scores that use no gradient; ``paper`` are those whose ids are permuted."""
    made: Scores = {}
    for number, role in enumerate((TUNE, REPORT)):
        rng = np.random.default_rng([seed, number])
        of = _Motion(path, corpus, role)
        shape = paper[role].shape
        each = {
            "random ids": rng.random(shape),
            # each query by itself: one permutation for all would make the queries' errors one error
            "permuted ids": rng.permuted(paper[role], axis=1),
            "raw pixels": cosine(corpus.pixels[role], corpus.pixels[GALLERY]),
            "flow magnitude": of.nearness("mean"),
            "HOOF": of.likeness("hoof"),
            "mask only": of.likeness("mask"),
        }
        for name, scores_QN in each.items():
            made.setdefault(name, {})[role] = scores_QN
    return made


class _Motion:
    """Likeness of stored motion."""

    def __init__(self, path: Path, corpus: Corpus, role: str) -> None:
        self._table = RunStore(path).table("motion")
        self._sides = [[record.id for record in corpus.records[each]] for each in (role, GALLERY)]

    def _read(self, column: str) -> list[npt.NDArray[np.float64]]:
        return [np.asarray(self._table.read(column, ids), np.float64).reshape(len(ids), -1) for ids in self._sides]

    def likeness(self, column: str) -> npt.NDArray[np.float64]:
        """Cosine of what is stored, end to end."""
        return cosine(*self._read(column))

    def nearness(self, column: str) -> npt.NDArray[np.float64]:
        """How near two lengths are, as a quotient."""
        query, gallery = (np.log(values[:, 0]) for values in self._read(column))
        return np.asarray(-np.abs(query[:, None] - gallery[None]))
