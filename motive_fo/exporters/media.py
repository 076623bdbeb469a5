"""The video files of an export: what they are called, and how they get there - linked, copied, or encoded as scored."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Final

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from motive_fo.clips.decode import Decoder
from motive_fo.clips.digest import file_stamp
from motive_fo.clips.messages import Request
from motive_fo.clips.policy import Short, plan
from motive_fo.clips.probe import probe
from motive_fo.clips.spec import ClipSpec, FrameRule
from motive_fo.errors import ExportError
from motive_fo.exporters.survival import Measured

#: ``Choice:`` near-lossless (the scored motion must survive), and no B-frames: every frame's place in the file is its
#: place in time, so that a reader that counts packets counts frames.
_ENCODER: Final = {"crf": "12", "preset": "fast", "bf": "0"}
_CODEC: Final = "libx264"

#: Hugging Face's readers sort files into splits by these words in their names, and then see only one split.
_SPLIT_WORDS: Final = re.compile(
    r"(?<![A-Za-z])(train|training|validation|valid|dev|val|test|testing|eval|evaluation)(?![A-Za-z])", re.IGNORECASE
)


@dataclass(frozen=True)
class ScoredAs:
    """How the clips were decoded when they were scored: what re-encoding must repeat.

    Attributes:
        spec: which frames and pixels.
        decoder: with what.
        short: what was done to videos that end too early.
        rule: frame counts of the model, for ``fewer``.
        time_limit: seconds that decoding a clip may take.
    """

    spec: ClipSpec
    decoder: Decoder = "auto"
    short: Short = "refuse"
    rule: FrameRule | None = None
    time_limit: float = 60.0

    def request(self, path: Path, start: float) -> Request:
        """What to decode for a clip that begins ``start`` seconds into its file."""
        return Request(path, replace(self.spec, start=self.spec.start + start), self.decoder, self.short, self.rule)


def media_name(clip_id: str, suffix: str) -> str:
    """A file name that is unique, safe everywhere, and the same in every export (trainers key their caches by it)."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(clip_id).stem).strip("-")[:48] or "clip"
    stem = _SPLIT_WORDS.sub(r"\1x", stem)
    digest = hashlib.blake2b(clip_id.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
    return f"{stem}_{digest}{suffix.lower()}"


def measure(path: Path) -> Measured:
    """Frames and rate of a file, from its packets. Raises ``ClipError``."""
    facts = probe(path).facts
    return Measured(facts.frames, facts.fps)


def measure_encoded(path: Path, start: float, scored: ScoredAs, slack: int) -> Measured | None:
    """Frames and rate the re-encoded file will have, None where the video ends too early. Raises ``ClipError``."""
    request = scored.request(path, start)
    chosen = plan(probe(path).timeline, request.spec, scored.short, scored.rule)
    return None if chosen is None else Measured(len(chosen.indices) + slack, float(_rate(scored.spec.fps)))


def origin(path: Path, start: float, media: str, scored: ScoredAs, slack: int) -> str:
    """What an exported file is made of, as a key: equal keys mean that it need not be made again.

    Raises:
        OSError: the file is gone.
    """
    if media == "symlink":
        return f"symlink:{path.resolve()}"
    stamp = file_stamp(path)
    parts = [str(path.absolute()), stamp.size, stamp.mtime_ns]
    if media == "reencode":
        request = scored.request(path, start)
        parts += [request.spec.identity(), scored.decoder, scored.short, str(scored.rule), slack, _ENCODER]
    return f"{media}:{hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()}"


def link_or_copy(source: Path, target: Path, media: str) -> None:
    """Place a file that stays as it is.

    Raises:
        ExportError: a hard link to another file system.
        OSError: no space, no permission.
    """
    if media == "symlink":
        target.symlink_to(source.resolve())
    elif media == "copy":
        shutil.copy2(source, target)
    else:
        try:
            os.link(source.resolve(), target)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP):
                raise
            raise ExportError(
                f"{source} cannot be hard-linked into {target.parent} ({error.strerror}): use symlink or copy"
            ) from None


def require_encoder(spec: ClipSpec) -> None:
    """Raise ``ExportError`` where clips of this size cannot be encoded, or nothing here encodes H.264."""
    if spec.height % 2 or spec.width % 2:
        raise ExportError(
            f"H.264 in yuv420p needs even sides, the clips were scored at {spec.height} x {spec.width}: "
            "score them at even sides, or export with --media copy"
        )
    if _CODEC not in av.codecs_available:
        raise ExportError(f"this build of PyAV has no {_CODEC} encoder: pip install av, or export with --media copy")


def encode(frames_THW3: npt.NDArray[np.uint8], fps: float, slack: int = 0) -> bytes:
    """An MP4 of these frames: H.264, yuv420p, BT.601 and tagged so, constant rate, the first frame at 0.

    Args:
        frames_THW3: uint8 RGB, even sides.
        slack: how often the last frame is repeated at the end.
    """
    buffer = BytesIO()  # in memory: a full disk must be an error of ours, not one that a muxer swallows
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream(_CODEC, rate=_rate(fps), options=dict(_ENCODER))
        stream.height, stream.width, stream.pix_fmt = *frames_THW3.shape[1:3], "yuv420p"
        stream.codec_context.colorspace = int(Colorspace.ITU601)
        stream.codec_context.color_range = int(ColorRange.MPEG)
        to_yuv = VideoReformatter()
        for place, frame_HW3 in enumerate(_with_slack(frames_THW3, slack)):
            rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HW3), format="rgb24")
            frame = to_yuv.reformat(
                rgb, format="yuv420p", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG
            )
            frame.pts, frame.time_base = place, 1 / _rate(fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def _with_slack(frames_THW3: npt.NDArray[np.uint8], slack: int) -> Iterable[npt.NDArray[np.uint8]]:
    yield from frames_THW3
    for _ in range(slack):
        yield frames_THW3[-1]


def _rate(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(1001)
