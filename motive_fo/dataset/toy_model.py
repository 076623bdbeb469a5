"""The embedded model is for the demo: what is said wherever it is used on clips of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from motive_fo.dataset.run_record import RunRecord

DEMO_MARK: Final = "motive_demo"
"""Under this name the demo's dataset says in its ``info`` where its ``folder`` and its clips are."""

TOY: Final = "tiny"


def demo_corpus(folder: Path) -> dict[str, Path]:
    """Where the demo's own clips are, below its folder."""
    return {"train": folder / "corpus" / "train", "queries": folder / "corpus" / "queries"}


def toy_notes(dataset: Any | None, record: RunRecord) -> list[str]:
    """One line where a run's scores are those of the embedded model, and its clips are not the demo's; else none.

    Args:
        dataset: the run's, None where it is not made yet.
    """
    if record.section("attribution").model != TOY or _is_of_demo(dataset):
        return []
    return [
        f"scores of run {record.run!r} are those of {TOY}, a toy model of synthetic scenes: to choose clips for your "
        "model, begin another run with --model (and --run)"
    ]


def _is_of_demo(dataset: Any | None) -> bool:
    mark = None if dataset is None else dataset.info.get(DEMO_MARK)
    if mark is None:
        return False
    return all(mark.get(role) == str(place) for role, place in demo_corpus(Path(mark["folder"])).items())
