"""A store at a URL, in memory and by S3: written, scored, checked and deleted as one in a folder is."""

import uuid

import fsspec
import numpy as np
import pytest

from motive_fo.config import InfluenceConfig
from motive_fo.errors import StoreError
from motive_fo.pipeline.scoring import score
from motive_fo.store.fingerprints import origins
from motive_fo.store.inspection import store_info, verify_store
from motive_fo.store.place import Remote
from motive_fo.store.run_store import RunStore, delete_store
from motive_fo.store.sketches import samples_of
from motive_fo.store.table import Column, Row, Status

COLUMNS = {"sketch": Column("float32", (2, 8)), "norm": Column("float64", (2,))}
IDS = {"train": [f"c{n}" for n in range(30)], "query": ["q0", "q1"]}


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.slow)])
def url(request):
    base = "memory:/" if request.param == "memory" else request.getfixturevalue("bucket")
    place = f"{base}/{uuid.uuid4().hex}/run.zarr"
    yield place
    files = fsspec.filesystem(request.param)
    for file in files.find(place.removesuffix("/run.zarr")):
        files.rm_file(file)


@pytest.fixture
def files(url):
    """The storage, past the store."""
    return fsspec.filesystem(url.partition(":")[0])


def _fill(where):
    rng = np.random.default_rng(0)
    with RunStore(where, write=True) as store:
        store.keep_parameters({"old.weight": 1})
        for role, ids in IDS.items():
            tables = store.sketches(role, samples_of((750.0,), (0,)), COLUMNS, {"model": "none"})
            for clip_id in ids:
                values = {"sketch": rng.normal(size=(2, 8)), "norm": np.ones(2)}
                next(iter(tables.tables.values())).put(Row(clip_id, Status.DONE, content="x", values=values))
            tables.flush()


def _score(where):
    with RunStore(where, write=True) as store:
        return score(IDS["train"], IDS["query"], store, InfluenceConfig())[0].motion_QN


def test_a_store_at_a_url_has_the_scores_of_one_in_a_folder(url, tmp_path):
    for where in (url, tmp_path / "run.zarr"):
        _fill(where)
    assert np.array_equal(_score(url), _score(tmp_path / "run.zarr"))
    assert verify_store(url).problems == []
    assert verify_store(url).rows == 32
    ours, theirs = store_info(url), store_info(tmp_path / "run.zarr")
    assert (ours.tables, ours.fingerprints, ours.scoring) == (theirs.tables, theirs.fingerprints, theirs.scoring)
    assert ours.bytes.keys() == theirs.bytes.keys()
    assert sum(ours.bytes.values()) == pytest.approx(sum(theirs.bytes.values()), rel=0.01)


def test_a_finished_store_that_was_copied_is_read_and_scored_again(url, files, tmp_path):
    _fill(tmp_path / "run.zarr")
    before = _score(tmp_path / "run.zarr")
    files.put(str(tmp_path / "run.zarr"), url, recursive=True)
    assert np.array_equal(RunStore(url).read_scores("motion")[0], before)
    assert np.array_equal(_score(url), before)
    assert RunStore(url).read_parameters() == {"old.weight": 1}
    assert not files.exists(f"{url}/influence")  # the copied scoring
    assert list(store_info(url).bytes) == ["influence", "parameters", "query", "train"]


def test_damage_is_found_at_a_url(url, files):
    _fill(url)
    file = next(name for name in files.find(url) if "/train/" in name and "/sketch/c/" in name)
    held = bytearray(files.cat_file(file))
    held[40] ^= 1
    files.pipe_file(file, bytes(held))
    assert any("checksum" in problem for problem in verify_store(url).problems)


def test_a_second_writer_is_refused_and_a_reader_is_not(url, files):
    _fill(url)
    with RunStore(url, write=True):
        with pytest.raises(StoreError, match=r"another process is writing to \w+://.*delete \w+://.*\.lock"):
            RunStore(url, write=True)
        assert RunStore(url).has_table("train")
    RunStore(url, write=True).close()
    assert not files.exists(f"{url}.lock")


