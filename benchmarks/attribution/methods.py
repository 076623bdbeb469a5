"""Scores of every gallery clip for every query of a bench: the gradient method in its variants, and the controls.

``all_scores`` gives them by name. Names that begin with ``gradient`` are of the model trained on the gallery, by its
sketches and what the product's scoring makes of them: among these seed 0 chooses. Those that begin with ``experiment``
need gradients of their own; ``t`` counts timesteps.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from benchmarks.attribution.bench import Bench, write_whole
from benchmarks.attribution.corpus import GALLERY, REPORT, TUNE
from benchmarks.attribution.sketches import Taken, query_sketches_with_swapped_masks, sketched
from motive_fo.attribution.gradients import MASKED
from motive_fo.config import InfluenceConfig, MaskSide
from motive_fo.influence.baselines import cosine
from motive_fo.influence.checkpoints import weighted_mean
from motive_fo.influence.cosine import SIDES, cosine_scores
from motive_fo.influence.leakage import mask_overlap, without_overlap
from motive_fo.influence.preconditioner import Moments, Preconditioner
from motive_fo.models.base import VideoModel
from motive_fo.store.run_store import RunStore
from motive_fo.store.sketches import Sample, samples_of

ONE: Final = 750.748
"""The paper's timestep."""
SEVERAL: Final = (100.0, 300.0, 500.0, ONE, 900.0)
NOISY: Final = 500.0
"""The noisier half of the schedule begins here. ``Choice:`` on seed 0."""
FEW: Final = (500.0, ONE)
"""Timesteps of the experiments, which need gradients of their own."""
FEW_T: Final = f"{len(FEW)} t"

#: method -> role of the queries -> (Q, N)
Scores = dict[str, dict[str, npt.NDArray[np.float64]]]
_CHANGES: Final[dict[str, dict[str, Any]]] = {
    "": {},
    ", overlap removed": {"overlap": "remove"},
    ", centred": {"center": "mean"},
    ", gauss-newton": {"kernel": "gauss-newton"},
    ", centred, gauss-newton": {"center": "mean", "kernel": "gauss-newton"},
    ", gauss-newton, overlap removed": {"kernel": "gauss-newton", "overlap": "remove"},
}
_OF_SEVERAL: Final[dict[str, dict[str, Any]]] = {
    ", z-scores": {"combine": "mean-zscore"},
    ", gauss-newton, z-scores": {"kernel": "gauss-newton", "combine": "mean-zscore"},
    ", end to end": {"combine": "concat"},
    ", mean sketch": {"combine": "mean-sketch"},
    ", gauss-newton, mean sketch": {"kernel": "gauss-newton", "combine": "mean-sketch"},
}
_SIDES: Final[tuple[MaskSide, ...]] = ("both", "query", "none")
DAMPINGS: Final = (0.01, 0.1, 1.0)
PAPER: Final = "gradient, mask both, 1 t"
PRESET: Final = "gradient, mask both, gauss-newton, 3 t x 4 noises"
"""The variant to recommend, written down before any row of seed 1: on seed 0 of the corpus of objects it is among the
best by the linear datamodeling score of matched subsets (0.39; the same with z-scores has 0.40), and the simplest of
these."""
_VERSION: Final = 3  # of what is computed: scores kept under another one are not read
UNTRAINED: Final = "untrained model, mask both, 1 t"
MODEL_FREE: Final = ("raw pixels", "flow magnitude", "HOOF", "mask only")
AT_CHANCE: Final = ("random ids", "permuted ids")


Samples = tuple[tuple[float, ...], tuple[int, ...]]
"""Timesteps and noises: every pair is one sketch."""


def sample_sets(timesteps: Sequence[float], noises: Sequence[int]) -> dict[str, Samples]:
    """The sets of samples that variants are made of: the paper's timestep, all timesteps, the noisier half with several
    noises."""
    sets: dict[str, Samples] = {"1 t": ((ONE,), (0,))}
    if len(timesteps) > 1:
        sets[f"{len(timesteps)} t"] = (tuple(timesteps), (0,))
    if len(noises) > 1:
        noisy = tuple(t for t in timesteps if t >= NOISY)
        sets[f"{len(noisy)} t x {len(noises)} noises"] = (noisy, tuple(noises))
    return sets


