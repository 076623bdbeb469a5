"""The motion mask playing over the video in the App, for a view on request.

What is shown is the very mask that weighs the loss, on the model's latent grid: nothing is decoded again. It is drawn
over the part of the picture that the clip takes, held for the video's frames that each latent frame covers, and
brightest where the clip's mask is highest. Pictures are 8-bit grey PNGs on disk; the database only has their paths.

Frame numbers are the video's own: the n-th frame that is shown, from 1. The App plays a video of variable frame rate as
if its frames were evenly spaced, so there an overlay may come a little early or late.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from motive_fo.clips.decode import kept_pixels
from motive_fo.clips.policy import Plan, plan
from motive_fo.clips.probe import Probe, probe
from motive_fo.clips.spec import ClipSpec
from motive_fo.clips.timeline import Timeline
from motive_fo.dataset.choose import Chosen, records_of
from motive_fo.dataset.connect import as_samples, dataset_of, fiftyone
from motive_fo.dataset.motion_report import motion_settings
from motive_fo.dataset.outcome import Outcome
from motive_fo.dataset.overlay_files import MARKER, disk_space, overlay_field, overlay_folder, remove_overlays
from motive_fo.dataset.ownership import open_store
from motive_fo.dataset.run_record import RunRecord, load_run, save_run
from motive_fo.errors import ClipError, InputError
from motive_fo.pipeline.motion import MotionSettings, known_frames
from motive_fo.pipeline.record import ClipRecord
from motive_fo.progress import Progress, silent
from motive_fo.store.table import Status, Table

LONG_SIDE: Final = 256  # pixels of a picture's longer side: the App scales it, and a mask has coarser cells anyway
BYTES_PER_PICTURE: Final = 4096  # of such a picture, roughly; a file takes at least one block of the disk
_BATCH: Final = 100  # clips whose frames are written to the database at a time


@dataclass(frozen=True)
class OverlayReport:
    """What was written, or would be.

    Attributes:
        clips: clips with an overlay.
        frames: frames of the database that show one; 0 in an estimate.
        pictures: files.
        bytes: their size on disk, an upper guess in an estimate.
        skipped: clip id -> why it has none.
        folder: where they are.
        frame_field: the field that shows them.
    """

    clips: int
    frames: int
    pictures: int
    bytes: int
    folder: str
    frame_field: str
    skipped: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def outcome(self) -> Outcome:
        """For a person."""
        reasons: dict[str, int] = {}
        for why in self.skipped.values():
            reasons[why] = reasons.get(why, 0) + 1
        return Outcome(
            f"overlays of {self.clips} clips: {self.pictures} pictures, {disk_space(self.bytes)} in {self.folder}",
            tuple(f"{count} without: {why}" for why, count in sorted(reasons.items(), key=lambda item: -item[1])),
        )


def estimate_overlays(samples: Any, run: str = "motive") -> OverlayReport:
    """What ``write_overlays`` would write. Nothing is written, no video is opened."""
    samples = as_samples(samples)
    record = load_run(dataset_of(samples), run)
    table = open_store(record).table("motion")
    chosen, skipped = _with_mask(records_of(samples), table)
    settings = motion_settings(record)
    pictures = len(chosen) * settings.card.grid(settings.spec)[0]
    return OverlayReport(
        len(chosen), 0, pictures, pictures * BYTES_PER_PICTURE, str(overlay_folder(record)), overlay_field(run), skipped
    )


def write_overlays(samples: Any, run: str = "motive", *, progress: Progress = silent) -> OverlayReport:
    """Write the motion mask of every clip of a view as pictures that the App plays over the video.

    Writing again replaces what a clip had. ``delete_overlays`` and ``delete_run`` remove all of it.

    Args:
        samples: a view, a dataset or its name.
        run: the run whose masks are shown; its motion must have been computed.

    Raises:
        InputError: no such run, or the folder cannot be written.
        StoreError: the run has no motion yet.
    """
    samples = as_samples(samples)
    dataset = dataset_of(samples)
    record = load_run(dataset, run)
    settings = motion_settings(record)
    table = open_store(record).table("motion")
    every = records_of(samples)
    chosen, skipped = _with_mask(every, table)
    folder, name = overlay_folder(record), overlay_field(run)
    _begin(dataset, record, folder, name)
    clips = frames = pictures = size = 0
    progress("overlays", 0, len(chosen))
    for first in range(0, len(chosen), _BATCH):
        batch = chosen[first : first + _BATCH]
        masks = table.read("mask", [clip.id for clip in batch])
        shown: dict[str, dict[int, Any]] = {}
        for done, (clip, mask) in enumerate(zip(batch, masks, strict=True), first + 1):
            sample_id = every.sample_ids[clip.id]
            try:
                files = _write_clip(clip, known_frames(mask), settings, folder / sample_id)
            except ClipError as error:
                skipped[clip.id] = error.code
            else:
                shown[sample_id] = {number: _heatmap(path) for number, path in files.items()}
                written = set(files.values())
                clips, frames, pictures = clips + 1, frames + len(files), pictures + len(written)
                size += sum(path.stat().st_size for path in written)
            progress("overlays", done, len(chosen))
        if shown:
            dataset.select(list(shown)).clear_frame_field(name)
            dataset.set_values(f"frames.{name}", shown, key_field="id", progress=False)
    return OverlayReport(clips, frames, pictures, size, str(folder), name, skipped)


def delete_overlays(dataset: Any, run: str = "motive") -> int:
    """Remove a run's overlays: pictures, frame field, and the frames that held nothing else.

    Returns:
        bytes that were freed. Raises ``InputError`` where there is no such run.
    """
    dataset = dataset_of(as_samples(dataset))
    record = load_run(dataset, run)
    freed = remove_overlays(dataset, record)
    save_run(dataset, record)
    return freed


def frames_shown(video: Timeline, chosen: Plan, spec: ClipSpec) -> dict[int, int]:
    """Which clip frame is on screen with each frame of the video, for those inside the clip.

    A clip frame is held until the next one's; the last until the clip ends. A video frame that several clip frames show
    (a clip faster than its video, one padded or looped) has the first of them.

    Returns:
        number of the video's frame, from 1 -> clip frame, from 0.
    """
    times = spec.times()
    end = times[0] + len(chosen.indices) * (times[1] - times[0])
    shown: dict[int, int] = {}
    for place, index in enumerate(chosen.indices):
        following = chosen.indices[place + 1] if place + 1 < len(chosen.indices) else None
        if following is None or following < index:  # the clip's end, or a loop that starts over at the video's
            stop = index + 1
            while stop < len(video.ticks) and video.seconds(stop) < end:
                stop += 1
        else:
            stop = max(following, index + 1)
        for held in range(index, stop):
            shown.setdefault(held + 1, place)
    return shown


# -- one clip ---------------------------------------------------------------------------------------------------------


def _write_clip(
    clip: ClipRecord, mask_Fhw: npt.NDArray[np.float32], settings: MotionSettings, folder: Path
) -> dict[int, Path]:
    """The pictures of one clip, complete or as before: number of the video's frame -> file."""
    video = probe(clip.path)
    request = settings.request(clip)
    chosen = plan(video.timeline, request.spec, request.short, request.rule)
    if chosen is None:
        raise ClipError("probe", "too_short", f"{clip.path} is shorter than when its motion was computed")
    shown = frames_shown(video.timeline, chosen, request.spec)
    stride = settings.card.strides.time
    latent = {number: min(-(-frame // stride), len(mask_Fhw) - 1) for number, frame in shown.items()}
    part = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.mkdir(parents=True)
        for place, picture in _pictures(mask_Fhw, sorted(set(latent.values())), video, request.spec):
            (part / f"{place:04d}.png").write_bytes(picture)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return {number: folder / f"{place:04d}.png" for number, place in latent.items()}


def _pictures(
    mask_Fhw: npt.NDArray[np.float32], places: Sequence[int], video: Probe, spec: ClipSpec
) -> Iterator[tuple[int, bytes]]:
    """Latent frames as grey PNGs of the whole picture; black outside of what the clip takes of it."""
    height, width = video.facts.height, video.facts.width
    scale = min(1.0, LONG_SIDE / max(height, width))
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    down, across = kept_pixels(height, width, spec.height, spec.width, spec.crop)
    top, bottom = round(down.start * scale), max(1, round(down.stop * scale))
    left, right = round(across.start * scale), max(1, round(across.stop * scale))
    brightest = max(float(mask_Fhw.max()), 1e-12)
    for place in places:
        grey = (mask_Fhw[place] / brightest * 255).round().astype(np.uint8)
        whole = np.zeros((rows, columns), np.uint8)
        size = (max(1, right - left), max(1, bottom - top))
        whole[top:bottom, left:right] = cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR)
        done, data = cv2.imencode(".png", whole)
        if not done:
            raise ClipError("motion", "internal_error", "the mask could not be encoded as PNG")
        yield place, data.tobytes()


# -- the dataset ------------------------------------------------------------------------------------------------------


def _with_mask(chosen: Chosen, table: Table) -> tuple[list[ClipRecord], dict[str, str]]:
    """The clips that have a mask, and why the others have none."""
    found, skipped = [], {}
    for clip in chosen.records:
        status = table.status(clip.id)
        if status == Status.DONE:
            found.append(clip)
        else:
            skipped[clip.id] = {Status.STATIC: "static", Status.FAILED: "failed"}.get(status, "motion not computed")
    return found, skipped


def _begin(dataset: Any, record: RunRecord, folder: Path, name: str) -> None:
    """Folder, frame field and record, before the first picture: whatever comes next, all of it can be removed."""
    fo = fiftyone()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).write_text("Motion masks of motive-fo; `motive overlays delete` removes them.\n")
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}") from error
    record.overlays = str(folder)
    save_run(dataset, record)
    dataset.add_frame_field(
        name,
        fo.EmbeddedDocumentField,
        embedded_doc_type=fo.Heatmap,
        description=f"motion mask of the run {record.run}, brightest where the loss weighs most",
    )


def _heatmap(path: Path) -> Any:
    return fiftyone().Heatmap(map_path=str(path), range=[0, 255])
