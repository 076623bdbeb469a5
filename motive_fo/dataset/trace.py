"""Which computation a figure of a run comes from: the fingerprints of every step, and who computed them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from motive_fo.dataset.ownership import held_by
from motive_fo.dataset.run_record import FINGERPRINTS, RunRecord, note_fingerprints
from motive_fo.store.fingerprints import SCORING, origins

#: what of a run's figures each step wrote.
FIGURES = {
    "motion": "motion statistics, curves and masks",
    "query gradients": "gradient norms, losses and sketches of the queries",
    "train gradients": "gradient norms, losses and sketches of the training clips",
    "influence": "cosines and influence",
    "curate": "votes, ranks and selection",
}


@dataclass(frozen=True)
class Traced:
    """Where one step's figures come from.

    Attributes:
        step: the step.
        figures: what of a run it wrote.
        fingerprints: part of the store, or ``selection`` -> digest of the settings it was computed with.
        by: who computed it last: versions, machine, device and time; empty for what is made of stored numbers alone.
        stale: what was computed anew since the step: its figures are of an earlier version of these parts.
    """

    step: str
    figures: str
    fingerprints: dict[str, str]
    by: dict[str, Any] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people: fingerprints, who computed, and a warning where that is due."""
        lines = ["fingerprints: " + self.listing]
        if self.by:
            lines.append(f"computed by {self.computed_by}")
        return lines + self.warnings

    @property
    def listing(self) -> str:
        """Part and digest of each, in a line."""
        return ", ".join(f"{part} {digest}" for part, digest in self.fingerprints.items())

    @property
    def warnings(self) -> list[str]:
        """What makes its figures doubtful, in sentences."""
        return [f"{self.figures} are of an earlier {part}: run the step {self.step!r} again" for part in self.stale]

    @property
    def computed_by(self) -> str:
        """Versions, device and time in a line; empty where nobody is known."""
        if not self.by:
            return ""
        versions = ", ".join(f"{name} {version}" for name, version in self.by["packages"].items())
        python = f"Python {self.by['python']} on {self.by['machine']}"
        return f"{versions}, {python}, device {self.by['device']}, {self.by['time']}"


def trace(record: RunRecord) -> list[Traced]:
    """The origin of every figure of a run, step by step in their order.

    Steps of records that were written before fingerprints were kept show those of the store as it is.
    """
    note_fingerprints(record)
    now = {} if held_by(record) == "other" else origins(record.store)
    found = []
    for step, figures in FIGURES.items():
        known: dict[str, str] = record.steps.get(step, {}).get(FINGERPRINTS, {})
        if not known and step == "motion" and "motion" in now:  # measured on the way to the gradients
            known = {"motion": now["motion"].digest}
        if known:
            histories = [now[part].history for part in known if part in now and now[part].history]
            current = now[SCORING].digest if SCORING in now else None
            stale = [part for part, digest in known.items() if part == SCORING and digest != current]
            found.append(Traced(step, figures, known, histories[0][-1] if histories else {}, stale))
    return found