@pytest.mark.parametrize("stage", ["before", "after"])
def test_a_kill_while_the_scoring_is_replaced_leaves_the_last_or_the_new(url, monkeypatch, stage):
    """Before and after the one write that names the new group; nothing that follows a kill is run."""
    _fill(url)
    first = _score(url)

    class Killed(BaseException):
        pass

    def dies(*_):
        raise Killed

    monkeypatch.setattr(Remote, "settle", lambda *_: None)
    if stage == "before":
        monkeypatch.setattr(Remote, "replace", dies)
        with pytest.raises(Killed):
            _score(url)
    else:
        with RunStore(url, write=True) as store:
            store.write_scores({"motion": -first, "whole": first}, IDS["train"], IDS["query"], {})
    monkeypatch.undo()
    expected = first if stage == "before" else -first
    assert np.array_equal(RunStore(url).read_scores("motion")[0], expected)
    assert any("left by a step that was killed" in note for note in verify_store(url).notes)
    with RunStore(url, write=True) as store:
        assert np.array_equal(store.read_scores("motion")[0], expected)
    assert verify_store(url).notes == []


def test_a_scoring_that_was_replaced_is_not_read_as_the_old_one(url):
    _fill(url)
    _score(url)
    rows = RunStore(url).scores("motion")
    _score(url)
    with pytest.raises(StoreError, match="scored again in the meantime"):
        rows[0]


def test_deleting_leaves_nothing(url, files):
    _fill(url)
    delete_store(url)
    assert files.find(url.removesuffix("/run.zarr")) == []
    files.pipe_file(f"{url}/other.txt", b"x")
    with pytest.raises(StoreError, match="holds other files"):
        delete_store(url)


def test_what_is_no_url_of_a_store_is_refused():
    with pytest.raises(StoreError, match="there is no store at memory://none"):
        RunStore("memory://none/run.zarr")
    with pytest.raises(StoreError, match="cannot open nosuch://"):
        RunStore("nosuch://bucket/run.zarr")
    with pytest.raises(StoreError, match="has a password in it") as refused:
        RunStore("memory://me:hidden@bucket/run.zarr", write=True)
    assert "hidden" not in str(refused.value)


def test_storage_out_of_reach_is_one_sentence(url, files, monkeypatch):
    def gone(*_, **__):
        raise ConnectionResetError("nobody answers")

    store = RunStore(url, write=True)
    monkeypatch.setattr(files, "rm_file", gone)
    with pytest.raises(StoreError, match=rf"cannot reach {url} any more: nobody answers.*delete {url}.lock"):
        store.close()
    monkeypatch.setattr(files, "exists", gone)
    with pytest.raises(StoreError, match=f"cannot reach {url}: nobody answers. Is the URL right"):
        RunStore(url)
    monkeypatch.undo()
    files.rm_file(f"{url}.lock")
    monkeypatch.setattr(files, "pipe_file", gone)
    with pytest.raises(StoreError, match=f"cannot write to {url}: nobody answers"):
        RunStore(url, write=True)


def test_storage_that_cannot_create_alone_is_not_written_to(url, files, monkeypatch):
    def cannot(path, value, mode="overwrite", **_):
        raise NotImplementedError("no exclusive creation")

    monkeypatch.setattr(files, "pipe_file", cannot)
    with pytest.raises(StoreError, match="cannot keep a second writer away"):
        RunStore(url, write=True)


def test_what_is_no_store_has_no_origins(tmp_path):
    assert origins(tmp_path) == origins(tmp_path / "nowhere") == {}


def test_origins_are_those_of_the_scoring_that_is_found_after_a_kill_between_two_renames(tmp_path):
    path = tmp_path / "run.zarr"
    with RunStore(path, write=True) as store:
        store.write_scores({"motion": np.ones((1, 2), np.float32)}, ["a", "b"], ["q"], {"combine": "mean-cosine"})
    before = origins(path)["influence"]
    (path / "influence").rename(path / "influence-replaced")
    assert origins(path)["influence"] == before
