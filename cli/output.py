"""What the command line shows: progress with ETA on the error stream, results as short text or JSON on the output.

``output_options`` gives a command ``--json``, ``--quiet`` and ``--verbose`` and hands it an ``Output`` that obeys them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from motive_fo.progress import duration

if TYPE_CHECKING:
    from motive_fo.dataset.baselines import BaselinesReport
    from motive_fo.dataset.curation import CurateReport
    from motive_fo.dataset.estimate import Estimate
    from motive_fo.dataset.whole import RunReport
    from motive_fo.exporters.survival import Survival
    from motive_fo.pipeline.report import StepReport
    from motive_fo.progress import Progress

_LOG_EVERY = 10.0  # seconds between lines where the error stream is no terminal
_SHOWN_FAILURES = 1000  # a verbose listing longer than this is no listing: `motive scores` writes all

_SHOWN_PASSED = 3
_SHOWN_REASONS = 5

Command = Callable[..., Any]


@dataclass(frozen=True)
class Output:
    """How a command was asked to speak.

    Attributes:
        as_json: the result as JSON, the only thing on the output stream.
        quiet: no progress.
        verbose: details beside the result: on the output stream, or on the error stream where that is for JSON.
    """

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False

    def progress(self) -> AbstractContextManager[Progress]:
        """Progress on the error stream, unless quiet."""
        return shown_progress(self.quiet)

    def emit(self, data: dict[str, Any] | list[Any], lines: Sequence[str]) -> None:
        """Print the result."""
        emit(data, list(lines), self.as_json)

    def detail(self, lines: Sequence[str]) -> None:
        """Print details; the caller asks ``verbose`` first where they cost something."""
        if self.verbose:
            for line in lines:
                click.echo(line, err=self.as_json)


def output_options(*, progress: bool = True, details: bool = False) -> Callable[[Command], Command]:
    """Add ``--json``, ``--quiet`` and, with ``details``, ``--verbose``; the command gets them as ``out``.

    ``--quiet`` is taken everywhere, so that a script may always say it, and shown where there is ``progress``.
    """

    def decorate(command: Command) -> Command:
        @wraps(command)
        def with_output(
            *args: Any, as_json: bool = False, quiet: bool = False, verbose: bool = False, **more: Any
        ) -> Any:
            return command(*args, out=Output(as_json, quiet, verbose), **more)

        # click collects options on the function, the last decorated first
        made: Command = with_output
        if details:
            made = click.option("-v", "--verbose", is_flag=True, help="also failed clips, notes and timings")(made)
        made = click.option("-q", "--quiet", is_flag=True, hidden=not progress, help="no progress")(made)
        return click.option("--json", "as_json", is_flag=True, help="print the result as JSON")(made)

    return decorate


@contextmanager
def shown_progress(quiet: bool = False) -> Iterator[Progress]:
    """Progress bars on a terminal, a line every ten seconds elsewhere, nothing when quiet."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if quiet:
        yield lambda label, done, total: None
        return
    if not console.is_terminal:
        yield _LineProgress()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(label: str, done: int, total: int) -> None:
            if total and label not in tasks:
                tasks[label] = bars.add_task(label, total=total)
            if total:
                bars.update(tasks[label], completed=done, total=total)

        yield show


class _LineProgress:
    """``label 40/120, about 25 s left`` on the error stream, now and then."""

    def __init__(self) -> None:
        self._started: dict[str, float] = {}
        self._said = time.monotonic()

    def __call__(self, label: str, done: int, total: int) -> None:
        now = time.monotonic()
        start = self._started.setdefault(label, now)
        if now - self._said >= _LOG_EVERY and 0 < done < total:
            self._said = now
            left = (now - start) / done * (total - done)
            click.echo(f"{label} {done}/{total}, about {left:.0f} s left", err=True)


def emit(data: dict[str, Any] | list[Any], lines: list[str], as_json: bool) -> None:
    """Print a result as JSON or as text."""
    if as_json:
        click.echo(json.dumps(data, indent=1, ensure_ascii=False))
    else:
        for line in lines:
            click.echo(line)


def step_lines(report: StepReport) -> list[str]:
    """A step's report in a line or two."""
    states = ", ".join(f"{count} {name}" for name, count in sorted(report.status.items()))
    new = "all computed before" if not report.computed else f"{report.computed} computed now"
    lines = [f"{report.step}: {report.clips} clips ({states}), {new}, {report.seconds.get('total', 0):.1f} s"]
    if report.codes:
        lines.append("  failed: " + ", ".join(f"{code} {count}" for code, count in report.codes.most_common()))
    return lines + [f"  note: {note}" for note in report.notes]


