"""Clips into a dataset: folders, listings, captions, and everything a listing can get wrong."""

import json
import uuid
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from motive_fo_cli.main import main
from motive_fo_cli.output import import_lines

import motive_fo
from motive_fo.config import AttributionConfig, RunConfig
from motive_fo.dataset.connect import fiftyone, is_video_name, load_dataset
from motive_fo.dataset.listing import read_source
from motive_fo.errors import InputError


def _entries(source, **more):
    return read_source(Path(source), **more).entries


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


@pytest.fixture
def captioned(database, corpus, tmp_path, name):
    """A dataset of three clips of a folder; two had a text beside them. Each clip's text is ``ID.txt``."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for n, clip in enumerate(("a", "b", "c")):
        (folder / f"{clip}.mp4").write_bytes(corpus.train[n].read_bytes())
    for clip in ("a", "b"):
        (folder / f"{clip}.txt").write_text(f"{clip} as it came")
    motive_fo.import_clips(folder, name)
    yield load_dataset(name), folder
    fiftyone().delete_dataset(name)


def _write(dataset, **captions):
    at = dict(zip(dataset.values("motive_id"), dataset.values("id"), strict=True))
    dataset.set_values("caption", {at[f"clips/{k}.mp4"]: v for k, v in captions.items()}, key_field="id")


def test_importing_again_keeps_what_a_person_wrote(captioned):
    """By hand: b corrected, its text unchanged; c written, it has no text. The text of a is new."""
    dataset, folder = captioned
    _write(dataset, b="b by hand", c="c by hand")
    (folder / "a.txt").write_text("a anew")
    report = motive_fo.import_clips(folder, dataset.name)
    assert (report.added, report.updated, report.unchanged, report.kept) == (0, 1, 2, 2)
    assert (report.without_caption, report.conflicts) == (0, {})
    assert dataset.values("caption") == ["a anew", "b by hand", "c by hand"]
    assert motive_fo.import_clips(folder, dataset.name).updated == 0
    (folder / "a.txt").write_text("a as it came")  # taken back
    assert motive_fo.import_clips(folder, dataset.name).updated == 1
    assert dataset.values("caption") == ["a as it came", "b by hand", "c by hand"]


@pytest.mark.parametrize("emptied", ["", None])
def test_a_caption_that_a_person_emptied_stays_empty(captioned, emptied):
    dataset, folder = captioned
    _write(dataset, a=emptied)
    report = motive_fo.import_clips(folder, dataset.name)
    assert (report.updated, report.kept, report.without_caption) == (0, 1, 2)
    assert dataset.values("caption") == [emptied, "b as it came", ""]


def test_a_caption_that_changed_on_both_sides_stays_and_is_named_until_it_is_emptied(captioned):
    dataset, folder = captioned
    _write(dataset, a="a by hand", b="b anew", c="c by hand")
    for clip in ("a", "b", "c"):
        (folder / f"{clip}.txt").write_text(f"{clip} anew")
    for _ in range(2):
        report = motive_fo.import_clips(folder, dataset.name)
        assert (report.kept, report.updated) == (2, 0)
        assert report.conflicts == {"clips/a.mp4": "a anew", "clips/c.mp4": "c anew"}
        assert dataset.values("caption") == ["a by hand", "b anew", "c by hand"]
    lines = import_lines(report.as_dict())
    assert any("2 have a new caption in the source" in line and "clips/a.mp4, clips/c.mp4" in line for line in lines)
    _write(dataset, a="")
    (folder / "b.txt").write_text("b once more")  # the same on both sides was no correction
    report = motive_fo.import_clips(folder, dataset.name)
    assert list(report.conflicts) == ["clips/c.mp4"]
    assert dataset.values("caption") == ["a anew", "b once more", "c by hand"]


def test_a_listing_brings_what_it_has(captioned):
    """Without a caption column nothing; with one what is new, but over what an import brought only."""
    dataset, folder = captioned
    _write(dataset, b="b by hand")
    bare = _listing(folder, "video\na.mp4\nb.mp4\n", "list.csv")
    assert motive_fo.import_clips(bare, dataset.name).kept == 2
    full = _listing(folder, "video,text\na.mp4,a listed\nb.mp4,b as it came\n", "list.csv")
    report = motive_fo.import_clips(full, dataset.name)
    assert (report.updated, report.kept, report.conflicts) == (1, 1, {})
    assert dataset.values("caption") == ["a listed", "b by hand", ""]


def test_adding_queries_keeps_captions_and_names_conflicts(captioned):
    dataset, folder = captioned
    _write(dataset, b="b by hand", c="c by hand")
    assert [q.caption for q in motive_fo.add_queries(dataset.name, folder)] == [
        "a as it came",
        "b by hand",
        "c by hand",
    ]
    (folder / "b.txt").write_text("b anew")
    other = {q.id: q.other_caption for q in motive_fo.add_queries(dataset.name, folder)}
    assert other == {"clips/a.mp4": None, "clips/b.mp4": "b anew", "clips/c.mp4": None}
    shown = CliRunner().invoke(main, ["queries", "add", dataset.name, str(folder)])
    assert "note: 1 have a new caption in the source" in shown.output


def test_importing_another_dataset_again_keeps_what_a_person_wrote(captioned, name):
    dataset, _ = captioned
    motive_fo.import_clips(f"dataset:{dataset.name}", f"{name}-copy")
    copy = load_dataset(f"{name}-copy")
    _write(copy, b="b by hand", c="c by hand")
    _write(dataset, a="a anew")
    report = motive_fo.import_clips(f"dataset:{dataset.name}", copy.name)
    assert (report.updated, report.kept) == (1, 2)
    assert copy.values("caption") == ["a anew", "b by hand", "c by hand"]
    fiftyone().delete_dataset(copy.name)


def test_a_dataset_that_is_its_own_source_learns_nothing(captioned):
    """What a person corrected is not taken for what an import brought."""
    dataset, folder = captioned
    _write(dataset, a="a by hand")
    motive_fo.import_clips(f"dataset:{dataset.name}", dataset.name, role="holdout")
    motive_fo.import_clips(folder, dataset.name)
    assert dataset.values("caption") == ["a by hand", "b as it came", ""]


def test_captions_of_unknown_origin_are_a_persons(captioned):
    """A dataset that was imported before captions were noted, or made by someone else."""
    dataset, folder = captioned
    dataset.delete_sample_field("motive_caption")
    assert motive_fo.import_clips(folder, dataset.name).kept == 0
    dataset.clear_sample_field("motive_caption")
    (folder / "a.txt").write_text("a anew")
    assert list(motive_fo.import_clips(folder, dataset.name).conflicts) == ["clips/a.mp4"]
    assert dataset.values("caption") == ["a as it came", "b as it came", ""]


def test_a_dry_run_takes_the_captions_that_the_import_would_leave(captioned, corpus):
    dataset, folder = captioned
    one = AttributionConfig(timesteps=(750.748,))
    queries = str(corpus.query_metadata.parent)
    motive_fo.import_clips(queries, dataset.name, role="query")
    motive_fo.compute_gradients(dataset, attribution=one)
    asked = RunConfig(dataset=dataset.name, attribution=one, videos=str(folder), queries=queries)
    for text, todo in (("b as it came", 0), ("b anew", 1), (None, 0)):
        (folder / "b.txt").unlink() if text is None else (folder / "b.txt").write_text(text)
        assert motive_fo.estimate(asked).roles["train"].todo == todo


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
        ("[" * 100000, "line 1 is not JSON|nests too deeply"),
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


def test_json_listings_are_lists_or_one_object(tmp_path):
    rows = [{"file_name": "a.mp4", "caption": "first"}, {"file_name": "b.mp4", "caption": "second"}]
    for data in (rows, {"a.mp4": "first", "b.mp4": "second"}):
        entries = _entries(_listing(tmp_path, json.dumps(data), "list.json"))
        assert [(e.path.name, e.caption) for e in entries] == [("a.mp4", "first"), ("b.mp4", "second")]
    for data, problem in (("7", "must hold a list"), ("[7]", "entry 1 is not an object"), ("{", "is not JSON")):
        with pytest.raises(InputError, match=problem):
            _entries(_listing(tmp_path, data, "list.json"))


def test_a_folder_takes_captions_from_the_nearest_place(tmp_path):
    """A listing above, a listing of a subfolder's own (a Hugging Face videofolder's split), text files beside clips."""
    for name in ("top.mp4", "a/listed.mp4", "a/beside.mp4", "b/own.mp4", "b/none.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    _listing(tmp_path, '{"video": "a/listed.mp4", "prompt": "from above"}\n', "metadata.jsonl")
    _listing(tmp_path / "b", "file_name,text\nown.mp4,from its split\n", "metadata.csv")
    (tmp_path / "a" / "beside.txt").write_text("from the text file\n")
    (tmp_path / "a" / "listed.txt").write_text("not this one")
    (tmp_path / "a" / "lonely.txt").write_text("no clip of this name")
    for name in ("b/capitals.MP4", "b/both.mp4"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "b" / "capitals.TXT").write_text("from capitals")
    (tmp_path / "b" / "both.TXT").write_text("not this one")
    (tmp_path / "b" / "both.txt").write_text("from small letters")
    source = read_source(tmp_path)
    captions = {str(e.path.relative_to(tmp_path)): e.caption for e in source.entries}
    assert captions == {
        "top.mp4": "",
        "a/listed.mp4": "from above",
        "a/beside.mp4": "from the text file",
        "b/own.mp4": "from its split",
        "b/none.mp4": "",
        "b/capitals.MP4": "from capitals",
        "b/both.mp4": "from small letters",
    }
    assert source.skipped == ["a/listed.txt", "a/lonely.txt", "b/both.TXT"]


def test_the_way_to_a_folder_does_not_matter(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    (tmp_path / "beside").mkdir()
    (folder / "a.mp4").write_bytes(b"x")
    _listing(folder, '{"video": "a.mp4", "prompt": "rolls"}', "metadata.jsonl")
    direct = _entries(folder)
    assert [entry.caption for entry in direct] == ["rolls"]
    assert _entries(tmp_path / "beside" / ".." / "clips") == direct


def test_clips_without_a_caption_follow_the_policy(database, tmp_path, name):
    listing = _listing(
        tmp_path, '{"video": "a.mp4", "prompt": "x"}\n{"video": "b.mp4"}\n{"video": "c.mp4", "prompt": " "}'
    )
    assert len(_entries(listing)) == 3
    assert [e.path.name for e in _entries(listing, missing_caption="skip")] == ["a.mp4"]
    with pytest.raises(InputError, match=r"2 of 3 clips have no caption, the first: .*b\.mp4"):
        motive_fo.import_clips(listing, name, missing_caption="refuse")
    assert motive_fo.import_clips(listing, name, missing_caption="skip").skipped == ["b.mp4", "c.mp4"]


def test_two_folders_of_one_name_do_not_share_ids(database, corpus, tmp_path, name):
    for parent in ("one", "two"):
        (tmp_path / parent / "clips").mkdir(parents=True)
        (tmp_path / parent / "clips" / "a.mp4").write_bytes(corpus.train[0].read_bytes())
    motive_fo.import_clips(tmp_path / "one" / "clips", name)
    with pytest.raises(InputError, match=r"'clips/a\.mp4': give these clips a name of their own"):
        motive_fo.import_clips(tmp_path / "two" / "clips", name)
    motive_fo.import_clips(tmp_path / "two" / "clips", name, name="second")
    assert load_dataset(name).values("motive_id") == ["clips/a.mp4", "second/a.mp4"]


def test_another_dataset_is_a_source(dataset, name):
    copy = f"{name}-copy"
    report = motive_fo.import_clips(f"dataset:{name}", copy, role="mine")
    assert report.added == len(dataset)
    taken = load_dataset(copy)
    assert taken.values("caption") == dataset.values("caption")
    assert taken.values("motive_id") == dataset.values("motive_id")
    assert set(taken.first().tags) == {"mine"}
    with pytest.raises(InputError, match="there is no dataset"):
        motive_fo.import_clips("dataset:nowhere", copy)


def test_a_hundred_thousand_rows_are_read_in_order(tmp_path):
    rows = "".join(f'{{"video": "d{i % 100}/{i:06d}.mp4", "prompt": "clip {i}"}}\n' for i in range(100_000))
    entries = _entries(_listing(tmp_path, rows))
    assert len(entries) == 100_000
    assert entries[99_999].caption == "clip 99999"


def test_long_videos_become_windows_of_their_own(database, tmp_path, name):
    """Each window is a clip: its own id, its own frames, its own record; importing again adds nothing."""
    from motive_fo.dataset.run_record import load_run
    from motive_fo.store.run_store import RunStore
    from motive_fo.synthetic.corpus import write_video
    from motive_fo.synthetic.scene import render, sample_scene

    (tmp_path / "long").mkdir()
    still = render(sample_scene(1, "still"), frames=40, fps=16, height=64, width=64)
    moving = render(sample_scene(2, "pan"), frames=40, fps=16, height=64, width=64)
    write_video(tmp_path / "long" / "film.mp4", np.concatenate((still, moving)), 16)
    assert motive_fo.import_clips(tmp_path / "long", name, windows=1.25).added == 4
    assert motive_fo.import_clips(tmp_path / "long", name, windows=1.25).unchanged == 4
    dataset = load_dataset(name)
    assert dataset.values("motive_id") == ["long/film.mp4", *(f"long/film.mp4#t={t}" for t in ("1.25", "2.5", "3.75"))]
    report = motive_fo.compute_motion(dataset)
    assert report.status == {"static": 2, "done": 2}
    assert dataset.values("motive.status") == ["static", "static", "described", "described"]
    assert set(dataset.values("motive.cuts")) == {0}
    whole = motive_fo.compute_motion(dataset, "whole", clip={"fps": 5, "frames": 21})
    assert whole.codes == {"too_short": 3}
    assert dataset.first()["whole.cuts"] == 1
    assert len(RunStore(load_run(dataset, "motive").store).table("motion")) == 4
    with pytest.raises(InputError, match="more than 0 seconds apart"):
        motive_fo.import_clips(tmp_path / "long", name, windows=0)


def test_a_path_that_can_be_no_file_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "a.mp4").symlink_to("b.mp4")
    (tmp_path / "b.mp4").symlink_to("a.mp4")
    for name in ("x" * 300 + ".mp4", "a.mp4"):
        with pytest.raises(InputError, match="cannot be a file here"):
            _entries(_listing(tmp_path, json.dumps({"path": name})))
