"""Stores without an owner: which there are, and how a run makes one its own. See ``ownership``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from motive_fo.dataset.choose import records_of
from motive_fo.dataset.connect import as_samples, database_id, dataset_called, dataset_id, dataset_of, require_name
from motive_fo.dataset.fields import declare_fields
from motive_fo.dataset.ownership import all_records, claim
from motive_fo.dataset.run_record import (
    RunRecord,
    data_folder,
    has_run,
    list_runs,
    load_run,
    measured_folder,
    now,
    save_run,
)
from motive_fo.errors import InputError, MotiveError
from motive_fo.pipeline.record import ClipRecord, outdated
from motive_fo.store.address import whole_path
from motive_fo.store.merge import tables_of
from motive_fo.store.owner import Owner
from motive_fo.store.run_store import RunStore
from motive_fo.store.shards import unsharded


@dataclass(frozen=True)
class Adopted:
    """A store that belongs to a run now.

    Attributes:
        run, store: the run and its store.
        clips: clips of the dataset that the store has rows of.
        changed: those of them whose file is another one now; the next step computes them again.
        former: whose it was; None for nobody's.
    """

    run: str
    store: str
    clips: int
    changed: list[str]
    former: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def adopt_store(dataset: Any, store: str | Path, run: str | None = None, *, take: bool = False) -> Adopted:
    """Make a store a run's own, that of a clone, an import, a restored backup or a deleted run.

    Nothing is computed, and no figure is written: the next step finds everything computed and writes the fields.

    Args:
        dataset: a dataset or its name.
        store: its folder or URL; a copy of another run's store too.
        run: the run's name; the one of the dataset's record that names the store, or the one the store was made for.
        take: from a run that may still use it, which then can neither read nor write it.

    Raises:
        InputError: the store holds other clips, or belongs to a run that may still use it.
        StoreError: there is no such store, or somebody writes to it.
    """
    dataset = dataset_of(as_samples(dataset))
    place = whole_path(store)
    RunStore(place)  # says what is wrong with it before a lock is made there
    with RunStore(place, write=True) as opened:
        owner = opened.owner
        record = _record(dataset, place, owner, run)
        if not take:
            _require_free(record, place, owner)
        common, changed = _compared(dataset, record, opened)
        if owner is not None and not record.settings:
            record.settings, record.preset = dict(owner.begun_with["settings"]), owner.begun_with["preset"]
            record.train, record.query = owner.begun_with["train"], owner.begun_with["query"]
        if record.store != place:
            record.store, record.overlays = place, None
        if record.is_copy:
            record.exports = []
        record.generation = 0 if owner is None else owner.generation
        claimed = claim(dataset, record, new=True)
        save_run(dataset, record)
        opened.note_owner(claimed)
    declare_fields(dataset, record.run)
    return Adopted(record.run, place, common, changed, None if owner is None else str(owner))


def _record(dataset: Any, place: str, owner: Owner | None, run: str | None) -> RunRecord:
    """The dataset's record that is to own the store, or a new one."""
    naming = [name for name in list_runs(dataset) if load_run(dataset, name).store == place]
    name = require_name(run or (naming[0] if naming else owner.name if owner else "motive"))
    if has_run(dataset, name):
        record = load_run(dataset, name)
        if record.store != place and (owner is None or record.id != owner.run):
            raise InputError(f"run {name!r} has its store in {record.store}: choose another name with --run")
        return record
    if name in dataset.list_runs():
        raise InputError(f"{name!r} is a run of dataset {dataset.name!r} and not one of motive: choose --run")
    here = dataset_id(dataset)
    return RunRecord(name, place, groups=[name], created=now(), dataset_id=here, opened_in=here)


def _require_free(record: RunRecord, place: str, owner: Owner | None) -> None:
    """Raise ``InputError`` where another run owns the store, or may."""
    mine = (record.opened_in, record.run)
    for name, each in all_records():
        at_home = owner is None or (each.id == owner.run and each.opened_in == owner.dataset)
        if at_home and each.store == place and (each.opened_in, each.run) != mine:
            raise InputError(
                f"{place} is the store of run {each.run!r} of dataset {name!r}: copy the folder and adopt the copy, or "
                "take it away from that run (--take)"
            )
    if owner is None or (owner.dataset == record.opened_in and owner.generation <= record.generation):
        return
    if owner.database != database_id() or (owner.dataset == record.opened_in and owner.run == record.id):
        raise InputError(
            f"{place} belongs to {owner}, in another database or another copy of this one, where it may still be used: "
            "make sure that it is not, and take it (--take)"
        )


def _compared(dataset: Any, record: RunRecord, store: RunStore) -> tuple[int, list[str]]:
    """How many clips of the dataset the store has rows of, and those whose files are others now."""
    tables = dict(tables_of(store))
    if not tables:
        raise InputError(f"{store.place} has no row yet: there is nothing to adopt")
    name = "motion" if "motion" in tables else next(iter(tables))
    common: list[ClipRecord] = [each for each in records_of(dataset).records if each.id in tables[name]]
    if not common:
        raise InputError(f"{store.place} has no clip of dataset {dataset.name!r}: it is the store of other clips")
    changed = [each.id for each in outdated(tables[name], common, with_caption=name != "motion")]
    if 2 * len(changed) > len(common):
        raise InputError(
            f"{len(changed)} of the {len(common)} clips that {store.place} shares with dataset {dataset.name!r} have "
            f"other files there ({changed[0]}): it is the store of other clips, or the files were moved over"
        )
    return len(common), changed


@dataclass(frozen=True)
class Orphan:
    """A store in the data folder that no run owns.

    Attributes:
        store: its folder.
        whose: the run that made it; None where it does not say.
        dataset: the dataset that could adopt it, if there is one.
    """

    store: str
    whose: str | None
    dataset: str | None

    def __str__(self) -> str:
        whose, adopt = f" of {self.whose}" if self.whose else "", f"motive runs adopt {self.dataset or 'DATASET'}"
        return (
            f"no run owns {self.store}{whose}: {adopt} {self.store} makes it one's own, "
            f"rm -r {self.store} {self.store}.lock removes it"
        )


def orphans() -> Iterator[Orphan]:
    """Stores in the data folder that no run of this database owns; those that say another database are left out."""
    here = database_id()
    known = list(all_records())
    for path in sorted(data_folder().glob("*/*.zarr")):
        if path.parent == measured_folder():  # of all runs
            continue
        try:
            owner = RunStore(path).owner
        except MotiveError:  # no store, or one that cannot be read: its run's own check says so
            continue
        if owner is not None and owner.database != here:
            continue
        naming = [(name, each) for name, each in known if each.store == unsharded(str(path))]
        if any(_owns(each, owner) for _, each in naming):
            continue
        if unsharded(str(path)) != str(path) and owner and any(each.id == owner.run for _, each in known):
            continue  # a shard of a run whose store lies elsewhere
        heir = naming[0][0] if naming else None if owner is None else dataset_called(owner.dataset)
        yield Orphan(str(path), None if owner is None else str(owner), heir)


def _owns(record: RunRecord, owner: Owner | None) -> bool:
    if owner is None:
        return not record.is_copy
    return record.id in ("", owner.run) and owner.dataset == record.opened_in
