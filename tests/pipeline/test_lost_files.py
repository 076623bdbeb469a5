"""Each file of a run's store is lost or altered, one at a time: whoever reads it has the whole right result, or says
what is damaged; nothing else is touched, and what is repaired is computed again to the same numbers."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pytest
import zarr

from motive_fo.config import InfluenceConfig
from motive_fo.errors import MotiveError, StoreDamageError, StoreError
from motive_fo.pipeline.gradients import compute_sketch_table
from motive_fo.pipeline.scoring import score
from motive_fo.store.inspection import verify_store
from motive_fo.store.merge import merge_stores
from motive_fo.store.run_store import RunStore
from motive_fo.store.table import Status

TRAIN = "train/t750.748-n0"
#: one file of each kind
KINDS = (
    "motion/id/c/0",
    "motion/mask/c/0/0/0/0",
    "motion/curve/zarr.json",
    f"{TRAIN}/id/c/0",
    f"{TRAIN}/status/c/0",
    f"{TRAIN}/content/c/0",
    f"{TRAIN}/sketch/c/0/0/0",
    f"{TRAIN}/status/zarr.json",
    f"{TRAIN}/zarr.json",
    "train/zarr.json",
    "influence/motion/c/1/0",
    "influence/train_id/c/0",
    "parameters/name/c/0",
)
FLIPPED = (f"{TRAIN}/id/c/0", f"{TRAIN}/sketch/c/0/0/0", "influence/query_id/c/0", "parameters/size/c/0", "zarr.json")
PARTS = 12  # that all files are split into
#: nothing is left to repair these from: they are put back
ROOTS = ("zarr.json", "motion/zarr.json")


@pytest.fixture(scope="module")
def steps(records, settings):
    """Runs the steps on a store, each by itself; what each answered. Results are the cosines."""

    def run(where):
        ids = {role: [record.id for record in each] for role, each in records.items()}

        def scored(store):
            return score(ids["train"], ids["query"], store, InfluenceConfig())[0].motion_QN

        asked = {
            "train": lambda store: compute_sketch_table(records["train"], store, settings, "train"),
            "query": lambda store: compute_sketch_table(records["query"], store, settings, "query"),
            "influence": scored,
        }
        said = {}
        for name, step in asked.items():
            try:
                with RunStore(where, write=True) as store:
                    said[name] = step(store)
            except MotiveError as error:
                said[name] = error
        return said

    return run


@pytest.fixture(scope="module")
def sound(steps, tmp_path_factory):
    """A store that the steps made: its files, what is in it, and its cosines."""
    path = tmp_path_factory.mktemp("sound") / "run.zarr"
    cosines = steps(path)["influence"]
    assert verify_store(path).problems == []
    files = {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    return files, _contents(path), cosines


@pytest.fixture
def folder(tmp_path):
    """A place for a store: its name, and its files past the store."""
    return str(tmp_path / "run.zarr"), fsspec.filesystem("file")


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.slow)])
def url(request):
    """The same in object storage."""
    base = "memory:/" if request.param == "memory" else request.getfixturevalue("bucket")
    where = f"{base}/{uuid.uuid4().hex}/run.zarr"
    files = fsspec.filesystem(request.param)
    yield where, files
    files.invalidate_cache()
    for file in files.find(where):
        files.rm_file(file)


def _write(place, files):
    where, storage = place
    if storage.exists(where):
        storage.rm(where, recursive=True)
    for name, data in files.items():
        storage.makedirs(f"{where}/{name}".rpartition("/")[0], exist_ok=True)
        storage.pipe_file(f"{where}/{name}", data)
    storage.invalidate_cache()


def _read(place):
    where, storage = place
    storage.invalidate_cache()
    found = storage.find(where)
    root = storage._strip_protocol(where)
    return {file[len(root) + 1 :]: storage.cat_file(file) for file in found}


def _contents(where):
    """All that a store says."""
    store = RunStore(where)
    held = {"parameters": store.read_parameters()}
    for name in store.table_names():
        table = store.table(name)
        held[name] = {i: int(table.status(i)) for i in table.ids}
        for column in table.columns:
            values = table.read(column, table.ids)
            held[name, column] = dict(zip(table.ids, map(repr, values.tolist()), strict=True))
    for kind in ("motion", "whole"):
        scores, queries, train = store.read_scores(kind)
        held[kind] = (repr(scores.tolist()), queries, train)
    return held


def _damage(place, sound, file, how):
    """The damaged store's files."""
    files = dict(sound[0])
    data = files.pop(file)
    if how == "flip":
        place_of_bit = np.random.default_rng(len(file)).integers(len(data) * 8)
        altered = bytearray(data)
        altered[place_of_bit // 8] ^= 1 << int(place_of_bit % 8)
        files[file] = bytes(altered)
    _write(place, files)
    return files


def _require_named_or_right(place, sound, steps, file, how):
    files, where = _damage(place, sound, file, how), place[0]
    try:
        problems = verify_store(where).problems
    except MotiveError as error:
        problems = [str(error)]
    said = steps(where)
    refused = [str(answer) for answer in said.values() if isinstance(answer, MotiveError)]
    tables = ("motion/", "train/", "query/")
    after = {name: data for name, data in _read(place).items() if name.startswith(tables) and name != file}
    assert after == {name: data for name, data in files.items() if name.startswith(tables) and name != file}
    if not isinstance(said["influence"], MotiveError):
        np.testing.assert_array_equal(said["influence"], sound[2])
    if how == "remove":
        table, _, rest = file.rpartition("/zarr.json")[0].rpartition("/") if "/c/" not in file else _column(file)
        assert problems, file
        assert any(rest in text and table in text for text in problems), (file, problems)
    if not refused and not (how == "flip" and problems):  # else altered where no step looks, and told by the check
        assert _contents(where) == sound[1]
        return
    assert problems or how == "flip"
    words = ("damaged", "zarr.json", "other settings", "is not a store of motive")
    assert all(any(each in text for each in words) for text in refused), refused
    if file in ROOTS or any("other settings" in text for text in refused):
        return
    verify_store(where, repair=True)
    for answer in steps(where).values():
        assert not isinstance(answer, MotiveError), answer
    assert verify_store(where).problems == []
    assert _contents(where) == sound[1]


def _column(file):
    """Table, and column, of a chunk."""
    return file.partition("/c/")[0].rpartition("/")


@pytest.mark.parametrize("file", KINDS)
def test_a_lost_file_is_named_and_nothing_is_destroyed(folder, sound, steps, file):
    _require_named_or_right(folder, sound, steps, file, "remove")


@pytest.mark.parametrize("file", FLIPPED)
def test_a_flipped_bit_is_named_and_nothing_is_destroyed(folder, sound, steps, file):
    _require_named_or_right(folder, sound, steps, file, "flip")


@pytest.mark.parametrize("file", [f"{TRAIN}/id/c/0", f"{TRAIN}/sketch/c/0/0/0", "influence/motion/c/1/0"])
def test_a_lost_object_is_named_and_nothing_is_destroyed(url, sound, steps, file):
    _require_named_or_right(url, sound, steps, file, "remove")


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("how", ["remove", "flip"])
def test_every_file_in_turn(folder, sound, steps, how, part):
    assert set(KINDS) <= set(sound[0])
    for file in sorted(sound[0])[part::PARTS]:
        _require_named_or_right(folder, sound, steps, file, how)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_every_object_in_turn(url, sound, steps, part):
    for file in sorted(sound[0])[part::PARTS]:
        _require_named_or_right(url, sound, steps, file, "remove")


def test_a_repair_marks_the_clips_of_the_lost_chunk_and_no_others(folder, sound, steps, records):
    _damage(folder, sound, f"{TRAIN}/norm/c/0/0", "remove")
    check = verify_store(folder[0], repair=True)
    assert check.damaged == {TRAIN: [record.id for record in records["train"]]}
    assert check.repaired == {TRAIN: len(records["train"])}
    said = steps(folder[0])
    assert (said["train"].computed, said["query"].computed) == (len(records["train"]), 0)


def test_a_status_is_no_proof_of_a_sketch(folder, sound, records):
    """A sketch that a version before lost without a word: its clip is done, and has no score."""
    _write(folder, sound[0])
    table = RunStore(folder[0]).table(TRAIN)
    moving = [clip_id for clip_id in table.ids if table.status(clip_id) == Status.DONE]
    array = zarr.open_array(f"{folder[0]}/{TRAIN}/sketch", mode="r+")
    array[table.ids.index(moving[1])] = np.nan
    with RunStore(folder[0], write=True) as store:
        ids = ([record.id for record in records[role]] for role in ("train", "query"))
        _, report = score(*ids, store, InfluenceConfig())
    assert (report.status["done"], report.status["unscored"]) == (len(moving) - 1, 1)
    assert f"1 clips are done and have no score ({moving[1]})" in report.notes[0]


def test_a_query_without_a_sketch_is_named(folder, sound, steps, records):
    _write(folder, sound[0])
    zarr.open_array(f"{folder[0]}/query/t750.748-n0/sketch", mode="r+")[0] = np.nan
    answer = steps(folder[0])["influence"]
    assert isinstance(answer, StoreError)
    assert f"1 queries are done and have no finite sketch ({records['query'][0].id})" in str(answer)


def test_a_damaged_shard_is_not_merged(folder, sound, tmp_path):
    _damage(folder, sound, f"{TRAIN}/loss/c/0/0", "remove")
    with pytest.raises(
        StoreDamageError, match=rf"{folder[0]} is damaged: table {TRAIN}, column loss.*a chunk is missing"
    ):
        merge_stores(tmp_path / "merged.zarr", [folder[0]])
    assert not (tmp_path / "merged.zarr").exists()


# -- stores of versions before these ----------------------------------------------------------------------------------


def _of_before(folder, sound):
    """The store as it was written before: without chunks of fill values, and texts without checksums."""
    _write(folder, sound[0])
    path = Path(folder[0])
    for file in sorted(path.rglob("zarr.json")):
        said = json.loads(file.read_text())
        if said["node_type"] == "group":
            said["attributes"].pop("columns", None)
            file.write_text(json.dumps(said))
            continue
        array = zarr.open_array(file.parent, mode="r+")
        values = array[...]
        if array.dtype.kind == "T":
            array = zarr.create_array(
                file.parent, shape=array.shape, chunks=array.chunks, dtype=str, fill_value="", overwrite=True
            )
        array[...] = np.full(array.shape, array.fill_value, array.dtype)  # Zarr removes such chunks
        array[...] = values
    return path


def _keep_as_before(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_store_of_before_is_read_and_goes_on(folder, sound, steps, records):
    path = _of_before(folder, sound)
    left_out = [name for name in sound[0] if "/c/" in name and not (path / name).exists()]
    assert {"motion/adjustment/c/0", "motion/cuts/c/0"} <= set(left_out)
    assert verify_store(path).problems == []
    assert _contents(path) == sound[1]
    before = _keep_as_before(path)
    said = steps(path)
    np.testing.assert_array_equal(said["influence"], sound[2])
    assert said["train"].computed == said["query"].computed == 0
    assert _contents(path) == sound[1]
    assert verify_store(path).problems == []
    assert all((path / name).exists() for name in left_out)  # from now on, what is not there is lost
    kept = [name for name in before if "/c/" in name and not name.startswith(("influence", "parameters"))]
    assert all((path / name).read_bytes() == before[name] for name in kept)


@pytest.mark.parametrize(
    "file",
    [
        f"{TRAIN}/id/c/0",
        f"{TRAIN}/sketch/c/0/0/0",
        f"{TRAIN}/content/c/0",
        f"{TRAIN}/size/c/0",
        "motion/mask/c/0/0/0/0",
        "motion/id/c/0",
        "influence/whole/c/0/0",
        "parameters/name/c/0",
    ],
)
def test_a_file_that_a_store_of_before_has_lost_is_named(folder, sound, steps, file):
    path = _of_before(folder, sound)
    (path / file).unlink()
    files = _keep_as_before(path)
    table, _, column = _column(file)
    assert any(table in text and column in text for text in verify_store(path).problems)
    said = steps(path)
    if not file.startswith(("influence", "parameters")):  # those are replaced
        assert any(isinstance(answer, StoreDamageError) for answer in said.values())
        after = _keep_as_before(path)
        chunks = [name for name in files if name.startswith(table) and "/c/" in name]
        assert all(after[name] == files[name] for name in chunks)
        verify_store(path, repair=True)
        said = steps(path)
    np.testing.assert_array_equal(said["influence"], sound[2])
    assert _contents(path) == sound[1]
    assert verify_store(path).problems == []
