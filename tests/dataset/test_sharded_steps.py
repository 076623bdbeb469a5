"""The jobs of an array on a real database: parts apart, joined, and the fields written from what they computed."""

import numpy as np
import pytest

import motive_fo
from motive_fo.dataset.run_record import has_run
from motive_fo.errors import ConfigError
from motive_fo.store.merge import merge_stores
from motive_fo.store.run_store import RunStore
from motive_fo.store.shards import Shard
from tests.dataset.conftest import ONE_TIMESTEP


def test_shards_joined_are_what_one_process_computes(dataset, computed, tmp_path):
    place = tmp_path / "run.zarr"
    for n in (1, 2):
        motive_fo.compute_gradients(dataset, store=place, shard=f"{n}/2", attribution=ONE_TIMESTEP)
    assert has_run(dataset, "motive"), "all jobs are one run, which has an id before the first row is written"
    assert not dataset.has_sample_field("motive")
    assert not place.exists()
    merge_stores(place, [Shard(n, 2).place(place) for n in (1, 2)])
    reports = motive_fo.compute_gradients(dataset, store=place, attribution=ONE_TIMESTEP)
    assert [report.computed for report in reports.values()] == [0, 0]
    assert dataset.values("motive.status") == [
        "sketched" if status == "scored" else status for status in computed.values("motive.status")
    ]
    from motive_fo.dataset.run_record import load_run

    one, other = (RunStore(load_run(each, "motive").store).sketches("train") for each in (dataset, computed))
    assert sorted(one.ids) == sorted(other.ids)
    assert np.array_equal(one.read("sketch", one.ids), other.read("sketch", one.ids), equal_nan=True)


def test_a_shard_that_cannot_be_leaves_no_trace(dataset, tmp_path):
    with pytest.raises(ConfigError, match="a shard reads I/N"):
        motive_fo.compute_motion(dataset, store=tmp_path / "run.zarr", shard="3/2")
    assert not has_run(dataset, "motive")
    assert not list(tmp_path.iterdir())
