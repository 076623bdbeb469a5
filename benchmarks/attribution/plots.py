"""The tables as pictures, in docs/images: every method's value with its interval."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from benchmarks.attribution.choices import THREE_T
from benchmarks.attribution.protocol import Result
from motive_fo.report.plot import intervals

IMAGES: Final = Path(__file__).resolve().parents[2] / "docs" / "images"
_AXES: Final = {
    "lds": "linear datamodeling score",
    "tail-patch": "rank correlation with one step",
    "evidence": "%, mean of the cells with its interval of 95 %",
}
#: names as they fit beside a plot: GN is Gauss-Newton, 3x4 three timesteps with four noises each.
_SHORT: Final = {
    "gradient, mask ": "",
    "untrained model, mask ": "untrained, ",
    " model, chosen": ", chosen",
    "gauss-newton": "GN",
}
_CELL: Final = re.compile(r"^(-?[\d.]+)(?: \((-?[\d.]+) to (-?[\d.]+)\))?$")

Point = tuple[float, float | None, float | None]


def draw(table: str, result: Result) -> list[Path]:
    """One picture for each column of figures: docs/images/attribution-TABLE-COLUMN.svg. Other tables have none."""
    if table not in _AXES:
        return []
    made = []
    named, *columns = result.rows[0]
    for column in columns[:1] if table == "evidence" else columns:
        rows = {short(str(row[named])): point(str(row[column])) for row in result.rows if column in row}
        path = IMAGES / f"attribution-{table}-{re.sub('[^a-z]+', '-', column).strip('-')}.svg"
        path.write_bytes(intervals(column, _AXES[table], rows).svg)
        made.append(path)
    return made


def short(name: str) -> str:
    """A method's name in a plot."""
    if name == THREE_T:
        return f"{name} (default)"
    for words, fewer in _SHORT.items():
        name = name.replace(words, fewer)
    return re.sub(r"(\d+) t x (\d+) noises", r"\1x\2", name)


def point(cell: str) -> Point:
    """Value and ends of "0.31 (0.20 to 0.41)"; no ends where there are none."""
    found = _CELL.match(cell)
    if found is None:
        raise ValueError(f"{cell!r} is no figure of a table")
    value, low, high = found.groups()
    return float(value), None if low is None else float(low), None if high is None else float(high)
