"""A comparison as tables of text and as one HTML page."""

from __future__ import annotations

from typing import Final

from motive_fo.evaluation.compare import Comparison, EvaluationReport
from motive_fo.evaluation.measure import METRICS
from motive_fo.evaluation.statistics import Interval
from motive_fo.report.page import render
from motive_fo.report.plot import Plot, intervals

_NAMES: Final = {name: name.replace("_", " ") for name in METRICS}
_DIGITS: Final = {"dynamic": 0, "dynamic_score": 2, "speed": 1, "motion_smoothness": 4, "steadiness": 2}


def set_table(report: EvaluationReport) -> tuple[list[str], list[list[str]]]:
    """Head and rows: every set with its means and, in brackets, their intervals."""
    rows = [
        [each.clips.label, str(len(each.motion)), *(_shown(name, each.summary[name]) for name in METRICS)]
        for each in report.sets
    ]
    return ["set", "clips", *_NAMES.values()], rows


def comparison_table(report: EvaluationReport) -> tuple[list[str], list[list[str]]]:
    """Head and rows: the first set minus each other."""
    rows = [
        [
            f"{each.first} minus {each.second}",
            compared_by(each),
            *(_shown(name, each.differences[name], signed=True) for name in METRICS),
        ]
        for each in report.comparisons
    ]
    return ["difference", "compared", *_NAMES.values()], rows


def compared_by(comparison: Comparison) -> str:
    """Whether clips were compared one by one, and how many."""
    found = comparison.differences["dynamic"]
    if comparison.paired_by is None:
        return "unpaired"
    return f"{found.count if found else 0} pairs by {comparison.paired_by}"


def failure_lines(report: EvaluationReport) -> list[str]:
    """Every clip that could not be measured, with its set and the reason."""
    return [f"{each.clips.label}: {name}: {why}" for each in report.sets for name, why in each.failed.items()]


def settled(report: EvaluationReport) -> list[str]:
    """What can be said of each comparison: where its interval leaves zero out."""
    lines = []
    for each in report.comparisons:
        clear = []
        for name, found in each.differences.items():
            if found and found.low is not None and found.high is not None and (found.low > 0 or found.high < 0):
                clear.append(f"{'higher' if found.low > 0 else 'lower'} {_NAMES[name]}")
        level = f"{report.settings.confidence:.0%}"
        said = ", ".join(clear) if clear else "no difference shown"
        lines.append(f"{each.first} against {each.second}: {said} ({level} intervals, each measure by itself)")
    return lines


def evaluation_page(title: str, report: EvaluationReport) -> str:
    """The whole page as HTML."""
    return render(
        "evaluation.html",
        title=title,
        facts=[
            ("motion estimator", report.estimator.get("estimator", report.estimator.get("name", "?"))),
            (
                "frames",
                f"at most {report.settings.seconds:g} s, short side at most {report.settings.short_side} pixels",
            ),
            (
                "intervals",
                f"{report.settings.confidence:.0%}, {report.settings.resamples} bootstrap resamples; share: Wilson",
            ),
        ],
        sets=set_table(report),
        comparisons=comparison_table(report),
        settled=settled(report),
        plots=[_plot(name, report) for name in METRICS],
        metrics=[(_NAMES[name], text) for name, text in METRICS.items()],
        failures=failure_lines(report),
    )


def _plot(metric: str, report: EvaluationReport) -> Plot:
    rows = {each.clips.label: each.summary[metric] for each in report.sets}
    return intervals(
        _NAMES[metric],
        _axis(metric),
        {label: (found.value, found.low, found.high) for label, found in rows.items() if found is not None},
    )


def _axis(metric: str) -> str:
    axes = {"dynamic": "share of clips", "dynamic_score": "motion / threshold", "speed": "% of short side per second"}
    return axes.get(metric, "1 is best")


def _shown(metric: str, found: Interval | None, *, signed: bool = False) -> str:
    if found is None:
        return "-"
    scale, unit = (100, "%") if metric == "dynamic" and not signed else (100 if metric == "dynamic" else 1, "")
    style = f"{'+' if signed else ''}.{_DIGITS[metric]}f"
    value = f"{scale * found.value:{style}}{unit}"
    if found.low is None or found.high is None:
        return value
    return f"{value} ({scale * found.low:{style}} to {scale * found.high:{style}})"
