"""The whole way on a real database: fields, views, record, and no trace after deletion."""

import math
import uuid
from pathlib import Path

import pytest

import motive_fo
from motive_fo.config import RunConfig
from motive_fo.dataset.connect import fiftyone, load_dataset
from motive_fo.dataset.fields import FIELDS
from motive_fo.dataset.run_record import list_runs, load_run, save_run
from motive_fo.errors import ConfigError, InputError, MotiveError, StoreError, StoreMismatchError
from motive_fo.influence.selection import budget_count
from motive_fo.store.run_store import RunStore


def test_every_clip_has_motion_and_influence_or_a_code(computed, corpus):
    for sample in computed.match_tags("train").iter_samples():
        path, motive = Path(sample.filepath), sample.motive
        if path in corpus.damaged:
            assert motive.status == "failed"
            assert motive.code
            assert motive.error
            assert motive.influence is None
            assert motive.motion_mean is None
        else:
            assert motive.motion_mean is not None
            assert len(motive.motion_curve) == 17
            assert motive.gradient_norm > 0
            assert motive.decoder
            if path in corpus.static:
                assert (motive.status, motive.influence) == ("static", None)
                assert motive.whole_influence is not None
            else:
                assert motive.status == "scored"
                assert 0 <= motive.influence <= 100
                assert motive.influence_difference == pytest.approx(motive.influence - motive.whole_influence)
    assert set(computed.match_tags("query").values("motive.status")) == {"sketched"}


def test_fields_are_typed_and_described(computed):
    schema = computed.get_field_schema(flat=True)
    for name, (kind, description) in FIELDS.items():
        field = schema[f"motive.{name}"]
        assert type(field).__name__ == kind
        assert field.description == description
    assert computed.match(fiftyone().ViewField("motive.influence") > 50).count() > 0


def test_saved_views_hold_what_they_say(computed, corpus):
    scored = len(corpus.train) - len(corpus.damaged) - len(corpus.static)
    kept = budget_count(0.25, scored)
    top = computed.load_saved_view("motive: top by votes")
    assert top.values("motive.rank") == list(range(1, kept + 1))
    by_influence = computed.load_saved_view("motive: top by influence").values("motive.influence")
    assert by_influence == sorted(by_influence, reverse=True)
    assert len(by_influence) == kept
    harmful = computed.load_saved_view("motive: harmful").values("motive.influence")
    assert harmful == sorted(harmful)
    assert max(harmful) <= min(by_influence)
    assert {Path(p) for p in computed.load_saved_view("motive: failed").values("filepath")} == set(corpus.damaged)
    assert {Path(p) for p in computed.load_saved_view("motive: static").values("filepath")} == set(corpus.static)
    majority = computed.load_saved_view("motive: majority vote")
    assert all(v > 1 for v in majority.values("motive.votes"))
    every_rank = sorted(r for r in computed.values("motive.rank") if r is not None)
    assert every_rank == list(range(1, scored + 1))


def test_queries_cosines_are_in_the_store_on_demand(computed, corpus):
    query = f"queries/{corpus.queries[0].name}"
    scores = motive_fo.query_scores(computed, query)
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert all(-1 <= s <= 1 for s in scores.values())
    with pytest.raises(InputError, match="is no query of run"):
        motive_fo.query_scores(computed, "nope")


def test_the_record_names_everything_it_wrote(computed):
    record = load_run(computed, "motive")
    assert list_runs(computed) == ["motive"]
    assert record.groups == ["motive"]
    assert set(record.views) == set(computed.list_saved_views())
    assert Path(record.store).is_dir()
    assert record.settings["attribution"]["model"] == "tiny"
    assert record.settings["selection"]["budget"] == 0.25
    assert {"query gradients", "train gradients", "influence", "curate"} <= set(record.steps)


def test_a_second_pass_computes_nothing(computed):
    reports = motive_fo.compute_gradients(computed)
    assert [r.computed for r in reports.values()] == [0, 0]


