"""The store of a run: found, refused, locked, deleted."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

from motive_fo.errors import StoreError, StoreMismatchError
from motive_fo.store.place import Folder
from motive_fo.store.run_store import RunStore, delete_store
from motive_fo.store.scores import ScoreWriter
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


_DIES = """
import os, sys
from pathlib import Path
import numpy as np
from motive_fo.store.run_store import RunStore

rename, left = Path.rename, [int(sys.argv[2])]
def dies(self, target):
    if left[0] == 0:
        os._exit(9)
    left[0] -= 1
    return rename(self, target)
Path.rename = dies
with RunStore(sys.argv[1], write=True) as store:
    if sys.argv[3] == "influence":
        store.write_scores({"motion": np.full((1, 2), 2, np.float32)}, ["a", "b"], ["q"], {})
    else:
        store.keep_parameters({"new.weight": 2})
"""


def _last(path):
    """What a reader finds: a score of the last scoring, and the names of the parameters."""
    store = RunStore(path)
    assert store.has_table("influence")
    assert store.has_table("parameters")
    return float(store.read_scores("motion")[0][0, 0]), list(store.read_parameters())


@pytest.mark.parametrize("part", ["influence", "parameters"])
@pytest.mark.parametrize("renames", [0, 1])
def test_a_kill_while_a_part_is_replaced_leaves_the_one_before(tmp_path, part, renames):
    """Before the first rename and between the two; from the second on it is the new one, as below."""
    path = tmp_path / "run.zarr"
    with RunStore(path, write=True) as store:
        store.write_scores({"motion": np.ones((1, 2), np.float32)}, ["a", "b"], ["q"], {})
        store.keep_parameters({"old.weight": 1})
    died = subprocess.run([sys.executable, "-c", _DIES, str(path), str(renames), part], check=False)
    assert died.returncode == 9
    assert (path / part).exists() == (renames == 0)
    assert _last(path) == (1.0, ["old.weight"])
    with RunStore(path, write=True):
        assert _last(path) == (1.0, ["old.weight"])
    assert sorted(each.name for each in path.iterdir()) == ["influence", "parameters", "zarr.json"]


def test_a_kill_after_a_part_was_replaced_leaves_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "run.zarr"
    with RunStore(path, write=True) as store:
        store.write_scores({"motion": np.ones((1, 2), np.float32)}, ["a", "b"], ["q"], {})
        store.keep_parameters({"old.weight": 1})
        monkeypatch.setattr(Folder, "settle", lambda *_: None)  # what comes after the second rename
        store.write_scores({"motion": np.full((1, 2), 2, np.float32)}, ["a", "b"], ["q"], {})
        store.keep_parameters({"new.weight": 2})
    monkeypatch.undo()
    assert (path / "influence-replaced").exists()
    assert _last(path) == (2.0, ["new.weight"])
    with RunStore(path, write=True):
        assert _last(path) == (2.0, ["new.weight"])
    assert sorted(each.name for each in path.iterdir()) == ["influence", "parameters", "zarr.json"]


def test_a_disk_that_fails_in_between_puts_the_last_scoring_back(tmp_path, monkeypatch):
    path = tmp_path / "run.zarr"
    rename = Path.rename

    def fails(self, target):
        if target.name == "influence" and not self.name.endswith("replaced"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    with RunStore(path, write=True) as store:
        store.write_scores({"motion": np.ones((1, 2), np.float32)}, ["a", "b"], ["q"], {})
        before = store.scores("motion")
        monkeypatch.setattr(Path, "rename", fails)
        with pytest.raises(OSError, match="Input/output"):
            store.write_scores({"motion": np.zeros((1, 2), np.float32)}, ["a", "b"], ["q"], {})
        assert before[0].tolist() == [1, 1]
        assert store.read_scores("motion")[0].tolist() == [[1, 1]]
    assert not list(path.glob("influence-*"))


def test_scores_that_cannot_be_written_keep_the_last_ones(tmp_path, monkeypatch):
    """They are written by a thread: its error comes out, and nothing half-written is kept."""
    with RunStore(tmp_path / "run.zarr", write=True) as store:
        store.write_scores({"motion": np.ones((1, 2), np.float32)}, ["a", "b"], ["q"], {})

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(ScoreWriter, "_write", full)
        with pytest.raises(OSError, match="No space left"):
            store.write_scores({"motion": np.zeros((1, 2), np.float32)}, ["a", "b"], ["q"], {})
        assert store.read_scores("motion")[0].tolist() == [[1, 1]]


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
