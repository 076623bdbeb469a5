"""The gradient step: motion mask, latent, motion-weighted gradient and sketch of every clip, decoded once.

Every sample (timestep and noise) of a clip is computed and kept by itself: whichever are missing are computed from one
decoding and one encoding, and no sketch depends on which others are asked for.
"""

from __future__ import annotations

from collections.abc import Container, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from motive_fo.attribution.parameters import NamedParameters, attributed_parameters, parameter_groups
from motive_fo.attribution.projection import Projection
from motive_fo.config import AttributionConfig
from motive_fo.errors import ClipError, MotiveError
from motive_fo.models.base import StagedModel, VideoModel
from motive_fo.pipeline.crew import Answer, Crew, Order, answers_of
from motive_fo.pipeline.encoding import Encodings, encodings
from motive_fo.pipeline.measured import MeasuredMotion
from motive_fo.pipeline.motion import MotionSettings, decoded, measured_again, open_motion, rows_by, take_known
from motive_fo.pipeline.preparing import UNMEASURED, KnownMask, Prepared, known_mask, prepare
from motive_fo.pipeline.record import ClipRecord, Version, failed_row, outdated, version_of
from motive_fo.pipeline.refusals import FailureLimit, outlier_sentence, outlying_gradients
from motive_fo.pipeline.repeated import RepeatedSketches
from motive_fo.pipeline.replicas import FramesAsTheyAre, ReplicaPool, Task
from motive_fo.pipeline.report import ENCODING, StepReport
from motive_fo.pipeline.sketching import (
    Outcomes,
    SketchTask,
    attributed_outline,
    projection_of,
    sketching,
    take_sketches,
)
from motive_fo.progress import Progress, silent
from motive_fo.store.identity import provenance
from motive_fo.store.run_store import Role, RunStore
from motive_fo.store.sketches import Sample, SketchTables, samples_of
from motive_fo.store.table import Column, Row, Status, Table, exponent_of

_OF_ONE_SAMPLE = (  # codes that say nothing of other samples
    "nonfinite_gradient",
    "zero_gradient",
    "repeated_sketch",
    "worker_died",
    "out_of_memory",
)


_UNREAD = Version(-1, -1, "")  # of a clip that is read elsewhere


@dataclass(frozen=True)
class GradientSettings:
    """Everything a sketch depends on."""

    motion: MotionSettings
    attribution: AttributionConfig
    model: VideoModel
    projection: Projection

    @classmethod
    def build(cls, motion: MotionSettings, attribution: AttributionConfig, model: VideoModel) -> GradientSettings:
        """Build the projection for the model's parameters."""
        return cls(motion, attribution, model, projection_of(model, attribution))

    @property
    def several_devices(self) -> bool:
        """Whether replicas in other processes take the sketches."""
        return len(self.attribution.devices) > 1

    @property
    def device(self) -> str:
        """Where gradients are computed, for the record."""
        return ",".join(self.attribution.devices) if self.several_devices else str(self.model.device)

    def parameters(self) -> NamedParameters:
        """The attributed parameters. Raises ``ConfigError`` where the patterns fit none."""
        return attributed_parameters(self.model.network, self.attribution.include, self.attribution.exclude)

    def sizes(self) -> dict[str, int]:
        """Elements of each attributed parameter by its name. No weights are loaded."""
        return {name: parameter.numel() for name, parameter in attributed_outline(self.model, self.attribution)}

    def groups(self) -> list[str]:
        """Groups of parameters whose norms are kept."""
        return parameter_groups(self.sizes())

    def samples(self) -> list[Sample]:
        """Timesteps and noises, each pair one gradient."""
        return samples_of(self.attribution.timesteps, self.attribution.noises)

    def identity(self) -> dict[str, Any]:
        """What all sketches of a run share; the timestep and noise are each table's own."""
        return {
            **self.motion.identity(),
            "model": dict(self.model.identity()),
            "parameters": {"include": list(self.attribution.include), "exclude": list(self.attribution.exclude)},
            "projection": dict(self.projection.identity()),
            # only where it is not the default: earlier stores do not say
            **({"sketch_dtype": self.attribution.sketch_dtype} if self._half else {}),
        }

    @property
    def _half(self) -> bool:
        return self.attribution.sketch_dtype == "float16"

    def columns(self) -> dict[str, Column]:
        dimension = int(self.projection.identity()["dimension"])
        return {
            "sketch": Column(self.attribution.sketch_dtype, (2, dimension)),
            **({exponent_of("sketch"): Column("int16", (2,))} if self._half else {}),
            "norm": Column("float64", (2,)),
            "loss": Column("float64", (2,)),
            "squares": Column("float64", (len(self.groups()), 2)),
        }


