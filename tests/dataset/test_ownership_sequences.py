"""Whatever FiftyOne does to datasets and runs, in whatever order: every store has one owner or is called an orphan,
nobody touches another's, and no clip keeps a number that its run did not compute."""

from __future__ import annotations

import random
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

import motive_fo
from motive_fo.dataset.adoption import orphans
from motive_fo.dataset.fields import strangers
from motive_fo.dataset.ownership import all_records, held_by, open_store
from motive_fo.dataset.run_record import list_runs, load_run
from motive_fo.errors import MotiveError
from motive_fo.store.merge import merge_stores
from motive_fo.store.run_store import RunStore
from motive_fo.store.shards import Shard
from motive_fo.synthetic.corpus import write_corpus


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few")
    return write_corpus(folder, train=4, queries=1, static=0, damaged=0, seed=3, size=(32, 32), seconds=1.25, fps=16)


class World:
    """Datasets, and what may be done to them. Every action is undone by nobody: they add up."""

    def __init__(self, clips, tmp_path: Path, seed: int) -> None:
        self.clips, self.folder, self.rng = clips, tmp_path, random.Random(seed)
        self.datasets: list[str] = []
        self.refused: list[str] = []
        self._import()

    def actions(self) -> list[Callable[[], str | None]]:
        """Each returns the store that it may write to or delete, if any."""
        return [
            self._import, self._step, self._step, self._step, self._clone, self._rename, self._delete_dataset,
            self._delete_run, self._delete_run_by_fiftyone, self._rename_run, self._delete_sample, self._add_sample,
            self._retag, self._shard_and_merge, self._merge_samples, self._export_and_import, self._adopt,
        ]  # fmt: skip

    def _name(self) -> str:
        # few names, so that they are used again
        free = [name for name in (f"{self.folder.name}-{letter}" for letter in "abcd") if not fo.dataset_exists(name)]
        name = self.rng.choice(free) if free else f"{self.folder.name}-{uuid.uuid4().hex[:6]}"
        self.datasets.append(name)
        return name

    def _one(self):
        if not self.datasets:
            self._import()
        dataset = fo.load_dataset(self.rng.choice(self.datasets))
        dataset.reload()
        return dataset

    def _run_of(self, dataset) -> str:
        return self.rng.choice(list_runs(dataset) or ["motive"])

    def _store_of(self, dataset, run: str) -> str | None:
        known = run in list_runs(dataset)
        return load_run(dataset, run).store if known and held_by(load_run(dataset, run)) in ("own", None) else None

    def _import(self) -> None:
        motive_fo.import_clips(self.clips.train_metadata.parent, self._name())

    def _step(self) -> str | None:
        dataset = self._one()
        run = self._run_of(dataset)
        motive_fo.compute_motion(dataset, run)
        assert not strangers(dataset, run, open_store(load_run(dataset, run)))
        return self._store_of(dataset, run)

    def _clone(self) -> None:
        self._one().clone(self._name(), persistent=True)

    def _rename(self) -> None:
        dataset = self._one()
        old = dataset.name
        dataset.name = self._name()
        self.datasets.remove(old)

    def _delete_dataset(self) -> None:
        if len(self.datasets) > 1:
            name = self.rng.choice(self.datasets)
            self.datasets.remove(name)
            fo.delete_dataset(name)

    def _delete_run(self) -> str | None:
        dataset = self._one()
        run = self._run_of(dataset)
        store = self._store_of(dataset, run)
        motive_fo.delete_run(dataset, run, keep_store=self.rng.random() < 0.3)
        return store

    def _delete_run_by_fiftyone(self) -> None:
        dataset = self._one()
        for run in list_runs(dataset):
            dataset.delete_run(run)

    def _rename_run(self) -> None:
        dataset = self._one()
        if list_runs(dataset):
            dataset.rename_run(self._run_of(dataset), f"run_{uuid.uuid4().hex[:6]}")

    def _delete_sample(self) -> None:
        dataset = self._one()
        if len(dataset) > 2:
            dataset.delete_samples([self.rng.choice(dataset.values("id"))])

    def _add_sample(self) -> None:
        dataset = self._one()
        file = self.folder / f"{uuid.uuid4().hex}.mp4"
        shutil.copy(dataset.first().filepath, file)
        dataset.add_sample(fo.Sample(filepath=str(file), tags=["train"], motive_id=file.stem))

    def _retag(self) -> None:
        sample = self._one().first()
        sample.tags = ["query"] if "train" in sample.tags else ["train"]
        sample.save()

    def _shard_and_merge(self) -> str | None:
        dataset = self._one()
        run = self._run_of(dataset)
        for n in (1, 2):
            motive_fo.compute_motion(dataset, run, shard=f"{n}/2")
        dataset.reload()
        record = load_run(dataset, run)
        merge_stores(record.store, [Shard(n, 2).place(record.store) for n in (1, 2)])
        for n in (1, 2):
            shutil.rmtree(Shard(n, 2).place(record.store))
        return record.store

    def _merge_samples(self) -> None:
        self._one().merge_samples(self._one(), key_field="motive_id")

    def _export_and_import(self) -> None:
        folder = self.folder / uuid.uuid4().hex
        self._one().export(str(folder), dataset_type=fo.types.FiftyOneDataset, export_media=False)
        fo.Dataset.from_dir(str(folder), fo.types.FiftyOneDataset, name=self._name(), persistent=True)

    def _adopt(self) -> str | None:
        dataset = self._one()
        stores = [each.store for each in orphans()] + [load_run(dataset, name).store for name in list_runs(dataset)]
        if not stores:
            return None
        store = self.rng.choice(stores)
        motive_fo.adopt_store(dataset, store)
        return store

    def act(self) -> str:
        """One action; what others own is as before."""
        before = _stores()
        action = self.rng.choice(self.actions())
        mine: str | None = None
        try:
            mine = action()
        except MotiveError as error:
            self.refused.append(f"{action.__name__}: {error}")
        after = _stores()
        for store, was in before.items():
            if store != mine and after.get(store) != was:
                whose = [name for name, record in all_records() if record.store == store]
                raise AssertionError(f"{action.__name__} touched {store}, of {whose}")
        return action.__name__

    def check(self) -> None:
        """What is always so."""
        listed = {orphan.store: str(orphan) for orphan in orphans()}
        owners: dict[str, list[str]] = {}
        for name, record in all_records():
            if name in self.datasets and held_by(record) == "own":
                owners.setdefault(record.store, []).append(f"{name}/{record.run}")
        for store in _stores():
            assert len(owners.get(store, [])) + (store in listed) == 1, (store, owners.get(store), listed.get(store))
        for line in listed.values():
            assert "motive runs adopt" in line
            assert "rm -r" in line
        for name in self.datasets:
            dataset = fo.load_dataset(name)
            dataset.reload()
            for run in list_runs(dataset):
                self._check_numbers(dataset, run)

    def _check_numbers(self, dataset, run: str) -> None:
        record = load_run(dataset, run)
        if held_by(record) != "own" or "motion" not in record.steps:
            return
        with RunStore(record.store) as store:
            foreign = strangers(dataset, run, store)
            table = store.table("motion")
            said = dict(zip(dataset.values("motive_id"), dataset.values(f"{run}.motion_mean"), strict=True))
            known = [clip for clip in said if clip in table and clip not in foreign and said[clip] is not None]
            stored = table.read("mean", known) if known else np.empty(0)
            assert np.allclose(stored, [said[clip] for clip in known], rtol=1e-6)


