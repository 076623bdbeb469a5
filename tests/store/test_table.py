"""A table of rows: written once, found again, and never half there."""

import numpy as np
import pytest
import zarr

from motive_fo.errors import StoreDamageError, StoreError, StoreMismatchError
from motive_fo.store import table as table_module
from motive_fo.store.identity import provenance, require_equal
from motive_fo.store.table import Column, Row, Status, Table

COLUMNS = {"sketch": Column("float32", (1, 2, 4)), "norm": Column("float64"), "count": Column("int64")}
IDENTITY = {"clip": {"fps": 16.0, "frames": 17}, "seed": 0, "timesteps": [750.748]}


@pytest.fixture
def group(tmp_path):
    return zarr.open_group(tmp_path / "run.zarr", mode="a")


def _row(clip_id, value=1.0, **more):
    values = {"sketch": np.full((1, 2, 4), value), "norm": value, "count": 3}
    return Row(
        clip_id, Status.DONE, size=5, mtime_ns=6, content=f"digest-{value}", decoder="pyav 1", values=values, **more
    )


def test_rows_come_back_as_they_were(group):
    table = Table(group, "train", COLUMNS)
    table.register(["a", "b/é.mp4", "c"])
    table.put(_row("b/é.mp4", 2.5))
    table.put(Row("c", Status.FAILED, "too_short", "decode", "has 1 s / needs 2 s"))
    table.flush()
    again = Table(group, "train")
    assert again.ids == ["a", "b/é.mp4", "c"]
    assert [again.status(i) for i in again.ids] == [Status.PENDING, Status.DONE, Status.FAILED]
    assert again.read("sketch", ["b/é.mp4"]).dtype == np.float32
    assert np.all(again.read("sketch", ["b/é.mp4"]) == 2.5)
    assert np.isnan(again.read("norm", ["c"])[0])
    assert again.read("code", ["c", "b/é.mp4"]).tolist() == ["too_short", ""]
    assert again.read("message", ["c"])[0] == "has 1 s / needs 2 s"
    assert again.read("count", ["c", "b/é.mp4"]).tolist() == [0, 3]


def test_reading_keeps_the_order_asked_for(group):
    table = Table(group, "train", COLUMNS)
    ids = [f"c{i}" for i in range(40)]
    for i, clip_id in enumerate(ids):
        table.put(_row(clip_id, float(i)))
    table.flush()
    asked = ["c39", "c0", "c7", "c8", "c1"]
    assert table.read("norm", asked).tolist() == [39, 0, 7, 8, 1]
    assert table.read("norm", ["c39", "c0"]).tolist() == [39, 0]
    assert table.read("sketch", []).shape == (0, 1, 2, 4)


def test_rows_span_chunks(group, monkeypatch):
    monkeypatch.setattr(table_module, "CHUNK_ROWS", 4)
    table = Table(group, "train", COLUMNS)
    ids = [f"c{i}" for i in range(11)]
    table.register(ids)
    for i in reversed(range(11)):
        table.put(_row(ids[i], float(i)))
    table.flush()
    assert Table(group, "train").read("norm", ids).tolist() == [float(i) for i in range(11)]


def test_new_rows_leave_old_ones_alone(group):
    table = Table(group, "train", COLUMNS)
    table.put(_row("a", 1.0))
    table.flush()
    table = Table(group, "train", COLUMNS)
    table.register(["z", "a"])
    table.put(_row("z", 9.0))
    table.flush()
    again = Table(group, "train")
    assert again.ids == ["a", "z"]
    assert again.read("norm", ["a", "z"]).tolist() == [1.0, 9.0]


def test_a_row_computed_again_keeps_nothing_of_the_old_one(group):
    table = Table(group, "train", COLUMNS)
    table.put(_row("a", 1.0))
    table.flush()
    table.put(Row("a", Status.FAILED, "decode_failed", "decode", "gone"))
    table.flush()
    again = Table(group, "train")
    assert again.status("a") == Status.FAILED
    assert np.isnan(again.read("sketch", ["a"])).all()
    assert again.read("content", ["a"])[0] == ""


def test_rows_in_memory_are_already_known_and_written_in_time(group, monkeypatch):
    table = Table(group, "train", COLUMNS)
    table.put(_row("a"))
    assert table.status("a") == Status.DONE
    assert Table(group, "train").status("a") == Status.PENDING
    monkeypatch.setattr(table_module, "FLUSH_SECONDS", 0.0)
    table.put(_row("b"))
    assert Table(group, "train").status("a") == Status.DONE


