"""Operators over runs and jobs: show, repeat and delete a run, adopt a store; see jobs, cancel one; a step's result."""

from __future__ import annotations

from functools import partial
from typing import Any

from motive_fo.dataset.jobs import Job, cancel_job, list_jobs
from motive_fo.dataset.ownership import held_by, notice
from motive_fo.dataset.replay import TOLERANCE
from motive_fo.dataset.run_record import RunRecord, list_runs, load_run
from motive_fo.dataset.trace import trace
from motive_fo.errors import MotiveError
from motive_fo.progress import duration

from ..forms import Form, remember, said
from .step import PLUGIN, Call, FormOperator, StepOperator, failed_view, record_of, run_of

_SHOWN_JOBS = 12


class ShowRun(FormOperator):
    """What a run is and wrote."""

    step, label = "show_run", "show run"
    description = "Settings, steps, errors, and everything a run wrote."
    button = "Show failed clips"

    def fill(self, ctx: Any, form: Form) -> None:
        record = _chosen_run(ctx, form)
        if record is not None and (foreign := notice(record)):
            form.warn(foreign)
        if record is not None:
            form.inputs.md("\n\n".join(_paragraphs(record)), name="about")

    def execute(self, ctx: Any) -> None:
        _show_failed(ctx, run_of(ctx))


class ReplayRun(StepOperator):
    """A run computed again and compared."""

    step, label = "replay_run", "replay run"
    description = "Compute a run again from its record and compare: does it come out again, and if not, why?"
    background = True

    def choose(self, ctx: Any, form: Form) -> None:
        form.add("sample", "int", min=1, label="Sample", description="only so many training clips; all where empty")
        form.add("seed", "int", default=0, min=0, label="Seed", description="of the sample's draw")
        form.add(
            "tolerance",
            "float",
            default=TOLERANCE,
            min=0,
            label="Tolerance",
            description="relative difference up to which a row is the same",
        )
        form.add("device", "str", label="Device", description="where gradients are computed; the run's own where empty")
        record = record_of(ctx)
        if record is not None and not record.steps:
            form.refuse("run", f"run {record.run!r} has computed nothing yet")

    def told(self, ctx: Any, form: Form) -> list[str]:
        return [
            "Computes everything of the run again into a second store, which is thrown away, and compares row by row. "
            "Nothing of the run is changed. It takes as long as the run took, a sample its share."
        ]

    def call(self, ctx: Any, params: dict[str, Any]) -> Call:
        names = ("sample", "seed", "tolerance", "device")
        given = {name: params[name] for name in names if params.get(name) not in (None, "")}
        return Call("replay_run", ctx.dataset, {"run": run_of(ctx), **given})


class DeleteRun(FormOperator):
    """Everything a run wrote, gone."""

    step, label = "delete_run", "delete run"
    description = "Remove everything a run wrote: fields, views, maps, overlays, store. Exported folders stay."
    button = "Delete"

    def fill(self, ctx: Any, form: Form) -> None:
        record = _chosen_run(ctx, form)
        form.add("keep_store", "bool", default=False, label="Keep the store", description="sketches stay on the disk")
        form.add("confirm", "str", required=True, label="Confirm", description="type the run's name")
        if record is None:
            return
        if ctx.params.get("confirm") != record.run:
            form.refuse("confirm", f"type {record.run} to delete it")
        kept = f" These exports stay: {', '.join(record.exports)}." if record.exports else ""
        own = held_by(record) == "own" and not ctx.params.get("keep_store")
        store = f", the store {record.store}" if own else ""
        extras = [*record.brain_keys, *record.workspaces, *([record.overlays] if record.overlays else [])]
        more = f", {', '.join(extras)}" if extras else ""
        form.warn(f"Removes the fields {record.run}.*, {len(record.views)} saved views{store}{more}.{kept}")

    def execute(self, ctx: Any) -> None:
        import motive_fo

        done = motive_fo.delete_run(ctx.dataset, run_of(ctx), keep_store=bool(ctx.params.get("keep_store")))
        ctx.ops.notify(f"deleted run {done.run!r}" + (f"; {done.kept}" if done.kept else ""), variant="success")
        ctx.ops.clear_view()
        ctx.trigger("reload_dataset")


class AdoptStore(FormOperator):
    """A store that becomes a run's own."""

    step, label = "adopt_store", "adopt store"
    description = "Make a store this dataset's own: after a clone, an import, a restored backup, or a deleted run."
    button = "Adopt"

    def fill(self, ctx: Any, form: Form) -> None:
        copied = [record for record in map(partial(load_run, ctx.dataset), list_runs(ctx.dataset)) if notice(record)]
        first = copied[0] if copied else None
        form.add("store", "str", required=True, default=first and first.store, label="Store", description="its folder")
        form.add("run", "str", label="Run", description="that is to own it; the one it was made for where empty")
        form.add("take", "bool", default=False, label="Take it", description="from a run that may still use it")
        for record in copied:
            form.warn(notice(record) or "")

    def execute(self, ctx: Any) -> None:
        import motive_fo

        taken, run = bool(ctx.params.get("take")), ctx.params.get("run") or None
        done = motive_fo.adopt_store(ctx.dataset, ctx.params["store"], run, take=taken)
        ctx.ops.notify(f"run {done.run!r} owns {done.store}: {done.clips} clips are in it", variant="success")
        ctx.trigger("reload_dataset")


