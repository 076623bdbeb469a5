"""A run repeated from its record, into a store of its own, and compared: does it come out again, and if not, why?

The same steps compute it (``pipeline.motion``, ``pipeline.gradients``, ``pipeline.scoring``, ``influence.curation``),
without anything kept of earlier runs: no measured motion, no encodings. The run's fields, views, record and store are
only read.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from motive_fo.config import AttributionConfig, InfluenceConfig, merge
from motive_fo.dataset.choose import records_of
from motive_fo.dataset.connect import as_samples, dataset_of, fiftyone, load_dataset
from motive_fo.dataset.curation import ScoredClips
from motive_fo.dataset.motion_report import motion_settings, write_file
from motive_fo.dataset.ownership import open_store
from motive_fo.dataset.replay_report import ReplayReport, SelectionDifference, origin_differences
from motive_fo.dataset.run_record import RunRecord, load_run
from motive_fo.dataset.steps import checkpoint_stores
from motive_fo.dataset.trace import trace
from motive_fo.errors import InputError, MotiveError
from motive_fo.influence.cosine import RELATIVE
from motive_fo.influence.curation import select
from motive_fo.models.registry import attributed_model
from motive_fo.pipeline.difference import compare_scores, compare_tables
from motive_fo.pipeline.motion import MotionSettings, compute_motion_table
from motive_fo.pipeline.record import ClipRecord
from motive_fo.pipeline.scoring import KINDS, score
from motive_fo.progress import Progress, silent
from motive_fo.store.fingerprints import SCORING, Origin, origins
from motive_fo.store.run_store import Role, RunStore
from motive_fo.store.sketches import Sample
from motive_fo.store.table import Status, Table

#: relative difference up to which a row counts as the same.
TOLERANCE: Final = 1e-3
#: codes that come from comparing a clip with all others.
_BY_OTHERS: Final = ("duplicate_clip", "repeated_sketch")
_ROLES: Final[tuple[Role, ...]] = ("query", "train")


def replay_run(
    dataset: Any,
    run: str = "motive",
    *,
    sample: int | None = None,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    device: str | None = None,
    keep: str | Path | None = None,
    progress: Progress = silent,
) -> ReplayReport:
    """Compute a run again from its record and compare every row, cosine and the selection with what it holds.

    ``Choice:`` a row is the same to the bit, or within ``tolerance``, or different. On one machine with the same
    packages every row is the same to the bit; another processor sums in another order.

    Args:
        dataset: a dataset or its name.
        run: name of the run. Nothing of it is changed.
        sample: only so many training clips, drawn at random; with them all queries, but not the selection.
        seed: of that draw.
        tolerance: largest relative difference of a column's values, and largest difference of two cosines.
        device: where gradients are computed, such as ``cpu``; the run's own setting where open.
        keep: a new or empty folder for the second store and the report; they are thrown away where open.

    Raises:
        InputError: no such run, nothing in it, or the folder is in use.
        MotiveError: the run cannot be repeated here: its model, weights or device are missing.
    """
    began = time.perf_counter()
    dataset = dataset_of(as_samples(dataset))
    record = load_run(dataset, run)
    _require_numbers(sample, tolerance)
    held = open_store(record)
    asked = _Asked.of(dataset, record, held, sample, seed)
    report = ReplayReport(dataset.name, run, sample=asked.sample, seed=seed, clips=asked.clips, tolerance=tolerance)
    with _scratch(keep, record) as folder:
        with RunStore(folder / "run.zarr", write=True) as again:
            replay = _Replay(dataset, record, held, again, asked, report, progress)
            replay.compute(device)
            replay.compare()
        report.seconds = round(time.perf_counter() - began, 3)
        if keep is not None:
            report.kept = str(folder)
            write_file(folder / "replay.json", json.dumps(report.as_dict(), indent=1).encode())
    return report


@dataclass(frozen=True)
class _Asked:
    """What is repeated.

    Attributes:
        ids: ``train``, ``query`` and ``motion`` (clips of which nothing else is known) -> clip ids in the order of
            their rows, which tells which of two equal videos is the duplicate.
        records: clip id -> the clip, of every clip of the datasets.
        sample: training clips drawn; None for all.
    """

    ids: Mapping[str, list[str]]
    records: Mapping[str, ClipRecord]
    sample: int | None

    @classmethod
    def of(cls, dataset: Any, record: RunRecord, store: RunStore, sample: int | None, seed: int) -> _Asked:
        ids: dict[str, list[str]] = {"motion": [], "train": [], "query": []}
        barred: set[str] = set()
        for role in _ROLES:
            if store.has_table(role):
                sketches = store.sketches(role)
                ids[role] = [i for i in sketches.ids if sketches.status(i) != Status.PENDING]
                codes = sketches.read("code", ids[role])
                barred |= {i for i, code in zip(ids[role], codes, strict=True) if code in _BY_OTHERS}
        if store.has_table("motion"):
            table, others = store.table("motion"), {*ids["train"], *ids["query"]}
            ids["motion"] = [i for i in table.ids if i not in others and table.status(i) != Status.PENDING]
        if not any(ids.values()):
            raise InputError(f"run {record.run!r} has computed nothing yet: there is nothing to repeat")
        drawn = "train" if ids["train"] else "motion"
        if sample is not None and sample < len(ids[drawn]):
            pool = [i for i in ids[drawn] if i not in barred]
            places = np.random.default_rng(seed).choice(len(pool), min(sample, len(pool)), replace=False)
            ids = {**ids, "motion": [], drawn: [pool[n] for n in sorted(places.tolist())]}
        else:
            sample = None
        holders = [dataset]
        if record.query_dataset and fiftyone().dataset_exists(record.query_dataset):
            holders.append(load_dataset(record.query_dataset))
        records = {clip.id: clip for holder in holders for clip in records_of(holder, record).records}
        return cls(ids, records, sample)

    @property
    def clips(self) -> int:
        """How many clips are repeated."""
        return len({clip_id for ids in self.ids.values() for clip_id in ids})

    def present(self, name: str) -> list[ClipRecord]:
        """The clips that the dataset still has."""
        return [self.records[clip_id] for clip_id in self.ids[name] if clip_id in self.records]

    def gone(self, ids: Sequence[str]) -> list[str]:
        """Those of some clips that the dataset has no more."""
        return [clip_id for clip_id in ids if clip_id not in self.records]


class _Replay:
    def __init__(
        self,
        dataset: Any,
        record: RunRecord,
        held: RunStore,
        again: RunStore,
        asked: _Asked,
        report: ReplayReport,
        progress: Progress,
    ) -> None:
        self._dataset = dataset
        self._record = record
        self._held = held
        self._again = again
        self._asked = asked
        self._report = report
        self._progress = progress
        self._origins = origins(record.store)
        # those of the last gradient step, and those that were scored with
        self._samples: dict[Role, list[Sample]] = {
            role: list(dict.fromkeys([*held.sketches(role).samples, *self._scored_samples()]))
            for role in _ROLES
            if held.has_table(role)
        }

    # -- compute ------------------------------------------------------------------------------------------------------

    def compute(self, device: str | None) -> None:
        """Motion, sketches and cosines into the second store."""
        settings = motion_settings(self._record)
        if self._samples:
            self._sketches(settings, device)
        if alone := self._asked.present("motion"):
            compute_motion_table(alone, self._again, settings, progress=self._progress)
        if self._held.has_table(SCORING):
            self._score()

    def _sketches(self, settings: MotionSettings, device: str | None) -> None:
        from motive_fo.pipeline.gradients import GradientSettings, compute_sketch_table

        config: AttributionConfig = self._record.section("attribution")
        wanted = [sample for samples in self._samples.values() for sample in samples]
        changes: dict[str, Any] = {
            "timesteps": tuple(dict.fromkeys(sample.timestep for sample in wanted)),
            "noises": tuple(dict.fromkeys(sample.noise for sample in wanted)),
        }
        if device is not None:
            changes |= {"device": device, "devices": ()}
        config = merge(config, changes, "attribution")
        built = GradientSettings.build(settings, config, attributed_model(config, settings.spec))
        for role in self._samples:
            compute_sketch_table(self._asked.present(role), self._again, built, role, progress=self._progress)

    def _scored_samples(self) -> list[Sample]:
        origin = self._origins.get(SCORING)
        listed = [] if origin is None else origin.settings.get("samples", [])
        return [Sample(float(timestep), int(noise)) for timestep, noise in listed]

    def _score(self) -> None:
        config: InfluenceConfig = self._record.section("influence")
        if self._asked.sample is not None and (why := _compares_all(config)):
            self._report.notes.append(f"cosines are not compared: {why} looks at all training clips, not at a sample")
            return
        stored, samples = self._held.scores("motion"), self._scored_samples()
        there = {role: set(self._again.sketches(role).ids) for role in self._samples}
        refused = self._origins[SCORING].settings.get("refused", {})
        exact = replace(
            config,
            timesteps=tuple(dict.fromkeys(sample.timestep for sample in samples)) or None,
            noises=tuple(dict.fromkeys(sample.noise for sample in samples)) or None,
        )
        try:
            score(
                [i for i in stored.train_ids if i in there.get("train", ())],
                [i for i in (*stored.query_ids, *refused) if i in there.get("query", ())],
                self._again,
                exact,
                others=checkpoint_stores(self._dataset, config),
                progress=self._progress,
            )
        except MotiveError as error:
            self._report.failures.append(f"the clips cannot be scored again: {error}")
        if config.checkpoints:
            self._report.notes.append("the other checkpoints were taken as stored: replay their runs too")

    # -- compare ------------------------------------------------------------------------------------------------------

    def compare(self) -> None:
        """Everything both stores have."""
        self._report.origins = origin_differences(_without_scoring(self._origins), origins(str(self._again.place)))
        moved: dict[str, str] = {}
        for name, stored, replayed, ids in self._tables():
            found = compare_tables(
                stored, replayed, ids, name, self._report.tolerance, moved, explained=bool(self._report.origins)
            )
            self._report.tables[name] = found
            if name == "motion":
                moved = dict.fromkeys((row.id for row in found.different), "its motion differs")
        self._report.gone = self._asked.gone([i for ids in self._asked.ids.values() for i in ids])
        if self._again.has_table(SCORING):
            for kind in KINDS:
                self._report.scores[kind] = compare_scores(
                    self._held.scores(kind), self._again.scores(kind), self._report.tolerance
                )
            rows_are_close = all(table.is_close for table in self._report.tables.values())
            if rows_are_close and not all(part.is_close for part in self._report.scores.values()):
                self._report.origins.append(
                    "the sketches come out again but not the cosines: they are of earlier sketches or settings, score "
                    "again (motive influence)"
                )
        if self._asked.sample is None and self._again.has_table(SCORING) and "curate" in self._record.steps:
            try:
                self._report.selection = self._selection()
            except MotiveError as error:
                self._report.failures.append(f"the selection cannot be made again: {error}")
        self._note_what_is_left()

    def _tables(self) -> Iterator[tuple[str, Table, Table, list[str]]]:
        """Name, stored and repeated table, clips to compare."""
        every = [i for name in ("motion", "train", "query") for i in self._asked.ids[name]]
        if self._held.has_table("motion") and self._again.has_table("motion"):
            table = self._held.table("motion")
            yield "motion", table, self._again.table("motion"), [i for i in dict.fromkeys(every) if i in table]
        for role, samples in self._samples.items():
            held, again = self._held.sketches(role, samples), self._again.sketches(role, samples)
            for sample in samples:
                name = f"{role}/{sample.table}"
                yield name, held.tables[sample], again.tables[sample], self._asked.ids[role]

    def _selection(self) -> SelectionDifference:
        scored = ScoredClips.read(self._dataset, self._record, self._again)
        candidates = scored.candidates(self._record.section("selection"))
        made = select(candidates, self._record.section("selection"))
        names = {sample_id: clip_id for clip_id, sample_id in scored.sample_ids.items()}
        ids, places = self._dataset.values(["id", f"{self._record.run}.selected"])
        stored = sorted((place, names[i]) for i, place in zip(ids, places, strict=True) if place is not None)
        said = self._record.steps["curate"]
        avoided = sum(candidates.avoid_Q.tolist())
        if (followed := len(candidates.queries) - avoided, avoided) != (said.get("followed"), said.get("avoided")):
            self._report.origins.append(
                f"{said.get('followed')} queries were followed and {said.get('avoided')} avoided when it was curated, "
                f"now {followed} and {avoided}: tags or groups of queries were changed since"
            )
        return SelectionDifference([clip_id for _, clip_id in stored], list(made.chosen.ids))

    def _note_what_is_left(self) -> None:
        self._report.origins += [line for each in trace(self._record) for line in each.warnings]
        for role, samples in self._samples.items():
            other = [sample for sample in self._held.stored_samples(role) if sample not in samples]
            if other:
                listed = "; ".join(map(str, other))
                self._report.notes.append(f"{role} sketches of earlier gradient steps are not repeated: {listed}")


def _compares_all(config: InfluenceConfig) -> str:
    """The setting by which a clip's score depends on the other training clips; empty where none does."""
    settings = {
        f"combine {config.combine}": config.combine in RELATIVE,
        f"center {config.center}": config.center != "none",
        f"kernel {config.kernel}": config.kernel == "gauss-newton",
        f"overlap {config.overlap}": config.overlap == "remove",
    }
    return next((name for name, relative in settings.items() if relative), "")


def _without_scoring(found: Mapping[str, Origin]) -> dict[str, Origin]:
    return {name: origin for name, origin in found.items() if name != SCORING}


def _require_numbers(sample: int | None, tolerance: float) -> None:
    if sample is not None and sample < 1:
        raise InputError(f"a sample of {sample} clips cannot be repeated: give 1 or more, or leave it out for all")
    if not 0 <= tolerance < float("inf"):
        raise InputError(f"the tolerance {tolerance} is no share: give 0 for equality to the bit, or such as 0.001")


@contextmanager
def _scratch(keep: str | Path | None, record: RunRecord) -> Iterator[Path]:
    """A folder for the second store."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="motive-replay-") as folder:
            yield Path(folder)
        return
    place = Path(keep).expanduser().absolute()
    if place.resolve().is_relative_to(Path(record.store).resolve()):
        raise InputError(f"{place} is in the store of the run: choose another folder")
    try:
        place.mkdir(parents=True, exist_ok=True)
        taken = any(place.iterdir())
    except OSError as error:
        raise InputError(f"cannot write to {place}: {error.strerror}; choose another folder") from None
    if taken:
        raise InputError(f"{place} is not empty: choose a new folder for the repeated store")
    yield place
