"""Hundreds of files that nobody should be given, made on the fly: at least ten of each kind."""

from __future__ import annotations

import contextlib
import os
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.videos import copy_from, tag_rotation, write_audio, write_video

_GROUPS = {"g": "12", "bf": "2", "sc_threshold": "0", "preset": "ultrafast"}
_SOURCES: dict[str, tuple[str, dict[str, str]]] = {
    "mp4": ("libx264", _GROUPS | {"movflags": "faststart"}),
    "mkv": ("libx264", _GROUPS),
    "ts": ("libx264", _GROUPS),
    "avi": ("mpeg4", {"g": "12", "b": "1M"}),
    "webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": "12"}),
}
_SIZES = (
    (1, 1),
    (1, 64),
    (64, 1),
    (2, 2),
    (3, 5),
    (7, 9),
    (17, 33),
    (97, 131),
    (2, 300),
    (300, 2),
    (15, 16),
    (255, 257),
)
_LARGE = ((1080, 1920), (2160, 3840), (4320, 7680), (16, 8192), (8192, 16), (2048, 2048), (4096, 64), (64, 4096))
_NAMES = (
    "-i.mp4", "--help.mp4",
    "http:a.mp4", "a b%03d'\".mp4", "日本語 😀.mp4", "new\nline.mp4", "$(touch x);.mp4", "a\\b.mp4",
    "a\u202etxt.mp4", "." + "h" * 200 + ".mp4", "concat:a|b.mp4", "pipe:0.mp4", "%s%n.mp4", "<script>alert(1)<.mp4",
    "é vs é.mp4", ".._.mp4",
)  # fmt: skip


@dataclass(frozen=True)
class Bad:
    """One input: what is wrong with it, and where it is."""

    kind: str
    path: Path


def inputs(folder: Path) -> Iterator[Bad]:
    """Write the corpus and describe it; kinds whose encoder this FFmpeg lacks are left out."""
    sources = {s: write_video(folder / f"s.{s}", 40, 30, c, options=o) for s, (c, o) in _SOURCES.items()}
    made = [_damaged(folder, sources), _drawn(folder), _moved(folder, sources["mp4"]), _placed(folder, sources["mp4"])]
    for part in made:
        yield from part


