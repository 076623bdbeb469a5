"""What a table does where a chunk is lost, or a kill comes between two writes: it says so, or goes on, and loses
nothing."""

import shutil
import uuid

import numpy as np
import pytest
import zarr
from zarr.storage import FsspecStore, LocalStore

from motive_fo.errors import StoreDamageError
from motive_fo.store import chunks, encodings
from motive_fo.store import table as table_module
from motive_fo.store.encodings import EncodingStore
from motive_fo.store.fingerprints import origins
from motive_fo.store.inspection import verify_store
from motive_fo.store.run_store import RunStore
from motive_fo.store.sketches import samples_of
from motive_fo.store.table import Column, Row, Status, Table

COLUMNS = {"sketch": Column("float32", (2, 3)), "count": Column("int64"), "note": Column("str")}
IDS = [f"c{n}" for n in range(7)]


class KilledError(OSError):
    """What a process that is killed does not live to see."""


@pytest.fixture(autouse=True)
def two_rows_to_a_chunk(monkeypatch):
    monkeypatch.setattr(table_module, "CHUNK_ROWS", 2)


@pytest.fixture(params=["folder", "memory"])
def where(request, tmp_path):
    return str(tmp_path / "run.zarr") if request.param == "folder" else f"memory://{uuid.uuid4().hex}/run.zarr"


def _row(n, **more):
    values = {"sketch": np.full((2, 3), n + 1.0), "count": n, "note": f"é{n}" if n % 2 else ""}
    return Row(IDS[n], Status.DONE, content="x", size=1, values=values, **more)


