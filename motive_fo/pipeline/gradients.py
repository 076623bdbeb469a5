"""The gradient step: motion mask, latent, motion-weighted gradient and sketch of every clip, decoded once.

Every sample (timestep and noise) of a clip is computed and kept by itself: whichever are missing are computed from one
decoding and one encoding, and no sketch depends on which others are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from motive_fo.attribution.gradients import UNMASKED, Sketch, StreamingBackward, clip_sketch, streaming
from motive_fo.attribution.parameters import NamedParameters, attributed_parameters, parameter_groups
from motive_fo.attribution.projection import Projection, build_projection
from motive_fo.clips.clip import Clip
from motive_fo.config import AttributionConfig
from motive_fo.errors import ClipError, MotiveError
from motive_fo.models.base import VideoModel
from motive_fo.pipeline.motion import MotionSettings, decoded, known_frames, motion_row, open_motion
from motive_fo.pipeline.record import ClipRecord, Version, failed_row, outdated
from motive_fo.pipeline.report import StepReport
from motive_fo.progress import Progress, silent
from motive_fo.store.identity import provenance
from motive_fo.store.run_store import Role, RunStore
from motive_fo.store.sketches import Sample, samples_of
from motive_fo.store.table import Column, Row, Status, Table

_SMALL_MODEL = 20_000_000  # parameters
_OF_ONE_SAMPLE = ("nonfinite_gradient", "zero_gradient", "repeated_sketch")  # codes that say nothing of other samples


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
        chosen = attributed_parameters(model.network, attribution.include, attribution.exclude)
        projection = build_projection(
            attribution.projection,
            dimension=attribution.dimension,
            block=attribution.block,
            seed=attribution.seed,
            parameters=sum(parameter.numel() for _, parameter in chosen),
        )
        return cls(motion, attribution, model, projection)

    def parameters(self) -> NamedParameters:
        """The attributed parameters. Raises ``ConfigError`` where the patterns fit none."""
        return attributed_parameters(self.model.network, self.attribution.include, self.attribution.exclude)

    def groups(self) -> list[str]:
        """Groups of parameters whose norms are kept."""
        return parameter_groups(name for name, _ in self.parameters())

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
        }

    def columns(self) -> dict[str, Column]:
        dimension = int(self.projection.identity()["dimension"])
        return {
            "sketch": Column("float32", (2, dimension)),
            "norm": Column("float64", (2,)),
            "loss": Column("float64", (2,)),
            "squares": Column("float64", (len(self.groups()), 2)),
        }


class RepeatedSketches:
    """Notices a sketch that another clip of the table has already: the same video twice, or a model that sees no
    difference.

    The gradient's norm is the key: equal sketches have equal norms, and reading all norms is cheap.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._by_norm: dict[float, list[str]] = {}
        self._seen: dict[str, tuple[npt.NDArray[np.float32], str]] = {}
        ids = [clip_id for clip_id in table.ids if table.status(clip_id) in (Status.DONE, Status.STATIC)]
        for clip_id, norm in zip(ids, table.read("norm", ids), strict=True):
            self._by_norm.setdefault(float(norm[UNMASKED]), []).append(clip_id)

    def check(self, clip_id: str, sketch: Sketch, version: Version) -> None:
        """Raise ``ClipError`` where another clip has the same sketch; remember it otherwise."""
        norm = float(sketch.norm_2[UNMASKED])
        same_norm = self._by_norm.setdefault(norm, [])
        for other in same_norm:
            if other == clip_id:
                continue
            known, content = self._known(other)
            if np.array_equal(known, sketch.sketch_2D[UNMASKED]):
                if content == version.content:
                    raise ClipError("gradient", "duplicate_clip", f"the same video and caption as {other}")
                raise ClipError("gradient", "repeated_sketch", f"the sketch equals that of {other}, another clip")
        if clip_id not in same_norm:
            same_norm.append(clip_id)
        self._seen[clip_id] = (sketch.sketch_2D[UNMASKED], version.content)

    def _known(self, clip_id: str) -> tuple[npt.NDArray[np.float32], str]:
        if clip_id not in self._seen:
            sketch = self._table.read("sketch", [clip_id])[0][UNMASKED]
            self._seen[clip_id] = (sketch, str(self._table.read("content", [clip_id])[0]))
        return self._seen[clip_id]


