"""How each trainer reads an export and what it makes of a clip, stated from the trainers' side.

Nothing here comes from ``motive_fo``: it says again, apart from the exporters, what the loaders do: how paths are
resolved, which files count, where captions are split, which frames are taken.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

PANDAS_MISSING = {
    "",
    "#N/A",
    "N/A",
    "NA",
    "NULL",
    "NaN",
    "None",
    "n/a",
    "nan",
    "null",
    "<NA>",
    "-nan",
    "-NaN",
    "1.#IND",
}


# -- reading: [(media path, caption)] ----------------------------------------------------------------------------------


def read_diffsynth(root, command):
    """UnifiedDataset: the two paths of the command; a jsonl line by line, each stripped; names joined to the base."""
    words = dict(zip(command[::2], command[1::2], strict=True))
    base, metadata = words["--dataset_base_path"], words["--dataset_metadata_path"]
    rows = []
    if metadata.endswith(".csv"):  # pandas.read_csv: what it takes for missing is a float, not a prompt
        with open(metadata, encoding="utf-8", newline="") as file:  # noqa: PTH123
            found = list(csv.DictReader(file))
        return [(Path(base) / r["video"], math.nan if r["prompt"] in PANDAS_MISSING else r["prompt"]) for r in found]
    with open(metadata, encoding="ascii") as file:  # noqa: PTH123 - any locale must do
        for line in file:
            row = json.loads(line.strip())
            path = os.path.join(base, row["video"])  # noqa: PTH118
            assert path.split(".")[-1].lower() in ("gif", "mp4", "avi", "mov", "wmv", "mkv", "flv", "webm")
            rows.append((Path(path), row["prompt"]))
    return rows


def read_videofolder(root):
    """load_dataset("videofolder"): one split by words in the names, else all of it is train; metadata decides."""
    words = {"train": ("train", "training"), "validation": ("validation", "valid", "dev", "val")}
    words["test"] = ("test", "testing", "eval", "evaluation")
    names = [p.relative_to(root).as_posix() for p in Path(root).rglob("*") if p.is_file()]
    for split, keywords in words.items():
        for keyword in keywords:
            for name in names:
                assert not fnmatch(name, f"*/{keyword}/*"), (split, name)
                assert not re.search(rf"(^|[-._ 0-9/]){keyword}[-._ 0-9]", name), (split, name)
    assert [p.name for p in Path(root).rglob("metadata.*")] == ["metadata.jsonl"]
    rows = []
    for line in (Path(root) / "metadata.jsonl").read_bytes().split(b"\n"):
        if line:
            row = json.loads(line)
            assert row["file_name"].lower().endswith((".mp4", ".mov", ".mkv", ".avi", ".mpeg"))
            rows.append((Path(root) / row["file_name"], row["caption"]))
    media = set((Path(root) / "videos").iterdir())
    assert media == {path for path, _ in rows}, "media that metadata does not name are an error"
    return rows


def read_finetrainers(config):
    """training.json -> data_root; a metadata file there means a videofolder. Captions as its wrapper hands them on."""
    (dataset,) = json.loads(Path(config).read_text(encoding="utf-8"))["datasets"]
    root = Path(dataset["data_root"])
    assert root.is_absolute()
    assert len([n for n in ("metadata.json", "metadata.jsonl", "metadata.csv") if (root / n).exists()]) == 1
    assert not [p for p in root.rglob("*") if p.suffix in (".tar", ".parquet")]
    rows = []
    for path, caption in read_videofolder(root):
        assert path.suffix in (".mp4", ".mov")
        assert caption.splitlines() in ([caption], []), "one of its other layouts splits captions here"
        if caption.startswith("b'") and caption.endswith("'"):
            caption = caption[2:-1]
        rows.append((path, caption))
    return rows, [tuple(bucket) for bucket in dataset["video_resolution_buckets"]]


def read_diffusion_pipe(config):
    """dataset.toml -> a flat folder; every file but a few kinds is media; captions.json replaces text files."""
    settings = tomllib.loads(Path(config).read_text(encoding="utf-8"))
    rows = []
    for directory in settings["directory"]:
        root = Path(directory["path"])
        captions = json.loads((root / "captions.json").read_text(encoding="utf-8"))
        media = [
            p
            for p in root.iterdir()
            if p.is_file() and p.suffix not in (".txt", ".npz", ".json", ".parquet", ".bak", ".db")
        ]
        assert {p.name for p in media} == set(captions)
        for path in media:
            (caption,) = captions[path.name]
            assert isinstance(caption, str)
            if caption:  # without one it is skipped
                rows.append((path, caption))
    return rows, settings["frame_buckets"]


def read_musubi(config, working_directory):
    """dataset.toml -> one jsonl per dataset; relative paths are the working directory's; caches go by base name."""
    settings = tomllib.loads(Path(config).read_text(encoding="utf-8"))
    rows, caches = [], set()
    for dataset in settings["datasets"]:
        assert isinstance(dataset.get("source_fps", 1.0), float)
        assert dataset["frame_extraction"] == "head"
        lines = (Path(working_directory) / dataset["video_jsonl_file"]).read_text(encoding="utf-8").split("\n")
        for line in filter(None, lines):
            row = json.loads(line)
            path = Path(working_directory) / row["video_path"]
            assert path.suffix.lower() in (
                ".mp4",
                ".webm",
                ".avi",
                ".mkv",
                ".mov",
                ".flv",
                ".wmv",
                ".m4v",
                ".mpg",
                ".mpeg",
            )
            key = (dataset["cache_directory"], path.stem)
            assert key not in caches, "two clips would share a cache file"
            caches.add(key)
            rows.append((path, row["caption"], dataset.get("source_fps"), dataset["target_frames"]))
    return rows


