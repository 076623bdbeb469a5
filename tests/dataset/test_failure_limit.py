"""A run of which most clips fail stops, with all it computed in the dataset, and goes on when told to."""

from __future__ import annotations

import shutil

import pytest

import motive_fo
from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.run_record import list_runs
from motive_fo.errors import FailureLimitError, MotiveError


@pytest.fixture
def mostly_broken(database, corpus, tmp_path, name):
    moving = [path for path in corpus.train if path not in (*corpus.static, *corpus.damaged)][:3]
    for n, path in enumerate(moving):
        shutil.copy(path, tmp_path / f"{n}-whole.mp4")
    for n in range(12):
        (tmp_path / f"broken-{n:02}.mp4").write_bytes(b"no video")
    motive_fo.import_clips(tmp_path, name)
    yield fiftyone().load_dataset(name)
    fiftyone().delete_dataset(name)


def _states(dataset):
    counts = dataset.count_values("motive.status")
    return {state: count for state, count in counts.items() if state}


def test_a_run_that_mostly_fails_stops_and_loses_nothing(mostly_broken):
    with pytest.raises(FailureLimitError, match="10 of 15 clips failed"):
        motive_fo.compute_motion(mostly_broken)
    mostly_broken.reload()
    assert list_runs(mostly_broken) == ["motive"]
    assert _states(mostly_broken) == {"described": 3, "failed": 10}
    assert mostly_broken.count("motive.motion_mean") == 3
    report = motive_fo.compute_motion(mostly_broken, engine={"max_failed": 1})
    assert report.computed == 2
    assert _states(mostly_broken) == {"described": 3, "failed": 12}
    with pytest.raises(FailureLimitError, match="train gradients stopped: 10 of 15 clips failed"):
        motive_fo.compute_gradients(mostly_broken, train=mostly_broken.view(), query=mostly_broken.limit(3))


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory")]
)
def test_a_step_that_memory_is_too_short_for_says_so_and_goes_on_later(mostly_broken, monkeypatch, error):
    def short(*_, **__):
        raise error

    monkeypatch.setattr("motive_fo.dataset.steps.write_motion", short)
    with pytest.raises(MotiveError, match=r"not enough memory .* run the step again"):
        motive_fo.compute_motion(mostly_broken, engine={"max_failed": 1})
    monkeypatch.undo()
    assert motive_fo.compute_motion(mostly_broken, engine={"max_failed": 1}).computed == 0
    assert mostly_broken.count("motive.motion_mean") == 3
