"""Whatever the attributes of a store say, it is read or refused in one sentence, and checking it never fails."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from motive_fo.config import InfluenceConfig
from motive_fo.errors import MotiveError
from motive_fo.pipeline.scoring import score
from motive_fo.store.inspection import store_info, verify_store
from motive_fo.store.run_store import RunStore
from motive_fo.store.sketches import samples_of
from motive_fo.store.table import Column, Row, Status
from tests.fuzz.strategies import PLAIN, spoiled

TRAIN, QUERIES = [f"t{n}" for n in range(6)], ["q0", "q1"]
COLUMNS = {"sketch": Column("float32", (2, 8)), "norm": Column("float64", (2,))}
GROUPS = ("", "motion", "train", "train/t750.0-n0", "query", "query/t750.0-n0", "influence")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "run.zarr"
    rng = np.random.default_rng(0)
    who = {"packages": {}, "python": "3", "machine": "m", "device": "cpu"}
    with RunStore(path, write=True) as store:
        motion = store.table("motion", {"mean": Column("float64")}, {"estimator": "dis"})
        motion.claim({"estimator": "dis"}, who)
        for clip_id in (*TRAIN, *QUERIES):
            motion.put(Row(clip_id, Status.DONE, content="x", values={"mean": 1.0}))
        motion.flush()
        for role, ids in (("train", TRAIN), ("query", QUERIES)):
            tables = store.sketches(role, samples_of((750.0,), (0,)), COLUMNS, {"model": "none"}, ["head"])
            for sample, table in tables.tables.items():
                table.claim({"model": "none", "timestep": sample.timestep, "noise": sample.noise}, who)
                for clip_id in ids:
                    values = {"sketch": rng.normal(size=(2, 8)), "norm": np.ones(2)}
                    table.put(Row(clip_id, Status.DONE, content="x", values=values))
            tables.flush()
        store.keep_parameters({"head.weight": 4})
        score(TRAIN, QUERIES, store, InfluenceConfig())
    assert verify_store(path).problems == []
    return path


def _spoil(path, group, make):
    file = path / group / "zarr.json"
    data = json.loads(file.read_text())
    data["attributes"] = make(data["attributes"])
    file.write_text(json.dumps(data))


def _look(path):
    """Everything that reads a store; a sentence is an answer."""
    for read in (
        lambda: store_info(path),
        lambda: verify_store(path),
        lambda: RunStore(path).read_scores("motion"),
        lambda: RunStore(path).sketches("train").ids,
        lambda: _score(path),
    ):
        with suppress(MotiveError):
            read()


def _score(path):
    with RunStore(path, write=True) as store:
        score(TRAIN, QUERIES, store, InfluenceConfig())


@pytest.mark.parametrize("group", GROUPS)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_attributes(sound, tmp_path_factory, group, data):
    path = tmp_path_factory.mktemp("fuzz") / "run.zarr"
    shutil.copytree(sound, path)

    def make(attributes):
        return data.draw(st.dictionaries(st.text(max_size=5), PLAIN) | (spoiled(attributes) if attributes else PLAIN))

    _spoil(path, group, make)
    _look(path)
    shutil.rmtree(path)
