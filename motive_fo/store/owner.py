"""Whose a store is: the one run that may write to it and delete it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Owner:
    """A run, as its store knows it.

    Attributes:
        run: the run's id, which no other run has.
        dataset, database: ids of where its record is.
        generation: raised by every step that writes; a record that has seen fewer is older than the store.
        name, dataset_name: for people, as they were when it was written last.
        begun_with: what the record needs to be made again, ``preset``, ``settings`` and what names its clips.
    """

    run: str
    dataset: str
    database: str
    generation: int
    name: str
    dataset_name: str
    begun_with: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"run {self.name!r} of dataset {self.dataset_name!r}"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for the store's attributes."""
        return asdict(self)

    @classmethod
    def read(cls, attributes: Mapping[str, Any]) -> Self | None:
        """Of a store's attributes; None for a store that was written before stores had owners."""
        known = attributes.get("owner")
        return None if known is None else cls(**known)