def variants(timesteps: Sequence[float], noises: Sequence[int] = (0,)) -> dict[str, InfluenceConfig]:
    """Every variant that the stored sketches of one model give; the first is the paper's."""
    return {
        f"gradient, mask {side}{change}, {label}": InfluenceConfig(
            mask_side=side, timesteps=used, noises=seeds, **settings
        )
        for label, (used, seeds) in sample_sets(timesteps, noises).items()
        for side in _SIDES
        for change, settings in {**_CHANGES, **(_OF_SEVERAL if len(used) * len(seeds) > 1 else {})}.items()
    }


def damped(named: dict[str, InfluenceConfig]) -> dict[str, InfluenceConfig]:
    """All variants, and those whose only change is Gauss-Newton with all dampings: what seed 0 chooses from."""
    made = {}
    for name, config in named.items():
        plain = config.center == "none" and config.overlap == "keep" and config.combine == "mean-cosine"
        kinds = DAMPINGS if config.kernel == "gauss-newton" and plain else (config.damping,)
        for damping in kinds:
            made[name if damping == config.damping else f"{name}, damping {damping:g}"] = replace(
                config, damping=damping
            )
    return made


@dataclass(frozen=True)
class Extent:
    """How much of it is computed.

    Attributes:
        timesteps: of the variants, the paper's among them.
        experiments: whether variants that need gradients of their own are computed too, on the corpus of objects.
        noises: of the variants with several.
    """

    timesteps: tuple[float, ...] = SEVERAL
    experiments: bool = True
    noises: tuple[int, ...] = (0, 1, 2, 3)


def all_scores(bench: Bench, extent: Extent | None = None) -> Scores:
    """Every method's scores: name -> role of the queries -> (Q, N), from sketches that are kept in the bench's folder.

    Variants come in all dampings; names without a damping have the product's default.
    """
    extent = extent or Extent()
    named = damped(variants(extent.timesteps, extent.noises))
    digest = hashlib.sha256(repr((_VERSION, extent, named)).encode()).hexdigest()[:8]
    kept = bench.folder / "scores" / f"{digest}.npz"
    if not kept.exists():
        made = _computed(bench, extent, named)
        arrays = {f"{name}|{role}": scores_QN for name, each in made.items() for role, scores_QN in each.items()}
        write_whole(kept, partial(_save, arrays))
    scores: Scores = {}
    with np.load(kept) as stored:
        for key in stored.files:
            name, role = key.split("|")
            scores.setdefault(name, {})[role] = stored[key]
    return scores


def _computed(bench: Bench, extent: Extent, named: Mapping[str, InfluenceConfig]) -> Scores:
    sets = list(sample_sets(extent.timesteps, extent.noises).values())
    trained = opened(bench, "trained", bench.model, sets)
    # all timesteps with one noise are left out: what is compared with an untrained model is the ends
    untrained = opened(bench, "untrained", bench.untrained, [sets[0], sets[-1]])
    made: Scores = {}
    for name, config in named.items():
        made[name] = trained.by_role(config)
        if (config.timesteps, config.noises) in (sets[0], sets[-1]):
            made[name.replace("gradient", "untrained model")] = untrained.by_role(config)
    made |= _swapped(bench, trained)
    if extent.experiments and bench.kind == "objects":
        made |= _experiments(bench, trained)
    return made | controls(trained.path, bench, made[PAPER])


