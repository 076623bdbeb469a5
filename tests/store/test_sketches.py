"""The tables of several timesteps and noises read as one."""

import numpy as np
import pytest

from motive_fo.errors import StoreError, StoreMismatchError
from motive_fo.store.run_store import RunStore
from motive_fo.store.sketches import Sample, samples_of
from motive_fo.store.table import Column, Row, Status

COLUMNS = {"sketch": Column("float32", (2, 4)), "norm": Column("float64", (2,))}
IDENTITY = {"model": {"name": "tiny"}, "parameters": {"include": ["*"], "exclude": []}}
A, B = Sample(750.748, 0), Sample(300.0, 7)


@pytest.fixture
def store(tmp_path):
    with RunStore(tmp_path / "run.zarr", write=True) as opened:
        yield opened


def _open(store, samples=(A, B), identity=IDENTITY, groups=("blocks.0", "head")):
    return store.sketches("train", samples, COLUMNS, identity, groups)


def _row(clip_id, value, status=Status.DONE, code=""):
    values = {"sketch": np.full((2, 4), value), "norm": np.full(2, value)}
    return Row(clip_id, status, code=code, message=f"{code} of {value}", content="x", values=values)


def test_numbers_are_stacked_over_samples_in_the_order_asked_for(store):
    written = _open(store)
    for value, sample in enumerate((A, B)):
        written.tables[sample].put(_row("a", float(value)))
    written.flush()
    read = store.sketches("train")
    assert read.samples == [A, B]
    assert read.groups == ["blocks.0", "head"]
    assert read.read("sketch", ["a"]).shape == (1, 2, 2, 4)
    assert read.read("norm", ["a"])[0, :, 0].tolist() == [0, 1]
    assert store.sketches("train", [B, A]).read("norm", ["a"])[0, :, 0].tolist() == [1, 0]
    assert store.sketches("train", [B]).read("norm", ["a"])[0, :, 0].tolist() == [1]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((Status.DONE, Status.DONE), Status.DONE),
        ((Status.DONE, Status.FAILED), Status.FAILED),
        ((Status.STATIC, Status.STATIC), Status.STATIC),
        ((Status.FAILED, Status.PENDING), Status.PENDING),
    ],
)
def test_a_clip_is_as_far_as_its_last_sample(store, states, expected):
    written = _open(store)
    for value, (sample, status) in enumerate(zip((A, B), states, strict=True)):
        written.tables[sample].register(["a"])
        if status != Status.PENDING:
            written.tables[sample].put(_row("a", value, status, code=status.name.lower()))
    written.flush()
    read = store.sketches("train")
    assert read.status("a") == expected
    assert read.status("never seen") == Status.PENDING
    if expected == Status.FAILED:
        assert read.read("message", ["a"]).tolist() == ["failed of 1"]  # of the sample that decides


def test_a_clip_that_a_kill_left_in_one_table_only_is_not_there_yet(store):
    _open(store).tables[A].register(["a"])
    read = store.sketches("train")
    assert "a" not in read
    assert read.ids == []
    assert read.status("a") == Status.PENDING


def test_other_settings_are_refused_before_anything_is_made(store):
    _open(store, [A])
    with pytest.raises(StoreMismatchError, match=r"parameters\.exclude: stored \[\], asked for \['\*\.bias'\]"):
        _open(store, [B], {**IDENTITY, "parameters": {"include": ["*"], "exclude": ["*.bias"]}})
    assert store.sketches("train").stored == [A]
    assert store.sketches("train").samples == [A]


def test_what_is_missing_is_named(store):
    with pytest.raises(StoreError, match="no gradients of query clips yet"):
        store.sketches("query")
    _open(store, [A])
    with pytest.raises(StoreError, match=r"at timestep 300, noise 7; it has: timestep 750\.748, noise 0\."):
        store.sketches("train", [A, B])


def test_samples_are_found_again_by_their_tables_names(store):
    asked = samples_of((0.1, 1 / 3, 1000.0), (0, 12345678901))
    _open(store, asked)
    assert store.sketches("train").stored == sorted(asked)
