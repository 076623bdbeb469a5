"""Motion for the eye: a page of a run's motion, and the pictures and videos of one clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from motive_fo.clips.clip import Clip
from motive_fo.clips.worker import DecodePool
from motive_fo.dataset.choose import records_of
from motive_fo.dataset.connect import as_samples, dataset_of
from motive_fo.dataset.ownership import open_store
from motive_fo.dataset.run_record import RunRecord, load_run
from motive_fo.errors import ClipError, InputError, MotiveError
from motive_fo.flow.base import Displacement
from motive_fo.models.registry import model_card
from motive_fo.motion.camera import remove_camera
from motive_fo.motion.mask import magnitude, motion_mask, to_latent_grid
from motive_fo.motion.picture import enlarge, filmstrip, flow_colours, heat, png
from motive_fo.pipeline.motion import MotionSettings
from motive_fo.pipeline.record import ClipRecord
from motive_fo.progress import Progress, silent
from motive_fo.report.motion_page import motion_page, motion_strips
from motive_fo.report.plot import histogram
from motive_fo.report.strip import ShownClip
from motive_fo.store.table import Status
from motive_fo.synthetic.corpus import write_video

_PICTURE_HEIGHT = 256


def write_motion_page(
    samples: Any, path: str | Path, run: str = "motive", *, shown: int = 6, progress: Progress = silent
) -> Path:
    """One HTML file on the motion of a run's clips: counts, distributions, filmstrips with flow and mask.

    Args:
        samples: a dataset, a view, or a dataset's name, whose motion was computed.
        path: the file to write.
        shown: clips shown of each kind; these are decoded again.

    Raises:
        InputError: motion was not computed, or the file cannot be written.
    """
    samples = as_samples(samples)
    dataset = dataset_of(samples)
    record = load_run(dataset, run)
    settings = motion_settings(record)
    table = open_store(record).table("motion")
    records = {r.id: r for r in records_of(samples).records if r.id in table}
    ids = list(records)
    states = {clip_id: table.status(clip_id) for clip_id in ids}
    values = {name: dict(zip(ids, map(float, table.read(name, ids)), strict=True)) for name in ("mean", "p95", "peak")}
    moving = sorted((i for i in ids if states[i] == Status.DONE), key=lambda i: -values["mean"][i])
    if not moving and Status.STATIC not in states.values():
        raise InputError(f"run {run!r} knows the motion of none of these clips: compute it first (motive motion)")
    static = [i for i in ids if states[i] == Status.STATIC]
    kinds: list[tuple[str, str, Sequence[str]]] = [
        ("Most dynamic", "the highest mean motion", moving[:shown]),
        ("Least motion", "the lowest mean motion above the static floor", moving[::-1][:shown]),
        ("Static", f"nothing moves by more than {settings.motion.static_floor:g} px per frame", static[:shown]),
    ]
    total, done = sum(len(chosen) for _, _, chosen in kinds), 0
    progress("page", 0, total)
    groups = []
    with settings.pool() as pool:
        for heading, explanation, chosen in kinds:
            clips = []
            for clip_id in chosen:
                facts = ", ".join(f"{name} {values[name][clip_id]:.2f}" for name in values) + " px per frame"
                clips += _shown(records[clip_id], facts, settings, pool)
                done += 1
                progress("page", done, total)
            groups.append((heading, explanation, clips))
    spec = settings.spec
    counts = ", ".join(f"{sum(s == state for s in states.values())} {state.name.lower()}" for state in Status if state)
    facts_table = [
        ("dataset", dataset.name),
        ("clips", f"{len(ids)} ({counts})"),
        ("clip", f"{spec.frames} frames at {spec.fps:g} fps, {spec.height}x{spec.width}, crop {spec.crop}"),
        ("flow", f"{settings.flow.estimator}, {settings.flow.reading}"),
    ]
    finite = [i for i in ids if states[i] in (Status.DONE, Status.STATIC)]
    distributions = [
        histogram(title, "px per frame", {"clips": [values[name][i] for i in finite]})
        for title, name in (("Mean motion", "mean"), ("95th percentile", "p95"), ("Strongest percent", "peak"))
    ]
    html = motion_page(f"Motion of {dataset.name}, run {run}", facts_table, distributions, groups)
    return write_file(Path(path).expanduser(), html.encode("utf-8"))


def show_motion(samples: Any, clip_id: str, folder: str | Path, run: str = "motive") -> list[Path]:
    """Pictures and videos of one clip's motion, by the settings of a run: frames, flow, magnitude, mask as PNG and MP4.

    Args:
        clip_id: the clip's ``motive_id`` (or sample id), or the path of its file.
        folder: where they go; made if need be.

    Raises:
        InputError: no such clip, or the folder cannot be written.
        MotiveError: the clip cannot be decoded; says why.
    """
    samples = as_samples(samples)
    record = load_run(dataset_of(samples), run)
    settings = motion_settings(record)
    found = [r for r in records_of(samples).records if clip_id in (r.id, str(r.path), r.path.name)]
    if len(found) != 1:
        raise InputError(f"{clip_id!r} names {len(found) or 'no'} clips: give a motive_id or the path of a file")
    try:
        with settings.pool() as pool:
            clip, displacement = _motion(found[0], settings, pool)
    except ClipError as error:
        raise MotiveError(f"{found[0].id}: {error.message} ({error.code})") from error
    size = magnitude(displacement)
    mask = to_latent_grid(motion_mask(size), settings.card.strides, settings.motion.pooling)
    pictures = {
        "frames": clip.frames_THW3,
        "flow": flow_colours(displacement.flow_THW2),
        "magnitude": heat(size),
        "mask": heat(np.repeat(mask, settings.card.strides.time, 0)[settings.card.strides.time - 1 :], 1.0),
    }
    target = Path(folder).expanduser()
    written = []
    for name, frames in pictures.items():
        written.append(write_file(target / f"{name}.png", png(filmstrip(frames, 8, 128))))
        large = enlarge(frames, _PICTURE_HEIGHT)
        video = target / f"{name}.mp4"
        write_video(video, large[:, :, : large.shape[2] // 2 * 2], settings.spec.fps)
        written.append(video)
    return written


def motion_settings(record: RunRecord) -> MotionSettings:
    """What a run's motion was computed with."""
    card = model_card(record.section("attribution").model)
    return MotionSettings.build(record.section("clip"), record.section("flow"), record.section("motion"), card)


def _motion(record: ClipRecord, settings: MotionSettings, pool: DecodePool) -> tuple[Clip, Displacement]:
    """Frames and the motion that is used: without the camera's where the run removes it."""
    clip = pool.decode(settings.request(record))
    displacement = settings.displacement(clip)
    if settings.motion.camera == "remove":
        displacement = remove_camera(displacement, settings.motion.camera_model)
    return clip, displacement


def _shown(record: ClipRecord, facts: str, settings: MotionSettings, pool: DecodePool) -> list[ShownClip]:
    """One clip with its pictures; none where its file went missing since."""
    try:
        clip, displacement = _motion(record, settings, pool)
    except ClipError:
        return []
    mask = to_latent_grid(motion_mask(magnitude(displacement)), settings.card.strides, settings.motion.pooling)
    strips = motion_strips(record.id, clip.frames_THW3, displacement.flow_THW2, mask)
    return [ShownClip(record.id, record.caption, facts, strips)]


def write_file(path: Path, data: bytes) -> Path:
    """Write a file and the folders above it. Raises ``InputError`` where that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    return path