def read_vbench(videos, prompts):
    """custom_input: files of the folder by suffix, each with its own prompt by file name."""
    videos = Path(videos)
    mapped = {videos / name: text for name, text in json.loads(Path(prompts).read_text(encoding="utf-8")).items()}
    found = [p for p in videos.iterdir() if p.suffix.lower() in (".mp4", ".gif", ".jpg", ".png")]
    assert len(mapped) >= len(found)
    assert len(found) == len(list(videos.iterdir()))
    return [(path, mapped[path]) for path in found]


# -- frames: those of the file that are trained on, None where the clip is dropped ------------------------------------


def frames_diffsynth(count, num_frames):
    if count < num_frames:
        num_frames = count
        while num_frames > 1 and num_frames % 4 != 1:
            num_frames -= 1
    return list(range(num_frames)) or None


def frames_finetrainers(count, buckets):
    fitting = [bucket for bucket in buckets if bucket <= count]
    target = max(fitting) if fitting else count
    if target == 1:
        return [0]
    return [math.floor(k * (count - 1) / (target - 1) + 1e-9) for k in range(target)] if count else None


def frames_diffusion_pipe(count, fps, buckets, rate):
    """The number taken of the clip re-timed to ``rate``; a bucket of one frame is for pictures."""
    fitting = [bucket for bucket in buckets if bucket != 1 and fps and bucket <= int(count * rate / fps)]
    return max(fitting) if fitting else None


def frames_musubi(count, source_fps, target, rate):
    """The file's frames that are left when it is brought to ``rate``, the first ``target`` of them."""
    taken = list(range(count))
    if source_fps is not None:
        taken, previous, position = [], -1, 0.0
        for index in range(count):
            number = int(position)
            position += rate / source_fps
            if number != previous:
                taken.append(index)
                previous = number
    return taken[:target] if len(taken) >= target else None


def frames_vbench(count, fps):
    compared = list(range(0, count, max(1, round(fps / 8))))
    return compared if len(compared) > 1 else None
