"""What a computation would do and cost, found out without writing anything: counts, problems, time and disk.

Time is measured, not modelled: a few of the very clips are computed by the very step into a store that is thrown away.
What is not measured is said beside the number.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np

from motive_fo.clips.policy import plan
from motive_fo.clips.probe import probe
from motive_fo.config import AttributionConfig, ClipConfig, FlowConfig, MotionConfig, Preset, RunConfig
from motive_fo.dataset.captions import (
    caption_notes,
    require_captions_kept,
    settle_attribution,
    settle_caption_field,
)
from motive_fo.dataset.choose import Chosen, choose_queries, choose_train, records_of, values_of
from motive_fo.dataset.connect import as_samples, dataset_of, fiftyone, load_dataset
from motive_fo.dataset.imports import BROUGHT_FIELD, caption_after, list_clips
from motive_fo.dataset.listing import Entry
from motive_fo.dataset.ownership import open_run, open_store
from motive_fo.dataset.run_record import RunRecord, encodings_folder, measured_folder
from motive_fo.dataset.toy_model import toy_notes
from motive_fo.errors import ClipError, InputError
from motive_fo.models.registry import attributed_model, model_card
from motive_fo.pipeline.motion import MotionSettings, compute_motion_table, measured_before
from motive_fo.pipeline.record import ClipRecord, outdated, version_of
from motive_fo.pipeline.report import ENCODING, StepReport
from motive_fo.progress import Progress, silent
from motive_fo.store.encodings import EncodingStore, contents
from motive_fo.store.identity import require_equal
from motive_fo.store.place import place_of
from motive_fo.store.run_store import Role, RunStore
from motive_fo.store.table import CHUNK_ROWS, Column, Status, Table

Changes = Mapping[str, Any]
Step = Literal["gradients", "motion"]

LOOKED_AT: Final = 64  # clips whose packets are read, evenly spaced
MEASURED: Final = 3  # clips computed for the rate, after one that warms up
SECONDS_MEASURING: Final = 60.0  # no further clip is measured after so long
_TEXT_BYTES: Final = 200  # id, decoder, digests and messages of a row, roughly


@dataclass(frozen=True)
class RoleEstimate:
    """The clips of one role.

    Attributes:
        clips: all of them.
        done: computed already, static clips included; nothing is done for these.
        failed: failed before, and left alone unless failed clips are tried again.
        todo: to be computed.
        missing: of ``todo``, those whose file is not there.
    """

    clips: int
    done: int
    failed: int
    todo: int
    missing: int


@dataclass(frozen=True)
class Estimate:
    """What a computation would do and cost.

    Attributes:
        dataset, run, store: where it would go.
        step: ``gradients`` or ``motion``.
        new: clips that an import would add first.
        roles: role -> counts.
        looked_at: clips to compute whose packets were read.
        problems: error code -> how many of these would fail with it.
        measured: seconds per clip of the clips computed for this, the one that warmed up left out.
        phases: phase -> seconds over all clips computed for this.
        earlier: step -> seconds per clip when the run last computed it.
        seconds: least and most time for everything, as far as these rates tell; None where nothing could be measured.
        bytes: disk the store would take in addition.
        kept_bytes: what would be kept beside the store for other runs: ``encodings``, ``measured motion`` -> bytes.
        known: of the clips looked at and sound, those whose ``motion`` or ``encodings`` are known and that take less
            time than the ones measured: kind -> count.
        frames: (T, H, W) of a clip as the model sees it.
        tokens: of a clip in the network, None where no gradient was measured.
        memory: bytes of the network's weights (``weights``) and the most memory held while measuring (``peak``): of the
            GPU, or of this whole process; empty where no gradient was measured.
        memory_on: what ``peak`` is of: ``GPU`` or ``process``.
        notes: what a number leaves out.
    """

    dataset: str
    run: str
    store: str
    step: Step
    new: int
    roles: dict[str, RoleEstimate]
    looked_at: int
    problems: dict[str, int]
    measured: list[float]
    phases: dict[str, float]
    earlier: dict[str, float]
    seconds: tuple[float, float] | None
    bytes: int
    kept_bytes: dict[str, int]
    known: dict[str, int]
    frames: tuple[int, int, int]
    tokens: int | None
    memory: dict[str, int]
    memory_on: str
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def estimate(
    samples: Any,
    run: str = "motive",
    *,
    step: Step = "gradients",
    train: Any | None = None,
    query: Any | None = None,
    clip: ClipConfig | Changes | None = None,
    flow: FlowConfig | Changes | None = None,
    motion: MotionConfig | Changes | None = None,
    attribution: AttributionConfig | Changes | None = None,
    store: str | Path | None = None,
    preset: Preset | None = None,
    retry_failed: bool = False,
    progress: Progress = silent,
) -> Estimate:
    """What ``compute_gradients``, ``compute_motion`` or ``run`` would do and cost with the same arguments.

    Writes nothing: no dataset, no field, no store. A few clips are computed into a temporary folder to measure.

    Args:
        samples: a dataset, a view or a dataset's name; or a ``RunConfig``, whose clips are counted from its folders and
            listings where they are not imported yet, and which brings all settings but ``retry_failed``.
        step: ``gradients`` (motion included where it is missing) or ``motion``.

    Other arguments as for the step.

    Raises:
        MotiveError: what the step itself would refuse, such as settings that differ from the run's.
    """
    if isinstance(samples, RunConfig):
        config = samples
        name, exists = config.dataset, fiftyone().dataset_exists(config.dataset)
        dataset = load_dataset(name) if exists else None
        listed = {
            "train": list_clips(config.videos).entries if config.videos is not None else [],
            "query": list_clips(config.queries).entries if config.queries is not None else [],
        }
        record = _record(dataset, name, config.run, config.store)
        clip, flow, motion, attribution = config.clip, config.flow, config.motion, config.attribution
        preset = config.preset
    else:
        samples = as_samples(samples)
        dataset, new = dataset_of(samples), 0
        name = dataset.name
        record = _record(dataset, name, run, store)
    card_config = settle_attribution(record, attribution, preset)
    about = settle_caption_field(dataset, record) if dataset is not None and step == "gradients" else []
    if isinstance(samples, RunConfig):
        records, new = _records_after_import(samples, dataset, record, listed)
        holders = dict.fromkeys(records, dataset)
    else:
        chosen = {"all": records_of(samples)} if step == "motion" else _chosen(samples, record, train, query)
        records = {role: each.records for role, each in chosen.items()}
        holders = {role: dataset_of(each.samples) for role, each in chosen.items()}
    settings = MotionSettings.build(
        record.settle("clip", clip),
        record.settle("flow", flow, preset),
        record.settle("motion", motion, preset),
        model_card(card_config.model),
    )
    work = _MotionWork(settings) if step == "motion" else _GradientWork(settings, card_config)
    stored = open_store(record) if place_of(record.store).is_there() else None
    for role, holder in holders.items() if step == "gradients" else ():
        if stored is not None and holder is not None:
            require_captions_kept(holder, record, stored, role, records[role])
        about += caption_notes(holder, record, role, records[role])
    about += toy_notes(dataset, record) if step == "gradients" else []
    roles, todo = work.count(records, stored, retry_failed)
    sound, problems, looked_at, probing = _look(todo, settings, progress)
    measured, phases, warm_up, notes = _measure(sound, work, progress)
    notes = [*about, *notes]
    looked = work.look_for_known(sound, stored, notes)
    if len(card_config.devices) > 1 and measured:
        count = len(card_config.devices)
        measured = [_on_devices(seconds, count, phases) for seconds in measured]
        notes.append(f"measured on one device; with {count}, only the gradients' share is divided by {count}")
    if isinstance(samples, RunConfig):
        notes.append("influence, selection and export come on top: seconds, unless the export copies large files")
    earlier = _earlier(record, step)
    return Estimate(
        dataset=name,
        run=record.run,
        store=record.store,
        step=step,
        new=new,
        roles=roles,
        looked_at=looked_at,
        problems=problems,
        measured=measured,
        phases=phases,
        earlier=earlier,
        seconds=_seconds(len(todo), new, probing, warm_up, [*measured, *earlier.values()]),
        bytes=work.bytes(records, stored),
        kept_bytes=work.kept_bytes(len(todo), len(sound), looked),
        known=looked,
        frames=(settings.spec.frames, settings.spec.height, settings.spec.width),
        tokens=work.tokens,
        memory=dict(work.memory),
        memory_on=work.memory_on,
        notes=notes,
    )


# -- which clips ------------------------------------------------------------------------------------------------------


def _record(dataset: Any | None, name: str, run: str, store: str | Path | None) -> RunRecord:
    """The run's record, or the one it would get; nothing is saved."""
    if dataset is None:
        dataset = _NoDataset(name)
    record = open_run(dataset, run, store)
    return replace(record, settings=dict(record.settings))