class ShowFailed(FormOperator):
    """The clips that failed in a run."""

    step, label = "show_failed", "show failed"
    description = "Show the clips of a run that failed."
    listed = False

    def fill(self, ctx: Any, form: Form) -> None:
        _chosen_run(ctx, form)

    def execute(self, ctx: Any) -> None:
        _show_failed(ctx, run_of(ctx))


class ShowJobs(FormOperator):
    """Steps in the background."""

    step, label = "show_jobs", "show jobs"
    description = "Steps that run in the background, how far they are, and what came of the last ones."
    button = "Refresh"

    def fill(self, ctx: Any, form: Form) -> None:
        jobs = list_jobs()[:_SHOWN_JOBS]
        rows = [
            f"| {_cell(job.created)} | {job.function} {_cell(job.dataset)} | {job.state} | {_cell(progress_of(job))} |"
            for job in jobs
        ]
        table = "\n".join(["| begun | step | state | progress |", "|---|---|---|---|", *rows])
        form.inputs.md(
            table if jobs else "No jobs yet: switch 'Run in the background' on in a step's form.", name="jobs"
        )

    def execute(self, ctx: Any) -> None:
        ctx.trigger("reload_dataset")  # what finished jobs wrote
        ctx.prompt(f"{PLUGIN}/{self.step}")


class CancelJob(FormOperator):
    """Stop a step in the background."""

    step, label = "cancel_job", "cancel job"
    description = "Stop a step that runs in the background. What it computed is kept."
    button = "Cancel the job"

    def fill(self, ctx: Any, form: Form) -> None:
        live = {job.id: f"{job.function} {job.dataset or ''}: {progress_of(job)}" for job in list_jobs(live=True)}
        if not live:
            form.problem("No job is running.")
            return
        form.choice("job", live, required=True, default=next(iter(live)), label="Job")

    def execute(self, ctx: Any) -> None:
        try:
            job = cancel_job(str(ctx.params.get("job")))
        except MotiveError as error:
            raise ValueError(str(error)) from None
        ctx.ops.notify(f"job {job.id} is {job.state}", variant="success")
        ctx.trigger("reload_dataset")


def progress_of(job: Job) -> str:
    """How far a job is, or what came of it."""
    if not job.is_live:
        return ". ".join((job.error or job.message, *job.reasons))
    if not job.total:
        return job.state
    left = "" if job.left is None else f", about {duration(job.left)} left"
    return f"{job.step} {job.done} of {job.total}{left}"


def _chosen_run(ctx: Any, form: Form) -> RunRecord | None:
    """The field for a run, and its record where there is one."""
    form.suggest("run", list_runs(ctx.dataset), default="motive", label="Run")
    wrong = said(lambda: load_run(ctx.dataset, run_of(ctx)))
    if wrong is not None:
        form.refuse("run", wrong)
    return record_of(ctx)


def _show_failed(ctx: Any, run: str) -> None:
    name = failed_view(run)
    if ctx.dataset.has_saved_view(name):
        ctx.ops.set_view(view=ctx.dataset.load_saved_view(name))  # the App does not know a new view's name yet


def _paragraphs(record: RunRecord) -> list[str]:
    settings = [
        f"- {section}: " + ", ".join(f"{key} {value}" for key, value in values.items() if value is not None)
        for section, values in record.settings.items()
    ]
    steps = [
        f"- {step}: {report.get('clips', 0)} clips, "
        + (", ".join(f"{count} {code}" for code, count in (report.get("codes") or {}).items()) or "no failures")
        + (f", {duration(report['seconds']['total'])}" if report.get("seconds", {}).get("total") else "")
        for step, report in record.steps.items()
    ]
    traced = remember(("trace", record.store), lambda: trace(record))  # reads the store: not at every keystroke
    origins = [f"- {each.step}: " + "; ".join(each.lines()) for each in traced]
    wrote = [*record.views, *record.brain_keys, *record.workspaces, *([record.overlays] if record.overlays else [])]
    return [
        f"motive-fo {record.version}, begun {record.created}, updated {record.updated}, store `{record.store}`",
        "**Steps**\n" + "\n".join(steps or ["- nothing was computed"]),
        "**Fingerprints**\n" + "\n".join(origins or ["- nothing was computed"]),
        "**Settings**\n" + "\n".join(settings or ["- the defaults"]),
        "**Wrote**\n" + "\n".join(f"- {name}" for name in [f"the fields {record.run}.*", *wrote]),
        *(["**Exports**\n" + "\n".join(f"- {folder}" for folder in record.exports)] if record.exports else []),
    ]


def _cell(text: object) -> str:
    return " ".join(str(text or "").split()).replace("|", "\\|")
