"""The main job on embedded defaults: a small corpus, start to end, nothing downloaded."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from motive_fo.config import ExportConfig, FlowConfig, RunConfig, SelectionConfig
from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.run_record import has_run
from motive_fo.dataset.steps import delete_run
from motive_fo.dataset.toy_model import DEMO_MARK, demo_corpus
from motive_fo.dataset.whole import RunReport, run
from motive_fo.errors import InputError
from motive_fo.progress import Progress, silent
from motive_fo.synthetic.corpus import write_corpus

DATASET: Final = "motive-demo"
RUN: Final = "motive"


@dataclass(frozen=True)
class DemoSize:
    """How much the demo makes: clips that move, query clips, clips where nothing moves, damaged files; and queries of
    other scenes, with which it measures what the selection teaches."""

    train: int = 110
    queries: int = 9
    static: int = 6
    damaged: int = 5
    seed: int = 0
    measured: int = 12


def run_demo(
    folder: str | Path,
    *,
    videos: str | Path | None = None,
    queries: str | Path | None = None,
    dataset: str = DATASET,
    size: DemoSize | None = None,
    progress: Progress = silent,
) -> RunReport:
    """Make a corpus, or take your clips, and do everything: dataset, gradients, influence, views, export.

    A second call finds what the first computed.

    Args:
        folder: everything but the database goes here: clips, store, export.
        videos: your training clips (folder or listing) instead of synthetic ones.
        queries: your query clips; synthetic ones show ten kinds of motion otherwise.
        dataset: name of the dataset. One that the demo did not make is not touched.
    """
    folder = Path(folder).expanduser().absolute()
    size = size or DemoSize()
    made = None if videos is not None and queries is not None else write_demo_corpus(folder / "corpus", size, progress)
    train_source = Path(videos).expanduser() if videos is not None else demo_corpus(folder)["train"]
    query_source = Path(queries).expanduser() if queries is not None else demo_corpus(folder)["queries"]
    source = {"folder": str(folder), "train": str(train_source.absolute()), "queries": str(query_source.absolute())}
    _own_dataset(dataset, source, fresh=bool(made))
    return run(
        RunConfig(
            dataset=dataset,
            run=RUN,
            videos=str(train_source),
            queries=str(query_source),
            store=str(folder / "store" / f"{dataset}.zarr"),
            export_to=str(folder / "selected"),
            flow=FlowConfig(estimator="dis"),  # the same on every machine, and no download
            selection=SelectionConfig(budget=0.2),
            export=ExportConfig(media="reencode", overwrite=True),  # the corpus is 24 fps, scored at 16
        ),
        progress=progress,
    )


def write_demo_corpus(folder: Path, size: DemoSize, progress: Progress) -> bool:
    """Write the corpus unless it is there already; says whether it was written."""
    mark = folder / "corpus.json"
    wanted = json.dumps(asdict(size), sort_keys=True)
    if mark.is_file() and mark.read_text(encoding="utf-8") == wanted:
        return False
    write_corpus(
        folder,
        train=size.train,
        queries=size.queries,
        seed=size.seed,
        damaged=size.damaged,
        static=size.static,
        progress=progress,
    )
    mark.write_text(wanted, encoding="utf-8")  # last: an interrupted corpus is written again
    return True


def _own_dataset(name: str, source: dict[str, str], *, fresh: bool) -> None:
    """Keep the demo's dataset if it is of these clips, begin it anew if not, refuse one that is somebody else's."""
    fo = fiftyone()
    if fo.dataset_exists(name):
        dataset = fo.load_dataset(name)
        known = dataset.info.get(DEMO_MARK)
        if known is None:
            raise InputError(
                f"dataset {name!r} exists and was not made by the demo: choose another name with --dataset"
            )
        if known == source and not fresh:
            return
        if has_run(dataset, RUN):
            delete_run(dataset, RUN)
        fo.delete_dataset(name)
    dataset = fo.Dataset(name, persistent=True)
    dataset.info[DEMO_MARK] = source
    dataset.save()
