"""The steps on a FiftyOne dataset: choose clips, compute into the run's store, write fields, views and record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from motive_fo.config import (
    AttributionConfig,
    ClipConfig,
    ExportConfig,
    FlowConfig,
    InfluenceConfig,
    MotionConfig,
    SelectionConfig,
    merge,
)
from motive_fo.dataset.choose import Chosen, choose_queries, choose_train, records_of
from motive_fo.dataset.connect import as_samples, dataset_of
from motive_fo.dataset.fields import declare_fields, write_gradients, write_motion, write_states, write_values
from motive_fo.dataset.run_record import RunRecord, drop_run, has_run, load_run, open_run, save_run
from motive_fo.dataset.views import save_motion_views, save_selection_views, selected_view
from motive_fo.errors import InputError, MotiveError
from motive_fo.exporters.base import ExportItem, ExportReport
from motive_fo.exporters.registry import build_exporter
from motive_fo.influence.selection import Ranking, percentile_ranks, rank_clips, scored_clips
from motive_fo.models.registry import load_model, model_card
from motive_fo.motion.hoof import similarity
from motive_fo.pipeline.motion import MotionSettings, compute_motion_table
from motive_fo.pipeline.report import StepReport
from motive_fo.progress import Progress, silent
from motive_fo.store.run_store import RunStore, delete_store

Changes = Mapping[str, Any]


def compute_motion(
    samples: Any,
    run: str = "motive",
    *,
    clip: ClipConfig | Changes | None = None,
    flow: FlowConfig | Changes | None = None,
    motion: MotionConfig | Changes | None = None,
    model: str | None = None,
    store: str | Path | None = None,
    retry_failed: bool = False,
    progress: Progress = silent,
) -> StepReport:
    """Motion of every clip: fields, and the views ``static`` and ``failed``. No gradients.

    Args:
        samples: a dataset, a view, or a dataset's name.
        run: name of the run; an existing run is continued with its own settings.
        clip, flow, motion: settings, whole or only the ones to change; None for the run's own or the defaults.
        model: the model whose latent grid the masks are made for.
        store: folder of the run's store; the data folder of motive where open.
        retry_failed: compute clips again that failed before.

    Raises:
        MotiveError: wrong settings, another run's store, no such dataset. A clip's failure is recorded on its sample
        instead.
    """
    samples = as_samples(samples)
    dataset = dataset_of(samples)
    with _step(dataset, run, store) as (record, run_store):
        settings = _motion_settings(record, clip, flow, motion, {"model": model} if model else None)
        chosen = records_of(samples)
        report = compute_motion_table(chosen.records, run_store, settings, retry_failed=retry_failed, progress=progress)
        _write_motion_results(dataset, record, chosen, run_store)
        record.steps["motion"] = report.as_dict()
    return report


def compute_gradients(
    dataset: Any,
    run: str = "motive",
    *,
    train: Any | None = None,
    query: Any | None = None,
    clip: ClipConfig | Changes | None = None,
    flow: FlowConfig | Changes | None = None,
    motion: MotionConfig | Changes | None = None,
    attribution: AttributionConfig | Changes | None = None,
    store: str | Path | None = None,
    retry_failed: bool = False,
    progress: Progress = silent,
) -> dict[str, StepReport]:
    """Gradient sketches of training and query clips, and the motion of those that have none yet.

    Only what is missing is computed: adding clips or queries, or starting again after an interruption, touches nothing
    else.

    Args:
        dataset: a dataset or its name.
        train: training clips: a view, or the name of a tag or saved view; the tag ``train`` where open.
        query: query clips: a view, or the name of a tag, saved view or second dataset; the tag ``query`` where open.

    Other arguments and errors as for ``compute_motion``.

    Returns:
        reports for ``query`` and ``train``.
    """
    from motive_fo.pipeline.gradients import GradientSettings, compute_sketch_table

    dataset = dataset_of(as_samples(dataset))
    with _step(dataset, run, store) as (record, run_store):
        clips = _choose_clips(dataset, record, train, query)
        settings = _motion_settings(record, clip, flow, motion, attribution)
        config = record.section("attribution")
        gradient_settings = GradientSettings.build(settings, config, load_model(config.model, config.device))
        reports: dict[str, StepReport] = {}
        for role in ("query", "train"):
            reports[role] = compute_sketch_table(
                clips[role].records,
                run_store,
                gradient_settings,
                "query" if role == "query" else "train",
                retry_failed=retry_failed,
                progress=progress,
            )
            holder = dataset_of(clips[role].samples)
            if holder.name != dataset.name:
                declare_fields(holder, run)
            _write_motion_results(holder, record, clips[role], run_store, views=holder.name == dataset.name)
            write_gradients(holder, run, clips[role], run_store.table(role))
            record.steps[f"{role} gradients"] = reports[role].as_dict()
    return reports


def score_influence(
    dataset: Any,
    run: str = "motive",
    *,
    train: Any | None = None,
    query: Any | None = None,
    influence: InfluenceConfig | Changes | None = None,
    progress: Progress = silent,
) -> StepReport:
    """Influence of every training clip on the queries, from the stored sketches: the fields ``influence`` and its kin.

    Arguments as for ``compute_gradients``. The cosines of each query stay in the store: ``query_scores``.
    """
    from motive_fo.pipeline.scoring import score

    dataset = dataset_of(as_samples(dataset))
    load_run(dataset, run)
    with _step(dataset, run, None) as (record, run_store):
        clips = _choose_clips(dataset, record, train, query)
        config = record.settle("influence", influence)
        scores, report = score(clips["train"].ids, clips["query"].ids, run_store, config, progress=progress)
        motion_rank, whole_rank = _mean_rank(scores.motion_QN), _mean_rank(scores.whole_QN)
        for name, values in (
            ("influence", motion_rank),
            ("whole_influence", whole_rank),
            ("influence_difference", motion_rank - whole_rank),
        ):
            plain_values = [float(v) if np.isfinite(v) else None for v in values]
            sample_ids = [clips["train"].sample_ids[i] for i in scores.train_ids]
            write_values(dataset, run, name, dict(zip(sample_ids, plain_values, strict=True)))
        write_states(dataset, run, clips["train"], run_store)
        record.steps["influence"] = report.as_dict()
    return report


@dataclass(frozen=True)
class CurateReport:
    """What a curation selected.

    Attributes:
        clips: clips with a score, among which the budget counts.
        selected: clip ids of the selection, best first.
        harmful: clip ids at the other end, worst first.
        views: saved view -> number of clips.
    """

    clips: int
    selected: list[str]
    harmful: list[str]
    views: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dict(self.__dict__)


def curate(
    dataset: Any,
    run: str = "motive",
    *,
    selection: SelectionConfig | Changes | None = None,
) -> CurateReport:
    """The selection of a scored run: the fields ``votes``, ``rank``, ``influence_rank`` and the saved views."""
    dataset = dataset_of(as_samples(dataset))
    load_run(dataset, run)
    with _step(dataset, run, None) as (record, run_store):
        config: SelectionConfig = record.settle("selection", selection)
        scores_QN, query_ids, train_ids = run_store.read_scores("motion")
        ranking = rank_clips(scores_QN, train_ids, config)
        if not ranking.ids:
            raise InputError(f"no clip of run {run!r} has a score: look at the fields {run}.status and {run}.code")
        # a clip that lost its score since the last curation loses its place too
        holders = records_of(dataset).sample_ids
        cleared = dict.fromkeys(holders.values())
        votes = {holders[i]: int(v) for i, v in zip(ranking.ids, ranking.votes, strict=True) if i in holders}
        places = {holders[i]: place for place, i in enumerate(ranking.by_votes, 1) if i in holders}
        rank_places = {holders[i]: place for place, i in enumerate(ranking.by_rank, 1) if i in holders}
        hoof_order = enumerate(_hoof_order(run_store, query_ids, ranking), 1)
        hoof_places = {holders[i]: place for place, i in hoof_order if i in holders}
        orders = (("votes", votes), ("rank", places), ("influence_rank", rank_places), ("hoof_rank", hoof_places))
        for name, values in orders:
            write_values(dataset, run, name, {**cleared, **values})
        views = save_selection_views(dataset, record, ranking, config) | save_motion_views(dataset, record)
        report = CurateReport(len(ranking.ids), ranking.top(config), ranking.bottom(config), views)
        record.steps["curate"] = {"clips": report.clips, "selected": len(report.selected), "views": views}
    return report


def export(
    samples: Any,
    folder: str | Path,
    run: str = "motive",
    *,
    config: ExportConfig | Changes | None = None,
    progress: Progress = silent,
) -> ExportReport:
    """Write clips as a trainer reads them: media, listing and a manifest. Complete or absent.

    Args:
        samples: a view to export as it is, or a dataset (or its name) for the run's selection.
        folder: must be new, empty, or, with ``overwrite``, an earlier export.
    """
    samples = as_samples(samples)
    dataset = dataset_of(samples)
    record = load_run(dataset, run)
    view = selected_view(dataset, record) if samples is dataset else samples
    given: ExportConfig = merge(ExportConfig(), config, "export")
    exporter = build_exporter(given.layout)
    spec = record.section("clip").resolve(model_card(record.section("attribution").model))
    report = exporter.write(
        _export_items(view, run),
        Path(folder).expanduser(),
        config=given,
        spec=spec,
        about={
            "dataset": dataset.name,
            "run": run,
            "view": getattr(view, "name", None),
            "settings": record.settings,
            "steps": record.steps,
        },
        progress=progress,
    )
    if report.folder not in record.exports:
        record.exports.append(report.folder)
    save_run(dataset, record)
    return report


def query_scores(dataset: Any, query: str, run: str = "motive") -> dict[str, float]:
    """Cosines of one query with every scored training clip, from the store: clip id -> cosine, highest first."""
    dataset = dataset_of(as_samples(dataset))
    scores_QN, queries, train = RunStore(load_run(dataset, run).store).read_scores("motion")
    if query not in queries:
        raise InputError(f"{query!r} is no query of run {run!r}; it has: {', '.join(queries[:10])}")
    row = scores_QN[queries.index(query)]
    return {train[n]: float(row[n]) for n in np.argsort(-row, kind="stable") if np.isfinite(row[n])}


def delete_run(dataset: Any, run: str = "motive", *, keep_store: bool = False) -> RunRecord:
    """Remove everything a run wrote: fields, views, store, record. Exported folders belong to the user and stay.

    Returns:
        the record as it was, which names the exports.
    """
    dataset = dataset_of(as_samples(dataset))
    record = load_run(dataset, run)
    if not keep_store:
        delete_store(record.store)
    drop_run(dataset, record)
    return record


@contextmanager
def _step(dataset: Any, run: str, store: str | Path | None) -> Iterator[tuple[RunRecord, RunStore]]:
    """A run's record and its store, held for writing. The record is saved before a new run's first step and after."""
    new = not has_run(dataset, run)
    record = open_run(dataset, run, store)
    with RunStore(record.store, write=True) as run_store:
        if new:
            record.groups = [run]
            declare_fields(dataset, run)
            save_run(dataset, record)  # whatever comes next, the run can be found and deleted
        try:
            yield record, run_store
        except MotiveError:
            if new:  # refused before anything was computed: leave no trace
                drop_run(dataset, record)
            raise
        save_run(dataset, record)


def _motion_settings(
    record: RunRecord, clip: Any, flow: Any, motion: Any, attribution: AttributionConfig | Changes | None
) -> MotionSettings:
    config: AttributionConfig = record.settle("attribution", attribution)
    return MotionSettings.build(
        record.settle("clip", clip),
        record.settle("flow", flow),
        record.settle("motion", motion),
        model_card(config.model),
    )


def _choose_clips(dataset: Any, record: RunRecord, train: Any | None, query: Any | None) -> dict[str, Chosen]:
    """Training and query clips, by what is given or by how the run chose them before; names are noted in the record."""
    clips = {
        "train": records_of(choose_train(dataset, record.train if train is None else train)),
        "query": records_of(choose_queries(dataset, record.query if query is None else query)),
    }
    for role, chosen in clips.items():
        if not chosen.records:
            raise InputError(f"there are no {role} clips in what was chosen for them")
    record.train = train if isinstance(train, str) else record.train
    record.query = query if isinstance(query, str) else record.query
    holder = dataset_of(clips["query"].samples).name
    record.query_dataset = holder if holder != dataset.name else record.query_dataset
    return clips


def _write_motion_results(
    dataset: Any, record: RunRecord, chosen: Chosen, store: RunStore, *, views: bool = True
) -> None:
    write_motion(dataset, record.run, chosen, store.table("motion"))
    write_states(dataset, record.run, chosen, store)
    if views:
        save_motion_views(dataset, record)


def _hoof_order(store: RunStore, query_ids: list[str], ranking: Ranking) -> list[str]:
    """The scored clips by mean percentile rank of their flow histograms' similarity with the queries'."""
    table = store.table("motion")
    alike_QN = similarity(table.read("hoof", query_ids), table.read("hoof", ranking.ids))
    return rank_clips(alike_QN.astype(np.float32), ranking.ids, SelectionConfig()).by_rank


def similar_motion(dataset: Any, clip_id: str, run: str = "motive") -> dict[str, float]:
    """Clips that move like this one: clip id -> similarity of flow histograms (HOOF) in [0, 1], most alike first.

    Needs no gradients, only ``compute_motion``. Clips in which nothing moves are left out.
    """
    dataset = dataset_of(as_samples(dataset))
    table = RunStore(load_run(dataset, run).store).table("motion")
    ids = [i for i in records_of(dataset).ids if i in table and i != clip_id]
    if clip_id not in table:
        raise InputError(f"run {run!r} knows no motion of {clip_id!r}: give a motive_id of the dataset")
    alike_N = similarity(table.read("hoof", [clip_id]), table.read("hoof", ids))[0]
    if not np.isfinite(alike_N).any():
        raise InputError(f"{clip_id!r} cannot be compared: it failed or nothing moves in it")
    return {ids[n]: float(alike_N[n]) for n in np.argsort(-alike_N, kind="stable") if np.isfinite(alike_N[n])}


def _mean_rank(scores_QN: Any) -> Any:
    """Mean percentile rank of each clip, NaN where it has no score."""
    scored = scored_clips(scores_QN)
    ranks = np.full(scores_QN.shape[1], np.nan)
    ranks[scored] = percentile_ranks(scores_QN[:, scored]).mean(0)
    return ranks


def _export_items(view: Any, run: str) -> list[ExportItem]:
    names = ("influence", "votes", "rank", "motion_mean")
    columns = [view.values(f"{run}.{name}") for name in names]
    return [
        ExportItem(record.id, record.path, record.caption, record.start, dict(zip(names, values, strict=True)))
        for record, *values in zip(records_of(view).records, *columns, strict=True)
    ]