@dataclass(frozen=True)
class _NoDataset:
    """Stands for a dataset that an import would make: it has no runs and no fields yet."""

    name: str

    def list_runs(self) -> list[str]:
        return []

    def has_sample_field(self, name: str) -> bool:
        return False


def _chosen(samples: Any, record: RunRecord, train: Any | None, query: Any | None) -> dict[str, Chosen]:
    dataset = dataset_of(samples)
    queries = choose_queries(dataset, record.query if query is None else query)
    if dataset_of(queries).name != dataset.name:
        record.query_dataset = dataset_of(queries).name
    clips = {
        "query": records_of(queries, record),
        "train": records_of(choose_train(dataset, record.train if train is None else train), record),
    }
    for role, chosen in clips.items():
        if not chosen.records:
            raise InputError(f"there are no {role} clips in what was chosen for them")
    return clips


def _records_after_import(
    config: RunConfig, dataset: Any | None, record: RunRecord, listed: dict[str, list[Entry]]
) -> tuple[dict[str, list[ClipRecord]], int]:
    """The clips of each role as they would be after the import, and how many of them are new to the dataset."""
    known = {} if dataset is None else {(r.path, r.start): r for r in records_of(dataset, record).records}
    noted = dataset is not None and dataset.has_sample_field(BROUGHT_FIELD)
    brought = values_of(dataset, BROUGHT_FIELD) if noted else {}
    records: dict[str, list[ClipRecord]] = {}
    selectors = {"query": config.query, "train": config.train}
    for role, selector in selectors.items():
        entries = {(entry.path, entry.start): entry for entry in listed[role]}
        by_role = selector in (None, role, f"tag:{role}")
        if dataset is None and not (by_role and entries):
            what = f"{selector!r} names clips" if selector else f"no {role} clips are named"
            raise InputError(f"{what}, but dataset {config.dataset!r} does not exist yet: import clips first")
        if by_role and entries:
            tagged = dataset is not None and role in dataset.distinct("tags")
            present = records_of(dataset.match_tags(role), record).records if dataset is not None and tagged else []
        else:
            chosen = choose_queries(dataset, selector) if role == "query" else choose_train(dataset, selector)
            if dataset_of(chosen).name != config.dataset:
                record.query_dataset = dataset_of(chosen).name
            present, entries = records_of(chosen, record).records, {}
        found = {(r.path, r.start): r for r in present}
        for at, entry in entries.items():
            old = known.get(at)
            found[at] = (
                ClipRecord(entry.id, entry.path, entry.caption, entry.start)
                if old is None
                else replace(old, caption=caption_after(old.caption, brought.get(old.id), entry.caption))
            )
        records[role] = list(found.values())
    new = {at for entries in listed.values() for e in entries if (at := (e.path, e.start)) not in known}
    return records, len(new)


