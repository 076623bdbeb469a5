"""Two stores of the same clips, row by row and cosine by cosine: equal to the bit, within a tolerance, or different,
and what is known of why.

Shapes: N rows or training clips.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from motive_fo.influence.selection import percentile_ranks
from motive_fo.store.scores import ScoreRows
from motive_fo.store.table import Status, Table

_BLOCK: Final = 1024
_UNEXPLAINED: Final = (
    "its file, start, caption and decoder are as they were: the stored row was damaged or written by something else"
)
_ELSEWHERE: Final = "settings, weights or machine are others now"


@dataclass(frozen=True)
class RowDifference:
    """A clip whose row is not what it was.

    Attributes:
        id: the clip.
        part: the table, ``motion`` or ``train/t750.748-n0``.
        before, now: its state, with the code where there is one, such as ``failed decode_failed``.
        columns: column -> length of the difference over the length of the stored values; infinite where one of the two
            is not a number, or for text.
        reasons: what is known of why, in sentences.
    """

    id: str
    part: str
    before: str
    now: str
    columns: dict[str, float] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)


@dataclass
class TableDifference:
    """Rows of a table, compared.

    Attributes:
        rows: rows that both have.
        equal: of these, equal to the bit.
        close: not equal, but within the tolerance.
        largest: column -> largest relative difference, infinite ones left out; columns without any are left out.
        different: the others.
        only_stored, only_replayed: clips that one of the two has a finished row of.
    """

    rows: int = 0
    equal: int = 0
    close: int = 0
    largest: dict[str, float] = field(default_factory=dict)
    different: list[RowDifference] = field(default_factory=list)
    only_stored: list[str] = field(default_factory=list)
    only_replayed: list[str] = field(default_factory=list)

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs, not even within the tolerance."""
        return self.is_close and not self.close

    @property
    def is_close(self) -> bool:
        """Whether nothing differs by more than the tolerance."""
        return not (self.different or self.only_stored or self.only_replayed)


@dataclass
class ScoreDifference:
    """One kind of cosines of two scorings, over the queries and clips that both have.

    Attributes:
        queries, clips: how many.
        equal: cosines that are equal to the bit, of queries * clips; unknown in both counts as equal.
        beyond: cosines that differ by more than the tolerance, or that only one of the two knows.
        largest: largest difference of two known cosines.
        spearman: query -> rank correlation of the clips' cosines; None for fewer than two known ones.
        only_stored, only_replayed: queries that one of the two has.
    """

    queries: int
    clips: int
    equal: int = 0
    beyond: int = 0
    largest: float = 0.0
    spearman: dict[str, float | None] = field(default_factory=dict)
    only_stored: list[str] = field(default_factory=list)
    only_replayed: list[str] = field(default_factory=list)

    @property
    def is_equal(self) -> bool:
        """Whether every cosine is equal to the bit."""
        return self.is_close and self.equal == self.queries * self.clips

    @property
    def is_close(self) -> bool:
        """Whether no cosine differs by more than the tolerance."""
        return not (self.beyond or self.only_stored or self.only_replayed)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def compare_tables(
    stored: Table,
    replayed: Table,
    ids: Sequence[str],
    part: str,
    tolerance: float,
    known: Mapping[str, str],
    *,
    explained: bool = False,
) -> TableDifference:
    """Compare the rows of some clips.

    Args:
        ids: the clips to compare; those that neither has finished are left out.
        part: the table's name in what is reported.
        tolerance: relative: a row is close where no column differs by more than this share of its length.
        known: clip id -> a reason already found for its differing.
        explained: settings or machine are others, which is reason enough.
    """
    found = TableDifference()
    before, now = (table.states(ids) != Status.PENDING for table in (stored, replayed))
    found.only_stored = [ids[n] for n in np.flatnonzero(before & ~now).tolist()]
    found.only_replayed = [ids[n] for n in np.flatnonzero(now & ~before).tolist()]
    both = [ids[n] for n in np.flatnonzero(before & now).tolist()]
    found.rows = len(both)
    for first in range(0, len(both), _BLOCK):
        block = both[first : first + _BLOCK]
        pair = _Pair.read(stored, replayed, block)
        equal_N, apart = pair.distances()
        for n, clip_id in enumerate(block):
            columns = {name: float(each[n]) for name, each in apart.items() if each[n] > 0}
            for name, value in columns.items():
                if np.isfinite(value):
                    found.largest[name] = max(found.largest.get(name, 0.0), value)
            if pair.states[0][n] == pair.states[1][n]:
                if equal_N[n]:
                    found.equal += 1
                    continue
                if all(value <= tolerance for value in columns.values()):
                    found.close += 1
                    continue
            reasons = [*pair.reasons(n), *([known[clip_id]] if clip_id in known else [])]
            reasons = reasons or [_ELSEWHERE if explained else _UNEXPLAINED]
            states = (pair.states[0][n], pair.states[1][n])
            found.different.append(RowDifference(clip_id, part, *states, columns, reasons))
    return found


