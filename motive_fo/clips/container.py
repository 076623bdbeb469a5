"""Reading a container with PyAV: the packets of one video stream, and the frames that decode from them, none invented.

FFmpeg conceals damage by default: it guesses the missing blocks, marks one frame and hands on the ones predicted from
it as if they were sound (measured: three flipped bits, one frame marked corrupt, 17 frames wrong). Here the decoder is
told to report damage instead (``err_detect=explode``), and frames that depend on it are left out, so that a caller who
needs one of them notices. What a decoder cannot notice stays unnoticed: most flipped bits in VP9 and HEVC, a packet cut
out as a whole.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from motive_fo.errors import ClipError

#: FFmpeg's terminal emulators read any text file as a film of scrolling letters.
_TEXT_FORMATS = frozenset({"tty", "bin", "xbin", "adf", "idf"})


def file_size(path: Path, stage: str) -> int:
    """Bytes of a regular file; nothing is opened, so that a named pipe cannot block and a device is not touched.

    Raises:
        ClipError: ``missing_file``, ``unreadable`` or ``empty_file``.
    """
    try:
        facts = path.stat()
    except FileNotFoundError:
        raise ClipError(stage, "missing_file", f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise ClipError(stage, "unreadable", f"{path}: {error}") from error
    if not stat.S_ISREG(facts.st_mode):
        raise ClipError(stage, "unreadable", f"{path} is not a regular file")
    if facts.st_size == 0:
        raise ClipError(stage, "empty_file", f"{path} has no bytes")
    return facts.st_size


@contextmanager
def open_video(path: Path, stage: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its best video stream (as FFmpeg ranks them; cover art is no video).

    Raises:
        ClipError: see ``file_size``; ``not_video``, ``no_video_stream``; ``decode_failed`` for whatever else PyAV
            raises while the file is open.
    """
    file_size(path, stage)
    try:
        # An absolute path cannot be taken for a protocol ("http:x.mp4") or an option; the whitelist keeps playlists in
        # a dataset from opening addresses on the network; titles in another encoding must not stop a video.
        container = av.open(
            str(path.absolute()), options={"protocol_whitelist": "file"}, metadata_errors="replace", mode="r"
        )
    except PermissionError as error:
        raise ClipError(stage, "unreadable", f"{path}: permission denied") from error
    except (FFmpegError, OSError, ValueError) as error:
        raise ClipError(stage, "not_video", f"{path}: {_one_line(error)}") from error
    with container:
        if container.format.name in _TEXT_FORMATS:
            raise ClipError(stage, "not_video", f"{path} is a text file")
        stream = _best_stream(container)
        if stream is None:
            raise ClipError(stage, "no_video_stream", f"{path} has no video stream")
        if stream.codec_context is None:  # a codec FFmpeg knows by name only
            raise ClipError(stage, "not_video", f"{path}: no decoder for the codec of stream {stream.index}")
        stream.codec_context.options = {"err_detect": "explode"}
        try:
            yield container, stream
        except (FFmpegError, OSError, ValueError, RuntimeError) as error:
            raise ClipError(stage, "decode_failed", f"{path}: {_one_line(error)}") from error


def _best_stream(container: InputContainer) -> VideoStream | None:
    cover = av.stream.Disposition.attached_pic
    films = [stream for stream in container.streams.video if not stream.disposition & cover]
    best = container.streams.best("video")
    return next((film for film in films if film == best), films[0] if films else None)