def compute_sketch_table(
    records: Sequence[ClipRecord],
    store: RunStore,
    settings: GradientSettings,
    role: Role,
    *,
    retry_failed: bool = False,
    progress: Progress = silent,
) -> StepReport:
    """Sketches of every record, into the store's ``train`` or ``query`` tables, one for each timestep and noise.

    Only what is missing is computed. Motion that the store does not hold yet is computed from the same frames and kept.
    A clip that fails is recorded with its code; nothing a clip does stops the step. Rows of one role never touch those
    of the other, nor those of one sample another's.
    """
    report = StepReport(f"{role} gradients", clips=len(records))
    with report.timed("total"):
        motion_table = open_motion(store, settings.motion, report)
        sketches = store.sketches(role, settings.samples(), settings.columns(), settings.identity(), settings.groups())
        for sample, table in sketches.tables.items():
            its_own = {**settings.identity(), "timestep": sample.timestep, "noise": sample.noise}
            for note in table.claim(its_own, provenance(str(settings.model.device))):
                if note not in report.notes:
                    report.notes.append(note)
        for each in (motion_table, *sketches.tables.values()):
            each.register(record.id for record in records)
        missing: dict[str, list[Sample]] = {}
        for sample, table in sketches.tables.items():
            for record in outdated(table, records, with_caption=True, retry_failed=retry_failed):
                missing.setdefault(record.id, []).append(sample)
        asked = [record for record in records if record.id in missing]
        report.computed = len(asked)
        known = {} if retry_failed else _known_failures(sketches.tables, asked, missing)
        for record in asked:
            if record.id in known:
                for sample in missing[record.id]:
                    sketches.tables[sample].put(known[record.id])
        todo = [record for record in asked if record.id not in known]
        no_motion = {r.id for r in outdated(motion_table, todo, with_caption=False, retry_failed=retry_failed)}
        progress(report.step, 0, len(todo))
        repeated = {sample: RepeatedSketches(table) for sample, table in sketches.tables.items()}
        step = _Step(settings, motion_table, repeated, report)
        try:
            network, parameters = settings.model.network, settings.parameters()
            with _threads(settings.model), streaming(network, settings.projection, parameters) as backward:
                ahead = decoded(todo, settings.motion, report, with_caption=True)
                for done, (record, version, outcome) in enumerate(ahead, 1):
                    needs_motion = record.id in no_motion
                    for sample, row in step.rows(
                        record, version, outcome, needs_motion, missing[record.id], backward
                    ).items():
                        sketches.tables[sample].put(row)
                    progress(report.step, done, len(todo))
        finally:
            motion_table.flush()
            sketches.flush()
        codes = sketches.read("code", [record.id for record in records])
        report.count((sketches.status(r.id), str(code)) for r, code in zip(records, codes, strict=True))
    return report


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


@contextmanager
def _threads(model: VideoModel) -> Iterator[None]:
    """One torch thread for a small model on a CPU.

    ``Choice:`` its tensors are too small to share out (measured 3 times faster on one thread than on two), and the
    last bit of a sketch then does not depend on the number of cores.
    """
    before = torch.get_num_threads()
    small = sum(p.numel() for p in model.network.parameters()) < _SMALL_MODEL
    if model.device.type == "cpu" and small:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class _Step:
    settings: GradientSettings
    motion_table: Table
    repeated: Mapping[Sample, RepeatedSketches]
    report: StepReport

    def rows(
        self,
        record: ClipRecord,
        version: Version,
        outcome: Clip | ClipError,
        needs_motion: bool,
        samples: Sequence[Sample],
        backward: StreamingBackward,
    ) -> dict[Sample, Row]:
        """The rows of one clip, one for each sample, whatever happens to it."""
        decoder = "" if isinstance(outcome, ClipError) else outcome.decoder
        try:
            clip, mask = self._motion(record, version, outcome, needs_motion)
            with self.report.timed("encode"), torch.no_grad():
                try:
                    x0 = self.settings.model.encode_frames(clip.frames_THW3)
                    condition = self.settings.model.encode_caption(record.caption)
                except Exception as error:
                    raise ClipError("encode", "encode_failed", f"{type(error).__name__}: {error}") from error
        except MotiveError:
            raise  # wrong use: every clip would say the same
        except Exception as error:  # a clip never stops the run: whatever it raises is recorded on it
            return dict.fromkeys(samples, failed_row(record, version, error, decoder))
        rows: dict[Sample, Row] = {}
        for sample in samples:
            try:
                with self.report.timed("gradient"):
                    sketch = clip_sketch(self.settings.model, backward, x0, condition, mask, *sample)
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

    def _motion(
        self, record: ClipRecord, version: Version, outcome: Clip | ClipError, needed: bool
    ) -> tuple[Clip, npt.NDArray[np.float32] | None]:
        """Frames, and the mask or None for a static clip. A failure is recorded in the motion table too."""
        file_version = replace(version, content=version.content.partition("+")[0])
        try:
            if isinstance(outcome, ClipError):
                raise outcome
            row = motion_row(record, file_version, outcome, self.settings.motion, self.report) if needed else None
        except MotiveError:
            raise
        except Exception as error:
            if needed:
                decoder = "" if isinstance(outcome, ClipError) else outcome.decoder
                self.motion_table.put(failed_row(record, file_version, error, decoder))
            raise
        if row is not None:
            self.motion_table.put(row)
            return outcome, None if row.status == Status.STATIC else known_frames(row.values["mask"])
        status = self.motion_table.status(record.id)
        if status == Status.FAILED:
            stage, code, message = (
                str(self.motion_table.read(k, [record.id])[0]) for k in ("stage", "code", "message")
            )
            raise ClipError(stage, code, message)
        if status == Status.STATIC:
            return outcome, None
        return outcome, known_frames(self.motion_table.read("mask", [record.id])[0])
