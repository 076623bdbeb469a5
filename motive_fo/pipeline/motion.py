"""The motion step: decode every clip once, estimate its flow, keep its description and its mask on the latent grid.

Flow is what costs: a clip whose motion was measured before, by whatever run, is neither decoded nor tracked again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from motive_fo.clips.clip import Clip
from motive_fo.clips.cuts import find_cuts
from motive_fo.clips.messages import Request
from motive_fo.clips.spec import ClipSpec
from motive_fo.clips.worker import DecodePool, decode_ahead
from motive_fo.config import ClipConfig, FlowConfig, MotionConfig
from motive_fo.errors import ClipError, MotiveError
from motive_fo.flow.base import Displacement, FlowEstimator
from motive_fo.flow.registry import build_estimator
from motive_fo.models.card import ModelCard
from motive_fo.motion.measure import LEFT, MOVES_PX, WHOLE, Cell, Measured, cell_of, measure
from motive_fo.motion.timing import clip_displacement
from motive_fo.pipeline.crew import Crew, Order, answers_of
from motive_fo.pipeline.measured import NOTHING_MEASURED, MeasuredMotion, measured_columns, measured_motion
from motive_fo.pipeline.record import ClipRecord, Version, failed_row, outdated, version_of
from motive_fo.pipeline.refusals import FailureLimit
from motive_fo.pipeline.report import StepReport
from motive_fo.progress import Progress, silent
from motive_fo.store.identity import provenance
from motive_fo.store.run_store import RunStore
from motive_fo.store.table import Column, Row, Status, Table

TABLE = "motion"
_BATCH = 256  # clips taken from what is known at once, at most
_BATCH_BYTES = 32 << 20  # and no more of them than this: 81 frames of 480x832 are 2 MB


@dataclass(frozen=True)
class MotionSettings:
    """Everything the motion of a clip depends on."""

    clip: ClipConfig
    spec: ClipSpec
    flow: FlowConfig
    motion: MotionConfig
    card: ModelCard
    estimator: FlowEstimator

    @classmethod
    def build(cls, clip: ClipConfig, flow: FlowConfig, motion: MotionConfig, card: ModelCard) -> MotionSettings:
        """Resolve the clip specification for the model and build the estimator."""
        return cls(clip, clip.resolve(card), flow, motion, card, build_estimator(flow))

    def identity(self) -> dict[str, Any]:
        strides = self.card.strides
        return {
            "clip": {**self.spec.identity(), "decoder": self.clip.decoder, "short": self.clip.short},
            "flow": {
                **self.estimator.identity(self.flow.reading),
                "reading": self.flow.reading,
                **({"timing": self.motion.timing} if self.motion.timing != "frames" else {}),
            },
            "mask": {
                "pooling": self.motion.pooling,
                "static_floor": self.motion.static_floor,
                "camera": self.motion.camera,
                "camera_model": self.motion.camera_model,
                "hoof_bins": self.motion.hoof_bins,
                "strides": [strides.time, strides.height, strides.width],
            },
        }

    @property
    def cell(self) -> Cell:
        """Pixels per cell of what is measured."""
        return cell_of(self.card.strides, self.motion.pooling)

    def displacement(self, clip: Clip) -> Displacement:
        """Flow of a decoded clip, in the run's reading and timing."""
        return clip_displacement(self.estimator, clip, self.flow.reading, self.spec.fps, self.motion.timing)

    def measured(
        self, folder: Path | None, notes: list[str], *, write: bool = True
    ) -> AbstractContextManager[MeasuredMotion]:
        """Motion measured before in the way these settings measure it. See ``measured_motion``.

        It depends on less than a run's masks do: not on the model's strides, nor on the camera option and the floor.
        """
        identity = {
            **{name: part for name, part in self.identity().items() if name != "mask"},
            "camera_model": self.motion.camera_model,
            "hoof_bins": self.motion.hoof_bins,
            "moves_px": MOVES_PX,
            "pooling": self.motion.pooling,
            "cell": list(self.cell),
            **({"frame_rule": str(self.card.frame_rule)} if self.clip.short == "fewer" else {}),
        }
        known = folder if self.motion.reuse else None
        return measured_motion(known, identity, self.measured_columns(), notes, write=write)

    def measured_columns(self) -> dict[str, Column]:
        """What is kept of each clip for other runs."""
        grid = (self.spec.height // self.cell[0], self.spec.width // self.cell[1])
        return measured_columns(self.spec.frames, self.motion.hoof_bins, grid)

    def columns(self) -> dict[str, Column]:
        return {
            "mean": Column("float32"),
            "p95": Column("float32"),
            "peak": Column("float32"),
            "camera_share": Column("float32"),
            "moving_share": Column("float32"),
            "smoothness": Column("float32"),
            "dynamic_score": Column("float32"),
            "hoof": Column("float32", (self.motion.hoof_bins,)),
            "cuts": Column("int64"),
            "curve": Column("float32", (self.spec.frames,)),
            "mask": Column("float32", self.card.grid(self.spec)),
            "adjustment": Column("str"),
        }

    def request(self, record: ClipRecord) -> Request:
        """What to decode for a clip."""
        spec = replace(self.spec, start=self.spec.start + record.start)
        return Request(record.path, spec, self.clip.decoder, self.clip.short, self.card.frame_rule)

    def pool(self) -> DecodePool:
        """A child process that decodes, with the clip's time limit."""
        return DecodePool(seconds=self.clip.time_limit)


def open_motion(store: RunStore, settings: MotionSettings, report: StepReport) -> Table:
    """The run's table of motion, claimed for these settings."""
    table = store.table(TABLE, settings.columns(), settings.identity())
    report.notes += table.claim(settings.identity(), provenance("cpu"))
    return table


def measure_clip(clip: Clip, settings: MotionSettings, report: StepReport) -> Measured:
    """Flow of decoded frames, measured with and without the camera's."""
    with report.timed("flow"):
        whole = settings.displacement(clip)
    with report.timed("statistics"):
        return measure(
            whole,
            fps=settings.spec.fps,
            camera_model=settings.motion.camera_model,
            bins=settings.motion.hoof_bins,
            cell=settings.cell,
            pooling=settings.motion.pooling,
        )


def clip_mask(measured: Measured, settings: MotionSettings) -> npt.NDArray[np.float32]:
    """The clip's motion mask on the model's latent grid, float32 (F, h, w)."""
    return measured.latent_mask(_side(settings), settings.card.strides, settings.cell, settings.motion.pooling)


def motion_row(
    record: ClipRecord,
    version: Version,
    clip: Clip,
    settings: MotionSettings,
    report: StepReport,
    known: MeasuredMotion = NOTHING_MEASURED,
) -> Row:
    """The finished row of a clip whose frames are decoded; its motion is kept among what is ``known``."""
    measured = measure_clip(clip, settings, report)
    facts = {"cuts": len(find_cuts(clip.frames_THW3)), "adjustment": clip.adjustment, "decoder": clip.decoder}
    known.keep(_key(record, version), measured, facts, settings.spec.frames)
    return _measured_row(record, version, measured, facts, settings)


def _key(record: ClipRecord, version: Version) -> str:
    return version.content if record.start else f"{version.content}@{record.start!r}"


def _side(settings: MotionSettings) -> int:
    return LEFT if settings.motion.camera == "remove" else WHOLE


def _measured_row(
    record: ClipRecord, version: Version, measured: Measured, facts: Mapping[str, Any], settings: MotionSettings
) -> Row:
    """What the run's options make of a clip's motion. Camera share and dynamic degree are always of all motion."""
    side, floor = _side(settings), settings.motion.static_floor
    peak = float(measured.peak[side])
    static = peak < floor
    return Row(
        id=record.id,
        status=Status.STATIC if static else Status.DONE,
        code="static" if static else "",
        stage="motion" if static else "",
        message=f"strongest motion {peak:.3f} px per frame, the floor is {floor:g}" if static else "",
        size=version.size,
        mtime_ns=version.mtime_ns,
        content=version.content,
        decoder=facts["decoder"],
        values={
            **{name: getattr(measured, name)[side] for name in ("mean", "p95", "moving_share", "smoothness")},
            "peak": peak,
            "camera_share": measured.camera_share,
            "dynamic_score": measured.dynamic_score,
            # what is left of a static clip is noise, which has no direction
            "hoof": np.zeros(settings.motion.hoof_bins, np.float32) if static else measured.hoof[side],
            "curve": _padded(measured.curve[side], (settings.spec.frames,)),
            "mask": _padded(clip_mask(measured, settings), settings.card.grid(settings.spec)),
            "cuts": facts["cuts"],
            "adjustment": facts["adjustment"],
        },
    )


def _padded(values: npt.NDArray[np.float32], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Values of a clip with fewer frames, NaN for the frames it does not have."""
    whole = np.full(shape, np.nan, np.float32)
    whole[: len(values)] = values
    return whole


def known_frames(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A curve or mask from the table without the frames the clip does not have."""
    return values[~np.isnan(values.reshape(len(values), -1)[:, 0])]


def compute_motion_table(
    records: Sequence[ClipRecord],
    store: RunStore,
    settings: MotionSettings,
    *,
    known: Path | None = None,
    crew: Crew | None = None,
    retry_failed: bool = False,
    max_failed: float = 1.0,
    progress: Progress = silent,
) -> StepReport:
    """Motion of every record, into the store's ``motion`` table.

    A clip that fails is recorded with its code; nothing a clip does stops the step.

    Args:
        known: folder of motion measured before, which is used and added to; None for none.
        crew: processes elsewhere that do the work, opened for these settings; None for this one.
        max_failed: share of the clips that may fail.

    Raises:
        FailureLimitError: more failed. What was computed is in the store.
    """
    report = StepReport("motion", clips=len(records))
    with report.timed("total"):
        table = open_motion(store, settings, report)
        table.register(record.id for record in records)
        todo = outdated(table, records, with_caption=False, retry_failed=retry_failed)
        report.computed = len(todo)
        progress("motion", 0, len(todo))
        limit = FailureLimit.of(max_failed, [r.id for r in records], [r.id for r in todo], [table])
        limit.check(report.step)
        with settings.measured(known, report.notes) as measured:
            try:
                left = take_known(todo, table, measured, settings, report)
                rows = (
                    rows_here(left, settings, report, measured)
                    if crew is None
                    else rows_by(crew, left, report, measured)
                )
                for done, row in enumerate(rows, 1):
                    table.put(row)
                    progress("motion", len(todo) - len(left) + done, len(todo))
                    limit.count(report.step, row)
            finally:
                table.flush()
        codes = table.read("code", [record.id for record in records])
        report.count((table.status(r.id), str(code)) for r, code in zip(records, codes, strict=True))
    return report


def take_known(
    records: Sequence[ClipRecord],
    table: Table,
    measured: MeasuredMotion,
    settings: MotionSettings,
    report: StepReport,
) -> list[ClipRecord]:
    """Write the rows of clips whose motion was measured before; returns the others, in their order."""
    if not len(measured):
        return list(records)
    left: list[ClipRecord] = []
    mask = settings.measured_columns()["mask"]
    at_once = max(1, min(_BATCH, _BATCH_BYTES // (np.dtype(mask.dtype).itemsize * int(np.prod(mask.shape)))))
    for first in range(0, len(records), at_once):
        batch = [(record, version_of(record, with_caption=False)) for record in records[first : first + at_once]]
        found = measured.find([_key(record, version) for record, version in batch if version.content])
        for record, version in batch:
            if version.content and (hit := found.get(_key(record, version))):
                table.put(_measured_row(record, version, *hit, settings))
            else:
                left.append(record)
    if len(left) < len(records):
        report.notes.append(f"{len(records) - len(left)} clips were measured before and not tracked again")
    return left


def measured_again(
    records: Sequence[ClipRecord],
    table: Table,
    measured: MeasuredMotion,
    settings: MotionSettings,
    report: StepReport,
    crew: Crew | None,
) -> Iterator[Row]:
    """Rows of clips that have sketches and no motion any more; what was measured before is written at once."""
    if not records:
        return
    report.notes.append(f"motion of {len(records)} clips was missing and is computed again")
    left = take_known(records, table, measured, settings, report)
    yield from rows_here(left, settings, report, measured) if crew is None else rows_by(crew, left, report, measured)


def measured_before(records: Sequence[ClipRecord], measured: MeasuredMotion) -> set[str]:
    """Ids of the clips whose motion was measured before. Every file is read."""
    if not len(measured):
        return set()
    versions = {record.id: (record, version_of(record, with_caption=False)) for record in records}
    keys = {clip_id: _key(record, version) for clip_id, (record, version) in versions.items() if version.content}
    found = measured.find(list(keys.values()))
    return {clip_id for clip_id, key in keys.items() if key in found}


def decoded(
    records: Sequence[ClipRecord], settings: MotionSettings, report: StepReport, *, with_caption: bool = False
) -> Iterator[tuple[ClipRecord, Version, Clip | ClipError]]:
    """Each record with its file's version and its frames, or what kept them from being read.

    Frames are decoded in a child process, ahead of the caller; ``decode`` in the report is the time spent waiting.
    """
    versions: dict[str, Version] = {}

    def request(record: ClipRecord) -> Request:
        versions[record.id] = version_of(record, with_caption=with_caption)  # before the file is read
        return settings.request(record)

    with settings.pool() as pool:
        ahead = decode_ahead(records, pool, request)
        while True:
            with report.timed("decode"):
                step = next(ahead, None)
            if step is None:
                return
            record, outcome = step
            yield record, versions.pop(record.id), outcome


def clip_row(
    record: ClipRecord,
    version: Version,
    outcome: Clip | ClipError,
    settings: MotionSettings,
    report: StepReport,
    measured: MeasuredMotion,
) -> Row:
    """The row of a clip, whatever became of its frames and happens to it.

    Raises:
        MotiveError: wrong use, which every clip would meet.
    """
    if isinstance(outcome, ClipError):
        return failed_row(record, version, outcome)
    try:
        return motion_row(record, version, outcome, settings, report, measured)
    except MotiveError:
        raise
    except Exception as error:  # a clip never stops the run: whatever it raises is recorded on it
        return failed_row(record, version, error, outcome.decoder)


def rows_here(
    records: Sequence[ClipRecord], settings: MotionSettings, report: StepReport, measured: MeasuredMotion
) -> Iterator[Row]:
    """Rows of clips that are decoded and tracked by this process, in order."""
    for record, version, outcome in decoded(records, settings, report):
        yield clip_row(record, version, outcome, settings, report, measured)


def rows_by(crew: Crew, records: Sequence[ClipRecord], report: StepReport, measured: MeasuredMotion) -> Iterator[Row]:
    """Rows of clips that a crew decodes and tracks, in order; what it measured is kept here."""
    orders = ((record, Order("motion", record)) for record in records)
    for record, answer in answers_of(crew, orders, report, measured):
        if isinstance(answer, ClipError):
            yield failed_row(record, version_of(record, with_caption=False), answer)
        else:
            assert answer is not None
            yield answer.value
