"""A run of ours as FiftyOne knows it: what happens when it is renamed or deleted there, not here.

FiftyOne finds the two classes by name. Where this package is missing it says so, and takes a plain run instead.
"""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import fiftyone as fo

from motive_fo.dataset.connect import dataset_called, dataset_id, dataset_of
from motive_fo.dataset.overlay_files import overlay_field, remove_overlays
from motive_fo.dataset.ownership import held_by
from motive_fo.dataset.run_record import METHOD, RunRecord, remove_traces, run_config

_LOG = logging.getLogger(__name__)


class MotiveRunConfig(fo.RunConfig):  # type: ignore[misc]
    """Holds the run's record, one JSON text."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"method": METHOD, **kwargs})


class MotiveRun(fo.Run):  # type: ignore[misc]
    """What FiftyOne calls when it renames or deletes a run."""

    def cleanup(self, samples: Any, key: str) -> None:
        """Remove fields, views and pictures. The store stays, and where it lies is said: it may be hours of work."""
        dataset = dataset_of(samples)
        record = _record(self.config, dataset)
        if not record.is_copy:
            remove_overlays(dataset, record)
        remove_traces(dataset, record)
        if held_by(record) == "own":
            _LOG.warning("the store of run %r stays in %s: motive doctor says what to do with it", key, record.store)

    def rename(self, samples: Any, key: str, new_key: str) -> None:
        """Rename what is called after the run: its field group, its overlays, and the fields in its views."""
        dataset = dataset_of(samples)
        record = _record(self.config, dataset)
        holders = [dataset]
        if record.query_dataset_id and not record.is_copy and dataset_called(record.query_dataset_id):
            holders.append(fo.load_dataset(dataset_called(record.query_dataset_id)))
        for holder in holders:
            if holder.has_sample_field(key):
                holder.rename_sample_field(key, new_key)
        if dataset.media_type == "video" and dataset.has_frame_field(overlay_field(key)):
            dataset.rename_frame_field(overlay_field(key), overlay_field(new_key))
        for view in dataset._doc.get_saved_views():
            if view.name in record.views:
                view.view_stages = [_renamed(stage, key, new_key) for stage in view.view_stages]
                view.save()
        record.groups = [new_key if name == key else name for name in record.groups]
        record.run = new_key
        dataset.update_run_config(key, run_config(record))


def _record(config: Any, dataset: Any) -> RunRecord:
    return RunRecord(**json.loads(config.record), opened_in=dataset_id(dataset))


def _renamed(stage: str, key: str, new_key: str) -> str:
    """The stage of a view, JSON, with the fields of a run under its new name."""
    return re.sub(rf'(?<=["$]){re.escape(key)}(?=[."])', new_key, stage)
