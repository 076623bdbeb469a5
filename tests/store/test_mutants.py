"""What the tables and the store promise in detail: each line here fails where some line of theirs is changed."""

import errno
import shutil
from dataclasses import replace

import numpy as np
import pytest
import zarr

from motive_fo.errors import StoreError, StoreMismatchError
from motive_fo.store import table as table_module
from motive_fo.store.identity import provenance
from motive_fo.store.place import Folder
from motive_fo.store.run_store import RunStore, delete_store
from motive_fo.store.sketches import samples_of
from motive_fo.store.table import Column, Row, Status, Table

COLUMNS = {"sketch": Column("float32", (2, 3)), "norm": Column("float64"), "count": Column("int64")}
COMMON = ["code", "stage", "message", "size", "mtime_ns", "decoder", "content"]
WORDS = {"note": Column("str")}


@pytest.fixture
def group(tmp_path):
    return zarr.open_group(tmp_path / "run.zarr", mode="a")


def _row(clip_id, value=1.0, status=Status.DONE):
    values = {"sketch": np.arange(6).reshape(2, 3) + value, "norm": value, "count": int(value)}
    return Row(clip_id, status, "code", f"stage {value}", "why", 5, 6, f"digest {value}", "pyav 1", values)


def _filled(group, name, ids, columns=COLUMNS):
    table = Table(group, name, columns)
    for n, clip_id in enumerate(ids):
        table.put(_row(clip_id, float(n)))
    table.flush()
    return table


def _contents(table, ids):
    """Every column of the rows, and their states."""
    found = {column: table.read(column, ids).tolist() for column in table.columns}
    return found | {"status": table.states(ids).tolist()}


# -- a table's arrays ------------------------------------------------------------------------------------------------


def test_arrays_are_laid_out_as_the_module_says(group, monkeypatch):
    monkeypatch.setattr(table_module, "CHUNK_ROWS", 8)
    monkeypatch.setattr(table_module, "CHUNK_BYTES", 64)
    table = Table(
        group, "train", {**COLUMNS, "wide": Column("float32", (100,)), "none": Column("float32", (0,)), **WORDS}
    )
    arrays = dict(table._group.arrays())
    chunks = {name: array.chunks for name, array in arrays.items()}
    assert chunks["sketch"] == (2, 2, 3)  # 24 bytes a row, 64 a chunk
    assert (chunks["norm"], chunks["id"], chunks["status"], chunks["note"]) == ((8,), (8,), (8,), (8,))
    assert chunks["wide"] == (1, 100)  # one row at least
    assert np.isnan(arrays["norm"].fill_value)
    assert (arrays["count"].fill_value, arrays["note"].fill_value, arrays["status"].dtype) == (0, "", np.uint8)
    assert [arrays[name].dtype for name in ("size", "mtime_ns", "count", "norm")] == ["int64"] * 3 + ["float64"]
    assert all(arrays[name].dtype.kind == "T" for name in ("id", "code", "stage", "message", "decoder", "content"))
    kinds = {name: [type(c).__name__ for c in array.compressors] for name, array in arrays.items()}
    assert kinds["sketch"] == ["Crc32cCodec"]
    assert kinds["note"] != ["Crc32cCodec"]


@pytest.mark.parametrize("write", [True, False])
def test_columns_are_known_by_name_dtype_and_shape(group, write):
    _filled(group, "train", ["a", "b"], {**COLUMNS, **WORDS})
    table = Table(group, "train", {**COLUMNS, **WORDS} if write else None)
    assert sorted(table.columns) == sorted([*COLUMNS, *WORDS, *COMMON])
    assert table.own_columns == {**COLUMNS, **WORDS}
    assert table.unique_ids == {"a", "b"}
    assert len(table) == 2
    assert "a" in table
    assert "c" not in table
    assert table.name == "train"


def test_everything_of_a_row_is_read_back(group):
    _filled(group, "train", ["a", "b"])
    again = Table(group, "train")
    row = _row("b", 1.0)
    for name in COMMON:
        assert again.read(name, ["b"])[0] == getattr(row, name)
        assert isinstance(again.read(name, ["b"])[0], str if isinstance(getattr(row, name), str) else np.integer)
    for name, value in row.values.items():
        assert np.array_equal(again.read(name, ["b"])[0], value)


