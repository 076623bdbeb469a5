"""Are a run's scores to be trusted, on one's own model and clips? Retrieval by labels, training steps, a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from motive_fo.config import merge
from motive_fo.dataset.attribution_trial import Trial, TrialCost
from motive_fo.dataset.captions import caption_notes
from motive_fo.dataset.choose import records_of
from motive_fo.dataset.connect import as_samples, dataset_of, fiftyone, load_dataset
from motive_fo.dataset.labels import labels_of, relevance
from motive_fo.dataset.outcome import Outcome
from motive_fo.dataset.ownership import open_store
from motive_fo.dataset.patch_steps import PatchRequest, measured_falls
from motive_fo.dataset.queries import run_queries, to_follow_and_avoid
from motive_fo.dataset.run_record import RunRecord, load_run
from motive_fo.dataset.steps import open_step
from motive_fo.dataset.toy_model import toy_notes
from motive_fo.errors import InputError
from motive_fo.influence.selection import mean_ranks, scored_clips
from motive_fo.pipeline.record import ClipRecord
from motive_fo.pipeline.scoring import queries_in_training
from motive_fo.progress import Progress, silent
from motive_fo.quality.controls import control_scores
from motive_fo.quality.intervals import Bootstrap
from motive_fo.quality.settings import AttributionQualityConfig
from motive_fo.quality.suite import (
    MOTION,
    WHOLE,
    RetrievalQuality,
    TrainingQuality,
    retrieval_findings,
    retrieval_quality,
    training_findings,
    training_quality,
    trial_findings,
)
from motive_fo.quality.trial import TrialQuality
from motive_fo.store.run_store import RunStore

STEP: Final = "attribution quality"
"""Where a run's record keeps what was found."""

_FEWEST_QUERIES: Final = 3
_FEWEST_CLIPS: Final = 8

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AttributionQuality:
    """What was found out on the scores of a run.

    Attributes:
        dataset, run: whose scores.
        retrieval: None where no labels were named.
        training: None where no steps were asked for.
        trial: None where none was asked for.
        findings: what it shows, and what it does not.
        notes: what was left out.
    """

    dataset: str
    run: str
    retrieval: RetrievalQuality | None
    training: TrainingQuality | None
    trial: TrialQuality | None
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def outcome(self) -> Outcome:
        """For a person."""
        return Outcome(self.findings[0].rstrip("."), (*self.findings[1:], *self.notes))


