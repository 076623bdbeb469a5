"""One replica of the network per device, each in a process of its own, one clip each at a time.

The process that runs the step decodes, measures motion, encodes for large models and is the only one that writes the
store. A replica gets one clip, takes its sketches and hands them back; its network, projection and threads are set up
as a run on one device sets them up, so that on equal devices every sketch is the same to the last bit.

``Choice:`` replicas, one clip each, because a gradient must be one clip's: sharding a batch would mix clips, sharding
one clip needs fast links. ``Choice:`` fresh interpreters, as for decoding (``motive_fo.clips.worker`` says why);
what they are told and answer are lines of JSON: ids, paths and numbers, no pickles.
``Choice:`` tensors go through safetensors files in a folder beside the store, removed once read. Shared memory is
64 MB in a container unless somebody asked for more, less than one clip's frames, and writing beyond it kills the
process; a file's pages stay in memory just the same. Masks and latents are not read from the store's tables by the
replicas: its last rows are in the memory of the process that writes it.

A model that keeps encodings (``StagedModel``) is handed latent and condition. Any other gets frames and caption and
encodes them itself: only the model knows what its condition is made of.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load as parse_tensors
from safetensors.torch import save_file

from motive_fo import errors
from motive_fo.attribution.gradients import Sketch
from motive_fo.attribution.parameters import attributed_parameters
from motive_fo.clips.clip import Clip
from motive_fo.clips.spec import ClipSpec
from motive_fo.clips.worker import die_with, how_it_ended
from motive_fo.config import AttributionConfig, merge, plain
from motive_fo.errors import ClipError, MotiveError
from motive_fo.models.base import VideoModel
from motive_fo.models.registry import attributed_model
from motive_fo.pipeline.encoding import DirectEncodings, Encoded, encode_directly
from motive_fo.pipeline.record import ClipRecord, Version, as_clip_error
from motive_fo.pipeline.report import StepReport
from motive_fo.pipeline.sketching import Outcomes, SketchTask, projection_of, sketching, take_sketches
from motive_fo.store.sketches import Sample

TRIES: Final = 2
"""How often a clip is begun before its replica's death is put down to it."""

_ENDING_SECONDS: Final = 10.0
_PER_DEVICE: Final = 2  # clips handed over for each device: the next one waits while one is computed
_SKETCH: Final = ("sketch_2D", "norm_2", "loss_2", "squares_G2")
_PROGRAM: Final = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN);"  # Ctrl-C is the parent's to handle
    "import json, sys; order = json.loads(sys.stdin.buffer.readline()); sys.path[:] = order['path'];"
    "from motive_fo.pipeline.replicas import serve; serve(order)"
)


class FramesAsTheyAre(DirectEncodings):
    """Encodes nothing: frames and caption are handed to a replica, which does."""

    def encode(self, record: ClipRecord, version: Version, clip: Clip) -> Encoded:
        return Encoded(torch.from_numpy(np.ascontiguousarray(clip.frames_THW3)), record.caption, clip.decoder)


@dataclass(frozen=True)
class Task:
    """One clip to sketch. ``encoded`` is from a ``StagedModel``'s encodings, or frames and caption as they are."""

    encoded: Encoded
    mask_Fhw: npt.NDArray[np.float32] | None
    samples: Sequence[Sample]


