"""Progress as a callback: the method never prints, the caller decides how progress looks."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called by every long step after each unit of work, and once with ``done=0`` before the first."""

    def __call__(self, label: str, done: int, total: int) -> None: ...


def silent(label: str, done: int, total: int) -> None:
    """The default: say nothing."""