def evaluate_attribution(
    dataset: Any,
    run: str = "motive",
    *,
    by: str | None = None,
    config: AttributionQualityConfig | Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> AttributionQuality:
    """Check the scores of a run before trusting them. What is found is kept in the run's record.

    Three checks, each beside controls and with an interval: whether clips with the label of a query come first
    (seconds, from the store alone); whether one step of training on a clip lowers the queries' losses as its score says
    (``quality.tail_patch``; takes the model, and about as long as the gradients of a few hundred clips); and, instead
    of single steps where ``trial`` is set, whether a little training on the selection lowers them more than on random
    clips (``quality.trial``; ``estimate_trial`` says what it takes). Steps and trainings are kept: the same call goes
    on where it was stopped. Neither dataset nor model is changed.

    Args:
        dataset: a dataset or its name; its run must be scored.
        by: field with the label of queries and clips, a text, number or Classification, or ``tags``; no retrieval
            where open. A trial takes the queries' kinds from it, else from their groups.
        config: settings, whole or only the ones to change; ``clips=0`` takes no steps.

    Raises:
        MotiveError: no such run or field, no scores yet, too few queries, clips or labels, or wrong settings. A clip on
            which no step can be taken is named in the report instead.
    """
    settings: AttributionQualityConfig = merge(AttributionQualityConfig(), config, "quality")
    dataset = dataset_of(as_samples(dataset))
    if by is None and not settings.clips and not settings.trial:
        raise InputError("nothing is asked for: name a field with --by, or ask for --clips or a --trial")
    if not settings.trial and 0 < settings.clips < _FEWEST_CLIPS:
        raise InputError(f"steps on {settings.clips} clips cannot rank them: ask for {_FEWEST_CLIPS} or more, or 0")
    load_run(dataset, run)
    with open_step(dataset, run, None) as (record, store):
        scored = _scored(dataset, record, store)
        how = Bootstrap(settings.resamples, settings.confidence, settings.seed)
        retrieved = None if by is None else _retrieved(scored, store, by, settings, how)
        trained, tried, notes = None, None, [*scored.notes, *toy_notes(dataset, record)]
        if settings.trial or settings.clips:
            notes += caption_notes(dataset, record, "train", scored.clips)
            notes += caption_notes(scored.holders[-1], record, "query", scored.queries)
        if settings.trial:
            trial = _trial(dataset, record, store, scored, by, settings, progress)
            tried = trial.quality()
            if trial.failed:
                first = next(iter(trial.failed.items()))
                notes.append(f"{len(trial.failed)} clips take no part in the trial, the first: {first[0]} ({first[1]})")
        elif settings.clips:
            trained = _trained(dataset, record, store, scored, settings, how, progress)
            if trained.failed:
                first = next(iter(trained.failed.items()))
                notes.append(f"no step on {len(trained.failed)} clips, the first: {first[0]} ({first[1]})")
        findings = [
            *([] if tried is None else trial_findings(tried)),
            *([] if retrieved is None else retrieval_findings(retrieved)),
            *([] if trained is None else training_findings(trained)),
        ]
        found = AttributionQuality(dataset.name, run, retrieved, trained, tried, findings, notes)
        record.steps[STEP] = {
            "clips": (tried or trained or retrieved).clips,  # type: ignore[union-attr]  # one of them was asked for
            **found.as_dict(),
        }
    return found


def estimate_trial(
    dataset: Any,
    run: str = "motive",
    *,
    by: str | None = None,
    config: AttributionQualityConfig | Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> TrialCost:
    """What a trial takes, from one step and one loss just now; nothing is written. Arguments as for
    ``evaluate_attribution``."""
    settings: AttributionQualityConfig = merge(AttributionQualityConfig(), config, "quality")
    dataset = dataset_of(as_samples(dataset))
    record = load_run(dataset, run)
    store = open_store(record)
    return _trial(dataset, record, store, _scored(dataset, record, store), by, settings, progress).cost()


@dataclass(frozen=True)
class _Scored:
    """Scored clips and queries that are in the dataset still.

    Attributes:
        scores: ``MOTION`` and ``WHOLE`` -> (Q, N), all of the first finite.
        queries, clips: their records, in the axes' order.
        holders: datasets they are in.
        notes: what was left out.
    """

    scores: dict[str, Array]
    queries: list[ClipRecord]
    clips: list[ClipRecord]
    holders: list[Any]
    notes: list[str]


def _scored(dataset: Any, record: RunRecord, store: RunStore) -> _Scored:
    motion_QN, query_ids, clip_ids = store.read_scores("motion")
    whole_QN = store.read_scores("whole")[0]
    holders = [dataset]
    if record.query_dataset and fiftyone().dataset_exists(record.query_dataset):
        holders.append(load_dataset(record.query_dataset))
    known: dict[str, ClipRecord] = {}
    for holder in reversed(holders):  # a clip of both is the dataset's own
        known |= {each.id: each for each in records_of(holder, record).records}
    twice = set(queries_in_training(store.table("motion"), clip_ids, query_ids).values())
    here_Q = np.asarray([each in known for each in query_ids], np.bool_)
    here_N = np.asarray([each in known and each not in twice for each in clip_ids], np.bool_)
    here_N &= scored_clips(motion_QN)
    if here_Q.sum() < _FEWEST_QUERIES:
        raise InputError(
            f"{int(here_Q.sum())} scored queries say nothing for sure: {_FEWEST_QUERIES} or more are needed "
            "(motive queries add)"
        )
    if here_N.sum() < _FEWEST_CLIPS:
        raise InputError(f"{int(here_N.sum())} scored clips cannot be ranked: {_FEWEST_CLIPS} or more are needed")
    notes = [f"{len(twice)} training clips are left out: their videos are queries too"] if twice else []
    return _Scored(
        {
            MOTION: motion_QN[here_Q][:, here_N].astype(np.float64),
            WHOLE: whole_QN[here_Q][:, here_N].astype(np.float64),
        },
        [known[each] for each, here in zip(query_ids, here_Q, strict=True) if here],
        [known[each] for each, here in zip(clip_ids, here_N, strict=True) if here],
        holders,
        notes,
    )


def _with_controls(
    scored: _Scored, store: RunStore, some_Q: Sequence[int], some_N: Sequence[int], seed: int
) -> dict[str, Array]:
    """All scores of some queries and clips, those of the run first."""
    own = {name: each[some_Q][:, some_N] for name, each in scored.scores.items()}
    queries, clips = [scored.queries[q].id for q in some_Q], [scored.clips[n].id for n in some_N]
    return own | control_scores(store.table("motion"), queries, clips, own[MOTION], seed)


def _retrieved(
    scored: _Scored, store: RunStore, by: str, settings: AttributionQualityConfig, how: Bootstrap
) -> RetrievalQuality:
    labels = labels_of(scored.holders, by, {each.id for each in (*scored.queries, *scored.clips)})
    query_labels = [labels.get(each.id, frozenset()) for each in scored.queries]
    clip_labels = [labels.get(each.id, frozenset()) for each in scored.clips]
    some_N = [n for n, label in enumerate(clip_labels) if label]
    kinds = frozenset().union(*clip_labels)
    if len(kinds) < 2:
        raise InputError(
            f"the scored clips have {len(kinds)} different labels in {by!r}: retrieval needs two or more, on training "
            "clips and queries alike"
        )
    every_QN = relevance(query_labels, [clip_labels[n] for n in some_N])
    hits_Q = every_QN.sum(1)
    some_Q = np.flatnonzero((hits_Q > 0) & (hits_Q < len(some_N))).tolist()
    if len(some_Q) < _FEWEST_QUERIES:
        raise InputError(
            f"{len(some_Q)} of {len(scored.queries)} queries share a label in {by!r} with some training clips but not "
            f"all: {_FEWEST_QUERIES} or more are needed"
        )
    left_out = {
        "queries without a label that some clips have": len(scored.queries) - len(some_Q),
        "clips without a label": len(scored.clips) - len(some_N),
    }
    return retrieval_quality(
        _with_controls(scored, store, some_Q, some_N, settings.seed),
        every_QN[some_Q],
        how,
        by=by,
        kinds=len(kinds),
        left_out={why: count for why, count in left_out.items() if count},
    )


def _trial(
    dataset: Any,
    record: RunRecord,
    store: RunStore,
    scored: _Scored,
    by: str | None,
    settings: AttributionQualityConfig,
    progress: Progress,
) -> Trial:
    selection = record.section("selection")
    queries = run_queries(dataset, record, [each.id for each in scored.queries])
    used, avoid = to_follow_and_avoid(queries, selection.queries, selection.avoid)
    followed = used[~avoid].tolist()
    if by is None:
        kinds = [queries[q].group for q in followed]
    else:
        labels = labels_of(scored.holders, by, {queries[q].id for q in followed})
        kinds = [", ".join(sorted(labels.get(queries[q].id, ()))) or None for q in followed]
    return Trial(dataset, record, store, scored.clips, [scored.queries[q] for q in followed], kinds, settings, progress)


def _trained(
    dataset: Any,
    record: RunRecord,
    store: RunStore,
    scored: _Scored,
    settings: AttributionQualityConfig,
    how: Bootstrap,
    progress: Progress,
) -> TrainingQuality:
    some_Q = drawn_queries(len(scored.queries), settings.queries, settings.seed)
    some_N = spread_clips(scored.scores[MOTION], settings.clips, settings.seed)
    request = PatchRequest([scored.queries[q] for q in some_Q], [scored.clips[n] for n in some_N], settings)
    measured = measured_falls(dataset, record, store, request, progress)
    done_N = [n for n in some_N if scored.clips[n].id in measured.falls]
    used_Q = [q for q in some_Q if scored.queries[q].id in measured.queries]
    if len(done_N) < _FEWEST_CLIPS or len(used_Q) < _FEWEST_QUERIES:
        first = next(iter(measured.failed.items()), ("", "few were asked for"))
        raise InputError(
            f"steps on {len(done_N)} clips with {len(used_Q)} queries say nothing: {_FEWEST_CLIPS} and "
            f"{_FEWEST_QUERIES} or more are needed; the first that failed: {first[0]} ({first[1]})"
        )
    fall_QNR = np.stack([measured.falls[scored.clips[n].id] for n in done_N], axis=1)
    scores = _with_controls(scored, store, used_Q, done_N, settings.seed)
    return training_quality(scores, fall_QNR, how, failed=dict(measured.failed))


def drawn_queries(queries: int, count: int, seed: int) -> list[int]:
    """Queries drawn at random, in their order; all where there are no more."""
    drawn = np.random.default_rng([seed, 1]).permutation(queries)[:count]
    return sorted(int(q) for q in drawn)


def spread_clips(scores_QN: Array, count: int, seed: int) -> list[int]:
    """Clips spread evenly over the mean percentile rank, one drawn from each part of it; all where there are no more.

    ``Choice:`` by strata: of clips drawn at random few are at either end, which is where scores are used.
    """
    order_N = np.argsort(mean_ranks(scores_QN, range(len(scores_QN))), kind="stable")
    if count >= len(order_N):
        return sorted(int(n) for n in order_N)
    rng = np.random.default_rng([seed, 2])
    return sorted(int(rng.choice(part)) for part in np.array_split(order_N, count))
