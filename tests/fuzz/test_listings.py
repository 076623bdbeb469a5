"""Whatever a metadata file holds, it is clips within its folder or one sentence."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motive_fo.dataset.listing import read_source
from motive_fo.errors import InputError
from tests.fuzz.strategies import PLAIN, TEXT

KEYS = st.sampled_from(["path", "video", "file_name", "caption", "text", "prompt"]) | TEXT
NAMES = st.sampled_from(["a.mp4", "../a.mp4", "/etc/passwd", "b/../../a.mp4", "~/a.mp4", "C:\\a.mp4", "a\0.mp4", "."])
ROWS = st.lists(st.dictionaries(KEYS, PLAIN | NAMES, max_size=4) | PLAIN, max_size=4)


def _csv(rows):
    text = io.StringIO()
    csv.writer(text).writerows(
        [str(value) for value in row.values()] if isinstance(row, dict) else [row] for row in rows
    )
    return text.getvalue()


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("list.json", json.dumps),
        ("list.jsonl", lambda rows: "\n".join(map(json.dumps, rows))),
        ("list.csv", lambda rows: "path,caption\n" + _csv(rows)),
    ],
)
@given(rows=ROWS)
def test_any_rows_are_clips_inside_or_one_sentence(tmp_path_factory, name, write, rows):
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / name
    path.write_text(write(rows), encoding="utf-8")
    try:
        entries = read_source(path).entries
    except InputError:
        return
    assert all(entry.path.is_relative_to(folder) for entry in entries)
    assert all(isinstance(entry.caption, str) for entry in entries)
