"""Every export, read back by its trainer's own rules, is the clips and captions that were selected."""

import csv
import json
import shlex
from pathlib import Path

import pytest

from motive_fo.config import ExportConfig, Layout, plain_hint
from motive_fo.errors import ConfigError, ExportError
from motive_fo.exporters.base import ExportItem
from motive_fo.exporters.folder import MANIFEST
from motive_fo.exporters.registry import LAYOUTS, build_exporter
from motive_fo.exporters.survival import Measured
from tests.exporters import loaders
from tests.exporters.clips import CAPTIONS, SEPARATORS, items_in, many, write


def _read(layout, folder, report):
    if layout == "diffsynth":
        return loaders.read_diffsynth(folder, shlex.split(report.command))
    if layout == "finetrainers":
        return loaders.read_finetrainers(shlex.split(report.command)[1])[0]
    if layout == "diffusion-pipe":
        return loaders.read_diffusion_pipe(folder / "dataset.toml")[0]
    if layout == "musubi":
        rows = loaders.read_musubi(shlex.split(report.command)[1], Path("/"))
        return [(path, caption) for path, caption, _, _ in rows]
    if layout == "videofolder":
        return loaders.read_videofolder(folder)
    words = shlex.split(report.command)
    return loaders.read_vbench(words[words.index("--videos_path") + 1], words[words.index("--prompt_file") + 1])


def _expected(caption, layout):
    """The caption that must come back: as it was, but for what the layout cannot carry."""
    text = caption.replace("\0", "").replace("\ud83d", "\ufffd")
    if not text.strip():
        return ""
    if layout == "finetrainers":
        for separator in SEPARATORS:
            text = text.replace(separator, "\n")
        text = " ".join(part.strip() for part in text.split("\n") if part.strip())
    return text


@pytest.mark.parametrize("media", ["symlink", "hardlink", "copy"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_read_back_by_the_trainers_rules_is_what_was_selected(tmp_path, layout, media):
    items = items_in(tmp_path / "clips")
    report = write(items, tmp_path / "out 'quoted' \\ \"🎈\"", layout, media=media)
    read = {path.read_bytes(): caption for path, caption in _read(layout, Path(report.folder), report)}
    wanted = {item.path.read_bytes(): _expected(item.caption, layout) for item in items}
    if layout == "diffusion-pipe":  # it skips clips without a caption, so they are not there and the report says so
        without = {data for data, caption in wanted.items() if not caption}
        assert len(report.skipped) == len(without) == 2
        assert all("no caption" in why for why in report.skipped.values())
        wanted = {data: caption for data, caption in wanted.items() if caption}
    assert {data: caption.rstrip() for data, caption in read.items()} == {
        data: caption.rstrip() for data, caption in wanted.items()
    }
    assert report.written == len(wanted)
    assert report.without_caption == sum(not caption for caption in wanted.values())
    links = [path.is_symlink() for path in Path(report.folder).rglob("*.mp4")]
    assert all(links) if media == "symlink" else not any(links)


def test_the_readers_notice_what_other_listings_would_lose(tmp_path):
    """What DiffSynth reads of these captions in a CSV, and finetrainers in a list of lines, is not what was chosen."""
    items = items_in(tmp_path / "clips")
    with (tmp_path / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("video", "prompt"), *((item.path.name, _expected(item.caption, "")) for item in items)])
    command = ["--dataset_base_path", str(tmp_path), "--dataset_metadata_path", str(tmp_path / "metadata.csv")]
    read = [prompt for _, prompt in loaders.read_diffsynth(tmp_path, command)]
    lost = [item.caption for item, prompt in zip(items, read, strict=True) if prompt != prompt]
    assert lost == ["None", "NA", "nan", "", " \t "]
    text = (Path(write(items, tmp_path / "out", "videofolder").folder) / "metadata.jsonl").read_text(encoding="utf-8")
    captions = [json.loads(line)["caption"] for line in text.split("\n") if line]
    assert len("\n".join(captions).splitlines()) > len(items)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_missing_caption_can_be_filled_in(tmp_path, layout):
    items = items_in(tmp_path / "clips")
    report = write(items, tmp_path / "out", layout, missing_caption="a video")
    assert report.written == len(items)
    assert [c for _, c in _read(layout, tmp_path / "out", report)].count("a video") == 2


def test_the_manifest_says_which_captions_were_changed_and_how(tmp_path):
    items = items_in(tmp_path / "clips")
    report = write(items, tmp_path / "out", "finetrainers")
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text(encoding="utf-8"))
    changed = {clip["id"]: clip for clip in manifest["clips"] if "caption_changed" in clip}
    assert {i: clip["caption_changed"] for i, clip in changed.items()} == report.changed_captions
    by_caption = {item.caption: item.id for item in items}
    assert "line separators" in report.changed_captions[by_caption[CAPTIONS[6]]]
    assert "null" in report.changed_captions[by_caption["null \0 byte"]]
    assert "surrogate" in report.changed_captions[by_caption["half \ud83d a pair"]]
    assert "quote" in report.changed_captions[by_caption["b'bytes they are not'"]]
    assert by_caption["émoji 🎈 and a 'quote'"] not in report.changed_captions
    assert changed[by_caption[CAPTIONS[6]]]["caption_was"] == CAPTIONS[6]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_manifest_says_what_is_in_it(tmp_path, layout):
    items = many(tmp_path / "clips", 4)
    report = write(items, tmp_path / "out", layout, steps=10)
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text(encoding="utf-8"))
    assert [clip["id"] for clip in manifest["clips"]] == [item.id for item in items]
    assert all((tmp_path / "out" / clip["file"]).exists() for clip in manifest["clips"])
    assert all((tmp_path / "out" / name).exists() for name in manifest["files"])
    assert manifest["command"] == report.command
    assert manifest["training"] == {"steps": 10, "passes": 2.5}
    assert manifest["survival"]["layout"] == layout
    assert manifest["run"] == "r"
    assert manifest["clips"][0]["frames"] == 24
    assert json.loads(json.dumps(report.as_dict()))["survival"]["clips"] == 4


