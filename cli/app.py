"""``motive app``: the FiftyOne App with plugin, database and delegated work set up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from .completion import dataset_names


@click.command("app")
@click.argument("dataset", shell_complete=dataset_names)
@click.option("--port", default=5151, show_default=True, type=click.IntRange(1, 65535), help="port of the App")
@click.option("--address", default="127.0.0.1", show_default=True, help="0.0.0.0 lets other machines in")
@click.option("--no-browser", is_flag=True, help="only serve; open the printed address yourself")
def app_command(dataset: str, port: int, address: str, no_browser: bool) -> None:
    """Open DATASET in the FiftyOne App, with our operators and a worker for delegated ones. Ctrl-C ends it.

    \b
    motive app my-clips
    motive app my-clips --no-browser --port 5152
    """
    # FiftyOne reads this when it is imported
    os.environ["FIFTYONE_ALLOW_LEGACY_ORCHESTRATORS"] = "true"
    from motive_fo.dataset.connect import fiftyone, load_dataset
    from motive_fo.dataset.plugin import install_plugin

    target = load_dataset(dataset)
    install_plugin()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with _delegated_worker():
        session = fiftyone().launch_app(target, port=port, address=address, remote=no_browser)
        click.echo(f"the App shows {dataset!r} at http://{address}:{port}; Ctrl-C ends it")
        try:
            session.wait(-1)
        except KeyboardInterrupt:
            click.echo("closing", err=True)
        finally:
            session.close()


@contextmanager
def _delegated_worker() -> Iterator[None]:
    """FiftyOne's queue runner as a child that ends with us."""
    command = [str(Path(sys.executable).with_name("fiftyone")), "delegated", "launch"]
    worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        worker.terminate()
        try:
            worker.wait(10)
        except subprocess.TimeoutExpired:
            worker.kill()
