"""A run and the store that is its own: no store is written to or deleted for another run's record.

A record is copied whenever FiftyOne copies its dataset, and a dataset's name and a store's path are used again. So the
two know each other by ids (``store.owner``). What a record may do with the store that it names:

* *own*: everything;
* *copy*: the record was copied into another dataset, a clone's for instance: it may read;
* *older*: another copy of the record has written since, in a copied or restored database: it may read;
* *shared*: nobody owns the store yet, as it is of a version before owners, and several records name it: it may read;
* *other*: the store belongs to another run: it may not even read.

``adoption.adopt_store`` makes a store a record's own.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from motive_fo.dataset.connect import database_id, dataset_called, dataset_id, fiftyone, require_name
from motive_fo.dataset.run_record import METHOD, RunRecord, data_folder, has_run, load_run, now, run_config
from motive_fo.errors import InputError, StoreError, StoreMismatchError
from motive_fo.store.address import whole_path
from motive_fo.store.owner import Owner
from motive_fo.store.place import place_of
from motive_fo.store.run_store import RunStore

Standing = Literal["own", "copy", "older", "shared", "other"]
_READABLE: Final = ("own", "copy", "older", "shared")


def open_run(dataset: Any, run: str, store: str | Path | None = None) -> RunRecord:
    """The record of a run, or a new one that is not saved yet.

    A store of this dataset that no run names any more, or a copy of one, is taken up: that of a run of this name whose
    record was deleted, or the one that is given.

    Raises:
        InputError: the name is taken by a field or a run that is not ours, or the store's place was changed.
        StoreError: the store of a new run belongs to another.
    """
    require_name(run)
    if has_run(dataset, run):
        record = load_run(dataset, run)
        if store is not None and whole_path(store) != record.store:
            raise InputError(
                f"run {run!r} keeps its store in {record.store}: leave --store out, or choose another run name"
            )
        return record
    if run in dataset.list_runs() or dataset.has_sample_field(run):
        raise InputError(
            f"{run!r} is already a field or run of dataset {dataset.name!r} and not one of motive: choose --run"
        )
    identity, here = uuid.uuid4().hex, dataset_id(dataset)
    place = whole_path(data_folder() / _slug(dataset.name) / f"{run}.zarr" if store is None else store)
    record = RunRecord(run, place, created=now(), id=identity, dataset_id=here, opened_in=here)
    if not place_of(place).is_there():
        return record
    owner = RunStore(place).owner
    left = owner is not None and owner.dataset == here and not any(each.store == place for _, each in all_records())
    if owner is not None and left and (store is not None or owner.name == run):
        record.id, record.generation = owner.run, owner.generation
        record.settings, record.preset = dict(owner.begun_with["settings"]), owner.begun_with["preset"]
    elif store is None:
        record.store = place.removesuffix(".zarr") + f"-{identity[:8]}.zarr"
    else:
        whose = "a run that is not known any more" if owner is None else str(owner)
        raise StoreError(
            f"{place} is the store of {whose}: leave --store out or name another place, or make it this dataset's own "
            f"(motive runs adopt {dataset.name} {place} --run {run})"
        )
    return record


def register_once(dataset: Any, record: RunRecord) -> RunRecord:
    """Save a new run's record unless another process did so first; the record that is there then.

    The jobs of an array begin at the same moment, and are one run.
    """
    from fiftyone.core.odm import get_db_conn
    from fiftyone.core.odm.runs import RunDocument

    document = RunDocument(
        dataset_id=dataset._doc.id,
        key=record.run,
        version=fiftyone().__version__,
        config=run_config(record).serialize(),
    )
    document.save(upsert=True)
    known = f"runs.{record.run}"
    done = get_db_conn().datasets.update_one(
        {"_id": dataset._doc.id, known: {"$exists": False}}, {"$set": {known: document.id}}
    )
    if not done.modified_count:
        document.delete()
    dataset.reload()
    return load_run(dataset, record.run)


def open_store(record: RunRecord) -> RunStore:
    """A run's store for reading. Raises ``StoreError`` where there is none, or where it belongs to another run."""
    store = RunStore(record.store)
    if standing(record, store.owner) not in _READABLE:
        raise StoreError(_refusal(record, store.owner))
    return store


