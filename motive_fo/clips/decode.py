"""From a video file to one clip: exactly the frames and pixels of the clip specification, or an error that says why.

``Choice:`` ``auto`` is PyAV for every file. For 17 or 81 frames at 16 fps out of 480p, 720p, 1080p H.264, decord took
1.05 to 1.20 times the CPU time of PyAV (median 1.15, two cores), and on files with flipped bits it handed on up to 17
wrong frames of 60 without an error, which nothing short of decoding can foresee. It stays available by name, for files
whose packets show that its frame numbers are right (``Probe.not_for_decord``).

``Choice:`` colours follow what the stream says (matrix, range, depth); an unspecified matrix is BT.601, as FFmpeg and
the trainers' loaders take it. Transparency is dropped, HDR is not tone-mapped, and stored pixels are taken as square.
"""

from __future__ import annotations

from fractions import Fraction
from os import PathLike
from typing import Any, Literal

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from motive_fo.clips.clip import Clip
from motive_fo.clips.container import FrameReader, Orientation, open_video
from motive_fo.clips.policy import Plan, Short, plan
from motive_fo.clips.probe import Probe, probe
from motive_fo.clips.spec import ClipSpec, Crop, FrameRule
from motive_fo.errors import ClipError, MissingDependencyError

Decoder = Literal["auto", "pyav", "decord"]
_STAGE = "decode"


def decode(
    path: str | PathLike[str],
    spec: ClipSpec,
    decoder: Decoder = "auto",
    short: Short = "refuse",
    rule: FrameRule | None = None,
) -> Clip:
    """Decode the frames of one clip.

    Args:
        path: the video file.
        spec: which frames and pixels.
        decoder: ``auto`` (PyAV), ``pyav`` or ``decord``.
        short: what to do where the video ends before the specification does (see ``plan``).
        rule: frame counts the model takes, for ``fewer``.

    Returns:
        The clip; frame k is the one on screen at ``spec.times()[k]`` after the first frame of the video, unless its
        ``adjustment`` says otherwise.

    Raises:
        ClipError: stage ``probe`` (see ``probe``) or ``decode`` with ``too_short`` or ``decode_failed``.
        MissingDependencyError: decord was asked for by name and is not installed.
    """
    video = probe(path)
    chosen = _choose(video, spec, short, rule)
    indices = list(chosen.indices)
    out_THW3 = np.empty((len(indices), spec.height, spec.width, 3), np.uint8)
    if decoder == "decord":
        name = _fill_with_decord(video, indices, spec, out_THW3)
    else:
        name = _fill_with_pyav(video, indices, spec, out_THW3)
    times_T = np.array([float(each) for each in video.timeline.moments(indices)])
    return Clip(out_THW3, times_T, name, video.facts, chosen.adjustment, chosen.past_end)


def _choose(video: Probe, spec: ClipSpec, short: Short, rule: FrameRule | None) -> Plan:
    """Timeline index of each frame of the clip."""
    chosen = plan(video.timeline, spec, short, rule)
    if chosen is None:
        promise = f" (the container promises {video.promised} frames)" if video.promised > video.facts.frames else ""
        promise += f" (reading stopped there: {video.read_error})" if video.read_error else ""
        fewest = f"; the model takes {rule} frames" if short == "fewer" and rule is not None else ""
        raise ClipError(
            _STAGE,
            "too_short",
            f"{video.path} has {video.facts.duration:.3f} s in {video.facts.frames} frames{promise}; {spec.frames}"
            f" frames at {spec.fps:g} fps from {spec.start:g} s need more than {float(spec.times()[-1]):.3f} s{fewest}",
        )
    return chosen


def _fill_with_pyav(video: Probe, indices: list[int], spec: ClipSpec, out_THW3: npt.NDArray[np.uint8]) -> str:
    """Decode from the keyframe before the clip; if that leaves a frame out, from the start of the file."""
    seekable = indices[0] > 0 and not video.by_order
    missing, reader = _one_pass(video, indices, spec, out_THW3, seek=seekable)
    if missing and seekable:
        missing, reader = _one_pass(video, indices, spec, out_THW3, seek=False)
    if missing:
        why = reader.failures[0] if reader.failures else "the decoder left it out without an error"
        at = float(video.timeline.seconds(min(missing)))
        raise ClipError(
            _STAGE,
            "decode_failed",
            f"{video.path}: frame {min(missing)} of {video.facts.frames} at {at:.3f} s does not decode"
            f" ({reader.decoded} frames did): {why}",
        )
    return f"pyav {av.__version__}"


