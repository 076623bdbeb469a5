"""What a person may ask of a scored run while looking at it: what other settings would select, and what one clip does
to each query. Nothing here is written or computed from pixels.

Scores and the dataset's facts are read once for each version of store and dataset, and kept in the process
(``KEPT_BYTES`` at most, the least recently used go first).

Shapes: Q queries, N training clips, of which R are ranked (scored for every query).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from motive_fo.config import SelectionConfig
from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.curation import CurateReport, ScoredClips, curate
from motive_fo.dataset.ownership import open_store
from motive_fo.dataset.queries import Query
from motive_fo.dataset.run_record import RunRecord, load_run
from motive_fo.dataset.views import CAMERA_ONLY_SHARE
from motive_fo.errors import InputError, StoreError
from motive_fo.influence.curation import Candidates, Selection, select
from motive_fo.influence.selection import budget_count, scored_clips
from motive_fo.store.place import place_of
from motive_fo.store.table import Status

KEPT_BYTES: Final = 512 << 20
_PREVIEWS: Final = 16  # of one run: what a slider was moved over; of millions of clips, as many as fit into
_PREVIEW_BYTES: Final = 256 << 20
_PREVIEW_CLIP_BYTES: Final = 80  # numbers and places of a ranked clip

#: statistic -> (what it is called, unit)
STATISTICS: Final[dict[str, tuple[str, str]]] = {
    "mean": ("mean motion", "px per frame"),
    "peak": ("strongest motion", "px per frame"),
    "camera_share": ("camera share", "0 to 1"),
    "moving_share": ("moving share", "0 to 1"),
    "smoothness": ("smoothness", "0 to 1"),
    "dynamic_score": ("dynamic score", "above 1: dynamic"),
}


@dataclass(frozen=True)
class Obstacle:
    """Why there is nothing to explore yet.

    Attributes:
        text: one sentence with the way out.
        step: the step that helps: ``compute_gradients`` or ``score_influence``.
    """

    text: str
    step: str


@dataclass(frozen=True)
class Statistic:
    """One line of the comparison of a selection with the whole.

    Attributes:
        name, unit: what it is.
        whole, subset: mean over all training clips, and over the selection; None where no clip has it.
    """

    name: str
    unit: str
    whole: float | None
    subset: float | None


@dataclass(frozen=True)
class Preview:
    """A selection as it would be.

    Attributes:
        candidates, made: what ``curate`` would choose from, and choose.
        selected_R: which ranked clips are taken.
        statistics: motion of the selection and of all training clips.
    """

    candidates: Candidates
    made: Selection
    selected_R: npt.NDArray[np.bool_]
    statistics: list[Statistic]

    @property
    def selected(self) -> list[str]:
        """Clip ids, the best first."""
        return self.made.chosen.ids

    @property
    def coverage(self) -> tuple[float, float]:
        """Mean and least coverage of the queries to follow, 0 to 1."""
        shares = list(self.made.coverage.values())
        return (float(np.mean(shares)), min(shares)) if shares else (0.0, 0.0)


@dataclass(frozen=True)
class Effect:
    """What a training clip does to a query.

    Attributes:
        query: the query.
        cosine: their influence, -1 to 1.
        place: of the clip among the ranked clips, 1 helps most.
        word: ``helps`` or ``hurts`` where it is among the best or worst that the query votes for or against.
    """

    query: Query
    cosine: float
    place: int
    word: str


class Exploration:
    """A scored run, ready for questions. Answers that cost are kept.

    Args:
        scored: scores and facts.
        statistics: statistic -> (N,) values of the training clips, NaN where unknown.
        static_N: training clips in which nothing moves.
    """

    def __init__(
        self,
        scored: ScoredClips,
        statistics: Mapping[str, npt.NDArray[np.float64]],
        static_N: npt.NDArray[np.bool_],
    ) -> None:
        self.scored = scored
        self.statistics = statistics
        self.static_N = static_N
        self._place = {clip_id: n for n, clip_id in enumerate(scored.ids)}
        self._query_place = {query.id: q for q, query in enumerate(scored.queries)}
        self._previews: OrderedDict[SelectionConfig, Preview] = OrderedDict()
        self._overlaps: dict[tuple[str, float], npt.NDArray[np.float64]] = {}
        self._doubts: dict[Hashable, dict[str, float]] = {}

    @classmethod
    def read(cls, dataset: Any, record: RunRecord) -> Exploration:
        """Raises ``StoreError`` where the store or the scores are missing."""
        store = open_store(record)
        scored = ScoredClips.read(dataset, record, store)
        _ = scored.scores["motion"]  # from here on in memory: a person waits for every answer
        table = store.table("motion")
        known = np.asarray([clip_id in table for clip_id in scored.ids], np.bool_)
        ids = [scored.ids[n] for n in np.flatnonzero(known).tolist()]
        statistics = {}
        for name in STATISTICS:
            statistics[name] = np.full(len(scored.ids), np.nan)
            statistics[name][known] = table.read(name, ids)
        static_N = np.asarray([table.status(clip_id) == Status.STATIC for clip_id in scored.ids], np.bool_)
        return cls(scored, statistics, static_N)

    @property
    def nbytes(self) -> int:
        """Memory it holds, roughly: the scores, and what Python spends on each clip."""
        return self.scored.scores.nbytes + 1500 * len(self.scored.ids)

    def role(self, clip_id: str) -> tuple[bool, bool]:
        """Whether the clip is one of the run's training clips, and one of its queries."""
        return clip_id in self._place, clip_id in self._query_place

    def preview(self, config: SelectionConfig) -> Preview:
        """What ``curate`` would select with these settings.

        Raises:
            MotiveError: a query the run does not have, a quota that cannot be read.
        """
        if config in self._previews:
            self._previews.move_to_end(config)
            return self._previews[config]
        candidates = self.scored.candidates(config)
        made = select(candidates, config)
        taken = set(made.chosen.ids)
        selected_R = np.asarray([clip_id in taken for clip_id in made.ranking.ids], np.bool_)
        preview = Preview(candidates, made, selected_R, self._compare(made.chosen.ids))
        self._previews[config] = preview
        most = max(2, min(_PREVIEWS, _PREVIEW_BYTES // (_PREVIEW_CLIP_BYTES * max(1, len(self.scored.ids)))))
        while len(self._previews) > most:
            self._previews.popitem(last=False)
        return preview

    def doubts(self, config: SelectionConfig, ids: Sequence[str]) -> dict[str, float]:
        """``Candidates.doubts`` of some clips, kept while sliders leave queries and clips as they are."""
        key = (config.queries, config.avoid, config.score, tuple(ids))
        if key not in self._doubts:
            if len(self._doubts) >= _PREVIEWS:
                self._doubts.clear()
            self._doubts[key] = self.preview(config).candidates.doubts(ids)
        return self._doubts[key]

    def overlap(self, config: SelectionConfig) -> tuple[list[Query], npt.NDArray[np.float64]]:
        """Share of their best ceil(budget * R) clips that each two queries have in common, by group and id.

        Returns:
            all Q queries of the run, and (Q, Q) shares, 0 to 1.
        """
        queries = self.scored.queries
        order = sorted(range(len(queries)), key=lambda q: (queries[q].group or "", queries[q].id))
        key = (config.score, config.budget)
        if key not in self._overlaps:
            scores_QR = self._scores(config)[:, self._ranked(config)]
            count = budget_count(config.budget, scores_QR.shape[1])
            best_QR = np.zeros(scores_QR.shape, np.float32)
            np.put_along_axis(best_QR, np.argsort(-scores_QR, axis=1, kind="stable")[:, :count], 1.0, axis=1)
            if len(self._overlaps) >= _PREVIEWS:
                self._overlaps.clear()
            self._overlaps[key] = np.asarray(best_QR @ best_QR.T / max(1, count), np.float64)
        return [queries[q] for q in order], self._overlaps[key][np.ix_(order, order)]

    def effects(self, clip_id: str, config: SelectionConfig) -> list[Effect]:
        """What a training clip does to every query, what it helps most first; empty where it has no score."""
        place = self._place.get(clip_id)
        scores_QN = self._scores(config)
        if place is None or not np.isfinite(scores_QN[:, place]).all():
            return []
        ranked = scores_QN[:, self._ranked(config)]
        voted = budget_count(config.vote_share or config.budget, ranked.shape[1])
        own_Q = scores_QN[:, place]
        above_Q = (ranked > own_Q[:, None]).sum(1)
        below_Q = (ranked < own_Q[:, None]).sum(1)
        effects = [
            Effect(query, float(own), int(above) + 1, "helps" if above < voted else "hurts" if below < voted else "")
            for query, own, above, below in zip(self.scored.queries, own_Q, above_Q, below_Q, strict=True)
        ]
        return sorted(effects, key=lambda effect: (effect.place, -effect.cosine, effect.query.id))

    def ends(self, query: str, count: int, config: SelectionConfig) -> tuple[list[tuple[str, float]], ...]:
        """The clips that help a query most, and those that hurt it most, each with its cosine, the strongest first."""
        columns = np.flatnonzero(self._ranked(config))
        scores_R = self._scores(config)[self._query_place[query], columns]
        order = np.argsort(-scores_R, kind="stable")
        count = min(count, (len(order) + 1) // 2)  # a clip is not at both ends
        least = order[::-1][: min(count, len(order) - count)]
        return tuple(
            [(self.scored.ids[columns[n]], float(scores_R[n])) for n in end.tolist()] for end in (order[:count], least)
        )

    def ranked_count(self, config: SelectionConfig) -> int:
        """Clips that have a score for every query of the run."""
        return int(self._ranked(config).sum())

    def statistic(self, name: str, clip_id: str) -> float | None:
        """One statistic of one training clip."""
        value = float(self.statistics[name][self._place[clip_id]])
        return value if np.isfinite(value) else None

    def _scores(self, config: SelectionConfig) -> npt.NDArray[np.float32]:
        scores = self.scored.scores
        return scores["motion"] - scores["whole"] if config.score == "difference" else scores[config.score]

    def _ranked(self, config: SelectionConfig) -> npt.NDArray[np.bool_]:
        return scored_clips(self._scores(config))

    def _compare(self, chosen: Sequence[str]) -> list[Statistic]:
        subset_N = np.zeros(len(self.scored.ids), np.bool_)
        subset_N[[self._place[clip_id] for clip_id in chosen]] = True
        everything_N = np.ones_like(subset_N)
        rows = [
            Statistic(title, unit, *(_mean(self.statistics[name][part]) for part in (everything_N, subset_N)))
            for name, (title, unit) in STATISTICS.items()
        ]
        with np.errstate(invalid="ignore"):
            camera_N = (self.statistics["camera_share"] > CAMERA_ONLY_SHARE) & ~self.static_N
        for title, flags_N in (("camera-only clips", camera_N), ("static clips", self.static_N)):
            shares = (_mean(flags_N[part].astype(np.float64) * 100) for part in (everything_N, subset_N))
            rows.append(Statistic(title, "% of the clips", *shares))
        return rows


def obstacle(record: RunRecord) -> Obstacle | None:
    """Why a run cannot be explored; None where it can."""
    if not place_of(record.store).is_there():
        return Obstacle(
            f"The store of run {record.run!r} is gone: there is nothing at {record.store}. Its fields and views are "
            "still in the dataset. Put the store back, compute again, or delete the run.",
            "compute_gradients",
        )
    store = open_store(record)
    if store.has_table("influence"):
        return None
    if store.has_table("train") and store.has_table("query"):
        return Obstacle(f"Run {record.run!r} has gradients but no influence yet: score it.", "score_influence")
    return Obstacle(f"Run {record.run!r} has no gradients yet: compute them, then score.", "compute_gradients")


@dataclass
class _Kept:
    """Explorations of this process, the most recently used last."""

    entries: OrderedDict[tuple[str, str], tuple[Hashable, Exploration]] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, key: tuple[str, str], version: Hashable) -> Exploration | None:
        with self.lock:
            known, exploration = self.entries.get(key, (None, None))
            if exploration is None or known != version:
                return None
            self.entries.move_to_end(key)
            return exploration

    def keep(self, key: tuple[str, str], version: Hashable, exploration: Exploration) -> None:
        with self.lock:
            self.entries[key] = (version, exploration)
            self.entries.move_to_end(key)
            while len(self.entries) > 1 and sum(kept.nbytes for _, kept in self.entries.values()) > KEPT_BYTES:
                self.entries.popitem(last=False)


_KEPT: Final = _Kept()


def explore(dataset: Any, record: RunRecord) -> Exploration:
    """A scored run of a dataset, read again only where store, record or samples changed.

    Raises:
        InputError: the run cannot be explored yet; the sentence of its ``obstacle``.
        StoreError: the store is of another version, or its scores are being replaced at this moment.
    """
    key = (str(dataset.name), record.run)
    for _ in range(3):
        problem = obstacle(record)
        if problem is not None:
            raise InputError(problem.text)
        version = _version(dataset, record)
        kept = _KEPT.find(key, version)
        if kept is not None:
            return kept
        try:
            exploration = Exploration.read(dataset, record)
        except (OSError, KeyError, ValueError) as error:
            if _version(dataset, record) == version:
                raise StoreError(f"the scores of run {record.run!r} cannot be read: {error}; score it again") from error
            continue
        if _version(dataset, record) == version:  # else it was replaced between two of its files
            _KEPT.keep(key, version, exploration)
            return exploration
    raise StoreError(f"another process is writing the scores of run {record.run!r}: try again in a moment")


def choose(dataset: Any, record: RunRecord, config: SelectionConfig) -> CurateReport:
    """``curate`` with what is explored already: what was previewed is written, and stays explored.

    Raises:
        MotiveError: as ``explore`` and ``curate``.
    """
    exploration = explore(dataset, record)
    before = dataset.max("last_modified_at")
    report = curate(dataset, record.run, selection=config, scored=exploration.scored)
    # places and votes are not what is explored; but somebody else may have written meanwhile
    written = dataset.match(fiftyone().ViewField("last_modified_at") > before).distinct("last_modified_at")
    record = load_run(dataset, record.run)
    if len(written) <= 1:
        _KEPT.keep((str(dataset.name), record.run), _version(dataset, record), exploration)
    return report


def forget() -> None:
    """Give the memory of all explorations back."""
    with _KEPT.lock:
        _KEPT.entries.clear()


def _version(dataset: Any, record: RunRecord) -> Hashable:
    holders = [dataset]
    fo = fiftyone()
    if record.query_dataset and fo.dataset_exists(record.query_dataset):
        holders.append(fo.load_dataset(record.query_dataset))
    samples = tuple((_last_change(holder), holder.last_deletion_at) for holder in holders)
    try:
        scoring = open_store(record).scoring_id()
    except StoreError:
        scoring = None
    return (record.store, record.updated, samples, scoring)


def _last_change(dataset: Any) -> Any:
    """When a sample was written last, from FiftyOne's own index: ``max`` would look at every sample, at every event."""
    last = dataset._sample_collection.find_one({}, ["last_modified_at"], sort=[("last_modified_at", -1)])
    return last and last.get("last_modified_at")


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
