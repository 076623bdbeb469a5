"""Files read directly give what Zarr gives, and leave to it what is not as expected."""

import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec

from motive_fo.store import chunks

CODECS = [Crc32cCodec()]


@pytest.fixture
def group(tmp_path):
    return zarr.open_group(tmp_path / "x.zarr", mode="a")


@pytest.fixture
def by_zarr(monkeypatch):
    """How often Zarr was asked."""
    asked = []
    read = zarr.Array.__getitem__
    monkeypatch.setattr(zarr.Array, "__getitem__", lambda self, key: asked.append(key) or read(self, key))
    return asked


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int64"])
def test_rows_are_those_that_zarr_reads(group, by_zarr, dtype):
    values = np.arange(11 * 2 * 3).reshape(11, 2, 3).astype(dtype)
    array = group.create_array("x", shape=values.shape, chunks=(4, 2, 3), dtype=dtype, compressors=CODECS)
    array[:] = values
    for low in range(11):
        for high in range(low + 1, 12):
            np.testing.assert_array_equal(chunks.read_rows(array, low, high), values[low:high])
    assert not by_zarr
    assert chunks.read_rows(array, 3, 3).shape == (0, 2, 3)
    assert chunks.read_rows(array, 9, 20).shape == (2, 2, 3)


def test_a_line_is_the_row_that_zarr_reads(group, by_zarr):
    values = np.arange(3 * 11, dtype=np.float32).reshape(3, 11)
    array = group.create_array("x", shape=values.shape, chunks=(1, 4), dtype="float32", compressors=CODECS)
    array[:] = values
    for row in range(3):
        np.testing.assert_array_equal(chunks.read_line(array, row), values[row])
    assert not by_zarr


@pytest.mark.parametrize("count", [0, 1, 8, 11])
def test_texts_are_those_that_zarr_reads(group, by_zarr, count):
    values = [f"é{n}" * (n + 1) for n in range(count)]
    array = group.create_array("x", shape=(count,), chunks=(4,), dtype=str)
    if count:
        array[:] = np.asarray(values, dtype=np.dtypes.StringDType())
    assert chunks.read_texts(array) == values
    assert not by_zarr


def test_a_missing_chunk_is_filled(group, tmp_path):
    array = group.create_array("x", shape=(8, 2), chunks=(4, 2), dtype="float32", fill_value=7, compressors=CODECS)
    array[4:] = 1
    assert chunks.read_rows(array, 2, 6).tolist() == [[7, 7], [7, 7], [1, 1], [1, 1]]
    texts = group.create_array("t", shape=(8,), chunks=(4,), dtype=str, fill_value="")
    texts[4:] = np.asarray(["a", "b", "c", "d"], dtype=np.dtypes.StringDType())
    assert chunks.read_texts(texts) == ["", "", "", "", "a", "b", "c", "d"]


@pytest.mark.parametrize("damage", ["flip", "cut", "longer"])
def test_damage_is_noticed_as_zarr_notices_it(group, tmp_path, damage):
    array = group.create_array("x", shape=(8, 2), chunks=(4, 2), dtype="float32", compressors=CODECS)
    array[:] = 1
    file = tmp_path / "x.zarr" / "x" / "c" / "1" / "0"
    held = bytearray(file.read_bytes())
    held[5] ^= damage == "flip"
    file.write_bytes({"flip": held, "cut": held[:-3], "longer": held + b"1"}[damage])
    assert chunks.read_rows(array, 0, 4).tolist() == [[1, 1]] * 4
    with pytest.raises(ValueError, match=r"checksum|reshape|buffer"):
        chunks.read_rows(array, 3, 5)


@pytest.mark.parametrize(
    ("shards", "splits", "codecs"), [((8, 4), (4, 4), CODECS), (None, (4, 2), CODECS), (None, (4, 4), None)]
)
def test_other_layouts_are_left_to_zarr(group, by_zarr, shards, splits, codecs):
    """Shards, chunks that split rows, compression."""
    more = {} if codecs is None else {"compressors": codecs}
    array = group.create_array("x", shape=(8, 4), chunks=splits, shards=shards, dtype="float32", **more)
    values = np.arange(32, dtype=np.float32).reshape(8, 4)
    array[:] = values
    np.testing.assert_array_equal(chunks.read_rows(array, 1, 7), values[1:7])
    np.testing.assert_array_equal(chunks.read_line(array, 2), values[2])
    assert len(by_zarr) == 2


def test_an_array_in_memory_is_left_to_zarr():
    array = zarr.create_array(zarr.storage.MemoryStore(), shape=(4, 2), chunks=(2, 2), dtype="float32")
    array[:] = 3
    assert chunks.read_rows(array, 1, 3).tolist() == [[3, 3], [3, 3]]


@pytest.mark.parametrize("width", [1, 4, 11])
def test_lines_that_grew_are_those_that_zarr_reads(group, width):
    values = np.arange(3 * 11, dtype=np.float32).reshape(3, 11)
    for parts in ([11], [1] * 11, [2, 7, 2], [4, 4, 3]):
        name = "-".join(map(str, parts))
        shape = {"shape": (3, 11), "chunks": (1, width), "dtype": "float32", "fill_value": np.nan}
        array = group.create_array(name, **shape, compressors=CODECS)
        assert chunks.Lines.can_write(array)
        lines = chunks.Lines(array)
        for block in np.split(values, np.cumsum(parts)[:-1], axis=1):
            lines.append(block)
        np.testing.assert_array_equal(array[:], values)  # Zarr checks every checksum


def test_a_line_is_unreadable_until_its_chunk_is_complete(group):
    array = group.create_array("x", shape=(1, 4), chunks=(1, 4), dtype="float32", compressors=CODECS)
    lines = chunks.Lines(array)
    lines.append(np.ones((1, 3), np.float32))
    with pytest.raises(ValueError, match="checksum"):
        array[:]
    lines.append(np.ones((1, 1), np.float32))
    assert array[:].tolist() == [[1, 1, 1, 1]]


def test_lines_elsewhere_are_left_to_zarr(group):
    shape = {"shape": (2, 4), "dtype": "float32"}
    in_memory = zarr.open_group(zarr.storage.MemoryStore(), mode="a")
    for array in (
        in_memory.create_array("x", **shape, chunks=(1, 4), compressors=CODECS),
        group.create_array("rows", **shape, chunks=(2, 4), compressors=CODECS),
        group.create_array("packed", **shape, chunks=(1, 4)),
    ):
        assert not chunks.Lines.can_write(array)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_texts_that_were_written_are_those_that_zarr_reads(group, count):
    values = [f"é{n}" * (n % 4) for n in range(count)]
    for name, width in (("one", max(1, count)), ("several", 2)):
        array = group.create_array(name, shape=(count,), chunks=(width,), dtype=str)
        chunks.write_texts(array, values)
        assert array[:].tolist() == values


def test_expected_rows_may_be_missing(group):
    array = group.create_array("x", shape=(8, 2), chunks=(4, 2), dtype="float32", fill_value=7, compressors=CODECS)
    chunks.expect_rows(array, 2, 8)
    array[4:] = 1
    chunks.expect_rows(array, 2, 8)
    assert chunks.read_rows(array, 2, 6).tolist() == [[7, 7], [7, 7], [1, 1], [1, 1]]