def test_status_is_written_after_everything_else(group, monkeypatch):
    """A kill between two columns leaves a row that is not done."""
    table = Table(group, "train", COLUMNS)
    table.put(_row("a", 1.0))
    table.flush()
    real = Table._array

    class Killed(BaseException):
        pass

    for fatal in [*COLUMNS, "code", "message", "content", "decoder"]:

        def dying(self, key, fatal=fatal):
            if key == fatal:
                raise Killed
            return real(self, key)

        table = Table(group, "train", COLUMNS)
        table.put(_row("a", 2.0))
        monkeypatch.setattr(Table, "_array", dying)
        with pytest.raises(Killed):
            table.flush()
        monkeypatch.setattr(Table, "_array", real)
        assert Table(group, "train").status("a") == Status.PENDING, fatal
        table = Table(group, "train", COLUMNS)
        table.put(_row("a", 1.0))
        table.flush()


def test_a_kill_while_rows_are_added_leaves_a_sound_table(group, monkeypatch):
    table = Table(group, "train", COLUMNS)
    table.put(_row("a", 1.0))
    table.flush()
    # arrays are longer than the ids that were written: as after a kill in the middle of registering
    table._resize(7)
    table = Table(group, "train", COLUMNS)
    assert table.ids == ["a"]
    table.put(_row("b", 2.0))
    table.flush()
    again = Table(group, "train")
    assert again.ids == ["a", "b"]
    assert again.read("norm", ["a", "b"]).tolist() == [1.0, 2.0]


def test_a_column_that_is_missing_is_named(group):
    import shutil

    table = Table(group, "train", COLUMNS)
    table.put(_row("a"))
    table.flush()
    shutil.rmtree(group.store.root / "train" / "count")
    with pytest.raises(StoreDamageError, match=r"column count: its zarr\.json is missing"):
        Table(group, "train", COLUMNS)


def test_flipped_bits_are_noticed(group):
    table = Table(group, "train", COLUMNS)
    table.put(_row("a"))
    table.flush()
    (chunk,) = [p for p in (group.store.root / "train" / "sketch" / "c").rglob("*") if p.is_file()]
    data = bytearray(chunk.read_bytes())
    data[3] ^= 4
    chunk.write_bytes(data)
    with pytest.raises(ValueError, match="checksum"):
        Table(group, "train").read("sketch", ["a"])


def test_another_identity_is_refused_by_name(group):
    table = Table(group, "train", COLUMNS)
    table.claim(IDENTITY, provenance("cpu"))
    Table(group, "train", COLUMNS).claim(IDENTITY, provenance("cpu"))
    other = {**IDENTITY, "clip": {"fps": 8.0, "frames": 17}, "seed": 1}
    with pytest.raises(StoreMismatchError) as caught:
        Table(group, "train", COLUMNS).claim(other, provenance("cpu"))
    text = str(caught.value)
    assert "clip.fps: stored 16.0, asked for 8.0" in text
    assert "seed: stored 0, asked for 1" in text
    assert "another run name" in text
    assert "frames" not in text


def test_an_unknown_or_missing_field_is_a_difference():
    with pytest.raises(StoreMismatchError, match="extra: stored None, asked for 1"):
        require_equal({"a": 1}, {"a": 1, "extra": 1}, "it")
    require_equal({"a": (1, 2)}, {"a": [1, 2]}, "it")


def test_changed_versions_are_noted_and_allowed(group):
    old = provenance("cpu")
    old["packages"] = {**old["packages"], "torch": "1.0"}
    table = Table(group, "train", COLUMNS)
    assert table.claim(IDENTITY, old) == []
    notes = table.claim(IDENTITY, {**provenance("cuda"), "time": "later"})
    assert any("torch 1.0" in note for note in notes)
    assert any("device cpu" in note for note in notes)
    assert len(table.provenance) == 2
    table.claim(IDENTITY, {**provenance("cuda"), "time": "even later"})
    assert len(table.provenance) == 2


def test_rows_of_another_shape_are_refused(group):
    Table(group, "train", COLUMNS)
    with pytest.raises(StoreError, match="rows of shape"):
        Table(group, "train", {**COLUMNS, "sketch": Column("float32", (1, 2, 8))})


def test_unknown_ids_are_named(group):
    table = Table(group, "train", COLUMNS)
    with pytest.raises(StoreError, match="no row for 'x'"):
        table.read("norm", ["x"])
    with pytest.raises(StoreError, match="without an id"):
        table.register([""])


def test_places_of_runs_and_of_anything_else(group):
    table = Table(group, "train", {})
    ids = [f"c{i}" for i in range(1000)]
    table.register(ids)
    for asked in (ids, ids[300:900], ids[::-1], ids[:500] + ids[600:], [*ids[:400], "none"], ids[7:8], []):
        expected = [ids.index(clip_id) if clip_id in ids else -1 for clip_id in asked]
        assert table.places(asked).tolist() == expected
    with pytest.raises(StoreError, match="no row for 'none'"):
        table.read("size", [*ids[:400], "none"])
