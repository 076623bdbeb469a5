"""Decoders that fail as C libraries do, for the pool to call in its children. The file's name says what happens."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from motive_fo.clips.clip import Clip, VideoFacts
from motive_fo.clips.decode import decode
from motive_fo.clips.spec import ClipSpec
from motive_fo.errors import ClipError, MissingDependencyError


class _Touch:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def _line(**message: Any) -> bytes:
    return json.dumps(message).encode() + b"\n"


HOSTILE: dict[str, Callable[[Path], bytes]] = {
    "pickle": lambda folder: pickle.dumps(_Touch(folder / "run")) + b"\n",
    "words": lambda _: b"no JSON at all\n",
    "list": lambda _: b"[1, 2]\n",
    "large": lambda _: _line(shape=[10**6, 10**6, 10**3, 3], times=[]),
    "negative": lambda _: _line(shape=[-17, -64, 64, 3], times=[]),
    "class": lambda _: _line(error="CLIP_CODES", message="x"),
    "keys": lambda _: _line(failure={"stage": "decode", "code": "x", "message": "y", "evil": 1}),
    "code": lambda _: _line(failure={"stage": "decode", "code": "no such code", "message": "y"}),
    "endless": lambda _: b"x" * (1 << 21),
}


def by_name(path: str, spec: ClipSpec, *options: Any) -> Clip:
    what = Path(path).stem
    if what == "hang":  # in C, with the interpreter's lock held: no Python in this process can stop it
        ctypes.PyDLL(None).pause()
    elif what == "abort":
        os.write(2, b"free(): invalid pointer\n")
        os.abort()
    elif what == "segfault":
        ctypes.string_at(0)
    elif what == "exit":
        os._exit(3)
    elif what == "greedy":
        held = []
        while True:
            held.append(np.ones(1 << 26, np.uint8))
    elif what == "strange":
        raise ValueError("what nobody\nforesaw")
    elif what == "missing":
        raise MissingDependencyError("install it")
    elif what == "refused":
        raise ClipError("probe", "not_video", "no")
    elif what == "chatty":
        print("libraries print")
        os.write(1, b"and so does C\n" * 1000)
    elif what in HOSTILE:  # a file that took over its decoder writes what it likes where the answers go
        for pipe in range(3, 32):
            with contextlib.suppress(OSError):
                os.write(pipe, HOSTILE[what](Path(path).parent))
    elif what == "interrupted":
        os.kill(os.getpid(), signal.SIGINT)
    elif what == "modules":
        raise ClipError("decode", "not_video", " ".join(sys.modules))
    elif what.startswith("slow"):
        time.sleep(0.2)
    elif what.startswith("pid"):
        raise ClipError("decode", "not_video", str(os.getpid()))
    elif what.startswith("real"):
        return decode(path, spec, *options)
    facts = VideoFacts(2, 2, 16.0, 2, 0.125, "h264", "yuv420p", 0, True, False, 1)
    return Clip(np.full((2, 2, 2, 3), len(what), np.uint8), np.zeros(2), what, facts)
