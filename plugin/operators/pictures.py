"""Operators for the eye: overlays, map and similarity, workspace."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from fiftyone.operators import types

from motive_fo.dataset.embeddings import similarity_key
from motive_fo.dataset.outcome import Outcome
from motive_fo.dataset.overlay_files import disk_space, overlay_folder
from motive_fo.dataset.overlays import BYTES_PER_PICTURE
from motive_fo.dataset.run_record import list_runs, load_run
from motive_fo.dataset.workspace import workspace_name
from motive_fo.models.registry import model_card

from ..forms import Form, said
from .step import Call, FormOperator, StepOperator, count_of, record_of, run_of, target

_NEAREST = 25


class WriteOverlays(StepOperator):
    """Masks over the playing video."""

    step, label = "write_overlays", "write overlays"
    description = "Motion masks as pictures that play over the video, for the chosen clips."
    background = True

    def choose(self, ctx: Any, form: Form) -> None:
        target(ctx, form, "Write overlays of")
        record = record_of(ctx)
        if record is not None and not {"motion", "train gradients"} & record.steps.keys():
            form.refuse("run", f"run {record.run!r} has no motion yet: 'Motive: compute motion' first")

    def told(self, ctx: Any, form: Form) -> list[str]:
        record = load_run(ctx.dataset, run_of(ctx))
        card = model_card(record.section("attribution").model)
        pictures = count_of(ctx.target_view()) * card.grid(record.section("clip").resolve(card))[0]
        folder = overlay_folder(record)
        return [
            f"Writes up to {pictures} grey pictures, {disk_space(pictures * BYTES_PER_PICTURE)}, into {folder}, and "
            f"the frame field {record.run}_motion_mask. 'Motive: delete overlays' removes both."
        ]

    def call(self, ctx: Any, params: dict[str, Any]) -> Call:
        return Call("write_overlays", ctx.target_view(), {"run": run_of(ctx)})


class DeleteOverlays(FormOperator):
    """Remove them."""

    step, label = "delete_overlays", "delete overlays"
    description = "Remove all overlays of a run: pictures and frame field."

    def fill(self, ctx: Any, form: Form) -> None:
        _existing_run(ctx, form)
        record = record_of(ctx)
        if record is not None and record.overlays is None:
            form.refuse("run", f"run {record.run!r} has no overlays")
        elif record is not None:
            form.tell("What this does", [f"Removes {record.overlays} and the frame field {record.run}_motion_mask."])

    def execute(self, ctx: Any) -> None:
        import motive_fo

        freed = motive_fo.delete_overlays(ctx.dataset, run_of(ctx))
        ctx.ops.notify(f"overlays deleted, {disk_space(freed)} freed", variant="success")
        ctx.trigger("reload_dataset")


class MapSketches(StepOperator):
    """A map of the sketches."""

    step, label = "map_sketches", "map sketches"
    description = "A map of the clips by their gradients for the Embeddings panel, and an index to sort by similarity."
    background = True

    def choose(self, ctx: Any, form: Form) -> None:
        target(ctx, form, "Map")
        form.choice(
            "method",
            {"pca": "PCA", "umap": "UMAP (needs the package umap-learn)"},
            default="pca",
            label="Method",
            description="PCA keeps distances, UMAP keeps neighbours together",
        )
        form.choice(
            "score",
            {"motion": "of the motion", "whole": "of the whole clip"},
            default="motion",
            label="Gradients",
            description="still clips have none of the motion and are not on that map",
        )
        if ctx.params.get("method") == "umap" and find_spec("umap") is None:
            form.refuse("method", "UMAP needs the package umap-learn: pip install umap-learn, or choose PCA")
        record = record_of(ctx)
        if record is not None and "train gradients" not in record.steps:
            form.refuse("run", f"run {record.run!r} has no gradients yet: 'Motive: compute gradients' first")

    def told(self, ctx: Any, form: Form) -> list[str]:
        run = run_of(ctx)
        return [
            f"Writes the brain runs {run}_map and {run}_similarity, which replace the last ones and go with the run."
        ]

    def call(self, ctx: Any, params: dict[str, Any]) -> Call:
        arguments = {
            "run": run_of(ctx),
            "method": params.get("method") or "pca",
            "score": params.get("score") or "motion",
        }
        return Call("map_sketches", ctx.target_view(), arguments)

    def after(self, ctx: Any, call: Call, result: Outcome) -> Iterator[Any]:
        yield ctx.trigger("open_panel", {"name": "Embeddings", "isActive": True, "layout": "horizontal"})


class SortByGradients(FormOperator):
    """Clips whose gradients are like those of the selected ones."""

    step, label = "sort_by_gradients", "sort by gradients"
    description = "Show the clips whose gradients are most like those of the selected clips."
    place = types.Places.SAMPLES_GRID_SECONDARY_ACTIONS

    def fill(self, ctx: Any, form: Form) -> None:
        _existing_run(ctx, form)
        form.add("k", "int", min=1, default=_NEAREST, label="Clips", description="how many are shown")
        if not _chosen(ctx):
            form.problem("Select a clip first, or open one: the others are sorted by how much they are like it.")
        record = record_of(ctx)
        if record is not None and similarity_key(record.run) not in ctx.dataset.list_brain_runs():
            form.refuse("run", f"run {record.run!r} has no similarity index yet: 'Motive: map sketches' first")

    def execute(self, ctx: Any) -> None:
        key, count = similarity_key(run_of(ctx)), int(ctx.params.get("k") or _NEAREST)
        known = set(ctx.dataset.load_brain_results(key).sample_ids)
        missing = [sample_id for sample_id in _chosen(ctx) if sample_id not in known]
        if missing:
            raise ValueError(f"{len(missing)} of the selected clips are not on the map: they are static, failed or new")
        ctx.ops.set_view(view=ctx.dataset.sort_by_similarity(_chosen(ctx), k=count, brain_key=key))
        ctx.ops.notify(f"the {count} clips with the most similar gradients", variant="info")


class OpenWorkspace(FormOperator):
    """The App laid out for a run."""

    step, label = "open_workspace", "open workspace"
    description = "Lay the App out for a run: grid, influence, map, and the run's fields first in the sidebar."
    place = types.Places.SAMPLES_GRID_SECONDARY_ACTIONS

    def fill(self, ctx: Any, form: Form) -> None:
        _existing_run(ctx, form)
        name = workspace_name(run_of(ctx))
        form.tell(
            "What this does", [f"Saves the workspace {name!r}, opens it, and puts the run's fields below the tags."]
        )

    def execute(self, ctx: Any) -> None:
        import motive_fo

        name = motive_fo.save_workspace(ctx.dataset, run_of(ctx))
        ctx.ops.set_spaces(name=name)
        ctx.ops.notify(f"workspace {name!r}", variant="success")
        ctx.trigger("reload_dataset")


def _existing_run(ctx: Any, form: Form) -> None:
    form.suggest("run", list_runs(ctx.dataset), default="motive", label="Run")
    wrong = said(lambda: load_run(ctx.dataset, run_of(ctx)))
    if wrong is not None:
        form.refuse("run", wrong)


def _chosen(ctx: Any) -> list[str]:
    return list(ctx.selected or ()) or ([ctx.current_sample] if ctx.current_sample else [])
