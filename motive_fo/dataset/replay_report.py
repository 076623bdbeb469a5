"""What a replay found: table by table, cosines, selection, and everything that can explain a difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from motive_fo.dataset.outcome import Outcome
from motive_fo.pipeline.difference import RowDifference, ScoreDifference, TableDifference
from motive_fo.store.fingerprints import Origin
from motive_fo.store.identity import flatten

_SHOWN: Final = 10

Verdict = Literal["equal", "within tolerance", "differs"]


@dataclass(frozen=True)
class SelectionDifference:
    """The selection that was curated, and the one that comes out now; ids, the best first."""

    stored: list[str]
    replayed: list[str]

    @property
    def shared(self) -> int:
        """Clips in both."""
        return len(set(self.stored) & set(self.replayed))


@dataclass
class ReplayReport:
    """A run, repeated and compared.

    Attributes:
        dataset, run: which run.
        sample, seed: training clips drawn at random, and the draw's seed; None for all clips.
        clips: clips that were repeated.
        tolerance: relative difference up to which a row counts as the same.
        tables: table -> how its rows compare.
        scores: ``motion`` and ``whole`` -> how the cosines compare; empty where none were compared.
        selection: the curated one and the one that comes out now; None where there is none, or for a sample.
        gone: clips of the run that the dataset has no more.
        failures: what could not be repeated.
        origins: what was other when the run was made: settings, weights, package versions, device.
        notes: what was not compared.
        kept: folder with the second store; None where it was thrown away.
        seconds: wall time.
    """

    dataset: str
    run: str
    sample: int | None
    seed: int
    clips: int
    tolerance: float
    tables: dict[str, TableDifference] = field(default_factory=dict)
    scores: dict[str, ScoreDifference] = field(default_factory=dict)
    selection: SelectionDifference | None = None
    gone: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kept: str | None = None
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """The worst of all that was compared."""
        parts: list[TableDifference | ScoreDifference] = [*self.tables.values(), *self.scores.values()]
        same = self.selection is None or self.selection.stored == self.selection.replayed
        if self.gone or self.failures or not same or not all(part.is_close for part in parts):
            return "differs"
        return "equal" if all(part.is_equal for part in parts) else "within tolerance"

    @property
    def different(self) -> list[RowDifference]:
        """Every row that differs, table by table."""
        return [row for table in self.tables.values() for row in table.different]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; infinite differences are null."""
        data = asdict(self)
        for table in data["tables"].values():
            for row in table["different"]:
                row["columns"] = {k: None if v == float("inf") else v for k, v in row["columns"].items()}
        if self.selection is not None:
            data["selection"]["shared"] = self.selection.shared
        return {"verdict": self.verdict, **data}

    def sentence(self) -> str:
        """The verdict in one sentence."""
        what = f"run {self.run!r} of {self.dataset!r}"
        if self.verdict == "equal":
            return f"{what} comes out again, equal to the bit: {self._of()}"
        if self.verdict == "within tolerance":
            return f"{what} comes out again within a relative difference of {self.tolerance:g}: {self._of()}"
        return f"{what} does not come out again: {self._of()}; different: {', '.join(self._parts())}"

    def _parts(self) -> Iterator[str]:
        clips = len({row.id for row in self.different} | set(self.gone))
        if clips:
            yield "1 clip" if clips == 1 else f"{clips} clips"
        if not all(part.is_close for part in self.scores.values()):
            yield "cosines"
        if self.selection is not None and self.selection.stored != self.selection.replayed:
            yield "the selection"
        if self.failures:
            yield "what could not be repeated"

    def _of(self) -> str:
        if self.sample is None:
            return f"{self.clips} clips"
        drawn = "1 training clip" if self.sample == 1 else f"{self.sample} training clips"
        return f"{self.clips} clips, {drawn} drawn with seed {self.seed}"

    def lines(self, shown: int = _SHOWN) -> list[str]:
        """The report as text.

        Args:
            shown: differing rows that are listed.
        """
        lines = [f"{name}: {_table_words(table)}" for name, table in self.tables.items()]
        lines += [f"cosines, {kind}: {_score_words(part)}" for kind, part in self.scores.items()]
        if self.selection is not None:
            both = f"{self.selection.shared} of {len(self.selection.stored)} clips"
            order = ", in the same order" if self.selection.stored == self.selection.replayed else ""
            lines.append(f"selection: {both} again{order}")
        lines += [f"different: {row_words(row)}" for row in self.different[:shown]]
        if len(self.different) > shown:
            lines.append(f"and {len(self.different) - shown} more rows differ, see --json")
        lines += [f"gone from the dataset: {clip_id}" for clip_id in self.gone[:shown]]
        lines += self.failures
        lines += [f"changed since: {text}" for text in self.origins]
        return [*lines, *(f"note: {note}" for note in self.notes), self.sentence()]

    def outcome(self) -> Outcome:
        """In words for the App."""
        reasons = [row_words(row) for row in self.different[:_SHOWN]]
        reasons += [f"gone from the dataset: {clip_id}" for clip_id in self.gone[:_SHOWN]]
        return Outcome(self.sentence(), (*reasons, *self.failures, *self.origins, *self.notes))


