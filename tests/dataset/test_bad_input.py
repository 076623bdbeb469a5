"""What a person can get wrong, one test each: a clear error or a recorded code, and the rest goes on."""

from __future__ import annotations

import shutil

import pytest

import motive_fo
from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.motion_report import show_motion, write_motion_page
from motive_fo.dataset.plugin import install_plugin
from motive_fo.dataset.run_record import list_runs
from motive_fo.errors import ExportError, InputError, MotiveError, StoreError


@pytest.fixture
def nowhere(tmp_path):
    """A place nobody can write to, root neither: a folder inside a file."""
    (tmp_path / "file").write_text("not a folder")
    return tmp_path / "file" / "folder"


def test_folders_that_cannot_be_written_are_one_sentence(computed, nowhere):
    clip = computed.match(fiftyone().ViewField("motive.status") == "scored").first().motive_id
    refused = [
        (lambda: motive_fo.compute_motion(computed, "unwritable", store=nowhere / "s.zarr"), StoreError),
        (lambda: motive_fo.export(computed, nowhere), ExportError),
        (lambda: write_motion_page(computed, nowhere / "page.html", shown=1), InputError),
        (lambda: show_motion(computed, clip, nowhere), InputError),
        (lambda: install_plugin(nowhere), MotiveError),
    ]
    for call, kind in refused:
        with pytest.raises(kind, match="cannot write") as raised:
            call()
        assert str(nowhere.parent) in str(raised.value)
        assert "\n" not in str(raised.value)
    assert "unwritable" not in list_runs(computed)


def test_two_samples_of_one_id_are_refused_by_name(dataset):
    first, second = dataset.limit(2)
    second["motive_id"] = first.motive_id
    second.save()
    with pytest.raises(InputError, match=rf"belong to several samples \('{first.motive_id}'.*clear the field"):
        motive_fo.compute_motion(dataset)
    assert list_runs(dataset) == []


def test_queries_that_are_training_clips_too_are_said(database, corpus, tmp_path, name):
    moving = [path for path in corpus.train if path not in (*corpus.static, *corpus.damaged)][:3]
    for folder, paths in (("clips", moving), ("wanted", moving[:1])):
        (tmp_path / folder).mkdir()
        for path in paths:
            shutil.copy(path, tmp_path / folder / f"{folder}-{path.name}")
    motive_fo.import_clips(tmp_path / "clips", name)
    motive_fo.import_clips(tmp_path / "wanted", name, role="query")
    samples = fiftyone().load_dataset(name)
    samples.set_values("caption", ["the same"] * 4)
    other = samples.match_tags("train").skip(1).first()
    other.tags.append("query")
    other.save()
    motive_fo.compute_gradients(name)
    report = motive_fo.score_influence(name)
    assert any(note.startswith("2 of 2 queries are training clips too") for note in report.notes)
    for query in samples.match_tags("query"):
        scores = motive_fo.query_scores(name, query.motive_id)
        assert next(iter(scores.values())) == pytest.approx(1, abs=1e-6)


def test_files_without_a_row_and_rows_without_a_file_both_end_in_the_dataset(database, corpus, tmp_path, name):
    folder = tmp_path / "clips"
    folder.mkdir()
    for path in corpus.train[:2]:
        shutil.copy(path, folder / path.name)
    listed = corpus.train[0].name
    (folder / "metadata.csv").write_text(f"file_name,caption\n{listed},a caption\ngone.mp4,another\n")
    motive_fo.import_clips(folder, name)
    report = motive_fo.compute_motion(name)
    samples = {sample.filename: sample for sample in fiftyone().load_dataset(name)}
    assert {filename: sample.caption or "" for filename, sample in samples.items()} == {
        listed: "a caption",
        corpus.train[1].name: "",
        "gone.mp4": "another",
    }
    assert samples["gone.mp4"].motive.code == "missing_file"
    assert samples[listed].motive.motion_mean is not None
    assert report.status["failed"] == 1
