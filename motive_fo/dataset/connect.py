"""The door to FiftyOne: importing it, reaching its database, finding a dataset, each with one sentence on failure."""

from __future__ import annotations

import logging
import mimetypes
import re
from contextlib import suppress
from functools import lru_cache
from typing import Any

from motive_fo.errors import (
    DatabaseError,
    InputError,
    MissingDependencyError,
    MotiveError,
    is_out_of_memory,
    not_enough_memory,
)

# Python's own list lacks these on machines without /etc/mime.types, and FiftyOne asks it what a video is.
_VIDEO_TYPES = {
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".m4v": "video/x-m4v",
    ".flv": "video/x-flv",
    ".wmv": "video/x-ms-wmv",
    ".avi": "video/x-msvideo",
    ".3gp": "video/3gpp",
    ".ogv": "video/ogg",
}


@lru_cache(maxsize=1)  # asked for every file of a folder
def _register_video_types() -> None:
    for suffix, kind in _VIDEO_TYPES.items():
        if not (mimetypes.guess_type(f"x{suffix}")[0] or "").startswith("video/"):
            mimetypes.add_type(kind, suffix)


def is_video_name(name: str) -> bool:
    """Whether FiftyOne takes a file of this name for a video."""
    _register_video_types()
    return (mimetypes.guess_type(name)[0] or "").startswith("video/")


def _not_a_deprecation(record: logging.LogRecord) -> bool:
    return "oldest supported major version" not in record.getMessage()


@lru_cache(maxsize=1)
def fiftyone() -> Any:
    """The ``fiftyone`` module, connected to its database.

    Raises:
        MissingDependencyError: FiftyOne is not installed.
        DatabaseError: its database cannot be reached.
    """
    # a working database that upstream will stop supporting one day is no news for every command
    logging.getLogger("fiftyone.core.odm.database").addFilter(_not_a_deprecation)
    _register_video_types()
    try:
        import fiftyone
    except ImportError as error:
        raise MissingDependencyError(f"FiftyOne is missing ({error}): pip install fiftyone") from error
    except Exception as error:
        raise _database_error(error) from error
    try:
        fiftyone.list_datasets("motive-fo probes the database")
    except Exception as error:
        raise _database_error(error) from error
    return fiftyone


def make_durable(dataset: Any) -> None:
    """Wait until all that was written is in the database's journal: killed a moment later, it still has it.

    MongoDB answers before, by up to a tenth of a second, and whoever was told that a step is done would find its last
    fields gone. A write that changes nothing waits as well. A database without a journal keeps what it can.
    """
    from fiftyone.core.odm import get_db_conn
    from pymongo import WriteConcern
    from pymongo.errors import OperationFailure

    datasets = get_db_conn().get_collection("datasets", write_concern=WriteConcern(j=True))
    with suppress(OperationFailure):
        datasets.update_one({"name": dataset.name}, {"$set": {"name": dataset.name}})


def _database_error(error: Exception) -> MotiveError:
    import os

    if is_out_of_memory(RuntimeError(str(error))):  # whatever FiftyOne made of it
        return not_enough_memory(error)
    uri = os.environ.get("FIFTYONE_DATABASE_URI")
    # the URI may hold a password, and some errors quote it
    text = re.sub(r"(\w+://)[^/\s]*@", r"\1***@", " ".join(str(error).split()))[:300]
    if uri:
        return DatabaseError(f"the database named by FIFTYONE_DATABASE_URI cannot be reached ({text}): is it running?")
    return DatabaseError(
        f"FiftyOne cannot start its database ({text}): "
        "run `make install`, or set FIFTYONE_DATABASE_URI to a MongoDB of yours"
    )


def load_dataset(name: str) -> Any:
    """A video dataset by name. Raises ``InputError`` where there is none, or where it holds no videos."""
    fo = fiftyone()
    if not fo.dataset_exists(name):
        known = fo.list_datasets()
        more = f" and {len(known) - 10} more" if len(known) > 10 else ""
        listing = (
            f"there are: {', '.join(known[:10])}{more}" if known else "there are none yet (motive import FOLDER NAME)"
        )
        raise InputError(f"there is no dataset {name!r}; {listing}")
    dataset = fo.load_dataset(name)
    require_video(dataset)
    return dataset


def require_video(samples: Any) -> None:
    """Raise ``InputError`` unless the collection holds videos, each a sample of its own.

    The samples of a clips view are parts of videos, in a dataset that FiftyOne makes for the view and throws away:
    motion would be measured from the film's start, and what a run writes would be lost with them.
    """
    if getattr(samples, "_is_clips", False):
        raise InputError(
            "a clips view (to_clips, to_trajectories) holds parts of videos, and a run needs each clip as a file: "
            "write them (view.export(FOLDER, dataset_type=fiftyone.types.VideoDirectory)) and import those (motive "
            "import FOLDER NAME), or cut the videos into windows of one length (motive import --windows)"
        )
    if samples.media_type != "video":
        kind = f"{samples.media_type} samples" if samples.media_type else "no samples"
        raise InputError(f"dataset {dataset_of(samples).name!r} holds {kind}; videos are needed")


def dataset_id(dataset: Any) -> str:
    """A dataset's id in its database, which a clone does not share and a rename does not change; empty for one that is
    not made yet."""
    return str(dataset._doc.id) if hasattr(dataset, "_doc") else ""


def dataset_called(identity: str) -> str | None:
    """The name of the dataset with an id; None where there is none any more."""
    from bson import ObjectId
    from fiftyone.core.odm import get_db_conn

    found = get_db_conn().datasets.find_one({"_id": ObjectId(identity)}, ["name"])
    return None if found is None else str(found["name"])


def database_id() -> str:
    """The database's id; a copy of it shares it."""
    from fiftyone.core.odm import get_db_conn

    fiftyone()
    return str(max(each["_id"] for each in get_db_conn().config.find({}, ["_id"])))


def dataset_of(samples: Any) -> Any:
    """The dataset of a dataset or view."""
    return samples._dataset if hasattr(samples, "_dataset") else samples


def as_samples(samples: Any) -> Any:
    """A dataset's name, a dataset or a view as a collection of videos."""
    if isinstance(samples, str):
        return load_dataset(samples)
    require_video(samples)
    return samples


def require_name(run: str) -> str:
    """A run's name becomes a field and a run key: it must be an identifier."""
    if not run.isidentifier() or run.startswith("_"):
        raise MotiveError(f"{run!r} cannot name a run: use letters, digits and underscores, a letter first")
    return run