def test_a_row_that_says_little_has_its_defaults(group):
    table = Table(group, "train", COLUMNS)
    table.put(Row("a", Status.STATIC))
    assert {name: table.read(name, ["a"])[0] for name in COMMON} == {
        "code": "", "stage": "", "message": "", "size": -1, "mtime_ns": -1, "decoder": "", "content": ""
    }  # fmt: skip
    assert Table(group, "train").status("a") == Status.STATIC


def test_a_column_the_table_has_not_is_named(group):
    with pytest.raises(
        StoreError, match=r"^the table 'train' has no column 'flow': the store is damaged or of another"
    ):
        _filled(group, "train", ["a"]).read("flow", ["a"])


def test_rows_of_another_shape_are_named(group):
    Table(group, "train", COLUMNS)
    with pytest.raises(StoreError, match=r"^column 'norm' of the table 'train' has rows of shape \(\), not \(2,\)$"):
        Table(group, "train", {**COLUMNS, "norm": Column("float64", (2,))})


# -- rows ------------------------------------------------------------------------------------------------------------


def test_registering_keeps_places_and_skips_what_is_known(group):
    table = Table(group, "train", COLUMNS)
    table.register([])
    table.register(["a", "b", "a"])
    table.register(["b", "c"])
    assert table.ids == ["a", "b", "c"]
    assert table.places(["c", "x", "a"]).tolist() == [2, -1, 0]
    assert table.states(["c", "x", "a"]).tolist() == [0, 0, 0]
    assert Table(group, "train").ids == ["a", "b", "c"]
    with pytest.raises(StoreError, match=r"^a clip without an id cannot be stored$"):
        table.register(["d", ""])
    assert table.ids == ["a", "b", "c"]


def test_states_of_many_are_those_of_each(group):
    table = Table(group, "train", COLUMNS)
    for n, status in enumerate(Status):
        table.put(_row(f"c{n}", 1.0, status))
    ids = ["c3", "none", "c1", "c0", "c2"]
    assert table.states(ids).tolist() == [table.status(clip_id) for clip_id in ids] == [3, 0, 1, 0, 2]
    assert table.states(ids).dtype == np.uint8
    assert Table(group, "train").ids == ["c0", "c1", "c2", "c3"]


def test_rows_wait_until_a_chunk_is_full(group, monkeypatch):
    monkeypatch.setattr(table_module, "CHUNK_ROWS", 3)
    monkeypatch.setattr(table_module, "FLUSH_SECONDS", 1e9)
    table = Table(group, "train", COLUMNS)
    done = []
    for n in range(7):
        table.put(_row(f"c{n}"))
        done.append(int(np.count_nonzero(Table(group, "train")._status)))
    assert done == [0, 0, 3, 3, 3, 6, 6]


