"""How a model is fine-tuned, and how clips are generated with it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class FinetuneConfig:
    """Training by the model's own objective: the ordinary loss, no motion mask."""

    steps: Annotated[int, Field(ge=1, description="training steps; the same for all sets that are compared")] = 300
    batch: Annotated[int, Field(ge=1, description="clips of each step")] = 8
    learning_rate: Annotated[float, Field(gt=0, description="of AdamW, constant after the warm-up")] = 1e-4
    warmup: Annotated[int, Field(ge=0, description="steps in which the learning rate grows to its value")] = 10
    weight_decay: Annotated[float, Field(ge=0, description="of AdamW")] = 0.01
    clip_norm: Annotated[float, Field(gt=0, description="larger gradients are scaled down to this norm")] = 1.0
    caption_dropout: Annotated[
        float, Field(ge=0, le=1, description="share of clips shown without caption, for guidance when generating")
    ] = 0.1
    shift: Annotated[
        float, Field(gt=0, description="noise levels are drawn logit-normal and shifted; above 1 towards noise")
    ] = 3.0
    lowest: Annotated[float, Field(ge=0, lt=1000, description="least timestep that is drawn")] = 0.0
    highest: Annotated[float, Field(gt=0, le=1000, description="greatest timestep that is drawn")] = 1000.0
    lora: Annotated[
        int | None, Field(ge=1, description="rank of a LoRA on the attention; the whole network is trained where open")
    ] = None
    seed: Annotated[int, Field(ge=0, description="of the order of clips and of their noise")] = 0
    save_every: Annotated[int, Field(ge=1, description="steps after which a stopped training loses nothing")] = 100
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Field(description="numbers it computes with; auto: bfloat16 on a GPU, float32 elsewhere"),
    ] = "auto"
    checkpointing: Annotated[
        Literal["auto", "on", "off"],
        Field(description="compute activations again instead of keeping them; auto: for large networks"),
    ] = "auto"
    device: Annotated[str, Field(description="auto, cpu, cuda or cuda:N")] = "auto"
    time_limit: Annotated[float, Field(gt=0, description="decoding one clip may take this many seconds")] = 60.0


@dataclass(frozen=True, config=_STRICT)
class GenerateConfig:
    """What kind of clips are made. What is left open is the model's own default."""

    frames: Annotated[int | None, Field(ge=2, description="frames of each clip; the model's own where open")] = None
    height: Annotated[int | None, Field(ge=1, description="rows, in pixels; the model's own where open")] = None
    width: Annotated[int | None, Field(ge=1, description="columns, in pixels; the model's own where open")] = None
    sampling_steps: Annotated[
        int | None, Field(ge=1, description="steps from noise to clip; the model's own where open")
    ] = None
    guidance: Annotated[
        float | None, Field(ge=0, description="how closely the prompt is followed; the model's own where open")
    ] = None
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Field(description="numbers it computes with; auto: bfloat16 on a GPU, float32 elsewhere"),
    ] = "auto"
    device: Annotated[str, Field(description="auto, cpu, cuda or cuda:N")] = "auto"
