"""The sketches as FiftyOne's embeddings: a map to lasso in the App, and "sort by similarity" by motion gradients.

Both are FiftyOne Brain runs over the stored sketches; the model computes nothing again. Their keys are in the run's
record, so deleting the run deletes them. Clips that are near each other would change the model in like ways.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from motive_fo.attribution.gradients import MASKED, UNMASKED
from motive_fo.dataset.choose import records_of
from motive_fo.dataset.connect import as_samples, dataset_of
from motive_fo.dataset.outcome import Outcome
from motive_fo.dataset.ownership import open_store
from motive_fo.dataset.run_record import load_run, save_run
from motive_fo.errors import InputError, MissingDependencyError, StoreError
from motive_fo.progress import Progress, silent
from motive_fo.store.run_store import Role, RunStore

Method = Literal["pca", "umap"]
Score = Literal["motion", "whole"]

_LEAST: Final = 3  # clips: fewer have no map
_SIDES: Final[Mapping[str, int]] = {"motion": MASKED, "whole": UNMASKED}
_ROLES: Final[tuple[Role, ...]] = ("train", "query")


@dataclass(frozen=True)
class MapReport:
    """What was mapped.

    Attributes:
        clips: clips on the map.
        left_out: clips without a sketch: static, failed, or not computed.
        map_key: brain key of the map.
        similarity_key: brain key of the similarity index.
        method: how it was made.
    """

    clips: int
    left_out: int
    map_key: str
    similarity_key: str
    method: Method

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def outcome(self) -> Outcome:
        """For a person."""
        reasons = (f"{self.left_out} clips have no sketch and are not on it",) if self.left_out else ()
        return Outcome(
            f"{self.clips} clips mapped: open the Embeddings panel and choose {self.map_key}, or sort by similarity "
            f"with {self.similarity_key}",
            reasons,
        )


def map_key(run: str) -> str:
    """Brain key of a run's map."""
    return f"{run}_map"


def similarity_key(run: str) -> str:
    """Brain key of a run's similarity index."""
    return f"{run}_similarity"


def map_sketches(
    samples: Any,
    run: str = "motive",
    *,
    method: Method = "pca",
    score: Score = "motion",
    progress: Progress = silent,
) -> MapReport:
    """A map of the clips by their gradient sketches, and an index to sort by their similarity. Replaces the last ones.

    Args:
        samples: a dataset, a view or a dataset's name; training clips and queries both go on the map.
        method: ``pca`` needs nothing more; ``umap`` needs the package umap-learn.
        score: gradients of the ``motion`` or of the ``whole`` clip.

    Raises:
        InputError: no such run, or fewer than three clips have a sketch.
        MissingDependencyError: ``umap`` is not installed.
        StoreError: the run has no gradients yet.
    """
    _require(method)
    samples = as_samples(samples)
    dataset = dataset_of(samples)
    record = load_run(dataset, run)
    chosen = records_of(samples)
    progress("map", 0, 2)
    found = read_sketches(open_store(record), chosen.ids, score)
    if len(found) < _LEAST:
        raise InputError(f"{len(found)} of these clips have a gradient sketch, a map needs {_LEAST} (motive gradients)")
    import fiftyone.brain as fob

    view = dataset.select([chosen.sample_ids[i] for i in found], ordered=True)
    vectors = np.stack(list(found.values()))
    keys = map_key(run), similarity_key(run)
    for key in keys:
        if dataset.has_brain_run(key):
            if key not in record.brain_keys:
                raise InputError(f"dataset {dataset.name!r} has a brain run {key!r} that is not motive's: rename it")
            dataset.delete_brain_run(key)
    record.brain_keys = sorted({*record.brain_keys, *keys})
    save_run(dataset, record)  # before they exist: whatever comes next, they can be found
    with _quiet():
        fob.compute_visualization(view, embeddings=vectors, brain_key=keys[0], method=method, seed=0, verbose=False)
    progress("map", 1, 2)
    # FiftyOne takes the mean off the vectors before its cosine; distances of unit vectors stay and give the same order
    fob.compute_similarity(view, embeddings=vectors, brain_key=keys[1], backend="sklearn", metric="euclidean")
    progress("map", 2, 2)
    return MapReport(len(found), len(chosen.records) - len(found), *keys, method)


def similar_gradients(dataset: Any, clip_id: str, run: str = "motive", *, score: Score = "motion") -> dict[str, float]:
    """Clips that would change the model as this one does: clip id -> cosine of gradient sketches, most alike first.

    Raises:
        InputError: no such run, or the clip has no sketch.
    """
    dataset = dataset_of(as_samples(dataset))
    found = read_sketches(open_store(load_run(dataset, run)), records_of(dataset).ids, score)
    if clip_id not in found:
        raise InputError(f"{clip_id!r} has no gradient sketch in run {run!r}: it is static, failed, or not computed")
    own = found.pop(clip_id)
    cosine = {other: float(vector @ own) for other, vector in found.items()}
    return dict(sorted(cosine.items(), key=lambda item: -item[1]))


def read_sketches(store: RunStore, ids: Sequence[str], score: Score = "motion") -> dict[str, npt.NDArray[np.float32]]:
    """Unit vectors (S * D,) of the clips that have one, whose inner product is the mean cosine over the run's timesteps
    and noises."""
    if not any(store.has_table(role) for role in _ROLES):
        raise StoreError("the run has no gradients yet: compute them first (motive gradients)")
    found: dict[str, npt.NDArray[np.float32]] = {}
    for role in _ROLES:
        if not store.has_table(role):
            continue
        table = store.sketches(role)
        here = [clip_id for clip_id in ids if clip_id in table and clip_id not in found]
        sketch_NSD = table.read("sketch", here)[:, :, _SIDES[score]].astype(np.float64)
        norm_NS1 = np.linalg.norm(sketch_NSD, axis=-1, keepdims=True)
        known_N = np.isfinite(norm_NS1).all((1, 2)) & (norm_NS1 > 0).all((1, 2))
        unit_NSD = sketch_NSD[known_N] / norm_NS1[known_N] / np.sqrt(sketch_NSD.shape[1])
        known = [clip_id for clip_id, is_known in zip(here, known_N, strict=True) if is_known]
        found |= dict(
            zip(known, unit_NSD.reshape(len(known), math.prod(unit_NSD.shape[1:])).astype(np.float32), strict=True)
        )
    return {clip_id: found[clip_id] for clip_id in ids if clip_id in found}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps FiftyOne Brain from announcing itself on the output stream, which may be read as JSON."""
    logger = logging.getLogger("fiftyone.brain")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _require(method: str) -> None:
    if method not in ("pca", "umap"):
        raise InputError(f"{method!r} is no way to make a map: pca or umap")
    if method == "umap" and find_spec("umap") is None:
        raise MissingDependencyError("UMAP needs umap-learn: pip install umap-learn, or choose pca")
