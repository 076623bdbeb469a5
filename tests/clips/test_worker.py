from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motive_fo.clips.clip import Clip
from motive_fo.clips.decode import decode
from motive_fo.clips.messages import Request
from motive_fo.clips.spec import ClipSpec, FrameRule
from motive_fo.clips.worker import DecodePool, decode_ahead
from motive_fo.errors import ClipError, ConfigError, MissingDependencyError, MotiveError
from tests.clips.decoders import HOSTILE
from tests.videos import write_kind

SPEC = ClipSpec(0, 16, 17, 64, 64)
BY_NAME = "tests.clips.decoders:by_name"


def ask(name: str) -> Request:
    return Request(name, SPEC)


def outcome(pool: DecodePool, request: Request) -> Clip | ClipError:
    try:
        return pool.decode(request)
    except ClipError as error:
        return error


def gone(pid: int) -> bool:
    """Whether a process ended; a zombie nobody waits for has."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("kind", ["h264", "vp9", "av1", "prores-alpha"])
def test_equal_to_decoding_in_process(tmp_path: Path, kind: str) -> None:
    path = write_kind(tmp_path, kind)
    with DecodePool() as pool:
        for spec, options in ((SPEC, {}), (ClipSpec(1, 30, 25, 48, 80), {"short": "fewer", "rule": FrameRule(4)})):
            there = pool.decode(Request(path, spec, **options))  # type: ignore[arg-type]
            here = decode(path, spec, **options)  # type: ignore[arg-type]
            assert np.array_equal(there.frames_THW3, here.frames_THW3)
            assert np.array_equal(there.times_T, here.times_T)
            assert (there.decoder, there.facts, there.adjustment) == (here.decoder, here.facts, here.adjustment)
            assert there.frames_THW3.flags.writeable
            assert there.frames_THW3.flags.c_contiguous
        error = outcome(pool, Request(path, ClipSpec(9, 16, 17, 64, 64)))
        with pytest.raises(ClipError) as same:
            decode(path, ClipSpec(9, 16, 17, 64, 64))
        assert str(error) == str(same.value)


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("hang", "decode_timeout", "not decoded within 1 seconds"),
        ("abort", "decoder_died", "was ended by SIGABRT: free(): invalid pointer"),
        ("segfault", "decoder_died", "was ended by SIGSEGV"),
        ("exit", "decoder_died", "ended with exit code 3"),
        ("strange", "internal_error", "ValueError: what nobody foresaw"),
        ("refused", "not_video", "no"),
        pytest.param(
            "greedy",
            "decoder_died",
            "needs more memory than the limit of 0.25 GiB",
            marks=pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no limit of memory here"),
        ),
    ],
)
def test_what_a_file_does_to_a_decoder_costs_its_own_clip_only(name: str, code: str, says: str) -> None:
    with DecodePool(seconds=1, memory=1 << 28, function=BY_NAME) as pool:
        futures = [pool.submit(ask(each)) for each in ("a", name, "bb", name, "ccc")]
        for position, length in ((0, 1), (2, 2), (4, 3)):
            assert futures[position].result().frames_THW3[0, 0, 0, 0] == length
        for position in (1, 3):
            error = futures[position].exception()
            assert isinstance(error, ClipError)
            assert error.code == code
            assert says in error.message


def test_a_hanging_clip_does_not_hold_up_another_child() -> None:
    with DecodePool(2, seconds=3, function=BY_NAME) as pool:
        hanging = pool.submit(ask("hang"))
        began = time.monotonic()
        for _ in range(5):
            pool.decode(ask("a"))
        assert time.monotonic() - began < 2.5
        assert isinstance(hanging.exception(), ClipError)


def test_a_child_is_used_again_after_an_error_and_replaced_after_a_crash() -> None:
    def pid(pool: DecodePool) -> int:
        error = outcome(pool, ask("pid"))
        assert isinstance(error, ClipError)
        return int(error.message)

    with DecodePool(function=BY_NAME) as pool:
        first = pid(pool)
        outcome(pool, ask("refused"))
        assert pid(pool) == first
        outcome(pool, ask("abort"))
        second = pid(pool)
        assert second != first
        os.kill(second, signal.SIGKILL)  # while it waits: no clip is to blame
        assert gone(second)
        assert pid(pool) not in (first, second)


def test_what_is_printed_or_interrupted_does_not_disturb() -> None:
    with DecodePool(function=BY_NAME) as pool:
        for name in ("chatty", "interrupted", "a"):
            assert pool.decode(ask(name)).decoder == name


def test_a_child_imports_no_heavy_library() -> None:
    with DecodePool(function=BY_NAME) as pool:
        error = outcome(pool, ask("modules"))
        assert isinstance(error, ClipError)
        assert not {"torch", "fiftyone", "zarr", "pydantic", "decord"} & set(error.message.split())


def test_wrong_use_is_said_to_the_caller() -> None:
    for wrong in ({"workers": 0}, {"seconds": 0}, {"memory": 0}):
        with pytest.raises(ConfigError):
            DecodePool(**wrong)  # type: ignore[arg-type]
    with DecodePool(function=BY_NAME) as pool, pytest.raises(MissingDependencyError, match="install it"):
        pool.decode(ask("missing"))
    with DecodePool(function="tests.clips.nowhere:decode") as pool:
        for _ in range(2):
            with pytest.raises(MotiveError, match=r"does not start .*nowhere"):
                pool.decode(ask("a"))


def test_relative_paths_follow_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_kind(tmp_path, "h264")
    with DecodePool() as pool:
        pool.decode(Request(path, SPEC))
        monkeypatch.chdir(tmp_path)
        assert pool.decode(Request(path.name, SPEC)).facts.frames == 48


def test_closing_kills_at_once_and_drops_what_is_queued() -> None:
    before = threading.active_count()
    pool = DecodePool(function=BY_NAME)
    outcome(pool, ask("a"))
    futures = [pool.submit(ask(name)) for name in ("hang", "a", "b")]
    time.sleep(0.2)
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 2
    assert isinstance(futures[0].exception(), ClipError)
    assert futures[1].cancelled()
    assert futures[2].cancelled()
    assert threading.active_count() == before
    with pytest.raises(RuntimeError):
        pool.submit(ask("a"))


# decoding ahead


def test_ahead_keeps_the_order_and_the_errors() -> None:
    names = ["slow", "a", "refused", "abort", "bb", "slow2", "ccc"]
    with DecodePool(2, function=BY_NAME) as pool:
        results = list(decode_ahead(names, pool, ask, depth=3))
    assert [item for item, _ in results] == names
    codes = [each.code if isinstance(each, ClipError) else each.decoder for _, each in results]
    assert codes == ["slow", "a", "not_video", "decoder_died", "bb", "slow2", "ccc"]


@pytest.mark.parametrize("depth", [1, 3])
def test_ahead_takes_no_more_than_its_depth(depth: int) -> None:
    taken: list[int] = []

    def items() -> Any:
        for k in range(8):
            taken.append(k)
            yield k

    with DecodePool(function=BY_NAME) as pool:
        for number, (item, _) in enumerate(decode_ahead(items(), pool, lambda k: ask("a"), depth)):
            assert item == number
            assert len(taken) <= number + 1 + depth
    assert taken == list(range(8))


def test_ahead_works_while_the_caller_does() -> None:
    with DecodePool(function=BY_NAME) as pool:
        pool.decode(ask("a"))
        began = time.monotonic()
        for _ in decode_ahead(["slow"] * 8, pool, ask):
            time.sleep(0.2)
        assert time.monotonic() - began < 8 * 0.4 - 0.6


def test_ahead_closed_early_leaves_the_pool_usable() -> None:
    with DecodePool(function=BY_NAME) as pool:
        ahead = decode_ahead(["a", "slow", "slow", "slow"], pool, ask, depth=3)
        assert next(ahead)[0] == "a"
        ahead.close()
        assert pool.decode(ask("bb")).decoder == "bb"


def test_ahead_records_what_its_caller_finds_wrong_and_raises_what_is_nobodys_fault() -> None:
    def request(name: str) -> Request:
        if name == "b":
            raise ClipError("probe", "missing_file", "no such row")
        return ask(name)

    with DecodePool(function=BY_NAME) as pool:
        results = dict(decode_ahead("abc", pool, request))
        assert isinstance(results["b"], ClipError)
        assert isinstance(results["c"], Clip)
        with pytest.raises(MissingDependencyError):
            list(decode_ahead(["a", "missing"], pool, ask))
        with pytest.raises(ConfigError):
            next(decode_ahead("a", pool, ask, depth=0))


# the end of the parent

_PARENT = """
import sys, threading, time
sys.path.insert(0, {root!r})
from motive_fo.clips.spec import ClipSpec
from motive_fo.clips.messages import Request
from motive_fo.clips.worker import DecodePool
from motive_fo.errors import ClipError
pool = DecodePool(function={function!r})
try:
    pool.decode(Request("pid", ClipSpec(0, 16, 17, 64, 64)))
except ClipError as error:
    print(error.message, flush=True)
if {busy}:
    pool.submit(Request("hang", ClipSpec(0, 16, 17, 64, 64)))
    time.sleep(0.3)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel tells of the parent's end on Linux")
@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_children_die_with_their_parent(busy: bool, how: signal.Signals) -> None:
    program = _PARENT.format(root=str(Path(__file__).parents[2]), function=BY_NAME, busy=busy)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert parent.stdout.readline() == "ready\n"
        parent.send_signal(how)
        parent.wait(10)
    assert gone(child)


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_decoder_that_a_file_took_over_gives_orders_to_nobody(tmp_path: Path, kind: str) -> None:
    with DecodePool(function=BY_NAME, seconds=20) as pool:
        failed = outcome(pool, ask(str(tmp_path / f"{kind}.mp4")))
        assert isinstance(failed, ClipError)
        assert failed.code == "decoder_died"
        assert not (tmp_path / "run").exists()
        after = outcome(pool, ask(str(tmp_path / "fine.mp4")))
        assert isinstance(after, Clip)
        assert after.decoder == "fine"
