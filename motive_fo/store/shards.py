"""One run's clips split over the jobs of an array: which clips a job takes, and the store of its own it writes to.

No two jobs write to one store, so none can lose another's rows; ``merge.merge_stores`` joins the stores afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from motive_fo.errors import ConfigError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """Job ``number`` (from 1) of ``count``."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``2/8``. Raises ``ConfigError``."""
        found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigError(f"shard: {text!r}: a shard reads I/N, with I from 1 to N: 2/8 is the second of eight")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def take(self, items: Sequence[Item]) -> Sequence[Item]:
        """Its part of a sequence: one run of items; the parts of all shards are the whole, and as long as each other
        to within one."""
        low, high = ((number * len(items)) // self.count for number in (self.number - 1, self.number))
        return items[low:high]

    def place(self, store: str | Path) -> str:
        """Folder or URL of its store, beside the run's."""
        folder, slash, name = str(store).rpartition("/")
        return f"{folder}{slash}{Path(name).stem}.shard-{self.number}-of-{self.count}{Path(name).suffix}"


def unsharded(store: str) -> str:
    """The run's store beside which a shard's lies; any other store as it is."""
    return re.sub(r"\.shard-\d+-of-\d+(?=(\.[^./]*)?$)", "", store)
