"""Overlays: the right mask on the right frame of the video, pictures on disk, nothing left after deleting."""

import uuid
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import motive_fo
from motive_fo.clips.policy import plan
from motive_fo.clips.probe import probe
from motive_fo.clips.spec import ClipSpec
from motive_fo.clips.timeline import Timeline
from motive_fo.dataset.motion_report import motion_settings
from motive_fo.dataset.overlays import estimate_overlays, frames_shown
from motive_fo.dataset.run_record import load_run
from motive_fo.errors import InputError, MotiveError
from motive_fo.store.run_store import RunStore

VFR = (0, 1, 3, 4, 8, 9, 10, 15, 16, 18, 20, 21, 25, 26, 27, 30, 33, 34, 36, 40)  # ticks of 1/16 s


def _write_vfr(path):
    """A square that moves right, shown at uneven times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 16)
        for k, tick in enumerate(VFR):
            picture = np.full((64, 96, 3), 60, np.uint8)
            picture[20:40, 4 + 3 * k : 24 + 3 * k] = 220
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, 16)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture
def dataset(database, tmp_path):
    from motive_fo.synthetic.corpus import write_corpus

    corpus = write_corpus(tmp_path, train=2, queries=1, static=1, damaged=1, seed=7, size=(96, 64), seconds=3, fps=24)
    folder = corpus.train_metadata.parent
    _write_vfr(folder / "uneven.mp4")
    name = f"overlays-{uuid.uuid4().hex[:8]}"
    motive_fo.import_clips(folder, name, windows=1.25)
    import fiftyone as fo

    loaded = fo.load_dataset(name)
    motive_fo.compute_motion(loaded, clip={"fps": 8, "frames": 9}, motion={"static_floor": 0.05})
    loaded.reload()
    yield loaded
    fo.delete_dataset(name)


def _oracle(path, spec, count):
    """Frame number -> clip frame, from decoded frames' times alone: the last instant of the clip that is not later."""
    with av.open(str(path)) as container:
        times = sorted(float(frame.pts * frame.time_base) for frame in container.decode(video=0))
    instants = [float(t) for t in spec.times()][:count]
    on_screen = [max(n for n, t in enumerate(times) if t - times[0] <= instant + 1e-3) for instant in instants]
    end = instants[-1] + 1 / spec.fps
    shown = {}
    for number, t in enumerate(times):
        if number < on_screen[0] or t - times[0] >= end - 1e-9:
            continue
        first = [k for k, index in enumerate(on_screen) if index == number]
        shown[number + 1] = first[0] if first else max(k for k, index in enumerate(on_screen) if index < number)
    return shown


