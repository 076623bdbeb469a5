"""``motive evaluate``: motion of sets of clips compared, judged blind by people, VBench's results on samples, and
whether the scores of a run are to be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from motive_fo.config import FlowConfig
from motive_fo.evaluation.settings import EvaluationConfig
from motive_fo.progress import duration
from motive_fo.quality.settings import AttributionQualityConfig

from .options import changes, settings_options
from .output import Output, output_options
from .steps import dataset_argument, run_option

if TYPE_CHECKING:
    from motive_fo.dataset.attribution_quality import AttributionQuality
    from motive_fo.dataset.attribution_trial import TrialCost
    from motive_fo.evaluation.votes import VoteReport

_ESTIMATOR = ("estimator", "tracker_weights", "tracker_size", "tracker_device")


class _ComparesByDefault(click.Group):
    """``motive evaluate A B`` compares; the rest is asked for by name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        completing = ctx.resilient_parsing and not args
        if not completing and (not args or args[0] not in self.commands):
            args = ["compute", *args]
        return super().parse_args(ctx, args)


@click.group("evaluate", cls=_ComparesByDefault)
def evaluate_group() -> None:
    """Did the motion get better? Sets of clips measured, compared, and judged blind.

    \b
    motive evaluate made/selection made/random     measure and compare
    motive evaluate ab one/ other/ --to page.html  a page on which people judge
    motive evaluate votes votes.csv                what they said
    motive evaluate vbench results.json my-clips   VBench's results on samples
    motive evaluate attribution my-clips --by kind  are the scores to be trusted?
    """


@evaluate_group.command("compute")
@click.argument("sources", nargs=-1, required=True)
@click.option("--html", type=click.Path(), help="also write one HTML page, with plots")
@click.option(
    "--vbench", type=click.Path(), help="also write a result file in VBench's format for each set, in a folder"
)
@settings_options(EvaluationConfig)
@settings_options(FlowConfig, only=_ESTIMATOR)
@output_options(details=True)
def compute_command(sources: Sequence[str], html: str | None, vbench: str | None, out: Output, **given: Any) -> None:
    """Measure the motion of sets of clips; compare the first with each of the others. "compute" can be left out.

    SOURCES are folders of videos, listings, DATASET:VIEW, DATASET:TAG or dataset:NAME.

    \b
    motive evaluate made/selection made/random made/full --html motion.html
    motive evaluate "my-clips:motive: selection" my-clips:train
    motive evaluate clips/ --estimator farneback --json
    motive evaluate ab one/ other/ --to page.html  a page on which people judge
    motive evaluate votes votes.csv                what they said
    motive evaluate vbench results.json my-clips   VBench's results on samples
    """
    import motive_fo
    from motive_fo.evaluation.page import comparison_table, evaluation_page, failure_lines, set_table, settled

    with out.progress() as progress:
        report = motive_fo.evaluate(
            list(sources), config=changes(EvaluationConfig, given), flow=changes(FlowConfig, given), progress=progress
        )
    lines = [*_table(*set_table(report))]
    if report.comparisons:
        lines += ["", *_table(*comparison_table(report)), "", *settled(report)]
    failed = failure_lines(report)
    if failed:
        lines.append(f"left out: {len(failed)} clips that cannot be measured, the first: {failed[0]}")
    if html is not None:
        page = _write(html, evaluation_page("Motion: " + ", ".join(s.clips.label for s in report.sets), report))
        lines.append(f"page: {page}")
    if vbench is not None:
        lines += [f"vbench: {path}" for path in _vbench_files(report, vbench)]
    out.emit(report.as_dict(), lines)
    out.detail([f"left out: {line}" for line in failed])


@evaluate_group.command("ab")
@click.argument("first")
@click.argument("second")
@click.option("--to", "page", required=True, type=click.Path(), help="the HTML file to write")
@click.option("--embed", is_flag=True, help="put the videos into the file, so that it can be sent")
@click.option("--pairs", type=click.IntRange(1), help="so many pairs, drawn at random [default: all]")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="of the order and the sides")
@output_options(progress=False)
def ab_command(first: str, second: str, page: str, embed: bool, pairs: int | None, seed: int, out: Output) -> None:
    """Write a page on which people judge blind: two videos side by side, which one moves better?

    FIRST and SECOND are sets of clips as for motive evaluate, of the same prompts and seeds or file names.

    \b
    motive evaluate ab made/selection made/random --to page.html
    motive evaluate ab made/selection made/random --to page.html --embed --pairs 20
    """
    import motive_fo

    path = motive_fo.write_ab_page(first, second, page, embed=embed, pairs=pairs, seed=seed)
    out.emit({"page": str(path)}, [f"page: {path}", "open it in a browser; its results: motive evaluate votes FILE"])


@evaluate_group.command("votes")
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option("--confidence", default=0.95, show_default=True, type=click.FloatRange(0, 1, True, True), help="level")
@output_options(progress=False)
def votes_command(files: Sequence[str], confidence: float, out: Output) -> None:
    """Count the votes that people downloaded from a page, one file for each person.

    \b
    motive evaluate votes votes.csv
    motive evaluate votes anna.csv ben.csv --json
    """
    import motive_fo

    report = motive_fo.count_votes(files, confidence=confidence)
    out.emit(report.as_dict(), _vote_lines(report))