@contextmanager
def _encodings(settings: GradientSettings, crew: Crew | None, kept: Path | None, scratch: Path) -> Iterator[Encodings]:
    if settings.several_devices and crew is None and not isinstance(settings.model, StagedModel):
        yield FramesAsTheyAre(settings.model)
        return
    with encodings(settings.model, settings.motion, kept, scratch) as source:
        yield source


def compute_sketch_table(
    records: Sequence[ClipRecord],
    store: RunStore,
    settings: GradientSettings,
    role: Role,
    *,
    known_motion: Path | None = None,
    kept_encodings: Path | None = None,
    crew: Crew | None = None,
    retry_failed: bool = False,
    max_failed: float = 1.0,
    progress: Progress = silent,
) -> StepReport:
    """Sketches of every record, into the store's ``train`` or ``query`` tables, one for each timestep and noise.

    Only what is missing is computed. Motion that the store does not hold yet is computed from the same frames and kept.
    A clip that fails is recorded with its code; nothing a clip does stops the step. Rows of one role never touch those
    of the other, nor those of one sample another's.

    Args:
        known_motion: folder of motion measured before, which is used and added to; None for none.
        kept_encodings: folder of what large models' encoders made before, which is used and added to; None to throw it
            away at the end.
        crew: processes elsewhere that do the work, opened for these settings; None for this one and its replicas.
        max_failed: share of the clips that may fail.

    Raises:
        FailureLimitError: more failed. What was computed is in the store.
    """
    report = StepReport(f"{role} gradients", clips=len(records))
    with report.timed("total"):
        motion_table = open_motion(store, settings.motion, report)
        sketches = store.sketches(role, settings.samples(), settings.columns(), settings.identity(), settings.groups())
        for sample, table in sketches.tables.items():
            its_own = {**settings.identity(), "timestep": sample.timestep, "noise": sample.noise}
            for note in table.claim(its_own, provenance(settings.device if crew is None else crew.device)):
                if note not in report.notes:
                    report.notes.append(note)
        store.keep_parameters(settings.sizes())
        for each in (motion_table, *sketches.tables.values()):
            each.register(record.id for record in records)
        missing = _missing(sketches, records, retry_failed)
        asked = [record for record in records if record.id in missing]
        report.computed = len(asked)
        known = {} if retry_failed else _known_failures(sketches.tables, asked, missing)
        for clip_id, row in known.items():
            for sample in missing[clip_id]:
                sketches.tables[sample].put(row)
        todo = [record for record in asked if record.id not in known]
        limit = FailureLimit.of(max_failed, [r.id for r in records], [r.id for r in todo], sketches.tables.values())
        limit.check(report.step)
        progress(report.step, 0, len(todo))
        repeated = {sample: RepeatedSketches(table) for sample, table in sketches.tables.items()}
        scratch = store.place.beside(".encodings")
        with (
            settings.motion.measured(known_motion, report.notes) as measured,
            _encodings(settings, crew, kept_encodings, scratch) as source,
        ):
            lost = [r for r in records if r.id not in missing and motion_table.status(r.id) == Status.PENDING]
            for row in measured_again(lost, motion_table, measured, settings.motion, report, crew):
                motion_table.put(row)
            unmeasured = outdated(motion_table, todo, with_caption=False, retry_failed=retry_failed)
            no_motion = {r.id for r in take_known(unmeasured, motion_table, measured, settings.motion, report)}
            step = _Step(settings, source, motion_table, measured, repeated, report, crew)
            try:
                clips = step.prepared(todo, no_motion, progress)
                if crew is not None:
                    taken = step.sketched_by(crew, clips, missing, no_motion)
                elif settings.several_devices:
                    folder = store.place.beside(".handed-over")
                    taken = step.sketched_on_devices(clips, missing, folder)
                else:
                    taken = step.sketched_here(clips, missing)
                with closing(taken) as results:
                    for done, (clip, outcomes) in enumerate(results, 1):
                        for sample, row in step.rows(clip, missing[clip.record.id], outcomes).items():
                            sketches.tables[sample].put(row)
                            limit.count(report.step, row)
                        progress(report.step, done, len(todo))
            finally:
                motion_table.flush()
                sketches.flush()
        _sum_up(sketches, records, report)
    return report


