"""How scores are checked on one's own model and data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class AttributionQualityConfig:
    """What is measured of the scores of a run. Retrieval needs labels, training steps and trials the model."""

    clips: Annotated[
        int,
        Field(ge=0, description="training clips a step is taken on, spread over the ranks of the scores; 0 takes none"),
    ] = 24
    queries: Annotated[int, Field(ge=3, description="queries whose loss is measured, drawn from those of the run")] = 8
    step: Annotated[
        float, Field(gt=0, lt=1, description="length of a training step, as a share of the norm of the weights")
    ] = 1e-3  # Choice: about a step of AdamW at a learning rate of 1e-4, which is 1.3e-3 for the embedded model
    rule: Annotated[
        Literal["sgd", "sign"],
        Field(description="direction of a step: the gradient, or its signs as in the first step of Adam"),
    ] = "sgd"
    step_loss: Annotated[
        Literal["ordinary", "motion"],
        Field(description="loss of a step: ordinary is what fine-tuning takes, motion is weighted by the motion mask"),
    ] = "ordinary"
    draws: Annotated[
        int, Field(ge=2, description="draws of noise for a step, and as many others that losses are measured at")
    ] = 2
    precision: Annotated[
        Literal["float32", "run"],
        Field(description="of the network that takes the steps; bfloat16 loses most of a short step"),
    ] = "float32"
    trial: Annotated[
        bool,
        Field(
            description="instead of single steps, train a little on the selection and on random clips: is the ranking "
            "worth training on?"
        ),
    ] = False
    trial_steps: Annotated[int, Field(ge=1, description="trial: steps of each training")] = 40
    repeats: Annotated[
        int, Field(ge=3, description="trial: trainings of each set, with other random clips and another seed each")
    ] = 8
    batch: Annotated[
        int | None,
        Field(ge=1, description="trial: clips of each step; where open as pass the selection four times, 16 at most"),
    ] = None
    learning_rate: Annotated[
        float | None,
        Field(gt=0, description="trial: of AdamW, constant; where open 1e-4, and 6e-4 for the embedded model"),
    ] = None
    lora: Annotated[
        int | None,
        Field(ge=1, description="trial: rank of a LoRA on the attention; the whole network is trained where open"),
    ] = None
    resamples: Annotated[int, Field(ge=100, description="bootstrap resamples behind every interval")] = 2000
    confidence: Annotated[float, Field(gt=0, lt=1, description="level of the intervals")] = 0.95
    seed: Annotated[
        int, Field(ge=0, description="of the bootstrap, of random scores, of which clips are taken, of the trial")
    ] = 0
