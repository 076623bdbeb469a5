"""The operators: one for each step, thin over the public functions of ``motive_fo``.

All are generators, so that one class serves immediate execution (progress messages are yielded to the App) and
delegated execution (progress is set on the operation).
"""

from __future__ import annotations

import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, get_args

import fiftyone.operators as foo
from fiftyone.operators import types

import motive_fo
from motive_fo.config import (
    PRESET_HELP,
    AttributionConfig,
    ClipConfig,
    ExportConfig,
    FlowConfig,
    InfluenceConfig,
    MotionConfig,
    Preset,
    SelectionConfig,
)
from motive_fo.errors import MotiveError
from motive_fo.progress import Progress

from .forms import add_settings, read_changes, read_settings

_PROGRESS_SECONDS = 0.5  # the App redraws for every message


class _StepOperator(foo.Operator, ABC):
    """A step with a form, progress, and a message at the end."""

    step: str
    label: str
    description: str
    icon: str

    @property
    def config(self) -> Any:
        return foo.OperatorConfig(
            name=self.step,
            label=f"Motive: {self.label}",
            description=self.description,
            icon=self.icon,
            execute_as_generator=True,
            allow_immediate_execution=True,
            allow_delegated_execution=True,
        )

    @abstractmethod
    def form(self, ctx: Any, inputs: Any) -> None:
        """Add this step's own fields."""

    @abstractmethod
    def work(self, ctx: Any, run: str, progress: Progress) -> str:
        """Do the step; returns the message for the user."""

    def resolve_input(self, ctx: Any) -> Any:
        inputs = types.Object()
        inputs.str(
            "run", default="motive", required=True, label="Run", description="name of the run and its field group"
        )
        self.form(ctx, inputs)
        return types.Property(inputs, view=types.View(label=f"Motive: {self.label}", description=self.description))

    def execute(self, ctx: Any) -> Iterator[Any]:
        run = ctx.params.get("run") or "motive"
        message = ""
        for event in _in_background(lambda progress: self.work(ctx, run, progress)):
            if isinstance(event, str):
                message = event
                continue
            label, share = event
            if ctx.delegated:
                ctx.set_progress(progress=share, label=label)
            else:
                yield ctx.ops.set_progress(label=label, progress=share)
        if ctx.delegated:
            ctx.set_progress(progress=1.0, label=message)  # what the App's list of runs shows of a finished one
        else:
            yield ctx.ops.notify(message, variant="success")
            yield ctx.trigger("reload_dataset")


