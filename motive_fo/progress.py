"""Progress as a callback: the method never prints, the caller decides how progress looks."""

from __future__ import annotations

import time
from typing import Final, Protocol

_UNITS: Final = ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h"))


class Progress(Protocol):
    """Called by every long step after each unit of work, and once with ``done=0`` before the first."""

    def __call__(self, label: str, done: int, total: int) -> None: ...


def silent(label: str, done: int, total: int) -> None:
    """The default: say nothing."""


class Pace:
    """How long the rest of each label's units takes if they go on as those done so far."""

    def __init__(self) -> None:
        self._begun: dict[str, tuple[float, int]] = {}

    def left(self, label: str, done: int, total: int) -> float | None:
        """Seconds left, None while nothing was done since the label was first seen."""
        now = time.monotonic()
        start, first = self._begun.setdefault(label, (now, done))
        return (now - start) / (done - first) * (total - done) if done > first else None


def duration(seconds: float) -> str:
    """Seconds for people: ``40 s``, ``12 min``, ``5 h``, ``3.0 days``."""
    for limit, unit, name in _UNITS:
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.1f} days"
