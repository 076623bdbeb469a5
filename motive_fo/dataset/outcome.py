"""What a step came to, in words for a person: one sentence, and one more for every reason that clips failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from motive_fo.dataset.curation import CurateReport
from motive_fo.dataset.imports import ImportReport, conflict_sentence
from motive_fo.errors import CLIP_CODES
from motive_fo.exporters.base import ExportReport
from motive_fo.pipeline.report import StepReport


@dataclass(frozen=True)
class Outcome:
    """What a step came to.

    Attributes:
        message: one sentence.
        reasons: why clips failed or were left out, the most frequent first; then what else a user should know.
        failed: clips with an error code.
    """

    message: str
    reasons: tuple[str, ...] = ()
    failed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def outcome(report: Any) -> Outcome:
    """The outcome of a public function, from what it returned."""
    if isinstance(report, Outcome):
        return report
    if isinstance(report, StepReport):
        counts = _counts(report.status)
        reasons, failed = _failures(report.codes)
        return Outcome(f"{report.step} of {report.clips} clips: {counts}", (*reasons, *report.notes), failed)
    if isinstance(report, Mapping):
        codes: Counter[str] = Counter()
        for step in report.values():
            codes.update(step.codes)
        reasons, failed = _failures(codes)
        notes = [note for step in report.values() for note in step.notes]
        message = "; ".join(f"{role}: {_counts(step.status)}" for role, step in report.items())
        return Outcome(message, (*reasons, *dict.fromkeys(notes)), failed)
    if isinstance(report, ImportReport):
        return _imported(report)
    if isinstance(report, CurateReport):
        unmet = tuple(f"the quota {quota} could not be met: {share:.0%}" for quota, share in report.unmet.items())
        return Outcome(
            f"{len(report.selected)} of {report.clips} scored clips selected; {len(report.views)} saved views",
            (*unmet, *report.notes),
        )
    if isinstance(report, ExportReport):
        same = "; nothing had to be changed" if report.unchanged else ""
        return Outcome(
            f"{report.written} clips in {report.folder}, {len(report.skipped)} skipped{same}",
            (*report.survival.sentences(), *report.notes),
        )
    if isinstance(report, list):  # queries
        kind = "avoid" if report and all(query.avoid for query in report) else "follow"
        return Outcome(f"{len(report)} queries to {kind}; compute gradients and score them next")
    if isinstance(report, Path):
        return Outcome(f"the report is in {report}")
    known: Outcome = report.outcome()  # reports of the App's own extras say it themselves
    return known


def _imported(report: ImportReport) -> Outcome:
    reasons = []
    if report.unreadable:
        reasons.append(f"{report.unreadable} are no readable videos: every step will record why")
    if report.kept:
        reasons.append(f"{report.kept} keep their caption: the source has none, or it was corrected here")
    if report.conflicts:
        reasons.append(conflict_sentence(report.conflicts))
    if report.without_caption:
        reasons.append(f"{report.without_caption} have no caption")
    if report.skipped:
        reasons.append(f"{len(report.skipped)} files are no videos, such as {report.skipped[0]}")
    reasons += report.notes
    return Outcome(
        f"{report.added} clips added to {report.dataset}, {report.updated} updated, {report.unchanged} unchanged",
        tuple(reasons),
        report.unreadable,
    )


def _failures(codes: Counter[str]) -> tuple[tuple[str, ...], int]:
    reasons = tuple(f"{count} {code}: {' '.join(CLIP_CODES.get(code, ('',)))}" for code, count in codes.most_common())
    return reasons, codes.total()


def _counts(states: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(states.items()))