class FrameReader:
    """The sound frames of a stream, in display order, from wherever the container stands.

    A packet that does not decode costs every frame up to the next keyframe, since they are predicted from it. Only a
    leading picture (shown before the keyframe it follows in the file) costs nothing but itself: no later frame refers
    to it, and a stream cut at an open group of pictures begins with some that nobody can decode.

    Attributes:
        failures: what went wrong so far, in FFmpeg's words. While it is empty, nothing was left out but pictures before
            the first keyframe, which are nobody's to decode.
        decoded: number of frames handed out.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container = container
        self._context = stream.codec_context
        self._stream = stream
        self.failures: list[str] = []
        self.decoded = 0

    def frames(self) -> Iterator[VideoFrame]:
        """Every sound frame up to the end of the file."""
        keyframe_pts: int | None = None
        sound = False  # nothing can be decoded before the first keyframe
        entering = False  # the last keyframe was entered cold: leading pictures lack what they are predicted from
        for packet in self.packets():
            if packet.is_keyframe:
                keyframe_pts, sound, entering = packet.pts, True, not sound
            if not sound or (entering and self._undecodable_leading(packet, keyframe_pts)):
                continue
            frames = self._decode(packet)
            if frames is None:
                if _leads(packet.pts, keyframe_pts):
                    continue
                frames, sound = self._decode(None) or [], False  # what was decoded before the damage is sound
            for frame in frames:
                if not frame.is_corrupt:
                    self.decoded += 1
                    yield frame
                    continue
                self.failures.append("the decoder marks a frame as corrupt")
                if not _leads(frame.pts, keyframe_pts):
                    sound = False
                    break
            if not sound:
                self._context.flush_buffers()
        for frame in (self._decode(None) or []) if sound else []:
            if frame.is_corrupt:
                self.failures.append("the decoder marks a frame as corrupt")
                return
            self.decoded += 1
            yield frame

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """The packets that hold data; the end of the file and a read error both end it, the latter noted."""
        try:
            for packet in self._container.demux(self._stream):
                if packet.size:  # an empty packet ends the stream; in AVI it repeats a picture, but a decoder would end
                    yield packet
        except FFmpegError as error:
            self.failures.append(_one_line(error))
        except IndexError:  # PyAV looks the packet's stream up in the list it made when it opened the file
            self.failures.append("another stream begins in the middle of the file")

    def _undecodable_leading(self, packet: Packet[VideoStream], keyframe_pts: int | None) -> bool:
        """Whether to keep a leading picture from the decoder: H.264's, told to report damage, never recovers from one.

        Other decoders know them. Matroska cannot store a time before zero, where a cut puts them, and leaves it out.
        AVI's times are guesses and tell nothing.
        """
        if self._context.codec.canonical_name != "h264" or packet.is_keyframe or self._container.format.name == "avi":
            return False
        return packet.pts is None or _leads(packet.pts, keyframe_pts)

    def _decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame] | None:
        if packet is not None and packet.is_corrupt:
            self.failures.append("the container marks a packet as corrupt")
            return None
        try:
            return self._context.decode(packet)
        except FFmpegError as error:
            self.failures.append(_one_line(error))
            return None


def _leads(pts: int | None, keyframe_pts: int | None) -> bool:
    return pts is not None and keyframe_pts is not None and pts < keyframe_pts


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


@dataclass(frozen=True)
class Orientation:
    """How a stored picture is turned for display: transposed first, then flipped.

    ``rotation`` is counter-clockwise in degrees; a mirrored picture has one as well (the part that is not the mirror).
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False
    rotation: int = 0

    @classmethod
    def of(cls, frame: VideoFrame) -> Orientation:
        """Orientation from a frame's display matrix: x' = a x + c y, y' = b x + d y (y points down)."""
        # PyAV types the mapping by name but looks up by member.
        side_data: Any = frame.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload]
        if side_data is None:
            return cls()
        a, b, _, c, d, *_ = struct.unpack("=9i", bytes(side_data))
        transpose = abs(b) > abs(a)
        rows, columns = (b, c) if transpose else (d, a)
        return cls(transpose, rows < 0, columns < 0, round(frame.rotation / 90) * 90 % 360)

    def apply(self, frame_HW3: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """The picture as displayed, as a view."""
        turned: npt.NDArray[np.uint8] = frame_HW3.transpose(1, 0, 2) if self.transpose else frame_HW3
        return turned[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]
