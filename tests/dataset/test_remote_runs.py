"""A run whose store lies at a URL, in memory and by S3: every step, what looks at it, and its end."""

from pathlib import Path

import fsspec
import numpy as np
import pytest

import motive_fo
from motive_fo.dataset.exploration import explore, obstacle
from motive_fo.dataset.integrity import check_run
from motive_fo.dataset.overlay_files import overlay_folder
from motive_fo.dataset.run_record import load_run
from motive_fo.errors import InputError, StoreError
from motive_fo.store.merge import merge_stores
from motive_fo.store.run_store import RunStore
from motive_fo.store.shards import Shard
from motive_fo.store.table import Table
from tests.dataset.conftest import ONE_TIMESTEP


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.slow)])
def url(request, name):
    base = "memory:/" if request.param == "memory" else request.getfixturevalue("bucket")
    return f"{base}/{name}/run.zarr"


def test_a_run_at_a_url_is_the_run_in_a_folder(dataset, computed, url, tmp_path):
    motive_fo.compute_motion(dataset, store=url)
    assert motive_fo.compute_motion(dataset, store=url + "/").computed == 0
    with pytest.raises(InputError, match=f"keeps its store in {url}"):
        motive_fo.compute_motion(dataset, store=tmp_path / "other.zarr")
    motive_fo.compute_gradients(dataset, attribution=ONE_TIMESTEP)
    motive_fo.score_influence(dataset)
    motive_fo.curate(dataset, selection={"budget": 0.25})

    record, other = load_run(dataset, "motive"), load_run(computed, "motive")
    assert record.store == url
    assert not list(Path.cwd().glob("*:"))  # taken for a relative path
    for role in ("train", "query"):
        one, same = (RunStore(each.store).sketches(role) for each in (record, other))
        assert one.ids == same.ids
        assert np.array_equal(one.read("sketch", one.ids), same.read("sketch", one.ids), equal_nan=True)
    for field in ("influence", "votes", "rank", "selected", "status", "motion_mean"):
        assert dataset.values(f"motive.{field}") == computed.values(f"motive.{field}")

    assert obstacle(record) is None
    assert explore(dataset, record) is explore(dataset, record)
    assert {check.level for check in check_run(dataset, "motive") if check.subject != "model"} == {"ok"}
    assert motive_fo.replay_run(dataset, sample=2).verdict == "equal"
    motive_fo.write_report(dataset, tmp_path / "report.html")
    assert motive_fo.write_overlays(dataset).clips
    pictures = overlay_folder(record)
    assert pictures.is_dir()

    motive_fo.delete_run(dataset)
    assert fsspec.filesystem(url.partition(":")[0]).find(url.removesuffix("/run.zarr")) == []
    assert not pictures.exists()


def test_storage_that_goes_away_in_a_step_is_one_sentence_and_the_step_goes_on(dataset, url, monkeypatch):
    def gone(*_):
        raise ConnectionResetError("nobody answers")

    monkeypatch.setattr(Table, "flush", gone)
    with pytest.raises(StoreError, match=f"cannot write to {url}: nobody answers; mend the connection, then run the"):
        motive_fo.compute_motion(dataset, store=url)
    monkeypatch.undo()
    assert motive_fo.compute_motion(dataset, store=url).status["done"]


def test_shards_at_a_url_are_joined_there(dataset, computed, url):
    for n in (1, 2):
        motive_fo.compute_gradients(dataset, store=url, shard=f"{n}/2", attribution=ONE_TIMESTEP)
    merge_stores(url, [Shard(n, 2).place(url) for n in (1, 2)])
    reports = motive_fo.compute_gradients(dataset, store=url, attribution=ONE_TIMESTEP)
    assert [report.computed for report in reports.values()] == [0, 0]
    one, same = (RunStore(load_run(each, "motive").store).sketches("train") for each in (dataset, computed))
    assert np.array_equal(one.read("sketch", same.ids), same.read("sketch", same.ids), equal_nan=True)