def require_own(record: RunRecord, store: RunStore) -> None:
    """Raise ``StoreError``, which names the way out, where a record may not write to a store or delete it."""
    if standing(record, store.owner) != "own":
        raise StoreError(_refusal(record, store.owner))


def standing(record: RunRecord, owner: Owner | None) -> Standing:
    """What a record may do with the store that it names; see the module."""
    if owner is None:
        if record.is_copy:
            return "copy"
        return "shared" if any(True for _ in _others_naming(record)) else "own"
    if record.id not in ("", owner.run):
        return "other"
    if not record.id or record.is_copy or owner.dataset != record.opened_in:
        return "copy"
    return "older" if record.generation < owner.generation else "own"


def held_by(record: RunRecord) -> Standing | None:
    """What a record may do with its store as it lies there; None where there is no store."""
    if not place_of(record.store).is_there():
        return None
    return standing(record, _owner(record))


def notice(record: RunRecord) -> str | None:
    """Whose store a record names, for whoever reads it; None for its owner, and where there is no store."""
    return None if held_by(record) in ("own", None) else _whose(record, _owner(record))


def _owner(record: RunRecord) -> Owner | None:
    try:
        return RunStore(record.store).owner
    except StoreMismatchError:  # of another format version, when stores had no owners
        return None


def claim(dataset: Any, record: RunRecord, *, new: bool = False) -> Owner:
    """The record as its store notes it, one generation on; a record that is new, or has no id yet, is given one."""
    record.id = uuid.uuid4().hex if new else record.id or uuid.uuid4().hex
    record.dataset_id = record.opened_in
    record.generation += 1
    return owner_of(dataset, record)


def owner_of(dataset: Any, record: RunRecord) -> Owner:
    """The record as its store notes it."""
    begun_with = {name: getattr(record, name) for name in ("preset", "settings", "train", "query")}
    return Owner(record.id, record.dataset_id, database_id(), record.generation, record.run, dataset.name, begun_with)


def all_records() -> Iterator[tuple[str, RunRecord]]:
    """Every run's record in the database, with the name of its dataset."""
    from fiftyone.core.odm import get_db_conn

    for found in get_db_conn().runs.find({"config.method": METHOD}, ["_dataset_id", "key", "config.record"]):
        name = dataset_called(str(found["_dataset_id"]))
        if name is not None:
            record = RunRecord(**json.loads(found["config"]["record"]), opened_in=str(found["_dataset_id"]))
            yield name, record


def _others_naming(record: RunRecord) -> Iterator[str]:
    """Datasets whose records name the same store."""
    for name, each in all_records():
        if each.store == record.store and (each.opened_in, each.run) != (record.opened_in, record.run):
            yield name


def _refusal(record: RunRecord, owner: Owner | None) -> str:
    adopt = f"motive runs adopt {dataset_called(record.opened_in)} {record.store}"
    if standing(record, owner) == "other":
        return f"{_whose(record, owner)}. Take it back ({adopt} --take), or compute again under another --run"
    return (
        f"{_whose(record, owner)}, and can only be read here. To write to it or delete it: {adopt}; or compute anew "
        "under another --run"
    )


def _whose(record: RunRecord, owner: Owner | None) -> str:
    store = f"the store {record.store} of run {record.run!r}"
    match standing(record, owner):
        case "copy":
            return f"{store} is that of {owner or 'the run'}, from which its record was copied"
        case "older":
            return f"{store} was written to by another copy of the database since"
        case "shared":
            return f"{store} is named by dataset {' and '.join(sorted(map(repr, _others_naming(record))))} too"
        case _:
            return f"{store} was taken over by {owner}"


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