class ReplicaPool:
    """Replicas on some devices. Use it as a context manager. If the parent dies, however it dies, so do they.

    They start with the first clips that need them, when encoders have left their device.

    Args:
        attribution: the run's settings; ``devices`` are those of the replicas.
        spec: the clips that will come.
        model: this process's own model, which the replicas' must equal.
        projection: identity of the projection, likewise.
        folder: where tensors are handed over; made, and removed before and afterwards.
        most: no more replicas than this are started: the number of clips.
        report: whose ``gradient`` time is added to.
    """

    def __init__(
        self,
        attribution: AttributionConfig,
        spec: ClipSpec,
        model: VideoModel,
        projection: Mapping[str, Any],
        folder: Path,
        most: int,
        report: StepReport,
    ) -> None:
        devices = attribution.devices[: max(1, most)]
        self._identity = _plain_identity(model, projection)
        self._order: dict[str, Any] = {
            "path": sys.path,
            "parent": os.getpid(),
            "attribution": plain(attribution),
            "spec": asdict(spec),
            "threads": torch.get_num_threads(),
        }
        self._folder = folder
        self._report = report
        self._timing = threading.Lock()
        self._depth = _PER_DEVICE * len(devices)
        # A thread for each replica: it waits for it, and is the parent whose end the replica would notice.
        self._threads = ThreadPoolExecutor(len(devices), "motive-replica")
        self._seats: SimpleQueue[_Seat] = SimpleQueue()
        for device in devices:
            self._seats.put(_Seat(device))
        self._lock = threading.Lock()
        self._alive: set[_Replica] = set()
        self._closed = False

    def __enter__(self) -> ReplicaPool:
        shutil.rmtree(self._folder, ignore_errors=True)  # of a run that was killed
        self._folder.mkdir(parents=True)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            for replica in self._alive:
                replica.kill()
        self._threads.shutdown(cancel_futures=True)
        for replica in self._alive:
            replica.reap()
        self._alive.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def sketches(self, tasks: Iterable[tuple[Any, Task | None]]) -> Iterator[tuple[Any, Outcomes]]:
        """Sketch clips on all devices at once.

        Args:
            tasks: anything that stands for a clip, and what is to be done; None for nothing.

        Yields:
            Each item in the order given, and what became of its samples: that order decides which of two equal clips
            is the duplicate.

        Raises:
            MotiveError: what no clip is to blame for.
        """
        queued: deque[tuple[Any, Future[Outcomes] | None]] = deque()
        numbered = enumerate(tasks)
        while True:
            while len(queued) < self._depth:
                number, (item, task) = next(numbered, (-1, (None, None)))
                if number < 0:
                    break
                queued.append((item, None if task is None else self._threads.submit(self._run, number, task)))
            if not queued:
                return
            item, pending = queued.popleft()
            yield item, {} if pending is None else pending.result()

    def _run(self, number: int, task: Task) -> Outcomes:
        given, taken = self._folder / f"{number}.given", self._folder / f"{number}.taken"
        caption = _hand_over(task, given)
        request = {
            "given": str(given),
            "taken": str(taken),
            "caption": caption,
            "samples": [list(sample) for sample in task.samples],
        }
        seat = self._seats.get()
        try:
            answer = self._asked(seat, request)
            if isinstance(answer, _Dead):
                message = f"the process that computed it on {seat.device} {answer.how}; {TRIES} times"
                return dict.fromkeys(task.samples, ClipError("gradient", "worker_died", message))
            with self._timing:
                self._report.seconds["gradient"] = self._report.seconds.get("gradient", 0.0) + answer["seconds"]
            return _read_back(task.samples, answer["failed"], taken)
        finally:
            self._seats.put(seat)
            for path in (given, taken):
                path.unlink(missing_ok=True)

    def _asked(self, seat: _Seat, request: dict[str, Any]) -> Any:
        dead = _Dead("")
        for _ in range(TRIES):
            if seat.replica is None:
                seat.replica = self._start(seat.device)
            answer = seat.replica.ask(request)
            if not isinstance(answer, _Dead):
                return answer
            dead = answer
            self._discard(seat.replica)
            seat.replica = None
        return dead

    def _start(self, device: str) -> _Replica:
        with self._lock:
            if self._closed:
                raise ClipError("gradient", "worker_died", "the job was stopped before this clip was computed")
            replica = _Replica()
            self._alive.add(replica)
        settings = {**self._order["attribution"], "device": device, "devices": []}
        try:
            ready = replica.ask({**self._order, "attribution": settings})
            if isinstance(ready, _Dead):
                raise MotiveError(
                    f"the process for device {device} does not start, it {ready.how}; is there memory for so many "
                    "copies of the model? Give fewer --devices"
                )
            if ready["identity"] != self._identity:
                unlike = [part for part in self._identity if ready["identity"][part] != self._identity[part]]
                raise MotiveError(
                    f"the process for device {device} gets another {' and '.join(unlike)} than this one: several "
                    "devices take a model that is loaded by its name and is the same each time"
                )
        except BaseException:
            self._discard(replica)
            raise
        return replica

    def _discard(self, replica: _Replica) -> None:
        replica.kill()
        replica.reap()
        with self._lock:
            self._alive.discard(replica)


@dataclass
class _Seat:
    """A device, and the replica on it if one was started."""

    device: str
    replica: _Replica | None = None


@dataclass(frozen=True)
class _Dead:
    """The process ended before it answered."""

    how: str


class _Replica:
    """One process, seen from the parent; used by one thread at a time, but for ``kill``."""

    def __init__(self) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile("ab+")  # noqa: SIM115 - closed by reap
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout

    def ask(self, question: Mapping[str, Any]) -> Any:
        """Send a line and wait for the answer. Raises the ``MotiveError`` the replica met."""
        self._errors.truncate(0)
        try:
            self._to.write(json.dumps(question).encode() + b"\n")
            self._to.flush()
            line = self._from.readline()
        except (OSError, ValueError):
            line = b""
        if not line.endswith(b"\n"):
            with suppress(subprocess.TimeoutExpired):  # it is ending: how, it says itself
                self._process.wait(_ENDING_SECONDS)
            self._process.kill()
            return _Dead(how_it_ended(self._process, self._errors))
        answer = json.loads(line)
        if "refused" in answer:
            raise getattr(errors, answer["refused"], MotiveError)(answer["text"])
        return answer

    def kill(self) -> None:
        """Stop it at once, from any thread."""
        self._process.kill()

    def reap(self) -> None:
        """Wait for the end of a killed process and let go of its pipes."""
        self._process.wait()
        for pipe in (self._to, self._from, self._errors):
            with suppress(OSError):  # what was not sent cannot be flushed
                pipe.close()


