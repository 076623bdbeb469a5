"""A corpus of odd and damaged files, made on the fly: what a data set from everywhere holds.

Every file that was drawn carries its frame numbers, so that a test can tell whether what is decoded is what was drawn.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.videos import (
    KINDS,
    copy_from,
    damage_packet,
    numbered_frame,
    tag_rotation,
    write_audio,
    write_flat,
    write_gif,
    write_video,
)

GROUPS = {"g": "12", "bf": "2", "sc_threshold": "0", "preset": "ultrafast"}
#: A clip of 17 frames at 30 fps, or one of these codes where any of them would be right.
DAMAGED = frozenset({"decode_failed", "too_short", "not_video", "no_video_stream", "no_timestamps"})


@dataclass(frozen=True)
class Odd:
    """One file of the corpus.

    Attributes:
        kind: what is odd about it.
        path: where it is.
        codes: codes that are right for it; a clip is right too if ``numbers`` is not None or ``clip`` is set.
        numbers: frames a clip of 17 frames at 30 fps has to show; None where none was drawn, or no clip can come.
        clip: a clip without numbers is right.
    """

    kind: str
    path: Path
    codes: frozenset[str] = frozenset()
    numbers: tuple[int, ...] | None = None
    clip: bool = False


def corpus(folder: Path) -> Iterator[Odd]:
    """Write the corpus and describe it."""
    yield from _sound(folder)
    yield from _broken(folder)
    yield from _no_video(folder)
    yield from _names(folder)


_FIRST = tuple(range(17))


def _sound(folder: Path) -> Iterator[Odd]:
    for kind, (name, codec, pixel_format, options) in KINDS.items():
        if codec in av.codecs_available:
            path = folder / f"{kind}-{name}"
            yield Odd(f"codec {kind}", write_video(path, 20, 30, codec, pixel_format, options), numbers=_FIRST)
    for codec, suffix, pixel_format in (
        ("ffv1", "mkv", "yuv444p"),
        ("huffyuv", "avi", "yuv422p"),
        ("qtrle", "mov", "rgb24"),
    ):
        if codec in av.codecs_available:
            path = write_video(folder / f"{codec}.{suffix}", 20, 30, codec, pixel_format)
            yield Odd(f"codec {codec}", path, numbers=_FIRST)
    gif = write_gif(folder / "a.gif", 20, 10)
    yield Odd("gif", gif, numbers=tuple(k // 3 for k in range(17)))
    for height, width in ((97, 131), (17, 33), (1, 1), (2, 300)):
        path = write_video(folder / f"{height}x{width}.mp4", 20, pixel_format="yuv444p", size=(height, width))
        readable = height > 8 and width > 8
        yield Odd("odd size", path, numbers=_FIRST if readable else None, clip=not readable)
    yield Odd("10 bit full range", write_flat(folder / "flat.mp4", (600, 512, 512), "yuv420p10le", 1, True), clip=True)
    yield Odd("full range", write_flat(folder / "full.mp4", (200, 128, 128), "yuv420p", 5, True), clip=True)
    half_turn = tag_rotation(write_video(folder / "turned.mp4", 20), -1, 0, 0, -1)
    yield Odd("rotation", half_turn, clip=True)
    times = [0, 40, 200, 240, 300, 420, 520, 530, 700]
    shown = tuple(max(i for i, ms in enumerate(times) if ms <= k * 1000 / 30 + 1) for k in range(17))
    for suffix in ("mp4", "mkv"):
        yield Odd("variable rate", write_video(folder / f"vfr.{suffix}", milliseconds=times), numbers=shown)
    source = write_video(folder / "source.mp4", 48, options=GROUPS)
    cut = copy_from(source, folder / "edit.mp4", Fraction(20, 30))
    yield Odd("edit list", cut, numbers=tuple(range(20, 37)))
    for suffix in ("mkv", "ts", "flv"):
        late = copy_from(source, folder / f"cut.{suffix}", Fraction(12, 30))
        yield Odd("stream copy", late, numbers=tuple(range(12, 29)))
    yield Odd("no keyframe at the start", _without(source, folder / "headless.mkv", {0}), numbers=tuple(range(12, 29)))
    yield Odd("two streams", _two_streams(folder / "two.mp4"), numbers=_FIRST)
    interlaced = write_video(folder / "interlaced.mp4", 20, options={"flags": "+ildct+ilme", "x264-params": "tff=1"})
    yield Odd("interlaced", interlaced, numbers=_FIRST)
    yield Odd("one frame", write_video(folder / "one.mp4", 1), frozenset({"too_short"}))
    yield Odd("sixteen frames", write_video(folder / "sixteen.mp4", 16), frozenset({"too_short"}))
    yield Odd("no timestamps", write_video(folder / "bare.h264", 20, options={"bf": "2"}), frozenset({"no_timestamps"}))


def _without(source: Path, target: Path, left_out: set[int]) -> Path:
    with av.open(str(source)) as given, av.open(str(target), "w") as copy:
        stream = copy.add_stream_from_template(given.streams.video[0])
        for number, packet in enumerate(given.demux(video=0)):
            if packet.dts is not None and number not in left_out:
                packet.stream = stream
                copy.mux(packet)
    return target


def _two_streams(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        # the first track of an MP4 is its default, which is what a player shows
        large, small = container.add_stream("libx264", rate=30), container.add_stream("libx264", rate=30)
        for stream, size in ((large, (96, 128)), (small, (48, 64))):
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for number in range(20):
            for stream, shown in ((large, number), (small, 99)):
                picture = numbered_frame(shown, stream.height, stream.width)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in (large, small):
            container.mux(stream.encode())
    return path


def _broken(folder: Path) -> Iterator[Odd]:
    draw = random.Random(1)
    sources = {
        "mp4": write_video(folder / "s.mp4", 40, options=GROUPS | {"movflags": "faststart"}),
        "mkv": write_video(folder / "s.mkv", 40, options=GROUPS),
        "ts": write_video(folder / "s.ts", 40, options=GROUPS),
        "avi": write_video(folder / "s.avi", 40, codec="mpeg4", options={"g": "12", "b": "1M"}),
    }
    for suffix, source in sources.items():
        data = source.read_bytes()
        for share in (0.02, 0.3, 0.6, 0.95):
            path = folder / f"truncated-{share}.{suffix}"
            path.write_bytes(data[: int(len(data) * share)])
            yield Odd(f"truncated {suffix}", path, DAMAGED, numbers=_FIRST)
        zeros = folder / f"hole.{suffix}"
        zeros.write_bytes(data[: len(data) // 2] + bytes(4096) + data[len(data) // 2 + 4096 :])
        yield Odd(f"hole {suffix}", zeros, DAMAGED, numbers=_FIRST)
        header = folder / f"header.{suffix}"
        header.write_bytes(draw.randbytes(64) + data[64:])
        yield Odd(f"wrong header {suffix}", header, DAMAGED, numbers=_FIRST)
    for number in range(4):
        path = folder / f"flipped-{number}.mp4"
        path.write_bytes(sources["mp4"].read_bytes())
        yield Odd("flipped bits", damage_packet(path, 5 + number, number), DAMAGED, numbers=_FIRST)
    huge = folder / "huge.mp4"
    data = bytearray(sources["mp4"].read_bytes())
    at = data.index(b"stsz") + 12  # the number of samples
    data[at : at + 4] = b"\x7f\xff\xff\xff"
    huge.write_bytes(data)
    yield Odd("huge count", huge, DAMAGED, numbers=_FIRST)
    wide = folder / "wide.avi"
    data = bytearray(sources["avi"].read_bytes())
    at = data.index(b"strf") + 12  # width and height in the stream's header
    data[at : at + 8] = b"\xff\xff\x00\x00\xff\xff\x00\x00"
    wide.write_bytes(data)
    yield Odd("huge size", wide, DAMAGED, numbers=_FIRST)


def _no_video(folder: Path) -> Iterator[Odd]:
    not_video, no_stream = frozenset({"not_video"}), frozenset({"no_video_stream"})
    (folder / "empty.mp4").touch()
    yield Odd("empty", folder / "empty.mp4", frozenset({"empty_file"}))
    (folder / "words.mp4").write_text("no video\n" * 200)
    yield Odd("text", folder / "words.mp4", not_video)
    (folder / "words.txt").write_text("no video\n" * 200)
    yield Odd("text", folder / "words.txt", not_video)
    (folder / "noise.mp4").write_bytes(random.Random(2).randbytes(50_000))
    yield Odd("noise", folder / "noise.mp4", DAMAGED)
    (folder / "page.mp4").write_text("<html><body>404 not found</body></html>")
    yield Odd("web page", folder / "page.mp4", not_video)
    (folder / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://localhost:1/a.ts\n#EXT-X-ENDLIST\n")
    yield Odd("playlist", folder / "list.m3u8", DAMAGED)
    yield Odd("audio only", write_audio(folder / "sound.mp4"), no_stream)
    yield Odd("audio only", write_audio(folder / "sound.wav"), no_stream)
    cover = folder / "cover.mp4"
    with av.open(str(cover), "w") as container:
        picture = container.add_stream("png", rate=1)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "rgb24"
        picture.disposition = av.stream.Disposition.attached_pic
        sound = container.add_stream("aac", rate=16000, layout="mono")
        container.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        for stream in (picture, sound):
            container.mux(stream.encode(None))
    yield Odd("cover only", cover, no_stream)


def _names(folder: Path) -> Iterator[Odd]:
    unreadable = frozenset({"unreadable"})
    yield Odd("missing", folder / "nowhere.mp4", frozenset({"missing_file"}))
    yield Odd("name with a zero byte", folder / "a\0b.mp4", unreadable)
    (folder / "folder.mp4").mkdir()
    yield Odd("directory", folder / "folder.mp4", unreadable)
    good = (folder / "source.mp4").read_bytes()
    for name in ("-i.mp4", "http:a.mp4", "a b%03d'\".mp4", "日本語 😀.mp4"):
        (folder / name).write_bytes(good)
        yield Odd("odd name", folder / name, numbers=_FIRST)
    if os.name == "posix":
        os.mkfifo(folder / "pipe.mp4")
        yield Odd("fifo", folder / "pipe.mp4", unreadable)
        (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
        yield Odd("link to itself", folder / "loop.mp4", unreadable)
        (folder / "dangling.mp4").symlink_to(folder / "nothing.mp4")
        yield Odd("dangling link", folder / "dangling.mp4", frozenset({"missing_file"}))
        name = os.fsdecode(b"latin\xe9.mp4")
        try:
            (folder / name).write_bytes(good)
        except OSError:  # a file system that wants UTF-8
            return
        yield Odd("name in another encoding", folder / name, unreadable | {"not_video"}, numbers=_FIRST)
