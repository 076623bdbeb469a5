"""The real App in a real browser: the grid shows our clips, the operators are there and one of them runs."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path

import pytest

import motive_fo
from motive_fo.synthetic.corpus import write_corpus

pytestmark = pytest.mark.app

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def _free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def app(database, tmp_path):
    """A scored dataset, served by ``motive app``."""
    corpus = write_corpus(tmp_path, train=6, queries=2, damaged=2, seed=2, size=(64, 64), seconds=1.25, fps=16)
    name = f"app-{uuid.uuid4().hex[:8]}"
    motive_fo.import_clips(corpus.train_metadata.parent, name)
    motive_fo.import_clips(corpus.query_metadata.parent, name, role="query")
    motive_fo.compute_gradients(name)
    motive_fo.score_influence(name)
    port = _free_port()
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


def test_the_app_shows_the_clips_and_runs_an_operator(app, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    name, url = app
    with playwright.sync_playwright() as p:
        context = p.chromium.launch_persistent_context(
            str(tmp_path / "profile"), executable_path=browser, headless=True, args=FLAGS
        )
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector("text=/10 samples/", timeout=90_000)
        page.get_by_text("Dismiss").click()
        page.keyboard.press("Backquote")
        page.keyboard.type("Motive")
        for step in ("compute motion", "compute gradients", "score influence", "curate", "export"):
            page.wait_for_selector(f"text=Motive: {step}")
        page.get_by_role("dialog").get_by_text("Motive: curate").click()  # the grid has a button of that name
        page.get_by_role("button", name="Execute").click()
        page.wait_for_selector("text=/1 of 6 scored clips selected/", timeout=60_000)
        context.close()
    import fiftyone as fo

    dataset = fo.load_dataset(name)
    dataset.reload()
    assert dataset.load_saved_view("motive: top by votes").count() == 1
