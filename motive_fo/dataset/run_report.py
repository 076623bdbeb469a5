"""The report of a run as one HTML file: every part of the page, made from what ``run_facts`` gathered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from motive_fo.dataset.attribution_quality import STEP as QUALITY
from motive_fo.dataset.connect import as_samples, dataset_of
from motive_fo.dataset.curation import selection_of
from motive_fo.dataset.motion_report import write_file
from motive_fo.dataset.ownership import open_store
from motive_fo.dataset.run_facts import Facts
from motive_fo.dataset.run_figures import (
    gradient_section,
    motion_section,
    query_section,
    ranking_section,
    redundancy_section,
    score_section,
    stability_section,
)
from motive_fo.dataset.run_pictures import seen_queries
from motive_fo.dataset.run_record import load_run
from motive_fo.dataset.toy_model import toy_notes
from motive_fo.errors import CLIP_CODES
from motive_fo.progress import Progress, silent
from motive_fo.quality.intervals import Estimate
from motive_fo.quality.suite import said
from motive_fo.report.plot import bars, intervals
from motive_fo.report.run_page import Grid, RunPage, Section, SeenQuery

_LISTED: Final = 50
_EXAMPLES: Final = 3


def write_report(
    dataset: Any,
    path: str | Path,
    run: str = "motive",
    *,
    shown: int = 3,
    queries: int = 12,
    progress: Progress = silent,
) -> Path:
    """One HTML file that explains a run's selection, by the run's own settings; nothing is computed again but pictures.

    Args:
        dataset: a dataset or its name, whose run was scored.
        path: the file to write.
        shown: clips shown at each end of a query's scores; these are decoded again.
        queries: queries shown with their clips, the first by group and id.

    Raises:
        MotiveError: the run was not scored, or the file cannot be written.
    """
    dataset = dataset_of(as_samples(dataset))
    record = load_run(dataset, run)
    candidates, made = selection_of(dataset, run)
    facts = Facts.gather(dataset, record, open_store(record), candidates, made)
    page = RunPage(
        title=f"Run {run} of {dataset.name}",
        summary=_summary(facts),
        facts=Grid("The run", (), _overview(facts), words=True),
        warnings=[
            *toy_notes(dataset, facts.record),
            *(line for each in facts.traced.values() for line in each.warnings),
        ],
        sections=[
            _clips(facts),
            *_trial(facts),
            score_section(facts),
            ranking_section(facts),
            query_section(facts),
            stability_section(facts),
            redundancy_section(facts),
            motion_section(facts),
            gradient_section(facts),
            _seen(facts, seen_queries(facts, shown, queries, progress), shown),
            _settings(facts),
            _times(facts),
            _origins(facts),
        ],
    )
    return write_file(Path(path).expanduser(), page.html().encode("utf-8"))


def _summary(facts: Facts) -> str:
    taken, ranked = len(facts.made.chosen.ids), len(facts.made.ranking.ids)
    follow = sum(not avoid for avoid in facts.candidates.avoid_Q)
    avoid = len(facts.candidates.avoid_Q) - follow
    against = f" and {avoid} to avoid" if avoid else ""
    least = min(facts.made.coverage.values(), default=0.0)
    return (
        f"{taken} of {ranked} scored clips were selected for {follow} queries to follow{against}. "
        f"The selection holds at least {least:.0%} of each query's own best clips."
    )


def _overview(facts: Facts) -> list[tuple[str, object]]:
    record = facts.record
    attribution = record.section("attribution")
    return [
        ("dataset", facts.dataset.name),
        ("training clips", len(facts.candidates.ids)),
        ("queries", len(facts.queries)),
        ("model", attribution.model),
        ("timesteps and noises", "; ".join(facts.sample_names)),
        ("preset", record.preset),
        ("begun, updated", f"{record.created}, {record.updated}"),
        ("motive-fo", record.version),
    ]


def _clips(facts: Facts) -> Section:
    by_code: dict[str, list[str]] = {}
    for failure in facts.failures:
        by_code.setdefault(failure.code, []).append(f"{failure.id}: {failure.message}")
    codes = [
        (code, len(told), *CLIP_CODES.get(code, ("", "")), "; ".join(told[:_EXAMPLES]))
        for code, told in sorted(by_code.items(), key=lambda item: -len(item[1]))
    ]
    listed = [(f.id, f.role, f"{f.code}: {f.message}") for f in facts.failures[:_LISTED]]
    more = f", the first {_LISTED} of {len(facts.failures)}" if len(facts.failures) > _LISTED else ""
    way = {
        "training clips": len(facts.candidates.ids),
        "scored": len(facts.made.ranking.ids),
        "selected": len(facts.made.chosen.ids),
        **{name: facts.states[name] for name in ("static", "failed") if facts.states[name]},
    }
    return Section(
        "clips",
        "Clips",
        source=facts.source("motion", "train gradients", "query gradients"),
        plots=[bars("From the corpus to the selection", "clips", way)],
        tables=[
            Grid("Errors by code", ("code", "clips", "meaning", "way out", "examples"), codes, words=True),
            Grid(f"Clips with an error{more}", ("clip", "role", "what happened"), listed, words=True),
            Grid(
                "Better placed clips that were not taken",
                ("clip", "why"),
                list(facts.made.chosen.passed_over.items())[:_LISTED],
                words=True,
            ),
        ],
    )


def _trial(facts: Facts) -> list[Section]:
    """What the last trial of the ranking found, where there was one."""
    found = facts.record.steps.get(QUALITY, {})
    tried = found.get("trial")
    if tried is None:
        return []
    falls, ordinary = ({name: Estimate(**each) for name, each in tried[loss].items()} for loss in ("falls", "ordinary"))
    return [
        Section(
            "trial",
            "Is the selection worth training on?",
            " ".join(found["findings"]),
            plots=[
                intervals(
                    "Queries that did not choose",
                    f"fall of the motion loss by {tried['steps']} steps, %",
                    {name: (each.value, each.low, each.high) for name, each in falls.items()},
                )
            ],
            tables=[
                Grid(
                    "Trial",
                    ("trained on", "fall of the motion loss, %", "of the ordinary loss, %"),
                    [(name, said(each), said(ordinary[name])) for name, each in falls.items()],
                )
            ],
        )
    ]


def _seen(facts: Facts, seen: Sequence[SeenQuery], shown: int) -> Section:
    return Section(
        "seen",
        "Most and least influential clips",
        f"{len(seen)} of {len(facts.queries)} queries, {shown} clips at each end. Each clip: its frames, and the "
        "motion mask over them.",
        facts.source("influence"),
        seen=seen,
    )


def _settings(facts: Facts) -> Section:
    tables = [Grid(name, (), _settings_rows(values), words=True) for name, values in facts.record.settings.items()]
    return Section("settings", "Settings", tables=tables)


def _settings_rows(values: Mapping[str, Any]) -> list[tuple[str, object]]:
    def text(value: Any) -> str:
        if value is None:
            return "open"
        return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)

    return [(name, text(value)) for name, value in values.items()]


def _times(facts: Facts) -> Section:
    head = ("step", "clips", "computed", "seconds", "seconds a clip", "of these")
    rows = [_time_row(name, step) for name, step in facts.record.steps.items() if "seconds" in step]
    return Section("time", "Time", tables=[Grid("Time of the last execution of each step", head, rows)])


def _time_row(name: str, step: Mapping[str, Any]) -> tuple[object, ...]:
    seconds = dict(step["seconds"])
    total = seconds.pop("total", sum(seconds.values()))
    parts = ", ".join(f"{stage} {value:.1f}" for stage, value in sorted(seconds.items(), key=lambda s: -s[1]))
    each = f"{total / step['computed']:.2g}" if step.get("computed") else ""
    return name, step.get("clips", ""), step.get("computed", ""), f"{total:.1f}", each, parts


def _origins(facts: Facts) -> Section:
    rows = [(each.figures, each.step, each.listing, each.computed_by) for each in facts.traced.values()]
    return Section(
        "origin",
        "Where the figures come from",
        "A fingerprint is the digest of all settings behind a part of the run's store, the sums of the model's weights "
        "among them: equal fingerprints, equal settings. motive runs replay computes the run again and compares.",
        tables=[Grid("Fingerprints", ("figures", "step", "fingerprints", "computed by"), rows, words=True)],
    )
