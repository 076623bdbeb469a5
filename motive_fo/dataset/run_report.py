"""The report of a run as one HTML file: gathered from record, store and dataset, with pictures of the clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from motive_fo.clips.worker import DecodePool
from motive_fo.dataset.choose import records_of
from motive_fo.dataset.connect import as_samples, dataset_of, fiftyone, load_dataset
from motive_fo.dataset.curation import selection_of
from motive_fo.dataset.motion_report import motion_settings, write_file
from motive_fo.dataset.queries import Query, run_queries
from motive_fo.dataset.run_record import RunRecord, load_run
from motive_fo.dataset.steps import checkpoint_stores
from motive_fo.errors import ClipError, MotiveError
from motive_fo.influence.curation import Candidates, Selection
from motive_fo.influence.selection import budget_count, scored_clips
from motive_fo.influence.stability import Stability, stability
from motive_fo.pipeline.motion import MotionSettings, known_frames
from motive_fo.pipeline.record import ClipRecord
from motive_fo.pipeline.scoring import sample_scores
from motive_fo.progress import Progress, silent
from motive_fo.report.plot import Plot, bars, histogram, matrix, spreads
from motive_fo.report.run_page import RunPage, SeenQuery
from motive_fo.report.strip import ShownClip, masked_strip, strip
from motive_fo.store.run_store import RunStore
from motive_fo.store.table import Status, Table

_LISTED = 50
_MOTION: Final = {
    "mean": ("mean motion", "px per frame"),
    "p95": ("95th percentile", "px per frame"),
    "camera_share": ("camera share", "0 to 1"),
    "moving_share": ("moving share", "0 to 1"),
    "dynamic_score": ("dynamic score", "above 1: dynamic"),
}


def write_report(
    dataset: Any,
    path: str | Path,
    run: str = "motive",
    *,
    shown: int = 3,
    queries: int = 12,
    progress: Progress = silent,
) -> Path:
    """One HTML file that explains a run's selection, by the run's own settings; nothing is computed again but pictures.

    Args:
        dataset: a dataset or its name, whose run was scored.
        path: the file to write.
        shown: clips shown at each end of a query's scores; these are decoded again.
        queries: queries shown with their clips, the first by group and id.

    Raises:
        MotiveError: the run was not scored, or the file cannot be written.
    """
    dataset = dataset_of(as_samples(dataset))
    record = load_run(dataset, run)
    store = RunStore(record.store)
    candidates, made = selection_of(dataset, run)
    facts = _Facts.gather(dataset, record, store, candidates, made)
    page = RunPage(
        title=f"Run {run} of {dataset.name}",
        summary=_summary(facts),
        facts=_overview(facts),
        settings=[(name, _settings_rows(values)) for name, values in record.settings.items()],
        failures=_failures(facts),
        passed_over=list(made.chosen.passed_over.items())[:_LISTED],
        clip_plots=_clip_plots(facts),
        score_plots=_score_plots(facts),
        query_head=("query", "group", "", "coverage", "median cosine", "highest cosine"),
        query_rows=_query_rows(facts),
        query_plots=_query_plots(facts),
        chance=f"{facts.count / max(1, len(made.ranking.ids)):.0%}",
        stability_text=_stability_text(facts.stability),
        stability_plots=_stability_plots(facts),
        motion_head=("median", "all scored clips", "selection", "harmful", "unit"),
        motion_rows=_motion_rows(facts),
        motion_plots=_motion_plots(facts),
        seen_text=(
            f"{min(queries, len(facts.queries))} of {len(facts.queries)} queries, {shown} clips at each end. "
            "Each clip: its frames, and the motion mask over them."
        ),
        queries=_seen(facts, shown, queries, progress),
        time_head=("step", "clips", "computed", "seconds", "of these"),
        time_rows=[_time_row(name, step) for name, step in record.steps.items() if "seconds" in step],
    )
    return write_file(Path(path).expanduser(), page.html().encode("utf-8"))


@dataclass(frozen=True)
class _Facts:
    """What the parts of the page are made from."""

    dataset: Any
    record: RunRecord
    motion: Table
    candidates: Candidates
    made: Selection
    queries: list[Query]
    clips: dict[str, ClipRecord]
    states: dict[str, tuple[Status, str, str]]
    stability: Stability | None
    sample_names: list[str]

    @classmethod
    def gather(
        cls, dataset: Any, record: RunRecord, store: RunStore, candidates: Candidates, made: Selection
    ) -> _Facts:
        holders = [dataset]
        if record.query_dataset and fiftyone().dataset_exists(record.query_dataset):
            holders.append(load_dataset(record.query_dataset))
        clips = {clip.id: clip for holder in holders for clip in records_of(holder).records}
        train = store.sketches("train")
        ids = [clip_id for clip_id in candidates.ids if clip_id in train]
        words = (train.read(column, ids) for column in ("code", "message"))
        states = {i: (train.status(i), str(c), str(m)) for i, c, m in zip(ids, *words, strict=True)}
        influence = record.section("influence")
        others = checkpoint_stores(dataset, influence)
        each = sample_scores(candidates.ids, candidates.queries, store, influence, others=others)
        known = np.logical_and.reduce([scored_clips(scores_QN) for scores_QN in each.scores_SQN])
        several = len(each.samples) > 1 and known.sum() > 1
        budget = record.section("selection").budget
        return cls(
            dataset,
            record,
            store.table("motion"),
            candidates,
            made,
            run_queries(dataset, record, candidates.queries),
            clips,
            states,
            stability(each.scores_SQN, budget) if several else None,
            [str(sample) for sample in each.samples],
        )

    @property
    def count(self) -> int:
        """Clips the budget asks for."""
        return budget_count(self.record.section("selection").budget, len(self.made.ranking.ids))

    def statistic(self, name: str, ids: Iterable[str]) -> list[float]:
        """A motion statistic of clips that have one."""
        known = [clip_id for clip_id in ids if clip_id in self.motion]
        return [float(v) for v in self.motion.read(name, known) if np.isfinite(v)]

    def scores_of(self, query: int) -> npt.NDArray[np.float32]:
        """The scores of the ranked clips for one query, in the ranking's order."""
        place = {clip_id: n for n, clip_id in enumerate(self.candidates.ids)}
        columns = [place[clip_id] for clip_id in self.made.ranking.ids]
        scores: npt.NDArray[np.float32] = self.candidates.scores_QN[query, columns]
        return scores