def test_deleting_a_run_removes_all_it_wrote(dataset, tmp_path):
    fields, views = set(dataset.get_field_schema(flat=True)), dataset.list_saved_views()
    motive_fo.compute_gradients(dataset, "gone")
    motive_fo.score_influence(dataset, "gone")
    motive_fo.curate(dataset, "gone")
    motive_fo.export(dataset, tmp_path / "out", "gone")
    store = Path(load_run(dataset, "gone").store)
    assert store.is_dir()
    record = motive_fo.delete_run(dataset, "gone")
    dataset.reload()
    assert set(dataset.get_field_schema(flat=True)) == fields
    assert dataset.list_saved_views() == views
    assert dataset.list_runs() == []
    assert not store.exists()
    assert not store.with_name(store.name + ".lock").exists()
    assert record.exports == [str(tmp_path / "out")]
    assert (tmp_path / "out" / "metadata.jsonl").exists()  # what was exported belongs to the user
    with pytest.raises(InputError, match="has no run 'gone'"):
        motive_fo.delete_run(dataset, "gone")


def test_two_runs_live_side_by_side(dataset):
    motive_fo.compute_motion(dataset, "one")
    motive_fo.compute_motion(dataset, "two", clip={"fps": 8, "frames": 5})
    assert len(dataset.first()["two.motion_curve"]) == 5
    assert len(dataset.first()["one.motion_curve"]) == 17
    motive_fo.delete_run(dataset, "one")
    assert list_runs(dataset) == ["two"]
    assert dataset.has_sample_field("two.motion_mean")
    assert not dataset.has_sample_field("one")


def test_a_run_goes_on_with_its_own_settings(dataset):
    motive_fo.compute_motion(dataset, clip={"fps": 8, "frames": 9})
    report = motive_fo.compute_motion(dataset)
    assert report.computed == 0
    with pytest.raises(StoreMismatchError, match=r"clip\.frames: stored 9, asked for 17"):
        motive_fo.compute_motion(dataset, clip={"frames": 17})
    assert load_run(dataset, "motive").settings["clip"]["frames"] == 9


def test_a_run_begun_before_motion_had_a_timing_goes_on_as_it_was(dataset):
    begun = motive_fo.compute_motion(dataset, motion={"timing": "frames"})
    record = load_run(dataset, "motive")
    assert record.settings["motion"].pop("timing") == "frames"
    save_run(dataset, record)
    stored = RunStore(Path(record.store)).table("motion").identity
    assert "timing" not in stored["flow"], "as in a store of before"
    again = motive_fo.compute_motion(dataset)
    assert (again.computed, again.status) == (0, begun.status)
    with pytest.raises(MotiveError, match=r"flow\.timing: stored None, asked for 'film'"):
        motive_fo.compute_motion(dataset, motion={"timing": "film"})
    assert motive_fo.compute_motion(dataset, "new").status == begun.status
    assert load_run(dataset, "new").settings["motion"]["timing"] == "film"


def test_motion_alone_needs_no_queries_and_keeps_a_status(dataset, corpus):
    report = motive_fo.compute_motion(dataset)
    assert report.status["failed"] == len(corpus.damaged)
    assert set(dataset.values("motive.status")) == {"described", "static", "failed"}
    motive_fo.compute_gradients(dataset)
    motive_fo.compute_motion(dataset)
    assert "described" not in dataset.values("motive.status")  # later steps are not taken back


def test_adding_a_query_never_computes_training_clips(dataset, corpus, tmp_path):
    motive_fo.compute_gradients(dataset)
    motive_fo.score_influence(dataset)
    extra = tmp_path / "extra"
    extra.mkdir()
    (extra / "new.mp4").write_bytes(corpus.train[3].read_bytes())
    motive_fo.import_clips(extra, dataset.name, role="query")
    reports = motive_fo.compute_gradients(dataset)
    assert (reports["query"].computed, reports["train"].computed) == (1, 0)
    motive_fo.score_influence(dataset)
    scores = motive_fo.query_scores(dataset, "extra/new.mp4")
    # the new query is a training clip under another name and caption: it finds itself
    assert next(iter(scores)) == f"train/{corpus.train[3].name}"


def test_queries_from_a_view_and_from_another_dataset(dataset, corpus, name):
    other = f"{name}-wanted"
    motive_fo.import_clips(corpus.query_metadata.parent, other, role="anything")
    dataset.save_view("only one", dataset.match_tags("query").limit(1))
    motive_fo.compute_gradients(dataset, query="only one")
    motive_fo.score_influence(dataset)
    assert len(RunStore(load_run(dataset, "motive").store).read_scores("motion")[1]) == 1
    motive_fo.compute_gradients(dataset, "second", query=other)
    motive_fo.score_influence(dataset, "second")
    wanted = fiftyone().load_dataset(other)
    assert set(wanted.values("second.status")) == {"sketched"}
    motive_fo.delete_run(dataset, "second")
    wanted.reload()
    assert not wanted.has_sample_field("second")


