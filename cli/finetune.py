"""``motive finetune`` and ``motive generate``: train on a selection, and see what the model makes then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from motive_fo.training.settings import FinetuneConfig, GenerateConfig

from .options import changes, listed, settings_options
from .output import Output, output_options

if TYPE_CHECKING:
    from motive_fo.training.finetune import FinetuneReport
    from motive_fo.training.generated import GenerateReport

_seeds_option = click.option(
    "--seeds",
    callback=listed(int),
    metavar="N[,N...]",
    help="of the noise, a clip of each prompt for each [default: 0]",
)


@click.command("finetune")
@click.argument("source")
@click.argument("folder", type=click.Path())
@click.option("--model", default="tiny", show_default=True, help="what is trained: a video model by name")
@settings_options(FinetuneConfig)
@click.option("--overwrite", is_flag=True, help="replace a model that an earlier call wrote into the folder")
@click.option("--generate", "prompts", help="prompts of clips that the trained model makes at once: motive generate")
@click.option("--to", type=click.Path(), help="folder of these clips")
@_seeds_option
@output_options(details=True)
def finetune_command(
    source: str,
    folder: str,
    model: str,
    overwrite: bool,
    prompts: str | None,
    to: str | None,
    seeds: tuple[int, ...] | None,
    out: Output,
    **given: Any,
) -> None:
    """Fine-tune a model on the clips of SOURCE; FOLDER is then a model for --model. A plain trainer, one device.

    SOURCE is an export, a folder or listing, DATASET:VIEW or dataset:NAME. Stopped, the same command goes on.

    \b
    motive finetune "my-clips:motive: selection" models/selection
    motive finetune trainings/random-0 models/random --steps 500 --seed 1
    motive finetune selected/ models/wan --model Wan-AI/Wan2.1-T2V-1.3B-Diffusers --lora 16
    motive finetune selected/ models/selection --generate prompts.txt --to made/selection
    """
    import motive_fo

    if (prompts is None) != (to is None):
        raise click.UsageError("--generate PROMPTS and --to FOLDER go together")
    with out.progress() as progress:
        report = motive_fo.finetune(
            source, folder, model, config=changes(FinetuneConfig, given), overwrite=overwrite, progress=progress
        )
        made = None
        if prompts is not None and to is not None:
            made = motive_fo.generate(
                prompts,
                to,
                folder,
                seeds=(0,) if seeds is None else seeds,
                config=changes(GenerateConfig, {"device": given["device"]}),
                progress=progress,
            )
    data = {**report.as_dict(), **({} if made is None else {"generated": made.as_dict()})}
    out.emit(data, [*_finetune_lines(report), *(_generate_lines(made) if made else [])])
    out.detail([f"left out: {name}: {why}" for name, why in report.failed.items()])


@click.command("generate")
@click.argument("prompts")
@click.argument("folder", type=click.Path())
@click.option("--model", default="tiny", show_default=True, help="what makes the clips: a video model by name")
@_seeds_option
@settings_options(GenerateConfig)
@output_options(details=True)
def generate_command(
    prompts: str, folder: str, model: str, seeds: tuple[int, ...] | None, out: Output, **given: Any
) -> None:
    """Let a model make a clip of each of PROMPTS with each seed, into FOLDER. Clips that are there are kept.

    PROMPTS is a text file with one in each line, a folder of text files, or clips whose captions are taken: a folder,
    a listing, DATASET:VIEW, DATASET:TAG.

    \b
    motive generate prompts.txt made/base
    motive generate my-clips:query made/selection --model models/selection --seeds 0,1,2
    """
    import motive_fo

    with out.progress() as progress:
        made = motive_fo.generate(
            prompts,
            folder,
            model,
            seeds=(0,) if seeds is None else seeds,
            config=changes(GenerateConfig, given),
            progress=progress,
        )
    out.emit(made.as_dict(), _generate_lines(made))
    out.detail([f"not made: {file}: {why}" for file, why in made.failed.items()])


def _finetune_lines(report: FinetuneReport) -> list[str]:
    if report.unchanged:
        return [f"finetune: {report.folder} is this model already: nothing is changed"]
    lines = [
        f"finetune: {report.steps} steps on {report.clips} clips, {report.passes:.1f} passes, {report.seconds:.0f} s; "
        f"loss {report.first_loss:.4f} at first, {report.last_loss:.4f} at last"
    ]
    if report.without_caption:
        lines.append(f"  {report.without_caption} without a caption")
    if report.resumed_at:
        lines.append(f"  went on from step {report.resumed_at}")
    if report.failed:
        first = next(iter(report.failed.items()))
        lines.append(f"  {len(report.failed)} clips left out, the first: {first[0]} ({first[1]})")
    return [*lines, f"  a model: --model {report.folder}"]


def _generate_lines(report: GenerateReport) -> list[str]:
    lines = [f"generate: {report.clips} clips in {report.folder}, {report.made} made now"]
    if report.failed:
        first = next(iter(report.failed.items()))
        lines.append(f"  {len(report.failed)} could not be made, the first: {first[0]} ({first[1]})")
    return lines
