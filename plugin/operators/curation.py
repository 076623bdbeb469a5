"""Operators that choose and hand on: mark queries, curate, report, export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from fiftyone.operators import types

import motive_fo
from motive_fo.config import ExportConfig, Layout, SelectionConfig
from motive_fo.dataset.outcome import Outcome
from motive_fo.dataset.views import SELECTED, view_name
from motive_fo.errors import ConfigError, MotiveError
from motive_fo.exporters.folder import read_manifest
from motive_fo.influence.shortlist import Quota

from ..forms import Form, Section, chosen_path, read_changes, read_settings, remember, wrong_folder
from .step import Call, StepOperator, count_of, record_of, run_of, target

_MEDIA = {
    "symlink": "links to the clips",
    "hardlink": "the clips under another name",
    "copy": "copies of the clips",
    "reencode": "the frames that were scored, encoded again",
}


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
        form.add("folder", "file", required=True, label="Folder", description="new, empty or an export", view=view)

    def check(self, ctx: Any, form: Form) -> None:
        folder = chosen_path(ctx.params, "folder")
        wrong = (wrong_folder(folder) or _not_an_export(Path(folder).expanduser())) if folder else None
        if wrong:
            form.refuse("folder", wrong)
        selection = view_name(run_of(ctx), SELECTED)
        record = record_of(ctx)
        if record is not None and ctx.params.get("what") != "view" and selection not in record.views:
            form.refuse("run", f"run {record.run!r} has no selection yet: 'Motive: curate' first")

    def told(self, ctx: Any, form: Form) -> list[str]:
        folder = chosen_path(ctx.params, "folder") or "the folder"
        written = _MEDIA.get(str(ctx.params.get("media")), _MEDIA["symlink"])
        return [
            f"Writes {written}, their captions and a manifest into {folder}. The folder outlives the run.",
            *self._survival(ctx),
        ]

    def _survival(self, ctx: Any) -> list[str]:
        """What the trainer will make of the clips; nothing where re-encoding makes them all alike."""
        record = record_of(ctx)
        if record is None or "influence" not in record.steps or ctx.params.get("media") == "reencode":
            return []
        samples = ctx.view if ctx.params.get("what") == "view" else ctx.dataset
        try:
            config = read_settings(ctx.params, ExportConfig)
            key = ("survival", str(ctx.dataset.name), record.run, record.updated, f"{config} {ctx.params.get('what')}")
            layouts = (str(config.get("layout", "diffsynth")),)
            found = remember(key, lambda: motive_fo.survival(samples, record.run, config=config, layouts=layouts))
        except MotiveError:
            return []  # said at its own field, or by the step
        sentences: list[str] = found[0].sentences()
        return sentences

    def call(self, ctx: Any, params: dict[str, Any]) -> Call:
        samples = ctx.view if params.get("what") == "view" else ctx.dataset
        config = read_settings(params, ExportConfig)
        return Call("export", samples, {"folder": chosen_path(params, "folder"), "run": run_of(ctx), "config": config})


class Baselines(StepOperator):
    """Selections to compare the run's with."""

    step, label = "baselines", "baselines"
    description = "Selections of the same size without gradients: random, most motion, like the queries by flow, all."
    paths = ("folder",)
    background = True

    def choose(self, ctx: Any, form: Form) -> None:
        view = types.FileExplorerView(choose_dir=True, button_label="Choose a folder...")
        form.add("seeds", "int", default=1, min=1, max=20, label="Random", description="random selections, by seed")
        form.add(
            "folder", "file", label="Folder", description="also export all of them into it, where given", view=view
        )
        form.choice("layout", {name: name for name in get_args(Layout)}, default="diffsynth", label="Layout")

    def check(self, ctx: Any, form: Form) -> None:
        folder = chosen_path(ctx.params, "folder")
        wrong = wrong_folder(folder) if folder else None
        if wrong:
            form.refuse("folder", wrong)
        record = record_of(ctx)
        if record is not None and view_name(run_of(ctx), SELECTED) not in record.views:
            form.refuse("run", f"run {record.run!r} has no selection yet: 'Motive: curate' first")

    def told(self, ctx: Any, form: Form) -> list[str]:
        folder = chosen_path(ctx.params, "folder")
        return [
            "Saves a view for each: as many clips as the run's selection has, among the clips that have a score.",
            *(
                [f"Writes an export of each into {folder}, all with the same number of training steps."]
                if folder
                else []
            ),
        ]

    def call(self, ctx: Any, params: dict[str, Any]) -> Call:
        folder = chosen_path(params, "folder")
        arguments: dict[str, Any] = {"run": run_of(ctx), "seeds": list(range(int(params.get("seeds") or 1)))}
        if folder:
            arguments |= {"folder": folder, "config": {"layout": params.get("layout") or "diffsynth"}}
        return Call("baselines", ctx.dataset, arguments)


def _not_an_export(folder: Path) -> str | None:
    """Why nothing can be exported into a folder that exists: it holds something, and not an export of ours."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    try:
        ours = read_manifest(folder) is not None
    except MotiveError as error:
        return str(error)
    return None if ours else f"{folder} is not empty and no export of motive: choose a new folder"