def _plain_identity(model: VideoModel, projection: Mapping[str, Any]) -> dict[str, Any]:
    plain_data: dict[str, Any] = json.loads(json.dumps({"model": dict(model.identity()), "projection": projection}))
    return plain_data


# Tensors on their way. Both sides read and write these two files.


def _hand_over(task: Task, path: Path) -> str | None:
    """Write what a clip's sketches need; returns the caption of a clip that is still to be encoded."""
    tensors = {} if task.mask_Fhw is None else {"mask": torch.from_numpy(np.ascontiguousarray(task.mask_Fhw))}
    condition = task.encoded.condition
    if isinstance(condition, str):
        tensors["frames"] = task.encoded.x0
    else:
        tensors["x0"] = task.encoded.x0
        tensors.update({f"condition.{name}": tensor for name, tensor in condition.items()})
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)
    return condition if isinstance(condition, str) else None


def _read_back(samples: Sequence[Sample], failed: Mapping[str, list[str]], path: Path) -> Outcomes:
    tensors = parse_tensors(path.read_bytes())
    outcomes: dict[Sample, Sketch | Exception] = {}
    for n, sample in enumerate(samples):
        if str(n) in failed:
            outcomes[sample] = ClipError(*failed[str(n)])
        else:
            outcomes[sample] = Sketch(*(tensors[f"{n}.{name}"].numpy() for name in _SKETCH))
    return outcomes


# What follows runs in the replica.


def serve(order: Mapping[str, Any]) -> None:
    """Take sketches of what the parent asks for until it closes the pipe."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not end up among the answers
    die_with(order["parent"])

    def tell(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()

    try:
        torch.set_num_threads(order["threads"])
        attribution = merge(AttributionConfig(), order["attribution"], "attribution")
        model = attributed_model(attribution, ClipSpec(**order["spec"]))
        projection = projection_of(model, attribution)
        identity = _plain_identity(model, projection.identity())
        parameters = attributed_parameters(model.network, attribution.include, attribution.exclude)
        with sketching(model, projection, parameters, ClipSpec(**order["spec"])) as sketcher:
            tell({"identity": identity})
            for line in sys.stdin.buffer:
                request = json.loads(line)
                report = StepReport("replica")
                outcomes: Outcomes
                samples = [Sample(float(t), int(noise)) for t, noise in request["samples"]]
                tensors = parse_tensors(Path(request["given"]).read_bytes())
                mask = tensors["mask"].numpy() if "mask" in tensors else None
                try:
                    x0, condition = _encoded(model, tensors, request["caption"])
                except MotiveError:
                    raise
                except Exception as error:
                    outcomes = dict.fromkeys(samples, error)
                else:
                    (outcomes,) = take_sketches(sketcher, [SketchTask(x0, condition, mask, samples)], report)
                for outcome in outcomes.values():
                    if isinstance(outcome, RuntimeError) and "CUDA error" in str(outcome):
                        raise outcome  # whatever this process asks of the GPU now fails: only another one can go on
                tell({"failed": _keep(outcomes, Path(request["taken"])), "seconds": report.seconds.get("gradient", 0)})
    except MotiveError as error:
        tell({"refused": type(error).__name__, "text": str(error)})


def _encoded(model: VideoModel, tensors: Mapping[str, torch.Tensor], caption: str | None) -> tuple[torch.Tensor, Any]:
    if caption is not None:
        return encode_directly(model, tensors["frames"].numpy(), caption)
    condition = {
        name.removeprefix("condition."): tensor.to(model.device)
        for name, tensor in tensors.items()
        if name.startswith("condition.")
    }
    return tensors["x0"].to(model.device), condition


def _keep(outcomes: Outcomes, path: Path) -> dict[str, list[str]]:
    """Write the sketches; returns stage, code and message of the samples that have none, by their number."""
    failed: dict[str, list[str]] = {}
    tensors: dict[str, torch.Tensor] = {}
    for n, outcome in enumerate(outcomes.values()):
        if isinstance(outcome, Sketch):
            tensors.update({f"{n}.{name}": torch.from_numpy(getattr(outcome, name)) for name in _SKETCH})
        else:
            error = as_clip_error(outcome)
            failed[str(n)] = [error.stage, error.code, error.message]
    save_file(tensors, path)
    return failed