def _in_background(work: Callable[[Progress], str]) -> Iterator[tuple[str, float] | str]:
    """Run ``work`` in a thread; yields (label, share done) while it runs and its message at the end."""
    events: queue.Queue[tuple[str, float] | str | BaseException] = queue.Queue()
    said = 0.0

    def progress(label: str, done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if total and (now - said > _PROGRESS_SECONDS or done == total):
            said = now
            events.put((f"{label}: {done} of {total}", done / total))

    def target() -> None:
        try:
            events.put(work(progress))
        except BaseException as error:
            events.put(error)

    threading.Thread(target=target, daemon=True).start()
    while True:
        event = events.get()
        if isinstance(event, MotiveError):
            raise ValueError(str(event)) from None  # the App shows the text of a ValueError as it is
        if isinstance(event, BaseException):
            raise event
        yield event
        if isinstance(event, str):
            return


def _choice(ctx: Any, inputs: Any, name: str, label: str, default: str) -> None:
    """A choice of tags and saved views."""
    names = types.AutocompleteView(allow_duplicates=False)
    for value in [*ctx.dataset.distinct("tags"), *ctx.dataset.list_saved_views()]:
        names.add_choice(value, label=value)
    inputs.str(name, label=label, description=f"tag or saved view; {default} where empty", view=names)


def _preset(inputs: Any) -> None:
    """A choice of presets."""
    choices = types.Dropdown()
    for name in get_args(Preset):
        choices.add_choice(name, label=name)
    text = f"{PRESET_HELP}; what is left as the form shows it is taken from the preset; the run's own where empty"
    inputs.enum("preset", choices.values(), view=choices, label="Preset", description=text)


def _read(params: dict[str, Any], made: type[Any]) -> dict[str, Any]:
    """Settings of a step that may be repeated otherwise: as the form shows them, or over the preset that is chosen."""
    return (read_changes if params.get("preset") else read_settings)(params, made)


class ComputeMotion(_StepOperator):
    """Motion of the target view."""

    step, label, icon = "compute_motion", "compute motion", "animation"
    description = (
        "Statistics of motion for every clip; no gradients. Writes the run's motion fields and two saved views."
    )

    def form(self, ctx: Any, inputs: Any) -> None:
        inputs.view_target(ctx)
        _preset(inputs)
        add_settings(inputs, ClipConfig)
        add_settings(inputs, FlowConfig)
        add_settings(inputs, MotionConfig)
        add_settings(inputs, AttributionConfig, only=("model",))

    def work(self, ctx: Any, run: str, progress: Progress) -> str:
        report = motive_fo.compute_motion(
            ctx.target_view(),
            run,
            clip=read_changes(ctx.params, ClipConfig),
            flow=read_changes(ctx.params, FlowConfig),
            motion=read_changes(ctx.params, MotionConfig),
            model=read_changes(ctx.params, AttributionConfig).get("model"),
            preset=ctx.params.get("preset") or None,
            progress=progress,
        )
        return f"motion of {report.clips} clips: {_counts(report.status)}"


class ComputeGradients(_StepOperator):
    """Gradient sketches of training and query clips."""

    step, label, icon = "compute_gradients", "compute gradients", "functions"
    description = "Gradient sketches of training and query clips, and motion where it is missing."

    def form(self, ctx: Any, inputs: Any) -> None:
        _choice(ctx, inputs, "train", "Training clips", "the tag train")
        _choice(ctx, inputs, "query", "Query clips", "the tag query")
        _preset(inputs)
        for made in (AttributionConfig, ClipConfig, FlowConfig, MotionConfig):
            add_settings(inputs, made)

    def work(self, ctx: Any, run: str, progress: Progress) -> str:
        reports = motive_fo.compute_gradients(
            ctx.dataset,
            run,
            train=ctx.params.get("train") or None,
            query=ctx.params.get("query") or None,
            clip=read_changes(ctx.params, ClipConfig),
            flow=read_changes(ctx.params, FlowConfig),
            motion=read_changes(ctx.params, MotionConfig),
            attribution=read_changes(ctx.params, AttributionConfig),
            preset=ctx.params.get("preset") or None,
            progress=progress,
        )
        return "; ".join(f"{role}: {_counts(report.status)}" for role, report in reports.items())


class ScoreInfluence(_StepOperator):
    """Influence from the stored sketches."""

    step, label, icon = "score_influence", "score influence", "insights"
    description = "Influence of every training clip on the queries, from the stored sketches."

    def form(self, ctx: Any, inputs: Any) -> None:
        _choice(ctx, inputs, "train", "Training clips", "as the run chose them")
        _choice(ctx, inputs, "query", "Query clips", "as the run chose them")
        _preset(inputs)
        add_settings(inputs, InfluenceConfig)

    def work(self, ctx: Any, run: str, progress: Progress) -> str:
        report = motive_fo.score_influence(
            ctx.dataset,
            run,
            train=ctx.params.get("train") or None,
            query=ctx.params.get("query") or None,
            influence=_read(ctx.params, InfluenceConfig),
            preset=ctx.params.get("preset") or None,
            progress=progress,
        )
        return f"influence of {report.clips} clips: {_counts(report.status)}"


class Curate(_StepOperator):
    """Votes, ranks and saved views."""

    step, label, icon = "curate", "curate", "checklist"
    description = "Votes, ranks, and saved views of the clips to train on."

    def form(self, ctx: Any, inputs: Any) -> None:
        _preset(inputs)
        add_settings(inputs, SelectionConfig)

    def work(self, ctx: Any, run: str, progress: Progress) -> str:
        preset = ctx.params.get("preset") or None
        report = motive_fo.curate(ctx.dataset, run, selection=_read(ctx.params, SelectionConfig), preset=preset)
        return f"{len(report.selected)} of {report.clips} scored clips selected; {len(report.views)} saved views"


class MarkQueries(_StepOperator):
    """Clips of the target view as queries."""

    step, label, icon = "mark_queries", "mark queries", "my_location"
    description = "Make the chosen clips queries: they show the motion that is wanted, or what is to be avoided."

    def form(self, ctx: Any, inputs: Any) -> None:
        inputs.view_target(ctx)
        inputs.bool("avoid", default=False, label="To avoid", description="they show what is not wanted")
        inputs.str("group", label="Group", description="the motion they show, such as spin; as it is where empty")

    def work(self, ctx: Any, run: str, progress: Progress) -> str:
        group, avoid = ctx.params.get("group") or None, bool(ctx.params.get("avoid"))
        queries = motive_fo.mark_queries(ctx.target_view(), group=group, avoid=avoid)
        return f"{len(queries)} queries to {'avoid' if avoid else 'follow'}; compute gradients and score them next"


class Report(_StepOperator):
    """A page on a run."""

    step, label, icon = "report", "report", "summarize"
    description = "Write one HTML file that explains a run: settings, errors, scores, votes, stability, pictures."

    def form(self, ctx: Any, inputs: Any) -> None:
        inputs.str("file", required=True, label="File", description="path of the HTML file to write")
        inputs.int("shown", default=3, min=0, max=20, label="Shown", description="clips at each end of a query")
        inputs.int("queries", default=12, min=0, label="Queries", description="queries shown with their clips")

    def work(self, ctx: Any, run: str, progress: Progress) -> str:
        numbers = {name: ctx.params[name] for name in ("shown", "queries") if ctx.params.get(name) is not None}
        path = motive_fo.write_report(ctx.dataset, str(ctx.params.get("file") or ""), run, progress=progress, **numbers)
        return f"the report is in {path}"


class Export(_StepOperator):
    """A folder for a trainer."""

    step, label, icon = "export", "export", "drive_folder_upload"
    description = "Write clips into a folder as a trainer reads them. Complete or absent."

    def form(self, ctx: Any, inputs: Any) -> None:
        what = types.RadioGroup()
        what.add_choice("selection", label="the run's selection")
        what.add_choice("view", label="the current view")
        inputs.enum("what", what.values(), default="selection", label="Clips", view=what)
        inputs.file(
            "folder", required=True, label="Folder", view=types.FileExplorerView(choose_dir=True, button_label="Choose")
        )
        add_settings(inputs, ExportConfig)

    def work(self, ctx: Any, run: str, progress: Progress) -> str:
        chosen = ctx.params.get("folder")
        folder = chosen.get("absolute_path") if isinstance(chosen, dict) else chosen
        report = motive_fo.export(
            ctx.view if ctx.params.get("what") == "view" else ctx.dataset,
            str(folder or ""),
            run,
            config=read_settings(ctx.params, ExportConfig),
            progress=progress,
        )
        return f"{report.written} clips in {report.folder}, {len(report.skipped)} skipped"


def _counts(states: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(states.items()))


OPERATORS = (ComputeMotion, ComputeGradients, ScoreInfluence, Curate, MarkQueries, Report, Export)
"""Every operator; ``fiftyone.yml`` lists the same."""
