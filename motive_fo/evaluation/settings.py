"""How clips are looked at when their motion is evaluated. ``FlowConfig`` says by which estimator."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class EvaluationConfig:
    """What is measured of every clip. All sets are measured alike: their numbers are to be compared."""

    seconds: Annotated[
        float, Field(gt=0, description="of longer clips so many seconds from their beginning are measured")
    ] = 6.0
    short_side: Annotated[
        int, Field(ge=16, description="larger frames are scaled down to so many pixels on their short side")
    ] = 256  # Choice: the size at which VBench's threshold of motion is 6 pixels
    time_limit: Annotated[float, Field(gt=0, description="decoding one clip may take this many seconds")] = 60.0
    resamples: Annotated[int, Field(ge=100, description="bootstrap resamples behind every interval")] = 10_000
    confidence: Annotated[float, Field(gt=0, lt=1, description="level of the intervals")] = 0.95
    seed: Annotated[int, Field(ge=0, description="seed of the bootstrap")] = 0
