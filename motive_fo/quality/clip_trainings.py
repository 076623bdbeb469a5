"""What ``quality.trainings`` asks for: trainings of a model on encoded clips, and the losses of queries after them.

Shapes: K some clips or queries; a leading 2 is [MOTION, ORDINARY].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from motive_fo.models.base import VideoModel
from motive_fo.models.diffusion.model import DiffusersModel
from motive_fo.models.tiny.model import TinyModel
from motive_fo.pipeline.record import ClipRecord
from motive_fo.quality.losses import Example, mean_losses
from motive_fo.quality.trainings import Floats, Ints
from motive_fo.training.loop import Examples, computing, moved
from motive_fo.training.repeated import RepeatedTraining
from motive_fo.training.settings import FinetuneConfig

#: where losses are measured, as shares of the range of timesteps that the network is for. ``Choice:`` as in the
#: benchmark's trainings; a timestep of the scores is stepped aside from.
_MEASURED = (0.2, 0.4, 0.6, 0.82)
_ASIDE = 0.02
_EMBEDDED_RATE = 6e-4


@dataclass
class ClipTrainings:
    """A model, clips and queries, by their places.

    Attributes:
        training: of the model.
        config: how it is trained.
        timesteps, noises: that losses are measured at; a loss is their mean.
        clips, queries: place -> what it is trained on or measured with, in main memory.
    """

    training: RepeatedTraining
    config: FinetuneConfig
    timesteps: Sequence[float]
    noises: Sequence[int]
    clips: dict[int, tuple[ClipRecord, Example]] = field(default_factory=dict)
    queries: dict[int, Example] = field(default_factory=dict)

    def train(self, clips_K: Ints, repeat: int, steps: int | None = None) -> VideoModel:
        """The model trained on those of the clips that could be encoded, from its first weights."""
        examples = Examples()
        for place in clips_K.tolist():
            if place in self.clips:
                record, example = self.clips[place]
                examples.ids.append(record.id)
                examples.latents.append(example.x0)
                examples.captions.append(record.caption)
                examples.conditions[record.caption] = example.condition
        return self.training.train(examples, self.config.seed + repeat, steps)

    def losses(self, model: VideoModel, queries_K: Ints) -> Floats:
        """Both losses of some queries: (2, K)."""
        device = model.device
        examples = [
            replace(each, x0=each.x0.to(device), condition=moved(each.condition, device))
            for each in (self.queries[place] for place in queries_K.tolist())
        ]
        with computing(model, self.config):
            return mean_losses(model, examples, self.timesteps, self.noises)


def in_memory(example: Example) -> Example:
    """An example on the CPU."""
    return replace(example, x0=example.x0.cpu(), condition=moved(example.condition, "cpu"))


def trial_rate(model: VideoModel) -> float:
    """Learning rate of a trial where none is given: ``finetune``'s, and for the embedded model the benchmark's."""
    return _EMBEDDED_RATE if isinstance(model, TinyModel) else FinetuneConfig.learning_rate


def trial_config(model: VideoModel, timesteps: Sequence[float], config: FinetuneConfig) -> FinetuneConfig:
    """Settings of fine-tuning for a few steps from weights that are to be compared.

    No warm-up, which few steps would not leave; no captions left out, as losses are measured with captions; of a model
    with two experts the range of the one that predicts at these timesteps.
    """
    few = replace(config, warmup=0, caption_dropout=0.0)
    if isinstance(model, DiffusersModel) and model.folder.has("transformer_2"):
        boundary = float(model.folder.index.get("boundary_ratio") or 0) * 1000
        if boundary:
            low = model.network_part(model.folder, tuple(timesteps)) == "transformer_2"
            few = replace(few, highest=boundary) if low else replace(few, lowest=boundary)
    return few


def measured_timesteps(config: FinetuneConfig, used: Sequence[float]) -> tuple[float, ...]:
    """Four timesteps of the trained range that no score was taken at."""
    width = config.highest - config.lowest
    spread = [config.lowest + share * width for share in _MEASURED]
    return tuple(t + _ASIDE * width if any(abs(t - each) < _ASIDE / 2 * width for each in used) else t for t in spread)
