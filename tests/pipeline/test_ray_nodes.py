"""Several machines of a Ray cluster, each with processes of its own: joined by address, and lost."""

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec

import pytest

from motive_fo.config import EngineConfig
from motive_fo.errors import MotiveError
from motive_fo.pipeline import ray_engine
from motive_fo.pipeline.crew import open_crew
from tests.pipeline.test_ray import _DRIVER, run_on_ray
from tests.pipeline.test_replicas import arrays, clips, one_device, require_equal, settings_of

__all__ = ["clips", "one_device"]  # fixtures

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="needs ray")]


@pytest.fixture
def cluster():
    """A head that computes nothing, and two machines of one CPU."""
    ray_engine._import_ray()
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.nodes = [made.add_node(num_cpus=1) for _ in range(2)]
    made.wait_for_nodes()
    yield made
    import ray

    ray.shutdown()
    made.shutdown()


def test_a_machine_that_is_lost_costs_nothing_but_time(cluster, one_device, clips, tmp_path):
    """It is removed in the middle of the run; what it was computing goes to the other one."""
    path, removed = tmp_path / "r.zarr", []

    def progress(step, done, total):
        if step == "train gradients" and done == 2 and not removed:
            removed.append(cluster.nodes[0])
            cluster.remove_node(cluster.nodes[0], allow_graceful=False)

    report = run_on_ray(
        path, clips, settings_of(), EngineConfig(engine="ray", address=cluster.address), progress=progress
    )
    assert removed
    assert "worker_died" not in report.codes
    require_equal(arrays(one_device), arrays(path))


def test_a_killed_driver_leaves_the_cluster_to_the_run_that_goes_on(cluster, one_device, clips, tmp_path):
    """Its workers hold both CPUs until Ray ends them: without that the second run would find no place."""
    path = tmp_path / "r.zarr"
    told = json.dumps([[r.id, str(r.path), r.caption] for r in clips])
    command = [sys.executable, "-c", _DRIVER, str(path), told]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "RAY_ADDRESS": cluster.address}
    ) as process:
        for line in process.stdout:
            if line.startswith("train gradients 2 "):
                break
        process.send_signal(signal.SIGKILL)
        process.stdout.read()
    assert line.startswith("train gradients 2 ")
    report = run_on_ray(path, clips, settings_of(), EngineConfig(engine="ray", address=cluster.address))
    assert 0 < report.computed < len(clips)
    require_equal(arrays(one_device), arrays(path))


def test_no_cluster_at_the_address_is_one_sentence(motion_settings):
    engine = EngineConfig(engine="ray", address="127.0.0.1:9")
    with pytest.raises(MotiveError, match=r"no Ray cluster at '127\.0\.0\.1:9'"):
        open_crew(engine, motion_settings)
