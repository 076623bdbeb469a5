"""Curation on a FiftyOne dataset: from stored scores to the selection, its fields and views, and what-if tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from motive_fo.attribution.gradients import MASKED, UNMASKED
from motive_fo.config import Preset, SelectionConfig, merge
from motive_fo.dataset.choose import records_of
from motive_fo.dataset.connect import as_samples, dataset_of
from motive_fo.dataset.fields import write_changes
from motive_fo.dataset.queries import Query, run_queries, to_follow_and_avoid
from motive_fo.dataset.run_record import RunRecord, load_run
from motive_fo.dataset.steps import Changes, open_step
from motive_fo.dataset.views import save_motion_views, save_selection_views
from motive_fo.errors import InputError
from motive_fo.influence.curation import Candidates, Selection, WhatIf, select
from motive_fo.influence.curation import what_if as compare
from motive_fo.influence.selection import rank_clips
from motive_fo.influence.shortlist import Sketches
from motive_fo.motion.hoof import similarity
from motive_fo.store.run_store import RunStore

#: budgets and vote shares of a what-if table, besides the run's own.
BUDGETS: Final = (0.05, 0.1, 0.2, 0.3)
VOTE_SHARES: Final = (0.05, 0.1, 0.2)


@dataclass(frozen=True)
class CurateReport:
    """What a curation selected.

    Attributes:
        clips: clips with a score, among which the budget counts.
        selected: clip ids of the selection, best first.
        harmful: clip ids at the other end, worst first.
        followed, avoided: ids of the queries that counted, for and against.
        coverage: query to follow -> share of its own best clips that are selected.
        passed_over: better placed clips that were not taken -> why.
        unmet: quotas that could not be met -> share that was reached.
        views: saved view -> number of clips.
    """

    clips: int
    selected: list[str]
    harmful: list[str]
    followed: list[str] = field(default_factory=list)
    avoided: list[str] = field(default_factory=list)
    coverage: dict[str, float] = field(default_factory=dict)
    passed_over: dict[str, str] = field(default_factory=dict)
    unmet: dict[str, float] = field(default_factory=dict)
    views: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dict(self.__dict__)


def curate(
    dataset: Any,
    run: str = "motive",
    *,
    selection: SelectionConfig | Changes | None = None,
    preset: Preset | None = None,
    scored: ScoredClips | None = None,
) -> CurateReport:
    """The selection of a scored run: the fields ``votes``, ``rank``, ``selected`` and their kin, and the saved views.

    Args:
        dataset: a dataset or its name.
        run: name of the run.
        selection: settings, whole or only the ones to change; None for the run's own or the defaults.
        preset: settings to start from, ``default`` or ``paper``.
        scored: what was read of the run already; None reads it.

    Raises:
        MotiveError: wrong settings, queries the run does not have, or a run without scores.
    """
    dataset = dataset_of(as_samples(dataset))
    load_run(dataset, run)
    with open_step(dataset, run, None) as (record, run_store):
        config: SelectionConfig = record.settle("selection", selection, preset)
        scored = scored or ScoredClips.read(dataset, record, run_store)
        candidates = scored.candidates(config)
        made = select(candidates, config)
        if not made.ranking.ids:
            raise InputError(f"no clip of run {run!r} has a score: look at the fields {run}.status and {run}.code")
        _write_places(dataset, run, made, _hoof_order(scored.hoof, candidates, made), scored.sample_ids)
        views = save_selection_views(dataset, record, made, config) | save_motion_views(dataset, record)
        report = CurateReport(
            clips=len(made.ranking.ids),
            selected=made.chosen.ids,
            harmful=made.ranking.bottom(config.budget),
            followed=[q for q, avoid in zip(candidates.queries, candidates.avoid_Q, strict=True) if not avoid],
            avoided=[q for q, avoid in zip(candidates.queries, candidates.avoid_Q, strict=True) if avoid],
            coverage=made.coverage,
            passed_over=made.chosen.passed_over,
            unmet=made.chosen.unmet,
            views=views,
        )
        record.steps["curate"] = {
            "clips": report.clips,
            "selected": len(report.selected),
            "followed": len(report.followed),
            "avoided": len(report.avoided),
            "passed_over": len(report.passed_over),
            "views": views,
        }
    return report


def what_if(
    dataset: Any,
    run: str = "motive",
    *,
    budgets: Sequence[float] = (),
    vote_shares: Sequence[float] = (),
    selection: SelectionConfig | Changes | None = None,
) -> list[WhatIf]:
    """What other budgets and vote shares would select, from the stored scores; nothing is computed or changed.

    Args:
        budgets, vote_shares: shares of the clips, 0 to 1; ``BUDGETS``, ``VOTE_SHARES`` and the run's own where empty.
        selection: changes of the other settings.

    Returns:
        one row for each pair, budgets first.
    """
    dataset = dataset_of(as_samples(dataset))
    record = load_run(dataset, run)
    config: SelectionConfig = merge(record.section("selection"), selection, "selection")
    own = config.vote_share or config.budget
    for name, shares in (("budget", budgets), ("vote_share", vote_shares)):
        for share in shares:
            merge(config, {name: share}, "selection")  # says what is wrong with it
    candidates = _candidates(dataset, record, RunStore(record.store), config)
    return compare(
        candidates,
        config,
        list(budgets) or sorted({*BUDGETS, config.budget}),
        list(vote_shares) or sorted({*VOTE_SHARES, own}),
    )


def selection_of(dataset: Any, run: str = "motive") -> tuple[Candidates, Selection]:
    """The candidates of a scored run and the selection its settings make of them; nothing is written."""
    dataset = dataset_of(as_samples(dataset))
    record = load_run(dataset, run)
    config = record.section("selection")
    candidates = _candidates(dataset, record, RunStore(record.store), config)
    return candidates, select(candidates, config)


@dataclass(frozen=True)
class ScoredClips:
    """What a run's store and its dataset say of the scored clips, before settings choose among it.

    Attributes:
        run: name of the run.
        scores: name of a scoring, ``motion`` or ``whole`` -> (Q, N) cosines, NaN where unknown.
        ids: the N training clips.
        queries: the Q queries, as they are tagged and grouped now.
        motion: clip id -> mean motion in pixels per frame.
        tags, captions: clip id -> its tags and its caption.
        sample_ids: clip id -> sample id, of every clip of the dataset.
        sketches: reads the sketches of a scoring.
        hoof: reads the flow histograms of clips and queries, (len, bins).
    """

    run: str
    scores: Mapping[str, npt.NDArray[np.float32]]
    ids: list[str]
    queries: list[Query]
    motion: Mapping[str, float]
    tags: Mapping[str, Sequence[str]]
    captions: Mapping[str, str]
    sample_ids: Mapping[str, str]
    sketches: Mapping[str, Sketches]
    hoof: Sketches

    @classmethod
    def read(cls, dataset: Any, record: RunRecord, store: RunStore) -> ScoredClips:
        """Raises ``StoreError`` where the run was not scored."""
        motion_QN, query_ids, ids = store.read_scores("motion")
        motion = store.table("motion")
        known = [clip_id for clip_id in ids if clip_id in motion]
        samples = records_of(dataset)
        return cls(
            record.run,
            {"motion": motion_QN, "whole": store.read_scores("whole")[0]},
            ids,
            run_queries(dataset, record, query_ids, samples),
            {i: float(m) for i, m in zip(known, motion.read("mean", known), strict=True) if np.isfinite(m)},
            dict(zip(samples.ids, samples.samples.values("tags"), strict=True)),
            {clip.id: clip.caption for clip in samples.records},
            samples.sample_ids,
            {"motion": _sketches(store, MASKED), "whole": _sketches(store, UNMASKED)},
            partial(motion.read, "hoof"),
        )

    def candidates(self, config: SelectionConfig) -> Candidates:
        """What a selection with these settings is made from.

        Raises:
            InputError: a query or group that the run does not have, or none to follow or avoid.
        """
        used, avoid_Q = to_follow_and_avoid(self.queries, config.queries, config.avoid)
        if not len(used):
            raise InputError(f"run {self.run!r} has no query to follow or avoid: tag one 'query', or name it")
        if config.score == "difference":
            scores_QN = self.scores["motion"] - self.scores["whole"]
        else:
            scores_QN = self.scores[config.score]
        return Candidates(
            scores_QN[used],
            self.ids,
            [self.queries[n].id for n in used],
            avoid_Q,
            motion=self.motion,
            tags=self.tags,
            captions=self.captions,
            sketches=self.sketches["whole" if config.score == "whole" else "motion"],
        )


def _candidates(dataset: Any, record: RunRecord, store: RunStore, config: SelectionConfig) -> Candidates:
    return ScoredClips.read(dataset, record, store).candidates(config)


def _sketches(store: RunStore, side: int) -> Sketches:
    """Reads sketches so that their cosine is the mean over timesteps and noises of the single cosines."""

    def read(ids: Sequence[str]) -> npt.NDArray[np.float32]:
        sketch_NSD = store.sketches("train").read("sketch", ids)[:, :, side].astype(np.float64)
        unit_NSD = sketch_NSD / np.linalg.norm(sketch_NSD, axis=-1, keepdims=True)
        return np.asarray(unit_NSD.reshape(len(ids), -1), np.float32)

    return read


def _write_places(
    dataset: Any, run: str, made: Selection, hoof_order: Sequence[str], holders: Mapping[str, str]
) -> None:
    """Votes and places. A clip that lost its score or its place since the last curation loses the field's value."""
    ranking = made.ranking
    values: dict[str, Mapping[str, int]] = {
        "votes": dict(zip(ranking.ids, map(int, ranking.votes), strict=True)),
        "harmful_votes": dict(zip(ranking.ids, map(int, ranking.harm), strict=True)),
    }
    for name, order in (
        ("rank", ranking.by_votes),
        ("influence_rank", ranking.by_mean),
        ("hoof_rank", hoof_order),
        ("selected", made.chosen.ids),
    ):
        values[name] = {clip_id: place for place, clip_id in enumerate(order, 1)}
    columns = {
        name: {holders[clip_id]: value for clip_id, value in of_clip.items() if clip_id in holders}
        for name, of_clip in values.items()
    }
    write_changes(dataset, run, columns)


def _hoof_order(hoof: Sketches, candidates: Candidates, made: Selection) -> list[str]:
    """The scored clips by mean percentile rank of their flow histograms' similarity with those of the queries."""
    ids = made.ranking.ids
    alike_QN = similarity(hoof(candidates.queries), hoof(ids)).astype(np.float32)
    return rank_clips(alike_QN, ids, 1.0, candidates.avoid_Q).by_mean
