"""A run split over the jobs of an array: its parts, the stores' merging, and what ``verify`` finds."""

import shutil

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from motive_fo_cli.main import main

from motive_fo.attribution.gradients import MASKED
from motive_fo.config import InfluenceConfig
from motive_fo.errors import ConfigError, StoreError, StoreMismatchError
from motive_fo.pipeline.scoring import score
from motive_fo.store.inspection import store_info, verify_store
from motive_fo.store.merge import merge_stores
from motive_fo.store.run_store import RunStore
from motive_fo.store.shards import Shard
from motive_fo.store.sketches import samples_of
from motive_fo.store.table import Column, Row, Status

DIMENSION = 8
SAMPLES = samples_of((750.748, 300.0), (0,))
COLUMNS = {"sketch": Column("float32", (2, DIMENSION)), "norm": Column("float64", (2,))}
TRAIN, QUERIES = [f"clip{n:02d}" for n in range(23)], ["q0", "q1", "q2"]
STATIC, FAILED = "clip05", "clip11"


def _sketch(clip_id, sample):
    rng = np.random.default_rng([*clip_id.encode(), int(sample.timestep)])
    return (1 + rng.normal(size=(2, DIMENSION))).astype(np.float32)


def _write(path, train=TRAIN, queries=QUERIES, *, seed=0, shard=None, pending=(), content="x"):
    with RunStore(path, write=True) as store:
        if shard:
            store.note_shard(str(shard))
        motion = store.table("motion", {"mean": Column("float64")}, {"estimator": "dis"})
        motion.claim({"estimator": "dis"}, {"packages": {}, "python": "3", "machine": "m", "device": "cpu"})
        for clip_id in (*queries, *train):
            motion.put(Row(clip_id, Status.DONE, content=content, values={"mean": 1.0}))
        motion.flush()
        for role, ids in (("query", queries), ("train", train)):
            tables = store.sketches(role, SAMPLES, COLUMNS, {"model": "none", "seed": seed}, ["head"])
            for sample, table in tables.tables.items():
                identity = {"model": "none", "seed": seed, "timestep": sample.timestep, "noise": sample.noise}
                table.claim(identity, {"packages": {}, "python": "3", "machine": "m", "device": "cpu"})
                table.register(ids)
                for clip_id in ids:
                    if clip_id in pending:
                        continue
                    if clip_id == FAILED:
                        table.put(Row(clip_id, Status.FAILED, code="decode_failed", content=content))
                        continue
                    sketch = _sketch(clip_id, sample)
                    if clip_id == STATIC:
                        sketch[MASKED] = np.nan
                    values = {"sketch": sketch, "norm": np.ones(2)}
                    state = Status.STATIC if clip_id == STATIC else Status.DONE
                    table.put(Row(clip_id, state, content=content, values=values))
            tables.flush()
        store.keep_parameters({"head.weight": 4})
    return path


@pytest.fixture
def parts(tmp_path):
    shards = [Shard(n, 4) for n in range(1, 5)]
    return [_write(s.place(tmp_path / "run.zarr"), s.take(TRAIN), s.take(QUERIES), shard=s) for s in shards]


@pytest.mark.parametrize("items", [0, 1, 7, 8, 23])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_shards_are_a_partition(items, count):
    parts = [Shard(n, count).take(range(items)) for n in range(1, count + 1)]
    assert [item for part in parts for item in part] == list(range(items))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["", "0/4", "5/4", "1", "a/b", "1/0", "-1/4"])
def test_a_shard_that_cannot_be_is_refused(text):
    with pytest.raises(ConfigError, match="a shard reads I/N"):
        Shard.parse(text)


def test_merged_shards_are_one_run(tmp_path, parts):
    whole = _write(tmp_path / "whole.zarr")
    report = merge_stores(tmp_path / "merged.zarr", parts)
    assert report.added["train/t750.748-n0"] == len(TRAIN)
    one, other = RunStore(whole), RunStore(tmp_path / "merged.zarr")
    for role in ("train", "query"):
        a, b = one.sketches(role), other.sketches(role)
        assert (a.ids, a.identity, a.groups, a.samples) == (b.ids, b.identity, b.groups, b.samples)
        assert [a.status(i) for i in a.ids] == [b.status(i) for i in a.ids]
        for column in ("sketch", "norm", "code", "content"):
            x, y = a.read(column, a.ids), b.read(column, a.ids)
            assert ((x == y) | ((x != x) & (y != y))).all(), column
    assert other.read_parameters() == {"head.weight": 4}
    assert verify_store(tmp_path / "merged.zarr").problems == []
    with RunStore(whole, write=True) as a, RunStore(tmp_path / "merged.zarr", write=True) as b:
        expected, made = (score(TRAIN, QUERIES, each, InfluenceConfig())[0] for each in (a, b))
    assert np.array_equal(expected.motion_QN, made.motion_QN, equal_nan=True)


def test_merging_twice_adds_nothing(tmp_path, parts):
    merge_stores(tmp_path / "run.zarr", parts)
    again = merge_stores(tmp_path / "run.zarr", parts)
    assert set(again.added.values()) == {0}
    assert RunStore(tmp_path / "run.zarr").sketches("train").ids == TRAIN