# -- what is to do ----------------------------------------------------------------------------------------------------


class _MotionWork:
    """The motion step as an estimate sees it: tables, what is outdated in them, how to compute some clips."""

    #: found out by ``compute``
    tokens: int | None = None
    memory: Mapping[str, int] = MappingProxyType({})
    memory_on = ""

    def __init__(self, settings: MotionSettings) -> None:
        self.settings = settings
        self._measured_rows = 0

    def count(
        self, records: dict[str, list[ClipRecord]], stored: RunStore | None, retry_failed: bool
    ) -> tuple[dict[str, RoleEstimate], list[ClipRecord]]:
        """Counts of each role, and the records to compute."""
        roles, todo = {}, []
        for role, chosen in records.items():
            name = self._table_name(role)
            tables = self._tables(name, stored)
            waiting: set[str] = set()
            for table in tables:
                stale = (
                    chosen
                    if table is None
                    else outdated(table, chosen, with_caption=name != "motion", retry_failed=retry_failed)
                )
                waiting |= {record.id for record in stale}
            due = [record for record in chosen if record.id in waiting]
            rest = [record.id for record in chosen if record.id not in waiting]
            failed = sum(1 for i in rest if any(t is not None and t.status(i) == Status.FAILED for t in tables))
            missing = sum(1 for record in due if not record.path.is_file())
            roles[role] = RoleEstimate(len(chosen), len(rest) - failed, failed, len(due), missing)
            todo += due
        return roles, todo

    def bytes(self, records: dict[str, list[ClipRecord]], stored: RunStore | None) -> int:
        """Disk that the rows to come take."""
        total = 0
        every = {record.id for chosen in records.values() for record in chosen}
        rows = {self._table_name(role): {record.id for record in chosen} for role, chosen in records.items()}
        for name, columns in self._columns().items():
            for table in self._tables(name, stored):
                old = set(table.ids) if table is not None else set()
                new = old | rows.get(name, every)
                total += _table_bytes(columns, len(new)) - _table_bytes(columns, len(old))
        return total

    def compute(self, records: Sequence[ClipRecord], store: RunStore, progress: Progress) -> StepReport:
        """Compute some clips into a store."""
        return compute_motion_table(records, store, self.settings, progress=progress)

    def look_for_known(self, sound: Sequence[ClipRecord], stored: RunStore | None, notes: list[str]) -> dict[str, int]:
        """How many of the clips looked at take less than those measured, which were computed whole."""
        with self.settings.measured(measured_folder(), notes, write=False) as measured:
            self._measured_rows = len(measured)
            before = measured_before(sound, measured)
        (table,) = self._tables("motion", stored)
        waiting = sound if table is None else outdated(table, sound, with_caption=False)
        return {"motion": len(before | {record.id for record in sound} - {record.id for record in waiting})}

    def kept_bytes(self, todo: int, sound: int, known: Mapping[str, int]) -> dict[str, int]:
        """Disk that what is kept for other runs takes, if the clips not looked at are like those that were."""
        if not self.settings.motion.reuse or not sound:
            return {}
        new = round(todo * (1 - known["motion"] / sound))
        columns, old = self.settings.measured_columns(), self._measured_rows
        return {"measured motion": _table_bytes(columns, old + new) - _table_bytes(columns, old)}

    def _table_name(self, role: str) -> str:
        return "motion"

    def _columns(self) -> dict[str, dict[str, Column]]:
        return {"motion": self.settings.columns()}

    def _tables(self, name: str, stored: RunStore | None) -> list[Table | None]:
        """The tables the step would continue, None for each that it would make.

        Raises ``StoreMismatchError`` where one cannot be continued with these settings.
        """
        if stored is None or not stored.has_table(name):
            return [None]
        table = stored.table(name)
        _require_same(table, self.settings.identity(), f"the table '{name}' of this run")
        return [table]


