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
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

import motive_fo
from motive_fo.config import (
    AttributionConfig,
    ClipConfig,
    ExportConfig,
    FlowConfig,
    InfluenceConfig,
    MotionConfig,
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
        if not ctx.delegated:
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


class ComputeMotion(_StepOperator):
    """Motion of the target view."""

    step, label, icon = "compute_motion", "compute motion", "animation"
    description = (
        "Statistics of motion for every clip; no gradients. Writes the run's motion fields and two saved views."
    )

    def form(self, ctx: Any, inputs: Any) -> None:
        inputs.view_target(ctx)
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
        add_settings(inputs, InfluenceConfig)

    def work(self, ctx: Any, run: str, progress: Progress) -> str:
        report = motive_fo.score_influence(
            ctx.dataset,
            run,
            train=ctx.params.get("train") or None,
            query=ctx.params.get("query") or None,
            influence=read_settings(ctx.params, InfluenceConfig),
            progress=progress,
        )
        return f"influence of {report.clips} clips: {_counts(report.status)}"


class Curate(_StepOperator):
    """Votes, ranks and saved views."""

    step, label, icon = "curate", "curate", "checklist"
    description = "Votes, ranks, and saved views of the clips to train on."

    def form(self, ctx: Any, inputs: Any) -> None:
        add_settings(inputs, SelectionConfig)

    def work(self, ctx: Any, run: str, progress: Progress) -> str:
        report = motive_fo.curate(ctx.dataset, run, selection=read_settings(ctx.params, SelectionConfig))
        return f"{len(report.selected)} of {report.clips} scored clips selected; {len(report.views)} saved views"


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


OPERATORS = (ComputeMotion, ComputeGradients, ScoreInfluence, Curate, Export)
"""Every operator; ``fiftyone.yml`` lists the same."""
