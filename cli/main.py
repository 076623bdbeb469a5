"""``motive``: the group, its error boundary, and the commands, each loaded when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from motive_fo import __version__
from motive_fo.errors import MotiveError

_COMMANDS = {
    "import": "steps:import_command",
    "motion": "motion:motion_group",
    "gradients": "steps:gradients_command",
    "influence": "steps:influence_command",
    "curate": "steps:curate_command",
    "export": "steps:export_command",
    "run": "steps:run_command",
    "runs": "runs:runs_group",
    "app": "app:app_command",
    "doctor": "doctor:doctor_command",
    "plugin": "plugins:plugin_group",
    "demo": "demo:demo_command",
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

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MotiveError as error:
            raise _Refusal(" ".join(str(error).split())) from error
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
    """