def _summary(facts: _Facts) -> str:
    taken, ranked = len(facts.made.chosen.ids), len(facts.made.ranking.ids)
    follow = sum(not avoid for avoid in facts.candidates.avoid_Q)
    avoid = len(facts.candidates.avoid_Q) - follow
    against = f" and {avoid} to avoid" if avoid else ""
    least = min(facts.made.coverage.values(), default=0.0)
    return (
        f"{taken} of {ranked} scored clips were selected for {follow} queries to follow{against}. "
        f"The selection holds at least {least:.0%} of each query's own best clips."
    )


def _overview(facts: _Facts) -> list[tuple[str, object]]:
    record = facts.record
    attribution = record.section("attribution")
    return [
        ("dataset", facts.dataset.name),
        ("training clips", len(facts.candidates.ids)),
        ("queries", len(facts.queries)),
        ("model", attribution.model),
        ("timesteps and noises", "; ".join(facts.sample_names)),
        ("preset", record.preset),
        ("begun, updated", f"{record.created}, {record.updated}"),
        ("motive-fo", record.version),
    ]


def _settings_rows(values: Mapping[str, Any]) -> list[tuple[str, object]]:
    def text(value: Any) -> str:
        if value is None:
            return "open"
        return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)

    return [(name, text(value)) for name, value in values.items()]