def test_each_frame_of_the_video_has_the_mask_of_the_clip_frame_on_screen(dataset):
    report = motive_fo.write_overlays(dataset)
    dataset.reload()
    record = load_run(dataset, "motive")
    settings, table = motion_settings(record), RunStore(record.store).table("motion")
    field = report.frame_field
    seen = windows = uneven = 0
    for sample in dataset.match({"motive.status": "described"}):
        start = sample.motive_start or 0.0
        spec = ClipSpec(start, 8, 9, settings.spec.height, settings.spec.width)
        wanted = _oracle(sample.filepath, spec, 9)
        maps = {n: f[field] for n, f in sample.frames.items() if f[field] is not None}
        assert set(maps) == set(wanted), (sample.filepath, start)
        mask = table.read("mask", [sample.motive_id])[0]
        stride = settings.card.strides.time
        for number, heat in maps.items():
            assert heat.map is None, "no array in the database"
            assert heat.range == [0, 255]
            picture = cv2.imread(heat.map_path, cv2.IMREAD_UNCHANGED)
            assert picture.dtype == np.uint8
            assert picture.ndim == 2
            latent = -(-wanted[number] // stride)
            assert abs(int(picture.max()) - 255 * mask[latent].max() / mask.max()) < 40
        windows += start > 0
        uneven += "uneven" in sample.filepath
        seen += 1
    assert seen == report.clips >= 4
    assert windows
    assert uneven
    assert set(report.skipped.values()) == {"static", "failed"}


def test_real_videos_of_variable_rate(shared_videos):
    for path in (
        shared_videos / "odd" / "moviepy_fire2_rot180_vfr.mp4",
        shared_videos / "real" / "moviepy_chaplin.mp4",
    ):
        video = probe(path).timeline
        for start in (0.0, 0.5):
            spec = ClipSpec(start, 8, 5, 64, 64)
            chosen = plan(video, spec)
            assert chosen is not None
            assert frames_shown(video, chosen, spec) == _oracle(path, spec, 5), (path.name, start)


@pytest.mark.parametrize(
    ("fps", "frames", "short", "wanted"),
    [
        (4, 4, "refuse", {1: 0, 2: 0, 3: 1, 4: 1, 5: 2, 6: 2, 7: 3, 8: 3}),  # held for two frames each
        (16, 8, "refuse", {1: 0, 2: 2, 3: 4, 4: 6}),  # two clip frames per video frame: the first
        (8, 12, "pad", {1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5, 7: 6, 8: 7}),
        (8, 12, "loop", {1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5, 7: 6, 8: 7}),
        (8, 3, "refuse", {1: 0, 2: 1, 3: 2}),  # nothing beyond the clip
    ],
)
def test_frames_held_dropped_padded_and_looped(fps, frames, short, wanted):
    video = Timeline(tuple(range(8)), 8, Fraction(1, 8))
    spec = ClipSpec(0.0, fps, frames, 8, 8)
    chosen = plan(video, spec, short)
    assert chosen is not None
    assert frames_shown(video, chosen, spec) == wanted


def test_the_mask_lies_over_the_part_that_the_clip_shows(dataset):
    """96 x 64 videos, square clips: 16 columns on each side are cut off and stay black."""
    motive_fo.write_overlays(dataset)
    dataset.reload()
    picture = None
    for sample in dataset.match({"motive.status": "described"}):
        heat = sample.frames[1].motive_motion_mask
        if sample.motive_start or heat is None:
            continue
        for frame in sample.frames.values():
            if frame.motive_motion_mask is None:
                continue
            picture = cv2.imread(frame.motive_motion_mask.map_path, cv2.IMREAD_UNCHANGED)
            wide = picture.shape[1] > picture.shape[0]
            assert picture.shape == ((64, 96) if wide else (96, 64))
            outside = np.r_[picture[:, :16].ravel(), picture[:, -16:].ravel()] if wide else picture[:16]
            assert not outside.any()
    assert picture is not None


def test_an_estimate_is_no_less_than_what_is_written(dataset):
    told = estimate_overlays(dataset)
    assert not dataset.has_frame_field("motive_motion_mask")
    written = motive_fo.write_overlays(dataset)
    assert told.clips == written.clips
    assert 0 < written.pictures <= told.pictures
    assert written.bytes <= told.bytes
    on_disk = list(Path(written.folder).rglob("*.png"))
    assert len(on_disk) == written.pictures
    again = motive_fo.write_overlays(dataset.limit(1))
    assert again.clips == 1
    assert len(list(Path(written.folder).rglob("*.png"))) == written.pictures, "writing again replaces"


def test_deleting_removes_pictures_field_and_frames(dataset):
    motive_fo.write_overlays(dataset)
    folder = Path(load_run(dataset, "motive").overlays)
    assert motive_fo.delete_overlays(dataset) > 0
    dataset.reload()
    assert not folder.exists()
    assert not dataset.has_frame_field("motive_motion_mask")
    assert dataset.count("frames") == 0
    assert load_run(dataset, "motive").overlays is None
    assert motive_fo.delete_overlays(dataset) == 0


def test_deleting_the_run_removes_them_and_leaves_the_frames_of_others(dataset):
    import fiftyone as fo

    sample = dataset.first()
    sample.frames[2] = fo.Frame(mine=fo.Classification(label="kept"))
    sample.save()
    motive_fo.write_overlays(dataset)
    folder = Path(load_run(dataset, "motive").overlays)
    motive_fo.delete_run(dataset)
    dataset.reload()
    assert not folder.exists()
    assert not dataset.has_frame_field("motive_motion_mask")
    assert dataset.count_values("frames.mine.label") == {"kept": 1}


def test_a_folder_that_is_not_ours_is_left_in_place(dataset):
    motive_fo.write_overlays(dataset)
    folder = Path(load_run(dataset, "motive").overlays)
    (folder / "motive-overlays.txt").unlink()
    with pytest.raises(MotiveError, match="left in place"):
        motive_fo.delete_overlays(dataset)
    assert folder.is_dir()


def test_without_a_run_there_is_one_sentence(dataset):
    with pytest.raises(InputError, match="has no run 'other'"):
        motive_fo.write_overlays(dataset, "other")
