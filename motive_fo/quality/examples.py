"""Clips of a run as training examples: latent, condition, and the mask that the run keeps."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from motive_fo.errors import ClipError, InputError
from motive_fo.models.base import VideoModel
from motive_fo.pipeline.encoding import Encoded, Encodings, encodings
from motive_fo.pipeline.motion import MotionSettings, decoded, known_frames
from motive_fo.pipeline.record import ClipRecord, Version, version_of
from motive_fo.pipeline.report import ENCODING, StepReport
from motive_fo.progress import Progress, silent
from motive_fo.quality.losses import Example
from motive_fo.store.table import Status, Table


def examples(
    records: Sequence[ClipRecord],
    model: VideoModel,
    settings: MotionSettings,
    motion: Table,
    *,
    kept: Path | None,
    scratch: Path,
    progress: Progress = silent,
) -> Generator[tuple[ClipRecord, Example | Exception]]:
    """Every clip in order, or what keeps it from being an example; nothing a clip does stops the others.

    A large model encodes all of them first, and its encoders are gone before the first example comes.

    Args:
        model: whose encoders are asked.
        motion: the run's table of motion.
        kept: folder of encodings that are kept for other runs; None to throw them away afterwards.
        scratch: where they are meanwhile if ``kept`` is None.
    """
    with encodings(model, settings, kept, scratch) as source:
        if not source.staged:
            yield from _decoded(records, source, settings, motion)
            return
        versions = {record.id: version_of(record, with_caption=True) for record in records}
        absent = [record for record in records if not source.has(record, versions[record.id])]
        failed: dict[str, Exception] = {}
        if absent:
            source.come()
        progress(ENCODING, 0, len(absent))
        for done, (record, made) in enumerate(_decoded(absent, source, settings, motion), 1):
            if isinstance(made, Exception):
                failed[record.id] = made
            progress(ENCODING, done, len(absent))
        source.leave()
        for record in records:
            if record.id in failed:
                yield record, failed[record.id]
                continue
            found = source.find(record, versions[record.id])
            yield record, _example(record, versions[record.id], found, motion)


def _decoded(
    records: Sequence[ClipRecord], source: Encodings, settings: MotionSettings, motion: Table
) -> Iterator[tuple[ClipRecord, Example | Exception]]:
    for record, version, clip in decoded(records, settings, StepReport("examples"), with_caption=True):
        if isinstance(clip, ClipError):
            yield record, clip
            continue
        try:
            encoded = source.encode(record, version, clip)
        except Exception as error:  # a clip never stops the others, whatever an encoder raises on it
            yield record, error
        else:
            yield record, _example(record, version, encoded, motion)


def _example(record: ClipRecord, version: Version, encoded: Encoded | None, motion: Table) -> Example | Exception:
    if encoded is None:
        return InputError("its encoding is gone: call again")
    if record.id not in motion or str(motion.read("content", [record.id])[0]) != version.content.partition("+")[0]:
        return InputError("its file is another one than the run measured: compute gradients again")
    return Example(encoded.x0, encoded.condition, _mask(record, motion))


def _mask(record: ClipRecord, motion: Table) -> npt.NDArray[np.float32] | None:
    """The motion mask, None for a clip in which nothing moves."""
    if motion.status(record.id) != Status.DONE:
        return None
    return known_frames(motion.read("mask", [record.id])[0])
