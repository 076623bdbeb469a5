"""Re-encoded media: the frames that were scored, and nothing but them; made once."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from motive_fo.clips.decode import decode
from motive_fo.clips.probe import probe
from motive_fo.clips.spec import ClipSpec, FrameRule
from motive_fo.errors import ExportError
from motive_fo.exporters.base import ExportItem
from motive_fo.exporters.folder import MANIFEST
from motive_fo.exporters.media import ScoredAs, encode, media_name
from motive_fo.exporters.registry import LAYOUTS
from tests.exporters.clips import contents, many, tree, write
from tests.videos import read_numbers, write_kind, write_video

ROOT = Path(__file__).resolve().parents[2]
SPEC = ClipSpec(0, 16, 17, 96, 128)
SCORED = ScoredAs(SPEC)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """60 numbered frames at 30 fps as MP4, at 29.97 as WebM, and 10 frames that are too few."""
    folder = tmp_path_factory.mktemp("films")
    return {
        "mp4": write_video(folder / "a.mp4", 60, 30),
        "webm": write_video(folder / "b.webm", 60, 29.97, "libvpx", options={"deadline": "realtime"}),
        "short": write_video(folder / "c.mp4", 10, 30),
    }


def _items(films, *names):
    return [ExportItem(films[name].name, films[name], f"caption of {name}") for name in names]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_exported_clip_is_the_one_that_was_scored(tmp_path, films, layout):
    report = write(_items(films, "mp4", "webm"), tmp_path / "out", layout, SCORED, media="reencode", strict=True)
    files = sorted(Path(report.folder).rglob("*.mp4"))
    assert len(files) == 2
    for file, source in zip(files, (films["mp4"], films["webm"]), strict=True):
        facts = probe(file).facts
        slack = layout == "diffusion-pipe"
        assert (facts.frames, facts.fps, facts.constant_rate) == (17 + slack, 16.0, True)
        assert (facts.codec, facts.pixel_format, facts.width, facts.height) == ("h264", "yuv420p", 128, 96)
        assert not facts.edit_list
        scored, exported = decode(source, SPEC), decode(file, SPEC)
        assert read_numbers(exported.frames_THW3) == read_numbers(scored.frames_THW3)
        error = np.abs(exported.frames_THW3.astype(int) - scored.frames_THW3.astype(int))
        assert error.mean() < 3
    assert report.survival.counts() | {"clips": 2} == {"clips": 2, "kept": 2, "cut": 0, "retimed": 0, "dropped": 0}
    assert not [fate.why for fate in report.survival.fates.values() if fate.why], "nothing is on the edge"


def test_size_crop_start_and_window_are_those_of_the_scoring(tmp_path, films):
    spec = ClipSpec(0.25, 10, 9, 48, 48)
    item = ExportItem("a.mp4#t=0.5", films["mp4"], "window", start=0.5)
    report = write([item], tmp_path / "out", "diffsynth", ScoredAs(spec), media="reencode")
    (file,) = (tmp_path / "out" / "videos").iterdir()
    exported = decode(file, replace(spec, start=0))
    scored = decode(films["mp4"], replace(spec, start=0.75))
    assert np.abs(exported.frames_THW3.astype(int) - scored.frames_THW3.astype(int)).mean() < 3
    assert probe(file).facts.frames == 9
    assert report.written == 1


def test_colours_survive_within_what_subsampling_costs(tmp_path):
    frames = np.zeros((5, 32, 32, 3), np.uint8)
    frames[:] = (200, 40, 90)
    path = tmp_path / "flat.mp4"
    path.write_bytes(encode(frames, 23.976))
    back = decode(path, ClipSpec(0, 23.976, 5, 32, 32)).frames_THW3
    assert np.abs(back.astype(int) - frames).max() <= 3
    assert probe(path).facts.fps == pytest.approx(23.976)
    with av.open(str(path)) as container:
        times = [(packet.pts, packet.dts) for packet in container.demux(video=0) if packet.size]
    assert [pts for pts, _ in times] == [dts for _, dts in times], "a frame's place in the file is its place in time"


@pytest.mark.parametrize("kind", ["hevc", "vp9", "mpeg4-avi", "mjpeg", "prores-alpha"])
def test_files_a_trainer_cannot_read_can_be_exported_encoded(tmp_path, kind):
    path = write_kind(tmp_path, kind)
    report = write([ExportItem("x", path, "c")], tmp_path / "out", "vbench", SCORED, media="reencode")
    (file,) = (tmp_path / "out" / "videos").iterdir()
    assert read_numbers(decode(file, SPEC).frames_THW3) == read_numbers(decode(path, SPEC).frames_THW3)
    assert report.written == 1


def test_what_was_done_to_short_videos_is_done_again(tmp_path, films):
    items = _items(films, "mp4", "short")
    report = write(items, tmp_path / "refuse", "diffsynth", SCORED, media="reencode")
    assert "ends before the 17 frames" in report.skipped["c.mp4"]
    write(items, tmp_path / "pad", "diffsynth", replace(SCORED, short="pad"), media="reencode", strict=True)
    (padded,) = (tmp_path / "pad" / "videos").glob("c_*")
    assert probe(padded).facts.frames == 17
    fewer = replace(SCORED, short="fewer", rule=FrameRule(4))
    report = write(items, tmp_path / "fewer", "diffsynth", fewer, media="reencode")
    assert report.survival.fates["c.mp4"].frames == 5
    assert report.survival.cut == ["c.mp4"]


def test_a_clip_that_does_not_decode_is_left_out_at_the_end_too(tmp_path, films):
    damaged = tmp_path / "damaged.mp4"
    data = bytearray(films["mp4"].read_bytes())
    start = data.index(b"mdat")
    size = int.from_bytes(data[start - 4 : start], "big")
    for at in range(start + size // 4, start + size // 3, 5):  # after the first frame, before the index
        data[at] ^= 0xFF
    damaged.write_bytes(data)
    items = [*_items(films, "mp4"), ExportItem("damaged", damaged, "c")]
    report = write(items, tmp_path / "out", "diffsynth", SCORED, media="reencode")
    assert "cannot be decoded" in report.skipped["damaged"]
    assert report.written == 1
    assert report.survival.counts()["dropped"] == 1
    assert len((tmp_path / "out" / "metadata.jsonl").read_text().splitlines()) == 1
    before = tree(tmp_path / "out")
    again = write(items, tmp_path / "out", "diffsynth", SCORED, media="reencode")
    assert (again.unchanged, again.skipped) == (True, report.skipped)
    assert tree(tmp_path / "out") == before
    with pytest.raises(ExportError, match="cannot be decoded"):
        write(items, tmp_path / "strict", "diffsynth", SCORED, media="reencode", strict=True)
    assert not (tmp_path / "strict").exists()


def test_encoding_is_done_once(tmp_path, films):
    out = tmp_path / "out"
    write(_items(films, "mp4"), out, "diffsynth", SCORED, media="reencode")
    before = tree(out)
    assert write(_items(films, "mp4"), out, "diffsynth", SCORED, media="reencode").unchanged
    assert tree(out) == before
    write(_items(films, "mp4", "webm"), out, "diffsynth", SCORED, media="reencode", overwrite=True)
    (name,) = [n for n in before if n.startswith("videos/")]
    assert tree(out)[name] == before[name]
    write(_items(films, "mp4", "webm"), out, "diffsynth", ScoredAs(replace(SPEC, fps=8, frames=9)), media="reencode",
          overwrite=True)  # fmt: skip
    assert tree(out)[name] != before[name]


def test_a_killed_export_goes_on_with_what_it_encoded(tmp_path, films):
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from motive_fo.exporters import base\n"
        "from tests.exporters.test_media import SCORED, _items, write\n"
        "real, calls = base.encode, []\n"
        "def encode(*args):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*args)\n"
        "base.encode = encode\n"
        "films = {'mp4': Path(sys.argv[1]), 'webm': Path(sys.argv[2])}\n"
        "write(_items(films, 'mp4', 'webm'), Path(sys.argv[3]), 'diffsynth', SCORED, media='reencode')\n"
    )
    out = tmp_path / "place" / "out"
    words = [sys.executable, "-c", program, films["mp4"], films["webm"], out]
    done = subprocess.run(list(map(str, words)), cwd=ROOT, capture_output=True, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not out.exists()
    (encoded,) = [p for p in out.parent.rglob("*") if p.is_file() and p.parent.name == "encoded"]
    inode = encoded.stat().st_ino
    write(_items(films, "mp4", "webm"), out, "diffsynth", SCORED, media="reencode")
    assert inode in {path.stat().st_ino for path in (out / "videos").iterdir()}
    assert os.listdir(out.parent) == ["out"]  # noqa: PTH208
    write(_items(films, "mp4", "webm"), tmp_path / "undisturbed", "diffsynth", SCORED, media="reencode")
    ours, theirs = contents(out), contents(tmp_path / "undisturbed")
    assert {n: d for n, d in ours.items() if n != MANIFEST} == {n: d for n, d in theirs.items() if n != MANIFEST}


def test_odd_sides_are_refused_with_the_way_out(tmp_path, films):
    odd = ScoredAs(ClipSpec(0, 16, 17, 63, 64))
    with pytest.raises(ExportError, match=r"even sides.*--media copy"):
        write(_items(films, "mp4"), tmp_path / "out", "diffsynth", odd, media="reencode")
    assert not (tmp_path / "out").exists()


def test_names_hold_no_word_by_which_hugging_face_splits():
    for stem in ("test", "my-test-clip", "val3", "train", "eval_2", "Validation", "3 dev"):
        name = media_name(f"x/{stem}.mp4", ".mp4")
        words = name.lower().replace("-", " ").replace("_", " ").replace(".", " ").split()
        assert not {"test", "val", "train", "eval", "validation", "dev"} & {w.strip("0123456789") for w in words}, name
    assert media_name("x/latest-trainer.mp4", ".mp4").startswith("latest-trainer_")


def test_links_are_to_the_file_itself(tmp_path):
    items = many(tmp_path / "clips", 1)
    link = tmp_path / "link.mp4"
    link.symlink_to(items[0].path)
    write([replace(items[0], path=link)], tmp_path / "out")
    (file,) = (tmp_path / "out" / "videos").iterdir()
    assert file.readlink() == items[0].path.resolve()
