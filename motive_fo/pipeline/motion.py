"""The motion step: decode every clip once, estimate its flow, keep its description and its mask on the latent grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from motive_fo.clips.clip import Clip
from motive_fo.clips.decode import decode
from motive_fo.clips.spec import ClipSpec
from motive_fo.config import ClipConfig, FlowConfig, MotionConfig
from motive_fo.errors import MotiveError
from motive_fo.flow.base import FlowEstimator
from motive_fo.flow.registry import build_estimator
from motive_fo.models.card import ModelCard
from motive_fo.motion.description import MotionDescription, describe
from motive_fo.motion.mask import magnitude, motion_mask, to_latent_grid
from motive_fo.pipeline.record import ClipRecord, Version, failed_row, outdated, version_of
from motive_fo.pipeline.report import StepReport
from motive_fo.progress import Progress, silent
from motive_fo.store.identity import provenance
from motive_fo.store.run_store import RunStore
from motive_fo.store.table import Column, Row, Status, Table

TABLE = "motion"


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
            "clip": {**self.spec.identity(), "decoder": self.clip.decoder},
            "flow": {**self.estimator.identity(), "reading": self.flow.reading},
            "mask": {
                "pooling": self.motion.pooling,
                "static_floor": self.motion.static_floor,
                "strides": [strides.time, strides.height, strides.width],
            },
        }

    def columns(self) -> dict[str, Column]:
        return {
            "mean": Column("float32"),
            "p95": Column("float32"),
            "peak": Column("float32"),
            "curve": Column("float32", (self.spec.frames,)),
            "mask": Column("float32", self.card.grid(self.spec)),
        }


def open_motion(store: RunStore, settings: MotionSettings, report: StepReport) -> Table:
    """The run's table of motion, claimed for these settings."""
    table = store.table(TABLE, settings.columns(), settings.identity())
    report.notes += table.claim(settings.identity(), provenance("cpu"))
    return table


def clip_motion(
    clip: Clip, settings: MotionSettings, report: StepReport
) -> tuple[MotionDescription, npt.NDArray[np.float32]]:
    """Description and latent mask of decoded frames."""
    with report.timed("flow"):
        displacement = settings.estimator.estimate(clip.frames_THW3, settings.flow.reading)
    with report.timed("mask"):
        size_THW = magnitude(displacement)
        mask = to_latent_grid(motion_mask(size_THW), settings.card.strides, settings.motion.pooling)
        return describe(size_THW), mask


def motion_row(record: ClipRecord, version: Version, clip: Clip, settings: MotionSettings, report: StepReport) -> Row:
    """The finished row of a clip whose frames are decoded."""
    description, mask = clip_motion(clip, settings, report)
    floor = settings.motion.static_floor
    static = description.is_static(floor)
    return Row(
        id=record.id,
        status=Status.STATIC if static else Status.DONE,
        code="static" if static else "",
        stage="motion" if static else "",
        message=f"strongest motion {description.peak:.3f} px per frame, the floor is {floor:g}" if static else "",
        size=version.size,
        mtime_ns=version.mtime_ns,
        content=version.content,
        decoder=clip.decoder,
        values={
            "mean": description.mean,
            "p95": description.p95,
            "peak": description.peak,
            "curve": description.curve_T,
            "mask": mask,
        },
    )


def compute_motion_table(
    records: Sequence[ClipRecord],
    store: RunStore,
    settings: MotionSettings,
    *,
    retry_failed: bool = False,
    progress: Progress = silent,
) -> StepReport:
    """Motion of every record, into the store's ``motion`` table.

    A clip that fails is recorded with its code; nothing a clip does stops the step.
    """
    report = StepReport("motion", clips=len(records))
    with report.timed("total"):
        table = open_motion(store, settings, report)
        table.register(record.id for record in records)
        todo = outdated(table, records, with_caption=False, retry_failed=retry_failed)
        report.computed = len(todo)
        progress("motion", 0, len(todo))
        try:
            for done, record in enumerate(todo, 1):
                table.put(_one(record, settings, report))
                progress("motion", done, len(todo))
        finally:
            table.flush()
        codes = table.read("code", [record.id for record in records])
        report.count((table.status(r.id), str(code)) for r, code in zip(records, codes, strict=True))
    return report


def _one(record: ClipRecord, settings: MotionSettings, report: StepReport) -> Row:
    version = version_of(record, with_caption=False)
    decoder = ""
    try:
        with report.timed("decode"):
            clip = decode(record.path, settings.spec, settings.clip.decoder)
        decoder = clip.decoder
        return motion_row(record, version, clip, settings, report)
    except MotiveError:
        raise  # wrong use, such as a decoder that is not installed: every clip would say the same
    except Exception as error:  # a clip never stops the run: whatever it raises is recorded on it
        return failed_row(record, version, error, decoder)
