"""What the operators share: the form, the notice before, the work with its progress, the result after.

A generator serves both ways to execute: at once (progress messages are yielded to the App) and delegated (progress is
set on the operation). Where a job in the background is asked for, the same call goes to a process of its own.
"""

from __future__ import annotations

import inspect
import json
import queue
import threading
import time
from abc import ABC, abstractmethod
from asyncio import get_running_loop
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types

import motive_fo
from motive_fo.dataset.connect import dataset_of
from motive_fo.dataset.jobs import start_job
from motive_fo.dataset.outcome import Outcome, outcome
from motive_fo.dataset.ownership import open_run
from motive_fo.dataset.rates import rate_of
from motive_fo.dataset.run_record import RunRecord, has_run, list_runs, load_run
from motive_fo.dataset.views import FAILED, view_name
from motive_fo.errors import MotiveError
from motive_fo.progress import Pace, Progress, duration

from ..forms import Form, Section, remember, said, shown_params
from ..installed import mismatch

PLUGIN: Final = "@motive-fo/motive"
SHOW_FAILED: Final = f"{PLUGIN}/show_failed"

_PROGRESS_SECONDS = 0.5  # the App redraws for every message
_LONG_SECONDS = 120.0  # a step that takes longer goes into the background unless told otherwise
_MANY_CLIPS = 100  # the same where no rate is known
_CUT_SECONDS = 600  # FiftyOne's own limit for an operator executed at once


@dataclass(frozen=True)
class Call:
    """A function of ``motive_fo`` with what it is called with.

    Attributes:
        function: its name.
        samples: its dataset or view; None where it takes none.
        arguments: all others, by name.
    """

    function: str
    samples: Any
    arguments: dict[str, Any] = field(default_factory=dict)

    def __call__(self, progress: Progress) -> Any:
        function = getattr(motive_fo, self.function)
        more = {"progress": progress} if "progress" in inspect.signature(function).parameters else {}
        given = () if self.samples is None else (self.samples,)
        return function(*given, **self.arguments, **more)


def icon_paths(name: str) -> dict[str, str]:
    """The icons of an operator, as FiftyOne's server finds them below the plugin's folder."""
    return {f"{mode}_icon": f"/plugin/assets/{name}-{mode}.svg" for mode in ("light", "dark")}


