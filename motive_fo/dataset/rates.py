"""Seconds per clip as they were last measured on this machine: what a form says before a long step.

Kept in ``rates.json`` in the data folder. A run's own record comes first, because its clips and settings are the run's.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

from motive_fo.dataset.run_record import RunRecord, data_folder
from motive_fo.pipeline.report import StepReport

FILE: Final = "rates.json"


def note_rate(step: str, report: StepReport) -> None:
    """Remember how long a clip took. A machine whose data folder cannot be written only forgets."""
    if not report.computed or not report.seconds.get("total"):
        return
    rates = {**_read(), step: report.seconds["total"] / report.computed}
    place = data_folder() / FILE
    part = place.with_name(f"{FILE}.{uuid.uuid4().hex[:8]}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(rates, sort_keys=True), encoding="utf-8")
        part.replace(place)
    except OSError:
        part.unlink(missing_ok=True)


def rate_of(step: str, record: RunRecord | None = None) -> tuple[float, str] | None:
    """Seconds per clip of a step, and where the number is from; None where it was never measured."""
    known: Mapping[str, Any] = {} if record is None else record.steps.get(step, {})
    total = known.get("seconds", {}).get("total")
    if known.get("computed") and total:
        return total / known["computed"], "as this run last took"
    rate = _read().get(step)
    return None if rate is None else (rate, "as this machine's last run took")


def _read() -> dict[str, float]:
    try:
        data = json.loads((data_folder() / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {k: float(v) for k, v in data.items() if isinstance(v, int | float)} if isinstance(data, dict) else {}
