"""Every command in the README runs, in the order in which it stands there."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import paddle
import pytest
from conftest import ROOT, done, run

from datasets.sample import write_sample
from models import ALIASES, METHODS

pytestmark = pytest.mark.readme
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout as the README assumes it: MVTec's folders (with generated pictures) and a customer's own."""
    place = tmp_path_factory.mktemp("readme") / "checkout"
    # numba's compiled functions, in __pycache__, come along
    shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(".*", "output", "demo", "tests", "*.pyc*", "*.tmp*"))
    write_sample(place / "data/mvtec", seed=1, train=4, good=2, bad=1, categories=["washer", "fabric"])
    (place / "data/mvtec/washer").rename(place / "data/mvtec/bottle")
    write_sample(place / "parts", seed=2, train=4, good=2, bad=1, categories=["washer", "fabric"])
    (place / "parts/fabric").rename(place / "parts/gasket")
    state = paddle.vision.models.resnet18().state_dict()
    (place / "weights").mkdir()
    paddle.save(state, str(place / "weights/resnet18.pdparams"))
    return place


def test_there_are_commands() -> None:
    assert sum(kind == "bash" for kind, _ in BLOCKS) >= 4
    assert sum(kind == "python" for kind, _ in BLOCKS) >= 2


def test_commands_run(place: Path) -> None:
    env = {"PADDLEPATCH_WEIGHTS": str(place / "weights")}
    for kind, text in BLOCKS:
        if kind == "python":
            (place / "block.py").write_text(text)
            assert done(run("block.py", cwd=place, env=env)).stdout.strip()
            continue
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            if words[0] == "make":  # .ci/run runs both from a fresh clone
                assert f"make {words[1]}\n" in (ROOT / ".ci/run").read_text() + "\n"
                continue
            assert words[0] == "python", line
            done(run(words[1], *words[2:], cwd=place, env=env))


def test_the_table_of_methods_is_the_registry() -> None:
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|.*\| ([\d.]+) \|$", (ROOT / "README.md").read_text(), re.M)
    assert {name: float(k) for name, _, k in rows} == {name: method.K for name, method in METHODS.items()}
    for name, aliases, _ in rows:
        assert re.findall(r"`(\w+)`", aliases) == [alias for alias, (own, _) in ALIASES.items() if own == name]


def test_links_and_pictures_exist() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#][^)]*)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target.split("#")[0]).exists(), f"{page.name}: {target}"


def test_every_option_named_in_the_readme_exists() -> None:
    helps = "".join(
        done(run(script, "--help")).stdout
        for script in ("train.py", "eval.py", "predict.py", "export_model.py", "infer.py")
    )
    for option in set(re.findall(r"`(--\w+)", (ROOT / "README.md").read_text())):
        assert option in helps, option
