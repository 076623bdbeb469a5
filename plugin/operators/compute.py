"""Operators that bring clips in and compute on them: import, motion, gradients, influence."""

from __future__ import annotations

import math
from typing import Any

from fiftyone.operators import types

from motive_fo.config import (
    AttributionConfig,
    ClipConfig,
    EngineConfig,
    FlowConfig,
    InfluenceConfig,
    MotionConfig,
    merge,
)
from motive_fo.dataset.captions import require_text_field
from motive_fo.dataset.fields import FIELDS
from motive_fo.errors import ConfigError
from motive_fo.models.registry import model_card

from ..forms import (
    Form,
    Section,
    chosen_path,
    read_changes,
    read_settings,
    said,
    shown_params,
    wrong_source,
)
from .step import Call, StepOperator, count_of, names_in, record_of, run_of, selector, store_of, target

_CLIP = Section(ClipConfig, ("fps", "frames"))
_FLOW = Section(FlowConfig)
_MOTION = Section(MotionConfig)
_MODEL = Section(AttributionConfig, ("model",), ("model",))
_ATTRIBUTION = Section(AttributionConfig, ("model", "device"))
_ENGINE = Section(EngineConfig)
_SCORED = ("influence", "whole_influence", "influence_difference", "avoid_influence")


class ImportClips(StepOperator):
    """Clips and captions into a dataset."""

    step, label = "import_clips", "import clips"
    description = "Clips with their captions from a folder, a listing or another dataset. Importing again is safe."
    needs = None
    paths = ("source",)
    background = True
    place = types.Places.SAMPLES_GRID_SECONDARY_ACTIONS

    def choose(self, ctx: Any, form: Form) -> None:
        kinds = {"folder": "a folder of clips", "listing": "a .csv, .json or .jsonl file", "dataset": "another dataset"}
        form.choice("source_kind", kinds, default="folder", label="Clips from")
        kind = ctx.params.get("source_kind") or "folder"
        if kind == "dataset":
            form.add("source_dataset", "str", required=True, label="Dataset", description="name of a video dataset")
        else:
            view = types.FileExplorerView(choose_dir=kind == "folder", button_label=f"Choose a {kind}...")
            form.add("source", "file", required=True, label=kind.capitalize(), view=view)
            path = chosen_path(ctx.params, "source")
            wrong = wrong_source(path) if path else None
            if wrong:
                form.refuse("source", wrong)
        form.choice(
            "role",
            {"train": "training clips", "query": "queries: the motion that is wanted", "avoid": "queries to avoid"},
            default="train",
            label="They are",
            description="written as the tag train, query or avoid",
        )
        form.add("dataset", "str", default=ctx.dataset.name, label="Into dataset")
        form.choice(
            "missing_caption",
            {"empty": "is imported with an empty one", "skip": "is left out", "refuse": "stops the import"},
            default="empty",
            label="A clip without a caption",
        )
        form.add("windows", "float", label="Windows", description="cut long videos into clips of so many seconds")
        form.add("name", "str", label="Name", description="first part of the clips' ids; the folder's name where empty")

    def check(self, ctx: Any, form: Form) -> None:
        windows = ctx.params.get("windows")
        if windows is not None and not (isinstance(windows, int | float) and windows > 0 and math.isfinite(windows)):
            form.refuse("windows", f"windows last more than 0 seconds, not {windows}")

    def told(self, ctx: Any, form: Form) -> list[str]:
        return [
            f"Adds samples to the dataset {ctx.params.get('dataset') or ctx.dataset.name!r} with the fields caption, "
            "motive_id, motive_start and motive_caption. The files stay where they are; clips that are there already "
            "only get a caption that is new in the source, where nobody wrote or corrected theirs."
        ]

    def call(self, ctx: Any, params: dict[str, Any]) -> Call:
        kind = params.get("source_kind") or "folder"
        name = params.get("source_dataset")
        arguments = {
            "source": f"dataset:{name}" if kind == "dataset" else chosen_path(params, "source"),
            "dataset": params.get("dataset") or ctx.dataset.name,
            "role": params.get("role") or "train",
            "missing_caption": params.get("missing_caption") or "empty",
            "windows": params.get("windows"),
            "name": params.get("name") or None,
        }
        return Call("import_clips", None, arguments)


class ComputeMotion(StepOperator):
    """Motion of the target view."""

    step, label = "compute_motion", "compute motion"
    description = "Statistics of motion for every clip; no gradients."
    needs = "name"
    sections = (_MODEL, _CLIP, _FLOW, _MOTION, _ENGINE)
    has_preset = True
    rates = ("motion",)
    background = True

    def choose(self, ctx: Any, form: Form) -> None:
        target(ctx, form, "Compute the motion of")

    def check(self, ctx: Any, form: Form) -> None:
        _check_clip(ctx, form, self.sections)

    def count(self, ctx: Any) -> int | None:
        return count_of(ctx.target_view())

    def told(self, ctx: Any, form: Form) -> list[str]:
        run = run_of(ctx)
        return [
            f"Computes {self.count(ctx)} clips. Writes the fields {run}.status, {run}.motion_mean and their kin, the "
            f"saved views {run}: static, failed, camera only and most dynamic, and the store {store_of(ctx)}."
        ]

    def call(self, ctx: Any, params: dict[str, Any]) -> Call:
        arguments = {
            "run": run_of(ctx),
            "clip": read_changes(params, ClipConfig),
            "flow": read_changes(params, FlowConfig),
            "motion": read_changes(params, MotionConfig),
            "model": read_changes(params, AttributionConfig).get("model"),
            "engine": read_changes(params, EngineConfig),
            "preset": params.get("preset") or None,
        }
        return Call("compute_motion", ctx.target_view(), arguments)


