"""``motive doctor``: is this machine ready?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from motive_fo.config import AttributionConfig, ClipConfig, merge

from .completion import dataset_names
from .options import changes, settings_options
from .output import Output, output_options


@click.command("doctor")
@click.option("--dataset", shell_complete=dataset_names, help="also check the runs of this dataset")
@click.option("--run", help="only this run of it; all where open")
@click.option("--model", help="also load this model and compare sketches that should be equal")
@click.option("--clip", "video", type=click.Path(dir_okay=False, path_type=Path), help="a real clip for that")
@settings_options(AttributionConfig, only=("device", "precision", "checkpointing"))
@settings_options(ClipConfig, only=("fps", "frames", "height", "width"))
@output_options(progress=False)
def doctor_command(
    dataset: str | None, run: str | None, model: str | None, video: Path | None, out: Output, **given: Any
) -> None:
    """Check environment, decoders, model, database and stores. Exit code 1 if anything fails.

    With --dataset, what a run claims is checked: checksums, missing chunks, rows without numbers, ids twice, rows
    without a sample, gradients of outlying length, scores that are all alike, fields and record against the store.

    With --model, sketches of a clip are compared: alone, repeated, after others and in float32; it says which setting
    is safe. The other options say how, and do nothing without it.

    \b
    motive doctor
    motive doctor --dataset my-clips --run motive
    motive doctor --model path/to/Wan2.1-T2V-1.3B-Diffusers --clip clip.mp4
    """
    from motive_fo.doctor import examine

    attribution = None
    if model is not None:
        attribution = merge(AttributionConfig(model=model), changes(AttributionConfig, given), "attribution")
    clip = merge(ClipConfig(), changes(ClipConfig, given), "clip")
    findings = examine(dataset, run, attribution=attribution, clip=clip, video=video)
    width = max(len(finding.subject) for finding in findings)
    lines = [f"{finding.level:<5} {finding.subject:<{width}}  {finding.text}" for finding in findings]
    out.emit([asdict(finding) for finding in findings], lines)
    click.get_current_context().exit(1 if any(finding.level == "fail" for finding in findings) else 0)
