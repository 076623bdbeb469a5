"""Captions in whatever field a dataset keeps them: found, named, kept in the run, and never silently empty."""

import pytest
from click.testing import CliRunner
from motive_fo_cli.main import main

import motive_fo
from motive_fo.dataset.captions import caption_field
from motive_fo.dataset.choose import records_of
from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.integrity import check_run
from motive_fo.dataset.run_record import load_run, save_run
from motive_fo.errors import InputError
from tests.dataset.conftest import ONE_TIMESTEP

TEXT = "a red square slides quickly"


@pytest.fixture
def own(database, corpus, name):
    """Makes datasets of a user's own, of two training clips and two queries, with captions in fields of choice."""
    made = []

    def make(**fields):
        fo = fiftyone()
        dataset = fo.Dataset(f"{name}-{len(made)}", persistent=True)
        made.append(dataset.name)
        paths = {"train": corpus.train[:2], "query": sorted(corpus.query_metadata.parent.glob("*.mp4"))[:2]}
        for role, clips in paths.items():
            for path in clips:
                dataset.add_sample(fo.Sample(filepath=str(path), tags=[role], **fields))
        return dataset

    yield make
    for each in made:
        if fiftyone().dataset_exists(each):
            fiftyone().delete_dataset(each)


def _gradients(dataset, **attribution):
    return motive_fo.compute_gradients(dataset, attribution={**ONE_TIMESTEP, **attribution})


def _notes(reports):
    return [note for report in reports.values() for note in report.notes if "caption" in note]


def _losses(dataset):
    dataset.reload()
    return dataset.values("motive.loss")


def test_captions_are_found_in_the_usual_fields_or_where_they_are_said_to_be(own):
    known = own(caption=TEXT)
    assert _notes(_gradients(known)) == []
    for fields, named in (({"prompt": TEXT}, None), ({"text": TEXT, "caption": " "}, None), ({"note": TEXT}, "note")):
        dataset = own(**fields)
        reports = _gradients(dataset, **({"caption_field": named} if named else {}))
        assert _notes(reports) == []
        assert _losses(dataset) == _losses(known)
        assert load_run(dataset, "motive").section("attribution").caption_field == next(iter(fields))
    bare = own()
    assert _notes(_gradients(bare)) == [
        f"2 of 2 {role} clips have no caption: --caption-field names another field" for role in ("query", "train")
    ]
    assert _losses(bare) != _losses(known)


def test_of_several_fields_the_first_is_taken_and_said(own):
    dataset = own(prompt=TEXT, text="what was read off the pictures")
    told = "captions are read from the field 'prompt'; there is text in text too: --caption-field"
    assert told in motive_fo.estimate(dataset, attribution=ONE_TIMESTEP).notes
    assert told in _gradients(dataset)["query"].notes
    assert told not in _gradients(dataset)["query"].notes  # the run knows by now
    dataset.match_tags("train").set_values("prompt", [None, " "])
    with pytest.raises(InputError, match=r"all 2 train clips .* have none in the field 'prompt' now"):
        _gradients(dataset)
    dataset.match_tags("train").set_values("prompt", [TEXT, ""])
    assert _notes(_gradients(dataset)) == [
        "1 of 2 train clips have no caption in the field 'prompt'; there is text in text: "
        "--caption-field names another field"
    ]


def test_a_field_that_is_not_there_is_refused_with_those_that_are(own):
    dataset = own(caption=TEXT, note=TEXT, number=3)
    for named in ("notes", "number", "motive"):
        with pytest.raises(InputError, match=rf"no text field '{named}', .* one of caption, note$"):
            _gradients(dataset, caption_field=named)
    assert dataset.list_runs() == []
    with pytest.raises(InputError, match="no text field 'notes'"):
        motive_fo.estimate(dataset, attribution={"caption_field": "notes"})
    shown = CliRunner().invoke(main, ["gradients", dataset.name, "--caption-field", "notes"])
    assert shown.exit_code != 0
    assert "one of caption, note" in shown.output