def test_rows_wait_for_seconds_since_the_last_flush(group, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(table_module.time, "monotonic", lambda: now[0])
    table = Table(group, "train", COLUMNS)
    done = []
    for moment in (101.0, 103.0, 103.5, 106.0, 106.5, 106.6):  # three seconds exactly are not more than three
        now[0] = moment
        table.put(_row(f"c{moment}"))
        done.append(int(np.count_nonzero(Table(group, "train")._status)))
    assert done == [0, 0, 3, 3, 3, 6]


def test_a_finished_row_is_pending_while_it_is_written_again(group, monkeypatch):
    table = _filled(group, "train", ["a", "b", "c"])
    seen = []
    stack = table_module._stack
    monkeypatch.setattr(
        table_module, "_stack", lambda *args: seen.append(Table(group, "train").states(["a", "b", "c"])) or stack(*args)
    )
    table.put(_row("b", 9.0))
    table.flush()
    assert {tuple(states.tolist()) for states in seen} == {(1, 0, 1)}
    assert Table(group, "train").states(["a", "b", "c"]).tolist() == [1, 1, 1]


@pytest.mark.parametrize("asked", [[2, 3, 4], [4, 3, 2], [2, 4], [0, 11], [11, 0, 5], [3, 3], [5], list(range(12)), []])
def test_rows_are_read_in_the_order_asked_for(group, asked, monkeypatch):
    """Runs of rows, dense ones and sparse ones take different ways."""
    monkeypatch.setattr(table_module, "CHUNK_ROWS", 4)
    ids = [f"c{n}" for n in range(12)]
    table = _filled(group, "train", ids)
    wanted = [ids[n] for n in asked]
    assert table.read("norm", wanted).tolist() == asked
    assert table.read("sketch", wanted)[:, 1, 2].tolist() == [n + 5 for n in asked]
    assert table.read("content", wanted).tolist() == [f"digest {float(n)}" for n in asked]
    kinds = {name: table.read(name, wanted).dtype for name in ("norm", "content", "sketch")}
    assert kinds == {"norm": np.float64, "content": object, "sketch": np.float32}


def test_reading_by_places_sees_rows_that_wait(group):
    table = Table(group, "train", COLUMNS)
    table.put(_row("a", 4.0))
    assert table.read_places("norm", np.asarray([0])).tolist() == [4.0]


def test_the_first_unknown_clip_is_named(group):
    table = _filled(group, "train", ["a", "b"])
    with pytest.raises(StoreError, match=r"^the table 'train' has no row for 'x'$"):
        table.read("norm", ["a", "x", "y"])


# -- taking over and giving up ---------------------------------------------------------------------------------------


def test_copied_rows_are_the_same_in_any_order(group):
    columns = {**COLUMNS, **WORDS}
    source = Table(group, "source", columns)
    ids = [f"c{n}" for n in range(6)]
    for n, clip_id in enumerate(ids):
        row = _row(clip_id, float(n), Status(n % 3 + 1))
        source.put(replace(row, values={**row.values, "note": f"é{n}"}))  # waits in memory
    target = Table(group, "target", columns)
    target.put(_row("own", 70.0))  # so does this
    target.register(["c4", "c1"])
    target.copy(source, ["c5", "c1", "c4", "c0"])
    taken = ["c0", "c1", "c4", "c5"]
    assert _contents(target, taken) == _contents(source, taken)
    again = Table(group, "target")
    assert again.ids == ["own", "c4", "c1", "c5", "c0"]
    assert _contents(again, taken) == _contents(Table(group, "source"), taken)
    assert again.read("norm", ["own"]).tolist() == [70.0]
    assert again.status("own") == Status.DONE
    with pytest.raises(StoreError, match="no row for 'none'"):
        target.copy(source, ["none"])


def test_discarded_rows_are_to_be_computed_again(group):
    table = _filled(group, "train", ["a", "b", "c"])
    table.put(_row("b", 50.0))
    table.discard(["c", "b"])
    for each in (table, Table(group, "train")):
        assert each.states(["a", "b", "c"]).tolist() == [1, 0, 0]
    table.discard([])
    assert table.read("norm", ["a", "b"]).tolist() == [0.0, 50.0]


def test_damaged_chunks_are_emptied_and_the_rest_is_kept(group, monkeypatch):
    monkeypatch.setattr(table_module, "CHUNK_ROWS", 2)
    table = _filled(group, "train", ["a", "b", "c", "d", "e"])
    assert list(table.chunks("norm", 0, 5)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert list(table.chunks("norm", 1, 2)) == [slice(0, 2)]
    assert list(table.chunks("norm", 3, 4)) == [slice(2, 4)]
    assert list(table.chunks("norm", 2, 5)) == [slice(2, 4), slice(4, 5)]
    for column in ("norm", "content", "count", "sketch"):
        path = group.store.root / "train" / column / "c"
        chunk = next(p for p in path.rglob("*") if p.is_file() and p.relative_to(path).parts[0] == "1")
        chunk.write_bytes(b"damaged")
    rows = slice(2, 4)
    table.discard(["c", "d"], [(column, rows) for column in ("norm", "content", "count", "sketch")])
    again = Table(group, "train")
    assert again.states(["a", "b", "c", "d", "e"]).tolist() == [1, 1, 0, 0, 1]
    np.testing.assert_array_equal(again.read("norm", again.ids), [0, 1, np.nan, np.nan, 4])
    assert again.read("content", again.ids).tolist() == ["digest 0.0", "digest 1.0", "", "", "digest 4.0"]
    assert again.read("count", again.ids).tolist() == [0, 1, 0, 0, 4]
    assert np.isnan(again.read("sketch", ["c", "d"])).all()


def test_rows_are_rounded_as_they_will_be_read(group):
    half = {"sketch": Column("float16", (2, 3)), "sketch_exponent": Column("int16", (2,)), "norm": Column("float64")}
    table = Table(group, "train", half)
    values = np.asarray([[1.0001e6, 3e-3, 7.7], [1e-7, 2e-7, 3.3e-7]], np.float32)
    table.put(Row("a", Status.DONE, values={"sketch": values, "norm": 1 / 3}))
    table.put(Row("b", Status.FAILED, "code", values={"norm": 2.0}))
    assert np.array_equal(table.read("sketch", ["a"])[0], table.rounded("sketch", values))
    assert not np.array_equal(table.rounded("sketch", values), values)
    assert table.rounded("norm", np.asarray([1 / 3]))[0] == table.read("norm", ["a"])[0] == 1 / 3
    assert np.isnan(table.read("sketch", ["b"])).all()


# -- identity --------------------------------------------------------------------------------------------------------


def test_another_identity_names_the_table_and_touches_nothing(group):
    Table(group, "train", COLUMNS).claim({"seed": 0}, provenance("cpu"))
    with pytest.raises(StoreMismatchError, match="the table 'train' of this run") as caught:
        Table(group, "train", {**COLUMNS, "new": Column("int64")}, {"seed": 1})
    assert "seed: stored 0, asked for 1" in str(caught.value)
    assert "new" not in group["train"]
    assert Table(group, "train", COLUMNS, {"seed": 0}).identity == {"seed": 0}


def test_who_computed_is_kept_oldest_first_and_every_difference_told(group):
    first = {"packages": {"torch": "1", "gone": "1"}, "python": "3.11", "machine": "x", "device": "cpu"}
    then = {"packages": {"torch": "2", "new": "1"}, "python": "3.12", "machine": "y", "device": "cuda"}
    table = Table(group, "train", COLUMNS)
    assert (table.identity, table.provenance) == ({}, [])
    assert table.claim({"times": (1, 2)}, first) == []
    assert table.identity == {"times": [1, 2]}
    assert table.claim({"times": [1, 2]}, first) == []
    assert table.claim({"times": [1, 2]}, then) == [
        "the run was begun with gone 1, it goes on with None",
        "the run was begun with new None, it goes on with 1",
        "the run was begun with torch 1, it goes on with 2",
        "the run was begun on python 3.11, it goes on with 3.12",
        "the run was begun on machine x, it goes on with y",
        "the run was begun on device cpu, it goes on with cuda",
    ]
    assert table.provenance == [first, then]
    assert len(table.claim({"times": [1, 2]}, first)) == 6
    assert Table(group, "train").provenance == [first, then, first]


# -- the store -------------------------------------------------------------------------------------------------------


def test_a_new_store_says_what_it_is(tmp_path):
    with RunStore(tmp_path / "r.zarr", write=True) as store:
        assert store.place.path == tmp_path / "r.zarr"
    attributes = zarr.open_group(tmp_path / "r.zarr", mode="r").attrs.asdict()
    assert attributes == {"format": "motive-fo", "version": 2}


def test_a_store_refused_for_any_reason_holds_no_lock(tmp_path):
    zarr.open_group(tmp_path / "other.zarr", mode="w", attributes={"mine": 1})
    zarr.open_group(tmp_path / "old.zarr", mode="w", attributes={"format": "motive-fo", "version": 1})
    for name, said in (
        ("other", "is a Zarr group, but not a store of motive$"),
        (
            "old",
            "has format version 1, this motive writes 2: open it with the version that wrote it, or delete the run",
        ),
    ):
        for _ in range(2):  # the second time it would be "another process is writing"
            with pytest.raises(StoreError, match=said):
                RunStore(tmp_path / f"{name}.zarr", write=True)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "Full"), "^cannot write to .*r.zarr: no space left on the disk; make room first$"),
        (OSError(errno.EIO, "Input/output error"), "^.*r.zarr is not a store of motive: .*Input/output"),
        (ValueError("no JSON"), "^.*r.zarr is not a store of motive: no JSON$"),
    ],
)
def test_a_store_that_cannot_be_opened_holds_no_lock(tmp_path, monkeypatch, error, said):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(Folder, "open", fails)
    for _ in range(2):
        with pytest.raises(StoreError, match=said):
            RunStore(tmp_path / "r.zarr", write=True)
    monkeypatch.undo()
    RunStore(tmp_path / "r.zarr", write=True).close()


