"""Test videos written on the fly: every frame carries its own number, so that a test can say which one was used.

The number is an eight-bit code of black and white blocks that survives any codec and any scaling.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

SHARED_VIDEOS = Path(__file__).resolve().parents[2] / "shared" / "videos"
_CODE_ROWS, _CODE_COLUMNS = 2, 4

#: name -> (file name, codec, pixel format, codec options): one of each kind of file a data set holds.
KINDS: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "h264": ("a.mp4", "libx264", "yuv420p", {"bf": "3", "g": "12", "sc_threshold": "0"}),
    "h264-mkv": ("a.mkv", "libx264", "yuv420p", {"bf": "2"}),
    "h264-flv": ("a.flv", "libx264", "yuv420p", {"bf": "2"}),
    "h264-ts": ("a.ts", "libx264", "yuv420p", {"bf": "2"}),
    "h264-avi": ("a.avi", "libx264", "yuv420p", {"bf": "2"}),
    "h264-10bit": ("a.mov", "libx264", "yuv420p10le", {"bf": "2"}),
    "hevc": ("a.mp4", "libx265", "yuv420p", {"x265-params": "log-level=none"}),
    "vp8": ("a.webm", "libvpx", "yuv420p", {"deadline": "realtime", "cpu-used": "8"}),
    "vp9": ("a.webm", "libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "8"}),
    "av1": ("a.mkv", "libsvtav1", "yuv420p", {"preset": "12"}),
    "mpeg4": ("a.mp4", "mpeg4", "yuv420p", {"b": "2M"}),
    "mpeg4-avi": ("a.avi", "mpeg4", "yuv420p", {"bf": "2", "b": "2M"}),
    "mpeg2": ("a.mpg", "mpeg2video", "yuv420p", {"bf": "2", "b": "2M"}),
    "wmv": ("a.wmv", "wmv2", "yuv420p", {"b": "2M"}),
    "mjpeg": ("a.avi", "mjpeg", "yuvj420p", {}),
    "prores-alpha": ("a.mov", "prores_ks", "yuva444p10le", {}),
    "png-alpha": ("a.mov", "png", "rgba", {}),
}


def numbered_frame(number: int, height: int = 96, width: int = 128) -> npt.NDArray[np.uint8]:
    """A picture that says ``number`` (0 to 255) in its upper half, above a drifting texture."""
    rows, columns = np.mgrid[0:height, 0:width]
    texture = (rows * 3 + columns * 2 + number * 5) % 160 + 40
    frame_HW3 = np.repeat(texture[..., None], 3, axis=-1).astype(np.uint8)
    block = (rows * 2 * _CODE_ROWS // height) * _CODE_COLUMNS + columns * _CODE_COLUMNS // width
    upper = rows < height // 2
    frame_HW3[upper] = np.where((number >> block[upper]) & 1, 235, 20)[:, None]
    return frame_HW3


def read_number(frame_HW3: npt.NDArray[np.uint8]) -> int:
    """The number a frame carries, at any size (uncropped, upright)."""
    height, width = frame_HW3.shape[:2]
    number = 0
    for bit in range(_CODE_ROWS * _CODE_COLUMNS):
        row, column = divmod(bit, _CODE_COLUMNS)
        y = int((row + 0.5) * height / (2 * _CODE_ROWS))
        x = int((column + 0.5) * width / _CODE_COLUMNS)
        number |= int(frame_HW3[y, x].mean() > 128) << bit
    return number


def read_numbers(frames_THW3: npt.NDArray[np.uint8]) -> list[int]:
    return [read_number(frame_HW3) for frame_HW3 in frames_THW3]


def write_video(
    path: Path,
    count: int = 48,
    fps: float | Fraction = 30,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    size: tuple[int, int] = (96, 128),
    milliseconds: Sequence[int] | None = None,
    frames_THW3: npt.NDArray[np.uint8] | None = None,
) -> Path:
    """Write ``count`` numbered frames, or those given; with ``milliseconds``, one frame at each of these times (a
    variable rate)."""
    if frames_THW3 is not None:
        count, size = len(frames_THW3), frames_THW3.shape[1:3]
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = size
        stream.pix_fmt = pixel_format
        if milliseconds is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(count if milliseconds is None else len(milliseconds)):
            picture_HW3 = numbered_frame(number, *size) if frames_THW3 is None else frames_THW3[number]
            frame = av.VideoFrame.from_ndarray(picture_HW3, format="rgb24")
            if milliseconds is not None:
                frame.pts, frame.time_base = milliseconds[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_kind(folder: Path, kind: str, count: int = 48, fps: int = 30) -> Path:
    """Write a video of one of ``KINDS``; skips the test where this build of FFmpeg lacks the encoder."""
    name, codec, pixel_format, options = KINDS[kind]
    if codec not in av.codecs_available:
        pytest.skip(f"no {codec} encoder")
    return write_video(folder / name, count, fps, codec, pixel_format, options)


def write_gif(path: Path, count: int = 20, fps: int = 10) -> Path:
    return write_video(path, count, fps, "gif", "rgb8")


def write_flat(
    path: Path, yuv: tuple[int, int, int], pixel_format: str, matrix: int, full_range: bool, codec: str = "libx264"
) -> Path:
    """Twenty frames of one colour, given as code values, with the stream's matrix and range tagged."""
    deep = "10" in pixel_format
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, pixel_format
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if full_range else 1
        for _ in range(20):
            frame = av.VideoFrame(64, 48, pixel_format)
            for plane, value in zip(frame.planes, yuv, strict=True):
                kind = np.uint16 if deep else np.uint8
                plane.update(np.full(plane.buffer_size // kind().itemsize, value, kind).tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_audio(path: Path) -> Path:
    """A second of silence and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac" if path.suffix == ".mp4" else "pcm_s16le", rate=16000, layout="mono")
        for _ in range(16):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
            frame.sample_rate = 16000
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def copy_from(source: Path, target: Path, first: Fraction) -> Path:
    """Cut without encoding, as ``ffmpeg -ss first -c copy``: the copy starts at the keyframe before ``first`` seconds.

    In MP4 the frames before ``first`` get negative times, which the muxer hides by an edit list.
    """
    with av.open(str(source)) as given, av.open(str(target), "w") as container:
        stream = given.streams.video[0]
        copy = container.add_stream_from_template(stream)
        offset = int(first / stream.time_base)
        given.seek(offset, stream=stream)
        for packet in given.demux(stream):
            if packet.dts is None or packet.pts is None:
                continue  # the end; sources are MP4, where every packet has both
            packet.pts -= offset
            packet.dts -= offset
            packet.stream = copy
            container.mux(packet)
    return target


def tag_rotation(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write the display matrix x' = a x + c y, y' = b x + d y into an MP4's track header."""
    data = bytearray(path.read_bytes())
    body = data.index(b"tkhd") + 4
    matrix_at = body + (40 if data[body] == 0 else 52)
    one = 1 << 16
    struct.pack_into(">9i", data, matrix_at, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def damage_packet(path: Path, number: int, seed: int = 0) -> Path:
    """Flip three bits in the payload of a packet (file order), past its header."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    position, size = packets[number].pos, packets[number].size
    data, draw = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(3):
        data[position + draw.randrange(min(20, size // 3), size)] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    return path
