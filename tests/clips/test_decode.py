from __future__ import annotations

import random
import sys
from bisect import bisect_right
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from motive_fo.clips.clip import Clip
from motive_fo.clips.decode import decode, fit
from motive_fo.clips.probe import probe
from motive_fo.clips.spec import ClipSpec
from motive_fo.errors import ClipError, MissingDependencyError
from tests.videos import (
    KINDS,
    SHARED_VIDEOS,
    copy_from,
    damage_packet,
    numbered_frame,
    read_number,
    read_numbers,
    tag_rotation,
    write_flat,
    write_gif,
    write_kind,
    write_video,
)

GROUPS_OF_12 = {"bf": "2", "g": "12", "sc_threshold": "0"}


def whole(fps: float, frames: int, start: float = 0) -> ClipSpec:
    """A specification that keeps the test videos' own size."""
    return ClipSpec(start, fps, frames, 96, 128, crop="none")


def failure(path: Path, spec: ClipSpec, decoder: str = "auto") -> ClipError:
    with pytest.raises(ClipError) as caught:
        decode(path, spec, decoder)  # type: ignore[arg-type]
    return caught.value


def outcome(path: Path, spec: ClipSpec) -> Clip | ClipError:
    try:
        return decode(path, spec)
    except ClipError as error:
        return error


# which frames


@pytest.mark.parametrize("kind", KINDS)
def test_own_rate_gives_each_frame_once(tmp_path: Path, kind: str) -> None:
    clip = decode(write_kind(tmp_path, kind), whole(30, 48))
    assert read_numbers(clip.frames_THW3) == list(range(48))
    assert clip.times_T == pytest.approx(np.arange(48) / 30, abs=0.0011)


@pytest.mark.parametrize("kind", ["h264", "h264-mkv", "mpeg4-avi", "vp9"])
@pytest.mark.parametrize("start", [0.0, 0.5, 1.0])
def test_other_rate_gives_what_is_on_screen(tmp_path: Path, kind: str, start: float) -> None:
    clip = decode(write_kind(tmp_path, kind), whole(16, 9, start))
    expected = [int((Fraction(start) + Fraction(k, 16) + Fraction(1, 1000)) * 30) for k in range(9)]
    assert read_numbers(clip.frames_THW3) == expected


