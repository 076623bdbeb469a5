"""Decoders that fail as C libraries do, for the pool to call in its children. The file's name says what happens."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from motive_fo.clips.clip import Clip
from motive_fo.clips.decode import decode
from motive_fo.clips.spec import ClipSpec
from motive_fo.errors import ClipError, MissingDependencyError


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
    return Clip(np.full((2, 2, 2, 3), len(what), np.uint8), np.zeros(2), what, None)  # type: ignore[arg-type]