def timing_lines(reports: Sequence[StepReport]) -> list[str]:
    """Seconds of each phase, one line per step."""
    lines = []
    for report in reports:
        phases = {name: seconds for name, seconds in report.seconds.items() if name != "total"}
        if phases:
            shown = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in phases.items())
            lines.append(f"timing of {report.step}: {shown}")
    return lines


def failure_lines(dataset: str, run: str) -> list[str]:
    """Every failed clip of a run with its code and message."""
    from motive_fo.dataset.score_table import failed_clips

    failed = failed_clips(dataset, run)
    lines = [f"failed: {clip_id} {code}: {message}" for clip_id, code, message in failed[:_SHOWN_FAILURES]]
    rest = len(failed) - len(lines)
    return lines + ([f"and {rest} more failed: motive scores {dataset} FILE.csv lists all"] if rest else [])


def estimate_lines(estimated: Estimate, *, verbose: bool = False) -> list[str]:
    """A dry run's findings: what is to do, what will fail, time and disk, and what these rest on."""
    lines = [f"dry run of {estimated.step}: nothing is written"]
    if estimated.new:
        lines.append(f"import: {estimated.new} clips new to {estimated.dataset!r}")
    for role, counts in estimated.roles.items():
        missing = f"; {counts.missing} files not found" if counts.missing else ""
        lines.append(
            f"{role}: {counts.clips} clips, {counts.done} done, {counts.failed} failed before, "
            f"{counts.todo} to compute{missing}"
        )
    if estimated.problems:
        shown = ", ".join(f"{count} {code}" for code, count in estimated.problems.items())
        lines.append(f"would fail: {shown}, of {estimated.looked_at} files looked at")
    elif estimated.looked_at:
        lines.append(f"would fail: none of {estimated.looked_at} files looked at")
    lines.append(f"time: {_estimated_time(estimated)}")
    lines += [line for line in (_estimated_clip(estimated), _estimated_memory(estimated)) if line]
    lines.append(f"disk: {estimated.bytes / 1e6:,.1f} MB in {estimated.store}")
    if any(estimated.kept_bytes.values()):
        kept = ", ".join(f"{what} {size / 1e6:,.1f} MB" for what, size in sorted(estimated.kept_bytes.items()))
        lines.append(f"kept for other runs: {kept}")
    if any(estimated.known.values()):
        known = " and ".join(f"{what} of {count}" for what, count in estimated.known.items() if count)
        lines.append(f"known already: {known} of {estimated.looked_at} clips looked at, which take less time")
    if verbose and estimated.phases:
        phases = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in estimated.phases.items())
        lines.append(f"timing of the measured clips: {phases}")
    return lines + [f"  note: {note}" for note in estimated.notes]


def _estimated_clip(estimated: Estimate) -> str:
    frames, height, width = estimated.frames
    tokens = f", {estimated.tokens:,} tokens" if estimated.tokens is not None else ""
    return f"clip: {frames} frames of {height}x{width}{tokens}"


def _estimated_memory(estimated: Estimate) -> str:
    if not estimated.memory:
        return ""
    weights = f"memory: {estimated.memory['weights'] / 1e6:,.0f} MB of weights"
    where = "on the GPU" if estimated.memory_on == "GPU" else "in the whole process"
    peak = estimated.memory.get("peak")
    return weights if peak is None else f"{weights}; at most {peak / 1e6:,.0f} MB {where} while measuring"


def _estimated_time(estimated: Estimate) -> str:
    todo = sum(counts.todo for counts in estimated.roles.values())
    if not todo:
        return "nothing to compute"
    if estimated.seconds is None:
        return "unknown, none of the clips looked at could be computed"
    sources = []
    if estimated.measured:
        low, high = min(estimated.measured), max(estimated.measured)
        sources.append(f"{len(estimated.measured)} of the clips, computed just now: {low:.2f} to {high:.2f} s each")
    sources += [f"earlier {step}: {rate:.2f} s each" for step, rate in estimated.earlier.items()]
    low, high = estimated.seconds
    return f"{duration(low)} to {duration(high)} for {todo} clips ({'; '.join(sources)})"


def run_lines(report: RunReport) -> list[str]:
    """A whole run's report, step by step. What several steps note is said once."""
    lines = [line for item in report.imports for line in import_lines(item.as_dict())]
    lines += [line for step in report.gradients.values() for line in step_lines(step)]
    lines += step_lines(report.influence) if report.influence else []
    lines += curate_lines(report.curate) if report.curate else []
    lines += export_lines(report.export.as_dict()) if report.export else []
    return [line for n, line in enumerate(lines) if not line.startswith("  note: ") or line not in lines[:n]]