def test_higher_rate_repeats_frames(tmp_path: Path) -> None:
    clip = decode(write_kind(tmp_path, "h264"), whole(60, 20))
    assert read_numbers(clip.frames_THW3) == [k // 2 for k in range(20)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_variable_rate_follows_timestamps(tmp_path: Path, name: str) -> None:
    times = [0, 40, 200, 240, 600, 620, 640, 1000, 1040]
    clip = decode(write_video(tmp_path / name, milliseconds=times), whole(10, 11))
    assert read_numbers(clip.frames_THW3) == [bisect_right(times, k * 100) - 1 for k in range(11)]


def test_gif(tmp_path: Path) -> None:
    clip = decode(write_gif(tmp_path / "a.gif"), whole(10, 20))
    assert read_numbers(clip.frames_THW3) == list(range(20))


def test_edit_list_is_honoured(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", 60, options={"bf": "2", "g": "20", "sc_threshold": "0"})
    cut = copy_from(source, tmp_path / "cut.mp4", Fraction(28, 30))
    clip = decode(cut, whole(30, 32))
    assert read_numbers(clip.frames_THW3) == list(range(28, 60))
    assert read_numbers(decode(cut, whole(30, 12, start=0.5)).frames_THW3) == list(range(43, 55))
    assert failure(cut, whole(30, 33)).code == "too_short"
    assert failure(cut, whole(30, 32), "decord").code == "decode_failed"


def test_decord_is_wrong_on_an_edit_list(tmp_path: Path) -> None:
    """Why it is refused there; if a later decord is right, the refusal can go."""
    decord = pytest.importorskip("decord")
    source = write_video(tmp_path / "a.mp4", 60, options={"bf": "2", "g": "20", "sc_threshold": "0"})
    cut = str(copy_from(source, tmp_path / "cut.mp4", Fraction(28, 30)))
    in_order, jumping = decord.VideoReader(cut), decord.VideoReader(cut)
    numbers = [read_number(in_order[k].asnumpy()) for k in range(len(in_order))]
    assert len(numbers) > 32
    assert len(set(numbers)) == 32
    assert read_number(jumping[20].asnumpy()) != numbers[20]


_OPEN = "open-gop=1:bframes=3:b-adapt=0:keyint=20:min-keyint=20:scenecut=0"


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("cut.mkv", "libx264", {"x264-params": _OPEN}),
        ("cut.mkv", "libx265", {"x265-params": f"log-level=none:{_OPEN}"}),
        ("cut.ts", "libx265", {"x265-params": f"log-level=none:{_OPEN}"}),
    ],
)
def test_copy_that_begins_at_an_open_group_of_pictures(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    """Pictures before the first keyframe in display order cannot be decoded by anybody: the clip begins after them."""
    source = write_video(tmp_path / "a.mp4", 60, codec=codec, options=options)
    cut = copy_from(source, tmp_path / name, Fraction(25, 30))
    assert read_numbers(decode(cut, whole(30, 40)).frames_THW3) == list(range(20, 60))
    assert read_numbers(decode(cut, whole(30, 10, 1.0)).frames_THW3) == list(range(50, 60))
    assert failure(cut, whole(30, 41)).code == "too_short"


def test_copy_that_begins_between_keyframes(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", options=GROUPS_OF_12)
    with av.open(str(source)) as given, av.open(str(tmp_path / "b.mkv"), "w") as copy:
        stream = copy.add_stream_from_template(given.streams.video[0])
        for number, packet in enumerate(given.demux(video=0)):
            if packet.dts is not None and number >= 5:
                packet.stream = stream
                copy.mux(packet)
    assert read_numbers(decode(tmp_path / "b.mkv", whole(30, 36)).frames_THW3) == list(range(12, 48))


@pytest.mark.parametrize("options", [GROUPS_OF_12, GROUPS_OF_12 | {"x264-params": "open-gop=1"}])
@pytest.mark.parametrize("start", [1 / 30, 11 / 30, 12 / 30, 13 / 30, 1.0])
def test_seeking_changes_no_pixel(tmp_path: Path, options: dict[str, str], start: float) -> None:
    path = write_video(tmp_path / "a.mp4", options=options)
    from_zero = decode(path, whole(30, 48)).frames_THW3
    first = round(start * 30)
    assert np.array_equal(decode(path, whole(30, 10, start)).frames_THW3, from_zero[first : first + 10])


# too little, or broken


@pytest.mark.parametrize("kind", ["h264", "h264-mkv", "mpeg4-avi", "vp8"])
def test_one_frame_too_many_is_too_short(tmp_path: Path, kind: str) -> None:
    path = write_kind(tmp_path, kind)
    error = failure(path, whole(30, 49))
    assert (error.stage, error.code) == ("decode", "too_short")
    assert "1.6" in error.message
    assert "48 frames" in error.message
    assert failure(path, whole(16, 17, start=100)).code == "too_short"


def test_truncated_file_says_what_was_promised(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", options=GROUPS_OF_12 | {"preset": "ultrafast"}, size=(192, 256))
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    # The index comes first here, as in files made for streaming, so that only pictures are missing.
    with av.open(str(path)) as given, av.open(str(tmp_path / "b.mp4"), "w", options={"movflags": "faststart"}) as copy:
        stream = copy.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    whole_file = (tmp_path / "b.mp4").read_bytes()
    kept = len(whole_file) - sum(packet.size for packet in packets[20:])
    (tmp_path / "b.mp4").write_bytes(whole_file[:kept])
    assert read_numbers(decode(tmp_path / "b.mp4", whole(30, 17)).frames_THW3) == list(range(17))
    error = failure(tmp_path / "b.mp4", whole(30, 40))
    assert error.code == "too_short"
    assert "promises 48 frames" in error.message


@pytest.mark.parametrize("kind", ["h264", "mpeg4"])
@pytest.mark.parametrize("seed", range(6))
def test_damage_is_never_concealed(tmp_path: Path, kind: str, seed: int) -> None:
    """Flipped bits in one packet: the frames around it are right to the bit, or the clip fails."""
    name, codec, pixel_format, _ = KINDS[kind]
    options = {"g": "12", "sc_threshold": "0", "b": "1M"}
    path = write_video(tmp_path / name, 48, 30, codec, pixel_format, options)
    clean = decode(path, whole(30, 48)).frames_THW3
    damage_packet(path, 18, seed)
    assert np.array_equal(decode(path, whole(30, 12)).frames_THW3, clean[:12])
    assert np.array_equal(decode(path, whole(30, 12, start=36 / 30)).frames_THW3, clean[36:])
    found = outcome(path, whole(30, 48))
    if isinstance(found, ClipError):
        assert found.code == "decode_failed"
        assert "does not decode" in found.message
    else:  # bits whose change is legal: no decoder can notice, and only frames of that group of pictures may differ
        assert sum(not np.array_equal(a, b) for a, b in zip(found.frames_THW3, clean, strict=True)) <= 12


def test_gap_in_a_transport_stream_is_never_concealed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", options={"bf": "0", "g": "12", "sc_threshold": "0"}, size=(192, 256))
    spec = ClipSpec(0, 30, 48, 192, 256)
    clean = decode(path, spec).frames_THW3
    with av.open(str(path)) as container:
        hit = [packet for packet in container.demux(video=0) if packet.size][18]
    data = path.read_bytes()
    gap = hit.pos + 188 * 2
    path.write_bytes(data[:gap] + data[gap + 188 :])
    assert np.array_equal(decode(path, ClipSpec(0, 30, 18, 192, 256)).frames_THW3, clean[:18])
    assert np.array_equal(decode(path, ClipSpec(0.8, 30, 12, 192, 256)).frames_THW3, clean[24:36])
    assert failure(path, spec).code == "decode_failed"


def test_arbitrary_damage_ends_in_a_clip_or_a_code(tmp_path: Path) -> None:
    """Bytes changed, cut out or cut off anywhere: nothing but a ClipError may come out."""
    draw = random.Random(0)
    for kind in ("h264", "h264-ts", "h264-mkv", "mpeg4-avi", "vp9", "mjpeg"):
        path = write_kind(tmp_path, kind)
        data = path.read_bytes()
        for trial in range(15):
            broken = bytearray(data)
            where = draw.randrange(len(data))
            if trial % 3 == 0:
                del broken[where:]
            elif trial % 3 == 1:
                del broken[where : where + draw.randrange(1, 2000)]
            for _ in range(draw.choice((0, 1, 20))):
                if broken:
                    broken[draw.randrange(len(broken))] = draw.randrange(256)
            path.write_bytes(broken)
            outcome(path, ClipSpec(draw.choice((0, 0.4)), 30, 9, 32, 32))


# which pixels


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)],
)
def test_rotation_is_applied(tmp_path: Path, matrix: tuple[int, int, int, int], turned: int) -> None:
    path = write_video(tmp_path / "a.mp4", 12)
    upright = decode(path, whole(30, 12)).frames_THW3
    tag_rotation(path, *matrix)
    facts = probe(path).facts
    assert facts.rotation == 90 * turned
    clip = decode(path, ClipSpec(0, 30, 12, facts.height, facts.width))
    assert np.array_equal(clip.frames_THW3, np.rot90(upright, turned, axes=(1, 2)))