def _failures(facts: _Facts) -> list[tuple[str, object]]:
    failed = [(i, f"{code}: {text}") for i, (state, code, text) in facts.states.items() if state == Status.FAILED]
    rest = [("...", f"and {len(failed) - _LISTED} more")] if len(failed) > _LISTED else []
    return [*failed[:_LISTED], *rest]


def _clip_plots(facts: _Facts) -> list[Plot]:
    states = Counter(state.name.lower() for state, _, _ in facts.states.values())
    codes = Counter(code for state, code, _ in facts.states.values() if state == Status.FAILED)
    way = {
        "training clips": len(facts.candidates.ids),
        "scored": len(facts.made.ranking.ids),
        "selected": len(facts.made.chosen.ids),
        **{name: states[name] for name in ("static", "failed") if states[name]},
    }
    plots = [bars("From the corpus to the selection", "clips", way)]
    return [*plots, bars("Errors by code", "clips", dict(codes.most_common()))] if codes else plots


def _score_plots(facts: _Facts) -> list[Plot]:
    ranking, taken = facts.made.ranking, set(facts.made.chosen.ids)
    chosen = np.asarray([clip_id in taken for clip_id in ranking.ids], np.bool_)
    votes = Counter(int(v) for v in ranking.votes)
    by_query = {query.id: facts.scores_of(q) for q, query in enumerate(facts.queries)}
    return [
        histogram(
            "Influence over all queries",
            "mean percentile rank, 0 to 100",
            {"all": list(ranking.rank), "selected": list(ranking.rank[chosen])},
        ),
        bars("Votes", "clips", {f"{v} votes": votes[v] for v in sorted(votes, reverse=True)[:20]}),
        spreads(
            "Cosines of each query", "cosine; 5 to 95 %, middle half, median", dict(list(by_query.items())[:_LISTED])
        ),
    ]


def _query_rows(facts: _Facts) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for q, query in enumerate(facts.queries):
        scores = facts.scores_of(q)
        cover = facts.made.coverage.get(query.id)
        rows.append(
            (
                query.id,
                query.group or "",
                "avoid" if facts.candidates.avoid_Q[q] else "follow",
                "" if cover is None else f"{cover:.0%}",
                f"{np.median(scores):.3f}",
                f"{scores.max():.3f}",
            )
        )
    return rows


def _query_plots(facts: _Facts) -> list[Plot]:
    if len(facts.queries) < 2:
        return []
    order = sorted(range(len(facts.queries)), key=lambda q: (facts.queries[q].group or "", facts.queries[q].id))
    best = [set(np.argsort(-facts.scores_of(q), kind="stable")[: facts.count].tolist()) for q in order]
    shared = np.asarray([[len(a & b) / max(1, facts.count) for b in best] for a in best])
    names = [facts.queries[q].id for q in order]
    return [matrix("Best clips that two queries share", names, shared, legend="share of the best clips")]


def _stability_text(found: Stability | None) -> str:
    if found is None:
        return (
            "The run has one timestep and one noise: it cannot say how much the ranking depends on the draw. "
            "More noises (--noises 0,1,2) answer that; only what is missing is computed."
        )
    return (
        f"Rankings by single timesteps and noises agree with a rank correlation of {found.spearman:.2f} on average, "
        f"and share {found.overlap:.0%} of their first {found.top} clips ({found.by_chance:.0%} by chance)."
    )


def _stability_plots(facts: _Facts) -> list[Plot]:
    found = facts.stability
    if found is None:
        return []
    names = facts.sample_names
    return [
        matrix("Rank correlation of single draws", names, np.clip(found.spearman_SS, 0, 1), legend="Spearman"),
        matrix(f"First {found.top} clips in common", names, found.overlap_SS, legend="share"),
    ]


def _groups(facts: _Facts) -> dict[str, list[str]]:
    ranking = facts.made.ranking
    share = facts.record.section("selection").budget
    return {"all": ranking.ids, "selection": facts.made.chosen.ids, "harmful": ranking.bottom(share)}


