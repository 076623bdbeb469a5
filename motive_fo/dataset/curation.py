"""Curation on a FiftyOne dataset: from stored scores to the selection, its fields and views, and what-if tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from motive_fo.attribution.gradients import MASKED, UNMASKED
from motive_fo.config import Preset, SelectionConfig, merge
from motive_fo.dataset.captions import caption_field
from motive_fo.dataset.choose import ids_of, samples_with, values_of
from motive_fo.dataset.connect import as_samples, dataset_of
from motive_fo.dataset.fields import write_fields
from motive_fo.dataset.ownership import open_store
from motive_fo.dataset.queries import Query, run_queries, to_follow_and_avoid
from motive_fo.dataset.run_record import RunRecord, load_run
from motive_fo.dataset.stale import scored_before_gradients, stale_clips, stale_sentence
from motive_fo.dataset.steps import Changes, open_step
from motive_fo.dataset.toy_model import toy_notes
from motive_fo.dataset.views import save_motion_views, save_selection_views
from motive_fo.errors import InputError
from motive_fo.influence.curation import Candidates, Selection, WhatIf, select
from motive_fo.influence.curation import what_if as compare
from motive_fo.influence.selection import Rows, rank_clips
from motive_fo.influence.shortlist import Sketches
from motive_fo.motion.hoof import unit
from motive_fo.progress import Progress, silent
from motive_fo.store.run_store import RunStore
from motive_fo.store.scores import ScoreRows

#: budgets and vote shares of a what-if table, besides the run's own.
BUDGETS: Final = (0.05, 0.1, 0.2, 0.3)
VOTE_SHARES: Final = (0.05, 0.1, 0.2)

V = TypeVar("V")


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
        notes: what a user should know, such as selected clips whose files were replaced since.
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
    notes: list[str] = field(default_factory=list)

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
    progress: Progress = silent,
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
    with open_step(dataset, run, None, writes=False) as (record, run_store):
        config: SelectionConfig = record.settle("selection", selection, preset)
        scored = scored or ScoredClips.read(dataset, record, run_store)
        candidates = scored.candidates(config)
        made = select(candidates, config)
        if not made.ranking.ids:
            raise InputError(f"no clip of run {run!r} has a score: look at the fields {run}.status and {run}.code")
        _write_places(dataset, run, made, _hoof_order(scored.hoof, candidates, made), scored.sample_ids, progress)
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
            notes=[
                *_notes(dataset, record, run_store, [*made.chosen.ids, *candidates.queries]),
                *toy_notes(dataset, record),
            ],
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


def _notes(dataset: Any, record: RunRecord, store: RunStore, used: Sequence[str]) -> list[str]:
    """What a selection rests on that is not so any more. Of the clips, those that are selected are looked at."""
    notes = [sentence for sentence in (scored_before_gradients(record),) if sentence is not None]
    stale = stale_clips(samples_with(dataset, used), record, store)
    return [*notes, stale_sentence(stale, "of the selected clips and queries")] if stale else notes


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
    candidates = _candidates(dataset, record, open_store(record), config)
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
    candidates = _candidates(dataset, record, open_store(record), config)
    return candidates, select(candidates, config)


class HeldScores(Mapping[str, npt.NDArray[np.float32]]):
    """Kinds of scores of a run as (Q, N) arrays. Each is read when it is first asked for, and kept."""

    def __init__(self, rows: Mapping[str, ScoreRows]) -> None:
        self._rows = rows
        self._held: dict[str, npt.NDArray[np.float32]] = {}

    def __getitem__(self, kind: str) -> npt.NDArray[np.float32]:
        if kind not in self._held:
            self._held[kind] = self._rows[kind].read()
        return self._held[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, kind: str) -> Rows:
        """A query at a time, from memory where it is held and else from the store."""
        return self._held[kind] if kind in self._held else self._rows[kind]

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return sum(scores.nbytes for scores in self._held.values())


@dataclass(frozen=True)
class _Present:
    """The values of scores of which those of clips without a sample are unknown: who deletes a sample takes it out of
    the ranking."""

    rows: ScoreRows
    gone_N: npt.NDArray[np.bool_]

    def __getitem__(self, query: int | slice) -> npt.NDArray[np.float32]:
        known = self.rows.read() if isinstance(query, slice) else self.rows[query]
        return np.where(self.gone_N, np.float32(np.nan), known)

    @classmethod
    def of(cls, rows: ScoreRows, sample_ids: Mapping[str, str]) -> ScoreRows:
        """The rows themselves where every clip has its sample."""
        gone_N = np.asarray([clip_id not in sample_ids for clip_id in rows.train_ids], np.bool_)
        return ScoreRows(rows.query_ids, rows.train_ids, cls(rows, gone_N)) if gone_N.any() else rows


@dataclass(frozen=True)
class _ChosenRows:
    """Some queries' scores of one kind, or the difference of two kinds, a query at a time."""

    queries: npt.NDArray[np.intp]
    scores: Rows
    minus: Rows | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.queries), self.scores.shape[1]

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, query: int) -> npt.NDArray[np.float32]:
        place = int(self.queries[query])
        row_N = np.asarray(self.scores[place])
        return row_N if self.minus is None else row_N - np.asarray(self.minus[place])


