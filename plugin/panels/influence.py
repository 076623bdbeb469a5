"""The panel beside the grid: a run's influence and votes, and what other settings would select, without writing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Final

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types

from motive_fo.config import SelectionConfig, merge
from motive_fo.dataset.exploration import Exploration, Preview, choose, explore, obstacle
from motive_fo.dataset.jobs import list_jobs
from motive_fo.dataset.run_record import RunRecord, list_runs, load_run
from motive_fo.errors import MotiveError
from motive_fo.influence.doubt import rank_text

from . import figures

PLUGIN: Final = "@motive-fo/motive"
LISTED: Final = 15  # clips at each end
SHOWN: Final = 25_000  # ids of more clips would not fit an event of a megabyte
CHOICES: Final = 500  # queries offered; the others are reached by their groups

_ALL, _OWN = "all", "own"


def told(event: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """A refusal becomes a sentence in the App instead of a stack trace."""

    @wraps(event)
    def telling(self: Any, ctx: Any) -> None:
        try:
            event(self, ctx)
        except MotiveError as error:
            ctx.ops.notify(str(error), variant="error")

    return telling


class MotionInfluence(foo.Panel):
    """See the module's text. State: run, focus, budget, follow, percentile, name, helping, harming, and sentences."""

    @property
    def config(self) -> Any:
        return foo.PanelConfig(
            name="motion_influence",
            label="Motion influence",
            icon="insights",
            surfaces="grid",
            help_markdown=(
                "Which clips drive the motion of the queries? Move the sliders: counts, statistics and plots show what "
                "would be selected. Nothing is written before **Save as view** or **Make it the run's selection**."
            ),
        )

    # -- events -------------------------------------------------------------------------------------------------------

    def on_load(self, ctx: Any) -> None:
        self._begin(ctx, shown_run(ctx))

    def on_change_dataset(self, ctx: Any) -> None:
        """Another dataset has other runs."""
        ctx.panel.set_state("run", None)
        self.on_load(ctx)

    def change_run(self, ctx: Any) -> None:
        """Start again with the settings of another run."""
        self._begin(ctx, ctx.params.get("value"))

    def change_focus(self, ctx: Any) -> None:
        """Follow other queries."""
        ctx.panel.set_state("focus", ctx.params.get("value") or _ALL)
        self._show(ctx)

    def change_budget(self, ctx: Any) -> None:
        """Preview another budget."""
        self._slide(ctx, "budget")

    def change_percentile(self, ctx: Any) -> None:
        """Preview another vote percentile."""
        self._slide(ctx, "percentile")

    def change_follow(self, ctx: Any) -> None:
        """Let each query vote for as many clips as are selected, or for a share of its own."""
        follow = bool(ctx.params.get("value"))
        ctx.panel.set_state("follow", follow)
        if not follow:
            ctx.panel.set_state("percentile", round(100 - _percent(ctx, "budget"), 4))
        self._show(ctx)

    def refresh(self, ctx: Any) -> None:
        """Look again; the settings stay."""
        runs = list_runs(ctx.dataset)
        if ctx.panel.get_state("run") not in runs or ctx.panel.get_state("problem"):
            self.on_load(ctx)
        else:
            self._show(ctx)

    @told
    def show(self, ctx: Any) -> None:
        """The previewed selection in the grid, the best first."""
        exploration, preview = self._preview(ctx)
        ctx.ops.set_view(self._view(ctx, exploration, preview.selected))

    def show_all(self, ctx: Any) -> None:
        """Every clip of the dataset in the grid."""
        ctx.ops.clear_view()

    @told
    def save(self, ctx: Any) -> None:
        """The previewed selection as a saved view."""
        name = str(ctx.panel.get_state("name") or "").strip()
        if not name:
            ctx.ops.notify("Give the view a name first.", variant="warning")
            return
        if name in ctx.dataset.list_saved_views():
            ctx.ops.notify(f"The view {name!r} exists already: choose another name.", variant="warning")
            return
        exploration, preview = self._preview(ctx)
        ids = _present(exploration, preview.selected)
        view = ctx.dataset.select(ids, ordered=True)
        try:
            ctx.dataset.save_view(name, view, description=_sentence(preview, self._config(ctx)))
        except ValueError as error:  # two names that are one in an address
            ctx.ops.notify(f"The view cannot be saved: {error}", variant="warning")
            return
        if len(ids) <= SHOWN:
            ctx.ops.set_view(view)  # not by name, which the App does not know yet
        ctx.ops.reload_dataset()  # which the App's list of saved views comes with
        ctx.ops.notify(f"{len(ids)} clips saved as the view {name!r}.", variant="success")

    @told
    def curate(self, ctx: Any) -> None:
        """The previewed settings become the run's: fields, places and views are written."""
        record = self._record(ctx)
        report = choose(ctx.dataset, record, self._config(ctx))
        self._show(ctx)
        ctx.ops.reload_dataset()
        ctx.ops.notify(
            f"{len(report.selected)} of {report.clips} scored clips are the selection of run {record.run!r}.",
            variant="success",
        )

    def export(self, ctx: Any) -> None:
        """The form of the export."""
        ctx.prompt(f"{PLUGIN}/export", params={"run": ctx.panel.get_state("run"), "what": "selection"})

    def prompt_step(self, ctx: Any) -> None:
        """The form of the step that is missing."""
        run = ctx.panel.get_state("run")
        step = ctx.panel.get_state("step") or "compute_gradients"
        ctx.prompt(f"{PLUGIN}/{step}", params={"run": run} if run else {}, on_success=self.refresh)

    @told
    def lasso(self, ctx: Any) -> None:
        """The clips under the lasso in the grid."""
        found = [point.get("id") for point in ctx.params.get("data") or []]
        ids = list(dict.fromkeys(sample_id for sample_id in found if sample_id))
        if not ids:
            return
        ctx.ops.set_view(ctx.dataset.select(ids))
        ctx.ops.notify(f"{len(ids)} clips under the lasso are in the grid.", variant="info")

    def open_point(self, ctx: Any) -> None:
        """The clip of a point."""
        open_clip(ctx, ctx.params.get("id"))

    def open_queries(self, ctx: Any) -> None:
        """The dataset that holds the queries, where it is another one."""
        name = ctx.panel.get_state("query_dataset")
        if fo.dataset_exists(name):
            ctx.ops.open_dataset(name)
        else:
            ctx.ops.notify(f"There is no dataset {name!r} any more.", variant="warning")

    def open_helping(self, ctx: Any) -> None:
        """The clip of a row of the first table."""
        open_clip(ctx, _row(ctx, "helping"))

    def open_harming(self, ctx: Any) -> None:
        """The clip of a row of the second table."""
        open_clip(ctx, _row(ctx, "harming"))

    # -- what is shown ------------------------------------------------------------------------------------------------

    def _begin(self, ctx: Any, run: str | None) -> None:
        ctx.panel.set_state("run", run)
        if run is None:
            text = (
                "This dataset has no run yet. Tag clips that show the motion you want as queries (Motive: mark "
                "queries), then compute gradients, and score influence."
            )
            self._say(ctx, text, "compute_gradients")
            return
        config = load_run(ctx.dataset, run).section("selection")
        ctx.panel.set_state("focus", _OWN if config.queries else _ALL)
        ctx.panel.set_state("budget", round(100 * config.budget, 4))
        ctx.panel.set_state("follow", config.vote_share is None)
        ctx.panel.set_state("percentile", round(100 - 100 * (config.vote_share or config.budget), 4))
        self._show(ctx)

    def _slide(self, ctx: Any, name: str) -> None:
        value = ctx.params.get("value")
        if isinstance(value, int | float) and not isinstance(value, bool):
            ctx.panel.set_state(name, value)
        self._show(ctx)

    def _show(self, ctx: Any) -> None:
        try:
            record = self._record(ctx)
            hindrance = obstacle(record)
            if hindrance is not None:
                self._say(ctx, hindrance.text, hindrance.step)
                return
            exploration, preview = self._preview(ctx)
            if not preview.made.ranking.ids:
                text = (
                    f"No clip of run {record.run!r} has a score for every query: look at the field {record.run}.code."
                )
                self._say(ctx, text, "compute_gradients")
                return
            self._fill(ctx, record, exploration, preview)
        except MotiveError as error:
            self._say(ctx, str(error), None)

    def _say(self, ctx: Any, text: str, step: str | None) -> None:
        """An empty state: why there is nothing to see, and the step that helps."""
        ctx.panel.set_state("problem", text)
        ctx.panel.set_state("step", step)
        ctx.panel.data.clear()

    def _fill(self, ctx: Any, record: RunRecord, exploration: Exploration, preview: Preview) -> None:
        config = self._config(ctx)
        points, drawn = figures.vote_points(preview, exploration.scored.sample_ids)
        queries, overlap_QQ = exploration.overlap(config)
        present = set(exploration.preview(record.section("selection")).selected)
        kept = len(present & set(preview.selected))
        ctx.panel.set_state("problem", None)
        ctx.panel.set_state("summary", _summary(preview, len(present), kept, queries, overlap_QQ))
        ctx.panel.set_state("notice", _notice(ctx, record.run))
        ctx.panel.set_state("query_dataset", record.query_dataset)
        ctx.panel.set_state("thinned", _thinned(drawn, len(preview.made.ranking.ids), len(queries)))
        ctx.panel.set_data("influence", figures.influence_bars(preview))
        ctx.panel.set_data("votes", points)
        ctx.panel.set_data("overlap", figures.overlap_map(queries, overlap_QQ))
        ctx.panel.set_data("statistics", _statistics(preview))
        order = preview.made.ranking.by_mean
        count = min(LISTED, (len(order) + 1) // 2)  # a clip is not at both ends
        ends = {"helping": order[:count], "harming": order[::-1][: min(count, len(order) - count)]}
        doubts = exploration.doubts(config, [clip_id for ids in ends.values() for clip_id in ids])
        for name, ids in ends.items():
            rows = _rows(exploration, preview, ids, doubts)
            ctx.panel.set_state(name, [row["id"] for row in rows])
            ctx.panel.set_data(f"{name}_table", rows)

    def render(self, ctx: Any) -> Any:
        try:
            return self._render(ctx)
        except MotiveError as error:  # the run went away since the event
            panel = types.Object()
            panel.message("problem_text", "Nothing to show", description=str(error))
            panel.btn("refresh", label="Refresh", icon="refresh", variant="outlined", on_click=self.refresh)
            return types.Property(panel)

    def _render(self, ctx: Any) -> Any:
        panel = types.Object()
        state = ctx.panel.get_state
        runs = list_runs(ctx.dataset)
        if runs:
            choices = types.DropdownView()
            for run in runs:
                choices.add_choice(run, label=run)
            panel.enum(
                "run", choices.values(), label="Run", view=choices, default=state("run"), on_change=self.change_run
            )
        if state("problem") or not runs:
            panel.message("problem_text", "Nothing to show yet", description=state("problem"))
            if state("step"):
                label = state("step").replace("_", " ").capitalize()
                panel.btn("prompt_step", label=label, variant="contained", on_click=self.prompt_step)
            panel.btn("refresh", label="Refresh", icon="refresh", variant="outlined", on_click=self.refresh)
            return types.Property(panel, view=column(gap=2))
        self._controls(ctx, panel)
        self._buttons(panel)
        panel.list(
            "statistics",
            types.Object(),
            view=table({"name": "mean of", "whole": "all training clips", "subset": "selection"}),
        )
        if state("query_dataset"):
            panel.md(elsewhere(state("query_dataset")), name="elsewhere_text")
            panel.btn("open_queries", label="Open their dataset", variant="outlined", on_click=self.open_queries)
        if state("thinned"):
            panel.md(state("thinned"), name="thinned_text")
        plots: Sequence[tuple[str, dict[str, Any], dict[str, Any]]] = (
            ("influence", figures.INFLUENCE_LAYOUT, {}),
            ("votes", figures.SCATTER_LAYOUT, {"on_selected": self.lasso, "on_click": self.open_point}),
            ("overlap", figures.OVERLAP_LAYOUT, {}),
        )
        for name, layout, events in plots:
            panel.plot(name, layout=layout, config={"scrollZoom": False}, height="360px", **events)
        columns = {"clip": "clip", "influence": "influence", "votes": "votes", "motion": "px per frame"}
        for name, title, event in (
            ("helping", "Helps most (a click opens the clip)", self.open_helping),
            ("harming", "Hurts most (a click opens the clip)", self.open_harming),
        ):
            panel.md(f"**{title}**", name=f"{name}_title")
            panel.list(f"{name}_table", types.Object(), view=table(columns, on_click_row=event))
        return types.Property(panel, view=column(gap=1))

    def _controls(self, ctx: Any, panel: Any) -> None:
        state = ctx.panel.get_state
        record = self._record(ctx)
        focus = types.DropdownView()
        own = record.section("selection").queries
        if own:
            focus.add_choice(_OWN, label=f"as the run is set: {', '.join(own)[:80]}")
        focus.add_choice(_ALL, label="all queries to follow")
        for value, label in self._focuses(ctx, record):
            focus.add_choice(value, label=label)
        panel.enum(
            "focus", focus.values(), label="Queries", view=focus, default=state("focus"), on_change=self.change_focus
        )
        slider = {"label_position": "top", "view_multiple_of": 0.5, "value_label_display": "auto", "value_precision": 1}
        panel.float(
            "budget",
            min=0.5,
            max=100,
            default=state("budget"),
            view=types.SliderView(label=f"Budget: {_percent(ctx, 'budget'):g} % of the scored clips", **slider),
            on_change=self.change_budget,
        )
        panel.bool(
            "follow",
            label="Each query votes for as many clips as the budget takes",
            default=state("follow"),
            view=types.SwitchView(),
            on_change=self.change_follow,
        )
        if not state("follow"):
            panel.float(
                "percentile",
                min=0,
                max=99.5,
                default=state("percentile"),
                view=types.SliderView(
                    label=f"Vote percentile: each query votes for its clips above {_percent(ctx, 'percentile'):g}",
                    **slider,
                ),
                on_change=self.change_percentile,
            )
        if state("notice"):
            panel.view("notice_text", types.Warning(label=state("notice")))
        panel.md(state("summary") or "", name="summary_text")

    def _focuses(self, ctx: Any, record: RunRecord) -> list[tuple[str, str]]:
        queries = explore(ctx.dataset, record).scored.queries
        groups = sorted({query.group for query in queries if query.group})
        each = sorted(queries, key=lambda query: (query.group or "", query.id))[:CHOICES]
        return [(f"group:{group}", f"group {group}") for group in groups] + [
            (query.id, f"{query.group}: {query.id}" if query.group else query.id) for query in each
        ]

    def _buttons(self, panel: Any) -> None:
        row = panel.h_stack("actions", gap=1)
        row.btn("show", label="Show", icon="visibility", variant="contained", on_click=self.show)
        row.btn("show_all", label="Show all clips", variant="outlined", on_click=self.show_all)
        row.btn("export", label="Export", icon="drive_folder_upload", variant="outlined", on_click=self.export)
        row.btn("refresh", label="Refresh", icon="refresh", variant="outlined", on_click=self.refresh)
        panel.str("name", label="Name of a view to save", view=types.TextFieldView(label="Name of a view to save"))
        row = panel.h_stack("writing", gap=1)
        row.btn("save", label="Save as view", icon="bookmark_add", variant="contained", on_click=self.save)
        row.btn(
            "curate", label="Make it the run's selection", icon="checklist", variant="contained", on_click=self.curate
        )

    # -- the settings in the panel's state ----------------------------------------------------------------------------

    def _record(self, ctx: Any) -> RunRecord:
        return load_run(ctx.dataset, str(ctx.panel.get_state("run") or ""))

    def _config(self, ctx: Any) -> SelectionConfig:
        """The run's own settings with what the panel shows instead."""
        own: SelectionConfig = self._record(ctx).section("selection")
        focus = ctx.panel.get_state("focus") or _ALL
        follow = bool(ctx.panel.get_state("follow"))
        changes = {
            "budget": _share(_percent(ctx, "budget"), own.budget),
            "vote_share": None if follow else _share(100 - _percent(ctx, "percentile"), own.vote_share),
            "queries": {_OWN: own.queries, _ALL: ()}.get(focus, (focus,)),
        }
        return merge(own, changes, "selection")

    def _preview(self, ctx: Any) -> tuple[Exploration, Preview]:
        exploration = explore(ctx.dataset, self._record(ctx))
        return exploration, exploration.preview(self._config(ctx))

    def _view(self, ctx: Any, exploration: Exploration, clip_ids: Sequence[str]) -> Any:
        ids = _present(exploration, clip_ids)
        if len(ids) > SHOWN:
            raise MotiveError(f"{len(ids)} clips are too many to hand to the App one by one: save them as a view")
        return ctx.dataset.select(ids, ordered=True)


def shown_run(ctx: Any) -> str | None:
    """The run the panel shows already, else the first that is scored, else the first; None where there is none."""
    runs = list_runs(ctx.dataset)
    known = ctx.panel.get_state("run")
    if known in runs:
        return str(known)
    scored = (run for run in runs if obstacle(load_run(ctx.dataset, run)) is None)
    return next(scored, next(iter(runs), None))


def open_clip(ctx: Any, sample_id: str | None, otherwise: str = "This clip is not in the dataset any more.") -> None:
    """Open a clip in the modal, whatever view hides it; ``otherwise`` is said of one that is not in the dataset."""
    if not sample_id:
        ctx.ops.notify(otherwise, variant="warning")
        return
    if ctx.view is not None and ctx.view != ctx.dataset.view() and not len(ctx.view.select(sample_id)):
        ctx.ops.clear_view()
    ctx.ops.open_sample(id=sample_id)


def elsewhere(query_dataset: str) -> str:
    """Where the queries of a run are that does not have them in its own dataset."""
    return f"The queries of this run are in the dataset {query_dataset!r}: their clips can be opened there."


def _percent(ctx: Any, name: str) -> float:
    return float(ctx.panel.get_state(name) or 0)


def _share(percent: float, own: float | None) -> float:
    """A share of a slider's percent; the run's own to the last digit where the slider was left alone."""
    share = round(percent / 100, 6)
    return own if own is not None and abs(own - share) < 1e-6 else share


def _row(ctx: Any, name: str) -> str | None:
    ids, row = ctx.panel.get_state(name) or [], ctx.params.get("row")
    return ids[row] if isinstance(row, int) and 0 <= row < len(ids) else None


def _present(exploration: Exploration, clip_ids: Sequence[str]) -> list[str]:
    """Sample ids of the clips that the dataset still has."""
    sample_ids = exploration.scored.sample_ids
    return [sample_ids[clip_id] for clip_id in clip_ids if clip_id in sample_ids]


def _rows(
    exploration: Exploration, preview: Preview, clip_ids: Sequence[str], doubts: Mapping[str, float]
) -> list[dict[str, Any]]:
    ranking = preview.made.ranking
    place = {clip_id: n for n, clip_id in enumerate(ranking.ids)}
    rows = []
    for clip_id in clip_ids:
        n, motion = place[clip_id], exploration.statistic("mean", clip_id)
        rows.append(
            {
                "id": exploration.scored.sample_ids.get(clip_id, ""),
                "clip": clip_id,
                "influence": rank_text(ranking.rank[n], doubts.get(clip_id)),
                "votes": int(ranking.votes[n]),
                "motion": "" if motion is None else f"{motion:.2f}",
            }
        )
    return rows


def _statistics(preview: Preview) -> list[dict[str, Any]]:
    def text(value: float | None) -> str:
        return "unknown" if value is None else f"{value:.3g}"

    return [
        {"id": row.name, "name": f"{row.name} ({row.unit})", "whole": text(row.whole), "subset": text(row.subset)}
        for row in preview.statistics
    ]


def _sentence(preview: Preview, config: SelectionConfig) -> str:
    share = config.vote_share or config.budget
    follow = int((~preview.candidates.avoid_Q).sum())
    return (
        f"{len(preview.selected)} of {len(preview.made.ranking.ids)} scored clips by {config.by}, budget "
        f"{config.budget:g}, vote share {share:g}, {follow} queries to follow"
    )


def _summary(preview: Preview, present: int, kept: int, queries: Sequence[Any], overlap_QQ: Any) -> str:
    chosen, clips = len(preview.selected), len(preview.made.ranking.ids)
    avoid = int(preview.candidates.avoid_Q.sum())
    follow = len(preview.candidates.avoid_Q) - avoid
    mean, least = preview.coverage
    lines = [
        f"**{chosen} of {clips} scored clips** would be selected for {follow} queries to follow"
        + (f" and {avoid} to avoid." if avoid else "."),
        f"Of each query's own best clips it holds {mean:.0%} on average, {least:.0%} at the least.",
        f"{kept} of the {present} clips of the run's present selection stay.",
    ]
    if len(queries) > 1:
        shared = float(overlap_QQ.sum() - overlap_QQ.trace()) / (len(queries) * (len(queries) - 1))
        lines.append(f"Two queries share {shared:.0%} of their best clips on average.")
    if preview.made.chosen.passed_over:
        lines.append(f"{len(preview.made.chosen.passed_over)} better placed clips were passed over.")
    lines += [f"The quota {text} reaches only {share:.0%}." for text, share in preview.made.chosen.unmet.items()]
    return " ".join(lines)


def _thinned(drawn: int, clips: int, queries: int) -> str | None:
    """What the plots leave out."""
    lines = []
    if drawn < clips:
        lines.append(
            f"The scatter draws {drawn} of {clips} clips: the extremes, the selection as far as there is room, and an "
            "even sample of the others. A lasso takes drawn clips only; the sidebar filters all."
        )
    if queries > figures.QUERIES:
        lines.append(f"The matrix shows the first {figures.QUERIES} of {queries} queries, by group.")
    return " ".join(lines) or None


def _notice(ctx: Any, run: str) -> str | None:
    """Somebody is working on the run: what is shown is the last scoring."""
    for job in list_jobs(live=True):
        if job.dataset == ctx.dataset.name and job.run in (run, None):
            step = job.function.replace("_", " ")
            done = f", {job.done} of {job.total}" if job.total else ""
            return (
                f"A job is at work on this run ({step}{done}); what is shown is the last scoring: refresh afterwards."
            )
    return None


def column(gap: int) -> Any:
    """Parts below each other, none wider than the panel: a grid is as wide as its widest part otherwise."""
    narrow = {"grid": {"sx": {"gridTemplateColumns": "minmax(0, 1fr)"}}}
    return types.GridView(orientation="vertical", gap=gap, componentsProps=narrow)


def table(columns: dict[str, str], **events: Any) -> Any:
    """A table of these columns: key -> label. The App's own are at least 650 pixels wide, whatever the panel is."""
    narrow = {
        "table": {"sx": {"minWidth": 0}},
        "tableHeadCell": {"sx": {"px": 1}},
        "tableBodyCell": {"sx": {"px": 1, "fontSize": "1rem", "overflowWrap": "anywhere"}},
    }
    view = types.TableView(componentsProps=narrow, **events)
    for key, label in columns.items():
        view.add_column(key, label=label)
    return view
