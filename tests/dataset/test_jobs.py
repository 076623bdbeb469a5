"""Jobs are real processes: they outlive a call, report, can be cancelled, and a dead one is recognised."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid

import pytest

import motive_fo
from motive_fo.dataset.jobs import jobs_folder, process_began, read_job
from motive_fo.errors import InputError
from motive_fo.synthetic.corpus import write_corpus


@pytest.fixture(scope="module")
def dataset(database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("jobs")
    corpus = write_corpus(folder, train=12, queries=1, damaged=1, seed=4, size=(64, 64), seconds=1.25, fps=16)
    name = f"jobs-{uuid.uuid4().hex[:8]}"
    motive_fo.import_clips(corpus.train_metadata.parent, name)
    import fiftyone as fo

    yield fo.load_dataset(name)
    fo.delete_dataset(name)


def _wait(job_id, *, until, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job = read_job(job_id)
        if until(job):
            return job
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds} s: {job}")


def test_a_job_computes_a_view_and_says_how_far_it_is_and_what_came_of_it(dataset):
    view = dataset.limit(5)
    job = motive_fo.start_job("compute_motion", view, run="bg", clip=motive_fo.ClipConfig(fps=8, frames=5))
    assert job.state in ("starting", "running")
    assert (job.dataset, job.run) == (dataset.name, "bg")
    assert job.id in [other.id for other in motive_fo.list_jobs(live=True)]
    done = _wait(job.id, until=lambda job: not job.is_live)
    assert done.state == "done", done
    assert done.message.startswith("motion of 5 clips:")
    assert (done.step, done.done, done.total) == ("motion", 5, 5)
    dataset.reload()
    assert len(dataset.exists("bg.status")) == 5
    request = json.loads((jobs_folder() / f"{job.id}.request.json").read_text())
    assert request["arguments"]["clip"]["frames"] == 5
    assert job.id not in [other.id for other in motive_fo.list_jobs(live=True)]
    assert not list(jobs_folder().glob("*.part"))
    with pytest.raises(InputError, match="runs no more: it is done"):
        motive_fo.cancel_job(job.id)
    motive_fo.delete_run(dataset, "bg")


def test_a_refusal_is_one_sentence_in_the_job(dataset):
    job = motive_fo.start_job("compute_motion", dataset, run="bad", clip={"frames": 16})
    failed = _wait(job.id, until=lambda job: not job.is_live)
    assert failed.state == "failed"
    assert "takes 4n+1 frames" in failed.error
    assert "\n" not in failed.error


def test_a_cancelled_job_stops_and_what_it_computed_is_continued(dataset, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    clip = {"fps": 16, "frames": 17, "height": 448, "width": 448}  # slow enough to be caught
    job = motive_fo.start_job("compute_motion", dataset, run="slow", clip=clip)
    running = _wait(job.id, until=lambda job: job.done >= 2 or not job.is_live)
    assert running.state == "running", running
    assert running.left is not None
    cancelled = motive_fo.cancel_job(job.id)
    assert cancelled.state == "cancelled"
    assert process_began(cancelled.pid) is None
    dataset.reload()
    report = motive_fo.compute_motion(dataset, "slow", clip=clip)
    assert 0 < report.computed < report.clips, "rows of the cancelled job are kept, and the lock is free"
    assert report.codes.keys() <= {"decode_failed", "not_video", "empty_file"}, "no clip was blamed for the cancelling"
    motive_fo.delete_run(dataset, "slow")


def test_a_job_that_ignores_the_request_is_ended(dataset, monkeypatch):
    monkeypatch.setattr("motive_fo.dataset.jobs.TERMINATING_SECONDS", 0.5)
    job = motive_fo.start_job("compute_motion", dataset, run="deaf", clip={"height": 448, "width": 448})
    _wait(job.id, until=lambda job: job.done >= 1)
    os.kill(job.pid, signal.SIGSTOP)  # does not hear SIGTERM
    assert motive_fo.cancel_job(job.id).state == "cancelled"
    assert process_began(job.pid) is None
    dataset.reload()
    motive_fo.delete_run(dataset, "deaf")


def test_a_killed_process_is_recognised_as_dead(dataset):
    job = motive_fo.start_job("compute_motion", dataset, run="killed", clip={"height": 448, "width": 448})
    _wait(job.id, until=lambda job: job.state == "running")
    os.killpg(job.pid, signal.SIGKILL)
    dead = _wait(job.id, until=lambda job: not job.is_live, seconds=10)
    assert dead.state == "died"
    assert dead.error.startswith("the process is gone")
    dataset.reload()
    if "killed" in dataset.list_runs():
        motive_fo.delete_run(dataset, "killed")


def test_a_process_with_a_reused_id_is_not_taken_for_the_job(dataset):
    job = motive_fo.start_job("compute_motion", dataset.limit(1), run="reused")
    _wait(job.id, until=lambda job: not job.is_live)
    state = jobs_folder() / f"{job.id}.state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "state": "running"}))
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        process = jobs_folder() / f"{job.id}.process.json"
        process.write_text(json.dumps({**json.loads(process.read_text()), "pid": other.pid}))
        assert read_job(job.id).state == "died"
        with pytest.raises(InputError, match="runs no more"):
            motive_fo.cancel_job(job.id)
        assert other.poll() is None, "it is not ours to stop"
    finally:
        other.kill()
        other.wait()
    dataset.reload()
    motive_fo.delete_run(dataset, "reused")


def test_a_job_survives_the_process_that_started_it(dataset):
    code = "import sys, motive_fo\nprint(motive_fo.start_job('compute_motion', sys.argv[1], run='orphan').id)\n"
    ran = subprocess.run([sys.executable, "-c", code, dataset.name], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    done = _wait(ran.stdout.split()[-1], until=lambda job: not job.is_live)
    assert done.state == "done"
    dataset.reload()
    motive_fo.delete_run(dataset, "orphan")


def test_only_named_functions_and_plain_arguments_are_taken(dataset):
    with pytest.raises(InputError, match="cannot run as a job"):
        motive_fo.start_job("delete_run", dataset)
    with pytest.raises(InputError, match="name a tag or saved view"):
        motive_fo.start_job("compute_gradients", dataset, train=dataset.limit(1))
    with pytest.raises(InputError, match="no job"):
        read_job("../../etc/passwd")


@pytest.mark.slow
def test_old_jobs_are_forgotten(dataset, monkeypatch):
    monkeypatch.setattr("motive_fo.dataset.jobs.KEPT", 1)
    jobs = []
    for n in range(3):
        jobs.append(motive_fo.start_job("compute_motion", f"no-such-{n}"))
        assert "there is no dataset" in _wait(jobs[-1].id, until=lambda job: not job.is_live).error
        time.sleep(1)  # ids sort by second
    assert {job.id for job in motive_fo.list_jobs()} == {jobs[1].id, jobs[2].id}
    assert not list(jobs_folder().glob(f"{jobs[0].id}*"))
