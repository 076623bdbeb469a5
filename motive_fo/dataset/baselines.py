"""Baselines of a run's selection on a FiftyOne dataset: saved views of the same size, and exports to train on alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from motive_fo.config import ExportConfig, merge
from motive_fo.dataset.choose import records_of
from motive_fo.dataset.connect import as_samples, dataset_of, fiftyone, load_dataset
from motive_fo.dataset.curation import selection_of
from motive_fo.dataset.export import export
from motive_fo.dataset.outcome import Outcome
from motive_fo.dataset.ownership import open_store
from motive_fo.dataset.run_record import RunRecord, load_run, save_run
from motive_fo.dataset.views import selected_view, view_name
from motive_fo.errors import InputError
from motive_fo.influence.baselines import by_similarity, by_value, cosine, random_order
from motive_fo.influence.curation import Candidates, Selection, coverage
from motive_fo.motion.hoof import similarity
from motive_fo.progress import Progress, silent

#: baselines that need nothing but the run.
KINDS: Final = ("random", "motion", "hoof", "full")
SELECTION: Final = "selection"


@dataclass(frozen=True)
class Baseline:
    """One set of clips to train on.

    Attributes:
        name: ``selection``, ``random 0``, ``motion``, ``hoof``, ``full`` or ``embedding NAME``.
        view: the saved view.
        clips: how many it has.
        shared: share of the run's selection that it holds.
        coverage: mean over the queries of the share of their own best clips that it holds, 0 to 1.
        motion: mean motion of its clips in pixels per frame, None where it is not known.
        steps: training steps its export asks for, None where nothing was exported.
        passes: how often these steps show each clip.
        folder: the export, None where nothing was exported.
    """

    name: str
    view: str
    clips: int
    shared: float
    coverage: float
    motion: float | None
    steps: int | None = None
    passes: float | None = None
    folder: str | None = None


@dataclass(frozen=True)
class BaselinesReport:
    """The selection and its baselines, the selection first."""

    sets: list[Baseline]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def outcome(self) -> Outcome:
        """For a person."""
        made = len(self.sets) - 1
        exported = [each for each in self.sets if each.folder]
        where = f", {len(exported)} exports of {exported[0].steps} training steps each" if exported else ""
        return Outcome(f"{made} baselines saved as views{where}")


def baselines(
    dataset: Any,
    run: str = "motive",
    *,
    kinds: Sequence[str] = KINDS,
    seeds: Sequence[int] = (0,),
    embeddings: Sequence[Any] = (),
    folder: str | Path | None = None,
    config: ExportConfig | Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> BaselinesReport:
    """Selections to compare the run's with: as many clips, chosen without gradients, each a saved view.

    All choose among the clips that have a score, as the selection does; ``full`` is all of these.

    Args:
        dataset: a dataset or its name; the run must be curated.
        run: name of the run.
        kinds: ``random`` (once for each seed), ``motion`` (the most mean motion), ``hoof`` (flow histograms most like
            those of the queries), ``full``.
        seeds: of ``random``.
        embeddings: more baselines, the clips most like the queries: names of embedding fields, brain keys or zoo
            models, or models of FiftyOne's.
        folder: also export the selection and every baseline, each into a folder of its own name here.
        config: settings of the exports. ``steps`` is the same for all: one pass over the full set where open.

    Raises:
        MotiveError: no such run, no selection yet, an unknown kind, an embedding that is not there.
    """
    dataset = dataset_of(as_samples(dataset))
    record = load_run(dataset, run)
    selected_view(dataset, record)  # says what to do where there is none
    candidates, selection = selection_of(dataset, run)
    orders = _orders(dataset, record, candidates, selection, kinds, seeds, embeddings)
    given: ExportConfig = merge(ExportConfig(), config, "export")
    count = len(selection.chosen.ids)
    ids = {SELECTION: selection.chosen.ids}
    ids |= {name: order if name == "full" else order[:count] for name, order in orders.items()}
    steps = given.steps or len(selection.ranking.ids)
    sample_ids = records_of(dataset).sample_ids
    sets = []
    for name, taken in ids.items():
        view = _save(dataset, record, name, [sample_ids[clip_id] for clip_id in taken])
        made = _describe(name, view.name, taken, candidates, selection, record)
        if folder is not None:
            place = Path(folder).expanduser() / name.replace(" ", "-").replace("/", "-")
            settings = merge(given, {"steps": steps}, "export")
            report = export(view, place, run, config=settings, about={"baseline": name}, progress=progress)
            passes = report.training["passes"]
            made = Baseline(**{**asdict(made), "steps": steps, "passes": passes, "folder": report.folder})
        sets.append(made)
    return BaselinesReport(sets)


def _orders(
    dataset: Any,
    record: RunRecord,
    candidates: Candidates,
    selection: Selection,
    kinds: Sequence[str],
    seeds: Sequence[int],
    embeddings: Sequence[Any],
) -> dict[str, list[str]]:
    """Name of a baseline -> clips, the best first."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise InputError(f"{unknown[0]!r} is no baseline: choose of {', '.join(KINDS)}, or name an embedding")
    ids = selection.ranking.ids
    orders: dict[str, list[str]] = {}
    for kind in kinds:
        if kind == "random":
            orders |= {f"random {seed}": random_order(ids, seed) for seed in seeds}
        elif kind == "motion":
            orders[kind] = by_value(ids, candidates.motion)
        elif kind == "hoof":
            table = open_store(record).table("motion")
            alike_QN = similarity(table.read("hoof", candidates.queries), table.read("hoof", ids))
            orders[kind] = by_similarity(alike_QN, ids, candidates.avoid_Q)
        else:
            orders[kind] = list(ids)
    holder = dataset
    if embeddings and record.query_dataset and not set(candidates.queries) <= set(records_of(dataset).ids):
        holder = load_dataset(record.query_dataset)
    for embedding in embeddings:
        name = f"embedding {embedding if isinstance(embedding, str) else type(embedding).__name__}"
        clips_NE = _vectors(dataset, ids, embedding)
        alike_QN = cosine(_vectors(holder, candidates.queries, embedding), clips_NE)
        orders[name] = by_similarity(alike_QN, ids, candidates.avoid_Q)
    short = {name: order for name, order in orders.items() if len(order) < len(selection.chosen.ids)}
    for name, order in short.items():
        raise InputError(
            f"only {len(order)} of {len(ids)} clips can be compared by {name!r}, fewer than the selection has: "
            "compute it for all clips, or leave it out"
        )
    return orders


