"""The clips of a clips view are parts of videos: they are refused wherever clips are taken, with the ways out."""

from __future__ import annotations

import uuid

import fiftyone as fo
import pytest

import motive_fo
from motive_fo.errors import InputError

REFUSED = r"a clips view .* holds parts of videos"


@pytest.fixture
def parted(dataset):
    """A dataset with parts of its videos in three kinds of fields, and a saved view of them."""
    dataset.compute_metadata()
    dataset.add_sample_field("support", fo.FrameSupportField)
    for sample in dataset:
        if sample.metadata is None:
            continue
        parts = [fo.TemporalDetection(label=name, support=at) for name, at in (("early", [1, 6]), ("late", [7, 12]))]
        sample["events"] = fo.TemporalDetections(detections=parts)
        sample["event"] = fo.TemporalDetection(label="one", support=[2, 9])
        sample["support"] = [1, 8]
        sample.save()
    return dataset


@pytest.mark.parametrize("field", ["events", "event", "support"])
def test_every_step_refuses_the_clips_of_a_field(parted, field):
    view = parted.to_clips(field)
    fields, datasets = set(parted.get_field_schema(flat=True)), set(fo.list_datasets())
    for act in (
        lambda: motive_fo.compute_motion(view),
        lambda: motive_fo.compute_motion(view.limit(2)),
        lambda: motive_fo.compute_gradients(parted, train=view),
        lambda: motive_fo.compute_gradients(parted, query=view),
        lambda: motive_fo.mark_queries(view),
        lambda: motive_fo.map_sketches(view),
        lambda: motive_fo.write_overlays(view),
        lambda: motive_fo.estimate(view),
    ):
        with pytest.raises(InputError, match=REFUSED):
            act()
    parted.reload()
    assert set(parted.get_field_schema(flat=True)) == fields
    assert set(fo.list_datasets()) == datasets
    assert parted.list_runs() == []


def test_a_saved_one_is_refused_by_its_name_in_a_clone_too(parted):
    parted.save_view("parts", parted.to_clips("events"))
    copy = parted.clone(f"{parted.name}-{uuid.uuid4().hex[:4]}", persistent=True)
    try:
        for holder in (parted, copy):
            with pytest.raises(InputError, match=REFUSED):
                motive_fo.compute_gradients(holder, query="view:parts")
    finally:
        fo.delete_dataset(copy.name)


def test_the_way_out_leads_out(parted, tmp_path):
    view = parted.match_tags("train").exists("events").limit(2).to_clips("events")
    view.export(str(tmp_path / "parts"), dataset_type=fo.types.VideoDirectory)
    name = f"parts-{uuid.uuid4().hex[:8]}"
    motive_fo.import_clips(tmp_path / "parts", name)
    try:
        report = motive_fo.compute_motion(name, clip={"frames": 5})
        assert report.status["done"] + report.status["static"] == len(view) == 4
    finally:
        fo.delete_dataset(name)