def test_mask_side_is_a_choice_when_scoring(dataset, corpus):
    motive_fo.compute_gradients(dataset)
    static = dataset[str(corpus.static[0])]
    motive_fo.score_influence(dataset, influence={"mask_side": "query"})
    static.reload()
    assert static["motive.influence"] is not None
    motive_fo.curate(dataset)
    assert static["motive.status"] == "static"
    motive_fo.score_influence(dataset, influence={"mask_side": "both"})
    motive_fo.curate(dataset)
    dataset.reload()
    static = dataset[str(corpus.static[0])]
    assert static["motive.influence"] is None
    assert static["motive.rank"] is None  # a place from an earlier scoring does not stay


def test_clips_without_our_ids_use_their_sample_ids(database, corpus):
    fo = fiftyone()
    plain = fo.Dataset(f"plain-{uuid.uuid4().hex[:6]}")
    plain.add_samples([fo.Sample(filepath=str(p), tags=["mine"]) for p in corpus.train[:3]])
    motive_fo.compute_motion(plain)
    store = RunStore(load_run(plain, "motive").store).table("motion")
    assert store.ids == plain.values("id")
    motive_fo.compute_gradients(plain, train="mine", query=plain.limit(1))
    assert plain.first()["motive.status"] == "sketched"
    motive_fo.delete_run(plain)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda d: motive_fo.compute_motion("no-such-dataset"), "there is no dataset 'no-such-dataset'"),
        (lambda d: motive_fo.compute_motion(d, "not a name"), "cannot name a run"),
        (lambda d: motive_fo.compute_motion(d, "caption"), "already a field or run"),
        (lambda d: motive_fo.compute_motion(d, clip={"frames": 16}), "takes 4n\\+1 frames, not 16: use 13 or 17"),
        (lambda d: motive_fo.compute_motion(d, clip={"fpss": 16}), r"clip\.fpss: no such setting"),
        (lambda d: motive_fo.compute_motion(d, clip={"fps": -1}), r"clip\.fps: input should be greater than 0, not -1"),
        (lambda d: motive_fo.compute_motion(d, model="wam"), "unknown model 'wam'"),
        (lambda d: motive_fo.compute_motion(d, flow={"estimator": "raft"}), r"flow\.estimator: input should be"),
        (lambda d: motive_fo.compute_gradients(d, train="nobody"), "'nobody' is no tag or saved view"),
        (lambda d: motive_fo.compute_gradients(d, query="nobody"), "is no tag, saved view or dataset"),
        (lambda d: motive_fo.compute_gradients(d, attribution={"dimension": 500}), "power of two"),
        (lambda d: motive_fo.score_influence(d), "has no run 'motive'; it has none yet"),
        (lambda d: motive_fo.curate(d, selection={"budget": 0}), "has no run"),
        (lambda d: motive_fo.export(d, "somewhere"), "has no run"),
    ],
)
def test_wrong_use_names_the_way_out_and_leaves_no_trace(dataset, call, problem):
    with pytest.raises(MotiveError, match=problem):
        call(dataset)
    assert dataset.list_runs() == []
    assert not dataset.has_sample_field("motive")
    assert dataset.list_saved_views() == []


def test_steps_out_of_order_say_which_step_is_missing(dataset, tmp_path):
    motive_fo.compute_motion(dataset)
    with pytest.raises(StoreError, match="no gradients of train clips yet"):
        motive_fo.score_influence(dataset)
    with pytest.raises(StoreError, match="no influence yet"):
        motive_fo.curate(dataset)
    with pytest.raises(InputError, match="no selection yet"):
        motive_fo.export(dataset, tmp_path / "out")


def test_a_dataset_without_queries_says_how_to_get_them(database, corpus, name):
    motive_fo.import_clips(corpus.train_metadata.parent, name)
    with pytest.raises(InputError, match="--role query"):
        motive_fo.compute_gradients(name)


