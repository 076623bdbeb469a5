from __future__ import annotations

import os
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest

from motive_fo.clips.probe import probe
from motive_fo.errors import ClipError
from tests.videos import (
    KINDS,
    SHARED_VIDEOS,
    copy_from,
    damage_packet,
    tag_rotation,
    write_audio,
    write_gif,
    write_kind,
    write_video,
)


def code_of(path: Path) -> str:
    with pytest.raises(ClipError) as caught:
        probe(path)
    assert caught.value.stage == "probe"
    return caught.value.code


@pytest.mark.parametrize("kind", KINDS)
def test_facts_of_every_kind(tmp_path: Path, kind: str) -> None:
    facts = probe(write_kind(tmp_path, kind)).facts
    assert (facts.width, facts.height, facts.frames, facts.rotation) == (128, 96, 48, 0)
    assert facts.fps == pytest.approx(30, abs=0.03)
    assert facts.duration == pytest.approx(1.6, abs=0.002)
    assert facts.constant_rate
    assert not facts.edit_list


def test_codec_has_the_codecs_name_not_the_decoders(tmp_path: Path) -> None:
    facts = probe(write_kind(tmp_path, "av1")).facts
    assert (facts.codec, facts.pixel_format) == ("av1", "yuv420p")


def test_variable_rate(tmp_path: Path) -> None:
    times = [0, 40, 200, 240, 1000]
    video = probe(write_video(tmp_path / "a.mkv", milliseconds=times))
    assert [round(video.timeline.seconds(index) * 1000) for index in range(5)] == times
    assert not video.facts.constant_rate
    assert video.facts.fps == pytest.approx(4)


def test_hidden_packets_are_not_shown(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", 60, options={"bf": "2", "g": "20", "sc_threshold": "0"})
    cut = probe(copy_from(source, tmp_path / "cut.mp4", Fraction(28, 30)))
    assert cut.facts.edit_list
    assert cut.facts.frames == 32
    assert any("edit list" in reason for reason in cut.not_for_decord)


def test_size_is_as_displayed(tmp_path: Path) -> None:
    facts = probe(tag_rotation(write_video(tmp_path / "a.mp4", 4), 0, 1, -1, 0)).facts
    assert (facts.width, facts.height, facts.rotation) == (96, 128, 270)


def test_cover_art_is_no_video(tmp_path: Path) -> None:
    def write(path: Path, film: bool) -> Path:
        with av.open(str(path), "w") as container:
            cover = container.add_stream("png", rate=1)
            cover.width, cover.height, cover.pix_fmt = 640, 480, "rgb24"
            cover.disposition = av.stream.Disposition.attached_pic
            small = container.add_stream("mpeg4", rate=10) if film else None
            sound = container.add_stream("aac", rate=16000, layout="mono")
            if small is not None:
                small.width, small.height, small.pix_fmt = 64, 48, "yuv420p"
            frame = av.VideoFrame(640, 480, "rgb24")
            container.mux(cover.encode(frame))
            for _ in range(10 if small is not None else 0):
                container.mux(small.encode(av.VideoFrame(64, 48, "yuv420p")))  # type: ignore[union-attr]
            for stream in (cover, small, sound):
                if stream is not None:
                    container.mux(stream.encode(None))
        return path

    assert probe(write(tmp_path / "film.mp4", film=True)).facts.width == 64
    assert code_of(write(tmp_path / "music.mp4", film=False)) == "no_video_stream"


def test_bad_files_have_codes(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4").read_bytes()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "words.mp4").write_text("no video\n" * 100)
    (tmp_path / "words.txt").write_text("no video\n" * 100)  # FFmpeg opens this one as a terminal recording
    (tmp_path / "headless.mp4").write_bytes(video[: video.index(b"moov") - 4])
    (tmp_path / "playlist.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://localhost:1/a.ts\n#EXT-X-ENDLIST\n")
    assert code_of(tmp_path / "none.mp4") == "missing_file"
    assert code_of(tmp_path / "a\0.mp4") == "unreadable"
    assert code_of(tmp_path) == "unreadable"
    assert code_of(tmp_path / "empty.mp4") == "empty_file"
    for name in ("words.mp4", "words.txt", "headless.mp4", "playlist.mp4"):
        assert code_of(tmp_path / name) == "not_video", name
    assert code_of(write_audio(tmp_path / "sound.mp4")) == "no_video_stream"
    assert code_of(write_audio(tmp_path / "sound.wav")) == "no_video_stream"


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes in the file system")
def test_named_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert code_of(tmp_path / "pipe.mp4") == "unreadable"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    path.chmod(0)
    assert code_of(path) == "unreadable"


def test_bare_stream_has_no_timestamps(tmp_path: Path) -> None:
    assert code_of(write_video(tmp_path / "a.h264", options={"bf": "2"})) == "no_timestamps"


def test_nothing_decodes(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 10, options={"g": "100"})
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for packet in packets:
        data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(data)
    assert code_of(path) == "decode_failed"


def test_names_that_look_like_options_or_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("-a.mp4", "http:a.mp4", "concat:a.mp4", "a b%03d.mp4"):
        write_video(tmp_path / name, 4)
        assert probe(name).facts.frames == 4


def test_damage_does_not_move_the_start(tmp_path: Path) -> None:
    """The first group of pictures is lost: the timeline still begins where the file says it does."""
    path = write_video(tmp_path / "a.mp4", 48, options={"g": "12", "sc_threshold": "0", "bf": "0"})
    video = probe(damage_packet(path, 0, seed=3))
    assert video.facts.frames == 48


def test_gif(tmp_path: Path) -> None:
    facts = probe(write_gif(tmp_path / "a.gif")).facts
    assert (facts.codec, facts.frames, facts.duration) == ("gif", 20, pytest.approx(2.0))


@pytest.mark.skipif(not SHARED_VIDEOS.is_dir(), reason="the shared test videos are not here")
@pytest.mark.parametrize(
    ("name", "width", "height", "frames", "rotation", "constant_rate"),
    [
        ("odd/decord_video_90.mov", 320, 568, 3, 270, True),
        ("odd/moviepy_fire2_rot180_vfr.mp4", 1280, 720, 25, 180, False),
        ("odd/moviepy_no_duration.webm", 1280, 720, 74, 0, False),
        ("real/mmaction2_test.avi", 320, 240, 164, 0, True),
        ("real/torchcodec_nasa_13013.mp4", 480, 270, 390, 0, True),
        ("real/decord_flipping_a_pancake.mkv", 426, 240, 310, 0, True),
    ],
)
def test_facts_of_found_videos(
    name: str, width: int, height: int, frames: int, rotation: int, constant_rate: bool
) -> None:
    facts = probe(SHARED_VIDEOS / name).facts
    assert (facts.width, facts.height, facts.frames) == (width, height, frames)
    assert (facts.rotation, facts.constant_rate) == (rotation, constant_rate)
