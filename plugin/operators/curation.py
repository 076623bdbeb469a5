"""Operators that choose and hand on: mark queries, curate, report, export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fiftyone.operators import types

from motive_fo.config import ExportConfig, SelectionConfig
from motive_fo.dataset.outcome import Outcome
from motive_fo.dataset.views import SELECTED, view_name
from motive_fo.errors import ConfigError
from motive_fo.influence.shortlist import Quota

from ..forms import Form, Section, chosen_path, read_changes, read_settings, wrong_folder
from .step import Call, StepOperator, count_of, record_of, run_of, target


class MarkQueries(StepOperator):
    """Clips of the target view as queries."""

    step, label = "mark_queries", "mark queries"
    description = "Make the chosen clips queries: they show the motion that is wanted, or what is to be avoided."
    needs = None
    place = types.Places.SAMPLES_GRID_ACTIONS

    def choose(self, ctx: Any, form: Form) -> None:
        target(ctx, form, "Mark")
        form.add("avoid", "bool", default=False, label="To avoid", description="they show what is not wanted")
        form.add("group", "str", label="Group", description="the motion they show, such as spin; as it is where empty")
        group = str(ctx.params.get("group") or "")
        if group and (group != group.strip() or "," in group or ":" in group):
            form.refuse("group", "a group is named by a word without commas and colons")

    def told(self, ctx: Any, form: Form) -> list[str]:
        tag = "avoid" if ctx.params.get("avoid") else "query"
        return [
            f"Tags {count_of(ctx.target_view())} clips {tag!r}"
            + (" and writes the field motive_group." if ctx.params.get("group") else "."),
            "Compute gradients and score influence afterwards.",
        ]

    def call(self, ctx: Any, params: dict[str, Any]) -> Call:
        arguments = {"group": params.get("group") or None, "avoid": bool(params.get("avoid"))}
        return Call("mark_queries", ctx.target_view(), arguments)


class Curate(StepOperator):
    """Votes, ranks and saved views."""

    step, label = "curate", "curate"
    description = "Votes, ranks, and saved views of the clips to train on."
    sections = (Section(SelectionConfig, ("budget", "by", "queries", "motion_floor")),)
    has_preset = True
    place = types.Places.SAMPLES_GRID_SECONDARY_ACTIONS

    def choose(self, ctx: Any, form: Form) -> None:
        pass

    def check(self, ctx: Any, form: Form) -> None:
        record = record_of(ctx)
        if record is not None and "influence" not in record.steps:
            form.refuse("run", f"run {record.run!r} has no influence yet: 'Motive: score influence' first")
        for quota in str(ctx.params.get("quotas") or "").split(","):
            try:
                if quota.strip():
                    Quota.parse(quota)
            except ConfigError as error:
                form.refuse("quotas", str(error))

    def told(self, ctx: Any, form: Form) -> list[str]:
        run = run_of(ctx)
        return [
            f"Writes the fields {run}.selected, {run}.votes, {run}.rank and their kin, and the saved views "
            f"{view_name(run, SELECTED)!r}, top by votes, top by influence, majority vote, harmful and others; earlier "
            "ones are replaced. Seconds, nothing is computed again."
        ]

    def call(self, ctx: Any, params: dict[str, Any]) -> Call:
        preset = params.get("preset") or None
        selection = (read_changes if preset else read_settings)(params, SelectionConfig)
        return Call("curate", ctx.dataset, {"run": run_of(ctx), "selection": selection, "preset": preset})

    def after(self, ctx: Any, call: Call, result: Outcome) -> Iterator[Any]:
        yield from super().after(ctx, call, result)
        if not result.reasons:
            # as a view: the App does not know the name of a saved view that is new
            view = ctx.dataset.load_saved_view(view_name(run_of(ctx), SELECTED))
            yield ctx.ops.set_view(view=view)


class Report(StepOperator):
    """A page on a run."""

    step, label = "report", "report"
    description = "Write one HTML file that explains a run: settings, errors, scores, votes, stability, pictures."
    background = True

    def choose(self, ctx: Any, form: Form) -> None:
        form.add("file", "str", required=True, label="File", description="path of the HTML file to write")
        form.add("shown", "int", default=3, min=0, max=20, label="Shown", description="clips at each end of a query")
        form.add("queries", "int", default=12, min=0, label="Queries", description="queries shown with their clips")
        path = str(ctx.params.get("file") or "")
        if path:
            wrong = f"{path} is a folder" if Path(path).expanduser().is_dir() else wrong_folder(str(Path(path).parent))
            if wrong:
                form.refuse("file", wrong)
        record = record_of(ctx)
        if record is not None and "influence" not in record.steps:
            form.refuse("run", f"run {record.run!r} has no influence yet: 'Motive: score influence' first")

    def told(self, ctx: Any, form: Form) -> list[str]:
        return [f"Writes {ctx.params.get('file') or 'the file'}, which replaces one of that name, and nothing else."]

    def call(self, ctx: Any, params: dict[str, Any]) -> Call:
        numbers = {name: params[name] for name in ("shown", "queries") if params.get(name) is not None}
        return Call("write_report", ctx.dataset, {"path": str(params.get("file")), "run": run_of(ctx), **numbers})


class Export(StepOperator):
    """A folder for a trainer."""

    step, label = "export", "export"
    description = "Write clips into a folder as a trainer reads them. Complete or absent."
    paths = ("folder",)
    sections = (Section(ExportConfig, ("layout", "media", "overwrite")),)
    background = True
    place = types.Places.SAMPLES_GRID_SECONDARY_ACTIONS

    def choose(self, ctx: Any, form: Form) -> None:
        view = types.FileExplorerView(choose_dir=True, button_label="Choose a folder...")
        form.choice(
            "what", {"selection": "the run's selection", "view": "the current view"}, default="selection", label="Clips"
        )
        form.add("folder", "file", required=True, label="Folder", description="new or empty", view=view)

    def check(self, ctx: Any, form: Form) -> None:
        folder = chosen_path(ctx.params, "folder")
        wrong = wrong_folder(folder) if folder else None
        if wrong:
            form.refuse("folder", wrong)
        elif folder and not ctx.params.get("overwrite") and Path(folder).is_dir() and any(Path(folder).iterdir()):
            form.refuse("folder", f"{folder} is not empty: choose a new folder, or overwrite an earlier export")
        selection = view_name(run_of(ctx), SELECTED)
        record = record_of(ctx)
        if record is not None and ctx.params.get("what") != "view" and selection not in record.views:
            form.refuse("run", f"run {record.run!r} has no selection yet: 'Motive: curate' first")

    def told(self, ctx: Any, form: Form) -> list[str]:
        folder = chosen_path(ctx.params, "folder") or "the folder"
        copied = "copies of the clips" if ctx.params.get("media") == "copy" else "links to the clips"
        return [f"Writes {copied}, their captions and a manifest into {folder}. The folder outlives the run."]

    def call(self, ctx: Any, params: dict[str, Any]) -> Call:
        samples = ctx.view if params.get("what") == "view" else ctx.dataset
        config = read_settings(params, ExportConfig)
        return Call("export", samples, {"folder": chosen_path(params, "folder"), "run": run_of(ctx), "config": config})
