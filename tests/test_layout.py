"""The rooms keep to themselves: arrows between packages point one way."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from conftest import ROOT

pytestmark = pytest.mark.once

ALLOWED = {
    "deploy": set(),
    "datasets": {"deploy"},
    "models": {"deploy"},
    "evaluation": {"deploy", "datasets"},
    "benchmarks": {"deploy", "datasets", "models", "evaluation"},
}
SCRIPTS = ("train.py", "eval.py", "predict.py", "export_model.py", "infer.py")


def imported(path: Path) -> set[str]:
    """First names of everything a file imports absolutely."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_import_only_what_lies_before_them(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        others = imported(path) & (set(ALLOWED) - {room})
        assert others <= ALLOWED[room], f"{path} imports {others}"


def test_infer_stands_on_deploy_alone() -> None:
    assert imported(ROOT / "infer.py") & {*ALLOWED, "options"} == {"deploy"}


def test_files_and_scripts_stay_small() -> None:
    for path in [*ROOT.glob("*.py"), *(p for room in ALLOWED for p in (ROOT / room).rglob("*.py"))]:
        lines = len(path.read_text().splitlines())
        assert lines <= (150 if path.name in SCRIPTS else 400), f"{path} has {lines} lines"
