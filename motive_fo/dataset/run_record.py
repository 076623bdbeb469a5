"""The record of a run in its dataset: settings, store, and everything the run wrote, so that all of it can be found
and removed.

It is kept as one of FiftyOne's own runs (``fiftyone_run``): a dataset opens without this package too, with a warning.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import motive_fo
from motive_fo.config import (
    AttributionConfig,
    ClipConfig,
    FlowConfig,
    InfluenceConfig,
    MotionConfig,
    SelectionConfig,
    merge,
    plain,
    preset_settings,
)
from motive_fo.dataset.connect import dataset_called, dataset_id, fiftyone
from motive_fo.errors import InputError

METHOD = "motive-fo"
FINGERPRINTS = "fingerprints"

#: step -> what the names of the store's parts begin with that it writes, or, for ``curate``, reads.
_BEHIND = {
    "motion": "motion",
    "query gradients": "query/",
    "train gradients": "train/",
    "influence": "influence",
    "curate": "influence",
}

_SECTIONS: dict[str, type[Any]] = {
    "clip": ClipConfig,
    "flow": FlowConfig,
    "motion": MotionConfig,
    "attribution": AttributionConfig,
    "influence": InfluenceConfig,
    "selection": SelectionConfig,
}


def data_folder() -> Path:
    """Where stores are kept: ``MOTIVE_DATA``, else ``motive-fo`` in the user's data folder."""
    chosen = os.environ.get("MOTIVE_DATA")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "motive-fo"


def measured_folder() -> Path:
    """Where measured motion is kept for all runs: it can be deleted at any time and is then measured again."""
    return data_folder() / "measured-motion"


def encodings_folder() -> Path:
    """Where latents and text embeddings of large models are kept for all runs: it can be deleted at any time too."""
    return data_folder() / "encodings.zarr"


@dataclass
class RunRecord:
    """What is known of a run.

    Attributes:
        run: name of the run: its field group and its key among the dataset's runs.
        store: folder or URL of its Zarr store.
        preset: what it was begun with: the settings of sections that no step has used yet.
        settings: section -> settings it was computed with.
        groups: field groups it wrote into the dataset.
        views: saved views it wrote.
        query_dataset: second dataset that holds its queries and got the same field group, if any.
        train, query: names by which its clips were chosen, if they were named.
        brain_keys: maps and similarity indexes made of its sketches.
        workspaces: saved workspaces of the App that were laid out for it.
        overlays: folder of its masks as pictures, which the frame field ``RUN_motion_mask`` shows; None for none.
        exports: folders it exported to; they belong to the user and outlive the run.
        steps: step -> report of its last execution, with the ``fingerprints`` of what it computed or used: part of
            the store (and ``selection``) -> digest of its settings, as ``store.fingerprints`` gives it.
        version, created, updated: of motive-fo, and UTC times.
        id: of this run and no other, for good; empty in records that were written before runs had ids.
        dataset_id: of the dataset it was begun in: a clone's copy names the original's.
        query_dataset_id: of the second dataset, which may have been renamed.
        generation: how often a step has written to the store.
        opened_in: id of the dataset it was read from; not kept.
    """

    run: str
    store: str
    preset: str = "default"
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    query_dataset: str | None = None
    train: str | None = None
    query: str | None = None
    brain_keys: list[str] = field(default_factory=list)
    workspaces: list[str] = field(default_factory=list)
    overlays: str | None = None
    exports: list[str] = field(default_factory=list)
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    version: str = motive_fo.__version__
    created: str = ""
    updated: str = ""
    id: str = ""
    dataset_id: str = ""
    query_dataset_id: str = ""
    generation: int = 0
    opened_in: str = ""

    @property
    def is_copy(self) -> bool:
        """Whether FiftyOne copied it from another dataset: by a clone, or by an import of an exported dataset."""
        return self.dataset_id not in ("", self.opened_in)

    def as_dict(self) -> dict[str, Any]:
        """What is kept of it, plain data for JSON."""
        known = asdict(self)
        del known["opened_in"]
        return known

    def section(self, name: str) -> Any:
        """Settings of one section: what the run was begun with, or the preset's."""
        known = self.settings.get(name) or preset_settings(self.preset, name)
        if name == "motion" and self.settings.get(name):
            known = {"timing": "frames", **known}  # a run from before this setting goes on as it was begun
        return _SECTIONS[name](**{k: tuple(v) if isinstance(v, list) else v for k, v in known.items()})

    def settle(self, name: str, given: Any | Mapping[str, Any] | None, preset: str | None = None) -> Any:
        """The settings to use, noted in the record.

        Args:
            given: the whole section; or some of its settings, changed against what the run was begun with (or its
                preset); or None for no change.
            preset: settings to start from instead of those the run was begun with.

        Raises:
            ConfigError: a setting is unknown or wrong.
        """
        base = self.section(name)
        if preset is not None:
            base = merge(base, preset_settings(preset, name), name)
        config = merge(base, given, name)
        self.settings[name] = plain(config)
        return config