def _vectors(holder: Any, ids: Sequence[str], embedding: Any) -> npt.NDArray[np.float64]:
    """Embeddings of clips, one row each, NaN where a clip has none: from a field, a brain run, or by a model."""
    chosen = records_of(holder)
    missing = [clip_id for clip_id in ids if clip_id not in chosen.sample_ids]
    if missing:
        raise InputError(f"{missing[0]!r} is no longer in dataset {holder.name!r}: score the run again")
    sample_ids = [chosen.sample_ids[clip_id] for clip_id in ids]
    view = holder.select(sample_ids, ordered=True)
    if isinstance(embedding, str) and holder.has_sample_field(embedding):
        rows = view.values(embedding)
    elif isinstance(embedding, str) and holder.has_brain_run(embedding):
        rows = _brain_vectors(holder, embedding, sample_ids)
    else:
        rows = _model_vectors(view, embedding, holder.name)
    known = [np.asarray(row, np.float64).ravel() for row in rows if row is not None]
    sizes = {len(row) for row in known}
    if len(sizes) != 1:
        what = "no clip has one" if not sizes else f"they have {len(sizes)} different lengths"
        raise InputError(f"{embedding!r} of dataset {holder.name!r} cannot be compared: {what}")
    vectors_NE = np.full((len(ids), sizes.pop()), np.nan)
    for n, row in enumerate(rows):
        if row is not None:
            vectors_NE[n] = np.asarray(row, np.float64).ravel()
    return vectors_NE


def _brain_vectors(dataset: Any, key: str, sample_ids: Sequence[str]) -> list[Any]:
    results = dataset.load_brain_results(key)
    if hasattr(results, "get_embeddings"):  # a similarity index
        vectors, found, _ = results.get_embeddings(sample_ids=list(sample_ids), allow_missing=True)
    else:
        vectors, found = getattr(results, "embeddings", None), getattr(results, "sample_ids", ())
    if vectors is None:
        raise InputError(f"the brain run {key!r} keeps no embeddings: name the field they are in, or a model")
    by_id = dict(zip(map(str, found), vectors, strict=True))
    return [by_id.get(sample_id) for sample_id in sample_ids]


def _model_vectors(view: Any, embedding: Any, dataset: str) -> list[Any]:
    """A model's embeddings; where it sees pictures and not videos, the mean over a clip's frames."""
    model = embedding
    if isinstance(embedding, str):
        fiftyone()
        import fiftyone.zoo as foz

        if embedding not in foz.list_zoo_models():
            raise InputError(f"{embedding!r} is no field or brain key of dataset {dataset!r}, and no zoo model")
        try:
            model = foz.load_zoo_model(embedding)
        except Exception as error:  # no network, a missing package: FiftyOne says which
            raise InputError(f"the model {embedding!r} cannot be loaded: {' '.join(str(error).split())}") from error
    found = view.compute_embeddings(model, progress=False)
    if isinstance(found, dict):  # frames of each clip
        return [np.mean(found[i], axis=0) if found.get(i) is not None else None for i in view.values("id")]
    return list(found)


def _save(dataset: Any, record: RunRecord, name: str, sample_ids: Sequence[str]) -> Any:
    if name == SELECTION:
        return selected_view(dataset, record)
    title = view_name(record.run, f"baseline {name}")
    view = dataset.select(sample_ids, ordered=True)
    dataset.save_view(title, view, description="a baseline of the selection: no gradients", overwrite=True)
    if title not in record.views:
        record.views.append(title)
        save_run(dataset, record)  # at once: whatever comes next, it can be found and deleted
    return dataset.load_saved_view(title)


def _describe(
    name: str, view: str, taken: Sequence[str], candidates: Candidates, selection: Selection, record: RunRecord
) -> Baseline:
    chosen = set(selection.chosen.ids)
    moves = [candidates.motion[i] for i in taken if i in candidates.motion]
    budget = record.section("selection").budget
    shares = list(coverage(candidates, selection.ranking, taken, budget).values())
    return Baseline(
        name=name,
        view=view,
        clips=len(taken),
        shared=len(chosen & set(taken)) / max(1, len(chosen)),
        coverage=float(np.mean(shares)) if shares else 0.0,
        motion=float(np.mean(moves)) if moves else None,
    )
