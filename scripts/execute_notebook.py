"""Execute ``docs/notebook.ipynb`` and keep its output: ``python -m scripts.execute_notebook``.

It runs in an empty folder, with a dataset ``motive-notebook`` that must not exist yet.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "notebook.ipynb"


def execute(folder: Path, timeout: int = 600) -> Any:
    """The notebook, executed in a folder. Raises ``CellExecutionError`` where a cell does."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, timeout=timeout, resources={"metadata": {"path": str(folder)}})
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day
        if cell.cell_type == "code":  # what libraries say on the error stream is no output of ours
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    return notebook


if __name__ == "__main__":
    import nbformat

    with tempfile.TemporaryDirectory() as scratch:
        nbformat.write(execute(Path(scratch)), NOTEBOOK)  # type: ignore[no-untyped-call]
