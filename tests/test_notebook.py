"""The notebook runs from its first cell to its last."""

from __future__ import annotations

import importlib.util
import subprocess
from importlib.metadata import version
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


@pytest.mark.parametrize("name", ["paddlepatch.ipynb", "paddlepatch_cn.ipynb"])
@pytest.mark.parametrize("missing", ["safetensors", "numba", "paddle"])
def test_its_first_cell_leaves_the_paddle_that_is_there(
    monkeypatch: pytest.MonkeyPatch, name: str, missing: str
) -> None:
    """It may be paddlepaddle-gpu, which pip would write paddlepaddle over, or 2.6, which does not run with numpy 2."""
    find, calls = importlib.util.find_spec, []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None if package == missing else find(package))
    monkeypatch.setattr(subprocess, "run", lambda words, check: calls.append(words))
    exec(nbformat.read(ROOT / "docs" / name, 4).cells[1].source, {})
    [needed] = calls
    assert "safetensors>=0.4" in needed
    paddle = any(word.startswith("paddlepaddle") for word in needed)
    assert (paddle, f"numpy=={version('numpy')}" in needed) == ((True, False) if missing == "paddle" else (False, True))