def _stores() -> dict[str, tuple[tuple[str, int, int], ...]]:
    """Every store in the data folder, with names, sizes and times of its files."""
    from motive_fo.dataset.run_record import data_folder, measured_folder

    return {
        str(path): tuple(
            (str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns)
            for file in sorted(path.rglob("*"))
            if file.is_file()
        )
        for path in sorted(data_folder().glob("*/*.zarr"))
        if path.parent != measured_folder() and ".shard-" not in path.name
    }


def _play(clips, tmp_path, monkeypatch, seed: int, steps: int) -> None:
    monkeypatch.setenv("MOTIVE_DATA", str(tmp_path / "data"))
    world = World(clips, tmp_path, seed)
    done = []
    try:
        for _ in range(steps):
            done.append(world.act())
            world.check()
    except BaseException as error:
        error.add_note(f"after {done}; refused: {world.refused}")
        raise
    finally:
        for name in world.datasets:
            if fo.dataset_exists(name):
                fo.delete_dataset(name)


@pytest.mark.parametrize("seed", range(2))
def test_stores_and_runs_stay_each_others(database, clips, tmp_path, monkeypatch, seed):
    _play(clips, tmp_path, monkeypatch, seed, 25)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 112))
def test_they_do_in_many_orders(database, clips, tmp_path, monkeypatch, seed):
    _play(clips, tmp_path, monkeypatch, seed, 60)
