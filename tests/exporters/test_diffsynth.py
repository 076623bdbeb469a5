"""An export, read back by DiffSynth-Studio's rules as its loader states them; complete or absent."""

import json
import os

import pytest

from motive_fo.clips.spec import ClipSpec
from motive_fo.config import ExportConfig
from motive_fo.errors import ConfigError, ExportError
from motive_fo.exporters import base
from motive_fo.exporters.base import MANIFEST, ExportItem
from motive_fo.exporters.registry import build_exporter

SPEC = ClipSpec(0, 16, 17, 64, 64)
CAPTIONS = ["None", "NA", "", 'a "quoted", comma', "line\nbreak \u2028 and \x85", "émoji 🎈", "x" * 5000]


def _items(folder, captions=CAPTIONS, suffix=".mp4"):
    folder.mkdir(exist_ok=True)
    items = []
    for i, caption in enumerate(captions):
        path = folder / f"näme {i} 'quoted'{suffix}"
        path.write_bytes(bytes([i]) * 10)
        items.append(ExportItem(f"train/{path.name}", path, caption, about={"votes": i}))
    return items


def _write(items, folder, **more):
    config = ExportConfig(**more)
    return build_exporter("diffsynth").write(items, folder, config=config, spec=SPEC, about={"run": "r"})


def _read_as_diffsynth(base_path):
    """What the trainer does with --dataset_base_path and --dataset_metadata_path: one JSON object per line."""
    rows = []
    for line in (base_path / "metadata.jsonl").read_text(encoding="utf-8").split("\n")[:-1]:
        row = json.loads(line)
        path = os.path.join(base_path, row["video"])  # noqa: PTH118
        assert path.split(".")[-1].lower() in ("gif", "mp4", "avi", "mov", "wmv", "mkv", "flv", "webm")
        with open(path, "rb") as file:  # noqa: PTH123
            rows.append((file.read(), row["prompt"]))
    return rows


@pytest.mark.parametrize("media", ["symlink", "copy"])
def test_read_back_is_what_was_selected(tmp_path, media):
    items = _items(tmp_path / "clips")
    report = _write(items, tmp_path / "out", media=media)
    assert report.written == len(items)
    assert report.without_caption == 1
    assert _read_as_diffsynth(tmp_path / "out") == [(item.path.read_bytes(), item.caption) for item in items]
    links = [p.is_symlink() for p in (tmp_path / "out" / "videos").iterdir()]
    assert all(links) if media == "symlink" else not any(links)


def test_the_manifest_says_what_is_in_it(tmp_path):
    items = _items(tmp_path / "clips")
    report = _write(items, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text(encoding="utf-8"))
    assert [c["id"] for c in manifest["clips"]] == [item.id for item in items]
    assert [c["votes"] for c in manifest["clips"]] == list(range(len(items)))
    assert all((tmp_path / "out" / c["file"]).exists() for c in manifest["clips"])
    assert manifest["command"] == report.command
    assert "--num_frames 17" in report.command
    assert manifest["run"] == "r"


def test_names_are_unique_safe_and_the_same_in_every_export(tmp_path):
    items = _items(tmp_path / "clips")
    items.append(ExportItem("other/" + items[0].path.name, items[0].path, "same stem, another clip"))
    _write(items, tmp_path / "a")
    _write(items[3:5], tmp_path / "b")
    names = [p.name for p in (tmp_path / "a" / "videos").iterdir()]
    assert len(names) == len(items)
    assert all(n.isascii() and " " not in n and "'" not in n for n in names)
    assert {p.name for p in (tmp_path / "b" / "videos").iterdir()} < set(names)


def test_what_the_trainer_cannot_read_is_left_out_and_said(tmp_path):
    items = _items(tmp_path / "clips", ["a"])
    items += _items(tmp_path / "other", ["b"], suffix=".mpeg")
    items.append(ExportItem("gone", tmp_path / "gone.mp4", "c"))
    report = _write([*items, ExportItem("window", items[0].path, "d", start=4.0)], tmp_path / "out")
    assert "begins 4 s into its file" in report.skipped["window"]
    assert report.written == 1
    assert "does not read .mpeg" in report.skipped[items[1].id]
    assert "does not exist" in report.skipped["gone"]
    with pytest.raises(ExportError, match=r"none of the 2 clips can be exported: .*\.mpeg"):
        _write(items[1:], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_folder_in_use_is_never_written_into(tmp_path):
    items = _items(tmp_path / "clips")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("x")
    with pytest.raises(ExportError, match="not empty"):
        _write(items, mine)
    with pytest.raises(ExportError, match="not an export of motive"):
        _write(items, mine, overwrite=True)
    assert [p.name for p in mine.iterdir()] == ["thesis.tex"]
    with pytest.raises(ExportError, match="not a folder"):
        _write(items, mine / "thesis.tex")


def test_an_earlier_export_is_replaced_whole_on_request(tmp_path):
    items = _items(tmp_path / "clips")
    _write(items, tmp_path / "out")
    with pytest.raises(ExportError, match="--overwrite"):
        _write(items[:2], tmp_path / "out")
    _write(items[:2], tmp_path / "out", overwrite=True)
    assert len(list((tmp_path / "out" / "videos").iterdir())) == 2
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    (tmp_path / "empty").mkdir()
    _write(items, tmp_path / "empty")


def test_complete_or_absent(tmp_path, monkeypatch):
    items = _items(tmp_path / "clips")
    real = base._place

    def full(source, target, media):
        if source == items[4].path:
            raise OSError(28, "No space left on device")
        real(source, target, media)

    monkeypatch.setattr(base, "_place", full)
    with pytest.raises(ExportError, match="No space left"):
        _write(items, tmp_path / "out", media="copy")
    assert [p.name for p in tmp_path.iterdir()] == ["clips"]
    monkeypatch.undo()
    _write(items, tmp_path / "out")
    monkeypatch.setattr(base, "_place", full)
    with pytest.raises(ExportError):
        _write(items, tmp_path / "out", overwrite=True)
    assert len(_read_as_diffsynth(tmp_path / "out")) == len(items)  # the earlier one is untouched


def test_unknown_layouts_are_refused():
    with pytest.raises(ConfigError, match="unknown export layout 'kohya'"):
        build_exporter("kohya")
