"""Steps that memory is too short for, and two processes on one run at once."""

from __future__ import annotations

import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.robustness.faults import STEPS, begin, compared, in_child, snapshot, step, told

#: what a step may allocate beyond what its process holds when it begins. With less than a thread's stack or two (8 MiB
#: each) Python's own ``Thread.start`` waits for ever for a thread that could not begin.
ROOM_MIB = (32, 64, 96, 128, 192)
SECONDS = 60.0  # as long as the step may take then; a calm one takes a few


def calm_run(scratch: Path, clips: Path) -> dict[str, str]:
    """What an undisturbed run comes to."""
    home = scratch / "calm"
    home.mkdir()
    in_child(begin, str(home), str(clips))
    for name in STEPS:
        in_child(step, name, str(home))
    return dict(in_child(snapshot, str(home)))


def limited(name: str, home: str, mib: int) -> str:
    """A step with so little memory; what it said.

    The linear algebra in OpenCV takes its work space, some 32 MiB, at its first use, and ends the process where it
    cannot have it. Here it has it, as in a job that has computed a clip before memory runs short.
    """
    points_N2 = np.random.default_rng(0).random((100, 2))
    cv2.estimateAffinePartial2D(points_N2, points_N2 + 1)
    status = Path("/proc/self/status").read_text().split("VmData:")[1]
    limit = int(status.split()[0]) * 1024 + (mib << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    return told(name, home)


def memory(scratch: Path, clips: Path) -> list[dict[str, Any]]:
    """Each step with less and less room, then with enough, compared with a calm run."""
    wanted = calm_run(scratch, clips)
    home = scratch / "short"
    home.mkdir()
    in_child(begin, str(home), str(clips))
    rows = []
    for name in STEPS:
        for mib in ROOM_MIB:
            said = in_child(_or_how_it_ended, limited, name, str(home), mib)
            rows.append({"fault": f"{mib} MiB of room", "step": name, "said": said})
        in_child(step, name, str(home), True)
    rows.append({"fault": "memory", "step": "afterwards", "different": compared(wanted, in_child(snapshot, str(home)))})
    return rows


def _or_how_it_ended(function: Callable[..., str], *given: Any) -> str:
    """What a child of this child said; how it ended where it said nothing."""
    try:
        return str(in_child(function, *given, limit=SECONDS))
    except RuntimeError as error:
        return f"not caught: {' '.join(str(error).split())[-300:]}"


def writers(scratch: Path, clips: Path, rounds: int) -> list[dict[str, Any]]:
    """Two processes at the same step of the same run at once, each round compared with a calm run."""
    wanted = calm_run(scratch, clips)
    rows = []
    for number in range(rounds):
        home = scratch / f"both-{number}"
        home.mkdir()
        in_child(begin, str(home), str(clips))
        for name in STEPS:
            with ThreadPoolExecutor(2) as both:
                said = sorted(both.map(lambda _, name=name, home=home: in_child(told, name, str(home)), range(2)))
            rows.append({"step": name, "said": said})
            in_child(step, name, str(home))
        rows.append({"step": "afterwards", "different": compared(wanted, in_child(snapshot, str(home)))})
    return rows
