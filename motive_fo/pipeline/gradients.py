"""The gradient step: motion mask, latent, motion-weighted gradient and sketch of every clip, decoded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from motive_fo.attribution.gradients import (
    UNMASKED,
    Sketches,
    StreamingBackward,
    attributed_parameters,
    clip_sketches,
    streaming,
)
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
from motive_fo.store.table import Column, Row, Status, Table

_SMALL_MODEL = 20_000_000  # parameters


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
        parameters = sum(parameter.numel() for _, parameter in attributed_parameters(model.network))
        projection = build_projection(
            attribution.projection,
            dimension=attribution.dimension,
            block=attribution.block,
            seed=attribution.seed,
            parameters=parameters,
        )
        return cls(motion, attribution, model, projection)

    def identity(self) -> dict[str, Any]:
        return {
            **self.motion.identity(),
            "model": dict(self.model.identity()),
            "timesteps": list(self.attribution.timesteps),
            "noises": list(self.attribution.noises),
            "projection": dict(self.projection.identity()),
        }

    def columns(self) -> dict[str, Column]:
        samples = len(self.attribution.timesteps) * len(self.attribution.noises)
        dimension = int(self.projection.identity()["dimension"])
        return {
            "sketch": Column("float32", (samples, 2, dimension)),
            "norm": Column("float64", (samples, 2)),
            "loss": Column("float64", (samples, 2)),
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
            self._by_norm.setdefault(float(norm[0, UNMASKED]), []).append(clip_id)

    def check(self, clip_id: str, sketches: Sketches, version: Version) -> None:
        """Raise ``ClipError`` where another clip has the same sketch; remember it otherwise."""
        norm = float(sketches.norm_S2[0, UNMASKED])
        same_norm = self._by_norm.setdefault(norm, [])
        for other in same_norm:
            if other == clip_id:
                continue
            sketch, content = self._known(other)
            if np.array_equal(sketch, sketches.sketch_S2D[:, UNMASKED]):
                if content == version.content:
                    raise ClipError("gradient", "duplicate_clip", f"the same video and caption as {other}")
                raise ClipError("gradient", "repeated_sketch", f"the sketch equals that of {other}, another clip")
        if clip_id not in same_norm:
            same_norm.append(clip_id)
        self._seen[clip_id] = (sketches.sketch_S2D[:, UNMASKED], version.content)

    def _known(self, clip_id: str) -> tuple[npt.NDArray[np.float32], str]:
        if clip_id not in self._seen:
            sketch = self._table.read("sketch", [clip_id])[0][:, UNMASKED]
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
    """Sketches of every record, into the store's ``train`` or ``query`` table.

    Motion that the store does not hold yet is computed from the same frames and kept. A clip that fails is recorded
    with its code; nothing a clip does stops the step. Rows of one role never touch those of the other.
    """
    report = StepReport(f"{role} gradients", clips=len(records))
    with report.timed("total"):
        motion_table = open_motion(store, settings.motion, report)
        table = store.table(role, settings.columns(), settings.identity())
        report.notes += table.claim(settings.identity(), provenance(str(settings.model.device)))
        for each in (motion_table, table):
            each.register(record.id for record in records)
        todo = outdated(table, records, with_caption=True, retry_failed=retry_failed)
        no_motion = {r.id for r in outdated(motion_table, todo, with_caption=False, retry_failed=retry_failed)}
        report.computed = len(todo)
        progress(report.step, 0, len(todo))
        repeated = RepeatedSketches(table)
        step = _Step(settings, motion_table, repeated, report)
        try:
            with _threads(settings.model), streaming(settings.model.network, settings.projection) as backward:
                ahead = decoded(todo, settings.motion, report, with_caption=True)
                for done, (record, version, outcome) in enumerate(ahead, 1):
                    table.put(step.row(record, version, outcome, record.id in no_motion, backward))
                    progress(report.step, done, len(todo))
        finally:
            motion_table.flush()
            table.flush()
        codes = table.read("code", [record.id for record in records])
        report.count((table.status(r.id), str(code)) for r, code in zip(records, codes, strict=True))
    return report


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
    repeated: RepeatedSketches
    report: StepReport

    def row(
        self,
        record: ClipRecord,
        version: Version,
        outcome: Clip | ClipError,
        needs_motion: bool,
        backward: StreamingBackward,
    ) -> Row:
        """The row of one clip, whatever happens to it."""
        decoder = "" if isinstance(outcome, ClipError) else outcome.decoder
        try:
            clip, mask = self._motion(record, version, outcome, needs_motion)
            with self.report.timed("encode"), torch.no_grad():
                try:
                    x0 = self.settings.model.encode_frames(clip.frames_THW3)
                    condition = self.settings.model.encode_caption(record.caption)
                except Exception as error:
                    raise ClipError("encode", "encode_failed", f"{type(error).__name__}: {error}") from error
            with self.report.timed("gradient"):
                attribution = self.settings.attribution
                sketches = clip_sketches(
                    self.settings.model, backward, x0, condition, mask, attribution.timesteps, attribution.noises
                )
            self.repeated.check(record.id, sketches, version)
        except MotiveError:
            raise  # wrong use: every clip would say the same
        except Exception as error:  # a clip never stops the run: whatever it raises is recorded on it
            return failed_row(record, version, error, decoder)
        return Row(
            id=record.id,
            status=Status.STATIC if mask is None else Status.DONE,
            code="static" if mask is None else "",
            stage="motion" if mask is None else "",
            message="nothing moves: no masked sketch" if mask is None else "",
            size=version.size,
            mtime_ns=version.mtime_ns,
            content=version.content,
            decoder=decoder,
            values={"sketch": sketches.sketch_S2D, "norm": sketches.norm_S2, "loss": sketches.loss_S2},
        )

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
