"""Shared by the benchmarks: a printed table, and a JSON file with the machine in general terms and the goals."""

from __future__ import annotations

import json
import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """The machine in general terms."""
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def goal(text: str, target: str, value: float, met: bool) -> dict[str, Any]:
    """One figure that was asked for, and what was reached."""
    return {"goal": text, "target": target, "value": round(value, 4), "met": met}


def show(rows: list[dict[str, Any]], goals: list[dict[str, Any]]) -> None:
    """Print the rows as a table, and the goals."""
    columns = list(rows[0])
    texts = [[text(row[column]) for column in columns] for row in rows]
    widths = [max(len(column), *(len(t[i]) for t in texts)) for i, column in enumerate(columns)]
    for cells in (columns, ["-" * w for w in widths], *texts):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |")
    for item in goals:
        print(f"goal: {item['goal']}: {item['value']} (target {item['target']}), {'met' if item['met'] else 'NOT met'}")


def write(name: str, rows: list[dict[str, Any]], goals: list[dict[str, Any]], **more: Any) -> None:
    """Print the rows as a table and write everything to ``results/NAME.json``."""
    show(rows, goals)
    RESULTS.mkdir(exist_ok=True)
    data = {"name": name, "date": datetime.now(UTC).date().isoformat(), "machine": machine(), **more}
    data |= {"rows": rows, "goals": goals}
    # lists of numbers on one line each: a difference between two results is then one that can be read
    said = re.sub(r"\[\s+([-+.\de,\s]+?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", json.dumps(data, indent=1))
    (RESULTS / f"{name}.json").write_text(said + "\n")


def text(value: Any) -> str:
    """A value as a table shows it."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
