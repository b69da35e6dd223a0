"""The notebook runs from its first cell to its last."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient
from warm_python import WarmPython

pytestmark = pytest.mark.once


def test_the_notebook_runs(tmp_path: Path, warm: WarmPython, monkeypatch: pytest.MonkeyPatch) -> None:
    """On few pictures; its scripts need not import Paddle each."""
    monkeypatch.setenv("PADDLEPATCH_NOTEBOOK", str(tmp_path))
    notebook = nbformat.read(ROOT / "docs/paddlepatch.ipynb", 4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "committed without outputs"
    given, few = "train=12, good=4, bad=2", "train=4, good=2, bad=1"
    [drawn] = (cell for cell in notebook.cells if given in cell.source)
    drawn.source = drawn.source.replace(given, few)
    first = f"--IPKernelApp.exec_lines=import sys; sys.executable = {str(warm.program)!r}"
    place = {"metadata": {"path": str(ROOT / "docs")}}
    NotebookClient(notebook, timeout=300, resources=place, extra_arguments=[first]).execute()
    text = str(notebook.cells)
    assert "image/png" in text and "good/000.png" in text
