"""Long steps in a process of their own, without a terminal: started, followed, listed and cancelled through files.

A job outlives whoever started it (a closed App, a closed notebook). In ``jobs/`` of the data folder it has:

================== =================================================================================================
``ID.request.json`` what to do: a function of ``motive_fo`` and its arguments. Written before the process starts
``ID.process.json`` which process does it: id, and when it began, so that a reused id is not taken for it
``ID.state.json``   how far it is: written by the process itself, a few times a second
``ID.log``          what the process printed, which only matters where it died
================== =================================================================================================

Every file is complete or absent. Nothing is pickled and no shell is asked: the request is plain JSON, and only the
functions named in ``FUNCTIONS`` are called.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from motive_fo.config import plain
from motive_fo.dataset.connect import dataset_of
from motive_fo.dataset.run_record import data_folder
from motive_fo.errors import InputError, MotiveError

FUNCTIONS: Final = (
    "import_clips",
    "compute_motion",
    "compute_gradients",
    "score_influence",
    "curate",
    "write_report",
    "replay_run",
    "evaluate_attribution",
    "export",
    "baselines",
    "write_overlays",
    "map_sketches",
)
KEPT: Final = 50  # finished jobs that are remembered
STARTING_SECONDS: Final = 60.0  # a process that has not reported by then never will
TERMINATING_SECONDS: Final = 15.0  # between asking a process to stop and ending it

State = Literal["starting", "running", "done", "failed", "cancelled", "died"]

#: processes started from here; one that ended is a zombie until it is asked after.
_STARTED: Final[list[subprocess.Popen[bytes]]] = []

_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")


@dataclass(frozen=True)
class Job:
    """A job as its files tell.

    Attributes:
        id: its name, which sorts by time.
        function: the function of ``motive_fo`` that it calls.
        dataset, run: on which dataset, for which run; None where the function has none.
        state: ``starting``, ``running``, ``done``, ``failed`` (with ``error``), ``cancelled``, or ``died``: the process
            is gone without having said why.
        created, updated: UTC times.
        pid: of the process, on ``machine``.
        step, done, total: the last progress.
        left: seconds left at this pace, None where that is not known.
        message: one sentence on what came out of it.
        reasons: why clips failed, in sentences.
        error: one sentence on what went wrong.
        log: path of the process's output.
    """

    id: str
    function: str
    dataset: str | None
    run: str | None
    state: State
    created: str
    updated: str
    pid: int | None
    machine: str
    step: str = ""
    done: int = 0
    total: int = 0
    left: float | None = None
    message: str = ""
    reasons: tuple[str, ...] = ()
    error: str = ""
    log: str = ""

    @property
    def is_live(self) -> bool:
        return self.state in ("starting", "running")

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def jobs_folder() -> Path:
    """Where jobs are kept."""
    return data_folder() / "jobs"


def start_job(function: str, samples: Any = None, **arguments: Any) -> Job:
    """Call a function of ``motive_fo`` in a detached process of this machine, which survives this one.

    Args:
        function: one of ``FUNCTIONS``.
        samples: its dataset or view, or a dataset's name; None where it takes none (``import_clips``).
        arguments: its other arguments, all of which JSON can say; settings classes are written out.

    Raises:
        InputError: another function, or an argument JSON cannot say.
        MotiveError: the data folder cannot be written or the process cannot be started.
    """
    if function not in FUNCTIONS:
        raise InputError(f"{function!r} cannot run as a job; these can: {', '.join(FUNCTIONS)}")
    made = datetime.now(UTC)
    job_id = f"{made:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
    request = {
        "function": function,
        "samples": _described(samples),
        "arguments": {name: _plain_argument(value) for name, value in arguments.items()},
        "created": made.isoformat(timespec="seconds"),
        "machine": socket.gethostname(),
    }
    folder = jobs_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _forget_old(folder)
        write_json(folder / f"{job_id}.request.json", request)
        with (folder / f"{job_id}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "motive_fo.dataset.job_process", str(folder), job_id],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _STARTED[:] = [child for child in _STARTED if child.poll() is None] + [process]
        write_json(folder / f"{job_id}.process.json", {"pid": process.pid, "began": process_began(process.pid)})
    except OSError as error:
        raise MotiveError(
            f"cannot start a job in {folder}: {error.strerror}; set MOTIVE_DATA to a folder you may write to"
        ) from error
    return read_job(job_id)


def read_job(job_id: str) -> Job:
    """One job. Raises ``InputError`` where there is none."""
    folder = jobs_folder()
    request = read_json(folder / f"{job_id}.request.json") if _ID.fullmatch(job_id) else None
    if request is None:
        known = ", ".join(job.id for job in list_jobs()[:5])
        raise InputError(f"there is no job {job_id!r}; " + (f"the newest are: {known}" if known else "there are none"))
    process = read_json(folder / f"{job_id}.process.json") or {}
    live = _is_live(process, request)
    # read after looking for the process: what a finished one wrote last is then there
    written = read_json(folder / f"{job_id}.state.json") or {"state": "starting", "updated": request["created"]}
    state: State = written["state"]
    if state in ("starting", "running") and not live:
        state = "died"
    samples = request["samples"] or {}
    arguments = request["arguments"]
    return Job(
        id=job_id,
        function=request["function"],
        dataset=samples.get("dataset") or arguments.get("dataset"),
        run=arguments.get("run"),
        state=state,
        created=request["created"],
        updated=written["updated"],
        pid=process.get("pid"),
        machine=request["machine"],
        step=written.get("step", ""),
        done=written.get("done", 0),
        total=written.get("total", 0),
        left=written.get("left"),
        message=written.get("message", ""),
        reasons=tuple(written.get("reasons", ())),
        error=_last_words(folder / f"{job_id}.log") if state == "died" else written.get("error", ""),
        log=str(folder / f"{job_id}.log"),
    )


def list_jobs(*, live: bool = False) -> list[Job]:
    """Every job that is remembered, the newest first; with ``live`` only those that still run."""
    names = sorted((p.name.split(".")[0] for p in jobs_folder().glob("*.request.json")), reverse=True)
    jobs = []
    for name in names:
        with suppress(InputError):  # forgotten by another process meanwhile
            jobs.append(read_job(name))
    return [job for job in jobs if job.is_live or not live]


def cancel_job(job_id: str) -> Job:
    """Stop a job: it is asked to, and ended where it does not. What it computed is kept, the step can be continued.

    Raises:
        InputError: there is no such job, it runs no more, or it runs on another machine.
    """
    job = read_job(job_id)
    if not job.is_live:
        raise InputError(f"job {job_id} runs no more: it is {job.state}")
    if job.machine != socket.gethostname():
        raise InputError(f"job {job_id} runs on {job.machine}: cancel it there")
    folder = jobs_folder()
    process = read_json(folder / f"{job_id}.process.json")
    if process is None:
        raise InputError(f"job {job_id} is only starting: try again in a moment")
    pid = int(process["pid"])
    # only the process itself: its decoders, stopped with it, would look like damaged clips to it
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    if not _ends(process, TERMINATING_SECONDS):
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # it leads a session of its own: these are its children and nobody else's
        _ends(process, TERMINATING_SECONDS)
    if read_job(job_id).state in ("running", "starting", "died"):
        written = read_json(folder / f"{job_id}.state.json") or {}
        write_json(folder / f"{job_id}.state.json", {**written, "state": "cancelled", "updated": utc_now()})
    return read_job(job_id)


# -- files ------------------------------------------------------------------------------------------------------------


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Replace a file by JSON, complete or as before."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    part.write_text(json.dumps(data), encoding="utf-8")
    part.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """What ``write_json`` wrote, or None."""
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return data


def utc_now() -> str:
    """The time as it is written everywhere."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _forget_old(folder: Path) -> None:
    for job in [job for job in list_jobs() if not job.is_live][KEPT:]:
        for path in folder.glob(f"{job.id}.*"):
            path.unlink(missing_ok=True)


