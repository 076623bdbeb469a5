"""A clip whose film or caption was replaced after it was scored is named by everyone who uses its figures."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

import motive_fo
from motive_fo.dataset.integrity import check_run
from motive_fo.dataset.ownership import open_store
from motive_fo.dataset.run_record import load_run
from motive_fo.dataset.stale import stale_clips
from motive_fo.synthetic.corpus import write_corpus

from .conftest import ONE_TIMESTEP


@pytest.fixture
def scored(database, tmp_path):
    """A scored dataset over files of its own, which a test may replace."""
    made = write_corpus(
        tmp_path / "c", train=6, queries=2, static=0, damaged=0, seed=5, size=(64, 64), seconds=1.25, fps=16
    )
    name = f"stale-{uuid.uuid4().hex[:8]}"
    motive_fo.import_clips(made.train_metadata.parent, name)
    motive_fo.import_clips(made.query_metadata.parent, name, role="query")
    motive_fo.compute_gradients(name, attribution=ONE_TIMESTEP)
    motive_fo.score_influence(name)
    motive_fo.curate(name, selection={"budget": 0.5})
    dataset = fo.load_dataset(name)
    dataset.reload()
    yield dataset
    fo.delete_dataset(name)


def _best(dataset):
    """The first clip of the selection."""
    return dataset.match({"motive.selected": 1}).first()


def _another(dataset, sample) -> str:
    others = dataset.match_tags("query") if "train" in sample.tags else dataset.match_tags("train")
    return others.first().filepath


def _notes(report) -> list[str]:
    """All but that the embedded model's scores are a toy's."""
    return [note for note in report.notes if "toy model" not in note]


def _told(dataset) -> str:
    return " ".join(check.text for check in check_run(dataset, "motive") if check.level == "fail")


@pytest.mark.parametrize("what", ["film", "caption"])
def test_what_was_replaced_is_named_by_every_step_and_left_out_of_an_export(scored, tmp_path, what):
    sample = _best(scored)
    if what == "film":
        shutil.copyfile(_another(scored, sample), sample.filepath)
    else:
        sample["caption"] = "another text"
        sample.save()
    clip = sample["motive_id"]
    notes = " ".join(motive_fo.score_influence(scored).notes)
    assert "1 clips have another file or caption" in notes
    assert clip in notes
    assert clip in " ".join(motive_fo.curate(scored).notes)
    assert clip in _told(scored)
    plan = motive_fo.survival(scored, layouts=("diffsynth",))[0]
    assert plan.fates[clip].dropped
    report = motive_fo.export(scored, tmp_path / "out")
    assert "was replaced after it was scored" in report.skipped[clip]
    kept = motive_fo.export(scored, tmp_path / "kept", config={"stale": "keep"})
    assert clip not in kept.skipped
    assert kept.written == report.written + 1

    motive_fo.compute_gradients(scored)
    assert "were computed after the last scoring" in " ".join(motive_fo.curate(scored).notes)
    assert "were computed after the last scoring" in _told(scored)
    motive_fo.score_influence(scored)
    assert _notes(motive_fo.curate(scored)) == []
    assert _told(scored) == ""
    assert clip not in motive_fo.export(scored, tmp_path / "out", config={"overwrite": True}).skipped


def test_a_query_that_was_replaced_is_named_too(scored):
    query = scored.match_tags("query").first()
    shutil.copyfile(_another(scored, query), query.filepath)
    assert "1 queries have another file or caption" in " ".join(motive_fo.score_influence(scored).notes)
    assert query["motive_id"] in " ".join(motive_fo.curate(scored).notes)


@pytest.mark.parametrize("what", ["touched", "rewritten alike", "gone"])
def test_an_equal_or_a_missing_file_alarms_nobody(scored, what):
    path = Path(_best(scored).filepath)
    if what == "touched":
        os.utime(path)
    elif what == "rewritten alike":
        copy = path.with_suffix(".copy")
        shutil.copyfile(path, copy)
        copy.replace(path)
    else:
        path.unlink()
    record = load_run(scored, "motive")
    assert stale_clips(scored, record, open_store(record)) == []
    assert _notes(motive_fo.curate(scored)) == []


def test_a_deleted_sample_has_no_vote_no_rank_and_no_share_of_the_budget(scored):
    before = motive_fo.curate(scored)
    gone = _best(scored)["motive_id"]
    scored.delete_samples(scored.match({"motive_id": gone}))
    after = motive_fo.curate(scored)
    assert gone in before.selected
    assert gone not in [*after.selected, *after.harmful]
    assert after.clips == before.clips - 1
    assert len(after.selected) == int(np.ceil(0.5 * after.clips))
    ranks = [rank for rank in scored.values("motive.rank") if rank is not None]
    assert sorted(ranks) == list(range(1, after.clips + 1))
    motive_fo.score_influence(scored)
    assert motive_fo.curate(scored).selected == after.selected, "as if it had never been among the clips"
