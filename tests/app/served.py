"""A dataset served by ``motive app``, as a person starts it."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from contextlib import contextmanager
from pathlib import Path

import motive_fo

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def served(corpus, prefix, *, curated=True):
    """Import, score (and curate) a corpus and serve it; yields the dataset's name and its address."""
    name = f"{prefix}-{uuid.uuid4().hex[:8]}"
    motive_fo.import_clips(corpus.train_metadata.parent, name)
    motive_fo.import_clips(corpus.query_metadata.parent, name, role="query")
    motive_fo.compute_gradients(name)
    motive_fo.score_influence(name)
    if curated:
        motive_fo.curate(name)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [str(Path(sys.executable).with_name("motive")), "app", name, "--port", str(port), "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/fiftyone", timeout=2).close()
                break
            except OSError:
                time.sleep(0.5)
        yield name, f"http://127.0.0.1:{port}/datasets/{name}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    with socket.socket() as s:  # nothing of it stays behind
        assert s.connect_ex(("127.0.0.1", port)) != 0
