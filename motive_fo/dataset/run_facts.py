"""What the report of a run is made from: gathered from record, store and dataset, nothing computed again but cosines.

Shapes: Q queries, N clips, S samples (timestep and noise).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from motive_fo.attribution.gradients import UNMASKED
from motive_fo.dataset.choose import records_of
from motive_fo.dataset.connect import fiftyone, load_dataset
from motive_fo.dataset.queries import Query, run_queries
from motive_fo.dataset.run_record import RunRecord
from motive_fo.dataset.steps import checkpoint_stores
from motive_fo.dataset.trace import Traced, trace
from motive_fo.influence.curation import Candidates, Selection
from motive_fo.influence.redundancy import Redundancy, redundancy
from motive_fo.influence.selection import budget_count, scored_clips
from motive_fo.influence.stability import Stability, stability
from motive_fo.pipeline.record import ClipRecord
from motive_fo.pipeline.scoring import sample_scores
from motive_fo.store.fingerprints import SCORING, origins
from motive_fo.store.run_store import Role, RunStore
from motive_fo.store.sketches import Sample, SketchTables
from motive_fo.store.table import Status, Table

_ROLES: Final[tuple[Role, ...]] = ("train", "query")
_COMPARED: Final = 2000  # clips of a set that are compared with each other: 32 MB of cosines
#: cosine from which two clips are called near-duplicates where the run's settings name none.
NEAR: Final = 0.95


@dataclass(frozen=True)
class Failure:
    """A clip with an error."""

    id: str
    role: str
    code: str
    message: str


@dataclass(frozen=True)
class Facts:
    """What the parts of the page are made from.

    Attributes:
        dataset, record: the run.
        motion, train: its tables.
        candidates, made: the scored clips, and the selection that the run's settings make of them.
        queries: those that were scored.
        clips: clip id -> the clip, of every clip of the datasets.
        states: training clips by state.
        failures: clips with an error, queries too.
        stability: agreement of the rankings by single timesteps and noises; None where there is one.
        sample_names: the timesteps and noises that were scored with.
        traced: where the figures of each step come from.
    """

    dataset: Any
    record: RunRecord
    motion: Table
    train: SketchTables
    candidates: Candidates
    made: Selection
    queries: list[Query]
    clips: dict[str, ClipRecord]
    states: Counter[str]
    failures: list[Failure]
    stability: Stability | None
    sample_names: list[str]
    traced: dict[str, Traced]

    @classmethod
    def gather(cls, dataset: Any, record: RunRecord, store: RunStore, candidates: Candidates, made: Selection) -> Facts:
        """Read everything."""
        holders = [dataset]
        if record.query_dataset and fiftyone().dataset_exists(record.query_dataset):
            holders.append(load_dataset(record.query_dataset))
        train = store.sketches("train")
        ids = [clip_id for clip_id in candidates.ids if clip_id in train]
        said = origins(record.store)[SCORING].settings.get("samples")
        samples = train.samples if said is None else [Sample(float(t), int(n)) for t, n in said]
        return cls(
            dataset,
            record,
            store.table("motion"),
            train,
            candidates,
            made,
            run_queries(dataset, record, candidates.queries),
            {clip.id: clip for holder in holders for clip in records_of(holder, record).records},
            Counter(Status(int(state)).name.lower() for state in train.states(ids)),
            [failure for role in _ROLES for failure in _failures(store.sketches(role), role)],
            _stability(dataset, record, store, candidates) if len(samples) > 1 else None,
            [str(sample) for sample in samples],
            {each.step: each for each in trace(record)},
        )

    @property
    def count(self) -> int:
        """Clips the budget asks for."""
        return budget_count(self.record.section("selection").budget, len(self.made.ranking.ids))

    def statistic(self, name: str, ids: Iterable[str]) -> list[float]:
        """A motion statistic of clips that have one."""
        known = [clip_id for clip_id in ids if clip_id in self.motion]
        return [float(v) for v in self.motion.read(name, known) if np.isfinite(v)]

    def mean_motion(self, ids: Iterable[str]) -> list[float]:
        """Mean motion of clips that have one, in pixels per frame."""
        return self.statistic("mean", ids)

    def groups(self) -> dict[str, list[str]]:
        """The clips that are compared: all that were scored, the selection, and as many of the most harmful."""
        ranking = self.made.ranking
        share = self.record.section("selection").budget
        return {"all": ranking.ids, "selection": self.made.chosen.ids, "harmful": ranking.bottom(share)}

    def source(self, *steps: str) -> str:
        """Fingerprints of what the figures of some steps come from."""
        parts = [self.traced[step].fingerprints for step in steps if step in self.traced]
        return ", ".join(dict.fromkeys(f"{part} {digest}" for each in parts for part, digest in each.items()))

    def norms(self, ids: Iterable[str]) -> list[float]:
        """Lengths of the whole loss's gradients, of the first timestep and noise."""
        known = [clip_id for clip_id in ids if clip_id in self.train]
        return [float(v) for v in self.train.read("norm", known)[:, 0, UNMASKED] if np.isfinite(v)]

    @property
    def near(self) -> float:
        """Cosine from which two clips count as near-duplicates."""
        collapse: float | None = self.record.section("selection").collapse
        return NEAR if collapse is None else collapse

    def redundancy(self, ids: Sequence[str]) -> Redundancy | None:
        """How much clips repeat each other, the first ``_COMPARED`` of them; None for fewer than two sketches."""
        some = list(ids[:_COMPARED])
        if len(some) < 2 or self.candidates.sketches is None:
            return None
        try:
            return redundancy(some, self.candidates.sketches(some), least=self.near)
        except ValueError:
            return None

    def scores_of(self, query: int) -> npt.NDArray[np.float32]:
        """The scores of the ranked clips for one query, in the ranking's order."""
        place = {clip_id: n for n, clip_id in enumerate(self.candidates.ids)}
        columns = [place[clip_id] for clip_id in self.made.ranking.ids]
        scores: npt.NDArray[np.float32] = self.candidates.scores_QN[query][columns]
        return scores


def _failures(sketches: SketchTables, role: str) -> list[Failure]:
    ids = [clip_id for clip_id in sketches.ids if sketches.status(clip_id) == Status.FAILED]
    words = (sketches.read(column, ids) for column in ("code", "message"))
    return [Failure(i, role, str(code), str(text)) for i, code, text in zip(ids, *words, strict=True)]


def _stability(dataset: Any, record: RunRecord, store: RunStore, candidates: Candidates) -> Stability | None:
    influence = record.section("influence")
    others = checkpoint_stores(dataset, influence)
    each = sample_scores(candidates.ids, candidates.queries, store, influence, others=others)
    known = np.logical_and.reduce([scored_clips(scores_QN) for scores_QN in each.scores_SQN])
    return stability(each.scores_SQN, record.section("selection").budget) if known.sum() > 1 else None
