"""Many short trainings of one model, in memory: each from the same weights, none of which is kept."""

from __future__ import annotations

from dataclasses import replace

import torch

from motive_fo.models.base import VideoModel
from motive_fo.training.loop import Examples, train, trainable
from motive_fo.training.settings import FinetuneConfig


class RepeatedTraining:
    """A model that is trained again and again. Memory beside one training's: two copies of the
    trained weights.

    Args:
        name: the model's, by which it was loaded.
        loaded: the model; where its network computes in another precision, another copy is trained.
        config: how.

    Attributes:
        model: the model as it is now.
    """

    def __init__(self, name: str, loaded: VideoModel, config: FinetuneConfig) -> None:
        self.model, self._trained = trainable(name, loaded, config)
        self._config = config
        self._weights = [parameter.detach().to("cpu", copy=True) for parameter in self._trained]
        self.model.network.eval()

    def train(self, examples: Examples, seed: int, steps: int | None = None) -> VideoModel:
        """The model trained on some clips from its first weights, until it is trained again: with the mean of its
        weights over the second half of the steps, which depends less on the last batches than the last weights do.

        Args:
            seed: of the order and noise, instead of the settings' own.
            steps: instead of the settings' own.
        """
        self.restore()
        config = replace(self._config, seed=seed, steps=steps or self._config.steps)
        first = config.steps // 2
        mean = [torch.zeros_like(parameter) for parameter in self._trained]

        def add(step: int) -> None:
            if step >= first:
                for total, parameter in zip(mean, self._trained, strict=True):
                    total.add_(parameter.detach(), alpha=1 / (config.steps - first))

        train(self.model, self._trained, examples, config, after=add)
        with torch.no_grad():
            for total, parameter in zip(mean, self._trained, strict=True):
                parameter.copy_(total)
                parameter.grad = None
        return self.model

    @torch.no_grad()
    def restore(self) -> None:
        """Put the first weights back."""
        for parameter, weights in zip(self._trained, self._weights, strict=True):
            parameter.copy_(weights)
