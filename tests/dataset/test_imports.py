"""Clips into a dataset: folders, listings, captions, and everything a listing can get wrong."""

import json
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import motive_fo
from motive_fo.dataset.connect import fiftyone, is_video_name, load_dataset
from motive_fo.dataset.imports import ImportReport, read_entries
from motive_fo.errors import InputError


def _entries(source, **more):
    return read_entries(Path(source), ImportReport("x"), **more)


def _listing(folder, text, name="list.jsonl"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_folder_with_captions(database, corpus, dataset):
    train = dataset.match_tags("train")
    assert train.count() == len(corpus.train)
    assert dataset.match_tags("query").count() == 2
    assert dataset.persistent
    assert dataset.media_type == "video"
    sample = dataset[str(corpus.train[0])]
    assert sample.caption
    assert sample.motive_id == f"train/{corpus.train[0].name}"
    assert (sample.metadata.frame_width, sample.metadata.frame_height) == (64, 64)
    assert sample.metadata.frame_rate == pytest.approx(16)
    assert sample.metadata.total_frame_count == 20
    assert sample.metadata.encoding_str == "h264"


def test_damaged_files_are_imported_and_do_not_break_the_apps_page(corpus, dataset):
    for path in corpus.damaged:
        metadata = dataset[str(path)].metadata
        assert metadata.frame_width
        assert metadata.frame_height
        assert metadata.frame_rate


def test_importing_again_changes_nothing_but_captions(corpus, dataset, tmp_path):
    again = motive_fo.import_clips(corpus.train_metadata.parent, dataset.name)
    assert (again.added, again.updated, again.unchanged) == (0, 0, len(corpus.train))
    row = {"video": str(corpus.train[0]), "prompt": "a new caption"}
    listing = _listing(tmp_path, json.dumps(row))
    changed = motive_fo.import_clips(listing, dataset.name, allow_outside=True)
    assert (changed.added, changed.updated) == (0, 1)
    assert dataset[str(corpus.train[0])].caption == "a new caption"
    tagged = motive_fo.import_clips(corpus.train_metadata.parent, dataset.name, role="holdout")
    assert tagged.updated == len(corpus.train)
    assert set(dataset[str(corpus.train[1])].tags) == {"train", "holdout"}


def test_a_folder_without_captions_and_with_other_files(database, corpus, tmp_path, name):
    deep = tmp_path / "clips" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "one.mp4").write_bytes(corpus.train[0].read_bytes())
    (deep / "two.MOV").write_bytes(b"not a video")
    (deep / "notes.txt").write_text("x")
    report = motive_fo.import_clips(tmp_path / "clips", name)
    assert (report.added, report.without_caption, report.unreadable) == (2, 2, 1)
    assert report.skipped == ["a/b/notes.txt"]
    assert fiftyone().load_dataset(name).values("motive_id") == ["clips/a/b/one.mp4", "clips/a/b/two.MOV"]


def test_a_row_without_a_file_is_imported_and_will_carry_its_code(database, tmp_path, name):
    listing = _listing(tmp_path, '{"video": "gone.mp4", "prompt": "x"}\n')
    report = motive_fo.import_clips(listing, name)
    assert (report.added, report.unreadable) == (1, 1)
    step = motive_fo.compute_motion(name)
    assert step.codes == {"missing_file": 1}
    sample = load_dataset(name).first()
    assert (sample["motive.status"], sample["motive.code"]) == ("failed", "missing_file")
    assert "gone.mp4" in sample["motive.error"]


@pytest.mark.parametrize(
    "keys", [("video", "prompt"), ("file_name", "caption"), ("path", "text"), ("filepath", "caption")]
)
def test_the_usual_keys_are_understood(tmp_path, keys):
    rows = [{keys[0]: "a.mp4", keys[1]: "first"}, {keys[0]: "sub/b.mp4", keys[1]: "second"}]
    jsonl = _listing(tmp_path, "\n".join(json.dumps(r) for r in rows) + "\n\n")
    csv = _listing(tmp_path, f"{keys[0]},{keys[1]}\na.mp4,first\nsub/b.mp4,second\n", "list.csv")
    for source in (jsonl, csv):
        entries = _entries(source)
        assert [(e.path, e.caption) for e in entries] == [
            (tmp_path / "a.mp4", "first"),
            (tmp_path / "sub/b.mp4", "second"),
        ]
        assert [e.id for e in entries] == [f"{tmp_path.name}/a.mp4", f"{tmp_path.name}/sub/b.mp4"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"video": "a.mp4"}\n{"video": ', "line 2 is not JSON"),
        ("[1, 2]\n", "line 1 is not an object"),
        ('{"prompt": "x"}\n', "line 1 names no clip"),
        ('{"video": 7}\n', "line 1 names no clip"),
        ('{"video": "a.mp4", "prompt": 7}\n', "caption must be text, not int"),
        ('{"video": "../a.mp4"}\n', "leads out of"),
        ('{"video": "/etc/a.mp4"}\n', "leads out of"),
        ('{"video": "a.mp4", "prompt": "x"}\n{"video": "./a.mp4", "prompt": "y"}\n', "line 2: ./a.mp4 is listed twice"),
        ('{"video": "a\\u0000.mp4"}\n', "null character"),
        ("", "holds no videos"),
    ],
)
def test_a_wrong_listing_names_its_line(database, tmp_path, name, text, problem):
    with pytest.raises(InputError, match=problem):
        motive_fo.import_clips(_listing(tmp_path, text), name)
    assert not fiftyone().dataset_exists(name)


def test_a_symlink_out_of_the_folder_is_refused_unless_allowed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.mp4").write_bytes(b"x")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    listing = _listing(inside, '{"video": "link/a.mp4"}')
    with pytest.raises(InputError, match="--allow-outside"):
        _entries(listing)
    assert len(_entries(listing, allow_outside=True)) == 1


def test_sources_that_are_nothing_say_what_is_expected(database, tmp_path, name):
    for source, problem in ((tmp_path / "none", "does not exist"), (tmp_path, "holds no videos")):
        with pytest.raises(InputError, match=problem):
            motive_fo.import_clips(source, name)
    (tmp_path / "clip.mp4").write_bytes(b"x")
    with pytest.raises(InputError, match="no folder and no listing"):
        motive_fo.import_clips(tmp_path / "clip.mp4", name)


def test_not_utf8_is_one_sentence(tmp_path):
    (tmp_path / "list.jsonl").write_bytes(b'{"video": "a.mp4", "prompt": "\xff"}')
    with pytest.raises(InputError, match="not UTF-8"):
        _entries(tmp_path / "list.jsonl")


@given(st.text(max_size=200))
def test_any_text_is_entries_or_one_clear_error(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("fuzz")
    for name in ("list.jsonl", "list.csv"):
        path = folder / name
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            entries = _entries(path)
        except InputError:
            continue
        assert all(e.path.is_relative_to(folder) for e in entries)


def test_an_image_dataset_is_refused(database, tmp_path, corpus):
    fo = fiftyone()
    images = fo.Dataset(f"images-{uuid.uuid4().hex[:6]}")
    images.add_sample(fo.Sample(filepath=str(tmp_path / "a.png")))
    with pytest.raises(InputError, match="holds image samples; videos are needed"):
        motive_fo.import_clips(corpus.train_metadata.parent, images.name)


def test_video_names_do_not_depend_on_the_machine():
    assert all(is_video_name(f"a.{s}") for s in ("mp4", "MKV", "webm", "mov", "avi", "m4v", "flv", "wmv", "3gp"))
    assert not any(is_video_name(f"a.{s}") for s in ("txt", "png", "json", "gif"))
