"""An export is complete or absent, whatever ends it; a second one changes nothing, a changed one only what changed."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from motive_fo.errors import ExportError
from motive_fo.exporters import base, folder
from motive_fo.exporters.base import ExportItem
from motive_fo.exporters.folder import MANIFEST
from motive_fo.exporters.registry import LAYOUTS
from motive_fo.exporters.survival import Measured
from tests.exporters.clips import contents, items_in, many, tree, write

ROOT = Path(__file__).resolve().parents[2]
COUNT = 60
SLOW = pytest.mark.slow  # each costs a process

#: exports COUNT clips and kills itself where it is told to
PROGRAM = """
import os, signal, sys
from pathlib import Path
from motive_fo.exporters import base, folder
from motive_fo.exporters.base import ExportItem
from tests.exporters.clips import many, write

where, clips, out, count, overwrite = sys.argv[1:]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if where.startswith("clip"):
    real, left = base.link_or_copy, int(where[4:])
    def place(*args):
        global left
        left -= 1
        if left < 0: die()
        real(*args)
    base.link_or_copy = place
elif where == "texts":
    base.write_text = die
elif where == "before":
    folder.Staging.commit = die
elif where == "after":
    commit = folder.Staging.commit
    def then_die(self):
        commit(self)
        die()
    folder.Staging.commit = then_die
elif where == "between":
    folder.exchange = lambda one, other: False
    replace, calls = Path.replace, []
    def die_at_second(self, target):
        if self.name == "tree": die()
        return replace(self, target)
    Path.replace = die_at_second
