"""Processes that are killed at random moments of every step, full and read-only disks, a database that goes away.

Everything runs in children of a process that has imported all and opened nothing: a kill costs no import.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

STEPS = ("motion", "gradients", "influence", "curate", "export")
NAME = "robustness"


def in_child(function: Callable[..., Any], *given: Any, kill_after: float | None = None, limit: float = 300) -> Any:
    """Call a function in a forked process; with ``kill_after`` SIGKILL it after so many seconds.

    Returns:
        what it returned, by way of JSON; ``"killed"`` where it was killed before it ended.

    Raises:
        RuntimeError: it raised, died or hung.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _be_child(read, write, function, given)
    os.close(write)
    deadline = time.monotonic() + (limit if kill_after is None else kill_after)
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(read)
            if kill_after is None:
                raise RuntimeError(f"hang: {function.__name__}{given}")
            return "killed"
        time.sleep(0.001)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    if not text:
        code = os.waitstatus_to_exitcode(ended[1])
        raise RuntimeError(f"crash, exit code {code}: {function.__name__}{given}")
    answer = json.loads(text)
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer["value"]


def _be_child(read: int, write: int, function: Callable[..., Any], given: tuple[Any, ...]) -> None:
    os.close(read)
    answer: dict[str, Any]
    try:
        answer = {"value": function(*given)}
    except BaseException:
        answer = {"error": traceback.format_exc()}
    with contextlib.suppress(BaseException):
        os.write(write, json.dumps(answer).encode())
        sys.stdout.flush()
    os._exit(0)


# -- what children do -------------------------------------------------------------------------------------------------


def begin(home: str, clips: str) -> None:
    """A fresh dataset of the corpus, nothing computed."""
    import motive_fo
    from motive_fo.dataset.connect import fiftyone

    os.environ["MOTIVE_DATA"] = f"{home}/data"
    if fiftyone().dataset_exists(NAME):
        fiftyone().delete_dataset(NAME)
    motive_fo.import_clips(f"{clips}/train", NAME)
    motive_fo.import_clips(f"{clips}/queries", NAME, role="query")


def step(name: str, home: str, retry_failed: bool = False) -> float:
    """One step of the run; returns its seconds."""
    import torch

    import motive_fo

    torch.set_num_threads(1)
    os.environ["MOTIVE_DATA"] = f"{home}/data"
    began = time.monotonic()
    if name == "motion":
        motive_fo.compute_motion(NAME, retry_failed=retry_failed)
    elif name == "gradients":
        motive_fo.compute_gradients(NAME, retry_failed=retry_failed)
    elif name == "influence":
        motive_fo.score_influence(NAME)
    elif name == "curate":
        motive_fo.curate(NAME, selection={"budget": 0.4})
    else:
        motive_fo.export(NAME, f"{home}/exported", config={"layout": "videofolder", "overwrite": True})
    return time.monotonic() - began


def told(name: str, home: str) -> str:
    """The step's refusal, as the command line has it; what else it raised; or nothing."""
    import click
    from motive_fo_cli.main import LazyGroup

    from motive_fo.errors import MotiveError

    group = LazyGroup(name="motive")
    group.get_command = lambda *_: click.Command(name, callback=lambda: step(name, home))  # type: ignore[method-assign]
    try:
        group.main([name], standalone_mode=False)
    except click.ClickException as refusal:
        cause = refusal.__cause__
        kind = type(cause).__name__ if isinstance(cause, MotiveError) else "MotiveError"
        return f"{kind}: {refusal.message}"
    except BaseException as error:
        return f"not caught: {type(error).__name__}: {error}"
    return ""


def snapshot(home: str) -> dict[str, str]:
    """All a run came to, as digests: rows of the store, scores, fields, views, exported files."""
    import numpy as np

    import motive_fo.dataset.fields as fields
    from motive_fo.dataset.connect import fiftyone
    from motive_fo.dataset.run_record import load_run
    from motive_fo.store.run_store import RunStore

    def digest(value: Any) -> str:
        data = value.tobytes() if isinstance(value, np.ndarray) and value.dtype != object else repr(value).encode()
        return hashlib.sha256(data).hexdigest()[:16]

    dataset = fiftyone().load_dataset(NAME)
    record = load_run(dataset, "motive")
    store = RunStore(record.store)
    found: dict[str, str] = {}
    for name in ("motion", "train", "query"):
        if not store.has_table(name):
            continue
        table = store.table(name) if name == "motion" else store.sketches(name)
        columns = (
            sorted(table.columns)
            if name == "motion"
            else ("sketch", "norm", "loss", "squares", "code", "message", "content")
        )
        for clip_id in table.ids:
            values = [table.read(c, [clip_id])[0] for c in columns if c not in ("mtime_ns", "size")]
            found[f"row {name} {clip_id}"] = digest([int(table.status(clip_id)), *[digest(v) for v in values]])
    if store.has_table("influence"):
        for kind in ("motion", "whole"):
            scores, queries, train = store.read_scores(kind)
            found[f"scores {kind}"] = digest([digest(scores), queries, train])
    ids = dataset.values("motive_id")
    for name in fields.FIELDS:
        for clip_id, value in zip(ids, dataset.values(f"motive.{name}"), strict=True):
            found[f"field {name} {clip_id}"] = digest(value)
    for view in record.views:
        found[f"view {view}"] = digest(dataset.load_saved_view(view).values("motive_id"))
    exported = Path(home) / "exported"
    for path in sorted(exported.rglob("*")) if exported.is_dir() else ():
        if path.is_file() and "manifest" not in path.name:
            found[f"file {path.relative_to(exported)}"] = digest(path.read_bytes().replace(home.encode(), b""))
    return found