def _save(arrays: Mapping[str, npt.NDArray[np.float64]], path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes further names for its one option


def opened(bench: Bench, name: str, model: VideoModel, sets: Sequence[Samples]) -> SketchedClips:
    """A store with all these samples, taken where they are missing."""
    paths = [sketched(bench, name, model, Taken(*each)) for each in sets]
    return SketchedClips(paths[0], bench, list(dict.fromkeys(sample for each in sets for sample in samples_of(*each))))


class Sketched:
    """The sketches of a store in memory: any number of variants in little time, to the numbers of the product's own
    scoring step (tested).

    Args:
        queries, train: ids of query clips, and of clips to be scored.
        samples: which of the store's; those of its last gradient step where open.
    """

    def __init__(
        self, path: Path, queries: Sequence[str], train: Sequence[str], samples: list[Sample] | None = None
    ) -> None:
        self.path, self.queries, self.train = path, list(queries), list(train)
        store = RunStore(path)
        query, clips = store.sketches("query", samples), store.sketches("train", samples)
        self._samples = clips.samples
        self._sketches = query.read("sketch", self.queries), clips.read("sketch", self.train)
        motion = store.table("motion")
        masks = (motion.read("mask", ids).reshape(len(ids), -1) for ids in (self.queries, self.train))
        self._overlap_QN = mask_overlap(*masks)
        self._known: dict[tuple[Any, ...], Any] = {}

    def only(self, kept: npt.NDArray[np.int64]) -> Self:
        """With these clips of the gallery alone."""
        other = copy.copy(self)
        other.train = [self.train[n] for n in kept]
        other._sketches = self._sketches[0], self._sketches[1][kept]
        other._overlap_QN, other._known = self._overlap_QN[:, kept], {}
        return other

    def cut(self, size: int) -> Self:
        """With the first numbers of each sketch alone."""
        other = copy.copy(self)
        other._sketches = self._sketches[0][..., :size], self._sketches[1][..., :size]
        other._known = {}
        return other

    def scores(self, config: InfluenceConfig) -> npt.NDArray[np.float32]:
        """Motion influence, (Q, N)."""
        made_QN = cosine_scores(*self.pair(config), config.combine)
        return without_overlap(made_QN, self._overlap_QN) if config.overlap == "remove" else made_QN

    def pair(self, config: InfluenceConfig) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
        """Sketches of queries (Q, S, D) and gallery (N, S, D) as the configuration changes them."""
        query_side, train_side = SIDES[config.mask_side]
        used = self._used(config)
        query_QSD, train_NSD = self._sketches[0][:, used, query_side], self._sketches[1][:, used, train_side]
        if config.center == "none" and config.kernel == "identity":
            return query_QSD, train_NSD
        merged, centred = config.combine == "mean-sketch", config.center == "mean"
        key = (tuple(used), train_side, query_side if centred else None, config.kernel, config.damping, merged)
        if key not in self._known:
            query_moments, train_moments = (self._moments(side, used, merged) for side in (query_side, train_side))
            self._known[key] = Preconditioner.of(
                query_moments, train_moments, config.center, config.kernel, config.damping
            )
        found: Preconditioner = self._known[key]
        return found.pair(query_QSD, train_NSD)

    def _used(self, config: InfluenceConfig) -> list[int]:
        return [
            n
            for n, (timestep, noise) in enumerate(self._samples)
            if (config.timesteps is None or timestep in config.timesteps)
            and (config.noises is None or noise in config.noises)
        ]

    def _moments(self, side: int, used: list[int], merged: bool) -> Moments:
        key = ("moments", side, tuple(used), merged)
        if key not in self._known:
            sketch_NSD = self._sketches[1][:, used, side]
            self._known[key] = Moments(*sketch_NSD.shape[1:], second=True, merged=merged)
            self._known[key].add(sketch_NSD)
        found: Moments = self._known[key]
        return found


class SketchedClips(Sketched):
    """The sketches of a bench: queries of both roles, and its gallery."""

    def __init__(self, path: Path, bench: Bench, samples: list[Sample] | None = None) -> None:
        records = bench.corpus.records
        queries = [each.id for role in (TUNE, REPORT) for each in records[role]]
        super().__init__(path, queries, [each.id for each in records[GALLERY]], samples)
        self._bench = bench

    def by_role(self, config: InfluenceConfig) -> dict[str, npt.NDArray[np.float64]]:
        """Motion influence of the queries of each role."""
        return by_role(self._bench, self.scores(config))


def by_role(bench: Bench, scores_QN: npt.NDArray[np.floating]) -> dict[str, npt.NDArray[np.float64]]:
    """Scores of all queries, taken apart."""
    cut, wide = len(bench.corpus.records[TUNE]), scores_QN.astype(np.float64)
    return {TUNE: wide[:cut], REPORT: wide[cut:]}


# --- variants that need gradients of their own ------------------------------------------------------------------------


def _experiments(bench: Bench, trained: SketchedClips) -> Scores:
    """Checkpoints, optimiser scaling, parameter groups, another output function, and products instead of cosines."""
    taken = {
        "Adam scaling": Taken(FEW, power=0.5),
        "self-attention alone": Taken(FEW, include=("*self_attention*",)),
        "square of the output": Taken(FEW, output=True),
    }
    kinds = {"": trained} | {
        f", {kind}": SketchedClips(sketched(bench, kind.replace(" ", "-"), bench.model, how), bench)
        for kind, how in taken.items()
    }
    # the last checkpoint is the trained model itself
    early = [
        (each.learning_rate, SketchedClips(sketched(bench, f"step{each.step}", each.model, Taken(FEW)), bench))
        for each in bench.checkpoints[:-1]
    ]
    made: Scores = {}
    for side in ("both", "query"):
        for change, kernel in (("", "identity"), (", gauss-newton", "gauss-newton")):
            config = InfluenceConfig(mask_side=side, timesteps=FEW, noises=(0,), kernel=kernel)  # type: ignore[arg-type]
            name = f"experiment, mask {side}"
            for kind, clips in kinds.items():
                made[f"{name}{kind}{change}, {FEW_T}"] = clips.by_role(config)
            weights = [bench.checkpoints[-1].learning_rate, *(weight for weight, _ in early)]
            every = [trained.scores(config), *(clips.scores(config) for _, clips in early)]
            made[f"{name}, checkpoints{change}, {FEW_T}"] = by_role(bench, weighted_mean(every, weights))
            made[f"{name}, product{change}, {FEW_T}"] = by_role(bench, products(trained, config))
    return made


def products(clips: SketchedClips, config: InfluenceConfig) -> npt.NDArray[np.float64]:
    """g_q' K g_n with K of the configuration, the mean over samples: TracIn's product, TRAK's with Gauss-Newton. The
    gallery's gradients have their lengths (in medians of them); a query's length changes no ranking."""
    plain_NSD = clips.pair(replace(config, kernel="identity"))[1].astype(np.float64)
    query_QSD, train_NSD = (each.astype(np.float64) for each in clips.pair(config))
    query_QSD /= np.linalg.norm(query_QSD, axis=2, keepdims=True)
    train_NSD /= np.median(np.linalg.norm(plain_NSD, axis=2, keepdims=True), axis=0)
    return np.asarray(np.einsum("qsd,nsd->qn", query_QSD, train_NSD) / query_QSD.shape[1])


def _swapped(bench: Bench, trained: SketchedClips) -> Scores:
    """Queries under the mask of a query of another motion: what is left is not the motion's place."""
    train_NSD = trained.pair(InfluenceConfig(timesteps=(ONE,), noises=(0,)))[1]
    made = {}
    for role in (TUNE, REPORT):
        query_QS2D = query_sketches_with_swapped_masks(bench, bench.model, Taken((ONE,)), role)
        made[role] = cosine_scores(query_QS2D[:, :, MASKED], train_NSD).astype(np.float64)
    return {"swapped masks": made}


# --- controls ---------------------------------------------------------------------------------------------------------


def controls(path: Path, bench: Bench, paper: dict[str, npt.NDArray[np.float64]]) -> Scores:
    """Scores that use no gradient; ``paper`` are those whose ids are permuted."""
    corpus = bench.corpus
    made: Scores = {}
    for number, role in enumerate((TUNE, REPORT)):
        rng = np.random.default_rng([bench.seed, number])
        of = _Motion(path, bench, role)
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

    def __init__(self, path: Path, bench: Bench, role: str) -> None:
        self._table = RunStore(path).table("motion")
        self._sides = [[record.id for record in bench.corpus.records[each]] for each in (role, GALLERY)]

    def _read(self, column: str) -> list[npt.NDArray[np.float64]]:
        return [np.asarray(self._table.read(column, ids), np.float64).reshape(len(ids), -1) for ids in self._sides]

    def likeness(self, column: str) -> npt.NDArray[np.float64]:
        """Cosine of what is stored, end to end."""
        return cosine(*self._read(column))

    def nearness(self, column: str) -> npt.NDArray[np.float64]:
        """How near two lengths are, as a quotient."""
        query, gallery = (np.log(values[:, 0]) for values in self._read(column))
        return np.asarray(-np.abs(query[:, None] - gallery[None]))
