"""The steps on a FiftyOne dataset: choose clips, compute into the run's store, write fields, views and record."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from motive_fo.config import (
    AttributionConfig,
    ClipConfig,
    EngineConfig,
    FlowConfig,
    InfluenceConfig,
    MotionConfig,
    Preset,
    merge,
    plain,
)
from motive_fo.dataset.captions import (
    caption_notes,
    require_captions_kept,
    settle_attribution,
    settle_caption_field,
)
from motive_fo.dataset.choose import Chosen, choose_queries, choose_train, ids_of, records_of
from motive_fo.dataset.connect import as_samples, dataset_id, dataset_of, make_durable
from motive_fo.dataset.fields import (
    FIELDS,
    are_declared,
    clear_fields,
    declare_fields,
    strangers,
    write_fields,
    write_gradients,
    write_motion,
    write_states,
)
from motive_fo.dataset.overlay_files import remove_overlays
from motive_fo.dataset.ownership import (
    claim,
    held_by,
    notice,
    open_run,
    open_store,
    owner_of,
    register_once,
    require_own,
)
from motive_fo.dataset.queries import run_queries
from motive_fo.dataset.rates import note_rate
from motive_fo.dataset.run_record import (
    RunRecord,
    drop_run,
    encodings_folder,
    has_run,
    load_run,
    measured_folder,
    save_run,
)
from motive_fo.dataset.stale import GENERATION, stale_clips, stale_sentence
from motive_fo.dataset.toy_model import toy_notes
from motive_fo.dataset.views import save_motion_views
from motive_fo.errors import (
    FailureLimitError,
    InputError,
    MotiveError,
    StoreError,
    is_out_of_memory,
    not_enough_memory,
)
from motive_fo.flow.registry import settle_estimator
from motive_fo.influence.checkpoints import checkpoint_weights
from motive_fo.influence.doubt import rank_doubts
from motive_fo.influence.selection import best_clips, mean_ranks
from motive_fo.models.registry import attributed_model, model_card
from motive_fo.motion.hoof import similarity
from motive_fo.pipeline.crew import open_crew
from motive_fo.pipeline.motion import MotionSettings, compute_motion_table
from motive_fo.pipeline.report import StepReport
from motive_fo.progress import Progress, silent
from motive_fo.store.address import is_url
from motive_fo.store.place import is_of_storage
from motive_fo.store.run_store import Role, RunStore, delete_store
from motive_fo.store.shards import Shard
from motive_fo.store.table import Status

Changes = Mapping[str, Any]

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def compute_motion(
    samples: Any,
    run: str = "motive",
    *,
    clip: ClipConfig | Changes | None = None,
    flow: FlowConfig | Changes | None = None,
    motion: MotionConfig | Changes | None = None,
    model: str | None = None,
    engine: EngineConfig | Changes | None = None,
    store: str | Path | None = None,
    preset: Preset | None = None,
    retry_failed: bool = False,
    shard: str | None = None,
    progress: Progress = silent,
) -> StepReport:
    """Motion of every clip: fields, and the views ``static`` and ``failed``. No gradients.

    Args:
        samples: a dataset, a view, or a dataset's name.
        run: name of the run; an existing run is continued with its own settings.
        clip, flow, motion: settings, whole or only the ones to change; None for the run's own or the defaults.
        model: the model whose latent grid the masks are made for.
        engine: which processes do the work: this machine, or the workers of a Ray cluster. A run does not keep it.
        store: folder of the run's store; the data folder of motive where open.
        preset: settings to start from, ``default`` or ``paper``; those given apart win. A run keeps what it was begun
            with, so another preset for a run that has results is refused like any other changed setting.
        retry_failed: compute clips again that failed before.
        shard: ``2/8`` computes the second eighth of the clips into a store of its own beside the run's, and writes
            nothing to the dataset but a new run's record: one job of an array. ``store.merge.merge_stores`` joins them;
            the step without ``shard`` then finds everything computed.

    Raises:
        MotiveError: wrong settings, another run's store, no such dataset. A clip's failure is recorded on its sample
        instead.
    """
    samples = as_samples(samples)
    dataset = dataset_of(samples)
    part = None if shard is None else Shard.parse(shard)
    with open_step(dataset, run, store, preset, part) as (record, run_store):
        settings = _motion_settings(record, clip, flow, motion, {"model": model} if model else None, preset)
        chosen = records_of(samples).part(part)
        where = merge(EngineConfig(), engine, "engine")
        with open_crew(where, settings) as crew:
            try:
                report = compute_motion_table(
                    chosen.records,
                    run_store,
                    settings,
                    known=measured_folder(),
                    crew=crew,
                    retry_failed=retry_failed,
                    max_failed=where.max_failed,
                    progress=progress,
                )
            except FailureLimitError:
                _write_motion_results(dataset, record, chosen, run_store, progress)
                raise
        _write_motion_results(dataset, record, chosen, run_store, progress)
        _clear_strangers(dataset, run_store, record.run, report)
        record.steps["motion"] = report.as_dict()
        if crew is None:  # a rate of this machine
            note_rate("motion", report)
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
    engine: EngineConfig | Changes | None = None,
    store: str | Path | None = None,
    preset: Preset | None = None,
    retry_failed: bool = False,
    shard: str | None = None,
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
    part = None if shard is None else Shard.parse(shard)
    with open_step(dataset, run, store, preset, part) as (record, run_store):
        settings = _motion_settings(record, clip, flow, motion, attribution, preset)
        notes = settle_caption_field(dataset, record)
        config = record.section("attribution")
        clips = _choose_clips(dataset, record, train, query, captions=True)
        clips = {role: chosen.part(part) for role, chosen in clips.items()}
        about = {}
        for role, chosen in clips.items():
            holder = dataset_of(chosen.samples)
            require_captions_kept(holder, record, run_store, role, chosen.records)
            about[role] = [*notes, *caption_notes(holder, record, role, chosen.records)]
        about["train"] += toy_notes(dataset, record)
        where = merge(EngineConfig(), engine, "engine")
        reports: dict[str, StepReport] = {}
        roles: tuple[Role, ...] = ("query", "train")
        with open_crew(where, settings, config) as crew:
            model = attributed_model(config, settings.spec) if crew is None else crew.model
            gradient_settings = GradientSettings.build(settings, config, model)
            for role in roles:
                try:
                    reports[role] = compute_sketch_table(
                        clips[role].records,
                        run_store,
                        gradient_settings,
                        role,
                        known_motion=measured_folder(),
                        kept_encodings=encodings_folder() if config.keep_encodings else None,
                        crew=crew,
                        retry_failed=retry_failed,
                        max_failed=where.max_failed,
                        progress=progress,
                    )
                except FailureLimitError:
                    _write_sketch_results(dataset, record, clips[role], run_store, role, progress)
                    raise
                _write_sketch_results(dataset, record, clips[role], run_store, role, progress)
                reports[role].notes += about[role]
                _clear_strangers(dataset, run_store, record.run, reports[role])
                last = record.steps.get(f"{role} gradients", {}).get(GENERATION, 0)
                generation = record.generation if reports[role].computed else last
                record.steps[f"{role} gradients"] = {**reports[role].as_dict(), GENERATION: generation}
                if crew is None:  # a rate of this machine
                    note_rate(f"{role} gradients", reports[role])
    return reports


def score_influence(
    dataset: Any,
    run: str = "motive",
    *,
    train: Any | None = None,
    query: Any | None = None,
    influence: InfluenceConfig | Changes | None = None,
    preset: Preset | None = None,
    progress: Progress = silent,
) -> StepReport:
    """Influence of every training clip on the queries, from the stored sketches: the fields ``influence`` and its kin.

    Arguments as for ``compute_gradients``. The scores of each query stay in the store: ``query_scores``.
    ``influence.checkpoints`` names other runs of the dataset, with the same clips and settings and another checkpoint.
    """
    from motive_fo.pipeline.scoring import queries_in_training, score

    dataset = dataset_of(as_samples(dataset))
    load_run(dataset, run)
    with open_step(dataset, run, None) as (record, run_store):
        clips = _choose_clips(dataset, record, train, query)
        config = record.settle("influence", influence, preset)
        others = checkpoint_stores(dataset, config)
        scores, report = score(
            clips["train"].ids, clips["query"].ids, run_store, config, others=others, progress=progress
        )
        again = queries_in_training(run_store.table("motion"), scores.train_ids, scores.query_ids)
        if again:
            first = " is ".join(next(iter(again.items())))
            report.notes.append(
                f"{len(again)} of {len(scores.query_ids)} queries are training clips too ({first}): "
                "each finds its own video first; leave them out of one of the two"
            )
        for chosen, what in ((clips["train"], "clips"), (clips["query"], "queries")):
            if stale := stale_clips(chosen.samples, record, run_store):
                report.notes.append(stale_sentence(stale, what))
        avoid_Q = np.asarray([q.avoid for q in run_queries(dataset, record, scores.query_ids)], np.bool_)
        motion_rank, whole_rank, avoid_rank = (
            mean_ranks(rows, np.flatnonzero(chosen_Q).tolist())
            for rows, chosen_Q in ((scores.motion, ~avoid_Q), (scores.whole, ~avoid_Q), (scores.motion, avoid_Q))
        )
        doubts = rank_doubts(scores.without, np.flatnonzero(~avoid_Q).tolist())
        if doubts is not None and np.isfinite(doubts).any():
            report.notes.append(
                f"other timesteps and noises would move a clip's rank by {np.nanmedian(doubts):.1f} of 100 points "
                "(median, the field influence_doubt)"
            )
        columns = {
            "influence": motion_rank,
            "influence_doubt": np.full(len(motion_rank), np.nan) if doubts is None else doubts,
            "whole_influence": whole_rank,
            "influence_difference": motion_rank - whole_rank,
            "avoid_influence": avoid_rank,
        }
        report.notes += toy_notes(dataset, record)
        scored = [clips["train"].sample_ids[i] for i in scores.train_ids]
        # those that were scored before and are not among the clips any more, or came with figures of another run
        once = set(ids_of(dataset.match({f"{run}.influence": {"$ne": None}})).values()).difference(scored)
        clear_fields(dataset, run, sorted(once), list(columns))
        write_fields(dataset, run, scored, columns, progress)
        write_states(dataset, run, clips["train"], run_store, progress)
        record.steps["influence"] = {**report.as_dict(), GENERATION: record.generation}
    return report


def checkpoint_stores(dataset: Any, config: InfluenceConfig) -> dict[str, RunStore]:
    """The stores of the runs that ``checkpoints`` names, for ``pipeline.scoring``. Raises ``MotiveError``."""
    return {name: open_store(load_run(dataset, name)) for name in checkpoint_weights(config.checkpoints)}


def query_scores(dataset: Any, query: str, run: str = "motive") -> dict[str, float]:
    """Cosines of one query with every scored training clip, from the store: clip id -> cosine, highest first."""
    dataset = dataset_of(as_samples(dataset))
    scores = open_store(load_run(dataset, run)).scores("motion")
    if query not in scores.query_ids:
        raise InputError(f"{query!r} is no query of run {run!r}; it has: {', '.join(scores.query_ids[:10])}")
    row = scores[scores.query_ids.index(query)]
    return {scores.train_ids[n]: float(row[n]) for n in best_clips(row, len(row)).tolist()}


def group_norms(
    dataset: Any, run: str = "motive", *, role: Role = "train", masked: bool = False, sample: int = 0
) -> dict[str, dict[str, float]]:
    """Gradient norms by group of parameters, from the store: clip id -> group -> norm.

    A group is a numbered block (``blocks.3``) or what else the network's names begin with. The squares of a clip's
    norms sum to the square of its whole gradient's.

    Args:
        role: ``train`` or ``query``.
        masked: of the motion-weighted loss instead of the ordinary one; static clips have none.
        sample: which of the run's timesteps and noises, counted from 0 with the noises of a timestep together.

    Raises:
        MotiveError: no such run, no gradients yet, or no such sample.
    """
    dataset = dataset_of(as_samples(dataset))
    sketches = open_store(load_run(dataset, run)).sketches(role)
    if not 0 <= sample < len(sketches.samples):
        raise InputError(f"run {run!r} has {len(sketches.samples)} timesteps and noises: sample is 0 or more, and less")
    ids = [clip_id for clip_id in sketches.ids if sketches.status(clip_id) in (Status.DONE, Status.STATIC)]
    norm_NG = np.sqrt(sketches.read("squares", ids)[:, sample, :, int(masked)])
    return {
        clip_id: dict(zip(sketches.groups, norm_G.tolist(), strict=True))
        for clip_id, norm_G in zip(ids, norm_NG, strict=True)
        if np.isfinite(norm_G).all()
    }


@dataclass(frozen=True)
class DeletedRun:
    """What is left of a run that was deleted.

    Attributes:
        run: its name.
        exports: folders it exported to.
        kept: why its store was left in place; None where it was deleted.
    """

    run: str
    exports: list[str]
    kept: str | None


def delete_run(dataset: Any, run: str = "motive", *, keep_store: bool = False) -> DeletedRun:
    """Remove everything a run wrote: fields, views, maps, workspaces, overlays, store, record. Exported folders belong
    to the user and stay, and so does what belongs to another run: the store, overlays and queries of which a clone's
    record is a copy.
    """
    dataset = dataset_of(as_samples(dataset))
    record = load_run(dataset, run)
    whose = held_by(record)
    if keep_store:
        kept = f"the store {record.store} was kept, as asked"
    elif whose in ("own", None):
        kept = None
        delete_store(record.store)
    else:
        kept = f"{notice(record)}: it was left in place"
    if not record.is_copy:
        remove_overlays(dataset, record)
    drop_run(dataset, record)
    return DeletedRun(run, record.exports, kept)


@contextmanager
def open_step(
    dataset: Any,
    run: str,
    store: str | Path | None,
    preset: Preset | None = None,
    shard: Shard | None = None,
    *,
    writes: bool = True,
) -> Iterator[tuple[RunRecord, RunStore]]:
    """A run's record and its store, held for writing. The record is saved before a new run's first step and after.

    With ``shard`` the store is the shard's, and nothing but a new run's record is written to the dataset. A step that
    only reads the store (``writes`` False) goes on with one that belongs to another run, and holds it only if it owns
    it.

    Raises:
        StoreError: the store belongs to another run.
    """
    new = not has_run(dataset, run)
    record = open_run(dataset, run, store)
    if new and preset is not None:
        record.preset = preset
    record.groups = record.groups or [run]
    if shard is not None:
        if new:
            record = register_once(dataset, record)
        with RunStore(shard.place(record.store), write=True) as run_store:
            require_own(record, run_store)
            run_store.note_shard(str(shard))
            if record.id:
                run_store.note_owner(owner_of(dataset, record))
            yield record, run_store
        return
    if not writes and held_by(record) not in ("own", None):
        yield record, open_store(record)
        save_run(dataset, record)
        return
    with RunStore(record.store, write=True) as run_store:
        if not new:  # another step may have ended since it was read
            dataset.reload()
            record = load_run(dataset, run)
        require_own(record, run_store)
        if writes:
            # the record first: if a kill comes between the two, it is ahead of the store, and still the owner's
            claimed = claim(dataset, record, new=new)
            save_run(dataset, record)  # before its fields: whatever comes next, the run can be found and deleted
            run_store.note_owner(claimed)
        if not are_declared(dataset, run):  # new, or killed while they were made
            declare_fields(dataset, run)
        try:
            yield record, run_store
        except FailureLimitError:
            save_run(dataset, record)  # what was computed is kept, to be continued
            raise
        except MotiveError:
            if new:  # refused before anything was computed: leave no trace
                drop_run(dataset, record)
            raise
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise not_enough_memory(error) from error
        except Exception as error:
            if is_url(record.store) and is_of_storage(error):
                mend = f"{error}; mend the connection"
            elif isinstance(error, OSError) and error.errno in _OF_THE_DISK:
                mend = f"{error.strerror}; make room or mend the disk"
            else:
                raise
            raise StoreError(
                f"cannot write to {record.store}: {mend}, then run the step again: what was written is kept"
            ) from error
        save_run(dataset, record)
        run_store.note_owner(owner_of(dataset, record))  # with the settings it has now
        make_durable(dataset)


def _motion_settings(
    record: RunRecord,
    clip: Any,
    flow: Any,
    motion: Any,
    attribution: AttributionConfig | Changes | None,
    preset: Preset | None,
) -> MotionSettings:
    config = settle_attribution(record, attribution, preset)
    return MotionSettings.build(
        record.settle("clip", clip),
        _settle_flow(record, flow, preset),
        record.settle("motion", motion, preset),
        model_card(config.model),
    )


def _settle_flow(record: RunRecord, flow: Any, preset: Preset | None) -> FlowConfig:
    """The flow settings with the estimator by name: a run goes on with the one it was begun with."""
    known = record.settings.get("flow", {}).get("estimator")
    config: FlowConfig = record.settle("flow", flow, preset)
    if config.estimator == "auto":
        config = replace(config, estimator=known) if known else settle_estimator(config)
        record.settings["flow"] = plain(config)
    return config


def _choose_clips(
    dataset: Any, record: RunRecord, train: Any | None, query: Any | None, *, captions: bool = False
) -> dict[Role, Chosen]:
    """Training and query clips, by what is given or by how the run chose them before; names are noted in the record.
    With ``captions`` these have to be the run's."""
    samples: dict[Role, Any] = {
        "train": choose_train(dataset, record.train if train is None else train),
        "query": choose_queries(dataset, record.query if query is None else query),
    }
    holder = dataset_of(samples["query"])
    if holder.name != dataset.name:
        record.query_dataset, record.query_dataset_id = holder.name, dataset_id(holder)
    clips = {role: records_of(each, record if captions else None) for role, each in samples.items()}
    for role, chosen in clips.items():
        if not chosen.records:
            raise InputError(f"there are no {role} clips in what was chosen for them")
    record.train = train if isinstance(train, str) else record.train
    record.query = query if isinstance(query, str) else record.query
    return clips


