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
    "options": {"deploy", "datasets", "models"},
    "app": {"deploy", "datasets", "models", "evaluation", "options"},
    "benchmarks": {"deploy", "datasets", "models", "evaluation", "options"},
}
INSIDE = {
    "deploy": (
        "errors",
        "command_line",
        "storage",
        "pictures",
        "runtime",
        "conformal",
        "calibration",
        "drift",
        "predictor",
        "results",
        "serve",
        "engine",
        "infer",
    ),
    "models": (
        "threads",
        "backbones",
        "graph",
        "distributed",
        "memory_bank",
        "base",
        "METHODS",
        "registry",
        "presets",
        "export",
    ),
    "datasets": ("readers", "sample", "pretraining"),
}
"""The rooms of a package: each may import those before it. METHODS stands for the files that are in no room."""
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


def rooms_imported(path: Path, package: str) -> set[str]:
    """Names directly below `package` that a file of it imports, from functions and for type checking too."""
    here = path.relative_to(ROOT).with_suffix("").parts
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level]
            full = [*base, *(node.module.split(".") if node.module else [])]
        elif isinstance(node, ast.ImportFrom):
            full = node.module.split(".")
        else:
            continue
        if full[0] == package:
            names |= {full[1]} if len(full) > 1 else {alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("package", INSIDE)
def test_rooms_of_a_package_import_only_those_before_them(package: str) -> None:
    order = INSIDE[package]
    folders = {path.name for path in (ROOT / package).iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders <= set(order), f"{package} has a room without a place: {folders - set(order)}"
    if package != "models":
        assert folders | {path.stem for path in (ROOT / package).glob("[!_]*.py")} == set(order)
    for path in (ROOT / package).rglob("*.py"):
        inside = path.relative_to(ROOT / package).with_suffix("").parts[0]
        if inside in ("__init__", "__main__"):
            continue
        rank = {name: number for number, name in enumerate(order)}
        own = rank.get(inside, rank.get("METHODS"))
        for name in rooms_imported(path, package) - {inside}:
            assert rank.get(name, rank.get("METHODS", len(order))) <= own, f"{path} imports {package}.{name}"


def test_the_runner_imports_itself_by_relative_names() -> None:
    for path in (ROOT / "deploy").rglob("*.py"):  # since it is called paddlepatch where it is installed
        assert not imported(path) & {"deploy", "paddlepatch"}, f"{path} imports itself by name"


def test_infer_stands_on_deploy_alone() -> None:
    assert imported(ROOT / "infer.py") & set(ALLOWED) == {"deploy"}


def test_files_and_scripts_stay_small() -> None:
    for path in [*ROOT.glob("*.py"), *(p for room in ALLOWED for p in (ROOT / room).rglob("*.py"))]:
        lines = len(path.read_text().splitlines())
        assert lines <= (200 if path.name in SCRIPTS else 400), f"{path} has {lines} lines"