@dataclass(frozen=True)
class _Pair:
    """The same rows of two tables."""

    columns: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]
    states: tuple[list[str], list[str]]
    files: tuple[list[tuple[int, str]], list[tuple[int, str]]]
    decoders: tuple[list[str], list[str]]

    @classmethod
    def read(cls, stored: Table, replayed: Table, ids: Sequence[str]) -> _Pair:
        tables = (stored, replayed)
        own = {name for table in tables for name in table.own_columns}
        states, files, decoders = [], [], []
        for table in tables:
            codes = table.read("code", ids)
            names = [Status(int(state)).name.lower() for state in table.states(ids)]
            states.append(
                [name if name == code else f"{name} {code}".strip() for name, code in zip(names, codes, strict=True)]
            )
            sizes, contents = table.read("size", ids).tolist(), table.read("content", ids).tolist()
            files.append(list(zip(sizes, contents, strict=True)))
            decoders.append(table.read("decoder", ids).tolist())
        columns = {
            name: (stored.read(name, ids), replayed.read(name, ids))
            for name in sorted(own)
            if all(name in table.own_columns for table in tables)
        }
        return cls(columns, (states[0], states[1]), (files[0], files[1]), (decoders[0], decoders[1]))

    def distances(self) -> tuple[npt.NDArray[np.bool_], dict[str, npt.NDArray[np.float64]]]:
        """Which rows are equal to the bit (N,), and column -> relative distance of each row (N,)."""
        equal_N = np.ones(len(self.states[0]), np.bool_)
        apart = {}
        for name, (a, b) in self.columns.items():
            if a.dtype == object or a.shape != b.shape:
                same_N = np.asarray([np.array_equal(x, y) for x, y in zip(a, b, strict=True)], np.bool_)
                apart[name] = np.where(same_N, 0.0, np.inf)
            else:
                same_N = (_bytes(a) == _bytes(b)).all(1)
                apart[name] = relative_distance(a, b)
            equal_N &= same_N
        return equal_N, apart

    def reasons(self, n: int) -> Iterator[str]:
        """Why the n-th rows may differ, as far as they tell."""
        (size, content), (size_now, content_now) = self.files[0][n], self.files[1][n]
        window, _, caption = content.partition("+")
        window_now, _, caption_now = content_now.partition("+")
        (file, _, start), (file_now, _, start_now) = window.partition("@"), window_now.partition("@")
        if file and not file_now:
            yield "its file cannot be read any more"
        elif file != file_now:
            yield f"its file has other content ({size} bytes before, {size_now} now)"
        elif start != start_now:
            yield f"it starts {start_now or 0} s into its file, {start or 0} s before"
        elif caption != caption_now:
            yield "its caption was changed"
        if self.decoders[0][n] and self.decoders[1][n] and self.decoders[0][n] != self.decoders[1][n]:
            yield f"decoded by {self.decoders[0][n]} before, by {self.decoders[1][n]} now"


def relative_distance(stored: npt.NDArray[Any], replayed: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """|replayed - stored| / |stored| of each row (N, ...): (N,). Zero where both are zero, infinite where they are
    unknown (NaN) in different places."""
    rows = len(stored)
    a, b = (each.reshape(rows, -1).astype(np.float64) for each in (stored, replayed))
    unknown_N = (np.isnan(a) != np.isnan(b)).any(1)
    difference, length = (np.linalg.norm(np.nan_to_num(each), axis=1) for each in (b - a, a))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(difference == 0, 0.0, difference / length)
    return np.where(unknown_N, np.inf, relative)


def compare_scores(stored: ScoreRows, replayed: ScoreRows, tolerance: float) -> ScoreDifference:
    """Compare two scorings, a query at a time.

    Args:
        tolerance: a cosine is close where it differs by no more; scores larger than 1, by no more than this share.
    """
    places = [{clip_id: n for n, clip_id in enumerate(rows.train_ids)} for rows in (stored, replayed)]
    clips = [clip_id for clip_id in stored.train_ids if clip_id in places[1]]
    columns = [np.asarray([place[clip_id] for clip_id in clips], np.int64) for place in places]
    queries = [query for query in stored.query_ids if query in set(replayed.query_ids)]
    found = ScoreDifference(
        len(queries),
        len(clips),
        only_stored=[query for query in stored.query_ids if query not in queries],
        only_replayed=[query for query in replayed.query_ids if query not in queries],
    )
    for query in queries:
        a, b = (
            rows[rows.query_ids.index(query)][chosen] for rows, chosen in zip((stored, replayed), columns, strict=True)
        )
        equal = (_bytes(a) == _bytes(b)).all(1)
        known = np.isfinite(a) & np.isfinite(b)
        apart = np.abs(b[known].astype(np.float64) - a[known])
        room = tolerance * np.maximum(1.0, np.abs(a[known]))
        found.equal += int(equal.sum())
        found.beyond += int((np.isfinite(a) != np.isfinite(b)).sum() + (apart > room).sum())
        found.largest = max(found.largest, float(apart.max(initial=0.0)))
        found.spearman[query] = _spearman(a[known], b[known])
    return found


def _spearman(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float | None:
    if len(a) < 2:
        return None
    first, second = percentile_ranks(np.stack([a, b]).astype(np.float64)) - 50  # the mean rank is 50, ties or not
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / length if length else None


def _state(status: str, code: str) -> str:
    return status if code in ("", status) else f"{status} {code}"


def _bytes(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """(N, bytes of a row)."""
    return np.ascontiguousarray(values.reshape(len(values), -1)).view(np.uint8).reshape(len(values), -1)
