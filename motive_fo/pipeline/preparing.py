"""What is done to one decoded clip before its gradient: the same in this process and on a worker elsewhere.

A function here takes one clip and hands back all it found, the row for the table of motion included: whoever called it
is the one that writes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from motive_fo.clips.clip import Clip
from motive_fo.errors import ClipError, MotiveError
from motive_fo.pipeline.encoding import Encoded, Encodings
from motive_fo.pipeline.measured import MeasuredMotion
from motive_fo.pipeline.motion import MotionSettings, clip_row, known_frames
from motive_fo.pipeline.record import ClipRecord, Version
from motive_fo.pipeline.report import StepReport
from motive_fo.store.table import Row, Status, Table


@dataclass(frozen=True)
class Unmeasured:
    """Stands for the mask of a clip whose motion is still to be measured."""


UNMEASURED: Final = Unmeasured()

Mask = npt.NDArray[np.float32] | None
"""float32 (F, h, w) on the latent grid; None for a static clip."""

KnownMask = Mask | ClipError | Unmeasured
"""What the table of motion holds of a clip: its mask, why it has none, or nothing yet."""


@dataclass(frozen=True)
class Prepared:
    """A clip whose gradient can be taken, or what kept it from that.

    Attributes:
        motion: the row for the table of motion, where motion was measured on the way.
    """

    record: ClipRecord
    version: Version
    encoded: Encoded | None = None
    mask: Mask = None
    decoder: str = ""
    error: Exception | None = None
    motion: Row | None = None


def prepare(
    record: ClipRecord,
    version: Version,
    outcome: Clip | ClipError,
    mask: KnownMask,
    settings: MotionSettings,
    encodings: Encodings,
    report: StepReport,
    measured: MeasuredMotion,
) -> Prepared:
    """Mask and encoding of a decoded clip; whatever a clip raises is recorded on it.

    Args:
        version: of file and caption.
        outcome: the frames, or what kept them from being read.

    Raises:
        MotiveError: wrong use, which every clip would meet.
    """
    decoder = "" if isinstance(outcome, ClipError) else outcome.decoder
    row: Row | None = None
    try:
        if isinstance(mask, Unmeasured):
            row, mask = _measure(record, version, outcome, settings, report, measured)
        for failure in (outcome, mask):
            if isinstance(failure, ClipError):
                raise failure
        assert isinstance(outcome, Clip)
        with report.timed("encode"):
            encoded = encodings.encode(record, version, outcome)
    except MotiveError:
        raise  # wrong use: every clip would say the same
    except Exception as error:  # a clip never stops the run: whatever it raises is recorded on it
        return Prepared(record, version, error=error, decoder=decoder, motion=row)
    assert not isinstance(mask, ClipError | Unmeasured)
    return Prepared(record, version, encoded, mask, decoder=decoder, motion=row)


def _measure(
    record: ClipRecord,
    version: Version,
    outcome: Clip | ClipError,
    settings: MotionSettings,
    report: StepReport,
    measured: MeasuredMotion,
) -> tuple[Row, Mask | ClipError]:
    """The row of motion, and the mask or what the clip is recorded with."""
    file_version = replace(version, content=version.content.partition("+")[0])
    row = clip_row(record, file_version, outcome, settings, report, measured)
    if row.status == Status.FAILED:
        return row, ClipError(row.stage, row.code, row.message)
    return row, None if row.status == Status.STATIC else known_frames(row.values["mask"])


def known_mask(table: Table, clip_id: str) -> Mask:
    """The mask in the table of motion, None for a static clip. Raises the ``ClipError`` of one that failed there."""
    status = table.status(clip_id)
    if status == Status.FAILED:
        stage, code, message = (str(table.read(k, [clip_id])[0]) for k in ("stage", "code", "message"))
        raise ClipError(stage, code, message)
    if status == Status.STATIC:
        return None
    return known_frames(table.read("mask", [clip_id])[0])
