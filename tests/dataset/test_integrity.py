"""Damage is planted in a run, one kind at a time, and the doctor has to say which."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import numpy as np
import pytest
import zarr

import motive_fo
from motive_fo.dataset import steps
from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.integrity import check_run
from motive_fo.dataset.run_record import load_run, save_run
from motive_fo.store.inspection import verify_store
from motive_fo.store.run_store import RunStore
from tests.dataset.conftest import ONE_TIMESTEP

TRAIN = "train/t750.748-n0"


@pytest.fixture(scope="module")
def run_of(database, corpus, tmp_path_factory):
    """A computed dataset, its store and a sound copy of the store."""
    name = f"integrity-{uuid.uuid4().hex[:8]}"
    motive_fo.import_clips(corpus.train_metadata.parent, name)
    motive_fo.import_clips(corpus.query_metadata.parent, name, role="query")
    motive_fo.compute_gradients(name, attribution=ONE_TIMESTEP)
    motive_fo.score_influence(name)
    motive_fo.curate(name, selection={"budget": 0.25})
    dataset = fiftyone().load_dataset(name)
    copy = tmp_path_factory.mktemp("sound") / "r.zarr"
    shutil.copytree(load_run(dataset, "motive").store, copy)
    yield dataset, copy
    fiftyone().delete_dataset(name)


@pytest.fixture
def store(run_of):
    """The store's folder, put right again afterwards."""
    dataset, copy = run_of
    place = load_run(dataset, "motive").store
    yield place
    shutil.rmtree(place)
    shutil.copytree(copy, place)


def _failing(dataset):
    found = {}
    for check in check_run(dataset, "motive"):
        if check.level == "fail":
            found[check.subject] = f"{found.get(check.subject, '')} {check.text}"
    return found


def test_a_sound_run_is_called_sound(run_of):
    assert {check.level for check in check_run(run_of[0], "motive") if check.subject != "model"} == {"ok"}


def _change(store, array, place, value):
    zarr.open_group(store, mode="a")[array][place] = value


def _flip_a_bit(store):
    chunk = next(p for p in (Path(store) / TRAIN / "sketch" / "c").rglob("*") if p.is_file())
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)


def _lose_a_chunk(store):
    next(p for p in (Path(store) / TRAIN / "sketch" / "c").rglob("*") if p.is_file()).unlink()


def _done(store):
    return int(np.flatnonzero(zarr.open_group(store, mode="r")[f"{TRAIN}/status"][:] == 1)[0])


def _repeat_a_sketch(store):
    states = zarr.open_group(store, mode="r")[f"{TRAIN}/status"][:]
    one, other = np.flatnonzero(states == 1)[:2].tolist()
    sketch = zarr.open_group(store, mode="a")[f"{TRAIN}/sketch"]
    sketch[other] = sketch[one]


@pytest.mark.parametrize(
    ("plant", "subject", "words"),
    [
        (_flip_a_bit, "store", "checksum"),
        (_lose_a_chunk, "store", "a chunk is missing"),
        (lambda s: _change(s, f"{TRAIN}/sketch", _done(s), np.nan), "store", "1 clips are done and have no finite"),
        (
            lambda s: _change(s, f"{TRAIN}/sketch", _done(s), 0.0),
            "store",
            "1 clips are done and have a sketch of zeros",
        ),
        (lambda s: _change(s, f"{TRAIN}/norm", _done(s), np.nan), "store", "have no finite norm"),
        (_repeat_a_sketch, "store", "1 clips have the sketch of another clip"),
        (lambda s: _change(s, "motion/mean", 0, 77.0), "dataset and store", "motion_mean of 1 samples"),
        (lambda s: _change(s, "influence/motion", slice(None), 0.5), "store", "the same score"),
    ],
    ids=["bit", "chunk", "nan", "zero", "norm", "repeated", "field", "constant"],
)
def test_planted_damage_is_named(run_of, store, plant, subject, words):
    plant(store)
    failing = _failing(run_of[0])
    (text,) = [text for name, text in failing.items() if name.startswith(subject)]
    assert words in text.lower()


def test_rows_that_wait_are_a_warning(run_of, store):
    _change(store, f"{TRAIN}/status", _done(store), 0)
    assert "1 of 15 clips are not computed yet" in " ".join(
        check.text for check in check_run(run_of[0], "motive") if check.level == "warn"
    )


def _sketches(store):
    sketches = RunStore(store).sketches("train")
    return sketches.read("sketch", sketches.ids)


@pytest.mark.parametrize("plant", [_flip_a_bit, _lose_a_chunk, lambda s: _change(s, f"{TRAIN}/sketch", _done(s), 0.0)])
def test_damage_is_repaired_by_computing_what_is_damaged_again(run_of, store, plant):
    dataset, _ = run_of
    before = _sketches(store)
    plant(store)
    check = verify_store(store, repair=True)
    assert check.problems
    (name,) = check.repaired
    assert name == TRAIN
    assert motive_fo.compute_gradients(dataset)["train"].computed == check.repaired[TRAIN] > 0
    assert verify_store(store).problems == []
    np.testing.assert_array_equal(_sketches(store), before)


def test_ids_twice_are_named(run_of, store):
    ids = zarr.open_group(store, mode="a")["motion/id"]
    ids[1:2] = np.asarray([str(ids[0])], dtype=np.dtypes.StringDType())
    assert "motion: 1 clips have several rows" in _failing(run_of[0])["store"]


def test_rows_without_a_sample_and_lost_views_are_named(run_of, store):
    dataset, _ = run_of
    with RunStore(store, write=True) as opened:
        opened.table("motion").register(["nobody.mp4"])
    assert "belong to no sample (nobody.mp4)" in _failing(dataset)["dataset and store"]
    record = load_run(dataset, "motive")
    record.views.append("motive: gone")
    save_run(dataset, record)
    try:
        assert "'motive: gone' is gone" in _failing(dataset)["record"]
    finally:
        record.views.remove("motive: gone")
        save_run(dataset, record)


def test_settings_that_are_not_the_stores_are_named(run_of):
    dataset, _ = run_of
    record = load_run(dataset, "motive")
    record.settings["motion"]["static_floor"] = 3.0
    save_run(dataset, record)
    try:
        assert "settings of mask" in _failing(dataset)["record"]
    finally:
        record.settings["motion"]["static_floor"] = 0.05
        save_run(dataset, record)


def test_an_outlying_gradient_is_a_warning(run_of, store):
    norms = zarr.open_group(store, mode="a")[f"{TRAIN}/norm"]
    norms[_done(store)] = norms[_done(store)] * 1e6
    (warned,) = [c for c in check_run(run_of[0], "motive") if c.level == "warn" and c.subject != "model"]
    assert warned.text.startswith("1 of 13 clips have a gradient of outlying length")


def test_a_kill_while_a_run_is_begun_is_no_reason_to_refuse_it(dataset, monkeypatch):
    """Found by killing at random moments: the fields were there, the record was not, and the run was refused."""
    real = steps.declare_fields

    def killed(dataset, run):
        fo = fiftyone()
        dataset.add_sample_field(run, fo.EmbeddedDocumentField, embedded_doc_type=fo.DynamicEmbeddedDocument)
        raise KeyboardInterrupt

    monkeypatch.setattr(steps, "declare_fields", killed)
    with pytest.raises(KeyboardInterrupt):
        motive_fo.compute_motion(dataset)
    monkeypatch.setattr(steps, "declare_fields", real)
    assert motive_fo.compute_motion(dataset).status["done"] > 0
    assert dataset.has_sample_field("motive.influence_rank")