def test_what_a_store_has_not_is_named(tmp_path):
    RunStore(tmp_path / "r.zarr", write=True).close()
    store = RunStore(tmp_path / "r.zarr")
    assert not any(store.has_table(name) for name in ("motion", "train", "query", "influence", "parameters"))
    for ask, said in (
        (lambda: store.table("motion"), "^the run has no table 'motion' yet$"),
        (lambda: store.scores("motion"), r"^the run has no influence yet: score it first \(motive influence\)$"),
        (store.read_parameters, r"^the run has no gradients yet: run the gradient step first \(motive gradients\)$"),
    ):
        with pytest.raises(StoreError, match=said):
            ask()


def test_a_shard_is_noted_once(tmp_path, monkeypatch):
    with RunStore(tmp_path / "r.zarr", write=True) as store:
        assert store.shard is None
        store.note_shard("2/8")
        assert store.shard == "2/8"
        monkeypatch.setattr(type(store._root.attrs), "update", lambda *_: pytest.fail("written again"))
        store.note_shard("2/8")
    assert RunStore(tmp_path / "r.zarr").shard == "2/8"


def test_parameters_are_kept_once_and_in_order(tmp_path, monkeypatch):
    sizes = {"b.weight": 3, "a.bias": 1 << 40}
    with RunStore(tmp_path / "r.zarr", write=True) as store:
        store.keep_parameters({})
        assert store.read_parameters() == {}
        store.keep_parameters(sizes)
        assert list(store.read_parameters().items()) == list(sizes.items())
        monkeypatch.setattr(store, "_replacing", lambda *_: pytest.fail("written again"))
        store.keep_parameters(dict(sizes))
    assert RunStore(tmp_path / "r.zarr").read_parameters() == sizes


