"""What a video file holds, before any of its frames is used: its facts, its timeline, and whether decord may read it.

All packets are listed and one frame is decoded: PyAV shows a stream's rotation on decoded frames only, and what decodes
first is what is shown first. A container's own numbers (frame count, duration, average rate) are compared, never
trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from motive_fo.clips.clip import VideoFacts
from motive_fo.clips.container import FrameReader, Orientation, file_size, open_video
from motive_fo.clips.timeline import Timeline, timeline
from motive_fo.errors import ClipError

_STAGE = "probe"
_DECORD_CODECS = frozenset({"h264", "hevc", "vp8", "vp9", "mpeg4"})
_UNSPECIFIED_OR_BT601 = frozenset({2, 5, 6})  # AVColorSpace
_FULL_RANGE = 2  # AVColorRange


@dataclass(frozen=True)
class Probe:
    """A probed file.

    Attributes:
        path: the file.
        facts: what the file is.
        timeline: when each shown frame is on screen.
        by_order: frames are known by their order only, the k-th to come out is the k-th on the timeline: the container
            stores no presentation times (AVI), so those of decoded frames are guesses.
        promised: the container's own number of frames, 0 where it has none.
        read_error: why the packets could not be listed to the end of the file, or None.
        not_for_decord: why decord cannot be trusted with this file; empty if it can.
    """

    path: Path
    facts: VideoFacts
    timeline: Timeline
    by_order: bool
    promised: int
    read_error: str | None
    not_for_decord: tuple[str, ...]


@dataclass(frozen=True)
class _Listing:
    """The packets of the stream: (pts, duration) in ticks of those shown, and what counting them would get wrong."""

    shown: list[tuple[int, int]]
    by_order: bool
    hidden: int
    first_is_key: bool
    open_groups: bool
    read_error: str | None


def probe(path: str | PathLike[str]) -> Probe:
    """List the packets of a video file and look at its first frame.

    Raises:
        ClipError: stage ``probe``; codes ``missing_file``, ``unreadable``, ``empty_file``, ``not_video``,
            ``no_video_stream``, ``no_timestamps`` and, if no frame decodes at all, ``decode_failed``.
    """
    path = Path(path)
    size = file_size(path, _STAGE)
    with open_video(path, _STAGE) as (container, stream):
        listing = _list_packets(path, container, stream)
        time_base, guessed_rate, promised = stream.time_base, stream.guessed_rate, stream.frames
        codec, format_name = stream.codec_context.codec.canonical_name, container.format.name
        streams = len(container.streams.video)
    first, damaged = _first_frame(path)
    shown = listing.shown
    if not (damaged or listing.by_order or first.pts is None):
        # Pictures before the first one that decodes (a stream cut at an open group of pictures begins with some) are
        # shown to nobody. After damage they are missing instead, and whoever needs them must be told.
        shown = [packet for packet in shown if packet[0] >= first.pts]
    if not shown or time_base is None:
        raise ClipError(_STAGE, "decode_failed", f"{path}: every packet is hidden by the container's edit list")
    frames = timeline(shown, time_base, 1 / guessed_rate if guessed_rate else None)
    turned = Orientation.of(first)
    facts = VideoFacts(
        width=first.height if turned.transpose else first.width,
        height=first.width if turned.transpose else first.height,
        fps=float(frames.fps),
        frames=len(frames.ticks),
        duration=float(frames.duration),
        codec=codec,
        pixel_format=first.format.name,
        rotation=turned.rotation,
        constant_rate=frames.constant_rate,
        edit_list=listing.hidden > 0 or ("mp4" in format_name and frames.ticks[0] != 0),
        size_bytes=size,
    )
    reasons = [
        (format_name.split(",")[0] != "mov", "the container is not MP4 or QuickTime"),
        (streams != 1, "there are several video streams"),
        (promised != len(listing.shown) + listing.hidden, f"the container promises {promised} frames"),
        (facts.frames != len(listing.shown), "some packets are never shown"),
        (listing.read_error is not None or damaged, "the file is damaged"),
        (not listing.first_is_key, "the first packet is no keyframe"),
        # decord seeks to a keyframe and counts on from there, one short for each leading picture that cannot decode
        (listing.open_groups, "groups of pictures are open"),
        *_unfit(facts, frames, first, turned),
    ]
    not_for_decord = tuple(text for wrong, text in reasons if wrong)
    return Probe(path, facts, frames, listing.by_order, promised, listing.read_error, not_for_decord)


def _unfit(facts: VideoFacts, frames: Timeline, first: VideoFrame, turned: Orientation) -> list[tuple[bool, str]]:
    """What decord is known or likely to get wrong in a sound file: it counts packets and assumes BT.601 at 8 bits."""
    return [
        (facts.codec not in _DECORD_CODECS, f"the codec is {facts.codec}"),
        (facts.pixel_format != "yuv420p", f"the pixel format is {facts.pixel_format}"),
        (first.color_range == _FULL_RANGE, "the colours use the full range"),
        (first.colorspace not in _UNSPECIFIED_OR_BT601, "the colour matrix is not BT.601"),
        (turned != Orientation(), "the picture is turned"),
        (not facts.constant_rate, "the frame rate varies"),
        (facts.edit_list or frames.ticks[0] != 0, "an edit list or an offset shifts the frames"),
    ]


def _list_packets(path: Path, container: InputContainer, stream: VideoStream) -> _Listing:
    reader = FrameReader(container, stream)
    rows: list[tuple[int | None, int | None, int, bool, bool]] = []
    for packet in reader.packets():
        rows.append((packet.pts, packet.dts, packet.duration or 0, packet.is_discard, packet.is_keyframe))
    if not rows:
        raise ClipError(_STAGE, "decode_failed", f"{path}: the video stream is empty")
    keyframe = next((number for number, row in enumerate(rows) if row[4]), 0)  # nothing before it can be decoded
    shown = [row for row in rows[keyframe:] if not row[3]]
    if container.format.name.startswith("matroska"):
        # It cannot store times before zero: leading pictures of a cut have none, and nobody can decode them.
        unstored = next((number for number, row in enumerate(shown[1:]) if row[0] is not None), 0)
        shown[1 : 1 + unstored] = []
    # AVI numbers packets, not pictures: FFmpeg's pts there are guesses. Elsewhere a missing pts can only be replaced by
    # the decoding time where no picture is reordered.
    by_order = container.format.name == "avi" or any(pts is None for pts, *_ in shown)
    if by_order and container.format.name != "avi" and stream.codec_context.has_b_frames:
        raise ClipError(_STAGE, "no_timestamps", f"{path}: packets have no presentation time")
    times = [dts if by_order else pts for pts, dts, *_ in shown]
    if any(time is None for time in times) or stream.time_base is None:
        raise ClipError(_STAGE, "no_timestamps", f"{path}: packets have no times")
    return _Listing(
        shown=[(time, row[2]) for time, row in zip(times, shown, strict=True) if time is not None],
        by_order=by_order,
        hidden=len(rows) - len(shown),
        first_is_key=rows[0][4],
        open_groups=_has_open_groups([(row[0], row[4]) for row in rows]),
        read_error=reader.failures[0] if reader.failures else None,
    )


def _has_open_groups(packets: list[tuple[int | None, bool]]) -> bool:
    """Whether a picture is shown before the keyframe it follows in the file; packets are (pts, is a keyframe)."""
    keyframe: int | None = None
    for pts, is_key in packets:
        if is_key:
            keyframe = pts
        elif pts is not None and keyframe is not None and pts < keyframe:
            return True
    return False


def _first_frame(path: Path) -> tuple[VideoFrame, bool]:
    """The first sound frame, and whether packets before it failed to decode."""
    with open_video(path, _STAGE) as (container, stream):
        reader = FrameReader(container, stream)
        frame = next(reader.frames(), None)
        if frame is None:
            why = reader.failures[0] if reader.failures else "no packet gives a picture"
            raise ClipError(_STAGE, "decode_failed", f"{path}: no frame decodes: {why}")
        return frame, bool(reader.failures)