def _motion_rows(facts: _Facts) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for name, (title, unit) in _MOTION.items():
        values = [facts.statistic(name, ids) for ids in _groups(facts).values()]
        rows.append((title, *(f"{np.median(v):.3g}" if v else "" for v in values), unit))
    return rows


def _motion_plots(facts: _Facts) -> list[Plot]:
    return [
        histogram(
            title.capitalize(), unit, {group: facts.statistic(name, ids) for group, ids in _groups(facts).items()}
        )
        for name, (title, unit) in _MOTION.items()
        if name in ("mean", "camera_share", "dynamic_score")
    ]


def _time_row(name: str, step: Mapping[str, Any]) -> tuple[object, ...]:
    seconds = dict(step["seconds"])
    total = seconds.pop("total", sum(seconds.values()))
    parts = ", ".join(f"{stage} {value:.1f}" for stage, value in sorted(seconds.items(), key=lambda s: -s[1]))
    return name, step.get("clips", ""), step.get("computed", ""), f"{total:.1f}", parts


def _seen(facts: _Facts, shown: int, queries: int, progress: Progress) -> list[SeenQuery]:
    order = sorted(range(len(facts.queries)), key=lambda q: (facts.queries[q].group or "", facts.queries[q].id))
    pictures = _Pictures(facts, motion_settings(facts.record))
    seen = []
    with pictures.settings.pool() as pool:
        for done, q in enumerate(order[:queries]):
            progress("report", done, min(queries, len(order)))
            query, scores = facts.queries[q], facts.scores_of(q)
            ranked = [facts.made.ranking.ids[n] for n in np.argsort(-scores, kind="stable")]
            cosine = dict(zip(facts.made.ranking.ids, scores, strict=True))
            most, least = ranked[:shown], ranked[::-1][: min(shown, max(0, len(ranked) - shown))]
            group = f"{query.group}: " if query.group else ""
            avoid = " (to avoid)" if facts.candidates.avoid_Q[q] else ""
            ends = [
                [clip for i in end if (clip := pictures.of(i, f"cosine {cosine[i]:.3f}", pool)) is not None]
                for end in (most, least)
            ]
            seen.append(SeenQuery(f"{group}{query.id}{avoid}", pictures.of(query.id, "the query", pool), *ends))
    progress("report", min(queries, len(order)), min(queries, len(order)))
    return seen


class _Pictures:
    """Strips of clips, each decoded once however many queries show it."""

    def __init__(self, facts: _Facts, settings: MotionSettings) -> None:
        self.settings = settings
        self._facts = facts
        self._strips: dict[str, Sequence[Any] | None] = {}

    def of(self, clip_id: str, words: str, pool: DecodePool) -> ShownClip | None:
        """A clip with its pictures; None where its file cannot be read any more."""
        if clip_id not in self._strips:
            self._strips[clip_id] = self._draw(clip_id, pool)
        strips = self._strips[clip_id]
        if strips is None:
            return None
        mean = self._facts.statistic("mean", [clip_id])
        motion = f", {mean[0]:.2f} px per frame" if mean else ""
        return ShownClip(clip_id, self._facts.clips[clip_id].caption, words + motion, strips)

    def _draw(self, clip_id: str, pool: DecodePool) -> Sequence[Any] | None:
        clip = self._facts.clips.get(clip_id)
        if clip is None:
            return None
        try:
            frames = pool.decode(self.settings.request(clip)).frames_THW3
        except (ClipError, MotiveError):
            return None
        strips = [strip(frames, f"frames of {clip_id}", height=72)]
        if clip_id in self._facts.motion and self._facts.motion.status(clip_id) == Status.DONE:
            mask = known_frames(self._facts.motion.read("mask", [clip_id])[0])
            strips.append(masked_strip(frames, mask, f"motion mask of {clip_id} over its frames"))
        return strips