class _WhenAsked(Mapping[str, V]):
    """A mapping that is read when it is first looked into: most selections need none of them."""

    def __init__(self, read: Callable[[], dict[str, V]]) -> None:
        self._read = read

    @cached_property
    def _known(self) -> dict[str, V]:
        return self._read()

    def __getitem__(self, key: str) -> V:
        return self._known[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


@dataclass(frozen=True)
class ScoredClips:
    """What a run's store and its dataset say of the scored clips, before settings choose among it.

    Attributes:
        run: name of the run.
        scores: kind of score, ``motion`` or ``whole`` -> (Q, N) cosines, NaN where unknown.
        ids: the N training clips.
        queries: the Q queries, as they are tagged and grouped now.
        motion: clip id -> mean motion in pixels per frame.
        tags, captions: clip id -> its tags and its caption.
        sample_ids: clip id -> sample id, of every clip of the dataset.
        sketches: reads the sketches of a scoring.
        hoof: reads the flow histograms of clips and queries, (len, bins).
        without: the motion scores without each timestep and noise in turn, a query at a time; see ``influence.doubt``.
    """

    run: str
    scores: HeldScores
    ids: list[str]
    queries: list[Query]
    motion: Mapping[str, float]
    tags: Mapping[str, Sequence[str]]
    captions: Mapping[str, str]
    sample_ids: Mapping[str, str]
    sketches: Mapping[str, Sketches]
    hoof: Sketches
    without: Sequence[ScoreRows] = ()

    @classmethod
    def read(cls, dataset: Any, record: RunRecord, store: RunStore) -> ScoredClips:
        """Raises ``StoreError`` where the run was not scored."""
        rows = store.scores("motion")
        table = store.table("motion")
        sample_ids = ids_of(dataset)
        present = partial(_Present.of, sample_ids=sample_ids)

        def motion() -> dict[str, float]:
            known = [clip_id for clip_id in rows.train_ids if clip_id in table]
            return {i: m for i, m in zip(known, table.read("mean", known).tolist(), strict=True) if math.isfinite(m)}

        return cls(
            record.run,
            HeldScores({"motion": present(rows), "whole": present(store.scores("whole", axes=rows))}),
            rows.train_ids,
            run_queries(dataset, record, rows.query_ids),
            _WhenAsked(motion),
            _WhenAsked(partial(values_of, dataset, "tags")),
            _WhenAsked(partial(_captions, dataset, record)),
            sample_ids,
            {"motion": _sketches(store, MASKED), "whole": _sketches(store, UNMASKED)},
            partial(table.read, "hoof"),
            [present(each) for each in store.scores_without(axes=rows)],
        )

    def candidates(self, config: SelectionConfig) -> Candidates:
        """What a selection with these settings is made from.

        Raises:
            InputError: a query or group that the run does not have, or none to follow or avoid.
        """
        used, avoid_Q = to_follow_and_avoid(self.queries, config.queries, config.avoid)
        if not len(used):
            raise InputError(f"run {self.run!r} has no query to follow or avoid: tag one 'query', or name it")
        difference = config.score == "difference"
        scores = self.scores.rows("motion" if difference else config.score)
        return Candidates(
            _ChosenRows(used, scores, self.scores.rows("whole") if difference else None),
            self.ids,
            [self.queries[n].id for n in used],
            avoid_Q,
            motion=self.motion,
            tags=self.tags,
            captions=self.captions,
            sketches=self.sketches["whole" if config.score == "whole" else "motion"],
            without=[_ChosenRows(used, rows) for rows in self.without] if config.score == "motion" else (),
        )


def _captions(dataset: Any, record: RunRecord) -> dict[str, str]:
    field = caption_field(dataset, record)
    return {} if field is None else {clip_id: text or "" for clip_id, text in values_of(dataset, field).items()}


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
    dataset: Any,
    run: str,
    made: Selection,
    hoof_order: Sequence[str],
    holders: Mapping[str, str],
    progress: Progress,
) -> None:
    """Votes and places. A clip that lost its score or its place since the last curation loses the field's value."""
    ranking = made.ranking
    at = {clip_id: n for n, clip_id in enumerate(holders)}

    def spread(ids: Sequence[str], values: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """Values of some clips as a column of all samples, NaN for the others."""
        column = np.full(len(at), np.nan)
        places = np.asarray([at.get(clip_id, -1) for clip_id in ids], np.int64)
        column[places[places >= 0]] = values[places >= 0]
        return column

    columns = {"votes": spread(ranking.ids, ranking.votes), "harmful_votes": spread(ranking.ids, ranking.harm)}
    for name, order in (
        ("rank", ranking.by_votes),
        ("influence_rank", ranking.by_mean),
        ("hoof_rank", hoof_order),
        ("selected", made.chosen.ids),
    ):
        columns[name] = spread(order, np.arange(1, len(order) + 1))
    write_fields(dataset, run, list(holders.values()), columns, progress)


@dataclass(frozen=True)
class _Alike:
    """Similarity of flow histograms (``motion.hoof.similarity``), a query at a time."""

    unit_QB: npt.NDArray[np.float64]
    unit_NB: npt.NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.unit_QB), len(self.unit_NB)

    def __len__(self) -> int:
        return len(self.unit_QB)

    def __getitem__(self, query: int) -> npt.NDArray[np.float32]:
        return np.asarray(self.unit_NB @ self.unit_QB[query], np.float32)


def _hoof_order(hoof: Sketches, candidates: Candidates, made: Selection) -> list[str]:
    """The scored clips by mean percentile rank of their flow histograms' similarity with those of the queries."""
    ids = made.ranking.ids
    alike = _Alike(unit(hoof(candidates.queries)), unit(hoof(ids)))
    return rank_clips(alike, ids, 1.0, candidates.avoid_Q).by_mean
