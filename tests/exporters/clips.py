"""Clips to export: with every caption and file name that has broken a trainer, and the writing of them."""

from __future__ import annotations

from motive_fo.clips.spec import ClipSpec
from motive_fo.config import ExportConfig
from motive_fo.exporters.base import ExportItem
from motive_fo.exporters.media import ScoredAs
from motive_fo.exporters.registry import build_exporter
from motive_fo.exporters.survival import Measured

SCORED = ScoredAs(ClipSpec(0, 16, 17, 64, 64))
SEPARATORS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
CAPTIONS = [
    "None",
    "NA",
    "nan",
    "",
    " \t ",
    'a "quoted", comma; and \\ backslash',
    "line\nbreak \u2028 and \x85 and\r\n more",
    SEPARATORS.join("abcdefghijk"),
    "émoji 🎈 and a 'quote'",
    "b'bytes they are not'",
    "{'json': [1, 2]}",
    "null \0 byte",
    "half \ud83d a pair",
    "[[directory]] # not a table",
    "x" * 5000,
    "-- a leading dash",
    "ends in a backslash \\",
]
NAMES = [
    "näme 🎈.mp4",
    "with 'single' and \"double\" quotes.mp4",
    "two\nlines.mp4",
    "-leading dash.mp4",
    "l" * 240 + ".mp4",
    "test clip.mp4",
    "val.mp4",
    "UPPER.MP4",
    " spaces .mp4",
    "100%_[a-z]*?.mp4",
    "semi;colon$(rm).mp4",
    "..hidden.mp4",
    "dots.in.name.mp4",
    "日本語.mp4",
    "same.mp4",
    "other/same.mp4",
    "train/eval-3.mp4",
]


def items_in(folder, captions=CAPTIONS, names=NAMES, measured=None):
    """Clips with these captions and names, each with bytes of its own in place of a video."""
    items = []
    for number, (name, caption) in enumerate(zip(names, captions, strict=True)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * 10)
        about = {"votes": number}
        items.append(ExportItem(f"clips/{name}", path, caption, about=about, measured=measured or Measured(24, 16)))
    return items


def many(folder, count, size=10):
    """Plain clips."""
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for number in range(count):
        path = folder / f"{number:05}.mp4"
        data = bytes([number % 256]) * size
        if not path.exists() or path.read_bytes() != data:  # a file written again is another one to an export
            path.write_bytes(data)
        items.append(ExportItem(path.name, path, f"caption {number}", measured=Measured(24, 16)))
    return items


def write(items, folder, layout="diffsynth", scored=SCORED, **more):
    config = ExportConfig(layout=layout, **more)
    return build_exporter(layout).write(items, folder, config=config, scored=scored, about={"run": "r"})


def tree(folder):
    """Every file below a folder: inode, time of change, link target or bytes."""
    return {
        path.relative_to(folder).as_posix(): (
            path.lstat().st_ino,
            path.lstat().st_mtime_ns,
            str(path.readlink()) if path.is_symlink() else path.read_bytes(),
        )
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def contents(folder):
    """Every file below a folder: what is in it."""
    return {name: data for name, (_, _, data) in tree(folder).items()}