class FormOperator(foo.Operator, ABC):
    """An operator with a dynamic form.

    Attributes:
        step: its name in FiftyOne.
        label, description: what the operator browser shows.
        place: where it has a button, if it has one.
        listed: whether the operator browser shows it.
        button: the button that executes it.
        paths: fields for files, which a call from Python gives as text.
    """

    step: ClassVar[str]
    label: ClassVar[str]
    description: ClassVar[str]
    place: ClassVar[Any] = None
    listed: ClassVar[bool] = True
    button: ClassVar[str | None] = None
    paths: ClassVar[tuple[str, ...]] = ()

    @property
    def config(self) -> Any:
        return foo.OperatorConfig(
            name=self.step,
            label=f"Motive: {self.label}",
            description=self.description,
            dynamic=True,
            unlisted=not self.listed,
            **icon_paths(self.step),
            **self.execution(),
        )

    def execution(self) -> dict[str, Any]:
        """How it may be executed, as settings of FiftyOne's."""
        return {"allow_immediate_execution": True, "allow_delegated_execution": False}

    @abstractmethod
    def fill(self, ctx: Any, form: Form) -> None:
        """Add the fields, check them, say what will happen."""

    def resolve_input(self, ctx: Any) -> Any:
        form = Form(ctx.params)
        warning = mismatch()
        if warning is not None:
            form.warn(warning)
        self.fill(ctx, form)
        shown = {"label": f"Motive: {self.label}", "description": self.description}
        if self.button is not None:
            return types.Property(
                form.inputs,
                view=types.PromptView(**shown, submit_button_label=self.button, cancel_button_label="Close"),
            )
        return types.Property(form.inputs, view=types.View(**shown))

    def resolve_placement(self, ctx: Any) -> Any:
        if self.place is None:
            return None
        icons = icon_paths(self.step)
        # a button takes the App's own spelling of the names
        button = types.Button(
            label=f"Motive: {self.label}", prompt=True, lightIcon=icons["light_icon"], darkIcon=icons["dark_icon"]
        )
        return types.Placement(self.place, button)

    def __call__(self, samples: Any, *, delegate: bool = False, **params: Any) -> str:
        """Execute from Python, in notebooks too: ``foo.get_operator("@motive-fo/motive/curate")(dataset, budget=0.2)``.

        Args:
            samples: a dataset, or a view, which is then the target.
            delegate: queue it for a worker instead.
            params: the fields of the form by name; paths as text.

        Returns:
            the message at the end; empty where it was queued.

        Raises:
            fiftyone.operators.executor.ExecutionError: what the form or the step refuses, with our sentence.
        """
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in params.items()}
        plain |= {name: {"absolute_path": plain[name]} for name in self.paths if isinstance(plain.get(name), str)}
        context: dict[str, Any] = {"params": plain, "request_delegation": delegate}
        context["dataset" if dataset_of(samples) is samples else "view"] = samples

        def run() -> Any:
            return foo.execute_operator(self.uri, context)

        try:
            get_running_loop()
        except RuntimeError:
            result = run()
        else:  # a notebook's own loop would hand back a task that nobody awaits
            with ThreadPoolExecutor(1) as pool:
                result = pool.submit(run).result()
        requests = [] if result.executor is None else result.executor.to_json()["requests"]
        return next((r["params"]["message"] for r in requests if r["operator_uri"].endswith("notify")), "")


def _result(label: str, result: Outcome, run: str | None) -> Any:
    """What a step came to: why clips failed, and a button to see those of a run."""
    outputs = types.Object()
    outputs.md("\n".join([f"**{result.message}**", "", *(f"- {reason}" for reason in result.reasons)]), name="about")
    if run is not None:
        button = {"label": "Show failed clips", "variant": "contained", "on_click": SHOW_FAILED}
        outputs.btn("show_failed", **button, params={"run": run})
    return types.Property(outputs, view=types.View(label=f"Motive: {label}"))


