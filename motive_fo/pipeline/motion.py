"""The motion step: decode every clip once, estimate its flow, keep its description and its mask on the latent grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from motive_fo.clips.clip import Clip
from motive_fo.clips.cuts import find_cuts
from motive_fo.clips.spec import ClipSpec
from motive_fo.clips.worker import DecodePool, Request, decode_ahead
from motive_fo.config import ClipConfig, FlowConfig, MotionConfig
from motive_fo.errors import ClipError, MotiveError
from motive_fo.flow.base import FlowEstimator
from motive_fo.flow.registry import build_estimator
from motive_fo.models.card import ModelCard
from motive_fo.motion.camera import fit_camera
from motive_fo.motion.description import MotionDescription, describe
from motive_fo.motion.dynamic import dynamic_degree, moving_share, smoothness
from motive_fo.motion.hoof import hoof
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
            "clip": {**self.spec.identity(), "decoder": self.clip.decoder, "short": self.clip.short},
            "flow": {**self.estimator.identity(self.flow.reading), "reading": self.flow.reading},
            "mask": {
                "pooling": self.motion.pooling,
                "static_floor": self.motion.static_floor,
                "camera": self.motion.camera,
                "camera_model": self.motion.camera_model,
                "hoof_bins": self.motion.hoof_bins,
                "strides": [strides.time, strides.height, strides.width],
            },
        }

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


@dataclass(frozen=True)
class ClipMotion:
    """Everything the motion table keeps of a clip's motion.

    Attributes:
        description: statistics in pixels per frame, of the motion that is used (without the camera's where it is
        removed).
        numbers: the table's further columns; NaN where a statistic is not defined (the ``anchor`` reading).
        mask_Fhw: motion mask on the latent grid.
    """

    description: MotionDescription
    numbers: dict[str, Any]
    mask_Fhw: npt.NDArray[np.float32]


def clip_motion(clip: Clip, settings: MotionSettings, report: StepReport) -> ClipMotion:
    """Motion of decoded frames. Camera share and dynamic degree are always of the whole motion."""
    with report.timed("flow"):
        whole = settings.estimator.estimate(clip.frames_THW3, settings.flow.reading)
    floor = settings.motion.static_floor
    with report.timed("camera"):
        camera = fit_camera(whole, settings.motion.camera_model)
        used = camera.residual if settings.motion.camera == "remove" else whole
    with report.timed("statistics"):
        numbers: dict[str, Any] = {
            "cuts": len(find_cuts(clip.frames_THW3)),
            "camera_share": camera.share,
            "hoof": hoof(used, settings.motion.hoof_bins, floor=floor),
        }
        if settings.flow.reading == "step":
            numbers["moving_share"] = moving_share(used, floor)
            smooth = smoothness(used, floor)
            numbers["smoothness"] = float("nan") if smooth is None else smooth
            numbers["dynamic_score"] = dynamic_degree(whole, settings.spec.fps).score
        size_THW = magnitude(used)
        mask = to_latent_grid(motion_mask(size_THW), settings.card.strides, settings.motion.pooling)
        return ClipMotion(describe(size_THW), numbers, mask)


def motion_row(record: ClipRecord, version: Version, clip: Clip, settings: MotionSettings, report: StepReport) -> Row:
    """The finished row of a clip whose frames are decoded."""
    motion = clip_motion(clip, settings, report)
    description = motion.description
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
            "curve": _padded(description.curve_T, (settings.spec.frames,)),
            "mask": _padded(motion.mask_Fhw, settings.card.grid(settings.spec)),
            "adjustment": clip.adjustment,
            **motion.numbers,
            # what is left of a static clip is noise, which has no direction
            **({"hoof": np.zeros(settings.motion.hoof_bins, np.float32)} if static else {}),
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
            for done, (record, version, outcome) in enumerate(decoded(todo, settings, report), 1):
                table.put(_row(record, version, outcome, settings, report))
                progress("motion", done, len(todo))
        finally:
            table.flush()
        codes = table.read("code", [record.id for record in records])
        report.count((table.status(r.id), str(code)) for r, code in zip(records, codes, strict=True))
    return report


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


def _row(
    record: ClipRecord, version: Version, outcome: Clip | ClipError, settings: MotionSettings, report: StepReport
) -> Row:
    if isinstance(outcome, ClipError):
        return failed_row(record, version, outcome)
    try:
        return motion_row(record, version, outcome, settings, report)
    except MotiveError:
        raise  # wrong use: every clip would say the same
    except Exception as error:  # a clip never stops the run: whatever it raises is recorded on it
        return failed_row(record, version, error, outcome.decoder)