def test_motion_says_what_moves_and_how(computed, corpus):
    """Camera share, views without gradients, and clips that move alike."""
    shares = {Path(s.filepath).stem: s.motive.camera_share for s in computed.match_tags("train")}
    for stem, share in shares.items():
        if share is not None and not stem.endswith("track"):
            assert (share > 0.5) == stem.endswith(("pan", "zoom")), (stem, share)
    assert {stem[5:] for stem in shares} >= {"pan", "zoom", "slide", "fall"}
    dynamic = computed.load_saved_view("motive: most dynamic").values("motive.dynamic_score")
    assert dynamic == sorted(dynamic, reverse=True)
    assert dynamic[0] == max(v for v in computed.values("motive.dynamic_score") if v is not None)
    camera = computed.load_saved_view("motive: camera only")
    assert all(v > 0.9 for v in camera.values("motive.camera_share"))
    clip = f"train/{corpus.train[0].name}"
    alike = motive_fo.similar_motion(computed, clip)
    assert clip not in alike
    assert list(alike.values()) == sorted(alike.values(), reverse=True)
    assert all(0 <= v <= 1 + 1e-6 for v in alike.values())
    with pytest.raises(InputError, match="nothing moves in it"):
        motive_fo.similar_motion(computed, f"train/{corpus.static[0].name}")
    places = sorted(v for v in computed.values("motive.hoof_rank") if v is not None)
    assert places == list(range(1, len(places) + 1))


def test_estimators_readings_and_the_camera_are_choices(dataset):
    motive_fo.compute_motion(dataset, "farne", flow={"estimator": "farneback"})
    motive_fo.compute_motion(dataset, "anchored", flow={"reading": "anchor"})
    motive_fo.compute_motion(dataset, "objects", motion={"camera": "remove"})
    motive_fo.compute_motion(dataset, "plain")
    scored = [s for s in dataset.match_tags("train") if s["plain.status"] == "described"]
    assert all(s["anchored.dynamic_score"] is None and s["anchored.motion_mean"] > 0 for s in scored)
    assert all(s["farne.motion_mean"] != s["plain.motion_mean"] for s in scored)
    panned = next(s for s in scored if "_pan" in s.filepath)
    assert panned["objects.motion_mean"] < 0.5 * panned["plain.motion_mean"]
    with pytest.raises(StoreMismatchError, match=r"mask\.camera: stored 'keep', asked for 'remove'"):
        motive_fo.compute_motion(dataset, "plain", motion={"camera": "remove"})


def test_a_view_is_exported_as_it_is(computed, tmp_path):
    view = computed.match_tags("train").match({"motive.status": "scored"}).sort_by("filepath").limit(2)
    report = motive_fo.export(view, tmp_path / "two")
    assert report.written == 2
    rows = (tmp_path / "two" / "metadata.jsonl").read_text().splitlines()
    assert len(rows) == 2


def test_one_configuration_does_everything_and_again(database, corpus, tmp_path, name):
    config = tmp_path / "run.yaml"
    config.write_text(
        f"dataset: {name}\nrun: whole\nvideos: {corpus.train_metadata.parent}\nqueries: {corpus.query_metadata}\n"
        "selection: {budget: 0.25}\nexport_to: out\nstore: store/whole.zarr\n"
    )
    report = motive_fo.run(config)
    assert report.export.written == len(report.curate.selected) == budget_count(0.25, report.curate.clips)
    assert (tmp_path / "out" / "metadata.jsonl").is_file()
    assert (tmp_path / "store" / "whole.zarr").is_dir()
    again = motive_fo.run(config)
    assert [r.computed for r in again.gradients.values()] == [0, 0]
    assert again.curate.selected == report.curate.selected
    assert math.isclose(again.export.written, report.export.written)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("dataset: x\nfoo: 1\n", "foo: no such setting"),
        ("run: x\n", "dataset: missing"),
        ("dataset: x\nclip: {fps: fast}\n", r"clip\.fps: .*valid number.*'fast'"),
        ("dataset: x\ninfluence: {mask_side: left}\n", r"influence\.mask_side"),
        ("- 1\n", "must hold settings"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_a_wrong_configuration_is_one_line(tmp_path, text, problem):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=problem) as caught:
        motive_fo.run(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot read"):
        motive_fo.run(tmp_path / "none.yaml")


def test_a_run_configuration_in_python_is_checked_too():
    with pytest.raises(ValueError, match="greater than 0"):
        RunConfig(dataset="x", selection={"budget": 0})


def test_load_dataset_lists_what_there_is(dataset):
    with pytest.raises(InputError, match=r"there is no dataset 'zzz'; there are: .*"):
        load_dataset("zzz")