def test_mirror_is_applied(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 12)
    upright = decode(path, whole(30, 12)).frames_THW3
    tag_rotation(path, -1, 0, 0, 1)
    assert np.array_equal(decode(path, whole(30, 12)).frames_THW3, upright[:, :, ::-1])


_KR_KB = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le", "yuv444p"])
@pytest.mark.parametrize("matrix", [1, 2, 6, 9])
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_follow_the_tags(tmp_path: Path, pixel_format: str, matrix: int, full_range: bool) -> None:
    y, u, v = 81, 100, 190
    unit = 4 if "10" in pixel_format else 1
    path = write_flat(tmp_path / "a.mp4", (y * unit, u * unit, v * unit), pixel_format, matrix, full_range)
    kr, kb = _KR_KB[matrix]
    luma = y / 255 if full_range else (y - 16) / 219
    blue, red = ((c - 128) / (255 if full_range else 224) for c in (u, v))
    r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
    g = (luma - kr * r - kb * b) / (1 - kr - kb)
    picture_HW3 = decode(path, ClipSpec(0, 10, 2, 48, 64)).frames_THW3[1]
    assert picture_HW3.reshape(-1, 3) == pytest.approx(np.tile(np.clip([r, g, b], 0, 1) * 255, (48 * 64, 1)), abs=3)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (33, 35), (17, 200)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_video(tmp_path / "a.mp4", 6, pixel_format="yuv444p", size=size)
    clip = decode(path, ClipSpec(0, 30, 5, *size))
    expected = np.stack([numbered_frame(number, *size) for number in range(5)])
    assert np.abs(clip.frames_THW3.astype(int) - expected).mean() < 12
    assert decode(path, ClipSpec(0, 30, 5, 64, 48)).frames_THW3.shape == (5, 64, 48, 3)


