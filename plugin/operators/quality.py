"""The operator that checks a run's scores before they are trusted."""

from __future__ import annotations

from typing import Any

from motive_fo.dataset.labels import TAGS, label_fields
from motive_fo.quality.settings import AttributionQualityConfig

from ..forms import Form, Section, read_settings
from .step import Call, StepOperator, record_of, run_of


class EvaluateAttribution(StepOperator):
    """Retrieval by labels, training steps on single clips, and a trial of the selection."""

    step, label = "evaluate_attribution", "evaluate attribution"
    description = "Are the scores to be trusted? Retrieval by your labels, training steps, a trial of the selection."
    sections = (Section(AttributionQualityConfig, ("trial", "clips", "queries")),)
    background = True

    def choose(self, ctx: Any, form: Form) -> None:
        form.suggest(
            "by",
            [*label_fields(ctx.dataset), TAGS],
            label="Kind of a clip",
            description="field with the kind of each clip, queries too, or tags; no retrieval where empty",
        )

    def check(self, ctx: Any, form: Form) -> None:
        by = str(ctx.params.get("by") or "")
        if by and not ctx.dataset.has_field(by):
            form.refuse("by", f"there is no field {by!r}")
        if not by and ctx.params.get("clips") == 0 and not ctx.params.get("trial"):
            form.refuse("by", "nothing is asked for: name a field, or ask for clips or a trial")
        record = record_of(ctx)
        if record is not None and "influence" not in record.steps:
            form.refuse("run", f"run {record.run!r} has no influence yet: 'Motive: score influence' first")

    def told(self, ctx: Any, form: Form) -> list[str]:
        settings = AttributionQualityConfig(**read_settings(ctx.params, AttributionQualityConfig))
        steps = (
            f"Takes a training step on each of {settings.clips} clips, from the model's own weights and back, and "
            f"measures the losses of {settings.queries} queries after each."
        )
        if settings.trial:
            steps = (
                f"Trains a copy of the model's weights {settings.repeats} times for {settings.trial_steps} steps on "
                "what each half of the queries selects and on random clips, on what each kind of queries selects too "
                "where there are two, and measures the losses of the other half."
            )
        kept = f"Writes what is found into the record of run {run_of(ctx)!r}, nothing else."
        return [steps, kept] if settings.clips or settings.trial else ["Seconds, from the store alone.", kept]

    def call(self, ctx: Any, params: dict[str, Any]) -> Call:
        arguments = {
            "run": run_of(ctx),
            "by": params.get("by") or None,
            "config": read_settings(params, AttributionQualityConfig),
        }
        return Call("evaluate_attribution", ctx.dataset, arguments)
