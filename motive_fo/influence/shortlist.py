"""From an order to the clips that are taken: quotas, and near-duplicates in gradient space.

Shapes: K clips taken, D numbers in a sketch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from motive_fo.errors import ConfigError
from motive_fo.influence.selection import budget_count

#: clip ids -> their sketches (M, D), NaN where there is none.
Sketches = Callable[[Sequence[str]], npt.NDArray[np.float32]]

_QUOTA = re.compile(r"(?P<kind>tag|caption):(?P<what>.+?)\s*(?P<sign><=|>=)\s*(?P<share>[0-9.]+)(?P<percent>%?)")
_BLOCK = 1024


@dataclass(frozen=True)
class Quota:
    """A bound on the share of the selection that carries a tag, or whose caption matches a pattern.

    Attributes:
        text: the quota as it was written.
        kind: ``tag`` or ``caption``.
        what: the tag; or a regular expression, searched in the caption whatever its case.
        share: 0 to 1, of the clips that may be taken.
        at_least: a lower bound, not an upper one.
    """

    text: str
    kind: str
    what: str
    share: float
    at_least: bool

    @classmethod
    def parse(cls, text: str) -> Quota:
        """Read ``tag:NAME<=0.2`` or ``caption:PATTERN>=10%``. Raises ``ConfigError``."""
        found = _QUOTA.fullmatch(text.strip())
        try:
            share = float(found["share"]) / (100 if found["percent"] else 1) if found else -1
            if found is None or not 0 <= share <= 1:
                raise ValueError("a quota reads tag:NAME<=0.2 or caption:PATTERN>=0.1, with a share from 0 to 1")
            if found["kind"] == "caption":
                re.compile(found["what"])
        except (ValueError, re.error) as error:
            raise ConfigError(f"selection.quotas: {text!r}: {error}") from None
        return cls(text, found["kind"], found["what"], share, found["sign"] == ">=")

    def holds(self, tags: Sequence[str], caption: str) -> bool:
        """Whether a clip counts towards it."""
        if self.kind == "tag":
            return self.what in tags
        return re.search(self.what, caption, re.IGNORECASE) is not None


@dataclass(frozen=True)
class Shortlist:
    """What is taken.

    Attributes:
        ids: the clips, the best first.
        passed_over: better placed clips that were not taken -> why.
        unmet: quotas that could not be met -> share that was reached.
    """

    ids: list[str]
    passed_over: dict[str, str] = field(default_factory=dict)
    unmet: dict[str, float] = field(default_factory=dict)


def shortlist(
    order: Sequence[str],
    count: int,
    *,
    barred: Mapping[str, str] | None = None,
    quotas: Mapping[Quota, frozenset[str]] | None = None,
    collapse: float | None = None,
    sketches: Sketches | None = None,
) -> Shortlist:
    """Take clips in order until there are ``count``.

    ``Choice:`` one pass. A clip is passed over if it is barred, if an upper quota is full, if a better one has nearly
    its gradient, or if the places left are all needed for lower quotas it does not serve. Lower quotas count on
    ceil(share * count) places, upper ones allow floor(share * count). Places that remain because a lower quota cannot
    be met go to the best of those passed over for it.

    Args:
        order: clip ids, the best first.
        barred: clips that may not be taken -> why.
        quotas: quota -> the clips that count towards it.
        collapse: clips whose sketches have at least this cosine with one already taken are near-duplicates.
        sketches: reads sketches; needed with ``collapse``.
    """
    barred, quotas = barred or {}, quotas or {}
    most = {q: int(np.floor(round(q.share * count, 9))) for q in quotas if not q.at_least}
    missing = {q: budget_count(q.share, count) for q in quotas if q.at_least}
    taken: list[str] = []
    passed_over: dict[str, str] = {}
    waiting: list[str] = []
    twins = _Twins(order, collapse, sketches) if collapse is not None and sketches is not None else None

    def take(clip_id: str) -> bool:
        for quota, left in most.items():
            if clip_id in quotas[quota] and not left:
                passed_over[clip_id] = f"quota {quota.text} is full"
                return False
        twin = twins.of(clip_id) if twins else None
        if twin is not None:
            passed_over[clip_id] = f"nearly the gradient of {twin}"
            return False
        if twins:
            twins.keep(clip_id)
        taken.append(clip_id)
        for bound in (most, missing):
            for quota in bound:
                bound[quota] = max(0, bound[quota] - (clip_id in quotas[quota]))
        return True

    for clip_id in order:
        if len(taken) == count:
            break
        if clip_id in barred:
            passed_over[clip_id] = barred[clip_id]
            continue
        serves = any(left and clip_id in quotas[quota] for quota, left in missing.items())
        if not serves and count - len(taken) <= sum(missing.values()):
            waiting.append(clip_id)
            continue
        take(clip_id)
    places = {clip_id: place for place, clip_id in enumerate(order)}
    for clip_id in waiting:
        if len(taken) == count:
            passed_over[clip_id] = "its place is needed for a quota"
        else:
            take(clip_id)
    taken.sort(key=places.__getitem__)
    last = places[taken[-1]] if taken else -1
    reached = {q.text: len(quotas[q] & set(taken)) / max(1, count) for q, left in missing.items() if left}
    return Shortlist(
        taken, {i: why for i, why in passed_over.items() if places[i] < last or len(taken) < count}, reached
    )


class _Twins:
    """Finds a taken clip with nearly the same gradient."""

    def __init__(self, order: Sequence[str], least: float, sketches: Sketches) -> None:
        self._order = order
        self._least = least
        self._sketches = sketches
        self._place = {clip_id: place for place, clip_id in enumerate(order)}
        self._block: tuple[int, npt.NDArray[np.float32]] | None = None
        self._ids: list[str] = []
        self._kept_KD = np.empty((0, 0), np.float32)

    def of(self, clip_id: str) -> str | None:
        """The taken clip that ``clip_id`` is nearly a copy of, in gradient space."""
        if not self._ids:
            return None
        cosines_K = self._kept_KD[: len(self._ids)] @ self._unit(clip_id)
        nearest = int(np.argmax(cosines_K))
        return self._ids[nearest] if cosines_K[nearest] >= self._least else None

    def keep(self, clip_id: str) -> None:
        sketch_D = self._unit(clip_id)
        if len(self._ids) == len(self._kept_KD):  # twice the room, so that taking K clips copies K rows in all
            room = np.empty((max(64, len(self._ids)), len(sketch_D)), np.float32)
            self._kept_KD = np.concatenate((self._kept_KD, room)) if self._ids else room
        self._kept_KD[len(self._ids)] = sketch_D
        self._ids.append(clip_id)

    def _unit(self, clip_id: str) -> npt.NDArray[np.float32]:
        """The sketch, of length 1; zeros where there is none, which resembles nothing."""
        number, within = divmod(self._place[clip_id], _BLOCK)
        if self._block is None or self._block[0] != number:
            read = self._sketches(self._order[number * _BLOCK : (number + 1) * _BLOCK])
            self._block = (number, read)
        sketch_D = self._block[1][within]
        length = float(np.linalg.norm(sketch_D))
        return sketch_D / np.float32(length) if np.isfinite(length) and length > 0 else np.zeros_like(sketch_D)