def _compute(where, upto=7):
    """A step that goes on where it stopped. Returns the rows that it computed."""
    with RunStore(where, write=True) as store:
        table = store.table("motion", COLUMNS)
        table.register(IDS[: upto // 2])
        table.register(IDS[:upto])
        todo = [n for n in range(upto) if table.status(IDS[n]) == Status.PENDING]
        for n in todo:
            table.put(_row(n))
            if n % 3 == 0:
                table.flush()
        table.flush()
    return todo


def _require_all(where, upto=7):
    table = RunStore(where).table("motion")
    assert table.ids == IDS[:upto]
    assert table.states(table.ids).tolist() == [Status.DONE] * upto
    assert table.read("count", table.ids).tolist() == list(range(upto))
    assert table.read("note", table.ids).tolist() == [f"é{n}" if n % 2 else "" for n in range(upto)]
    assert verify_store(where).problems == []


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_at_any_write_loses_nothing_that_was_finished(where, monkeypatch, every):
    store = LocalStore if "://" not in where else FsspecStore
    write, left = store.set, [0]

    async def dies(self, *args, **more):
        if left[0] == 0:
            raise KilledError
        left[0] -= 1
        await write(self, *args, **more)

    _compute(where, 3)
    place = RunStore(where).place
    kills = 0
    for kills in range(0, 1000, every):
        place.delete()
        _compute(where, 3)
        monkeypatch.setattr(store, "set", dies)
        left[0] = kills
        try:
            _compute(where)
        except KilledError:
            pass
        else:
            break
        finally:
            monkeypatch.setattr(store, "set", write)
            if "://" in where:
                place._files.rm_file(f"{place._path}.lock") if place._files.exists(f"{place._path}.lock") else None
        seen = RunStore(where).table("motion")
        assert seen.ids == IDS[: len(seen)]
        assert len(seen) >= 3
        done = [clip_id for clip_id in seen.ids if seen.status(clip_id) == Status.DONE]
        assert seen.read("count", done).tolist() == [IDS.index(clip_id) for clip_id in done]
        assert verify_store(where).problems == []
        assert set(map(IDS.__getitem__, _compute(where))) == set(IDS) - set(done)
        _require_all(where)
    assert kills > 30


def _files(where, column):
    path = RunStore(where).place.path / "motion" / column
    return sorted(file for file in (path / "c").rglob("*") if file.is_file())


@pytest.mark.parametrize("column", ["id", "status", "note", "code", "count", "sketch", "size"])
@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_lost_chunk_is_named_with_its_clips_and_repaired_by_computing_these(tmp_path, column, number):
    where = tmp_path / "run.zarr"
    _compute(where)
    _files(where, column)[number].unlink()
    kept = {file: file.read_bytes() for file in where.rglob("*") if file.is_file()}
    clips = IDS[2 * number : 2 * number + 2]
    named = f"column {column}, rows {2 * number} to {2 * number + len(clips) - 1}: a chunk is missing"
    with pytest.raises(StoreDamageError, match=named) as refused:
        _compute(where)
    assert {file: file.read_bytes() for file in where.rglob("*") if file.is_file()} == kept
    (problem,) = [text for text in verify_store(where).problems if named in text]
    if column != "id":  # the names are what is lost
        assert all(clip_id in str(refused.value) and clip_id in problem for clip_id in clips)
        assert verify_store(where).damaged == {"motion": clips}
    assert verify_store(where, repair=True).repaired == {"motion": len(clips)}
    assert verify_store(where).problems == []
    assert [IDS[n] for n in _compute(where)] == clips
    _require_all(where)


def test_rows_beside_a_lost_chunk_are_still_read(tmp_path):
    _compute(tmp_path / "run.zarr")
    _files(tmp_path / "run.zarr", "count")[1].unlink()
    table = RunStore(tmp_path / "run.zarr").table("motion")
    assert table.read("count", ["c0", "c1", "c6"]).tolist() == [0, 1, 6]
    for asked in (["c2"], ["c0", "c2"], IDS):
        with pytest.raises(StoreDamageError, match="rows 2 to 3: a chunk is missing, of c2, c3"):
            table.read("count", asked)


def test_chunks_of_rows_that_wait_need_not_be_there(tmp_path):
    with RunStore(tmp_path / "run.zarr", write=True) as store:
        table = store.table("motion", COLUMNS)
        table.register(IDS)
        table.put(_row(0))
        table.flush()
    assert len(_files(tmp_path / "run.zarr", "sketch")) == len(_files(tmp_path / "run.zarr", "code")) == 1
    assert len(_files(tmp_path / "run.zarr", "status")) == 4
    assert verify_store(tmp_path / "run.zarr").problems == []
    assert _compute(tmp_path / "run.zarr") == list(range(1, 7))
    _require_all(tmp_path / "run.zarr")


@pytest.mark.parametrize("column", ["id", "note", "content"])
def test_every_flipped_bit_of_texts_is_noticed(tmp_path, column):
    where = tmp_path / "run.zarr"
    _compute(where)
    file = _files(where, column)[1]
    sound = file.read_bytes()
    for bit in range(0, len(sound) * 8, 3):
        altered = bytearray(sound)
        altered[bit // 8] ^= 1 << bit % 8
        file.write_bytes(altered)
        with pytest.raises(StoreDamageError, match=f"column {column}, rows 2 to 3: .*checksum"):
            RunStore(where).table("motion").read(column, IDS)
    file.write_bytes(sound)
    _require_all(where)


def test_a_new_column_is_empty_in_the_rows_before_it(where):
    _compute(where)
    with RunStore(where, write=True) as store:
        store.table("motion", {**COLUMNS, "late": Column("float64"), "word": Column("str")})
    table = RunStore(where).table("motion")
    assert np.isnan(table.read("late", IDS)).all()
    assert table.read("word", IDS).tolist() == [""] * len(IDS)
    _require_all(where)


@pytest.mark.parametrize("key", ["id", "status", "count"])
def test_a_number_of_rows_that_was_altered_is_named(tmp_path, key):
    where = tmp_path / "run.zarr"
    _compute(where)
    said = where / "motion" / key / "zarr.json"
    sound = said.read_text()
    said.write_text(sound.replace("\n    7\n", "\n    3\n"))
    assert said.read_text() != sound
    with pytest.raises(StoreDamageError, match=rf"column {key}: its zarr.json was altered: 3 rows of 7"):
        _compute(where)
    assert any("3 rows of 7" in text for text in verify_store(where).problems)
    verify_store(where, repair=True)
    assert verify_store(where).problems == []
    assert _compute(where) == []
    _require_all(where)


def test_rows_are_added_while_others_read(tmp_path):
    """Ids and status are two files: a reader that comes in between looks again."""
    where = tmp_path / "run.zarr"
    _compute(where, 3)
    real, added = Table._tolerantly, []

    def late(self, key):
        found = real(self, key)
        if key == "id" and not added:
            added.append(True)
            _compute(where)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Table, "_tolerantly", late)
        table = RunStore(where).table("motion")
    assert table.ids == IDS
    _require_all(where)


def test_a_chunk_of_nothing_is_there_and_told_from_a_lost_one(tmp_path):
    group = zarr.open_group(tmp_path / "x.zarr", mode="a")
    plain = group.create_array("x", shape=(5, 2), chunks=(2, 2), dtype="float32", fill_value=0)
    plain[:] = 0
    assert chunks.absent(plain) == [(0, 0), (1, 0), (2, 0)]
    array = chunks.every_chunk(plain)
    array[:3] = 0
    assert chunks.absent(array) == [(2, 0)]
    assert chunks.absent(array, [(0, 0), (2, 0)]) == [(2, 0)]
    chunks.every_chunk(array, 9)[6:9] = 4
    assert array.shape == (5, 2)
    array.resize((9, 2))
    assert array[8].tolist() == [4, 4]
    shutil.rmtree(tmp_path / "x.zarr" / "x" / "c" / "1")
    assert chunks.absent(array) == [(1, 0), (2, 0)]


def test_scores_of_a_query_that_are_lost_are_named(where):
    with RunStore(where, write=True) as store:
        store.write_scores({"motion": np.full((2, 3), np.nan, np.float32)}, ["a", "b", "c"], ["q", "r"], {})
    assert np.isnan(RunStore(where).read_scores("motion")[0]).all()  # unknown, and not lost
    with RunStore(where, write=True) as store:
        group = store._root[store._found("influence")]
    chunks.remove(group, "motion/c/1/0")
    with pytest.raises(StoreDamageError, match=r"a chunk is missing, of query r and clips a, b, c\. Score it again"):
        store.scores("motion")
    chunks.remove(group, "train_id/c/0")
    for read in (lambda: store.scores("motion"), lambda: origins(where)):
        with pytest.raises(StoreDamageError, match="train_id: a chunk is missing"):
            read()


def test_parameters_that_are_lost_are_named_and_written_again(where):
    with RunStore(where, write=True) as store:
        store.keep_parameters({"a.weight": 3, "b.bias": 0})
        for name in ("name", "size"):
            chunks.remove(store._root[store._found("parameters")], f"{name}/c/0")
            with pytest.raises(StoreDamageError, match=f"{name}: a chunk is missing. Run the gradient step again"):
                store.read_parameters()
            assert any(name in text for text in verify_store(where).problems)
            store.keep_parameters({"a.weight": 3, "b.bias": 0})
            assert store.read_parameters() == {"a.weight": 3, "b.bias": 0}


def test_settings_of_a_table_that_are_not_its_roles_are_named(tmp_path):
    (sample,) = samples_of((750.0,), (0,))
    who = {"packages": {}, "python": "3", "machine": "m", "device": "cpu"}
    with RunStore(tmp_path / "run.zarr", write=True) as store:
        tables = store.sketches("train", [sample], COLUMNS, {"model": {"weights": "abc"}}, ["all"])
        tables.tables[sample].claim({"model": {"weights": "abc"}, "timestep": 750.0, "noise": 0}, who)
    assert verify_store(tmp_path / "run.zarr").problems == []
    said = tmp_path / "run.zarr" / "train" / "zarr.json"
    said.write_text(said.read_text().replace("abc", "abd"))
    (problem,) = verify_store(tmp_path / "run.zarr").problems
    assert "settings are not those of all train sketches (model.weights)" in problem


def test_what_all_sketches_of_a_role_share_is_written_again(tmp_path):
    where = tmp_path / "run.zarr"

    def step():
        with RunStore(where, write=True) as store:
            tables = store.sketches("train", samples_of((750.0,), (0,)), COLUMNS, {"model": "a"}, ["all"])
            for table in tables.tables.values():
                table.put(_row(0))
            tables.flush()

    step()
    (where / "train" / "zarr.json").write_bytes(b"\xff{")
    with pytest.raises(StoreDamageError, match=r"train/zarr\.json: .*motive store verify STORE --repair"):
        step()
    assert any("train/zarr.json" in text for text in verify_store(where).problems)
    assert verify_store(where, repair=True).repaired == {}
    assert [text for text in verify_store(where).problems if "train/zarr.json is missing" not in text] == []
    step()
    assert verify_store(where).problems == []
    assert RunStore(where).sketches("train").ids == IDS[:1]


@pytest.mark.parametrize("kind", encodings.KINDS)
def test_an_encoding_that_lost_its_numbers_is_made_again(tmp_path, kind):
    """Zarr takes them for zeros, and zeros are an encoding too."""
    kept = EncodingStore(tmp_path / "encodings.zarr")
    arrays = {"x0": np.zeros((2, 3), np.float32), "mask": np.ones(4, np.uint16)}
    kept.write(kind, "abcd", arrays, {"fact": 1})
    assert {name: each.tolist() for name, each in kept.read(kind, "abcd").arrays.items()} == {
        name: each.tolist() for name, each in arrays.items()
    }
    (tmp_path / "encodings.zarr" / kind / "ab" / "abcd" / "x0" / "c" / "0" / "0").unlink()
    assert kept.read(kind, "abcd") is None
    assert not kept.has(kind, "abcd")