class ComputeGradients(StepOperator):
    """Gradient sketches of training and query clips."""

    step, label = "compute_gradients", "compute gradients"
    description = "Gradient sketches of training and query clips, and motion where it is missing."
    needs = "name"
    sections = (_ATTRIBUTION, _CLIP, _FLOW, _MOTION, _ENGINE)
    has_preset = True
    rates = ("train gradients", "query gradients")
    background = True

    def choose(self, ctx: Any, form: Form) -> None:
        selector(ctx, form, "train", "Training clips", "the tag train")
        selector(ctx, form, "query", "Query clips", "the tags query and avoid", datasets=True)
        if not ctx.params.get("query") and not {"query", "avoid"} & set(names_in(ctx.dataset)):
            form.refuse("query", "no clip is tagged query yet: select clips and use 'Motive: mark queries' first")

    def check(self, ctx: Any, form: Form) -> None:
        _check_clip(ctx, form, self.sections)
        if not form.is_valid:
            return
        named = read_changes(shown_params(ctx.params, self.sections), AttributionConfig).get("caption_field")
        if named is not None and (wrong := said(lambda: require_text_field(ctx.dataset, named))):
            form.refuse("caption_field", wrong)

    def count(self, ctx: Any) -> int | None:
        named = ctx.params.get("train") or ctx.params.get("query")
        return None if named else count_of(ctx.dataset)

    def told(self, ctx: Any, form: Form) -> list[str]:
        run = run_of(ctx)
        count = self.count(ctx)
        clips = "the chosen clips" if count is None else f"up to {count} clips"
        dimension = ctx.params.get("dimension") or AttributionConfig().dimension
        return [
            f"Computes {clips}. Writes the fields {run}.loss, {run}.gradient_norm and those of motion, the views of "
            f"motion, and about {dimension * 8 / 1000:.0f} kB of sketches a clip, timestep and noise into "
            f"{store_of(ctx)}. Stopped at any point, it goes on where it was."
        ]

    def call(self, ctx: Any, params: dict[str, Any]) -> Call:
        arguments = {
            "run": run_of(ctx),
            "train": params.get("train") or None,
            "query": params.get("query") or None,
            "clip": read_changes(params, ClipConfig),
            "flow": read_changes(params, FlowConfig),
            "motion": read_changes(params, MotionConfig),
            "attribution": read_changes(params, AttributionConfig),
            "engine": read_changes(params, EngineConfig),
            "preset": params.get("preset") or None,
        }
        return Call("compute_gradients", ctx.dataset, arguments)


class ScoreInfluence(StepOperator):
    """Influence from the stored sketches."""

    step, label = "score_influence", "score influence"
    description = "Influence of every training clip on the queries, from the stored sketches."
    sections = (Section(InfluenceConfig, ("mask_side",)),)
    has_preset = True
    background = True

    def choose(self, ctx: Any, form: Form) -> None:
        selector(ctx, form, "train", "Training clips", "as the run chose them")
        selector(ctx, form, "query", "Query clips", "as the run chose them", datasets=True)

    def check(self, ctx: Any, form: Form) -> None:
        record = record_of(ctx)
        if record is not None and "train gradients" not in record.steps:
            form.refuse("run", f"run {record.run!r} has no gradients yet: 'Motive: compute gradients' first")

    def told(self, ctx: Any, form: Form) -> list[str]:
        fields = ", ".join(f"{run_of(ctx)}.{name}" for name in _SCORED if name in FIELDS)
        return [
            f"Writes the fields {fields}, and the cosines of every query into the store. Seconds, nothing is decoded."
        ]

    def call(self, ctx: Any, params: dict[str, Any]) -> Call:
        arguments = {
            "run": run_of(ctx),
            "train": params.get("train") or None,
            "query": params.get("query") or None,
            "influence": (read_changes if params.get("preset") else read_settings)(params, InfluenceConfig),
            "preset": params.get("preset") or None,
        }
        return Call("score_influence", ctx.dataset, arguments)


def _check_clip(ctx: Any, form: Form, sections: tuple[Section, ...]) -> None:
    """Refuse a clip that the model does not take, or that the run was not begun with."""
    if not form.is_valid:
        return
    params = shown_params(ctx.params, sections)
    record = record_of(ctx)
    changes = read_changes(params, ClipConfig)
    base = ClipConfig() if record is None else record.section("clip")
    model = (
        read_changes(params, AttributionConfig).get("model")
        or (AttributionConfig() if record is None else record.section("attribution")).model
    )
    wrong = said(lambda: model_card(model))
    if wrong is not None:
        form.refuse("model", wrong)
        return
    try:
        merge(base, changes, "clip").resolve(model_card(model))
    except ConfigError as error:
        form.refuse(next((name for name in ("height", "width") if f"a {name}" in str(error)), "frames"), str(error))
        return
    for name, value in changes.items():
        stored = getattr(base, name)
        if record is not None and record.settings.get("clip") and value != stored:
            form.refuse(
                name, f"clip.{name}: stored {stored}, asked for {value}: a run keeps its clips, choose another run name"
            )
