"""``motive doctor``: is this machine ready?"""

from __future__ import annotations

from dataclasses import asdict

import click

from .completion import dataset_names
from .output import Output, output_options


@click.command("doctor")
@click.option("--dataset", shell_complete=dataset_names, help="also read the stores of this dataset's runs")
@output_options(progress=False)
@click.pass_context
def doctor_command(ctx: click.Context, dataset: str | None, out: Output) -> None:
    """Check environment, decoders, model, database and stores. Exit code 1 if anything fails.

    \b
    motive doctor
    motive doctor --dataset my-clips
    """
    from motive_fo.doctor import examine

    findings = examine(dataset)
    width = max(len(finding.subject) for finding in findings)
    lines = [f"{finding.level:<5} {finding.subject:<{width}}  {finding.text}" for finding in findings]
    out.emit([asdict(finding) for finding in findings], lines)
    ctx.exit(1 if any(finding.level == "fail" for finding in findings) else 0)