class StepOperator(FormOperator):
    """An operator over one function of ``motive_fo``.

    Attributes:
        sections: settings in the form.
        has_preset: whether it offers presets.
        needs: a run that exists, a name for a run that may be new, or nothing of the kind.
        rates: steps whose measured rates tell how long it takes.
        background: whether it can be a job.
    """

    sections: ClassVar[tuple[Section, ...]] = ()
    has_preset: ClassVar[bool] = False
    needs: ClassVar[Literal["run", "name"] | None] = "run"
    rates: ClassVar[tuple[str, ...]] = ()
    background: ClassVar[bool] = False

    @abstractmethod
    def choose(self, ctx: Any, form: Form) -> None:
        """The fields above the settings."""

    @abstractmethod
    def told(self, ctx: Any, form: Form) -> list[str]:
        """Sentences on what will be written."""

    @abstractmethod
    def call(self, ctx: Any, params: dict[str, Any]) -> Call:
        """What to do, from what was filled in."""

    def check(self, ctx: Any, form: Form) -> None:
        """Refuse fields that are wrong together."""

    def count(self, ctx: Any) -> int | None:
        """Clips the step works on, None where that is not known before."""
        return None

    def execution(self) -> dict[str, Any]:
        return {
            "execute_as_generator": True,
            "allow_immediate_execution": True,
            "allow_delegated_execution": True,
        }

    def fill(self, ctx: Any, form: Form) -> None:
        if self.needs is not None:
            self._run_field(ctx, form)
        self.choose(ctx, form)
        for section in self.sections:
            form.settings(section, advanced=False)
        if any(section.names(advanced=True) for section in self.sections):
            form.add("advanced", "bool", default=False, label="Advanced", description="every other setting")
            # a call from Python knows no switch: its settings are all checked
            if form.params.get("advanced") is not False:
                if self.has_preset:
                    form.preset()
                for section in self.sections:
                    form.settings(section, advanced=True)
        self.check(ctx, form)
        seconds = self._expected(ctx, form)
        if self.background:
            self._background_field(ctx, form, seconds)
        if form.is_valid:
            form.tell("What this does", [*self.told(ctx, form), *self._time(ctx, seconds)])

    def execute(self, ctx: Any) -> Iterator[Any]:
        call = self.call(ctx, shown_params(ctx.params, self.sections))
        if ctx.params.get("background") and not ctx.delegated:
            yield ctx.ops.notify(_started(call), variant="info")
            return
        result = Outcome("")
        for event in _in_background(lambda progress: outcome(call(progress))):
            if isinstance(event, Outcome):
                result = event
                continue
            label, share = event
            if ctx.delegated:
                ctx.set_progress(progress=share, label=label)
            else:
                yield ctx.ops.set_progress(label=label, progress=share)
        if ctx.delegated:
            # what the App's list of runs shows of a finished one
            ctx.set_progress(progress=1.0, label=". ".join((result.message, *result.reasons)))
            return
        yield ctx.ops.notify(result.message, variant="success")
        yield ctx.trigger("reload_dataset")
        yield from self.after(ctx, call, result)

    def after(self, ctx: Any, call: Call, result: Outcome) -> Iterator[Any]:
        """What the App does when the step is done: show why clips failed, with a button to see them."""
        if result.reasons:
            run = call.arguments.get("run") if result.failed and self.needs is not None else None
            # into the dialog of the progress; a prompt would come too early or too late: the App closes what is open
            # when an operator ends, and replaces what a person has opened since
            yield ctx.ops.show_output(_result(self.label, result, run).to_json(), {})

    # -- fields -------------------------------------------------------------------------------------------------------

    def _run_field(self, ctx: Any, form: Form) -> None:
        known = list_runs(ctx.dataset)
        form.suggest("run", known, default="motive", label="Run", description="name of the run and of its fields")
        name = run_of(ctx)
        wrong = said(lambda: (load_run if self.needs == "run" else open_run)(ctx.dataset, name))
        if wrong is not None:
            form.refuse("run", wrong)

    def _background_field(self, ctx: Any, form: Form, seconds: float | None) -> None:
        if may_schedule():
            default = False
        else:
            default = seconds > _LONG_SECONDS if seconds is not None else (self.count(ctx) or 0) > _MANY_CLIPS
        form.add(
            "background",
            "bool",
            default=default,
            label="Run in the background",
            description="in a process of its own that goes on when the App is closed; see the operator 'show jobs'",
        )

    def _expected(self, ctx: Any, form: Form) -> float | None:
        """Seconds the step takes at most, as far as rates are known."""
        clips = self.count(ctx) if self.rates else None
        if clips is None:
            return None
        known = [rate_of(step, record_of(ctx)) for step in self.rates]
        rates = [rate[0] for rate in known if rate is not None]
        return clips * max(rates) if rates else None

    def _time(self, ctx: Any, seconds: float | None) -> list[str]:
        if not self.rates:
            return []
        if seconds is None:
            return ["How long that takes was not measured on this machine yet."]
        known = [rate_of(step, record_of(ctx)) for step in self.rates]
        rate, source = max(found for found in known if found is not None)
        text = [
            f"At {rate:.2g} s a clip, {source}, that takes at most {duration(seconds)}; clips done before take none."
        ]
        if seconds > _CUT_SECONDS and not may_schedule():
            text.append("FiftyOne stops what is executed at once after 10 minutes: run it in the background.")
        return text


