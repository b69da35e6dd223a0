"""Processes from the warm server import what cold ones would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, done, run_process
from warm_python import ROOMS

pytestmark = pytest.mark.once
WHERE = "import sys, models, deploy; print(models.__file__, deploy.__file__, 'options' in sys.modules, sys.argv)"


def test_packages_are_those_that_the_path_leads_to(run_warm: Callable, tmp_path: Path) -> None:
    for folder, links in (("other", ROOMS[:-1]), ("linked", ROOMS)):
        (tmp_path / folder).mkdir()
        for room in links:
            (tmp_path / folder / room).symlink_to(ROOT / room)
    (tmp_path / "other/options").mkdir()
    (tmp_path / "other/options/__init__.py").touch()
    places = {
        ROOT: f"{ROOT}/models/__init__.py {ROOT}/deploy/__init__.py True",
        tmp_path / "linked": f"{ROOT}/models/__init__.py {ROOT}/deploy/__init__.py True",
        tmp_path / "other": f"{tmp_path}/other/models/__init__.py {tmp_path}/other/deploy/__init__.py False",
    }
    for folder, expected in places.items():
        assert done(run_warm("-c", WHERE, "a b", cwd=folder)).stdout == f"{expected} ['-c', 'a b']\n"
    result = run_warm("-c", WHERE, cwd=tmp_path)
    assert result.returncode == 1 and "ModuleNotFoundError: No module named 'models'" in result.stderr


def test_it_ends_and_says_what_a_cold_one_does(run_warm: Callable) -> None:
    words = ["infer.py", "--no_such_option"]
    warm, cold = run_warm(*words), run_process(*words)
    assert (warm.returncode, warm.stdout, warm.stderr) == (
        cold.returncode,
        cold.stdout,
        cold.stderr,
    ) and cold.returncode == 2
    assert run_warm("-c", "import os; os.kill(os.getpid(), 9)").returncode == 128 + 9
