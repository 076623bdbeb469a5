"""Fine-tuning on clips, and generating clips, by the name of where clips and prompts are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from motive_fo.config import merge
from motive_fo.dataset.sources import named_clips
from motive_fo.errors import InputError
from motive_fo.models.diffusion.folder import absolute_name
from motive_fo.progress import Progress, silent
from motive_fo.training.finetune import FinetuneReport, finetune_clips
from motive_fo.training.generated import GenerateReport, generate_clips, read_prompts
from motive_fo.training.settings import FinetuneConfig, GenerateConfig


def finetune(
    source: Any,
    folder: str | Path,
    model: str = "tiny",
    *,
    config: FinetuneConfig | Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> FinetuneReport:
    """Fine-tune a model on clips; the folder that is written is a model again. See ``finetune_clips``.

    Args:
        source: an export, a folder or listing of clips, ``DATASET:VIEW``, ``dataset:NAME``, or a view of FiftyOne's.
        folder: new, empty, or an earlier model of ours with ``overwrite``.
        model: what is trained, by name.
        config: settings, whole or only the ones to change.

    Raises:
        MotiveError: wrong settings, no such source or model, no clip that can be trained on, a folder in use.
    """
    settings: FinetuneConfig = merge(FinetuneConfig(), config, "finetune")
    clips = named_clips(source)
    return finetune_clips(
        clips.records,
        folder,
        absolute_name(model),
        clip=clips.clip,
        config=settings,
        overwrite=overwrite,
        about={"source": clips.label},
        progress=progress,
    )


def generate(
    prompts: Any,
    folder: str | Path,
    model: str = "tiny",
    *,
    seeds: Sequence[int] = (0,),
    config: GenerateConfig | Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> GenerateReport:
    """Let a model make a clip of every prompt with every seed. See ``generate_clips``.

    Args:
        prompts: a list of texts; a text file, one prompt in each line; a folder of text files, one prompt each; or any
            source of clips, whose captions are taken.
        folder: new, empty, or begun by the same call.
        model: what makes the clips, by name.
        seeds: of the noise.
        config: settings, whole or only the ones to change.

    Raises:
        MotiveError: wrong settings, no prompts, a model that is not there or does not generate, a folder in use.
    """
    settings: GenerateConfig = merge(GenerateConfig(), config, "generate")
    return generate_clips(
        _prompts(prompts), folder, absolute_name(model), seeds=seeds, config=settings, progress=progress
    )


def _prompts(source: Any) -> list[str]:
    if isinstance(source, list | tuple):
        return [str(text) for text in source]
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        if path.is_file() and path.suffix.lower() == ".txt":
            return read_prompts(path)
        if path.is_dir() and next(path.rglob("*.txt"), None) is not None:
            return read_prompts(path)
    clips = named_clips(source)
    captions = [record.caption for record in clips.records if record.caption]
    if not captions:
        raise InputError(f"the clips of {clips.label} have no captions to generate from: give a text file of prompts")
    return captions
