"""The process of a job: ``python -m motive_fo.dataset.job_process FOLDER ID``. See ``motive_fo.dataset.jobs``."""

from __future__ import annotations

import inspect
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final

import motive_fo
from motive_fo.dataset.jobs import FUNCTIONS, read_json, utc_now, write_json
from motive_fo.errors import MotiveError
from motive_fo.progress import Pace

_WRITE_SECONDS: Final = 0.5


class _CancelledError(BaseException):
    """Asked to stop; no clip's own error handling may swallow it."""


class _StateFile:
    """The job's state, written now and then, and whenever it becomes another one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pace = Pace()
        self._state: dict[str, Any] = {}
        self._written = 0.0

    def set(self, state: str, **more: Any) -> None:
        self._state = {**self._state, **more, "state": state, "updated": utc_now()}
        write_json(self._path, self._state)

    def progress(self, label: str, done: int, total: int) -> None:
        left = self._pace.left(label, done, total)
        now = time.monotonic()
        if done == total or now - self._written > _WRITE_SECONDS:
            self._written = now
            self.set("running", step=label, done=done, total=total, left=left)


def main(folder: Path, job_id: str) -> int:
    """Do what the request says; the exit code is 0 where it is done."""
    state = _StateFile(folder / f"{job_id}.state.json")
    signal.signal(signal.SIGTERM, _stop)
    try:
        state.set("running")
        request = read_json(folder / f"{job_id}.request.json")
        if request is None or request["function"] not in FUNCTIONS:
            raise MotiveError(f"the request of job {job_id} is missing or asks for an unknown function")
        from motive_fo.dataset.outcome import outcome

        function = getattr(motive_fo, request["function"])
        arguments = dict(request["arguments"])
        if "progress" in inspect.signature(function).parameters:
            arguments["progress"] = state.progress
        samples = request["samples"]
        result = outcome(function(**arguments) if samples is None else function(_samples(samples), **arguments))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # too late to be cancelled
        state.set("done", message=result.message, reasons=result.reasons, left=None)
    except _CancelledError:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        state.set("cancelled", left=None)
        return 1
    except MotiveError as error:
        state.set("failed", error=" ".join(str(error).split()), left=None)
        return 1
    except Exception as error:
        state.set("failed", error=f"{type(error).__name__}: {' '.join(str(error).split())}", left=None)
        raise  # the log has where it happened
    return 0


def _samples(described: dict[str, Any]) -> Any:
    """The dataset or view that was described."""
    from motive_fo.dataset.connect import load_dataset

    dataset = load_dataset(described["dataset"])
    if not described["stages"]:
        return dataset
    from fiftyone.core.view import DatasetView

    return DatasetView._build(dataset, described["stages"])


def _stop(number: int, frame: FrameType | None) -> None:
    raise _CancelledError


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
