"""The store of a run: found, refused, locked, deleted."""

import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import zarr

from motive_fo.errors import StoreError, StoreMismatchError
from motive_fo.store.run_store import RunStore, delete_store
from motive_fo.store.sketches import samples_of
from motive_fo.store.table import Column


def test_a_missing_store_says_what_to_do(tmp_path):
    with pytest.raises(StoreError, match="compute motion or gradients first"):
        RunStore(tmp_path / "none.zarr")


def test_a_folder_that_is_no_store_is_not_touched(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(StoreError, match="not a store"):
        RunStore(tmp_path / "photos")
    zarr.open_group(tmp_path / "other.zarr", mode="w", attributes={"mine": 1})
    for write in (False, True):
        with pytest.raises(StoreError, match="not a store of motive"):
            RunStore(tmp_path / "other.zarr", write=write)
    with pytest.raises(StoreError):
        delete_store(tmp_path / "other.zarr")
    assert (tmp_path / "other.zarr" / "zarr.json").exists()
    assert (tmp_path / "photos" / "a.jpg").exists()


def test_a_folder_of_other_files_is_never_made_a_store_or_deleted(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(StoreError):
        RunStore(tmp_path / "photos", write=True)
    with pytest.raises(StoreError):
        delete_store(tmp_path / "photos")
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["a.jpg"]


def test_another_format_version_is_refused(tmp_path):
    zarr.open_group(tmp_path / "new.zarr", mode="w", attributes={"format": "motive-fo", "version": 99})
    with pytest.raises(StoreMismatchError, match="format version 99, this motive writes 2"):
        RunStore(tmp_path / "new.zarr")


def test_a_second_writer_is_refused_and_a_reader_is_not(tmp_path):
    with RunStore(tmp_path / "run.zarr", write=True) as store:
        store.table("motion", {"norm": Column("float64")})
        with pytest.raises(StoreError, match="another process is writing"):
            RunStore(tmp_path / "run.zarr", write=True)
        assert RunStore(tmp_path / "run.zarr").has_table("motion")
    RunStore(tmp_path / "run.zarr", write=True).close()


def test_a_killed_writer_holds_nothing(tmp_path):
    code = (
        "import sys, time\nfrom motive_fo.store.run_store import RunStore\n"
        "RunStore(sys.argv[1], write=True)\nprint('held', flush=True)\ntime.sleep(60)"
    )
    path = tmp_path / "run.zarr"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(StoreError, match="another process"):
            RunStore(path, write=True)
        process.kill()
    time.sleep(0.05)
    RunStore(path, write=True).close()


def test_scores_are_replaced_whole(tmp_path):
    with RunStore(tmp_path / "run.zarr", write=True) as store:
        with pytest.raises(StoreError, match="no influence yet"):
            store.read_scores("motion")
        first = np.arange(6, dtype=np.float32).reshape(2, 3)
        store.write_scores({"motion": first}, ["a", "b", "c"], ["q", "r"], {"mask_side": "both"})
        store.write_scores({"motion": first[:1] * 2}, ["a", "b", "c"], ["q"], {"mask_side": "none"})
    scores, query, train = RunStore(tmp_path / "run.zarr").read_scores("motion")
    assert scores.tolist() == [[0, 2, 4]]
    assert (query, train) == (["q"], ["a", "b", "c"])
    assert not list((tmp_path / "run.zarr").glob("influence-*"))


def test_deleting_leaves_nothing(tmp_path):
    RunStore(tmp_path / "run.zarr", write=True).close()
    delete_store(tmp_path / "run.zarr")
    assert list(tmp_path.iterdir()) == []
    delete_store(tmp_path / "run.zarr")  # already gone


def test_a_store_of_another_version_can_be_deleted(tmp_path):
    """Its error says so."""
    zarr.open_group(tmp_path / "old.zarr", mode="w", attributes={"format": "motive-fo", "version": 1})
    with pytest.raises(StoreMismatchError, match="or delete the run"):
        RunStore(tmp_path / "old.zarr", write=True)
    delete_store(tmp_path / "old.zarr")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot write to"):
        RunStore(tmp_path / "file" / "run.zarr", write=True)


def test_what_a_kill_left_half_made_is_not_there_yet(tmp_path):
    """Found by killing at random moments: the next step could not read the table whose arrays were being made."""
    columns = {"sketch": Column("float32", (2, 4))}
    samples = samples_of((500.0, 750.0), (0,))
    with RunStore(tmp_path / "r.zarr", write=True) as store:
        store.table("motion", {"mean": Column("float32")})
        store.sketches("train", samples, columns, {}, ["all"])
        assert store.has_table("motion")
        assert store.has_table("train")
    for left_out, name in (("motion/status", "motion"), (f"train/{samples[1].table}/status", "train")):
        shutil.rmtree(tmp_path / "r.zarr" / left_out)
        assert not RunStore(tmp_path / "r.zarr").has_table(name)
    with RunStore(tmp_path / "r.zarr", write=True) as store:
        store.sketches("train", samples, columns, {}, ["all"])
        assert store.has_table("train")