@pytest.mark.parametrize("renamed", ["description", "prompt"])
def test_a_renamed_field_computes_nothing_until_it_is_named(own, renamed, tmp_path):
    dataset = own(caption=TEXT)
    _gradients(dataset)
    motive_fo.score_influence(dataset)
    before = _losses(dataset)
    dataset.rename_sample_field("caption", renamed)
    wrong = "no text field 'caption', from which run 'motive' reads its captions"
    for step in (
        lambda: _gradients(dataset),
        lambda: motive_fo.estimate(dataset),
        lambda: motive_fo.write_scores(dataset, tmp_path / "scores.csv"),
        lambda: motive_fo.export(dataset.view(), tmp_path / "out"),
    ):
        with pytest.raises(InputError, match=wrong):
            step()
    assert any(check.level == "fail" and wrong in check.text for check in check_run(dataset, "motive"))
    motive_fo.score_influence(dataset)  # reads none
    reports = _gradients(dataset, caption_field=renamed)
    assert [report.computed for report in reports.values()] == [0, 0]
    assert _losses(dataset) == before
    motive_fo.write_scores(dataset, tmp_path / "scores.csv")
    assert TEXT in (tmp_path / "scores.csv").read_text()


def test_a_run_that_names_no_field_yet_does_not_lose_its_captions_either(own):
    """A run of before fields were named, and an import that makes an empty field of the old name."""
    dataset = own(caption=TEXT)
    _gradients(dataset)
    record = load_run(dataset, "motive")
    del record.settings["attribution"]["caption_field"]
    save_run(dataset, record)
    dataset.rename_sample_field("caption", "description")
    for _ in range(2):
        with pytest.raises(InputError, match="that run 'motive' computed with a caption have none"):
            _gradients(dataset)
        with pytest.raises(InputError, match="that run 'motive' computed with a caption have none"):
            motive_fo.estimate(dataset, attribution=ONE_TIMESTEP)
        if not dataset.has_sample_field("caption"):
            dataset.add_sample_field("caption", fiftyone().StringField)
    assert _gradients(dataset, caption_field="description")["train"].computed == 0


def test_settings_given_whole_leave_a_run_its_field(own):
    dataset = own(caption=TEXT, note=TEXT + " again")
    _gradients(dataset, caption_field="note")
    whole = motive_fo.AttributionConfig(**ONE_TIMESTEP)
    assert motive_fo.compute_gradients(dataset, attribution=whole)["train"].computed == 0
    assert {r.caption for r in records_of(dataset, load_run(dataset, "motive")).records} == {TEXT + " again"}


def test_what_knows_no_run_reads_the_field_that_the_runs_agree_on(own):
    dataset = own(caption=TEXT, note=TEXT + " again")
    assert caption_field(dataset) == "caption"
    _gradients(dataset, caption_field="note")
    assert caption_field(dataset) == "note"
    motive_fo.compute_motion(dataset, "other")
    assert caption_field(dataset) == "note"
    record = load_run(dataset, "other")
    record.settle("attribution", {"caption_field": "caption"})
    save_run(dataset, record)
    assert caption_field(dataset) == "caption"
    assert [q.caption for q in motive_fo.list_queries(dataset)] == [TEXT, TEXT]


def test_a_second_dataset_may_call_its_captions_otherwise(own):
    dataset, queries = own(note=TEXT), own(prompt=TEXT)
    reports = motive_fo.compute_gradients(
        dataset, query=f"dataset:{queries.name}", attribution={**ONE_TIMESTEP, "caption_field": "note"}
    )
    assert _notes(reports) == []
    queries.rename_sample_field("prompt", "description")
    with pytest.raises(InputError, match="all 4 query clips"):
        _gradients(dataset)


def test_an_import_goes_into_the_field_that_the_dataset_has(own, corpus):
    dataset = own(prompt=TEXT)
    motive_fo.import_clips(corpus.train_metadata.parent, dataset.name)
    dataset.reload()
    assert "caption" not in dataset.get_field_schema()
    prompts = dataset.values("prompt")
    assert prompts[:4] == [TEXT] * 4  # a person's
    assert all(prompts[4:])
    assert len(prompts) == len(corpus.train) + 2


def test_a_new_field_takes_what_an_earlier_one_had(dataset, corpus):
    """The field was renamed, an import makes a new one: what was brought into the old one is brought again."""
    before = dataset.values("caption")
    dataset.rename_sample_field("caption", "description")
    for folder in (corpus.train_metadata, corpus.query_metadata):
        motive_fo.import_clips(folder.parent, dataset.name)
    dataset.reload()
    assert dataset.values("caption") == before


def test_another_dataset_is_read_from_the_field_it_has(own, name):
    source = own(caption="", prompt=TEXT, text="other words")
    report = motive_fo.import_clips(f"dataset:{source.name}", f"{name}-copy")
    assert report.notes == ["captions are taken from the field 'prompt'; text hold text too"]
    assert set(fiftyone().load_dataset(f"{name}-copy").values("caption")) == {TEXT}
    fiftyone().delete_dataset(f"{name}-copy")
