"""Every command in the README and in docs/ runs, in the order in which the README names the pages."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from unittest.mock import patch

import paddle
import pytest
from conftest import ROOT, done, run

from datasets.readers import LAYOUTS
from datasets.sample import write_sample
from models import ALIASES, METHODS
from models.presets import preset

pytestmark = pytest.mark.readme
README = (ROOT / "README.md").read_text()
LINKED = [name for name in dict.fromkeys(re.findall(r"\]\((docs/\w+\.md)\)", README)) if (ROOT / name).is_file()]
PAGES = {name: (ROOT / name).read_text() for name in ("README.md", *LINKED)}
BLOCKS = {name: re.findall(r"^```(bash|python)\n(.*?)^```", text, re.M | re.S) for name, text in PAGES.items()}
OTHERS = {name: (ROOT / name).read_text() for name in ("README_cn.md", "CONTRIBUTING.md", "test_tipc/README.md")}
HELP = (
    *("train.py", "eval.py", "predict.py", "export_model.py", "infer.py", "train_compact.py"),
    *(
        "-m benchmarks",
        "benchmarks/onnx_runtime.py save",
        "benchmarks/onnx_runtime.py run",
        "-m benchmarks.false_alarms",
        "-m benchmarks.small_defects",
        "tests/fuzz.py",
        "-m benchmarks.plan",
        "-m benchmarks.large_banks",
        "-m datasets",
        "-m app",
        "-m paddle.distributed.launch",
    ),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout as the pages assume it: MVTec's folders (with generated pictures), a customer's own, and new ones."""
    place = tmp_path_factory.mktemp("readme") / "checkout"
    # numba's compiled functions, in __pycache__, come along
    shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(".*", "output", "demo", "tests", "*.pyc*", "*.tmp*"))
    folders = ("data/mvtec", "washer", "bottle", 1), ("parts", "fabric", "gasket", 1), ("new", "fabric", "gasket", 2)
    for folder, drawn, name, seed in folders:
        write_sample(place / folder, seed=seed, train=4, good=2, bad=1, categories=[drawn])
        (place / folder / drawn).rename(place / folder / name)
    state = paddle.vision.models.resnet18().state_dict()
    (place / "weights").mkdir()
    paddle.save(state, str(place / "weights/resnet18.pdparams"))
    return place


def test_there_are_commands() -> None:
    assert sum(kind == "bash" for kind, _ in BLOCKS["README.md"]) >= 4
    blocks = [block for page in BLOCKS.values() for block in page]
    assert sum(text.count("python ") for kind, text in blocks if kind == "bash") >= 11
    assert sum(kind == "python" for kind, _ in blocks) >= 2
    # commands in bare blocks are of runs on the real data, and are not run here
    bare = {name for name, text in PAGES.items() if text.count("```") > 2 * len(BLOCKS[name])}
    assert bare == {
        f"docs/{name}.md" for name in ("results", "mvtec", "quality", "thresholds", "distributed", "scaling")
    }


def test_the_readme_links_every_page() -> None:
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} == set(PAGES) - {"README.md"}


@pytest.mark.parametrize("page", [name for name, blocks in BLOCKS.items() if blocks])
def test_commands_run(page: str, place: Path) -> None:
    """Later pages use what the commands of earlier ones made."""
    env = {"PADDLEPATCH_WEIGHTS": str(place / "weights")}
    for kind, text in BLOCKS[page]:
        if kind == "python":
            (place / "block.py").write_text(text)
            with patch.dict(LAYOUTS):  # a page adds one
                assert done(run("block.py", cwd=place, env=env)).stdout.strip()
            continue
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            if words[0] == "make":  # .ci/run runs both from a fresh clone
                assert f"make {words[1]}\n" in (ROOT / ".ci/run").read_text() + "\n"
                continue
            assert words[0] == "python", line
            script, rest = (f"-m {words[2]}", words[3:]) if words[1] == "-m" else (words[1], words[2:])
            done(run(script, *rest, cwd=place, env=env))


def test_the_table_of_methods_is_the_registry() -> None:
    section = PAGES["docs/methods.md"].partition("\n## Methods\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|.*\| ([\d.]+) \|$", section, re.M)
    assert {name: float(k) for name, _, k in rows} == {name: preset(name).k for name in METHODS}
    for name, aliases, _ in rows:
        assert re.findall(r"`(\w+)`", aliases) == [alias for alias, (own, _) in ALIASES.items() if own == name]


def test_the_table_of_options_is_that_of_the_methods() -> None:
    told = {}
    for option, defaults in re.findall(r"^\| `--(\w+)` \| (\w+.*?: [^|]*) \|", PAGES["docs/methods.md"], re.M):
        for names, value in re.findall(r"([\w, ]+): ([^;]+)", defaults):
            told.update({(name.strip(), option): value for name in names.split(",")})
    options = known_options("train.py")
    assert told == {
        (name, option): str(default).lower()
        for name, method in METHODS.items()
        for option, default in method.OPTIONS.items()
        if f"--{option}" in options
    }


def test_links_and_pictures_exist() -> None:
    for name, text in {**PAGES, **OTHERS}.items():
        for target in re.findall(r"\]\(([^)#][^)]*)\)", text):
            if "://" not in target:
                assert ((ROOT / name).parent / target.split("#")[0]).exists(), f"{name}: {target}"


def test_every_file_of_the_code_that_is_named_exists() -> None:
    rooms = "deploy|datasets|models|evaluation|options|app|tests|benchmarks|test_tipc|docs"
    for name, text in {**PAGES, **OTHERS}.items():
        inside = "|configs|results" if name.startswith("test_tipc") else ""
        for path in re.findall(rf"`((?:{rooms}{inside})/[\w./]*)`", text):
            if "NAME" not in path:
                assert (ROOT / path).exists() or (ROOT / name).parent.joinpath(path).exists(), f"{name}: {path}"


def test_every_option_named_in_the_pages_exists() -> None:
    known = set().union({"--logdir"}, *(known_options(script) for script in HELP))  # VisualDL has the first
    for name, text in {**PAGES, **OTHERS}.items():
        unknown = set(re.findall(r"(?<![\w-])--\w+(?![\w-])", text)) - known
        assert not unknown, f"{name}: {unknown}"


def known_options(script: str) -> set[str]:
    """The options that a script's help lists."""
    name, *verb = [script] if script.startswith("-m ") else script.split()
    return set(re.findall(r"--\w+", done(run(name, *verb, "--help")).stdout))