class _GradientWork(_MotionWork):
    """The gradient step, likewise. The model is loaded: its size and speed are what is asked about."""

    def __init__(self, settings: MotionSettings, config: AttributionConfig) -> None:
        from motive_fo.pipeline.gradients import GradientSettings

        super().__init__(settings)
        config = replace(config, device=config.devices[0], devices=()) if config.devices else config
        self._gradients = GradientSettings.build(settings, config, attributed_model(config, settings.spec))
        self._encoding_bytes = 0.0  # of one clip

    def compute(self, records: Sequence[ClipRecord], store: RunStore, progress: Progress) -> StepReport:
        from motive_fo.pipeline.gradients import compute_sketch_table
        from motive_fo.pipeline.probe import probed

        model, kept = self._gradients.model, store.place.beside(".encodings")
        with probed(model) as found:
            try:
                return compute_sketch_table(
                    records, store, self._gradients, "train", kept_encodings=kept, progress=progress
                )
            finally:
                held = contents(kept)
                self._encoding_bytes = sum(held.bytes[k] / max(1, held.entries[k]) for k in held.entries)
                found.finish()
                self.tokens, self.memory, self.memory_on = found.tokens, found.memory, found.memory_on

    def look_for_known(self, sound: Sequence[ClipRecord], stored: RunStore | None, notes: list[str]) -> dict[str, int]:
        from motive_fo.models.base import StagedModel
        from motive_fo.pipeline.encoding import KeptEncodings

        known, model = super().look_for_known(sound, stored, notes), self._gradients.model
        if isinstance(model, StagedModel):
            known["encodings"] = 0
            if self._gradients.attribution.keep_encodings and encodings_folder().is_dir():
                source = KeptEncodings(model, model, self.settings, EncodingStore(encodings_folder(), write=False))
                known["encodings"] = sum(source.has(r, version_of(r, with_caption=True)) for r in sound)
        return known

    def kept_bytes(self, todo: int, sound: int, known: Mapping[str, int]) -> dict[str, int]:
        kept = super().kept_bytes(todo, sound, known)
        if "encodings" in known and sound and self._gradients.attribution.keep_encodings:
            kept["encodings"] = round(self._encoding_bytes * todo * (1 - known["encodings"] / sound))
        return kept

    def _table_name(self, role: str) -> str:
        return role

    def _columns(self) -> dict[str, dict[str, Column]]:
        sketches = self._gradients.columns()
        return {"motion": self.settings.columns(), "train": sketches, "query": sketches}

    def _tables(self, name: str, stored: RunStore | None) -> list[Table | None]:
        """For a role one table for each timestep and noise."""
        if name == "motion":
            return super()._tables(name, stored)
        samples = self._gradients.samples()
        role: Role = "query" if name == "query" else "train"
        if stored is None or not stored.has_table(role):
            return [None] * len(samples)
        known = stored.sketches(role)
        for sample, table in known.tables.items():
            identity = {**self._gradients.identity(), "timestep": sample.timestep, "noise": sample.noise}
            _require_same(table, identity, f"the sketches of {role} clips of this run")
        there = [sample for sample in samples if sample in known.stored]
        tables = stored.sketches(role, there).tables if there else {}
        return [tables.get(sample) for sample in samples]


