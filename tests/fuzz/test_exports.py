"""Whatever ids and captions clips have, an export read by its trainer's rules is these clips and captions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from motive_fo.errors import ExportError
from motive_fo.exporters.base import ExportItem
from motive_fo.exporters.folder import MANIFEST
from motive_fo.exporters.registry import LAYOUTS
from motive_fo.exporters.survival import Measured
from tests.exporters.clips import write
from tests.exporters.test_layouts import _read

CAPTIONS = st.text(max_size=30) | st.sampled_from(
    ["None", "\u2028", "\x85", '"', "'''", "\\", "\ud83d", "#", "[x]", "\0"]
)
IDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30)


def _words(caption):
    """A caption without what formats may change: white space, null characters, halves of pairs."""
    kept = caption.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return "".join(kept.replace("\ufffd", "").split()) if kept.strip() else ""


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(clips=st.dictionaries(IDS, CAPTIONS, min_size=1, max_size=4))
def test_any_ids_and_captions(tmp_path_factory, layout, clips):
    folder = tmp_path_factory.mktemp("fuzz")
    items = []
    for number, (clip_id, caption) in enumerate(clips.items()):
        path = folder / f"{number}.mp4"
        path.write_bytes(bytes([number]) * 10)
        items.append(ExportItem(clip_id, path, caption, measured=Measured(24, 16)))
    try:
        report = write(items, folder / "out", layout)
    except ExportError:
        assert not any(map(_words, clips.values()))  # the trainer would take nothing of it
        return
    read = {path.read_bytes()[0]: caption for path, caption in _read(layout, Path(report.folder), report)}
    wanted = {n: caption for n, (i, caption) in enumerate(clips.items()) if i not in report.skipped}
    assert {n: _words(caption) for n, caption in read.items()} == {n: _words(c) for n, c in wanted.items()}
    manifest = json.loads((folder / "out" / MANIFEST).read_text())
    assert {clip["id"] for clip in manifest["clips"]} == set(clips) - set(report.skipped)
    shutil.rmtree(folder)