@evaluate_group.command("vbench")
@click.argument("file", type=click.Path())
@dataset_argument
@click.option("--field", default="vbench", show_default=True, help="group of the fields that are written")
@output_options(progress=False)
def vbench_command(file: str, dataset: str, field: str, out: Output) -> None:
    """Write VBench's results, a file NAME_eval_results.json, into fields of DATASET's samples.

    \b
    motive evaluate vbench results_eval_results.json my-clips
    """
    import motive_fo

    landed = motive_fo.land_vbench(dataset, file, field)
    lines = [f"{landed.field}.{name}: {count} samples" for name, count in landed.samples.items()]
    if landed.strangers:
        lines.append(f"{len(landed.strangers)} videos are no samples of {dataset!r}, such as {landed.strangers[0]}")
    out.emit(landed.as_dict(), lines)


@evaluate_group.command("attribution")
@dataset_argument
@run_option
@click.option("--by", help="field with the kind of each clip, queries too, or tags [default: no retrieval]")
@settings_options(AttributionQualityConfig)
@click.option("--dry-run", is_flag=True, help="say what a trial takes, from one step taken now; write nothing")
@output_options(details=True)
def attribution_command(dataset: str, run: str, by: str | None, dry_run: bool, out: Output, **given: Any) -> None:
    """Are the scores of a run to be trusted? Retrieval by your labels, steps of training on single clips, a trial.

    Each beside controls, with intervals, and what it does not show. Stopped while it trains, the same command goes on
    where it was. Nothing is changed in dataset or model.

    \b
    motive evaluate attribution my-clips --by kind
    motive evaluate attribution my-clips --by tags --clips 0   retrieval alone, in seconds
    motive evaluate attribution my-clips --clips 60 --queries 16
    motive evaluate attribution my-clips --trial --dry-run     what a trial takes
    motive evaluate attribution my-clips --trial               is the selection worth training on?
    """
    import motive_fo

    if dry_run and not given["trial"]:
        raise click.UsageError("--dry-run says what a trial takes: ask for --trial too")
    config = changes(AttributionQualityConfig, given)
    with out.progress() as progress:
        if dry_run:
            cost = motive_fo.estimate_trial(dataset, run, by=by, config=config, progress=progress)
            out.emit(cost.as_dict(), _cost_lines(cost))
            return
        report = motive_fo.evaluate_attribution(dataset, run, by=by, config=config, progress=progress)
    out.emit(report.as_dict(), _quality_lines(report))
    if report.training is not None:
        out.detail([f"no step on {clip}: {why}" for clip, why in report.training.failed.items()])


def _quality_lines(report: AttributionQuality) -> list[str]:
    """Tables, then what they show and what they do not."""
    from motive_fo.quality.tables import retrieval_table, training_table, trial_table

    lines: list[str] = []
    if report.trial is not None:
        tried = report.trial
        lines.append(
            f"trial: {tried.queries} queries, {tried.chosen} of {tried.clips} clips chosen, {tried.repeats} trainings "
            f"of {tried.steps} steps on {tried.shown} clips of each set"
        )
        lines += [*_table(*trial_table(tried)), ""]
    if report.retrieval is not None:
        found = report.retrieval
        lines.append(f"retrieval: {found.queries} queries, {found.clips} clips, {found.kinds} kinds by {found.by!r}")
        lines += [f"  left out: {count} {why}" for why, count in found.left_out.items()]
        lines += [*_table(*retrieval_table(found)), ""]
    if report.training is not None:
        lines.append(f"training steps: {report.training.queries} queries, {report.training.clips} clips")
        lines += [*_table(*training_table(report.training)), ""]
    return [*lines, *report.findings, *(f"  note: {note}" for note in report.notes)]


def _cost_lines(cost: TrialCost) -> list[str]:
    before = f", {cost.done} of their measurements are there already" if cost.done else ""
    return [
        "dry run of the trial: nothing is written",
        f"{cost.trainings} trainings of {cost.steps} steps of {cost.batch} clips{before}",
        f"{cost.clips} clips and queries to encode, {cost.losses} losses of queries to measure",
        f"time: about {duration(cost.seconds)}",
    ]


def _vbench_files(report: Any, folder: str) -> list[Path]:
    from motive_fo.evaluation.vbench import SUFFIX, write_results

    names = [each.clips.label.replace("/", "-").replace(":", "-").replace(" ", "-") for each in report.sets]
    return [
        write_results(each, Path(folder) / f"{name}{SUFFIX}") for each, name in zip(report.sets, names, strict=True)
    ]


def _write(path: str, text: str) -> Path:
    from motive_fo.errors import InputError

    target = Path(path).expanduser().absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}; choose another place") from None
    return target


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns side by side; the first to the left, the others to the right."""
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    ]


def _vote_lines(report: VoteReport) -> list[str]:
    def said(found: Any) -> str:
        return f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})"

    lines = [
        f"{report.a} against {report.b}: {report.votes} votes on {report.pairs} pairs, {report.files} files",
        f"  win   {said(report.win)}",
        f"  tie   {said(report.tie)}",
        f"  loss  {said(report.loss)}",
    ]
    if report.left is not None:
        lines.append(f"  the left side got {said(report.left)} of the decided votes")
    return lines
