"""Decoding in child processes: a file that hangs or crashes a decoder costs its own clip and nothing else.

FFmpeg and decord are C and read files from strangers; no ``except`` catches a segmentation fault, and nothing in the
same process stops a loop that holds the interpreter's lock. So each child decodes one clip at a time under a limit of
time and of memory. A child that breaks one is killed, its clip gets a code, and the next clip starts another child.

``Choice:`` children are started as fresh interpreters. A fork of a process with torch's threads may deadlock, and
multiprocessing's spawn runs the user's script again. They import the decoder only (0.2 s), no torch and no FiftyOne.
``Choice:`` clips come back through a pipe (``clips.messages``): nothing to clean up after a crash, and as fast as
shared memory that is copied out of (97 MB, 81 frames of 480 x 832: 79 against 84 ms; 17 frames of 64 x 64: 0.1
against 0.2 ms).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import IO, TypeVar

from motive_fo.clips.clip import Clip
from motive_fo.clips.messages import (
    Failure,
    Request,
    read_answer,
    read_line,
    read_request,
    write_answer,
    write_line,
    write_request,
)
from motive_fo.errors import ClipError, ConfigError, MotiveError

Item = TypeVar("Item")
Answer = TypeVar("Answer")

GIB = 1 << 30
_STAGE = "decode"
_DECODE = "motive_fo.clips.decode:decode"
_START_SECONDS = 60.0
#: -P and the parent's own search path: nothing is imported from the folder the job happens to run in.
_PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN);"  # Ctrl-C is the parent's to handle
    "import json, sys; sys.path[:] = json.loads(sys.stdin.buffer.readline());"
    "from motive_fo.clips.worker import serve; serve()"
)


class DecodePool:
    """Child processes that decode clips; equal to ``decode`` in every pixel, error code and message.

    Use it as a context manager, or call ``close``. Children start with the first clips. If the parent dies, however it
    dies, so do they.

    Args:
        workers: number of children. ``Choice:`` one keeps up with flow and gradients, and leaves them the other cores.
        seconds: wall time one clip may take.
        memory: bytes a child may allocate beyond what it holds when it starts; None for no limit. Linux only.
        function: ``module:name`` of what is called in the child, with the signature of ``decode``: where another
            decoder is plugged in, and a test's that fails.
    """

    def __init__(
        self, workers: int = 1, *, seconds: float = 60.0, memory: int | None = 4 * GIB, function: str = _DECODE
    ) -> None:
        if workers < 1:
            raise ConfigError(f"decoding needs at least 1 worker, not {workers}")
        if not seconds > 0:
            raise ConfigError(f"the time limit of decoding must be above 0 seconds, not {seconds}")
        if memory is not None and memory < 1:
            raise ConfigError(f"the memory limit of decoding must be at least 1 byte, not {memory}")
        self._settings = _Settings(function, seconds, memory, os.getpid())
        # A thread for each child: it waits for the child, and is the parent whose end the child would notice.
        self._threads = ThreadPoolExecutor(workers, "motive-decode")
        self._seats: SimpleQueue[_Child | None] = SimpleQueue()
        for _ in range(workers):
            self._seats.put(None)
        self._lock = threading.Lock()
        self._alive: set[_Child] = set()
        self._closed = False

    def submit(self, request: Request) -> Future[Clip]:
        """Queue a clip; the result is the clip, or raises what ``decode`` does.

        Further codes of its ``ClipError``: ``decode_timeout`` and ``decoder_died``.
        """
        absolute = Path(request.path).absolute()  # a child keeps the working directory it was started in
        return self._threads.submit(self._run, replace(request, path=str(absolute)))

    def decode(self, request: Request) -> Clip:
        """Decode one clip and wait for it; raises as the result of ``submit`` does."""
        return self.submit(request).result()

    def close(self) -> None:
        """Kill the children and drop what is queued; what waits for a clip gets ``CancelledError`` or a code."""
        with self._lock:
            self._closed = True
            for child in self._alive:
                child.kill()
        self._threads.shutdown(cancel_futures=True)
        for child in self._alive:
            child.reap()
        self._alive.clear()

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, request: Request) -> Clip:
        child = self._seats.get()
        try:
            if child is None or not child.usable:
                self._discard(child)
                child = None
                child = self._start()
            return child.decode(request)
        finally:
            self._seats.put(child)

    def _start(self) -> _Child:
        with self._lock:
            if self._closed:
                raise ClipError(_STAGE, "decoder_died", "the job was stopped before this clip was decoded")
            child = _Child(self._settings)
            self._alive.add(child)
        try:
            child.greet()
        except BaseException:
            self._discard(child)
            raise
        return child

    def _discard(self, child: _Child | None) -> None:
        if child is not None:
            child.kill()
            child.reap()
            with self._lock:
                self._alive.discard(child)


def decode_ahead(
    items: Iterable[Item], pool: DecodePool, request: Callable[[Item], Request], depth: int = 2
) -> Iterator[tuple[Item, Clip | ClipError]]:
    """Decode the next clips while the caller works on this one.

    At most ``depth`` clips are decoded or being decoded besides the one handed out; items are taken only as needed.
    Closing the iterator drops what is queued; the pool stays usable.

    Args:
        items: anything that stands for a clip.
        pool: where to decode.
        request: what to decode for an item; a ``ClipError`` it raises is the item's result.
        depth: clips in advance, 1 or more; at least the pool's number of workers to keep them busy.

    Yields:
        Each item in the order given, with its clip or what went wrong with it.

    Raises:
        MotiveError: what no clip is to blame for, such as a decoder that is not installed.
    """
    if depth < 1:
        raise ConfigError(f"decoding ahead needs a depth of at least 1, not {depth}")
    queued: deque[tuple[Item, Future[Clip] | ClipError]] = deque()
    rest = iter(items)

    def refill() -> None:
        while len(queued) < depth:
            try:
                item = next(rest)
            except StopIteration:
                return
            try:
                queued.append((item, pool.submit(request(item))))
            except ClipError as error:
                queued.append((item, error))

    try:
        refill()
        while queued:
            item, pending = queued[0]
            result: Clip | ClipError
            try:
                result = pending.result() if isinstance(pending, Future) else pending
            except ClipError as error:
                result = error
            queued.popleft()
            del pending  # it holds the clip, which the caller may want to free
            refill()
            yield item, result
            del item, result
    finally:
        for _, pending in queued:
            if isinstance(pending, Future):
                pending.cancel()


@dataclass(frozen=True)
class _Settings:
    function: str
    seconds: float
    memory: int | None
    parent: int


class _Child:
    """One child process, seen from the parent; used by one thread at a time, but for ``kill``."""

    def __init__(self, settings: _Settings) -> None:
        self._settings = settings
        self._errors: IO[bytes] = tempfile.TemporaryFile("ab+")  # noqa: SIM115 - closed by reap
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            pipesize=1 << 20,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self._late = False
        self._spent = False

    @property
    def usable(self) -> bool:
        return not self._spent and self._process.poll() is None

    def greet(self) -> None:
        """Tell the child its settings and wait until it is ready."""

        def say() -> None:
            write_line(self._to, sys.path)
            write_line(self._to, asdict(self._settings))

        if isinstance(self._within(_START_SECONDS, say, lambda: read_line(self._from)), _Gone):
            raise MotiveError(
                f"the process that decodes does not start ({how_it_ended(self._process, self._errors)}): check that "
                f"{sys.executable!r} is Python with this package installed"
            )

    def decode(self, request: Request) -> Clip:
        """Decode a clip under the limits."""
        self._errors.truncate(0)
        answer = self._within(
            self._settings.seconds,
            lambda: write_request(self._to, request),
            lambda: read_answer(self._from, request),
        )
        if isinstance(answer, _Gone):
            self._spent = True
            name = request.path
            if self._late:
                raise ClipError(
                    _STAGE, "decode_timeout", f"{name}: not decoded within {self._settings.seconds:g} seconds"
                )
            how = answer.why or how_it_ended(self._process, self._errors)
            raise ClipError(_STAGE, "decoder_died", f"{name}: the process that decoded it {how}")
        if isinstance(answer, Failure):
            self._spent |= answer.last
            raise ClipError(answer.stage, answer.code, answer.message)
        if isinstance(answer, MotiveError):
            raise answer
        return answer

    def _within(self, seconds: float, say: Callable[[], None], hear: Callable[[], Answer]) -> Answer | _Gone:
        """Ask and wait for the answer; ``_Gone`` if the child ends or has to be killed instead."""
        timer = threading.Timer(seconds, self._expire)
        timer.daemon = True
        timer.start()
        try:
            say()
            self._to.flush()
            return hear()
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            senseless = not isinstance(error, OSError | EOFError) and not self._late
            self._process.kill()
            self._process.wait()
            return _Gone("answered what no decoder does, and was stopped" if senseless else "")
        finally:
            timer.cancel()
            timer.join()  # after this it cannot kill the child in the middle of the next clip
            self._spent |= self._late

    def _expire(self) -> None:
        self._late = True
        self._process.kill()

    def kill(self) -> None:
        """Stop the child at once, from any thread."""
        self._process.kill()

    def reap(self) -> None:
        """Wait for the end of a killed child and let go of its pipes."""
        self._process.wait()
        for pipe in (self._to, self._from, self._errors):
            with contextlib.suppress(OSError):  # what was not sent cannot be flushed
                pipe.close()


@dataclass(frozen=True)
class _Gone:
    """The child ended before it answered, or its answer is not to be trusted."""

    why: str


def how_it_ended(process: subprocess.Popen[bytes], written: IO[bytes]) -> str:
    """How a child ended, with the last line it wrote; waits for its end."""
    code = process.wait()
    try:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    except ValueError:
        how = f"was ended by signal {-code}"
    written.seek(0)
    lines = written.read()[-2000:].decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"{how}: {last[:300]}" if last else how


# What follows runs in the child.


def serve() -> None:
    """Decode what the parent asks for until it closes the pipe."""
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not end up among the answers
    settings = _Settings(**read_line(requests))
    die_with(settings.parent)
    module, _, name = settings.function.partition(":")
    function = getattr(import_module(module), name)
    _limit_memory(settings.memory)
    write_line(answers, "ready")
    answers.flush()
    while True:
        try:
            request = read_request(requests)
        except EOFError:
            return
        if hasattr(signal, "alarm"):  # where the parent's end is not noticed, a hanging child ends by itself
            signal.alarm(int(min(settings.seconds, 1e6)) + 10)
        answer = _answer(function, request, settings)
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        write_answer(answers, answer)
        if isinstance(answer, Failure) and answer.last:
            return
        del answer


def _answer(function: Callable[..., Clip], request: Request, settings: _Settings) -> Clip | Failure | MotiveError:
    try:
        return function(request.path, request.spec, request.decoder, request.short, request.rule)
    except ClipError as error:
        return Failure(error.stage, error.code, error.message)
    except MotiveError as error:
        return type(error)(str(error))
    except MemoryError:
        limit = "" if settings.memory is None else f" than the limit of {settings.memory / GIB:g} GiB"
        # What remains allocated is unknown: the next clip gets a fresh process.
        return Failure(_STAGE, "decoder_died", f"{request.path}: decoding needs more memory{limit}", last=True)
    except Exception as error:
        text = " ".join(str(error).split())[:500]
        return Failure(_STAGE, "internal_error", f"{type(error).__name__}: {text}")


def die_with(parent: int) -> None:
    """Have the kernel end this process when the parent's thread that started it ends; and rather this than the parent.

    Elsewhere than on Linux the end of the pipe and the alarm have to do.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel was told
        os._exit(1)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def _limit_memory(extra: int | None) -> None:
    """Let this process allocate ``extra`` bytes more than it has now.

    ``Choice:`` private writable memory is counted (RLIMIT_DATA), not addresses: allocators reserve many more addresses
    than they use.
    """
    if extra is None or not sys.platform.startswith("linux"):
        return
    import resource

    status = Path("/proc/self/status").read_text().split("VmData:")[1]
    limit = int(status.split()[0]) * 1024 + extra
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
