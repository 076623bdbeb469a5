"""``motive jobs``: the steps that the App runs in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .output import Output, output_options

if TYPE_CHECKING:
    from motive_fo.dataset.jobs import Job


@click.group("jobs")
def jobs_group() -> None:
    """List and cancel jobs: steps in the background, started from the App or from Python."""


@jobs_group.command("list")
@click.option("--live", is_flag=True, help="only those that still run")
@output_options(progress=False)
def list_command(live: bool, out: Output) -> None:
    """The jobs of this machine, the newest first, with their progress.

    \b
    motive jobs list
    motive jobs list --live --json
    """
    from motive_fo.dataset.jobs import list_jobs

    jobs = list_jobs(live=live)
    out.emit([job.as_dict() for job in jobs], [job_line(job) for job in jobs] or ["no jobs"])


@jobs_group.command("cancel")
@click.argument("job")
@output_options(progress=False)
def cancel_command(job: str, out: Output) -> None:
    """Stop JOB. What it computed is kept: the same step goes on from there.

    \b
    motive jobs cancel 20260102-030405-a1b2c3
    """
    from motive_fo.dataset.jobs import cancel_job

    cancelled = cancel_job(job)
    out.emit(cancelled.as_dict(), [job_line(cancelled)])


def job_line(job: Job) -> str:
    """A job in one line."""
    from motive_fo.progress import duration

    about = f"{job.id}  {job.state:<9}  {job.function} {job.dataset or ''}".rstrip()
    if job.is_live and job.total:
        left = "" if job.left is None else f", about {duration(job.left)} left"
        return f"{about}: {job.step} {job.done} of {job.total}{left}"
    said = job.error or job.message
    return f"{about}: {said}" if said else about
