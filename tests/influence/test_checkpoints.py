"""``checkpoints`` and ``overlap`` through the store: several runs as one model's checkpoints."""

import numpy as np
import pytest

from motive_fo.attribution.gradients import MASKED
from motive_fo.config import InfluenceConfig
from motive_fo.errors import ConfigError, StoreError, StoreMismatchError
from motive_fo.influence.checkpoints import checkpoint_weights, weighted_mean
from motive_fo.influence.leakage import mask_overlap, without_overlap
from motive_fo.pipeline.scoring import sample_scores, score
from motive_fo.store.run_store import RunStore
from motive_fo.store.sketches import samples_of
from motive_fo.store.table import Column, Row, Status

DIMENSION, GRID = 12, (2, 3, 3)
SAMPLES = samples_of((750.748, 300.0), (0,))
COLUMNS = {"sketch": Column("float32", (2, DIMENSION)), "norm": Column("float64", (2,))}
TRAIN, QUERIES, STATIC = [f"clip{n}" for n in range(15)], ["wanted", "other"], "clip3"
MODEL = {"name": "tiny", "objective": "flow", "weights": "early"}


def _identity(**model):
    return {"clip": {"fps": 16}, "model": MODEL | model}


def _write(path, seed, identity, *, content="x", query_status=Status.DONE, train=TRAIN):
    rng = np.random.default_rng(seed)
    masks = np.random.default_rng(77)
    with RunStore(path, write=True) as store:
        motion = store.table("motion", {"mask": Column("float32", GRID)}, {})
        for clip_id in (*TRAIN, *QUERIES):
            mask = masks.uniform(size=GRID).astype(np.float32)
            state = Status.STATIC if clip_id == STATIC else Status.DONE
            motion.put(Row(clip_id, state, content=content, values={"mask": mask}))
        motion.flush()
        for role, ids in (("train", train), ("query", QUERIES)):
            tables = store.sketches(role, SAMPLES, COLUMNS, identity)
            for table in tables.tables.values():
                for clip_id in ids:
                    sketch = rng.normal(size=(2, DIMENSION)).astype(np.float32)
                    failed = clip_id == "other" and query_status == Status.FAILED
                    state = Status.FAILED if failed else Status.STATIC if clip_id == STATIC else Status.DONE
                    if clip_id == STATIC:
                        sketch[MASKED] = np.nan
                    values = {} if failed else {"sketch": sketch, "norm": np.ones(2)}
                    table.put(Row(clip_id, state, content=content, code="broken" if failed else "", values=values))
            tables.flush()
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    weights = {"early": {}, "late": {"weights": "late"}, "last": {"weights": "last"}}
    return {
        name: _write(folder / f"{name}.zarr", n, _identity(**model)) for n, (name, model) in enumerate(weights.items())
    }


@pytest.fixture
def stores(runs):
    with RunStore(runs["early"], write=True) as early:
        yield early, {name: RunStore(path) for name, path in runs.items() if name != "early"}


def _alone(path, config=None):
    with RunStore(path, write=True) as store:
        return score(TRAIN, QUERIES, store, config or InfluenceConfig())[0]


@pytest.mark.parametrize("combine", ["mean-cosine", "mean-zscore"])
def test_checkpoints_are_the_weighted_mean_of_their_runs(runs, combine):
    alone = {name: _alone(path, InfluenceConfig(combine=combine)) for name, path in runs.items()}
    with RunStore(runs["early"], write=True) as early:
        others = {name: RunStore(runs[name]) for name in ("late", "last")}
        config = InfluenceConfig(combine=combine, checkpoints=("late=0.5", "last=2"))
        together, _ = score(TRAIN, QUERIES, early, config, others=others)
    for kind in ("motion_QN", "whole_QN"):
        expected = sum(w * getattr(alone[n], kind) for n, w in (("early", 1), ("late", 0.5), ("last", 2))) / 3.5
        np.testing.assert_allclose(getattr(together, kind), expected, atol=1e-6)


def test_all_weights_scaled_alike_and_the_order_of_checkpoints_change_nothing(stores):
    early, others = stores
    found = [
        score(TRAIN, QUERIES, early, InfluenceConfig(checkpoints=names), others=others)[0].motion_QN
        for names in (("late=1", "last=1"), ("last=1", "late=1"))
    ]
    np.testing.assert_allclose(*found, atol=1e-7)
    arrays = [np.random.default_rng(n).normal(size=(2, 5)).astype(np.float32) for n in range(3)]
    np.testing.assert_allclose(weighted_mean(arrays, [1, 2, 3]), weighted_mean(arrays, [10, 20, 30]), atol=1e-6)