def _require_same(table: Table, identity: dict[str, Any], what: str) -> None:
    if table.identity:
        require_equal(table.identity, json.loads(json.dumps(identity)), what)


def _table_bytes(columns: Mapping[str, Column], rows: int) -> int:
    """Bytes of a table: a chunk is written whole, however few of its rows are used."""
    chunks = -(-rows // CHUNK_ROWS) * CHUNK_ROWS
    row = sum(
        np.dtype(column.dtype).itemsize * int(np.prod(column.shape, dtype=np.int64))
        for column in columns.values()
        if column.dtype != "str"
    )
    return chunks * row + rows * _TEXT_BYTES


# -- what it costs ----------------------------------------------------------------------------------------------------


def _look(
    todo: list[ClipRecord], settings: MotionSettings, progress: Progress
) -> tuple[list[ClipRecord], dict[str, int], int, float]:
    """Read the packets of some clips, evenly spaced: the sound ones, the others by code, how many, seconds per clip."""
    if not todo:
        return [], {}, 0, 0.0
    places = np.unique(np.linspace(0, len(todo) - 1, min(LOOKED_AT, len(todo))).round().astype(int))
    sound: list[ClipRecord] = []
    problems: Counter[str] = Counter()
    start = time.perf_counter()
    for done, place in enumerate(places.tolist(), 1):
        record = todo[place]
        request = settings.request(record)
        try:
            chosen = plan(probe(record.path).timeline, request.spec, request.short, request.rule)
        except ClipError as error:
            problems[error.code] += 1
        else:
            if chosen is None:
                problems["too_short"] += 1
            else:
                sound.append(record)
        progress("looking at files", done, len(places))
    return sound, dict(problems.most_common()), len(places), (time.perf_counter() - start) / len(places)


class _EnoughError(Exception):
    """Measuring has taken long enough."""


def _measure(
    sound: list[ClipRecord], work: _MotionWork, progress: Progress
) -> tuple[list[float], dict[str, float], float, list[str]]:
    """Compute a few clips into a folder that is thrown away.

    Returns:
        seconds of each clip after the first, seconds by phase, the first clip's seconds beyond the others', notes.
    """
    if not sound:
        return [], {}, 0.0, []
    places = np.unique(np.linspace(0, len(sound) - 1, MEASURED + 1).round().astype(int))
    chosen = [sound[place] for place in places.tolist()]
    marks: dict[str, list[float]] = {}
    begun = time.perf_counter()

    def watched(label: str, done: int, total: int) -> None:
        marks.setdefault(label, []).append(time.perf_counter())
        progress("measuring", done, total)
        if label != ENCODING and done >= 2 and time.perf_counter() - begun > SECONDS_MEASURING:
            raise _EnoughError

    notes: list[str] = []
    phases: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory(prefix="motive-dry-run-") as folder,
        RunStore(Path(folder) / "run.zarr", write=True) as store,
    ):
        try:
            report = work.compute(chosen, store, watched)
        except _EnoughError:
            notes.append(f"measuring was stopped after {SECONDS_MEASURING:g} s")
        else:
            phases = {name: round(seconds, 3) for name, seconds in report.seconds.items() if name != "total"}
            if report.codes:
                failed = ", ".join(f"{code} {count}" for code, count in report.codes.most_common())
                notes.append(f"of the clips computed to measure, some failed: {failed}")
    each = _per_clip(marks)
    if len(each) == 1:
        notes.append("one clip was measured, and its time includes starting up")
        return each, phases, 0.0, notes
    rest = each[1:]
    return rest, phases, max(0.0, each[0] - max(rest)), notes


