"""A crew on a Ray cluster: one worker that holds a model for each GPU, or for each CPU where there is none.

The only module that imports ray. Ray places the workers, on machines it may have to start first; this module hands them
orders, at most two each, and sees to what they leave behind when they die:

* An order is lost with its worker or its machine: it is given to the next worker that is free.
* Of two orders lost together only one is to blame, so from then on each has a worker for itself. A clip that is lost
  ``TRIES`` times with a worker it had for itself is given up as ``worker_died``.
* The process that runs the step is lost: Ray ends its workers, and the store is continued by the next run.

``Choice:`` actors that are started anew from here, not by Ray's own restarts and retries, which repeat whatever was
queued and cannot tell which clip was to blame.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from motive_fo.config import AttributionConfig, EngineConfig
from motive_fo.errors import ClipError, MissingDependencyError, MotiveError
from motive_fo.pipeline.crew import Answer, Order
from motive_fo.pipeline.motion import MotionSettings
from motive_fo.pipeline.record import as_clip_error
from motive_fo.pipeline.replicas import TRIES

if TYPE_CHECKING:
    from motive_fo.models.base import VideoModel
    from motive_fo.pipeline.clip_worker import Setup

Item = TypeVar("Item")

_AHEAD: Final = 3  # orders begun or answered for each worker, beyond the first that is not answered yet
_LISTEN_SECONDS: Final = 5.0
_KNOCK_SECONDS: Final = 5.0
_START_SECONDS: Final = 900.0  # a cluster that grows starts a machine in minutes
_QUIET: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # or Ray prints every death on standard output, amid what we print there
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default, chosen so that it does not warn of it
}


class RayCrew:
    """Workers on a Ray cluster, joined or started here. See ``crew.Crew``.

    They start with the first orders. A cluster that was joined before in this process is used and stays joined.

    Args:
        engine: where the cluster is, and how many workers.
        motion: settings of motion.
        attribution: settings of gradients; None where none are taken.

    Raises:
        MissingDependencyError: Ray is not installed.
        MotiveError: there is no such cluster.
    """

    def __init__(self, engine: EngineConfig, motion: MotionSettings, attribution: AttributionConfig | None) -> None:
        self._ray = _import_ray()
        self._motion = motion
        self._attribution = attribution
        self._joined = _join(self._ray, engine)
        try:
            have = self._ray.cluster_resources()
            wants_gpu = _uses_gpu(motion, attribution)
            self._gpu = bool(wants_gpu and (have.get("GPU", 0) >= 1 or wants_gpu == "surely"))
            found = int(have.get("GPU" if self._gpu else "CPU", 0))
            named = len(attribution.devices) if attribution is not None else 0
            self._seats = [_Seat() for _ in range(engine.workers or named or max(1, found))]
        except BaseException:
            self._leave()
            raise
        self._failures = 0
        self._waiting_since = time.monotonic()

    @property
    def device(self) -> str:
        return f"ray:{'cuda' if self._gpu else 'cpu'}"

    @cached_property
    def model(self) -> VideoModel:
        from motive_fo.models.base import StagedModel
        from motive_fo.models.registry import attributed_model

        assert self._attribution is not None
        mine = replace(self._attribution, device="cpu", devices=())
        model = attributed_model(mine, self._motion.spec)
        if self._gpu and mine.precision == "auto" and isinstance(model, StagedModel):
            # weights are not loaded yet: the model as it is on the workers' GPUs
            model = attributed_model(replace(mine, precision="bfloat16"), self._motion.spec)
        return model

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for seat in self._seats:
            if seat.worker is not None:
                self._ray.kill(seat.worker)
                seat.vacate()
        self._leave()

    def _leave(self) -> None:
        if self._joined:
            self._ray.shutdown()

    def map(self, orders: Iterable[tuple[Item, Order | None]]) -> Iterator[tuple[Item, Answer | ClipError | None]]:
        """See ``crew.Crew``."""
        line = _Line(orders, _AHEAD * len(self._seats))
        while True:
            yield from line.leaving()
            if line.empty:
                return
            self._hand_out(line)
            if not line.has_answer:
                self._listen(line)

    # -- workers ------------------------------------------------------------------------------------------------------

    def _hand_out(self, line: _Line[Any]) -> None:
        for seat in self._seats:
            if seat.worker is None:
                self._start(seat)
        free = True
        while free:  # one each before anybody has two
            free = False
            for seat in sorted(self._seats, key=lambda seat: len(seat.jobs)):
                job = line.next()
                if job is None:
                    return
                if seat.takes(job):
                    line.take(job)
                    seat.jobs[seat.worker.do.remote(job.order)] = job
                    free = True
                    break

    def _start(self, seat: _Seat) -> None:
        from motive_fo.pipeline.clip_worker import CALLS, ClipWorker

        made = self._ray.remote(ClipWorker).options(
            num_cpus=1, num_gpus=1 if self._gpu else 0, max_concurrency=CALLS, max_restarts=0, max_task_retries=0
        )
        seat.worker = made.remote(self._setup)
        seat.opening = seat.worker.open.remote()

    @cached_property
    def _setup(self) -> Setup:
        import torch

        from motive_fo.flow.registry import settle_estimator
        from motive_fo.pipeline.clip_worker import Setup

        return Setup(
            self._motion.clip,
            settle_estimator(self._motion.flow),  # by what this machine has, not each of them
            self._motion.motion,
            self._motion.card,
            self._attribution,
            "cuda" if self._gpu else "cpu",
            torch.get_num_threads(),
            tuple(sys.path),
        )

    @cached_property
    def _identity(self) -> dict[str, Any]:
        from motive_fo.pipeline.clip_worker import worker_identity
        from motive_fo.pipeline.sketching import projection_of

        if self._attribution is None:
            return worker_identity(self._motion, None, None)
        return worker_identity(self._motion, self.model, projection_of(self.model, self._attribution).identity())

    # -- answers ------------------------------------------------------------------------------------------------------

    def _listen(self, line: _Line[Any]) -> None:
        """Wait until a worker is ready, an order is answered, or a worker is lost."""
        refs = {ref: seat for seat in self._seats for ref in seat.refs}
        ready, _ = self._ray.wait(list(refs), num_returns=1, timeout=_LISTEN_SECONDS)
        now = time.monotonic()
        if any(seat.opening is None for seat in self._seats):
            self._waiting_since = now
        if not ready and now - self._waiting_since > _START_SECONDS:
            raise MotiveError(
                f"the Ray cluster has had no place for a worker ({'1 GPU and ' if self._gpu else ''}1 CPU) for "
                f"{_START_SECONDS / 60:.0f} minutes: look at 'ray status', and add a machine or stop another job; the "
                "same command goes on where it was"
            )
        for ref in ready:
            seat = refs[ref]
            if ref == seat.opening:
                self._opened(seat)
            elif ref in seat.jobs:  # not those of a worker that was lost just now
                self._answered(seat, ref, line)

    def _opened(self, seat: _Seat) -> None:
        exceptions = self._ray.exceptions
        try:
            theirs = self._ray.get(seat.opening)
        except exceptions.RayTaskError as error:
            raise _cause(error) from None
        except exceptions.RayError as error:
            seat.vacate()
            if "ModuleNotFoundError" in str(error):
                raise MotiveError(
                    "a Ray worker cannot import motive_fo: install the same environment on every machine of the cluster"
                ) from None
            self._failures += 1
            if self._failures > TRIES:
                raise MotiveError(
                    f"Ray's workers do not start ({_first_line(error)}): is there memory for so many copies of the "
                    "model? Give fewer --workers"
                ) from None
            return
        self._failures = 0
        unlike = [part for part, value in self._identity.items() if theirs.get(part) != value]
        if unlike:
            raise MotiveError(
                f"a Ray worker gets another {' and '.join(unlike)} than this process: all machines need the same "
                "packages, weights and settings, and a model that is loaded by its name and is the same each time"
            )
        seat.opening = None

    def _answered(self, seat: _Seat, ref: Any, line: _Line[Any]) -> None:
        exceptions = self._ray.exceptions
        try:
            answer: Answer | ClipError = self._ray.get(ref)
        except exceptions.RayTaskError as error:
            cause = _cause(error)
            if isinstance(cause, MotiveError):
                raise cause from None
            answer = as_clip_error(cause)
        except exceptions.RayActorError as error:
            lost = list(seat.jobs.values())
            seat.vacate()
            for job in lost:
                line.lost(job, error, alone=len(lost) == 1)
            return
        except exceptions.RayError as error:  # the answer was on a machine that is gone, its worker may not be
            line.lost(seat.jobs.pop(ref), error, alone=True)
            return
        line.answer(seat.jobs.pop(ref), answer)


@dataclass
class _Job:
    """An order on its way.

    Attributes:
        deaths: workers it was lost with that had nothing else to do.
        suspect: it was lost with a worker.
    """

    number: int
    order: Order
    deaths: int = 0
    suspect: bool = False


@dataclass
class _Seat:
    """A place for a worker.

    Attributes:
        opening: pending until the worker is ready.
        jobs: what it was asked for and has not answered.
    """

    worker: Any = None
    opening: Any = None
    jobs: dict[Any, _Job] = field(default_factory=dict)

    @property
    def refs(self) -> list[Any]:
        return [*self.jobs] if self.opening is None else [self.opening]

    def takes(self, job: _Job) -> bool:
        """Whether the order may be handed over now: a clip that was lost with a worker gets one for itself."""
        from motive_fo.pipeline.clip_worker import CALLS

        if self.worker is None or self.opening is not None:
            return False
        if job.suspect or any(other.suspect for other in self.jobs.values()):
            return not self.jobs
        return len(self.jobs) < CALLS

    def vacate(self) -> None:
        self.worker = self.opening = None
        self.jobs.clear()


class _Line(Generic[Item]):
    """Orders on their way: taken from the caller as they are needed, answered in any order, left in theirs."""

    def __init__(self, orders: Iterable[tuple[Item, Order | None]], ahead: int) -> None:
        self._orders = enumerate(orders)
        self._ahead = ahead
        self._items: deque[tuple[int, Item]] = deque()
        self._waiting: deque[_Job] = deque()
        self._answers: dict[int, Answer | ClipError | None] = {}
        self._refill()

    @property
    def empty(self) -> bool:
        return not self._items

    @property
    def has_answer(self) -> bool:
        """Whether the first item can leave."""
        return bool(self._items) and self._items[0][0] in self._answers

    def next(self) -> _Job | None:
        """What is to be handed out next."""
        return self._waiting[0] if self._waiting else None

    def take(self, job: _Job) -> None:
        self._waiting.remove(job)

    def answer(self, job: _Job, answer: Answer | ClipError) -> None:
        self._answers[job.number] = answer

    def lost(self, job: _Job, error: Exception, *, alone: bool) -> None:
        """Its worker was lost: it comes first again, or is given up."""
        job.suspect = True
        job.deaths += alone
        if job.deaths < TRIES:
            self._waiting.appendleft(job)
            return
        stage = "motion" if job.order.work == "motion" else "gradient"
        message = f"the Ray worker that computed it was lost ({_first_line(error)}); {TRIES} times"
        self._answers[job.number] = ClipError(stage, "worker_died", message)

    def leaving(self) -> Iterator[tuple[Item, Answer | ClipError | None]]:
        while self.has_answer:
            number, item = self._items.popleft()
            yield item, self._answers.pop(number)
            self._refill()

    def _refill(self) -> None:
        while len(self._items) < self._ahead:
            number, (item, order) = next(self._orders, (-1, (None, None)))
            if number < 0:
                return
            self._items.append((number, item))  # type: ignore[arg-type]
            if order is None:
                self._answers[number] = None
            else:
                record = replace(order.record, path=order.record.path.absolute())
                self._waiting.append(_Job(number, replace(order, record=record)))


def _import_ray() -> Any:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise MissingDependencyError(
            f"the engine ray needs Ray ({error}): pip install 'motive-fo[ray]', or leave out --engine"
        ) from None


def _join(ray: Any, engine: EngineConfig) -> bool:
    """Join or start the cluster; False where this process has one."""
    if ray.is_initialized():
        return False
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = engine.address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        ray.init(address="local", num_cpus=engine.workers, include_dashboard=False, **quiet)
        return True
    try:
        _knock(address)
        ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise MotiveError(
            f"there is no Ray cluster at {address!r} ({_first_line(error)}): start one with 'ray start --head', or "
            "leave out --address to start one on this machine"
        ) from None
    return True


def _knock(address: str) -> None:
    """Raise ``OSError`` where nobody answers: Ray itself asks for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), _KNOCK_SECONDS).close()


def _uses_gpu(motion: MotionSettings, attribution: AttributionConfig | None) -> str:
    """Whether a worker has use for a GPU: ``surely`` where one is asked for by name, ``perhaps``, or empty."""
    if attribution is None:
        name = motion.flow.tracker_device if motion.flow.estimator.startswith("alltracker") else "cpu"
    else:
        name = attribution.devices[0] if attribution.devices else attribution.device
    return "surely" if name.startswith("cuda") else "perhaps" if name == "auto" else ""


def _cause(error: Any) -> Exception:
    """What was raised in the worker."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else MotiveError(_first_line(error))


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