def _last_words(log: Path) -> str:
    """The last line a process printed before it died."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return f"the process is gone; {f'its last words: {lines[-1][:300]}' if lines else 'it said nothing'}"


# -- what to do -------------------------------------------------------------------------------------------------------


def _described(samples: Any) -> dict[str, Any] | None:
    """A dataset or view by name and stages."""
    if samples is None:
        return None
    if isinstance(samples, str):
        return {"dataset": samples, "stages": []}
    dataset = dataset_of(samples)
    return {"dataset": dataset.name, "stages": [] if samples is dataset else samples._serialize()}


def _plain_argument(value: Any) -> Any:
    data = plain(value) if is_dataclass(value) else value
    data = str(data) if isinstance(data, Path) else data
    try:
        return json.loads(json.dumps(data))
    except TypeError as error:
        raise InputError(f"a job takes names, numbers and settings, not {value!r}: name a tag or saved view") from error


# -- processes --------------------------------------------------------------------------------------------------------


def process_began(pid: int) -> str | None:
    """When a process began, as a text that no other process of this id has; None where there is none, or only a zombie.

    Linux: start in clock ticks and the boot's own id; elsewhere what ``ps`` says.
    """
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        boot = Path("/proc/sys/kernel/random/boot_id")
        return None if fields[0] in "ZX" else f"{boot.read_text().strip() if boot.exists() else ''} {fields[19]}"
    said = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, began = said.stdout.strip().partition(" ")
    return began.strip() if began and not state.startswith("Z") else None


def _ends(process: Mapping[str, Any], seconds: float) -> bool:
    """Whether a process is gone within so many seconds."""
    deadline = time.monotonic() + seconds
    while _is_same(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not _is_same(process)


def _is_same(process: Mapping[str, Any]) -> bool:
    began = process.get("began")
    return began is not None and process_began(int(process["pid"])) == began


def _is_live(process: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    if request["machine"] != socket.gethostname():
        return True  # only its own machine can tell
    if not process:
        age = datetime.now(UTC) - datetime.fromisoformat(request["created"])
        return age.total_seconds() < STARTING_SECONDS
    return _is_same(process)
