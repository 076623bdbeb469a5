"""``motive``: the group, its error boundary, and the commands, each loaded when it is used."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from motive_fo import __version__
from motive_fo.errors import MotiveError, is_out_of_memory, not_enough_memory

_COMMANDS = {
    "import": "steps:import_command",
    "motion": "motion:motion_group",
    "gradients": "steps:gradients_command",
    "influence": "steps:influence_command",
    "curate": "curate:curate_command",
    "what-if": "curate:what_if_command",
    "queries": "queries:queries_group",
    "report": "report:report_command",
    "survival": "exports:survival_command",
    "export": "exports:export_command",
    "baselines": "exports:baselines_command",
    "finetune": "finetune:finetune_command",
    "generate": "finetune:generate_command",
    "evaluate": "evaluate:evaluate_group",
    "run": "steps:run_command",
    "scores": "scores:scores_command",
    "runs": "runs:runs_group",
    "store": "stores:store_group",
    "encodings": "encodings:encodings_group",
    "overlays": "overlays:overlays_group",
    "map": "maps:map_command",
    "workspace": "workspace:workspace_command",
    "jobs": "jobs:jobs_group",
    "app": "app:app_command",
    "doctor": "doctor:doctor_command",
    "plugin": "plugins:plugin_group",
    "demo": "demo:demo_command",
    "completion": "completion:completion_command",
}


class _Refusal(click.ClickException):
    """Wrong use: one clean line, exit code 2."""

    exit_code = 2


class LazyGroup(click.Group):
    """Loads a command's module when the command is asked for, and turns our errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(import_module(f"{__package__}.{module}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # click suggests near names only from a group's loaded commands, and here they are not
        if not ctx.resilient_parsing and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            near = get_close_matches(args[0], self.list_commands(ctx))
            hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MotiveError as error:
            raise _Refusal(" ".join(str(error).split())) from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise _Refusal(str(not_enough_memory(error))) from error
        except KeyboardInterrupt:
            click.echo("stopped; what was computed is kept, the same command goes on from there", err=True)
            ctx.exit(130)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="motive")
def main() -> None:
    """Which clips teach a video diffusion model good motion?

    \b
    motive demo                                  a small corpus, start to end
    motive import clips/ my-clips                a folder of clips into a FiftyOne dataset
    motive import wanted/ my-clips --role query  clips that show the motion you want
    motive gradients my-clips                    motion, gradients, sketches
    motive influence my-clips                    which clips help the queries
    motive curate my-clips --budget 0.1          votes, ranks, saved views
    motive export my-clips selected/             a folder a trainer reads
    motive app my-clips                          look at it
    motive run --init all.yaml                   the same from one file, every setting explained
    """
