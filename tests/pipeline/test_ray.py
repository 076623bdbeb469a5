"""The engine ray on a real cluster of this machine: the store of one process, whatever dies."""

import dataclasses
import json
import subprocess
import sys
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest

from motive_fo.config import EngineConfig
from motive_fo.errors import InputError, MissingDependencyError, MotiveError
from motive_fo.pipeline import clip_worker, ray_engine
from motive_fo.pipeline.crew import Answer, Order, answers_of, open_crew
from motive_fo.pipeline.gradients import compute_sketch_table
from motive_fo.pipeline.measured import NOTHING_MEASURED
from motive_fo.pipeline.motion import compute_motion_table
from motive_fo.pipeline.report import StepReport
from motive_fo.store.run_store import RunStore
from tests.pipeline.test_replicas import DEADLY, arrays, clips, one_device, require_equal, run, settings_of

__all__ = ["clips", "one_device"]  # fixtures

RAY = EngineConfig(engine="ray", workers=2)


@pytest.fixture(scope="module")
def ray_here():
    """One cluster for all tests of the module: the crews use what is joined already."""
    if find_spec("ray") is None:
        pytest.skip("needs ray")
    ray = ray_engine._import_ray()
    assert ray_engine._join(ray, RAY)
    yield ray
    ray.shutdown()


def run_on_ray(path, records, settings, engine=RAY, **more):
    with open_crew(engine, settings.motion, settings.attribution) as crew:
        given = dataclasses.replace(settings, model=crew.model)
        return run(path, records, given, crew=crew, **more)


def test_two_workers_write_the_store_of_one_process(ray_here, one_device, clips, tmp_path):
    """Gradients with the motion they need; frames, failures and which of two copies is the duplicate included."""
    seen = []
    report = run_on_ray(tmp_path / "r.zarr", clips, settings_of(), progress=lambda *step: seen.append(step))
    require_equal(arrays(one_device), arrays(tmp_path / "r.zarr"))
    assert report.codes["duplicate_clip"] == 1
    assert len(report.codes) > 2, "failing clips are among them"
    assert report.seconds["gradient"] > 0
    assert seen[-1] == ("train gradients", len(clips), len(clips))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.zarr", "r.zarr.lock"], "nothing is left beside it"


@pytest.mark.slow
def test_motion_alone_and_what_is_kept_of_it_for_other_runs(ray_here, clips, motion_settings, tmp_path):
    for name, engine in (("here", EngineConfig()), ("ray", RAY)):
        with RunStore(tmp_path / f"{name}.zarr", write=True) as store, open_crew(engine, motion_settings) as crew:
            compute_motion_table(clips, store, motion_settings, known=tmp_path / name, crew=crew)
    here, there = (RunStore(tmp_path / f"{name}.zarr").table("motion") for name in ("here", "ray"))
    assert here.ids == there.ids
    for column in here.columns:
        one, other = here.read(column, here.ids), there.read(column, there.ids)
        assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f"), column
    with RunStore(tmp_path / "again.zarr", write=True) as store:
        report = compute_motion_table(clips, store, motion_settings, known=tmp_path / "ray")
    assert "clips were measured before and not tracked again" in " ".join(report.notes)
    assert "flow" not in report.seconds


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_clip_alone(ray_here, one_device, clips, tmp_path):
    good = [record for record in clips if record.id != "copy"]
    marker = tmp_path / "died"
    bad = [
        dataclasses.replace(good[0], caption="kill"),
        dataclasses.replace(good[1], caption=f"kill once {marker}"),
        dataclasses.replace(good[2], caption="refuse"),
    ]
    path = tmp_path / "r.zarr"
    report = run_on_ray(path, [*bad, *good[3:]], settings_of(DEADLY))
    assert report.codes["worker_died"] == 1
    assert report.codes["encode_failed"] == 1
    store = RunStore(path)
    table, ids = store.sketches("train"), [record.id for record in bad]
    assert table.read("code", ids).tolist() == ["worker_died", "", "encode_failed"]
    assert marker.exists()
    assert "2 times" in table.read("message", ids)[0]
    expected, others = RunStore(one_device), [record.id for record in good[3:]]
    for column in ("sketch", "norm", "loss", "squares", "content"):
        one, other = table.read(column, others), expected.sketches("train").read(column, others)
        assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    motion = [each.table("motion").read("mask", [record.id for record in good]) for each in (store, expected)]
    assert np.array_equal(*motion, equal_nan=True), "the motion of the clip whose gradient kills too"
    before = arrays(path)
    assert run_on_ray(path, [*bad, *good[3:]], settings_of(DEADLY)).computed == 0
    require_equal(before, arrays(path))


@pytest.mark.slow
def test_wrong_use_on_a_worker_is_said_here(ray_here, clips, tmp_path):
    settings = settings_of()
    gone = dataclasses.replace(settings.attribution, model="tests.models.own_adapter:Absent")
    with (
        pytest.raises(MotiveError, match="Absent"),
        open_crew(RAY, settings.motion, gone) as crew,
        RunStore(tmp_path / "r.zarr", write=True) as store,
    ):
        compute_sketch_table(clips[:2], store, settings, "train", crew=crew)


