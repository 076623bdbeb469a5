"""A database of a benchmark's own, stopped at exit. Start it before FiftyOne is imported anywhere."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path


def start_database(folder: Path, cache_gb: float = 0.25) -> None:
    """Start MongoDB on a free port with its files in ``folder``, and point FiftyOne and this package at it.

    Args:
        cache_gb: memory for MongoDB's cache.
    """
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    spec = find_spec("fiftyone")
    assert spec is not None
    assert spec.submodule_search_locations
    mongod = Path(spec.submodule_search_locations[0]) / "db" / "bin" / "mongod"
    (folder / "db").mkdir()
    command = [str(mongod), "--dbpath", str(folder / "db"), "--port", str(port), "--bind_ip", "127.0.0.1"]
    command += ["--nounixsocket", "--wiredTigerCacheSizeGB", str(cache_gb), "--logpath", str(folder / "mongod.log")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    atexit.register(lambda: (process.terminate(), process.wait(20)))
    for _ in range(200):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    os.environ |= {
        "FIFTYONE_DATABASE_URI": f"mongodb://127.0.0.1:{port}",
        "FIFTYONE_DATABASE_NAME": "motive-fo-benchmark",
        "FIFTYONE_DO_NOT_TRACK": "true",
        "FIFTYONE_PLUGINS_DIR": str(folder / "plugins"),
        "FIFTYONE_SHOW_PROGRESS_BARS": "false",
        "MOTIVE_DATA": str(folder / "data"),
    }