# -- what operators ask -----------------------------------------------------------------------------------------------


def run_of(ctx: Any) -> str:
    """The run that was filled in."""
    return str(ctx.params.get("run") or "motive")


def record_of(ctx: Any) -> RunRecord | None:
    """The run's record, None where it does not exist yet."""
    return load_run(ctx.dataset, run_of(ctx)) if has_run(ctx.dataset, run_of(ctx)) else None


def store_of(ctx: Any) -> str:
    """Where the run's store is or will be."""
    return open_run(ctx.dataset, run_of(ctx)).store


def may_schedule() -> bool:
    """Whether FiftyOne's own queue can be used: in open source only where it was allowed for the App."""
    return bool(fo.config.allow_legacy_orchestrators)


def count_of(samples: Any) -> int:
    """Clips of a view, counted once in some seconds."""
    dataset = dataset_of(samples)
    stages = "" if samples is dataset else json.dumps(samples._serialize(), default=str, sort_keys=True)
    counted: int = remember(("count", dataset.name, stages), samples.count)
    return counted


def names_in(dataset: Any, *, renew: bool = False) -> list[str]:
    """Tags and saved views."""
    tags: list[str] = remember(("tags", dataset.name), lambda: dataset.distinct("tags"), renew=renew)
    return [*tags, *dataset.list_saved_views()]


def selector(ctx: Any, form: Form, name: str, label: str, default: str, *, datasets: bool = False) -> None:
    """A choice of tags and saved views, refused where there is none of that name."""
    form.suggest(name, names_in(ctx.dataset), label=label, description=f"tag or saved view; {default} where empty")
    value = str(form.params.get(name) or "").partition(":")
    given = value[2] if value[0] in ("tag", "view", "dataset") and value[2] else "".join(value)
    if not given or given in names_in(ctx.dataset) or given in names_in(ctx.dataset, renew=True):
        return
    if not (datasets and fo.dataset_exists(given)):
        form.refuse(name, f"{given!r} is no tag{', saved view or dataset' if datasets else ' or saved view'}")


def target(ctx: Any, form: Form, action: str) -> None:
    """The choice of dataset, view or selection, where there is more than the dataset."""
    form.inputs.view_target(ctx, action_description=action)


# -- work -------------------------------------------------------------------------------------------------------------


def _started(call: Call) -> str:
    try:
        job = start_job(call.function, call.samples, **call.arguments)
    except MotiveError as error:
        raise ValueError(str(error)) from None
    return f"job {job.id} is started: the operator 'Motive: show jobs' says how far it is, 'cancel job' stops it"


def _in_background(work: Callable[[Progress], Outcome]) -> Iterator[tuple[str, float] | Outcome]:
    """Run ``work`` in a thread; yields (label, share done) while it runs and its outcome at the end."""
    events: queue.Queue[tuple[str, float] | Outcome | BaseException] = queue.Queue()
    pace = Pace()
    said_at = 0.0

    def progress(label: str, done: int, total: int) -> None:
        nonlocal said_at
        now = time.monotonic()
        left = pace.left(label, done, total)
        if total and (now - said_at > _PROGRESS_SECONDS or done == total):
            said_at = now
            rest = f", about {duration(left)} left" if left is not None and done < total else ""
            events.put((f"{label}: {done} of {total}{rest}", done / total))

    def run() -> None:
        try:
            events.put(work(progress))
        except BaseException as error:
            events.put(error)

    threading.Thread(target=run, daemon=True).start()
    while True:
        event = events.get()
        if isinstance(event, MotiveError):
            raise ValueError(" ".join(str(event).split())) from None  # the App shows the text of a ValueError as it is
        if isinstance(event, BaseException):
            raise event
        yield event
        if isinstance(event, Outcome):
            return


def failed_view(run: str) -> str:
    """Name of the saved view of a run's failed clips."""
    return view_name(run, FAILED)
