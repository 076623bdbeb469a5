"""Another FFmpeg judges the decoder: none of the odd and damaged files may be silently wrong.

The frames come from a clean, lossless re-encode by the FFmpeg of imageio-ffmpeg, years older than PyAV's; packet counts
and timestamps from ffprobe, where one is installed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from motive_fo.clips.clip import Clip
from motive_fo.clips.decode import decode
from motive_fo.clips.probe import Probe, probe
from motive_fo.clips.spec import ClipSpec
from motive_fo.errors import ClipError
from tests.clips.damage import corpus
from tests.videos import SHARED_VIDEOS

#: Levels of 255 by which two versions of FFmpeg turn the same picture into RGB: deep colours differ at their edges.
_SHALLOW, _DEEP = 1.0, 3.5
#: What FFmpeg is known to show otherwise, and why ours is right: pictures before the first keyframe, which cannot be
#: decoded (FFmpeg guesses them), and damage, which FFmpeg conceals.
_CONCEALED = ("truncated", "hole", "wrong header", "flipped", "huge", "noise", "playlist", "no keyframe", "stream copy")


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Kind and path of every regular file of the corpus and of the found videos."""
    files = [(odd.kind, odd.path) for odd in corpus(folder) if "\0" not in str(odd.path)]
    found = [path for path in sorted(SHARED_VIDEOS.rglob("*")) if path.suffix != ".md"]
    files += [("found", path) for path in found]
    regular = []
    for kind, path in files:
        try:
            if path.is_file():
                regular.append((kind, path))
        except OSError:
            continue
    return regular


def _probed(path: Path) -> Probe | None:
    try:
        return probe(path)
    except ClipError:
        return None


def _clean(path: Path, target: Path) -> Path | None:
    """A lossless copy with every frame at its own time, or None where FFmpeg gives none or reports damage, which it
    conceals."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-i", f"file:{path}", "-an", "-sn", "-dn"]
    command += ["-fps_mode", "passthrough", "-enc_time_base", "demux", "-c:v", "ffv1", "-pix_fmt", "gbrp", str(target)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    return target if done.returncode == 0 and not done.stderr else None


@pytest.mark.slow
def test_frames_are_those_of_a_clean_copy(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    wrong, compared = [], 0
    for number, (kind, path) in enumerate(_files(tmp_path / "corpus")):
        here = _probed(path)
        if here is None:
            continue
        copy = _clean(path, tmp_path / f"{number}.mkv")
        clean = copy and _probed(copy)
        if copy is None or clean is None:
            continue
        concealed = kind.startswith(_CONCEALED)
        times = [here.timeline.seconds(i) for i in range(len(here.timeline.ticks))]
        clean_times = [clean.timeline.seconds(i) for i in range(len(clean.timeline.ticks))]
        apart = max((abs(a - b) for a, b in zip(times, clean_times, strict=False)), default=0)
        if not concealed and (len(times) != len(clean_times) or apart > Fraction(1, 500)):  # Matroska's rounding
            wrong.append(
                f"{kind} {path.name}: {len(times)} frames, {len(clean_times)} in the copy, {float(apart)} s apart"
            )
        frames = min(17, len(times), len(clean_times))
        if frames < 2 or not here.timeline.fps or concealed:
            continue
        spec = ClipSpec(0, float(here.timeline.fps), frames, 64, 96, crop="none")
        ours, theirs = (_frames(source, spec) for source in (path, copy))
        if ours is None or theirs is None:
            continue
        compared += 1
        apart = np.abs(ours.frames_THW3.astype(int) - theirs.frames_THW3).mean((1, 2, 3)).max()
        if apart > (_DEEP if "10" in here.facts.pixel_format else _SHALLOW):
            wrong.append(f"{kind} {path.name}: a frame differs by {apart:.1f} of 255 levels on average")
    assert not wrong, "\n".join(wrong)
    assert compared >= 30


def _frames(path: Path, spec: ClipSpec) -> Clip | None:
    try:
        return decode(path, spec)
    except ClipError:
        return None


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed")
def test_packets_and_times_are_ffprobes(tmp_path: Path) -> None:
    wrong, compared = [], 0
    for kind, path in _files(tmp_path):
        here = _probed(path)
        if here is None:
            continue
        compared += 1
        packets = _packets(path)
        if here.by_order:  # AVI holds no presentation times: what ffprobe prints there is a guess
            if len(packets) != len(here.timeline.ticks):
                wrong.append(f"{kind} {path.name}: {len(here.timeline.ticks)} frames, {len(packets)} packets")
            continue
        times = [packet["pts"] for packet in packets if "pts" in packet]
        expected = sorted(time for time in times if time >= here.timeline.ticks[0])
        extra = set(here.timeline.ticks) - set(expected)  # MPEG-PS: ffprobe leaves out what its header leaves out
        if set(expected) - set(here.timeline.ticks) or len(extra) > len(packets) - len(times):
            wrong.append(f"{kind} {path.name}: {here.timeline.ticks[:5]}... instead of {expected[:5]}...")
    assert not wrong, "\n".join(wrong)
    assert compared >= 40


def _packets(path: Path) -> list[dict[str, int]]:
    """The packets of the best video stream that hold data and are shown."""
    command = ["ffprobe", "-v", "error", "-select_streams", "V", "-of", "json"]
    command += ["-show_entries", "stream=index,width,height,avg_frame_rate:packet=stream_index,pts,flags,size"]
    listed = json.loads(subprocess.run([*command, f"file:{path}"], capture_output=True, check=False).stdout)
    best = max(listed["streams"], key=lambda stream: stream["width"] * stream["height"])["index"]
    return [
        packet
        for packet in listed["packets"]
        if packet["stream_index"] == best and "D" not in packet["flags"] and int(packet["size"])
    ]
