"""``motive doctor``: is this machine ready?"""

from __future__ import annotations

from dataclasses import asdict

import click

from .output import emit


@click.command("doctor")
@click.option("--dataset", help="also read the stores of this dataset's runs")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
@click.pass_context
def doctor_command(ctx: click.Context, dataset: str | None, as_json: bool) -> None:
    """Check environment, decoders, model, database and stores. Exit code 1 if anything fails."""
    from motive_fo.doctor import examine

    findings = examine(dataset)
    width = max(len(finding.subject) for finding in findings)
    lines = [f"{finding.level:<5} {finding.subject:<{width}}  {finding.text}" for finding in findings]
    emit([asdict(finding) for finding in findings], lines, as_json)
    ctx.exit(1 if any(finding.level == "fail" for finding in findings) else 0)