def _per_clip(marks: dict[str, list[float]]) -> list[float]:
    """Seconds of each clip, from the moments its step told its progress. Large models go over the clips twice."""
    encoding = marks.get(ENCODING)
    (stamps,) = (moments for label, moments in marks.items() if label != ENCODING)
    if encoding is None:
        return [later - sooner for sooner, later in pairwise(stamps)]
    rounds = pairwise(encoding), pairwise([encoding[-1], *stamps[1:]])
    return [(b - a) + (d - c) for (a, b), (c, d) in zip(*rounds, strict=False)]  # fewer gradients where it was stopped


def _on_devices(seconds: float, devices: int, phases: Mapping[str, float]) -> float:
    """Seconds of a clip where the gradients of several are taken at once, and all else one after the other."""
    share = phases["gradient"] / sum(phases.values()) if phases.get("gradient") else 1.0
    return seconds * (1 - share + share / devices)


def _earlier(record: RunRecord, step: Step) -> dict[str, float]:
    """Seconds per clip of the run's last executions, of those that computed something."""
    rates = {}
    for name in ("motion",) if step == "motion" else ("train gradients", "query gradients"):
        report = record.steps.get(name, {})
        if report.get("computed") and report.get("seconds", {}).get("total"):
            rates[name] = report["seconds"]["total"] / report["computed"]
    return rates


def _seconds(todo: int, new: int, probing: float, warm_up: float, rates: list[float]) -> tuple[float, float] | None:
    """Least and most seconds: import, starting up, and every clip at the lowest and the highest rate known."""
    if not todo:
        return (new * probing, new * probing)
    if not rates:
        return None
    fixed = new * probing + warm_up
    return (fixed + todo * min(rates), fixed + todo * max(rates))