write(many(Path(clips), int(count)), Path(out), media="copy", overwrite=overwrite == "1")
"""


def _killed(where, clips, out, count=COUNT, overwrite=False):
    words = [sys.executable, "-c", PROGRAM, where, clips, out, str(count), str(int(overwrite))]
    done = subprocess.run([str(w) for w in words], cwd=ROOT, capture_output=True, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def _manifest(path):
    data = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    return {**data, "created": ""}


@pytest.mark.parametrize(
    "where", ["clip30", "before", "after", *(pytest.param(w, marks=SLOW) for w in ("clip0", "texts"))]
)
def test_a_killed_export_is_absent_or_complete_and_the_next_one_equals_an_undisturbed_one(tmp_path, where):
    clips, out = tmp_path / "clips", tmp_path / "place" / "out"
    _killed(where, clips, out)
    assert out.exists() == (where == "after")
    items = many(clips, COUNT)
    report = write(items, out, media="copy")
    assert report.unchanged == (where == "after")
    undisturbed = tmp_path / "place" / "undisturbed"
    write(items, undisturbed, media="copy")
    ours, theirs = contents(out), contents(undisturbed)
    for found in (ours, theirs):
        del found[MANIFEST]
    assert {n: d.replace(b"undisturbed", b"out") for n, d in theirs.items()} == ours
    assert _manifest(out) == json.loads(json.dumps(_manifest(undisturbed)).replace("undisturbed", "out"))
    if where != "after":
        assert sorted(p.name for p in out.parent.iterdir()) == ["out", "undisturbed"]


@pytest.mark.parametrize(
    "where", ["clip5", "between", *(pytest.param(w, marks=SLOW) for w in ("texts", "before", "after"))]
)
def test_a_killed_renewal_leaves_the_earlier_export_or_the_new_one(tmp_path, where):
    clips, out = tmp_path / "clips", tmp_path / "place" / "out"
    write(many(clips, 10), out, media="copy")
    (out / "cache").mkdir()
    (out / "cache" / "latents.npz").write_bytes(b"cached")
    before = contents(out)
    _killed(where, clips, out, overwrite=True)
    if where == "between":  # a system that cannot exchange folders: it stands aside, and comes back by itself
        assert not out.exists()
    elif where == "after":
        assert len(list((out / "videos").iterdir())) == COUNT
    else:
        assert contents(out) == before
    write(many(clips, COUNT), out, media="copy", overwrite=True)
    assert len(list((out / "videos").iterdir())) == COUNT
    assert (out / "cache" / "latents.npz").read_bytes() == b"cached"
    write(many(clips, 3), out, media="copy", overwrite=True)
    assert sorted(p.name for p in out.parent.iterdir()) == ["out"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux exchanges folders in one step here")
def test_a_renewed_folder_is_there_at_every_moment(tmp_path, monkeypatch):
    out, items = tmp_path / "out", many(tmp_path / "clips", 3)
    write(items, out)
    replace_path = Path.replace

    def watched(self, target):
        assert self != out, "between this move and the next there would be no export"
        return replace_path(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    write(items[:2], out, overwrite=True)
    assert len(list((out / "videos").iterdir())) == 2


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_an_old_folder_that_stands_aside_comes_back_when_the_new_one_fails(tmp_path, monkeypatch, error):
    out, items = tmp_path / "out", many(tmp_path / "clips", 3)
    write(items, out)
    before, replace_path = tree(out), Path.replace

    def fail(self, target):
        if self.name == "tree":
            raise error
        return replace_path(self, target)

    monkeypatch.setattr(folder, "exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises((ExportError, KeyboardInterrupt)):
        write(items[:2], out, overwrite=True)
    assert tree(out) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clips", "out"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no small file system here: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def test_on_a_full_disk_an_export_is_absent_and_an_earlier_one_untouched(tmp_path, small_disk):
    out = small_disk / "out"
    with pytest.raises(ExportError, match="No space left on device"):
        write(many(tmp_path / "large", 20, size=5000), out, media="copy")
    assert list(small_disk.iterdir()) == []
    write(many(tmp_path / "few", 3, size=500), out, media="copy")
    before = tree(out)
    with pytest.raises(ExportError, match="No space left on device"):
        write(many(tmp_path / "large", 20, size=5000), out, media="copy", overwrite=True)
    assert tree(out) == before
    assert list(small_disk.iterdir()) == [out]


def test_a_disk_that_is_full_of_listings_is_no_different(tmp_path, small_disk):
    with pytest.raises(ExportError, match="No space left on device"):
        write(many(tmp_path / "clips", 400), small_disk / "out")  # links take no room there, the manifest does
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("media", ["symlink", "hardlink", "copy"])
def test_a_second_export_changes_nothing(tmp_path, layout, media):
    items = many(tmp_path / "clips", 5)
    write(items, tmp_path / "out", layout, media=media)
    before = tree(tmp_path / "out")
    report = write(items, tmp_path / "out", layout, media=media)
    assert report.unchanged
    assert tree(tmp_path / "out") == before
    assert write(items, tmp_path / "out", layout, media=media, overwrite=True).unchanged
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_second_export_of_nasty_clips_changes_nothing(tmp_path, layout):
    items = items_in(tmp_path / "clips")
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/not utf-8 \xff.mp4"))
    path.write_bytes(b"film")
    items.append(ExportItem(f"clips/{path.name}", path, "c", measured=Measured(24, 16)))
    first = write(items, tmp_path / "out", layout)
    before = tree(tmp_path / "out")
    assert write(items, tmp_path / "out", layout).unchanged
    assert tree(tmp_path / "out") == before
    assert f"clips/{path.name}" not in first.skipped


@pytest.mark.parametrize("media", ["symlink", "hardlink", "copy"])
def test_a_renewed_export_keeps_names_unchanged_media_and_a_trainers_cache(tmp_path, media):
    out, items = tmp_path / "out", many(tmp_path / "clips", 6)
    write(items[:4], out, media=media)
    for name in ("notes.txt", "videos/cache/latents.bin", "cache/as-is-17/one.safetensors"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(name)
    before = tree(out)
    write(items[1:], out, media=media, overwrite=True)
    after = tree(out)
    stay = [n for n in before if n not in ("metadata.jsonl", MANIFEST) and not n.startswith("videos/00000")]
    assert len(stay) == 6
    assert {n: after[n] for n in stay} == {n: before[n] for n in stay}
    assert not [n for n in after if n.startswith("videos/00000")]
    assert len([n for n in after if n.startswith("videos/0")]) == 5


def test_a_file_that_changed_is_exported_again(tmp_path):
    out, items = tmp_path / "out", many(tmp_path / "clips", 3)
    write(items, out, media="copy")
    before = tree(out)
    items[1].path.write_bytes(b"another film")
    with pytest.raises(ExportError, match="--overwrite"):
        write(items, out, media="copy")
    write(items, out, media="copy", overwrite=True)
    changed = {n for n, data in tree(out).items() if data != before[n]} - {MANIFEST}
    assert {n.split("_")[0] for n in changed - {"metadata.jsonl"}} == {"videos/00001"}


def test_other_facts_of_the_same_clips_need_no_permission(tmp_path):
    """A new score changes the manifest alone; another caption changes what is trained on."""
    out, items = tmp_path / "out", many(tmp_path / "clips", 3)
    write(items, out)
    before = tree(out)
    again = [replace(item, about={"votes": 7}) for item in items]
    assert not write(again, out).unchanged
    assert {n for n, data in contents(out).items() if data != before[n][2]} == {MANIFEST}
    with pytest.raises(ExportError, match="--overwrite"):
        write([replace(items[0], caption="new"), *items[1:]], out)


def test_a_folder_in_use_is_never_written_into(tmp_path):
    items = many(tmp_path / "clips", 2)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(ExportError, match="not an export of motive"):
            write(items, mine, overwrite=overwrite)
    assert [p.name for p in mine.iterdir()] == ["thesis.tex"]
    with pytest.raises(ExportError, match="not a folder"):
        write(items, mine / "thesis.tex")
    (tmp_path / "link").symlink_to(mine)
    with pytest.raises(ExportError, match="not a folder"):
        write(items, tmp_path / "link")
    (mine / MANIFEST).write_text("{")
    with pytest.raises(ExportError, match="cannot be read"):
        write(items, mine, overwrite=True)
    (tmp_path / "empty").mkdir()
    assert write(items, tmp_path / "empty").written == 2


def test_an_export_of_version_0_1_is_renewed(tmp_path):
    """Its manifest names neither its listing nor what its media are made of."""
    out, items = tmp_path / "out", many(tmp_path / "clips", 3)
    write(items, out)
    old = json.loads((out / MANIFEST).read_text())
    del old["files"]
    old["clips"] = [{"file": clip["file"], "id": clip["id"]} for clip in old["clips"]]
    (out / MANIFEST).write_text(json.dumps(old))
    with pytest.raises(ExportError, match="--overwrite"):
        write(items[:2], out)
    write(items[:2], out, overwrite=True)
    assert len(list((out / "videos").iterdir())) == 2


def test_two_exports_into_one_folder_do_not_mix(tmp_path):
    items = many(tmp_path / "clips", 2)
    with folder.staged(tmp_path / "out"), pytest.raises(ExportError, match="another export into"):
        write(items, tmp_path / "out")
    assert write(items, tmp_path / "out").written == 2


def test_without_links_between_file_systems_files_are_copied_or_the_way_out_is_named(tmp_path, monkeypatch):
    items = many(tmp_path / "clips", 3)
    write(items, tmp_path / "out", media="copy")

    def refuse(*_, **__):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write(items[:2], tmp_path / "out", media="copy", overwrite=True)
    assert len(list((tmp_path / "out" / "videos").iterdir())) == 2
    with pytest.raises(ExportError, match=r"cannot be hard-linked into .*: use symlink or copy"):
        write(items, tmp_path / "hard", media="hardlink")
    assert not (tmp_path / "hard").exists()


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    items = many(tmp_path / "clips", 1)
    with pytest.raises(ExportError, match="cannot write into"):
        write(items, items[0].path / "below" / "out")
    monkeypatch.setattr(base, "link_or_copy", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(ExportError, match=r"failed: Input/output error"):
        write(items, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clips"]
