"""What a step did, for people and scripts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from motive_fo.store.table import Status

#: what progress is called while a large model's encoders work, before its first gradient.
ENCODING: Final = "encodings"


@dataclass
class StepReport:
    """Counts, error codes and timings of one step.

    Attributes:
        step: name of the step.
        clips: clips asked for.
        computed: clips computed now; the others were there already.
        status: clips by state (done, static, failed) after the step.
        codes: failed clips by error code.
        seconds: wall time of the step, and of its stages.
        notes: what a user should know, such as changed package versions.
    """

    step: str
    clips: int = 0
    computed: int = 0
    status: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def count(self, states: Iterable[tuple[Status, str]]) -> None:
        """Count the state and code of every clip of the step."""
        for status, code in states:
            self.status[status.name.lower()] += 1
            if status == Status.FAILED:
                self.codes[code] += 1

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "step": self.step,
            "clips": self.clips,
            "computed": self.computed,
            "status": dict(self.status),
            "codes": dict(self.codes),
            "seconds": {key: round(value, 3) for key, value in self.seconds.items()},
            "notes": self.notes,
        }
