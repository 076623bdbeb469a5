"""Many short trainings of one model, in memory: each from the same weights, none of which is kept."""

from __future__ import annotations

from dataclasses import replace

import torch

from motive_fo.models.base import VideoModel
from motive_fo.training.loop import Examples, train, trainable
from motive_fo.training.settings import FinetuneConfig


class RepeatedTraining:
    """A model that is trained again and again. Memory beside one training's: a copy of the trained weights.

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
        """The model trained on some clips from its first weights, until it is trained again.

        Args:
            seed: of the order and noise, instead of the settings' own.
            steps: instead of the settings' own.
        """
        self.restore()
        config = self._config
        train(self.model, self._trained, examples, replace(config, seed=seed, steps=steps or config.steps))
        for parameter in self._trained:
            parameter.grad = None
        return self.model

    @torch.no_grad()
    def restore(self) -> None:
        """Put the first weights back."""
        for parameter, weights in zip(self._trained, self._weights, strict=True):
            parameter.copy_(weights)