def _missing(sketches: SketchTables, records: Sequence[ClipRecord], retry_failed: bool) -> dict[str, list[Sample]]:
    """Clip id -> the samples that it has no sketch of, or one of another version of the clip."""
    missing: dict[str, list[Sample]] = {}
    for sample, table in sketches.tables.items():
        for record in outdated(table, records, with_caption=True, retry_failed=retry_failed):
            missing.setdefault(record.id, []).append(sample)
    return missing


def _sum_up(sketches: SketchTables, records: Sequence[ClipRecord], report: StepReport) -> None:
    """What became of the clips, and which gradients are unlike the others, into the report."""
    codes = sketches.read("code", [record.id for record in records])
    report.count((sketches.status(r.id), str(code)) for r, code in zip(records, codes, strict=True))
    ids = [r.id for r in records if sketches.status(r.id) in (Status.DONE, Status.STATIC)]
    if outliers := outlying_gradients(ids, sketches.read("norm", ids)):
        report.notes.append(outlier_sentence(outliers, len(ids)))


def _known_failures(
    tables: Mapping[Sample, Table], records: Sequence[ClipRecord], missing: Mapping[str, list[Sample]]
) -> dict[str, Row]:
    """Rows for clips that another sample's table knows to fail at any timestep: there is no need to decode them again.

    It also keeps one answer to which of two equal videos is the duplicate, whatever order they come in later.
    """
    known: dict[str, Row] = {}
    texts = ("code", "stage", "message", "content", "decoder")
    for sample, table in tables.items():
        ids = [r.id for r in records if sample not in missing[r.id] and table.status(r.id) == Status.FAILED]
        stored = {key: table.read(key, ids) for key in (*texts, "size", "mtime_ns")}
        for n, clip_id in enumerate(ids):
            if stored["code"][n] not in _OF_ONE_SAMPLE:
                words = {key: str(stored[key][n]) for key in texts}
                stamp = {key: int(stored[key][n]) for key in ("size", "mtime_ns")}
                known[clip_id] = Row(clip_id, Status.FAILED, **words, **stamp)  # type: ignore[arg-type]
    return known


def _batches(clips: Iterator[Prepared], size: int) -> Iterator[list[Prepared]]:
    """``size`` clips at a time, and the rest."""
    while some := list(islice(clips, size)):
        yield some