def row_words(row: RowDifference) -> str:
    """A differing row in one line."""
    what = [] if row.before == row.now else [f"{row.before} before, {row.now} now"]
    parts = [
        f"{name} {'is another' if value == float('inf') else f'by {value:.2g} of its length'}"
        for name, value in sorted(row.columns.items(), key=lambda item: -item[1])[:3]
    ]
    said = ", ".join(what or parts) or "its bytes"
    return f"{row.id} in {row.part} ({said}): {'; '.join(row.reasons)}"


def origin_differences(before: Mapping[str, Origin], now: Mapping[str, Origin]) -> list[str]:
    """What was other when the stored parts were computed: settings and weights, then packages and machine."""
    found: dict[str, None] = {}
    for part in [name for name in before if name in now]:
        old, new = flatten(before[part].settings), flatten(now[part].settings)
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                found[f"{key}: {old.get(key)!r} before, {new.get(key)!r} now"] = None
    for part in [name for name in before if name in now]:
        for key, newest in _environment(now[part].history[-1]).items():
            known = dict.fromkeys(_environment(each).get(key) for each in before[part].history)
            if any(value != newest for value in known):
                found[f"{key}: {', '.join(str(value) for value in known)} before, {newest} now"] = None
    return list(found)


def _environment(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {**entry["packages"], **{key: entry[key] for key in ("python", "machine", "device")}}


def _table_words(table: TableDifference) -> str:
    words = [f"{table.rows} rows", f"{table.equal} equal to the bit"]
    if table.close:
        words.append(f"{table.close} within the tolerance")
    if table.different:
        words.append(f"{len(table.different)} different")
    for name, ids in (("only in the run", table.only_stored), ("only repeated", table.only_replayed)):
        if ids:
            words.append(f"{len(ids)} {name}")
    if table.largest:
        name, value = max(table.largest.items(), key=lambda item: item[1])
        words.append(f"largest difference {value:.1e} of {name}")
    return ", ".join(words)


def _score_words(part: ScoreDifference) -> str:
    words = [f"{part.queries} queries x {part.clips} clips"]
    if part.is_equal:
        return f"{words[0]}, equal to the bit"
    known = [value for value in part.spearman.values() if value is not None]
    words.append(f"largest difference {part.largest:.1e}")
    if known:
        words.append(f"rank correlation {sum(known) / len(known):.4f}, least {min(known):.4f}")
    if part.beyond:
        words.append(f"{part.beyond} beyond the tolerance")
    for name, ids in (("only in the run", part.only_stored), ("only repeated", part.only_replayed)):
        if ids:
            words.append(f"{len(ids)} queries {name}")
    return ", ".join(words)