def test_steps_are_in_the_command_or_the_configuration(tmp_path):
    items = many(tmp_path / "clips", 4)
    said = {layout: write(items, tmp_path / layout, layout, steps=12).command for layout in LAYOUTS}
    assert "--dataset_repeat 3 --num_epochs 1" in said["diffsynth"]
    assert "--train_steps 12" in said["finetrainers"]
    assert "--max_train_steps 12" in said["musubi"]
    assert "epochs = 1" in said["diffusion-pipe"]
    assert "num_repeats = 3" in (tmp_path / "diffusion-pipe" / "dataset.toml").read_text()
    assert "--num_frames 17" in said["diffsynth"]


def test_names_are_unique_safe_and_the_same_in_every_export_and_layout(tmp_path):
    items = items_in(tmp_path / "clips")
    names = {
        layout: sorted(p.name for p in Path(write(items, tmp_path / layout, layout).folder).rglob("*.mp4"))
        for layout in LAYOUTS
    }
    assert len(set(names["diffsynth"])) == len(items)
    assert all(n.isascii() and " " not in n and "'" not in n and len(n) < 80 for n in names["diffsynth"])
    assert not [n for n in names["diffsynth"] if n.startswith(("-", "."))]
    assert all(set(found) <= set(names["diffsynth"]) for found in names.values())
    write(items[3:5], tmp_path / "few")
    assert {p.name for p in (tmp_path / "few" / "videos").iterdir()} < set(names["diffsynth"])


def test_musubi_gets_one_dataset_for_each_rate_and_length(tmp_path):
    rates = [Measured(48, 24000 / 1001), Measured(48, 24.0), Measured(48, 30.0), Measured(48, 16.0), Measured(11, 16.0)]
    items = [
        ExportItem(i.id, i.path, i.caption, measured=m)
        for i, m in zip(many(tmp_path / "clips", len(rates)), rates, strict=True)
    ]
    report = write(items, tmp_path / "out", "musubi")
    rows = loaders.read_musubi(tmp_path / "out" / "dataset.toml", "/")
    assert {(fps, *target) for _, _, fps, target in rows} == {
        (23.98, 17),
        (24.0, 17),
        (30.0, 17),
        (None, 17),
        (None, 9),
    }
    assert report.survival.counts() == {"clips": 5, "kept": 4, "cut": 1, "retimed": 0, "dropped": 0}


@pytest.mark.parametrize(
    ("layout", "refused"),
    [
        ("diffsynth", [".mpeg", ".txt", ""]),
        ("finetrainers", [".webm", ".avi", ".mkv"]),
        ("diffusion-pipe", [".gif", ".txt", ".json"]),
        ("musubi", [".gif", ".txt"]),
        ("videofolder", [".webm", ".gif"]),
        ("vbench", [".mov", ".webm"]),
    ],
)
def test_what_a_trainer_cannot_read_is_left_out_and_said(tmp_path, layout, refused):
    items = many(tmp_path / "clips", 1)
    for suffix in refused:
        path = tmp_path / f"clip{suffix}"
        path.write_bytes(b"x")
        items.append(ExportItem(f"bad{suffix}", path, "c", measured=Measured(24, 16)))
    items.append(ExportItem("gone", tmp_path / "gone.mp4", "c"))
    items.append(ExportItem("too long", tmp_path / f"{'x' * 300}.mp4", "c"))
    items.append(ExportItem("window", items[0].path, "d", start=4.0, measured=Measured(240, 16)))
    report = write(items, tmp_path / "out", layout)
    assert report.written == 1
    assert "begins 4 s into its file: --media reencode" in report.skipped["window"]
    assert "does not exist" in report.skipped["gone"]
    assert "cannot be read" in report.skipped["too long"]
    for suffix in refused:
        assert f"{layout} does not read" in report.skipped[f"bad{suffix}"]
    assert set(report.survival.dropped) == set(report.skipped)
    with pytest.raises(ExportError, match=r"\d of \d clips would not be trained on"):
        write(items, tmp_path / "strict", layout, strict=True)
    assert not (tmp_path / "strict").exists()
    with pytest.raises(ExportError, match=r"none of the \d clips can be exported: "):
        write(items[1:], tmp_path / "none", layout)
    assert not (tmp_path / "none").exists()


def test_files_are_probed_where_nothing_is_known_of_them(tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video at all")
    good = many(tmp_path / "clips", 1)
    report = write([*good, ExportItem("broken", path, "c")], tmp_path / "out")
    assert "not_video" in report.skipped["broken"]


def test_the_registry_and_the_setting_name_the_same_layouts():
    assert plain_hint(Layout).__args__ == LAYOUTS
    assert ExportConfig().layout in LAYOUTS
    with pytest.raises(ConfigError, match="unknown export layout 'kohya'"):
        build_exporter("kohya")