def compared(wanted: dict[str, str], found: dict[str, str]) -> list[str]:
    """What is missing, too many or different."""
    return sorted(key for key in {*wanted, *found} if wanted.get(key) != found.get(key))


# -- kills ------------------------------------------------------------------------------------------------------------


def kills(scratch: Path, clips: Path, wanted_kills: int, said: Callable[[str], None]) -> dict[str, Any]:
    """SIGKILL at random moments of all steps in turn; each round is finished and compared with an undisturbed one."""
    draw = random.Random(0)
    (calm := scratch / "calm").mkdir()
    in_child(begin, str(calm), str(clips))
    seconds = {name: in_child(step, name, str(calm)) for name in STEPS}
    wanted = in_child(snapshot, str(calm))
    killed = dict.fromkeys(STEPS, 0)
    different: list[str] = []
    rounds = 0
    while sum(killed.values()) < wanted_kills and rounds < wanted_kills:
        rounds += 1
        home = scratch / f"round-{rounds}"
        home.mkdir()
        in_child(begin, str(home), str(clips))
        for name in STEPS:
            for _ in range(2):
                ended = in_child(step, name, str(home), kill_after=draw.uniform(0, seconds[name]))
                killed[name] += ended == "killed"
            in_child(step, name, str(home))
        different += [f"round {rounds}: {key}" for key in compared(wanted, in_child(snapshot, str(home)))]
        said(f"kills: {sum(killed.values())} of {wanted_kills}, different: {len(different)}")
    return {"killed": killed, "different": different, "compared": len(wanted), "rounds": rounds}


# -- disks ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own in memory, really that small. Raises ``PermissionError`` without root."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=False)
    if done.returncode:
        raise PermissionError("mounting a file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def disks(scratch: Path, clips: Path) -> list[dict[str, Any]]:
    """Each step on a disk that is full, and on one that is read-only; then with room, compared with a calm run."""
    (calm := scratch / "calm-disk").mkdir()
    in_child(begin, str(calm), str(clips))
    for name in STEPS:
        in_child(step, name, str(calm))
    wanted = in_child(snapshot, str(calm))
    rows = []
    for fault in ("full", "read-only"):
        with small_disk(scratch / fault, "64m") as home:
            in_child(begin, str(home), str(clips))
            for name in STEPS:
                filler = home / "filler"
                if fault == "full":
                    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                        while True:
                            file.write(b"x" * 4096)
                else:
                    subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
                said = in_child(told, name, str(home))
                if fault == "read-only":
                    subprocess.run(["mount", "-o", "remount,rw", str(home)], check=True)
                filler.unlink(missing_ok=True)
                in_child(step, name, str(home))
                rows.append({"fault": f"disk {fault}", "step": name, "said": said.replace(str(scratch), "...")})
            different = compared(wanted, in_child(snapshot, str(home)))
            rows.append({"fault": f"disk {fault}", "step": "afterwards", "said": "", "different": different})
    return rows


# -- database ---------------------------------------------------------------------------------------------------------


class Database:
    """A MongoDB server of the benchmark's own, which can be stopped and started."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port
        folder.mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it listens."""
        import socket
        from importlib.util import find_spec

        spec = find_spec("fiftyone")
        assert spec is not None
        assert spec.submodule_search_locations
        mongod = Path(spec.submodule_search_locations[0]) / "db" / "bin" / "mongod"
        command = [str(mongod), "--dbpath", str(self._folder), "--port", str(self._port), "--bind_ip", "127.0.0.1"]
        command += ["--nounixsocket", "--wiredTigerCacheSizeGB", "0.25", "--logpath", f"{self._folder}.log"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(300):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.1)
        raise RuntimeError("the database did not start")

    def stop(self, *, kill: bool = False) -> None:
        """Stop, or kill as a power cut does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        self._process.wait()
