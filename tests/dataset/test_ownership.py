"""A store belongs to one run: FiftyOne's clones, renames, exports and deletions take nothing from it."""

from __future__ import annotations

import json
import logging
import shutil
import uuid
from dataclasses import replace
from pathlib import Path

import fiftyone as fo
import pytest

import motive_fo
from motive_fo.dataset import ownership
from motive_fo.dataset.adoption import orphans
from motive_fo.dataset.integrity import check_run
from motive_fo.dataset.ownership import held_by, open_store
from motive_fo.dataset.run_record import load_run, save_run
from motive_fo.dataset.steps import open_step
from motive_fo.errors import InputError, StoreError
from motive_fo.store.merge import merge_stores
from motive_fo.store.run_store import RunStore


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A data folder of the test's own."""
    monkeypatch.setenv("MOTIVE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def named():
    """Names for datasets, which are deleted afterwards."""
    made: list[str] = []

    def name(of: str) -> str:
        made.append(f"{of}-{uuid.uuid4().hex[:8]}")
        return made[-1]

    yield name
    for each in made:
        if fo.dataset_exists(each):
            fo.delete_dataset(each)


@pytest.fixture
def moving(home, dataset):
    """A dataset whose motion is measured."""
    motive_fo.compute_motion(dataset)
    return dataset


def _store(dataset) -> Path:
    dataset.reload()
    return Path(load_run(dataset, "motive").store)


def _works_still(dataset) -> None:
    """The owner's store is whole, and its next step finds everything computed."""
    report = motive_fo.compute_motion(dataset)
    assert report.computed == 0, "nothing was lost"


def test_a_clone_reads_the_store_and_its_deletion_leaves_it(moving, named):
    copy = moving.clone(named("copy"), persistent=True)
    record = load_run(copy, "motive")
    assert held_by(record) == "copy"
    assert open_store(record).has_table("motion")
    with pytest.raises(StoreError, match=f"motive runs adopt {copy.name}"):
        motive_fo.compute_motion(copy)
    done = motive_fo.delete_run(copy)
    assert "left in place" in done.kept
    copy.reload()
    assert not copy.has_sample_field("motive")
    assert moving.has_sample_field("motive.status")
    _works_still(moving)


@pytest.mark.parametrize("way", ["view", "exported"])
def test_other_copies_are_copies_too(moving, named, tmp_path, way):
    if way == "view":
        copy = moving.limit(5).clone(named("copy"), persistent=True)
    else:
        moving.export(str(tmp_path / "out"), dataset_type=fo.types.FiftyOneDataset, export_media=False)
        copy = fo.Dataset.from_dir(str(tmp_path / "out"), fo.types.FiftyOneDataset, name=named("copy"))
    if not copy.has_run("motive"):  # an export without runs: fields without a record
        with pytest.raises(InputError, match="already a field or run"):
            motive_fo.compute_motion(copy)
    else:
        assert held_by(load_run(copy, "motive")) == "copy"
        motive_fo.delete_run(copy)
    assert _store(moving).is_dir()
    _works_still(moving)


def test_a_dataset_of_a_former_name_gets_a_store_of_its_own(moving, corpus, named):
    old = moving.name
    moving.name = named("renamed")
    motive_fo.import_clips(corpus.train_metadata.parent, old)
    other = fo.load_dataset(old)
    motive_fo.compute_motion(other)
    assert _store(other) != _store(moving)
    motive_fo.delete_run(other)
    assert not list(_store(moving).parent.glob(f"{_store(moving).stem}-*")), "its own store was deleted"
    _works_still(moving)


def test_names_with_one_slug_have_two_stores(home, corpus, named):
    one, two = named("a/b"), None
    two = one.replace("/", "-")
    for name in (one, two):
        motive_fo.import_clips(corpus.train_metadata.parent, name)
        motive_fo.compute_motion(name)
    try:
        assert _store(fo.load_dataset(one)) != _store(fo.load_dataset(two))
    finally:
        fo.delete_dataset(two)


def test_two_runs_cannot_share_one_store(moving):
    with pytest.raises(StoreError, match=r"is the store of run 'motive'.*motive runs adopt"):
        motive_fo.compute_motion(moving, "second", store=_store(moving))
    assert moving.list_runs() == ["motive"]


def test_an_older_record_reads_and_does_not_write(moving):
    record = load_run(moving, "motive")
    save_run(moving, replace(record, generation=record.generation - 1))  # as of a backup
    assert held_by(load_run(moving, "motive")) == "older"
    with pytest.raises(StoreError, match="another copy of the database"):
        motive_fo.compute_motion(moving)
    assert "left in place" in motive_fo.delete_run(moving).kept
    assert Path(record.store).is_dir()


def test_a_record_ahead_of_its_store_is_the_owners_still(moving):
    record = load_run(moving, "motive")
    save_run(moving, replace(record, generation=record.generation + 1))  # killed before the store was noted
    _works_still(moving)


def test_a_store_that_was_taken_over_is_not_even_read(moving, named):
    copy = moving.clone(named("copy"), persistent=True)
    store = _store(moving)
    with pytest.raises(InputError, match="--take"):
        motive_fo.adopt_store(copy, store)
    motive_fo.adopt_store(copy, store, take=True)
    _works_still(copy)
    moving.reload()
    with pytest.raises(StoreError, match="was taken over by run 'motive' of dataset 'copy"):
        open_store(load_run(moving, "motive"))
    with pytest.raises(StoreError, match="was taken over"):
        motive_fo.compute_motion(moving)
    motive_fo.delete_run(moving)
    assert store.is_dir()
    _works_still(copy)


def test_a_clone_adopts_a_copy_and_both_go_on(moving, named):
    copy = moving.clone(named("copy"), persistent=True)
    store = _store(moving)
    shutil.copytree(store, store.with_name("other.zarr"))
    done = motive_fo.adopt_store(copy, store.with_name("other.zarr"))
    assert done.clips == len(copy)
    assert not done.changed
    _works_still(copy)
    _works_still(moving)
    motive_fo.delete_run(copy)
    assert not store.with_name("other.zarr").exists()
    _works_still(moving)


def test_a_clone_adopts_what_its_original_left(moving, named):
    copy = moving.clone(named("copy"), persistent=True)
    store = _store(moving)
    fo.delete_dataset(moving.name)
    (orphan,) = orphans()
    assert f"motive runs adopt {copy.name} {store}" in str(orphan)
    motive_fo.adopt_store(copy, store)
    assert not list(orphans())
    _works_still(copy)


def test_a_store_of_other_clips_is_refused(moving, corpus, named, tmp_path):
    shutil.copytree(corpus.train_metadata.parent, tmp_path / corpus.train_metadata.parent.name)
    for file in (tmp_path / corpus.train_metadata.parent.name).glob("*.mp4"):
        file.write_bytes(file.read_bytes() + b"\0")  # another content under the same name
    name = named("other")
    motive_fo.import_clips(tmp_path / corpus.train_metadata.parent.name, name)
    with pytest.raises(InputError, match="other files"):
        motive_fo.adopt_store(name, _store(moving), take=True)
    elsewhere = named("elsewhere")
    motive_fo.import_clips(corpus.query_metadata.parent, elsewhere)
    moving.delete_samples(moving.match_tags("query"))
    assert load_run(moving, "motive").id == RunStore(_store(moving)).owner.run


def test_fiftyones_own_deletion_takes_fields_and_views_and_says_what_stays(moving, caplog):
    store, views = _store(moving), moving.list_saved_views()
    assert views
    with caplog.at_level(logging.WARNING):
        moving.delete_run("motive")
    assert f"stays in {store}" in caplog.text
    moving.reload()
    assert not moving.has_sample_field("motive")
    assert not moving.list_saved_views()
    (orphan,) = orphans()
    assert str(store) in str(orphan)
    assert f"motive runs adopt {moving.name}" in str(orphan)
    _works_still(moving)  # the run of that name takes its store up again
    assert not list(orphans())


def test_fiftyones_own_rename_renames_fields_and_the_fields_of_views(moving):
    before = moving.load_saved_view("motive: static").values("filepath")
    said = moving.values("motive.motion_mean")
    moving.rename_run("motive", "renamed")
    moving.reload()
    assert moving.values("renamed.motion_mean") == said
    assert not moving.has_sample_field("motive")
    assert moving.load_saved_view("motive: static").values("filepath") == before
    report = motive_fo.compute_motion(moving, "renamed")
    assert report.computed == 0
    motive_fo.delete_run(moving, "renamed")
    moving.reload()
    assert not moving.list_saved_views()
    assert not moving.has_sample_field("renamed")


def test_a_run_made_before_runs_had_ids_goes_on(moving):
    _as_before(moving)
    assert held_by(load_run(moving, "motive")) == "own"
    _works_still(moving)
    assert load_run(moving, "motive").id == RunStore(_store(moving)).owner.run


def test_a_clone_of_such_a_run_is_told_from_it(moving, named):
    _as_before(moving)
    copy = moving.clone(named("copy"), persistent=True)
    assert held_by(load_run(copy, "motive")) == held_by(load_run(moving, "motive")) == "shared"
    motive_fo.delete_run(copy)
    assert _store(moving).is_dir()
    _works_still(moving)


def _as_before(dataset) -> None:
    """The run as a version without ids has left it."""
    record = load_run(dataset, "motive")
    known = record.as_dict()
    for name in ("id", "dataset_id", "query_dataset_id", "generation"):
        del known[name]
    dataset.update_run_config("motive", dataset.init_run(method="motive-fo", record=json.dumps(known)))
    with RunStore(record.store, write=True) as store:
        store.note_owner(None)


def test_the_jobs_of_an_array_are_one_run(home, dataset):
    for part in ("1/2", "2/2"):
        motive_fo.compute_motion(dataset, shard=part)
    store = _store(dataset)
    parts = sorted(store.parent.glob("*shard*.zarr"))
    assert {RunStore(part).owner.run for part in parts} == {load_run(dataset, "motive").id}
    assert not list(orphans())
    assert merge_stores(store, parts).taken_up == []
    _works_still(dataset)
    assert not list(orphans())


def test_the_first_of_several_processes_gives_the_run_its_id(home, dataset):
    records = [ownership.open_run(dataset, "motive") for _ in range(3)]
    assert len({record.id for record in records}) == 3
    assert len({ownership.register_once(dataset, record).id for record in records}) == 1


def test_merge_says_whose_rows_it_took_up(moving, named, corpus):
    name = named("other")
    motive_fo.import_clips(corpus.train_metadata.parent, name)
    motive_fo.compute_motion(name)
    theirs = _store(fo.load_dataset(name))
    report = merge_stores(_store(moving), [theirs])
    assert report.taken_up == [f"run 'motive' of dataset {name!r}"]
    assert RunStore(_store(moving)).owner.run == load_run(moving, "motive").id


def test_a_refused_first_step_leaves_no_trace(home, dataset):
    with pytest.raises(InputError), open_step(dataset, "motive", None):
        raise InputError("refused")
    dataset.reload()
    assert dataset.list_runs() == []


def test_the_queries_of_the_original_keep_their_fields(home, corpus, named):
    clips, queries = named("clips"), named("queries")
    motive_fo.import_clips(corpus.train_metadata.parent, clips)
    motive_fo.import_clips(corpus.query_metadata.parent, queries)
    motive_fo.compute_gradients(clips, query=f"dataset:{queries}", attribution={"timesteps": (750.748,)})
    copy = fo.load_dataset(clips).clone(named("copy"), persistent=True)
    motive_fo.delete_run(copy)
    holder = fo.load_dataset(queries)
    holder.reload()
    assert holder.has_sample_field("motive.status")
    holder.name = named("queries-renamed")
    motive_fo.delete_run(clips)
    holder.reload()
    assert not holder.has_sample_field("motive"), "found under its new name"


def test_clips_merged_in_bear_no_figures_of_another_run(moving, corpus, named):
    other = fo.Dataset(named("other"))
    file = next(iter(corpus.query_metadata.parent.rglob("*.mp4")))
    other.add_sample(
        fo.Sample(filepath=str(file), motive_id="merged", motive=fo.DynamicEmbeddedDocument(status="scored"))
    )
    other.set_values("motive.motion_mean", [123.0])
    moving.merge_samples(other, key_field="motive_id")
    found = {check.subject: check for check in check_run(moving, "motive")}
    assert "merged" in found["dataset and store"].text
    report = motive_fo.compute_motion(moving.match_tags("train"))
    assert "merged" in " ".join(report.notes)
    moving.reload()
    assert moving.match({"motive_id": "merged"}).values("motive.motion_mean") == [None]
    assert {check.level for check in check_run(moving, "motive") if check.subject != "model"} == {"ok"}


def test_a_clone_selects_anew_from_the_original_scores(computed, named):
    copy = computed.clone(named("copy"), persistent=True)
    before = RunStore(load_run(computed, "motive").store).owner
    report = motive_fo.curate(copy, selection={"budget": 0.5})
    assert report.selected
    assert RunStore(load_run(computed, "motive").store).owner == before
    assert load_run(computed, "motive").section("selection").budget == 0.25
    with pytest.raises(StoreError, match="motive runs adopt"):
        motive_fo.score_influence(copy)
