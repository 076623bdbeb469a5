"""Several devices: the sketches of one, whatever dies."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

from motive_fo.config import AttributionConfig, ClipConfig, FlowConfig, MotionConfig
from motive_fo.errors import ConfigError, MissingDependencyError, MotiveError
from motive_fo.models.registry import attributed_model, model_card
from motive_fo.models.tiny.model import TinyModel
from motive_fo.pipeline.gradients import GradientSettings, compute_sketch_table
from motive_fo.pipeline.motion import MotionSettings
from motive_fo.store.run_store import RunStore

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="children are followed through /proc")

OWN = "tests.models.own_adapter:Own"
DEADLY = "tests.pipeline.deadly_adapter:Deadly"


def settings_of(model=OWN, **changes):
    attribution = AttributionConfig(model=model, dimension=128, noises=(0, 1), **changes)
    motion = MotionSettings.build(ClipConfig(), FlowConfig(), MotionConfig(), model_card(model))
    return GradientSettings.build(motion, attribution, attributed_model(attribution, motion.spec))


def run(path, records, settings, **more):
    with RunStore(path, write=True) as store:
        return compute_sketch_table(records, store, settings, "train", **more)


def arrays(path):
    group = zarr.open_group(path, mode="r")
    names = ["motion", *(f"train/{sample}" for sample in group["train"].group_keys())]
    return {f"{name}/{key}": np.asarray(array[:]) for name in names for key, array in group[name].arrays()}


def require_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f"), name


@pytest.fixture(scope="module")
def clips(records, tmp_path_factory):
    """The corpus, and a copy of a clip: which of the two is the duplicate must not depend on who was faster."""
    copy = tmp_path_factory.mktemp("copy") / "copy.mp4"
    shutil.copy2(records["train"][0].path, copy)
    return [*records["train"], dataclasses.replace(records["train"][0], id="copy", path=copy)]


@pytest.fixture(scope="module")
def one_device(clips, tmp_path_factory):
    """Path of the undisturbed store of a run on one device."""
    path = tmp_path_factory.mktemp("one") / "r.zarr"
    run(path, clips, settings_of())
    return path


def test_several_devices_give_the_sketches_of_one(one_device, clips, tmp_path):
    seen = []
    report = run(
        tmp_path / "r.zarr", clips, settings_of(devices=("cpu", "cpu")), progress=lambda *step: seen.append(step)
    )
    require_equal(arrays(one_device), arrays(tmp_path / "r.zarr"))
    assert report.codes["duplicate_clip"] == 1
    assert report.seconds["gradient"] > 0
    assert seen[-1] == ("train gradients", len(clips), len(clips))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.zarr", "r.zarr.lock"], "nothing is left beside it"


def test_a_process_that_dies_costs_its_clip_alone(one_device, clips, tmp_path):
    good = [record for record in clips if record.id != "copy"]
    marker = tmp_path / "died"
    bad = [
        dataclasses.replace(good[0], caption="kill"),
        dataclasses.replace(good[1], caption=f"kill once {marker}"),
        dataclasses.replace(good[2], caption="refuse"),
    ]
    path = tmp_path / "r.zarr"
    settings = settings_of(DEADLY, devices=("cpu", "cpu"))
    report = run(path, [*bad, *good[3:]], settings)
    assert report.codes["worker_died"] == 1
    assert report.codes["encode_failed"] == 1
    table = RunStore(path).sketches("train")
    ids = [record.id for record in bad]
    assert table.read("code", ids).tolist() == ["worker_died", "", "encode_failed"]
    assert marker.exists()
    message = table.read("message", ids)[0]
    assert "SIGKILL" in message
    assert "on cpu" in message
    assert "2 times" in message
    others = [record.id for record in good[3:]]
    expected = RunStore(one_device).sketches("train")
    for column in ("sketch", "norm", "loss", "squares"):
        assert np.array_equal(table.read(column, others), expected.read(column, others), equal_nan=True)


@pytest.mark.slow
def test_a_death_says_nothing_of_other_samples_and_can_be_tried_again(clips, tmp_path):
    path, dying = tmp_path / "r.zarr", dataclasses.replace(clips[0], caption="kill")
    settings = settings_of(DEADLY, devices=("cpu", "cpu"))
    assert run(path, [dying], settings).codes == {"worker_died": 1}
    marker = tmp_path / "died"
    once = dataclasses.replace(clips[0], caption=f"kill once {marker}")
    more = dataclasses.replace(settings, attribution=dataclasses.replace(settings.attribution, noises=(2,)))
    assert run(path, [dying], more).codes == {"worker_died": 1}
    assert not marker.exists()
    assert run(path, [once], settings, retry_failed=True).codes == {}
    assert marker.exists()


@pytest.mark.slow
def test_a_device_that_is_lost_is_left_by_its_process(clips, tmp_path):
    """After such an error every call of that process fails: the clips that follow need another one."""
    lost = dataclasses.replace(clips[0], caption="lost")
    report = run(tmp_path / "r.zarr", [lost, clips[1]], settings_of(DEADLY, devices=("cpu", "cpu")))
    assert report.codes == {"worker_died": 1}
    message = RunStore(tmp_path / "r.zarr").sketches("train").read("message", [lost.id])[0]
    assert "exit code 1" in message
    assert "illegal memory access" in message


@pytest.mark.slow
def test_a_model_that_is_not_the_same_there_is_refused(clips, tmp_path):
    attribution = AttributionConfig(devices=("cpu", "cpu"))
    motion = MotionSettings.build(ClipConfig(), FlowConfig(), MotionConfig(), TinyModel.random(1).card)
    mine = GradientSettings.build(motion, attribution, TinyModel.random(1))
    with pytest.raises(MotiveError, match="gets another model than this one"):
        run(tmp_path / "r.zarr", clips[:2], mine)
    assert not (tmp_path / "r.zarr.handed-over").exists()


@pytest.mark.slow
def test_wrong_use_in_a_replica_is_said_here(clips, tmp_path):
    settings = settings_of(devices=("cpu", "cpu"))
    gone = dataclasses.replace(settings.attribution, model="tests.models.own_adapter:Absent")
    with pytest.raises(MotiveError, match="Absent"):
        run(tmp_path / "r.zarr", clips[:2], dataclasses.replace(settings, attribution=gone))


def test_devices_go_by_number_and_must_be_alike():
    assert AttributionConfig(devices=("0", "cuda:1", "cpu")).devices == ("cuda:0", "cuda:1", "cpu")
    with pytest.raises(ConfigError, match="different kinds"):
        attributed_model(AttributionConfig(devices=("auto", "cpu")))
    with pytest.raises((ConfigError, MissingDependencyError), match="sees"):
        attributed_model(AttributionConfig(devices=("0", "99")))


_CHILD = """
import sys
from pathlib import Path
from motive_fo.pipeline.record import ClipRecord
from motive_fo.store import table
from tests.pipeline.test_replicas import run, settings_of
table.FLUSH_SECONDS = 0.0
records = [ClipRecord(*item.split("|")) for item in sys.argv[2:]]
records = [ClipRecord(r.id, Path(r.path), r.caption) for r in records]
tell = lambda *a: print(*a, flush=True)
run(sys.argv[1], records, settings_of(devices=("cpu", "cpu")), progress=tell)
"""


def _replicas_of(parent):
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if int(place.joinpath("stat").read_text().rsplit(")", 1)[1].split()[1]) == parent:
                found.append(int(place.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_killed_replicas_die_too_and_the_run_goes_on(one_device, clips, tmp_path):
    path = tmp_path / "r.zarr"
    command = [sys.executable, "-c", _CHILD, str(path), *(f"{r.id}|{r.path}|{r.caption}" for r in clips)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("train gradients 2 "):
                break
        children = _replicas_of(process.pid)
        process.send_signal(signal.SIGKILL)
        process.stdout.read()
    assert len(children) >= 2
    deadline = time.monotonic() + 30
    while any(_lives(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(_lives(child) for child in children)
    run(path, clips, settings_of(devices=("cpu", "cpu")))
    require_equal(arrays(one_device), arrays(path))
    assert not (tmp_path / "r.zarr.handed-over").exists()


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z" and os.kill(pid, 0) is None
    except OSError:
        return False