def test_scores_keep_their_axes_settings_and_dtype(tmp_path):
    both = {"motion": np.asarray([[0.5, np.nan, -1.0]]), "whole": np.asarray([[0.25, 0.0, 1.0]], np.float32)}
    with RunStore(tmp_path / "r.zarr", write=True) as store:
        store.write_scores(both, ["a", "b", "c"], ["q"], {"mask_side": "both"})
        for name, expected in both.items():
            found, query, train = store.read_scores(name)
            np.testing.assert_array_equal(found, expected.astype(np.float32))
            assert (found.dtype, query, train) == (np.float32, ["q"], ["a", "b", "c"])
        rows = store.scores("motion")
        again = store.scores("whole", axes=rows)
        np.testing.assert_array_equal(again[0], both["whole"][0])
        assert again.train_ids is rows.train_ids  # not read again
        group = store._root["influence"]
        assert group.attrs["settings"] == {"mask_side": "both"}
        assert store.sizes()["influence"] > 0
        assert store.leftovers() == []


def test_sketches_are_found_by_role_and_sample(tmp_path):
    samples = samples_of((500.0, 750.0), (0,))
    columns = {"sketch": Column("float32", (2, 4))}
    with RunStore(tmp_path / "r.zarr", write=True) as store:
        store.sketches("train", samples, columns, {"seed": 1}, ["all"])
        assert store.stored_samples("train") == samples
        assert store.stored_samples("query") == []
        assert store.sketches("train").groups == ["all"]
        assert store.sketches("train", samples[1:]).samples == samples[1:]
        with pytest.raises(StoreMismatchError):
            store.sketches("train", samples, columns, {"seed": 2}, ["all"])
        table = store.table("motion", {"mean": Column("float32")}, {"fps": 1})
        table.claim({"fps": 1}, provenance("cpu"))
        with pytest.raises(StoreMismatchError):
            store.table("motion", {"mean": Column("float32")}, {"fps": 2})


@pytest.mark.parametrize("role", ["train", "query"])
def test_a_half_made_table_of_either_role_is_not_there(tmp_path, role):
    (sample,) = samples_of((500.0,), (0,))
    with RunStore(tmp_path / "r.zarr", write=True) as store:
        store.sketches(role, [sample], {"norm": Column("float64")}, {}, ["all"])
        assert store.has_table(role)
        shutil.rmtree(tmp_path / "r.zarr" / role / sample.table / "status")
        assert not store.has_table(role)


def test_a_store_that_is_written_to_is_not_deleted(tmp_path):
    with RunStore(tmp_path / "r.zarr", write=True) as store:
        store.note_shard("1/2")
        with pytest.raises(StoreError, match="another process is writing"):
            delete_store(tmp_path / "r.zarr")
        assert store.shard == "1/2"
        assert (tmp_path / "r.zarr" / "zarr.json").exists()
    delete_store(tmp_path / "r.zarr")
    assert list(tmp_path.iterdir()) == []


def test_deleting_removes_the_lock_of_a_store_that_is_gone(tmp_path):
    lock = tmp_path / "r.zarr.lock"
    lock.write_text("")
    delete_store(tmp_path / "r.zarr")
    assert not lock.exists()