def _write_motion_results(
    dataset: Any, record: RunRecord, chosen: Chosen, store: RunStore, progress: Progress, *, views: bool = True
) -> None:
    if store.shard:  # one job of an array: the dataset may be out of its reach
        return
    write_motion(dataset, record.run, chosen, store.table("motion"), progress)
    write_states(dataset, record.run, chosen, store, progress)
    if views:
        save_motion_views(dataset, record)


def _write_sketch_results(
    dataset: Any, record: RunRecord, chosen: Chosen, store: RunStore, role: Role, progress: Progress
) -> None:
    """Motion, loss and gradient norm of a role's clips, in the dataset that holds them."""
    if store.shard:
        return
    holder = dataset_of(chosen.samples)
    if holder.name != dataset.name:
        declare_fields(holder, record.run)
    _write_motion_results(holder, record, chosen, store, progress, views=holder.name == dataset.name)
    write_gradients(holder, record.run, chosen, store.sketches(role), progress)


def _clear_strangers(dataset: Any, store: RunStore, run: str, report: StepReport) -> None:
    if store.shard:
        return
    found = strangers(dataset, run, store)
    if found:
        clear_fields(dataset, run, list(found.values()), list(FIELDS))
        report.notes.append(
            f"{len(found)} clips bore figures that this run did not compute ({next(iter(found))}), as clips do that "
            "are merged in from a dataset with a run of this name: their fields were emptied"
        )


def similar_motion(dataset: Any, clip_id: str, run: str = "motive") -> dict[str, float]:
    """Clips that move like this one: clip id -> similarity of flow histograms (HOOF) in [0, 1], most alike first.

    Needs no gradients, only ``compute_motion``. Clips in which nothing moves are left out.
    """
    dataset = dataset_of(as_samples(dataset))
    table = open_store(load_run(dataset, run)).table("motion")
    ids = [i for i in records_of(dataset).ids if i in table and i != clip_id]
    if clip_id not in table:
        raise InputError(f"run {run!r} knows no motion of {clip_id!r}: give a motive_id of the dataset")
    alike_N = similarity(table.read("hoof", [clip_id]), table.read("hoof", ids))[0]
    if not np.isfinite(alike_N).any():
        raise InputError(f"{clip_id!r} cannot be compared: it failed or nothing moves in it")
    return {ids[n]: float(alike_N[n]) for n in np.argsort(-alike_N, kind="stable") if np.isfinite(alike_N[n])}
