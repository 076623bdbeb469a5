"""The notebook of the documentation runs, and its stored output is what it prints."""

from __future__ import annotations

import nbformat
import pytest

from scripts.execute_notebook import NOTEBOOK, execute


def _printed(notebook):
    return [
        "".join(output.text for output in cell.outputs if output.output_type == "stream")
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def _pictures(notebook):
    return [
        len([output for output in cell.outputs if output.output_type == "display_data"])
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.timeout(600)
def test_it_runs_and_its_output_is_kept(database, tmp_path):
    stored = nbformat.read(NOTEBOOK, as_version=4)
    fresh = execute(tmp_path)
    assert _pictures(fresh) == _pictures(stored)
    for now, before in zip(_printed(fresh), _printed(stored), strict=True):
        # numbers may differ in their last digits between processors, words and lines may not
        assert now.count("\n") == before.count("\n")
        assert bool(now) == bool(before)
    assert sum(_pictures(stored)) == 7
    assert (tmp_path / "motive-notebook" / "report.html").is_file()


def test_it_names_no_place_of_a_machine():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert "/tmp/" not in text
    assert "/home/" not in text
    assert "Traceback" not in text