def _one_pass(
    video: Probe, indices: list[int], spec: ClipSpec, out_THW3: npt.NDArray[np.uint8], seek: bool
) -> tuple[set[int], FrameReader]:
    """Fill the rows whose frame comes by; returns the timeline indices that did not, and the reader that looked."""
    index_of = {tick: index for index, tick in enumerate(video.timeline.ticks)}
    rows_of: dict[int, list[int]] = {}
    for row, index in enumerate(indices):
        rows_of.setdefault(index, []).append(row)
    to_rgb = VideoReformatter()
    with open_video(video.path, _STAGE) as (container, stream):
        reader = FrameReader(container, stream)
        if seek:
            try:
                container.seek(video.timeline.ticks[indices[0]], stream=stream)
            except FFmpegError as error:
                reader.failures.append(f"seeking failed: {error}")
                return set(rows_of), reader
        for order, frame in enumerate(reader.frames()):
            if video.by_order and reader.failures:
                break  # after a gap the order no longer tells which frame this is
            index = order if video.by_order else index_of.get(frame.pts if frame.pts is not None else -1, -1)
            rows = rows_of.pop(index, None)
            if rows is not None:
                # one thread: starting more for each frame costs more than it saves
                rgb_HW3 = to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray()
                out_THW3[rows] = fit(Orientation.of(frame).apply(rgb_HW3), spec.height, spec.width, spec.crop)
            if not rows_of:
                break
        return set(rows_of), reader


def _fill_with_decord(video: Probe, indices: list[int], spec: ClipSpec, out_THW3: npt.NDArray[np.uint8]) -> str:
    """Read single frames with decord, one at a time: a batch would hold every frame in full size."""
    try:
        import decord
    except ImportError as error:
        raise MissingDependencyError(
            "decord is not installed (it has no wheels for arm64 and macOS): pip install decord, or use decoder 'auto'"
        ) from error
    if video.not_for_decord:
        reasons = "; ".join(video.not_for_decord)
        raise ClipError(_STAGE, "decode_failed", f"{video.path}: decord may be wrong here ({reasons}); use auto")
    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader: Any = decord.VideoReader(str(video.path.absolute()), ctx=decord.cpu(0), num_threads=1)
        if len(reader) != video.facts.frames:
            raise RuntimeError(f"decord counts {len(reader)} frames, the file has {video.facts.frames}")
        last = -1
        for row, index in enumerate(indices):
            if index == last:
                out_THW3[row] = out_THW3[row - 1]
                continue
            out_THW3[row] = fit(reader[index].asnumpy(), spec.height, spec.width, spec.crop)
            last = index
    except Exception as error:  # decord raises its own kinds, some of them plain RuntimeError
        text = (str(error).strip() or repr(error)).splitlines()[0]
        raise ClipError(_STAGE, "decode_failed", f"{video.path}: decord: {text}; use auto") from error
    return f"decord {decord.__version__}"


def fit(frame_HW3: npt.NDArray[np.uint8], height: int, width: int, crop: Crop) -> npt.NDArray[np.uint8]:
    """Scale and crop one picture to ``height`` x ``width`` (see ``ClipSpec.crop``).

    The crop is cut out first, in whole source pixels, then scaled: the same picture, less work.

    ``Choice:`` shrinking averages the area (anything else aliases, and aliasing flickers: motion where there is none);
    enlarging is bilinear (cubic kernels overshoot, and the halo follows every edge).
    """
    down, across = kept_pixels(frame_HW3.shape[0], frame_HW3.shape[1], height, width, crop)
    frame_HW3 = frame_HW3[down, across]
    rows, columns = frame_HW3.shape[:2]
    picture = np.ascontiguousarray(frame_HW3)
    # In two steps, because OpenCV averages areas only if both axes shrink.
    small = (min(height, rows), min(width, columns))
    if small != (rows, columns):
        picture = cv2.resize(picture, small[::-1], interpolation=cv2.INTER_AREA).reshape(*small, 3)
    if small != (height, width):
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, 3)
    return picture


def kept_pixels(rows: int, columns: int, height: int, width: int, crop: Crop) -> tuple[slice, slice]:
    """Rows and columns of a ``rows`` x ``columns`` picture that a clip of ``height`` x ``width`` shows."""
    if crop != "center":
        return slice(0, rows), slice(0, columns)
    scale = max(Fraction(height, rows), Fraction(width, columns))
    top, left = _margin(rows, height / scale), _margin(columns, width / scale)
    return slice(top, rows - top), slice(left, columns - left)


def _margin(size: int, kept: Fraction) -> int:
    """Pixels cut from each of two sides, the same number on both, so that ``kept`` of ``size`` remain to within one."""
    return min(int((size - kept) / 2 + Fraction(1, 2)), (size - 1) // 2)