@dataclass(frozen=True)
class _Step:
    settings: GradientSettings
    encodings: Encodings
    motion_table: Table
    measured: MeasuredMotion
    repeated: Mapping[Sample, RepeatedSketches]
    report: StepReport
    crew: Crew | None

    def prepared(
        self, records: Sequence[ClipRecord], no_motion: Container[str], progress: Progress
    ) -> Iterator[Prepared]:
        """Every record with its mask and encoding, in order, or with what kept it from having them.

        Where encodings are staged, those that are not kept yet are made before this returns, and the encoders are gone.
        What a crew is to prepare comes without either.
        """
        if not self.encodings.staged:
            if self.crew is None:
                return self._decoded(records, no_motion)
            return (Prepared(record, _UNREAD) for record in records)
        versions = {record.id: version_of(record, with_caption=True) for record in records}
        absent = [r for r in records if r.id in no_motion or not self.encodings.has(r, versions[r.id])]
        failed: dict[str, Prepared] = {}
        if absent:
            self.encodings.come()
        progress(ENCODING, 0, len(absent))
        clips = (
            self._decoded(absent, no_motion) if self.crew is None else self._encoded_by(self.crew, absent, no_motion)
        )
        for done, clip in enumerate(clips, 1):
            versions[clip.record.id] = clip.version
            if clip.error is not None:
                failed[clip.record.id] = clip
            progress(ENCODING, done, len(absent))
        self.motion_table.flush()
        self.encodings.leave()
        return self._kept(records, versions, failed)

    def _decoded(self, records: Sequence[ClipRecord], no_motion: Container[str]) -> Iterator[Prepared]:
        motion = self.settings.motion
        for record, version, outcome in decoded(records, motion, self.report, with_caption=True):
            mask = self.mask_of(record, no_motion)
            clip = prepare(record, version, outcome, mask, motion, self.encodings, self.report, self.measured)
            if clip.motion is not None:
                self.motion_table.put(clip.motion)
            yield clip

    def _encoded_by(self, crew: Crew, records: Sequence[ClipRecord], no_motion: Container[str]) -> Iterator[Prepared]:
        """Clips that a crew decodes, measures and encodes; their encodings are kept here."""
        died: list[ClipRecord] = []
        orders = ((r, Order("prepare", r, self.mask_of(r, no_motion))) for r in records)
        for record, answer in answers_of(crew, orders, self.report, self.measured):
            if not isinstance(answer, Answer):
                died += [record] if record.id in no_motion else []
                yield Prepared(record, version_of(record, with_caption=True), error=answer)
                continue
            clip: Prepared = answer.value
            if clip.motion is not None:
                self.motion_table.put(clip.motion)
            if clip.encoded is not None:
                self.encodings.keep(record, clip.version, clip.encoded)
            yield replace(clip, encoded=None)
        self._measure_alone(crew, died)

    def mask_of(self, record: ClipRecord, no_motion: Container[str]) -> KnownMask:
        """What the table of motion holds of a clip."""
        if record.id in no_motion:
            return UNMEASURED
        try:
            return known_mask(self.motion_table, record.id)
        except ClipError as error:
            return error

    def _kept(
        self, records: Sequence[ClipRecord], versions: Mapping[str, Version], failed: Mapping[str, Prepared]
    ) -> Iterator[Prepared]:
        for record in records:
            if record.id in failed:
                yield failed[record.id]
                continue
            with self.report.timed("read encodings"):
                encoded = self.encodings.find(record, versions[record.id])
            if encoded is None and self.crew is not None:
                yield Prepared(record, _UNREAD)
                continue
            if encoded is None:  # damaged or thrown away meanwhile
                yield from self._decoded([record], ())
                self.encodings.leave()
                continue
            try:
                mask = known_mask(self.motion_table, record.id)
            except ClipError as error:
                yield Prepared(record, versions[record.id], error=error, decoder=encoded.decoder)
            else:
                yield Prepared(record, versions[record.id], encoded, mask, decoder=encoded.decoder)

    def sketched_here(
        self, clips: Iterator[Prepared], missing: Mapping[str, Sequence[Sample]]
    ) -> Generator[tuple[Prepared, Outcomes]]:
        """Sketches by this process's own network."""
        settings = self.settings
        with sketching(settings.model, settings.projection, settings.parameters(), settings.motion.spec) as sketcher:
            for some in _batches(clips, sketcher.width):
                ready = {n: clip.encoded for n, clip in enumerate(some) if clip.encoded is not None}
                tasks = [
                    SketchTask(encoded.x0, encoded.condition, some[n].mask, missing[some[n].record.id])
                    for n, encoded in ready.items()
                ]
                taken = dict(zip(ready, take_sketches(sketcher, tasks, self.report), strict=True))
                for n, clip in enumerate(some):
                    yield clip, taken.get(n, {})

    def sketched_on_devices(
        self, clips: Iterator[Prepared], missing: Mapping[str, Sequence[Sample]], folder: Path
    ) -> Generator[tuple[Prepared, Outcomes]]:
        """Sketches by a replica on each device; ``folder`` is where tensors are handed over."""
        settings = self.settings
        with ReplicaPool(
            settings.attribution,
            settings.motion.spec,
            settings.model,
            settings.projection.identity(),
            folder,
            len(missing),
            self.report,
        ) as pool:
            yield from pool.sketches(
                (clip, None if clip.encoded is None else Task(clip.encoded, clip.mask, missing[clip.record.id]))
                for clip in clips
            )

    def sketched_by(
        self, crew: Crew, clips: Iterator[Prepared], missing: Mapping[str, Sequence[Sample]], no_motion: Container[str]
    ) -> Generator[tuple[Prepared, Outcomes]]:
        """Sketches by a crew, which prepares a clip first where that is not done."""
        died: list[ClipRecord] = []
        orders = ((clip, self._order(clip, missing[clip.record.id], no_motion)) for clip in clips)
        for clip, answer in answers_of(crew, orders, self.report, self.measured):
            record = clip.record
            if answer is None:
                yield clip, {}
            elif isinstance(answer, ClipError):
                if clip.version is _UNREAD:
                    clip = replace(clip, version=version_of(record, with_caption=True))
                    died += [record] if record.id in no_motion else []
                yield clip, dict.fromkeys(missing[record.id], answer)
            else:
                prepared, outcomes = answer.value
                if prepared is not None and prepared.motion is not None:
                    self.motion_table.put(prepared.motion)
                yield (clip if prepared is None else prepared), outcomes
        self._measure_alone(crew, died)

    def _measure_alone(self, crew: Crew, died: Sequence[ClipRecord]) -> None:
        """Motion of clips that ended their workers: what encoding or gradient did says nothing of it."""
        for row in rows_by(crew, died, self.report, self.measured):
            self.motion_table.put(row)

    def _order(self, clip: Prepared, samples: Sequence[Sample], no_motion: Container[str]) -> Order | None:
        if clip.error is not None:
            return None
        if clip.encoded is not None:
            return Order("sketch_encoded", clip.record, clip.mask, tuple(samples), clip.encoded)
        return Order("sketch", clip.record, self.mask_of(clip.record, no_motion), tuple(samples))

    def rows(self, clip: Prepared, samples: Sequence[Sample], outcomes: Outcomes) -> dict[Sample, Row]:
        """The rows of one clip, one for each sample, whatever happened to it."""
        record, version, decoder, mask = clip.record, clip.version, clip.decoder, clip.mask
        if clip.error is not None:
            return dict.fromkeys(samples, failed_row(record, version, clip.error, decoder))
        rows: dict[Sample, Row] = {}
        for sample, sketch in outcomes.items():
            try:
                if isinstance(sketch, Exception):
                    raise sketch
                self.repeated[sample].check(record.id, sketch, version)
            except MotiveError:
                raise
            except Exception as error:
                rows[sample] = failed_row(record, version, error, decoder)
                continue
            rows[sample] = Row(
                id=record.id,
                status=Status.STATIC if mask is None else Status.DONE,
                code="static" if mask is None else "",
                stage="motion" if mask is None else "",
                message="nothing moves: no masked sketch" if mask is None else "",
                size=version.size,
                mtime_ns=version.mtime_ns,
                content=version.content,
                decoder=decoder,
                values={
                    "sketch": sketch.sketch_2D,
                    "norm": sketch.norm_2,
                    "loss": sketch.loss_2,
                    "squares": sketch.squares_G2,
                },
            )
        return rows