def has_run(dataset: Any, run: str) -> bool:
    """Whether the dataset has a run of ours by this name."""
    return run in dataset.list_runs() and dataset.get_run_info(run).config.method == METHOD


def load_run(dataset: Any, run: str) -> RunRecord:
    """A run's record. Raises ``InputError`` where there is none."""
    if not has_run(dataset, run):
        known = list_runs(dataset)
        raise InputError(
            f"dataset {dataset.name!r} has no run {run!r}; "
            + (f"it has: {', '.join(known)}" if known else "it has none yet")
        )
    record = RunRecord(**json.loads(dataset.get_run_info(run).config.record), opened_in=dataset_id(dataset))
    if record.run != run:
        raise InputError(
            f"run {run!r} of dataset {dataset.name!r} was called {record.run!r} when its fields were named, and was "
            f"renamed where motive-fo is not installed: dataset.rename_run({run!r}, {record.run!r}) brings it back"
        )
    if record.query_dataset_id:
        record.query_dataset = dataset_called(record.query_dataset_id)
    return record


def list_runs(dataset: Any) -> list[str]:
    """Names of our runs in a dataset."""
    return [key for key in dataset.list_runs() if dataset.get_run_info(key).config.method == METHOD]


def save_run(dataset: Any, record: RunRecord) -> None:
    """Write the record into the dataset, new or again; what a step came from is noted with it."""
    note_fingerprints(record)
    record.updated = now()
    config = run_config(record)
    if record.run in dataset.list_runs():
        dataset.update_run_config(record.run, config)
    else:
        dataset.register_run(record.run, config)


def run_config(record: RunRecord) -> Any:
    """The record as FiftyOne keeps it."""
    from motive_fo.dataset.fiftyone_run import MotiveRunConfig  # which imports FiftyOne

    # one JSON text: the database would turn dots and nested classes into something else
    return MotiveRunConfig(record=json.dumps(record.as_dict(), sort_keys=True))


def note_fingerprints(record: RunRecord) -> None:
    """Note on steps that were executed just now, which have none, where their figures come from."""
    fresh = [step for step in _BEHIND if step in record.steps and FINGERPRINTS not in record.steps[step]]
    if not fresh:
        return
    from motive_fo.store.fingerprints import origins  # which imports more than listing runs needs
    from motive_fo.store.identity import fingerprint

    parts = {part: origin.digest for part, origin in origins(record.store).items()}
    for step in fresh:
        known = {part: digest for part, digest in parts.items() if part.startswith(_BEHIND[step])}
        if step == "curate":
            known["selection"] = fingerprint(record.settings.get("selection", {}))
        record.steps[step] = {**record.steps[step], FINGERPRINTS: known}


def drop_run(dataset: Any, record: RunRecord) -> None:
    """Remove the record and everything in the database it names."""
    from fiftyone.core.runs import Run

    remove_traces(dataset, record)
    Run.delete_run(dataset, record.run, cleanup=False)


def remove_traces(dataset: Any, record: RunRecord) -> None:
    """Remove what a run wrote into its dataset, and into that of its queries; what is gone already is no matter.

    A copied record's queries are the original's: its fields there stay.
    """
    fo = fiftyone()
    for view in record.views:
        if dataset.has_saved_view(view):
            dataset.delete_saved_view(view)
    for key in record.brain_keys:
        if dataset.has_brain_run(key):
            dataset.delete_brain_run(key)
    for name in record.workspaces:
        if dataset.has_workspace(name):
            dataset.delete_workspace(name)
    holders = [dataset]
    if record.query_dataset and not record.is_copy and fo.dataset_exists(record.query_dataset):
        holders.append(fo.load_dataset(record.query_dataset))
    for holder in holders:
        present = [name for name in record.groups if holder.has_sample_field(name)]
        if present:
            holder.delete_sample_fields(present)


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
