"""Seconds of an export for each trainer, and of re-encoding: python -m benchmarks.export

Links to small files, without a database; frames and rates are known from the import, as they are in a dataset.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.record import goal, write
from motive_fo.clips.spec import ClipSpec
from motive_fo.config import ExportConfig
from motive_fo.exporters.base import ExportItem, ExportReport
from motive_fo.exporters.media import ScoredAs
from motive_fo.exporters.registry import LAYOUTS, build_exporter
from motive_fo.exporters.survival import Measured
from motive_fo.synthetic.corpus import write_corpus

SCORED = ScoredAs(ClipSpec(0, 16, 17, 256, 256))


def _items(folder: Path, clips: int) -> list[ExportItem]:
    folder.mkdir()
    items = []
    for number in range(clips):
        path = folder / f"{number:06}.mp4"
        path.write_bytes(b"x")
        items.append(ExportItem(path.name, path, f"a ball rolls, take {number}", measured=Measured(48, 16.0)))
    return items


def _timed(work: Callable[[], ExportReport]) -> tuple[float, ExportReport]:
    start = time.perf_counter()
    report = work()
    return time.perf_counter() - start, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--encoded", type=int, default=40)
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    slowest = again = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        items = _items(Path(scratch) / "clips", asked.clips)
        for layout in LAYOUTS:
            exporter, folder = build_exporter(layout), Path(scratch) / layout

            def export(overwrite: bool, chosen: list[ExportItem]) -> ExportReport:
                config = ExportConfig(layout=layout, overwrite=overwrite)  # noqa: B023 - called in this round
                return exporter.write(chosen, folder, config=config, scored=SCORED, about={})  # noqa: B023

            first, _ = _timed(lambda: export(False, items))
            second, report = _timed(lambda: export(False, items))
            if not report.unchanged:
                raise SystemExit(f"a second export for {layout} changed something")
            renewed, _ = _timed(lambda: export(True, items[asked.clips // 10 :]))
            slowest, again = max(slowest, first, renewed), max(again, second)
            rows.append(
                {
                    "export": f"{layout}, symlinks",
                    "clips": asked.clips,
                    "new, s": first,
                    "again, unchanged, s": second,
                    "renewed with nine tenths of them, s": renewed,
                }
            )
        corpus = write_corpus(Path(scratch) / "corpus", train=asked.encoded, queries=1)
        films = [ExportItem(path.name, path, "a ball rolls") for path in corpus.train]
        config = ExportConfig(media="reencode")
        folder, exporter = Path(scratch) / "encoded", build_exporter("diffsynth")

        def encode(config: ExportConfig, chosen: list[ExportItem]) -> ExportReport:
            return exporter.write(chosen, folder, config=config, scored=SCORED, about={})

        first, _ = _timed(lambda: encode(config, films))
        second, _ = _timed(lambda: encode(config, films))
        renewed, _ = _timed(lambda: encode(replace(config, overwrite=True), films[asked.encoded // 10 :]))
        rows.append(
            {
                "export": "diffsynth, reencode, 17 frames 256x256",
                "clips": asked.encoded,
                "new, s": first,
                "again, unchanged, s": second,
                "renewed with nine tenths of them, s": renewed,
            }
        )
    clips = f"{asked.clips} clips by symlink, the slowest trainer (seconds)"
    goals = [
        goal(f"a new or renewed export of {clips}", "<= 10", slowest, slowest <= 10),
        goal(f"the same again, which changes nothing, {clips}", "<= 10", again, again <= 10),
    ]
    write("export", rows, goals)


if __name__ == "__main__":
    main()