def import_lines(data: dict[str, Any]) -> list[str]:
    """An import's report in a line or two."""
    from motive_fo.dataset.imports import conflict_sentence

    line = (
        f"import: {data['added']} new, {data['updated']} updated, {data['unchanged']} unchanged in {data['dataset']!r}"
    )
    lines = [line]
    if data["kept"]:
        lines.append(f"  {data['kept']} keep their caption: the source has none, or it was corrected here")
    if data["conflicts"]:
        lines.append(f"  {conflict_sentence(data['conflicts'])}")
    if data["without_caption"]:
        lines.append(f"  {data['without_caption']} without a caption")
    if data["unreadable"]:
        lines.append(f"  {data['unreadable']} cannot be opened; every step will record why on the sample")
    if data["skipped"]:
        shown = ", ".join(data["skipped"][:5]) + (", ..." if len(data["skipped"]) > 5 else "")
        lines.append(f"  {len(data['skipped'])} skipped, no video by name or no caption: {shown}")
    return lines + [f"  note: {note}" for note in data["notes"]]


def curate_lines(report: CurateReport) -> list[str]:
    """What was selected, for whom, what was passed over, and the saved views with their sizes."""
    avoided = f" and {len(report.avoided)} avoided" if report.avoided else ""
    lines = [f"curate: {len(report.selected)} of {report.clips} scored clips, {len(report.followed)} queries{avoided}"]
    if report.coverage:
        shares = sorted(report.coverage.items(), key=lambda item: (item[1], item[0]))
        mean = sum(report.coverage.values()) / len(shares)
        lines.append(f"  holds {mean:.0%} of each query's own best clips, least of {shares[0][0]}: {shares[0][1]:.0%}")
    for clip_id, why in list(report.passed_over.items())[:_SHOWN_PASSED]:
        lines.append(f"  passed over: {clip_id}, {why}")
    if len(report.passed_over) > _SHOWN_PASSED:
        lines.append(f"  and {len(report.passed_over) - _SHOWN_PASSED} more passed over")
    lines += [f"  quota {text} was not met: {share:.0%}" for text, share in report.unmet.items()]
    width = max((len(name) for name in report.views), default=0)
    lines += ["saved views:", *(f"  {name:<{width}}  {count}" for name, count in report.views.items())]
    return lines + [f"  note: {note}" for note in report.notes]


def export_lines(data: dict[str, Any]) -> list[str]:
    """An export's report."""
    state = ", as it was: nothing is changed" if data["unchanged"] else ""
    lines = [f"export: {data['written']} clips in {data['folder']}{state}"]
    survival = data["survival"]
    names = {"kept": "kept as scored", "cut": "cut", "retimed": "re-timed", "dropped": "dropped"}
    lines.append(f"  {survival['layout']}: " + ", ".join(f"{survival[key]} {name}" for key, name in names.items()))
    if data["without_caption"]:
        lines.append(f"  {data['without_caption']} without a caption")
    if data["changed_captions"]:
        lines.append(f"  {len(data['changed_captions'])} captions changed, see the manifest")
    if data["skipped"]:
        first = next(iter(data["skipped"].items()))
        lines.append(f"  {len(data['skipped'])} skipped, the first: {first[0]} ({first[1]})")
    use = {"videofolder": "read", "vbench": "judge"}.get(survival["layout"], "train")
    return [*lines, f"  {use} with: {data['command']}", *(f"  note: {note}" for note in data["notes"])]


def survival_lines(reports: Sequence[Survival]) -> list[str]:
    """What trainers make of clips: a table, and below it why."""
    from motive_fo.exporters.survival import survival_table

    why = [f"  {report.layout}: {sentence}" for report in reports for sentence in _first(report.sentences())]
    return [*survival_table(reports), *why]


def baseline_lines(report: BaselinesReport) -> list[str]:
    """The selection and its baselines as a table."""
    width = max(len(each.view) for each in report.sets)
    lines = [f"{'view':<{width}}  clips  shared  coverage  px/frame"]
    for each in report.sets:
        moves = "-" if each.motion is None else f"{each.motion:.2f}"
        lines.append(f"{each.view:<{width}}  {each.clips:>5}  {each.shared:>6.0%}  {each.coverage:>8.0%}  {moves:>8}")
    return lines + [
        f"  {each.folder}: {each.steps} steps, {each.passes:.2f} passes" for each in report.sets if each.folder
    ]


def _first(sentences: list[str]) -> list[str]:
    rest = len(sentences) - _SHOWN_REASONS
    return sentences[:_SHOWN_REASONS] + ([f"and {rest} more, see --verbose"] if rest > 0 else [])