def test_a_missing_shard_or_clip_is_refused_unless_asked_for(tmp_path, parts):
    with pytest.raises(StoreError, match="shard 2/4 is not among the stores"):
        merge_stores(tmp_path / "run.zarr", [parts[0], *parts[2:]])
    third = Shard(3, 4)
    shutil.rmtree(parts[2])
    _write(parts[2], third.take(TRAIN), third.take(QUERIES), shard=third, pending=[third.take(TRAIN)[1]])
    with pytest.raises(StoreError, match=r"incomplete: 1 of 6 clips .* Run its shard again"):
        merge_stores(tmp_path / "run.zarr", parts)
    assert not (tmp_path / "run.zarr").exists()
    merge_stores(tmp_path / "run.zarr", parts, partial=True)
    assert len(RunStore(tmp_path / "run.zarr").sketches("train").ids) == len(TRAIN) - 1


def test_other_settings_are_refused_before_anything_is_written(tmp_path, parts):
    shutil.rmtree(parts[3])
    _write(parts[3], Shard(4, 4).take(TRAIN), Shard(4, 4).take(QUERIES), shard=Shard(4, 4), seed=1)
    with pytest.raises(StoreMismatchError, match="seed: stored 0, asked for 1"):
        merge_stores(tmp_path / "run.zarr", parts)
    assert not (tmp_path / "run.zarr").exists()


def test_a_clip_with_other_numbers_in_two_stores_is_refused(tmp_path):
    one = _write(tmp_path / "one.zarr", TRAIN[:4], QUERIES[:1])
    _write(tmp_path / "same.zarr", TRAIN[2:6], QUERIES[:1])
    merge_stores(tmp_path / "merged.zarr", [one, tmp_path / "same.zarr"])
    assert RunStore(tmp_path / "merged.zarr").sketches("train").ids == TRAIN[:6]
    _write(tmp_path / "changed.zarr", TRAIN[2:6], QUERIES[:1], content="y")
    with pytest.raises(StoreError, match=r"has other numbers in one\.zarr than in changed\.zarr"):
        merge_stores(tmp_path / "other.zarr", [one, tmp_path / "changed.zarr"])


def test_a_store_that_is_written_to_is_not_merged(tmp_path, parts):
    with RunStore(parts[1], write=True), pytest.raises(StoreError, match="another process is writing"):
        merge_stores(tmp_path / "run.zarr", parts)


def test_a_store_named_twice_is_refused(tmp_path, parts):
    with pytest.raises(StoreError, match="named twice"):
        merge_stores(parts[0], parts)


def test_info_counts_clips_and_tells_settings_apart(tmp_path):
    info = store_info(_write(tmp_path / "run.zarr"))
    assert info.tables["train/t750.748-n0"] == {"done": 21, "static": 1, "failed": 1}
    other = store_info(_write(tmp_path / "other.zarr", seed=1))
    assert info.fingerprints["motion"] == other.fingerprints["motion"]
    assert info.fingerprints["train/t300.0-n0"] != other.fingerprints["train/t300.0-n0"]


def _chunk(path, column, table="train/t300.0-n0"):
    return next(file for file in (path / table / column / "c").rglob("*") if file.is_file())


def _flip(path):
    data = bytearray(_chunk(path, "sketch").read_bytes())
    data[7] ^= 1
    _chunk(path, "sketch").write_bytes(data)


def _edit(path, column, row, value, table="train/t300.0-n0"):
    zarr.open_array(path / table / column, mode="r+")[row] = value


DAMAGE = {
    "checksum": (_flip, "column sketch, rows 0 to 22"),
    "missing chunk": (lambda path: _chunk(path, "sketch").unlink(), "22 clips are done and have no finite sketch"),
    "non-finite": (lambda path: _edit(path, "sketch", 3, np.inf), r"1 clips .* no finite sketch.*\(clip03\)"),
    "zeros": (lambda path: _edit(path, "sketch", 4, 0.0), r"sketch of zeros \(clip04\)"),
    "duplicate": (lambda path: _edit(path, "id", 1, "clip00"), r"1 clips have several rows \(clip00\)"),
    "orphan": (lambda path: _edit(path, "id", 1, "stranger"), r"1 clips have gradients and no motion \(stranger\)"),
    "repeated": (
        lambda path: _edit(path, "sketch", 4, zarr.open_array(path / "train/t300.0-n0/sketch")[3]),
        r"1 clips have the sketch of another clip \(clip04\)",
    ),
    "norm": (lambda path: _edit(path, "norm", 3, np.nan), r"no finite norm.*\(clip03\)"),
    "no reason": (lambda path: _edit(path, "code", 11, ""), r"failed without a reason \(clip11\)"),
    "status": (lambda path: _edit(path, "status", 2, 9), r"status that does not exist \(clip02\)"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_fails_the_command(tmp_path, kind):
    path = _write(tmp_path / "run.zarr")
    sound = CliRunner().invoke(main, ["store", "verify", str(path)])
    assert sound.exit_code == 0, sound.output
    damage, sentence = DAMAGE[kind]
    damage(path)
    check = verify_store(path)
    assert any(_matches(sentence, problem) for problem in check.problems), check.problems
    assert CliRunner().invoke(main, ["store", "verify", str(path)]).exit_code == 1


def _matches(pattern, text):
    import re

    return re.search(pattern, text) is not None


def test_a_store_can_be_read_while_it_is_written(tmp_path):
    path = tmp_path / "run.zarr"
    with RunStore(path, write=True) as store:
        table = store.table("train", COLUMNS, {"model": "none"})
        for n in range(3):
            table.put(Row(f"a{n}", Status.DONE, content="x", values={"sketch": np.full((2, DIMENSION), n)}))
            table.flush()
            table.register([f"b{n}"])  # has no numbers yet
            seen = RunStore(path).table("train")
            done = [i for i in seen.ids if seen.status(i) == Status.DONE]
            assert done == [f"a{k}" for k in range(n + 1)]
            assert seen.read("sketch", done)[:, 0, 0].tolist() == list(range(n + 1))