def _damaged(folder: Path, sources: dict[str, Path]) -> Iterator[Bad]:
    draw = random.Random(1)

    def truncated(data: bytes) -> bytes:
        return data[: draw.randrange(len(data))]

    def flipped(data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(draw.choice((1, 8, 64))):
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        return bytes(changed)

    def header(data: bytes) -> bytes:
        return draw.randbytes(count := draw.choice((8, 64, 512))) + data[count:]

    def hole(data: bytes) -> bytes:
        at, size = draw.randrange(len(data)), draw.choice((64, 1024, 4096))
        return data[:at] + bytes(size) + data[at + size :]

    def huge(data: bytes) -> bytes:
        """The sizes and counts of the boxes of an MP4's tables, as large as they can be."""
        at = data.index(draw.choice((b"stsz", b"stco", b"stts", b"ctts", b"mdhd", b"tkhd", b"avcC", b"stsc"))) + 4
        return (
            data[:at]
            + struct.pack(">IQ", draw.choice((0, 1 << 30)), (1 << 64) - 1 - draw.randrange(9))
            + data[at + 12 :]
        )

    damages: tuple[Callable[[bytes], bytes], ...] = (truncated, flipped, header, hole)
    for suffix, source in sources.items():
        data = source.read_bytes()
        for damage in damages:
            for n in range(10):
                path = folder / f"{damage.__name__}-{n}.{suffix}"
                path.write_bytes(damage(data))
                yield Bad(f"{damage.__name__} {suffix}", path)
    for n in range(10):
        path = folder / f"huge-{n}.mp4"
        path.write_bytes(huge(sources["mp4"].read_bytes()))
        yield Bad("huge counts mp4", path)
    for n in range(10):
        suffix = ("mp4", "mkv", "avi", "gif", "mov", "webm", "ts", "flv", "mpg", "wmv")[n]
        for kind, content in (("empty", b""), ("text", b"<html>404</html>\n" * n * n), ("noise", draw.randbytes(5000))):
            path = folder / f"{kind}-{n}.{suffix}"
            path.write_bytes(content if content or kind == "empty" else b"x")
            yield Bad(f"no video: {kind}", path)
        yield Bad("audio only", write_audio(folder / f"audio-{n}.{'mp4' if n % 2 else 'wav'}"))


def _drawn(folder: Path) -> Iterator[Bad]:
    """Sound files of odd make."""

    def each(kind: str, suffix: str, codec: str, formats: tuple[str, ...], options: dict[str, str]) -> Iterator[Bad]:
        if codec not in av.codecs_available:
            return
        for n in range(10):
            count, size = (20, 24, 40)[n % 3], ((96, 128), (64, 64), (48, 80), (128, 96))[n % 4]
            path = folder / f"{kind.replace('/', '-')}-{n}.{suffix}"
            yield Bad(
                kind, write_video(path, count, (30, 24, 12, 60)[n % 4], codec, formats[n % len(formats)], options, size)
            )

    fast = {"deadline": "realtime", "cpu-used": "8"}
    yield from each("HEVC", "mp4", "libx265", ("yuv420p", "yuv444p"), {"x265-params": "log-level=none"})
    yield from each("AV1", "mkv", "libsvtav1", ("yuv420p",), {"preset": "12"})
    yield from each("VP9", "webm", "libvpx-vp9", ("yuv420p", "yuv444p"), fast)
    yield from each("ProRes", "mov", "prores_ks", ("yuv422p10le", "yuv444p10le"), {})
    yield from each("GIF", "gif", "gif", ("rgb8", "bgr8"), {})
    yield from each("alpha", "mov", "png", ("rgba", "ya8"), {})
    yield from each("alpha ProRes", "mov", "prores_ks", ("yuva444p10le",), {})
    yield from each("10 bit", "mov", "libx264", ("yuv420p10le", "yuv422p10le", "yuv444p10le"), {})
    yield from each("12 bit", "mkv", "libx265", ("yuv420p12le", "yuv422p12le"), {"x265-params": "log-level=none"})
    interlaced = {"flags": "+ildct+ilme", "x264-params": "tff=1"}
    yield from each("interlaced", "mp4", "libx264", ("yuv420p",), interlaced)
    for n, size in enumerate(_SIZES):
        yield Bad("small and odd sizes", write_video(folder / f"small-{n}.mp4", 20, pixel_format="yuv444p", size=size))
    for n in range(10):
        yield Bad("one to ten frames", write_video(folder / f"short-{n}.mp4", n + 1))
        path = folder / f"long-{n}.mp4"
        yield Bad("long", write_video(path, 300 * (n + 1), 30, options={"preset": "ultrafast"}, size=(32, 48)))
        times = np.cumsum(np.random.default_rng(n).choice((1, 5, 33, 40, 400), 30)).tolist()
        yield Bad("variable rate", write_video(folder / f"vfr-{n}.{('mp4', 'mkv')[n % 2]}", milliseconds=times))
        turn = random.Random(n)
        matrix = [turn.choice((-3, -1, 0, 0, 1, 2)) for _ in range(4)]
        yield Bad("rotation", tag_rotation(write_video(folder / f"turned-{n}.mp4", 20), *matrix))
        size = _LARGE[n % len(_LARGE)]
        path = folder / f"large-{n}.mp4"
        frames = 6 if size[0] * size[1] > 8 << 20 else 14
        yield Bad("up to 8K", write_video(path, frames, 6, options={"preset": "ultrafast"}, size=size))


def _moved(folder: Path, source: Path) -> Iterator[Bad]:
    """Packets at other times, or missing."""
    for n in range(10):
        suffix = ("mp4", "mkv", "ts", "flv", "mov")[n % 5]
        yield Bad("negative times", copy_from(source, folder / f"negative-{n}.{suffix}", Fraction(3 + 3 * n, 30)))
        path = folder / f"headless-{n}.{('mkv', 'mp4', 'ts')[n % 3]}"
        left_out = {0, 12, 24, 36} if n % 2 else {0, *random.Random(n).sample(range(40), 6)}
        with av.open(str(source)) as given, av.open(str(path), "w") as copy:
            stream = copy.add_stream_from_template(given.streams.video[0])
            for number, packet in enumerate(given.demux(video=0)):
                if packet.dts is not None and number not in left_out:
                    packet.stream = stream
                    copy.mux(packet)
        yield Bad("missing keyframes", path)


def _placed(folder: Path, source: Path) -> Iterator[Bad]:
    """Good bytes, or none, in bad places."""
    good = source.read_bytes()
    for name in _NAMES:
        with contextlib.suppress(OSError):
            (folder / name).write_bytes(good)
            yield Bad("hostile names", folder / name)
    raw = [os.fsdecode(bytes((0xE0 + n, 0xFF)) + b".mp4") for n in range(10)]
    for n in range(10):
        with contextlib.suppress(OSError):
            (folder / raw[n]).write_bytes(good)
            yield Bad("names in no encoding", folder / raw[n])
        loop = folder / f"loop-{n}.mp4"
        loop.symlink_to(folder / f"loop-{(n + 1) % 10}.mp4")
        yield Bad("symlink loops", loop)
        (folder / f"dangling-{n}.mp4").symlink_to(folder / f"nowhere-{n}")
        yield Bad("dangling links and folders", folder / f"dangling-{n}.mp4")
        (folder / f"folder-{n}.mp4").mkdir()
        yield Bad("dangling links and folders", folder / f"folder-{n}.mp4")
        os.mkfifo(folder / f"fifo-{n}.mp4")
        yield Bad("fifos", folder / f"fifo-{n}.mp4")
        unreadable = folder / f"unreadable-{n}.mp4"
        unreadable.write_bytes(good)
        unreadable.chmod(0)
        yield Bad("no permission", unreadable)
    devices = [
        Path(f"/dev/{name}")
        for name in ("zero", "null", "urandom", "full", "random", "tty", "mem", "stdin", "fd", "ptmx")
    ]
    for n, device in enumerate(devices):
        (folder / f"device-{n}.mp4").symlink_to(device)
        yield Bad("device files", folder / f"device-{n}.mp4")
    for n in range(12):
        changing = folder / f"changing-{n}.mp4"
        changing.write_bytes(good)
        yield Bad("change while read", changing)