@pytest.mark.slow
def test_a_model_that_is_not_the_same_there_is_refused(ray_here, clips, settings, tmp_path):
    with open_crew(RAY, settings.motion, settings.attribution) as crew:
        crew.model = settings.model  # a random one, where the workers load the embedded one
        with pytest.raises(MotiveError, match="gets another model than this process"):
            run(tmp_path / "r.zarr", clips[:2], settings, crew=crew)


@pytest.mark.slow
def test_a_machine_without_this_package_is_told_so(ray_here, motion_settings, clips, tmp_path, monkeypatch):
    """The worker is of a module that only this process has."""
    module = ModuleType("only_here")
    methods = {"__init__": lambda self, setup: None, "open": lambda self: None}
    module.ClipWorker = type("ClipWorker", (), {"__module__": "only_here", **methods})
    monkeypatch.setitem(sys.modules, "only_here", module)
    monkeypatch.setattr(clip_worker, "ClipWorker", module.ClipWorker)
    with (
        open_crew(RAY, motion_settings) as crew,
        RunStore(tmp_path / "r.zarr", write=True) as store,
        pytest.raises(MotiveError, match="install the same environment on every machine"),
    ):
        compute_motion_table(clips[:1], store, motion_settings, crew=crew)


def test_a_video_only_this_machine_has_is_no_fault_of_the_clip(clips):
    """Whoever forgot to mount the videos on a machine must not find its share of the clips recorded as missing."""

    class Elsewhere:
        def map(self, orders):
            for item, _ in orders:
                yield item, Answer(None, missing_on="node-7")

    orders = [(record, Order("motion", record)) for record in clips[:1]]
    with pytest.raises(InputError, match="not on the machine node-7"):
        list(answers_of(Elsewhere(), orders, StepReport("motion"), NOTHING_MEASURED))
    lost = dataclasses.replace(clips[0], path=clips[0].path.with_name("nowhere.mp4"))
    assert list(answers_of(Elsewhere(), [(lost, Order("motion", lost))], StepReport("motion"), NOTHING_MEASURED))


def test_without_ray_one_sentence_names_the_way_out(monkeypatch, motion_settings):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'motive-fo\[ray\]'"):
        open_crew(RAY, motion_settings)


def test_nothing_but_the_engine_imports_ray():
    code = "import sys, motive_fo.pipeline.ray_engine, motive_fo.dataset.steps; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_of_two_clips_lost_together_only_the_guilty_one_is_given_up(clips):
    """Both go first, each to an idle worker; a loss counts against a clip only where it was alone."""
    line = ray_engine._Line([(n, Order("motion", clips[n])) for n in range(4)], ahead=4)
    seat = ray_engine._Seat(worker=object())
    for _ in range(2):
        job = line.next()
        assert seat.takes(job)
        line.take(job)
        seat.jobs[object()] = job
    assert not seat.takes(line.next()), "two at a time"
    guilty, other = seat.jobs.values()
    seat.vacate()
    seat.worker = object()
    for job in (guilty, other):
        line.lost(job, RuntimeError("gone"), alone=False)
    suspect = line.next()
    assert suspect in (guilty, other)
    line.take(suspect)
    seat.jobs[object()] = suspect
    assert not seat.takes(line.next()), "a suspect has the worker for itself"
    line.lost(other, RuntimeError("another was the killer"), alone=True)
    line.lost(guilty, RuntimeError("gone"), alone=True)
    assert list(line.leaving()) == [], "retried once"
    line.lost(guilty, RuntimeError("gone"), alone=True)
    line.answer(other, Answer("row"))
    left = dict(line.leaving())
    assert left[0].code == "worker_died"
    assert left[1].value == "row"


def test_orders_are_taken_as_answers_leave(clips):
    """Back-pressure: a million clips are not read ahead of the first answer."""
    taken = []

    def orders():
        for n in range(100):
            taken.append(n)
            yield n, Order("motion", clips[0])

    line = ray_engine._Line(orders(), ahead=6)
    jobs = [line._waiting[n] for n in range(6)]
    for job in jobs[1:]:
        line.answer(job, Answer(job.number))
    assert list(line.leaving()) == []
    assert len(taken) == 6, "the first is not answered, whatever the others are"
    line.answer(jobs[0], Answer(0))
    assert [item for item, _ in line.leaving()] == [0, 1, 2, 3, 4, 5]
    assert len(taken) == 12


_DRIVER = """
import json, sys
from pathlib import Path
from motive_fo.pipeline.record import ClipRecord
from motive_fo.store import table
from tests.pipeline.test_ray import run_on_ray
from tests.pipeline.test_replicas import settings_of
table.FLUSH_SECONDS = 0.0
records = [ClipRecord(i, Path(p), c) for i, p, c in json.loads(sys.argv[2])]
run_on_ray(sys.argv[1], records, settings_of(), progress=lambda *a: print(*a, flush=True))
"""


@pytest.mark.slow
def test_a_killed_run_takes_its_cluster_along_and_is_continued(ray_here, one_device, clips, tmp_path):
    path = tmp_path / "r.zarr"
    told = json.dumps([[r.id, str(r.path), r.caption] for r in clips])
    command = [sys.executable, "-c", _DRIVER, str(path), told]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("train gradients 2 "):
                break
        process.kill()
        process.stdout.read()
    assert lines[-1].startswith("train gradients 2 "), lines
    report = run_on_ray(path, clips, settings_of())
    assert 0 < report.computed < len(clips)
    require_equal(arrays(one_device), arrays(path))