def test_single_samples_are_weighted_as_the_run_is(stores):
    early, others = stores
    config = InfluenceConfig(checkpoints=("late=0.5",), overlap="remove")
    each = sample_scores(TRAIN, QUERIES, early, config, others=others)
    whole = score(TRAIN, QUERIES, early, config, others=others)[0]
    np.testing.assert_allclose(each.scores_SQN.mean(0), whole.motion_QN, atol=1e-6)


def test_overlap_is_regressed_out_of_the_motion_scores_alone(stores):
    early, _ = stores
    plain = score(TRAIN, QUERIES, early, InfluenceConfig())[0]
    left = score(TRAIN, QUERIES, early, InfluenceConfig(overlap="remove"))[0]
    table = early.table("motion")
    masks = [table.read("mask", ids).reshape(len(ids), -1).copy() for ids in (QUERIES, TRAIN)]
    masks[1][TRAIN.index(STATIC)] = np.nan  # what is stored for a static clip is noise
    expected = without_overlap(plain.motion_QN, mask_overlap(*masks))
    np.testing.assert_allclose(left.motion_QN, expected, atol=1e-6)
    assert np.nanmax(np.abs(left.motion_QN - plain.motion_QN)) > 0.01
    assert np.array_equal(left.whole_QN, plain.whole_QN)
    assert np.isnan(left.motion_QN[:, TRAIN.index(STATIC)]).all()


def test_the_weights_of_this_run_twice_are_refused(runs, tmp_path):
    same = _write(tmp_path / "same.zarr", 9, _identity())
    with RunStore(runs["early"], write=True) as early, pytest.raises(ConfigError, match="very weights of this run"):
        score(TRAIN, QUERIES, early, InfluenceConfig(checkpoints=("same=1",)), others={"same": RunStore(same)})


def test_another_kind_of_model_and_other_settings_are_refused(runs, tmp_path):
    other = _write(tmp_path / "other.zarr", 9, _identity(name="wan"))
    config = InfluenceConfig(checkpoints=("it=1",))
    with RunStore(runs["early"], write=True) as early:
        with pytest.raises(ConfigError, match=r"is of wan \(flow\), this run of tiny \(flow\)"):
            score(TRAIN, QUERIES, early, config, others={"it": RunStore(other)})
        faster = _write(tmp_path / "faster.zarr", 9, {**_identity(weights="late"), "clip": {"fps": 24}})
        with pytest.raises(StoreMismatchError, match=r"run 'it'.*clip\.fps: stored 24, asked for 16"):
            score(TRAIN, QUERIES, early, config, others={"it": RunStore(faster)})


def test_clips_that_are_missing_or_were_changed_are_refused(runs, tmp_path):
    config = InfluenceConfig(checkpoints=("it=1",))
    with RunStore(runs["early"], write=True) as early:
        fewer = _write(tmp_path / "fewer.zarr", 9, _identity(weights="late"), train=TRAIN[:-2])
        with pytest.raises(StoreError, match=r"no gradients of 2 of 15 training clips \(clip13\)"):
            score(TRAIN, QUERIES, early, config, others={"it": RunStore(fewer)})
        changed = _write(tmp_path / "changed.zarr", 9, _identity(weights="late"), content="y")
        with pytest.raises(StoreError, match="15 of 15 training clips were changed"):
            score(TRAIN, QUERIES, early, config, others={"it": RunStore(changed)})
        with pytest.raises(ConfigError, match="the store of run 'it' was not given"):
            score(TRAIN, QUERIES, early, config)


def test_a_query_that_fails_in_one_checkpoint_is_left_out_of_all(runs, tmp_path):
    failing = _write(tmp_path / "it.zarr", 9, _identity(weights="late"), query_status=Status.FAILED)
    with RunStore(runs["early"], write=True) as early:
        config = InfluenceConfig(checkpoints=("it=1",))
        scores, report = score(TRAIN, QUERIES, early, config, others={"it": RunStore(failing)})
    assert scores.query_ids == ["wanted"]
    assert scores.motion_QN.shape == (1, 15)
    assert scores.refused == {"other": "broken"}
    assert "1 of 2 queries left out" in report.notes[0]


@pytest.mark.parametrize("text", ["late", "late=", "=1", "late=0", "late=-1", "late=nan", "late=much"])
def test_a_checkpoint_reads_run_and_weight(text):
    with pytest.raises(ConfigError, match=r"RUN=WEIGHT"):
        checkpoint_weights([text])


def test_a_run_has_one_weight():
    assert checkpoint_weights(["a=1", "b-2 = 1e-5"]) == {"a": 1.0, "b-2": 1e-5}
    with pytest.raises(ConfigError, match="named twice"):
        checkpoint_weights(["a=1", "a=2"])
