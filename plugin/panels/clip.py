"""The panel beside a clip in the modal: how the clip moves, and what it does to the queries or who helps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import fiftyone.operators as foo
from fiftyone.operators import types

from motive_fo.dataset.exploration import Exploration, explore, obstacle
from motive_fo.dataset.imports import ID_FIELD
from motive_fo.dataset.motion_report import motion_settings
from motive_fo.dataset.run_record import RunRecord, list_runs, load_run
from motive_fo.errors import CLIP_CODES, MotiveError
from motive_fo.influence.doubt import rank_text

from . import figures
from .influence import column, elsewhere, open_clip, shown_run, table

LISTED: Final = 10  # clips at each end of a query
EFFECTS: Final = 100  # queries of a training clip

#: field of the run -> (what it is called, unit)
_STATISTICS: Final = {
    "motion_mean": ("mean motion", "px per frame"),
    "motion_p95": ("95th percentile of motion", "px per frame"),
    "motion_peak": ("strongest percent of pixels", "px per frame"),
    "camera_share": ("camera share", "0 to 1"),
    "moving_share": ("moving share", "0 to 1"),
    "smoothness": ("smoothness", "0 to 1"),
    "dynamic_score": ("dynamic score", "above 1: dynamic"),
    "cuts": ("scene cuts", "in the clip"),
    "influence": ("motion influence", "mean percentile rank, 0 to 100"),
    "votes": ("votes", "queries"),
    "selected": ("place in the selection", "1 is best"),
    "loss": ("diffusion loss", "of the model on the clip"),
}
_FIELDS: Final = ("status", "code", "error", "adjustment", "motion_curve", "influence_doubt", *_STATISTICS)


@dataclass(frozen=True)
class _Clip:
    """One sample of a run.

    Attributes:
        id: its clip id.
        values: field of the run -> value.
    """

    id: str
    values: dict[str, Any]


class ClipMotion(foo.Panel):
    """See the module's text. State: run, heading, text, kind, left, right (sample ids of the rows), query_dataset."""

    @property
    def config(self) -> Any:
        return foo.PanelConfig(
            name="clip_motion",
            label="Motion of this clip",
            icon="animation",
            surfaces="modal",
            help_markdown="How this clip moves, which queries it helps or hurts, and who helps or hurts a query.",
        )

    # -- events -------------------------------------------------------------------------------------------------------

    def on_load(self, ctx: Any) -> None:
        ctx.panel.set_state("run", shown_run(ctx))
        self._show(ctx)

    def on_change_current_sample(self, ctx: Any) -> None:
        """Another clip is in the modal."""
        self.on_load(ctx)

    def change_run(self, ctx: Any) -> None:
        """The same clip in another run."""
        ctx.panel.set_state("run", ctx.params.get("value"))
        self._show(ctx)

    def open_cell(self, ctx: Any) -> None:
        """The clip of a cell: of the query, or of the side that helps or hurts."""
        row, column = ctx.params.get("row"), ctx.params.get("column")
        right = isinstance(column, int) and column >= 2 and ctx.panel.get_state("kind") == "query"
        ids = ctx.panel.get_state("right" if right else "left") or []
        if not isinstance(row, int) or not 0 <= row < len(ids):
            return
        other = ctx.panel.get_state("query_dataset") if ctx.panel.get_state("kind") == "train" else None
        if other:
            open_clip(ctx, ids[row], elsewhere(other))
        else:
            open_clip(ctx, ids[row])

    # -- what is shown ------------------------------------------------------------------------------------------------

    def _show(self, ctx: Any) -> None:
        for name in ("heading", "text", "kind", "left", "right", "fps", "has_curve", "query_dataset"):
            ctx.panel.set_state(name, None)
        try:
            self._fill(ctx)
        except MotiveError as error:
            ctx.panel.set_state("text", str(error))

    def _fill(self, ctx: Any) -> None:
        run = ctx.panel.get_state("run")
        if not run:
            ctx.panel.set_state("heading", "This dataset has no run yet")
            ctx.panel.set_state("text", "Compute the motion of its clips first: the operator *Motive: compute motion*.")
            return
        clip = _read_clip(ctx, run)
        if clip is None:
            ctx.panel.set_state("heading", "No clip is open")
            return
        status = clip.values.get("status")
        if status is None:
            ctx.panel.set_state("heading", f"This clip is not in run {run!r}")
            ctx.panel.set_state(
                "text",
                "Nothing was computed for it: compute motion or gradients with this clip among those chosen, or choose "
                "another run.",
            )
            return
        record = load_run(ctx.dataset, run)
        ctx.panel.set_state("heading", clip.id)
        ctx.panel.set_state("text", _state_text(clip))
        ctx.panel.set_data("statistics", _statistics(clip))
        curve = clip.values.get("motion_curve") or []
        fps = _rate(record)
        ctx.panel.set_state("fps", fps)
        ctx.panel.set_state("has_curve", bool(curve))
        ctx.panel.set_data("curve", figures.motion_line(curve, fps))
        hindrance = obstacle(record)
        if hindrance is not None:
            ctx.panel.set_state("text", f"{_state_text(clip)}\n\n{hindrance.text}")
            return
        self._relate(ctx, clip, explore(ctx.dataset, record), record)

    def _relate(self, ctx: Any, clip: _Clip, exploration: Exploration, record: RunRecord) -> None:
        """The table of who helps whom."""
        config = record.section("selection")
        trains, asks = exploration.role(clip.id)
        ids = exploration.scored.sample_ids
        if asks:
            best, worst = exploration.ends(clip.id, LISTED, config)
            rows = []
            for n, (helper, cosine) in enumerate(best):
                harmer, harm = worst[n] if n < len(worst) else ("", None)
                rows.append(
                    {
                        "id": str(n),
                        "helps": helper,
                        "cosine": f"{cosine:.3f}",
                        "hurts": harmer,
                        "harm": "" if harm is None else f"{harm:.3f}",
                    }
                )
            ctx.panel.set_state("kind", "query")
            ctx.panel.set_state("left", [ids.get(helper) for helper, _ in best])
            ctx.panel.set_state("right", [ids.get(harmer) for harmer, _ in worst])
            ctx.panel.set_data("relations", rows)
        elif trains:
            effects = exploration.effects(clip.id, config)
            if not effects:
                return
            count = exploration.ranked_count(config)
            shown = effects if len(effects) <= EFFECTS else effects[: EFFECTS // 2] + effects[-EFFECTS // 2 :]
            ctx.panel.set_state("kind", "train")
            ctx.panel.set_state("query_dataset", record.query_dataset)
            ctx.panel.set_state("left", [ids.get(effect.query.id) for effect in shown])
            ctx.panel.set_data(
                "relations",
                [
                    {
                        "id": effect.query.id,
                        "query": f"{effect.query.group}: {effect.query.id}" if effect.query.group else effect.query.id,
                        "word": effect.word + (" (to avoid)" if effect.query.avoid else ""),
                        "place": f"{effect.place} of {count}",
                        "cosine": f"{effect.cosine:.3f}",
                    }
                    for effect in shown
                ],
            )

    def render(self, ctx: Any) -> Any:
        panel = types.Object()
        state = ctx.panel.get_state
        runs = list_runs(ctx.dataset)
        if len(runs) > 1:
            choices = types.DropdownView()
            for run in runs:
                choices.add_choice(run, label=run)
            panel.enum(
                "run", choices.values(), label="Run", view=choices, default=state("run"), on_change=self.change_run
            )
        if state("heading"):
            panel.md(f"**{state('heading')}**", name="heading_text")
        if state("text"):
            panel.md(state("text"), name="text_text")
        if state("has_curve"):
            layout = figures.CURVE_LAYOUT if state("fps") else figures.CURVE_LAYOUT_STEPS
            panel.plot("curve", layout=layout, config={"scrollZoom": False}, height="260px")
        if state("kind") == "query":
            panel.md("**Who helps and who hurts this query (a click opens the clip)**", name="relations_title")
            columns = {"helps": "helps most", "cosine": "cosine", "hurts": "hurts most", "harm": "cosine"}
            panel.list("relations", types.Object(), view=table(columns, on_click_cell=self.open_cell))
        elif state("kind") == "train":
            opens = elsewhere(state("query_dataset")) if state("query_dataset") else "A click opens the query."
            panel.md(f"**What this clip does to the queries.** {opens}", name="relations_title")
            columns = {"query": "query", "word": "", "place": "rank", "cosine": "cosine"}
            panel.list("relations", types.Object(), view=table(columns, on_click_cell=self.open_cell))
        if state("has_curve"):
            panel.list(
                "statistics", types.Object(), view=table({"name": "statistic", "value": "value", "unit": "unit"})
            )
        return types.Property(panel, view=column(gap=1))


def _read_clip(ctx: Any, run: str) -> _Clip | None:
    """The sample in the modal; None where there is none."""
    if not ctx.current_sample:
        return None
    view = ctx.dataset.select(ctx.current_sample)
    schema = ctx.dataset.get_field_schema(flat=True)
    paths = [path for path in (ID_FIELD, *(f"{run}.{name}" for name in _FIELDS)) if path in schema]
    sample_ids, *columns = view.values(["id", *paths])
    if not sample_ids:
        return None
    values = {path.removeprefix(f"{run}."): column[0] for path, column in zip(paths, columns, strict=True)}
    return _Clip(values.pop(ID_FIELD, None) or sample_ids[0], values)


def _state_text(clip: _Clip) -> str:
    status, code, error = (clip.values.get(name) for name in ("status", "code", "error"))
    words = {
        "described": "Its motion is known; gradients are not computed yet.",
        "sketched": "Its gradients are known.",
        "scored": "It is scored.",
        "static": "It is static: nothing in it moves by more than the static floor.",
        "failed": "It failed.",
    }
    lines = [f"**{status}**: {words.get(str(status), '')}"]
    if code:
        sentence, way_out = CLIP_CODES.get(code, ("", ""))
        lines.append(f"`{code}`: {sentence} {way_out}")
    if error:
        lines.append(str(error))
    if clip.values.get("adjustment"):
        lines.append(f"The video was too short: {clip.values['adjustment']}.")
    return "\n\n".join(lines)


def _statistics(clip: _Clip) -> list[dict[str, str]]:
    rows = []
    for name, (title, unit) in _STATISTICS.items():
        value = clip.values.get(name)
        if value is not None:
            text = str(value) if isinstance(value, int) else f"{value:.3g}"
            if name == "influence":
                text = rank_text(value, clip.values.get("influence_doubt"))
            rows.append({"id": name, "name": title, "value": text, "unit": unit})
    return rows


def _rate(record: RunRecord) -> float | None:
    """Frames per second of the run's clips; None where its model cannot be found."""
    try:
        return float(motion_settings(record).spec.fps)
    except MotiveError:
        return None
