"""Write the tables of docs/benchmarks.md from benchmarks/results: python -m benchmarks.render

Everything between ``<!-- NAME -->`` and ``<!-- end -->`` is replaced, so that page and JSON cannot drift apart.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, text

ROOT = Path(__file__).resolve().parents[1]


def table(result: dict[str, Any]) -> str:
    """Head line, table and goals of one result, in Markdown."""
    machine = result["machine"]
    gpu = machine["gpu"] or "no GPU"
    lines = [
        f"{result['date']}, {machine['cores']} cores ({machine['architecture']}), {gpu}, torch {machine['torch']}.",
        "",
    ]
    columns = list(result["rows"][0])
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(text(row[column]) for column in columns) + " |" for row in result["rows"]]
    for goal in result["goals"]:
        met = "met" if goal["met"] else "not met"
        lines += ["", f"Goal: {goal['goal']}; target {goal['target']}, measured {text(goal['value'])}: {met}."]
    return "\n".join(lines)


def render(page: str, results: dict[str, dict[str, Any]]) -> str:
    """The page with every marked part replaced."""

    def replace(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{table(results[match[1]])}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", replace, page, flags=re.DOTALL)


def main() -> None:
    """Rewrite docs/benchmarks.md."""
    page = ROOT / "docs" / "benchmarks.md"
    names = re.findall(r"<!-- (\w+) -->", page.read_text(encoding="utf-8"))
    results = {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in names if name != "end"}
    page.write_text(render(page.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main()
