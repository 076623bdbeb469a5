"""Clips to evaluate, and which clips of two sets belong together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EvaluatedClip:
    """One clip.

    Attributes:
        name: unique in its set; what results and errors call it.
        path: its file.
        prompt: what it was to show; empty where that is not known.
        seed: of its noise, where it was generated and that is known.
        start: seconds into the file at which it begins.
    """

    name: str
    path: Path
    prompt: str = ""
    seed: int | None = None
    start: float = 0.0


@dataclass(frozen=True)
class ClipSet:
    """Clips of one kind, such as those of one model.

    Attributes:
        label: what tables and pages call it.
        clips: in a fixed order.
    """

    label: str
    clips: tuple[EvaluatedClip, ...]


@dataclass(frozen=True)
class Pairing:
    """Which clips of two sets show the same thing.

    Attributes:
        by: what they share: ``prompt and seed`` or ``file name``.
        pairs: names in the first and in the second set, in the first's order.
    """

    by: str
    pairs: tuple[tuple[str, str], ...]


def pair_up(first: ClipSet, second: ClipSet) -> Pairing | None:
    """The pairs of two sets, None unless every clip of the smaller one has its partner.

    Clips pair up by prompt and seed, else by file name without suffix; clips whose prompts are known and differ are
    no pair, whatever they are called. ``Choice:`` all or none: pairs found for some clips alone would be a selection
    that nobody made.
    """
    for by, key in (("prompt and seed", _by_prompt), ("file name", _by_name)):
        partners = _keys(second, key)
        found = [
            (clip.name, partners[one].name)
            for one, clip in _keys(first, key).items()
            if one in partners and _may_pair(clip, partners[one])
        ]
        if found and len(found) == min(len(first.clips), len(second.clips)):
            return Pairing(by, tuple(found))
    return None


def _by_prompt(clip: EvaluatedClip) -> Hashable | None:
    return (clip.prompt, clip.seed) if clip.prompt and clip.seed is not None else None


def _by_name(clip: EvaluatedClip) -> Hashable | None:
    return Path(clip.name).with_suffix("").as_posix()


def _keys(clips: ClipSet, key: object) -> dict[Hashable, EvaluatedClip]:
    """Clips by key, without those that have none or share it."""
    assert callable(key)
    keys = [key(clip) for clip in clips.clips]
    counts = Counter(keys)
    return {one: clip for one, clip in zip(keys, clips.clips, strict=True) if one is not None and counts[one] == 1}


def _may_pair(one: EvaluatedClip, other: EvaluatedClip) -> bool:
    return not one.prompt or not other.prompt or one.prompt == other.prompt
