"""Votes from A/B pages: how often each side wins, with intervals, as the human study of the paper tells it."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from motive_fo.errors import InputError
from motive_fo.evaluation.statistics import Interval, Resampling, share_interval

COLUMNS: Final = ("page", "pair", "a", "b", "left", "choice", "winner")


@dataclass(frozen=True)
class VoteReport:
    """What people said.

    Attributes:
        a, b: labels of the sides.
        votes: all of them.
        pairs: different pairs they are on.
        files: how many people, one file each.
        win, tie, loss: shares of the votes in which a wins, neither does, b wins, with Wilson's intervals. ``Choice:``
            independent are pairs, not votes: many people on few pairs say little of other pairs.
        left: share of the decided votes that went to the left: far from one half, people did not look.
    """

    a: str
    b: str
    votes: int
    pairs: int
    files: int
    win: Interval
    tie: Interval
    loss: Interval
    left: Interval | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Vote:
    pair: str
    choice: str
    winner: str


def count_votes(files: Sequence[str | Path], *, confidence: float = 0.95) -> VoteReport:
    """Count the votes of one or more people.

    Args:
        files: what the page's button downloaded, one file for each person.
        confidence: level of the intervals.

    Raises:
        InputError: a file that is no such table, an empty one, the same one twice, or votes on different sides.
    """
    votes: list[_Vote] = []
    sides: set[tuple[str, str]] = set()
    paths = [Path(file).expanduser() for file in files]
    twice = [path for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]} is named twice: give one file for each person")
    for path in paths:
        of, found = _read(path)
        sides.add(of)
        votes += found
    if not votes:
        raise InputError("there are no votes to count: give the files that the page's download button saved")
    if len(sides) > 1:
        shown = "; ".join(f"{a} against {b}" for a, b in sorted(sides))
        raise InputError(f"these files judge different sides ({shown}): count them one by one")
    how = Resampling(confidence=confidence)
    pairs = [vote.pair for vote in votes]
    shares = {}
    for winner in ("a", "tie", "b"):
        interval = share_interval([float(vote.winner == winner) for vote in votes], pairs, how)
        assert interval is not None
        shares[winner] = interval
    decided = [vote for vote in votes if vote.choice != "tie"]
    left = share_interval([float(vote.choice == "left") for vote in decided], list(range(len(decided))), how)
    ((a, b),) = sides
    return VoteReport(a, b, len(votes), len(set(pairs)), len(paths), shares["a"], shares["tie"], shares["b"], left)


def _read(path: Path) -> tuple[tuple[str, str], list[_Vote]]:
    """Sides and votes of one file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if not set(COLUMNS) <= set(reader.fieldnames or ()):
                raise InputError(
                    f"{path} is no file of votes: its first line must name {', '.join(COLUMNS)}, as the page writes it"
                )
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no CSV file: {error}") from None
    if not rows:
        raise InputError(f"{path} holds no votes: nothing was judged before it was saved")
    votes = [_vote(path, line, row) for line, row in rows]
    double = [pair for pair, count in Counter(vote.pair for vote in votes).items() if count > 1]
    if double:
        raise InputError(f"{path} judges {double[0]!r} twice: one file is one person's votes")
    sides = {(str(row["a"]), str(row["b"])) for _, row in rows}
    if len(sides) > 1:
        raise InputError(f"{path} judges several pairs of sides: one file comes from one page")
    return sides.pop(), votes


def _vote(path: Path, line: int, row: dict[str, str]) -> _Vote:
    left, choice, winner = row["left"], row["choice"], row["winner"]
    right = {"a": "b", "b": "a"}.get(left)
    expected = {"tie": "tie", "left": left, "right": right}.get(choice)
    if right is None or expected is None or winner != expected:
        raise InputError(
            f"{path}, line {line}: left {left!r}, choice {choice!r} and winner {winner!r} do not go together"
        )
    return _Vote(row["pair"], choice, winner)
