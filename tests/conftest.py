"""A database of the suite's own, and folders that are not the user's.

The environment is set before FiftyOne is imported anywhere; the database starts with the first test that needs it.
Every worker of pytest-xdist has its own of both.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

_SCRATCH = tempfile.TemporaryDirectory(prefix="motive-fo-tests-")
atexit.register(_SCRATCH.cleanup)
_HOME = Path(_SCRATCH.name)
#: workers inherit what the process that starts them has set: whether the user named a database is asked once
_OWN_DATABASE = os.environ.setdefault("MOTIVE_TESTS_DATABASE", os.environ.get("FIFTYONE_DATABASE_URI", "")) == ""


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


_PORT = _free_port()
os.environ.update(
    {
        "FIFTYONE_DATABASE_NAME": f"motive-fo-tests-{uuid.uuid4().hex[:8]}",
        "FIFTYONE_DO_NOT_TRACK": "true",
        "FIFTYONE_PLUGINS_DIR": str(_HOME / "plugins"),
        "FIFTYONE_SHOW_PROGRESS_BARS": "false",
        "HF_HOME": str(_HOME / "hub"),  # what weights this machine has must not choose the estimator
        "XDG_CACHE_HOME": str(_HOME / "cache"),
        "MOTIVE_DATA": str(_HOME / "data"),
        "OMP_WAIT_POLICY": "PASSIVE",  # torch's threads would spin against each other's where processes share the cores
    }
)
for _name in ("MOTIVE_ALLTRACKER_WEIGHTS", "MOTIVE_ALLTRACKER_TINY_WEIGHTS"):
    os.environ.pop(_name, None)
if _OWN_DATABASE:
    os.environ["FIFTYONE_DATABASE_URI"] = f"mongodb://127.0.0.1:{_PORT}"


def _start_mongod() -> None:
    spec = find_spec("fiftyone")
    assert spec is not None
    assert spec.submodule_search_locations
    mongod = Path(spec.submodule_search_locations[0]) / "db" / "bin" / "mongod"
    (_HOME / "db").mkdir()
    command = [str(mongod), "--dbpath", str(_HOME / "db"), "--port", str(_PORT), "--bind_ip", "127.0.0.1"]
    command += ["--nounixsocket", "--wiredTigerCacheSizeGB", "0.25", "--logpath", str(_HOME / "mongod.log")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # before FiftyOne registers its own exit work, or leaving costs half a minute
    atexit.register(lambda: (process.terminate(), process.wait(10)))
    for _ in range(200):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", _PORT)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"the tests' mongod did not start: {(_HOME / 'mongod.log').read_text()[-2000:]}")


@pytest.fixture(scope="session")
def database() -> Iterator[None]:
    """A running database for FiftyOne, dropped at the end."""
    if _OWN_DATABASE:
        _start_mongod()
    yield
    if not _OWN_DATABASE:
        import fiftyone.core.odm as foo

        foo.drop_database()


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """URL of an empty bucket of a server in this process that speaks S3."""
    moto = pytest.importorskip("moto.server", reason="make test-s3 installs moto and s3fs")
    pytest.importorskip("s3fs", reason="make test-s3 installs moto and s3fs")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    keys = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_DEFAULT_REGION": "us-east-1"}
    where = {"AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port())}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**keys, **where}.items():
            patch.setenv(name, value)
        import fsspec

        fsspec.filesystem("s3").mkdir("runs")
        yield "s3://runs"
    server.stop()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Callable[..., Any]]:
    """Starts Chromium with a profile folder; Playwright runs once in a process, whoever asks for it."""
    playwright = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.fail("these tests need Chromium (Debian: apt install chromium)")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as play:
        yield lambda profile, **more: play.chromium.launch_persistent_context(
            str(profile), executable_path=found, headless=True, args=[*flags, "--disable-sync"], **more
        )


@pytest.fixture
def shared_videos() -> Path:
    """Real and odd clips beside the repository; tests that need them are skipped where they are not."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "videos"
    if not folder.is_dir():
        pytest.skip("no ../shared/videos")
    return folder
