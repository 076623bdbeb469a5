"""Sketches in float16: what is lost, what is not, and that nothing else notices."""

from types import SimpleNamespace

import numpy as np
import pytest

from motive_fo.config import AttributionConfig, InfluenceConfig
from motive_fo.errors import ClipError, StoreMismatchError
from motive_fo.pipeline.repeated import RepeatedSketches
from motive_fo.pipeline.scoring import score
from motive_fo.store.half import pack, unpack
from motive_fo.store.inspection import verify_store
from motive_fo.store.merge import merge_stores
from motive_fo.store.run_store import RunStore
from motive_fo.store.sketches import samples_of
from motive_fo.store.table import Column, Row, Status

D = 64
HALF = {"sketch": Column("float16", (2, D)), "sketch_exponent": Column("int16", (2,)), "norm": Column("float64", (2,))}
WHOLE = {"sketch": Column("float32", (2, D)), "norm": Column("float64", (2,))}
SAMPLES = samples_of((750.748, 300.0), (0,))
IDS = {"train": [f"c{n}" for n in range(40)], "query": ["q0", "q1"]}


@pytest.fixture(scope="module")
def values():
    """Lengths from 1e-9 to 1e9, and one clip without a masked sketch."""
    rng = np.random.default_rng(3)
    made = rng.normal(size=(42, 2, 2, D)) * 10 ** rng.uniform(-9, 9, size=(42, 2, 2, 1))
    made[5, :, 1] = np.nan
    return made.astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, values):
    """The same clips in ``h.zarr`` and ``w.zarr``, half and whole."""
    made = tmp_path_factory.mktemp("half")
    _fill(made / "h.zarr", HALF, values)
    _fill(made / "w.zarr", WHOLE, values)
    return made


def _fill(path, columns, values, ids=IDS):
    with RunStore(path, write=True) as store:
        every = [*IDS["train"], *IDS["query"]]
        for role, its in ids.items():
            tables = store.sketches(role, SAMPLES, columns, {"model": "x", "sketch_dtype": columns["sketch"].dtype})
            for s, table in enumerate(tables.tables.values()):
                for clip_id in its:
                    sketch = values[every.index(clip_id), s]
                    status = Status.DONE if np.isfinite(sketch).all() else Status.STATIC
                    numbers = {"sketch": sketch, "norm": np.linalg.norm(sketch, axis=1)}
                    table.put(Row(clip_id, status, content="x", values=numbers))
            tables.flush()


@pytest.mark.parametrize("scale", [1e-37, 1e-20, 1e-6, 1.0, 7e4, 1e20, 1e38])
def test_any_scale_keeps_eleven_significant_bits(scale):
    vectors = (np.random.default_rng(0).uniform(0.01, 1, (50, D)) * scale).astype(np.float32)
    vectors[7] = 0
    half, exponent = pack(vectors)
    assert half.dtype == np.float16
    assert np.isfinite(half).all()
    back = unpack(half, exponent)
    np.testing.assert_allclose(back, vectors, rtol=2**-11)
    again, same = pack(back)
    np.testing.assert_array_equal(unpack(again, same), back)


def test_small_numbers_beside_large_ones_are_kept():
    vector = np.asarray([[1.0, 2.0**-27, -(2.0**-20) * 1.3]], np.float32)
    np.testing.assert_allclose(unpack(*pack(vector)), vector, rtol=2**-11)


def test_what_is_missing_stays_missing():
    vectors = np.asarray([[np.nan] * 4, [1e9, np.nan, np.inf, 2]], np.float32)
    np.testing.assert_allclose(unpack(*pack(vectors)), vectors, rtol=2**-11)


def test_a_table_reads_back_rounded_numbers(folder, values):
    read = RunStore(folder / "h.zarr").sketches("train").read("sketch", IDS["train"])
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, values[:40], rtol=2**-11, atol=0)
    assert not np.array_equal(read, values[:40], equal_nan=True)
    half, whole = (
        sum(file.stat().st_size for file in (folder / name).glob("*/*/sketch/c/**/0") if file.is_file())
        for name in ("h.zarr", "w.zarr")
    )
    assert whole / half == pytest.approx(2, rel=0.01)
    assert verify_store(folder / "h.zarr").problems == []


@pytest.mark.parametrize("combine", ["mean-cosine", "concat", "mean-sketch"])
def test_scores_are_those_of_float32_to_a_thousandth(folder, combine):
    """``concat`` and ``mean-sketch`` weigh by length: the exponents count."""
    scores = []
    for name in ("h.zarr", "w.zarr"):
        with RunStore(folder / name, write=True) as store:
            scores.append(score(IDS["train"], IDS["query"], store, InfluenceConfig(combine=combine))[0].motion_QN)
    np.testing.assert_allclose(*scores, atol=1e-3)
    assert np.isnan(scores[0][:, 5]).all()


def test_merging_copies_the_stored_bits(folder, tmp_path, values):
    parts = ({"train": IDS["train"][:15], "query": ["q0"]}, {"train": IDS["train"][15:], "query": ["q1"]})
    for n, ids in enumerate(parts):
        _fill(tmp_path / f"{n}.zarr", HALF, values, ids)
    merge_stores(tmp_path / "all.zarr", [tmp_path / "0.zarr", tmp_path / "1.zarr"])
    merged, one = (RunStore(path).sketches("train") for path in (tmp_path / "all.zarr", folder / "h.zarr"))
    for column in ("sketch", "sketch_exponent", "norm"):
        np.testing.assert_array_equal(merged.read(column, IDS["train"]), one.read(column, IDS["train"]))


def test_repeated_sketches_are_noticed_after_rounding(folder, values):
    """A clip computed in another session is compared with what was stored."""
    (table, _) = RunStore(folder / "h.zarr").sketches("train").tables.values()
    same = SimpleNamespace(sketch_2D=values[0, 0], norm_2=np.linalg.norm(values[0, 0], axis=1))
    with pytest.raises(ClipError, match="the same video and caption as c0"):
        RepeatedSketches(table).check("new", same, SimpleNamespace(content="x"))


def test_the_two_do_not_mix(folder, values):
    with pytest.raises(StoreMismatchError, match="sketch_dtype: stored 'float32', asked for 'float16'"):
        _fill(folder / "w.zarr", HALF, values)


def test_the_default_is_float32():
    assert AttributionConfig().sketch_dtype == "float32"


def test_a_single_vector_is_packed_too():
    vector = np.asarray([3.0, -1.5, 0.0], np.float32)
    np.testing.assert_array_equal(unpack(*pack(vector)), vector)