@pytest.mark.parametrize("crop", ["center", "none"])
def test_same_size_is_untouched(crop: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    assert np.array_equal(fit(picture, 30, 50, crop), picture)  # type: ignore[arg-type]


def test_center_crop_cuts_both_sides_alike() -> None:
    for rows, columns, height, width in [(40, 100, 20, 20), (101, 40, 20, 20), (45, 80, 30, 40), (480, 854, 480, 832)]:
        ramp = np.broadcast_to(np.linspace(0, 255, columns)[None, :, None], (rows, columns, 3))
        tilt = np.broadcast_to(np.linspace(0, 255, rows)[:, None, None], (rows, columns, 3))
        for picture in (ramp, tilt):
            found = fit(picture.astype(np.uint8), height, width, "center").astype(float)
            assert found.shape == (height, width, 3)
            assert (found + found[::-1, ::-1]).mean() / 2 == pytest.approx(127.5, abs=1)


def test_shrinking_averages_and_enlarging_does_not_overshoot() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.all(fit(stripes, 32, 32, "none") == 100)
    assert np.all(fit(stripes, 128, 32, "none") == 100)  # one axis up, one down
    step = np.full((8, 8, 3), 50, np.uint8)
    step[:, 4:] = 200
    large = fit(step, 64, 64, "center")
    assert (large.min(), large.max()) == (50, 200)


# decord


def test_decord_agrees_where_it_is_allowed(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    for kind, fps in (("h264", 16), ("hevc", 30), ("mpeg4", 24)):
        path = write_kind(tmp_path, kind)
        assert probe(path).not_for_decord == ()
        ours, theirs = (decode(path, whole(fps, 20, 0.2), name) for name in ("pyav", "decord"))
        assert read_numbers(theirs.frames_THW3) == read_numbers(ours.frames_THW3)
        assert np.array_equal(ours.times_T, theirs.times_T)
        difference = np.abs(ours.frames_THW3.astype(int) - theirs.frames_THW3)
        assert difference.mean() <= 0.6
        assert theirs.decoder.startswith("decord ")
        assert ours.decoder == f"pyav {av.__version__}"


def test_decord_is_refused_on_open_groups_of_pictures(tmp_path: Path) -> None:
    """After a seek it numbers the frames wrongly there, and open groups are what x265 writes by default."""
    decord = pytest.importorskip("decord")
    path = write_video(tmp_path / "a.mp4", 60, options={"x264-params": _OPEN})
    jumps = [39, 41, 43, 45]
    reader = decord.VideoReader(str(path))
    assert [read_number(reader[k].asnumpy()) for k in jumps] != jumps
    assert "open" in failure(path, whole(30, 10), "decord").message
    assert read_numbers(decode(path, whole(30, 10, 1.5)).frames_THW3) == list(range(45, 55))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("h264-mkv", "container"),
        ("h264-10bit", "pixel format"),
        ("mpeg4-avi", "container"),
        ("png-alpha", "codec"),
    ],
)
def test_decord_is_refused_with_the_reason(tmp_path: Path, kind: str, reason: str) -> None:
    pytest.importorskip("decord")
    error = failure(write_kind(tmp_path, kind), whole(16, 9), "decord")
    assert error.code == "decode_failed"
    assert reason in error.message
    assert "use auto" in error.message


def test_decord_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    path = write_kind(tmp_path, "h264")
    with pytest.raises(MissingDependencyError, match="auto"):
        decode(path, whole(16, 9), "decord")
    assert decode(path, whole(16, 9)).decoder.startswith("pyav")


# videos found in the wild


def reference(path: Path, instants: list[Fraction]) -> list[npt.NDArray[np.uint8]]:
    """Everything decoded in order, turned, and the last frame at or before each instant picked."""
    pictures, times = [], []
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        try:
            for order, frame in enumerate(container.decode(stream)):
                pictures.append(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90 % 4))
                times.append(Fraction(order, 25) if path.suffix == ".avi" else frame.pts * frame.time_base)
                if times[-1] - times[0] > instants[-1] + 1:
                    break
        except av.error.InvalidDataError:
            pass
    return [pictures[bisect_right(times, times[0] + t + Fraction(1, 1000)) - 1] for t in instants]


def shared(folder: str) -> list[str]:
    return sorted(f"{folder}/{path.name}" for path in (SHARED_VIDEOS / folder).glob("*.*"))


@pytest.mark.skipif(not SHARED_VIDEOS.is_dir(), reason="the shared test videos are not here")
@pytest.mark.parametrize("name", shared("real") + shared("odd"))
@pytest.mark.parametrize(("fps", "frames"), [(16, 9), (30, 3)])
def test_found_videos_decode_as_the_reference_or_say_why(name: str, fps: int, frames: int) -> None:
    path = SHARED_VIDEOS / name
    small = outcome(path, ClipSpec(0, fps, frames, 8, 8))
    if isinstance(small, ClipError):
        assert small.code in ("empty_file", "too_short"), small
        return
    spec = ClipSpec(0, fps, frames, small.facts.height, small.facts.width)
    clip = decode(path, spec)
    for ours, theirs in zip(clip.frames_THW3, reference(path, spec.times()), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.skipif(not SHARED_VIDEOS.is_dir(), reason="the shared test videos are not here")
def test_found_corrupt_video() -> None:
    path = SHARED_VIDEOS / "odd" / "decord_corrupted.mp4"
    assert decode(path, ClipSpec(0, 10, 29, 36, 64)).frames_THW3.shape == (29, 36, 64, 3)
    error = failure(path, ClipSpec(0, 10, 30, 36, 64))
    assert error.code == "decode_failed"
    assert "30 frames did" in error.message
