"""The runner as a package: what its wheel and its sdist hold, what it requires, and its use where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from email.parser import Parser as MetadataParser
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import pytest
from conftest import ROOT, done, refused, run
from environments import bare_environment
from packaging.requirements import Requirement

import deploy
from deploy.errors import UserError
from deploy.infer import main

pytestmark = pytest.mark.once

SOURCES = {f"paddlepatch/{path.relative_to(ROOT / 'deploy')}": path for path in (ROOT / "deploy").rglob("*.py")}
SOURCES["paddlepatch/py.typed"] = ROOT / "deploy/py.typed"
"""What the package consists of, by its names in the wheel."""
USE = """
from importlib.metadata import version
import sys
import paddlepatch
assert version("paddlepatch") == paddlepatch.__version__
predictor = paddlepatch.Predictor.load(sys.argv[1])
for prediction in predictor.predict(sys.argv[2:]):
    print(f"{prediction.score:.9g}", paddlepatch.__file__)
"""


def build(what: str, source: Path, into: Path) -> Path:
    """Build the `wheel` or `sdist` of `source`, as pip does, with the setuptools that is installed."""
    call = f"from setuptools import build_meta; build_meta.build_{what}({str(into)!r})"
    done(subprocess.run([sys.executable, "-c", call], cwd=source, capture_output=True, text=True))
    [path] = into.iterdir()
    return path


def content(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel."""
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout, in a folder that takes what building leaves behind."""
    folder = tmp_path_factory.mktemp("source")
    for path in ROOT.iterdir():
        if path.name not in ("build", "dist", "paddlepatch.egg-info"):
            (folder / path.name).symlink_to(path)
    return folder


def test_the_wheel_holds_the_runner_alone(wheel: Path) -> None:
    files = content(wheel)
    about = f"paddlepatch-{deploy.__version__}.dist-info"
    assert {name for name in files if not name.startswith(f"{about}/")} == set(SOURCES)
    assert all(files[name] == path.read_bytes() for name, path in SOURCES.items())
    assert files[f"{about}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert files[f"{about}/top_level.txt"].split() == [b"paddlepatch"]


def test_the_sdist_makes_the_same_wheel(source: Path, wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "sdist").mkdir()
    with tarfile.open(build("sdist", source, tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path)
    [unpacked] = (path for path in tmp_path.iterdir() if path.name != "sdist")
    assert {path.name for path in unpacked.iterdir() if path.is_dir()} == {"deploy", "paddlepatch.egg-info"}
    assert (unpacked / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    (tmp_path / "wheel").mkdir()
    assert content(build("wheel", unpacked, tmp_path / "wheel")) == content(wheel)


def test_the_runner_and_training_together_require_what_requirements_txt_lists(wheel: Path) -> None:
    [text] = (data for name, data in content(wheel).items() if name.endswith(".dist-info/METADATA"))
    metadata = MetadataParser().parsestr(text.decode())
    required = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
    runner = {one.name for one in required if one.marker is None}
    # setuptools is Paddle's need, which its own requirements tell for some versions only
    assert runner == {"paddlepaddle", "numpy", "opencv-python-headless", "safetensors", "setuptools"}
    extras = {"serve": {"fastapi", "uvicorn", "prometheus-client"}, "ray": {"ray", "pyarrow"}}
    for extra, names in extras.items():
        assert {one.name for one in required if str(one.marker) == f'extra == "{extra}"'} == names
        required = [one for one in required if one.name not in names]
    assert {str(one.marker) for one in required if one.marker} == {'extra == "train"'}
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    assert sorted(f"{one.name}{one.specifier}" for one in required) == sorted(lines)


def test_the_installed_command_does_what_infer_does(trained: SimpleNamespace, wheel: Path, tmp_path: Path) -> None:
    python = bare_environment(tmp_path / "env")
    # Nothing can be downloaded: what the wheel requires is what the environment has.
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-index", str(wheel)]
    done(subprocess.run(pip, capture_output=True, text=True))
    stats, pictures = str(trained.export / "stats"), trained.data / "washer/test"
    words = ["--stats", stats, "--input_file", str(pictures), "--save_path", str(tmp_path / "out"), "--save_mask"]
    command = [str(python.with_name("paddlepatch")), *words]
    done(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True))
    shutil.move(tmp_path / "out", tmp_path / "installed")
    served = subprocess.run([*command[:3], "--serve", "0"], cwd=tmp_path, capture_output=True, text=True)
    refused(served, "--serve needs", "pip install 'paddlepatch[serve]'")
    shared = subprocess.run([*command[:5], "--engine", "ray"], cwd=tmp_path, capture_output=True, text=True)
    refused(shared, "--engine ray needs", "pip install 'paddlepatch[ray]'")
    typed = subprocess.run([*command[:5], "--parquet"], cwd=tmp_path, capture_output=True, text=True)
    refused(typed, "--parquet needs pyarrow", "pip install 'paddlepatch[ray]'")
    done(run("infer.py", *words))
    files = {path.relative_to(tmp_path / "out"): path for path in (tmp_path / "out").rglob("*.*")}
    assert len(files) == 1 + 2 * len(list(pictures.rglob("*.png")))
    for name, path in files.items():
        expected = path.read_bytes().replace(b",python infer.py ", b",paddlepatch ")
        assert (tmp_path / "installed" / name).read_bytes() == expected, name

    [first, *_] = sorted(pictures.rglob("*.png"))
    use = [str(python), "-c", USE, stats, str(first)]
    score, place = done(subprocess.run(use, cwd=tmp_path, capture_output=True, text=True)).stdout.split()
    assert f",{score}," in (tmp_path / "installed/infer.csv").read_text()
    assert Path(place).with_name("py.typed").is_file() and tmp_path in Path(place).parents


def test_the_command_speaks_of_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("sys.argv", ["paddlepatch", "--stat", "x"])
    with pytest.raises(UserError, match=r"paddlepatch: .*--stats.* \(see paddlepatch --help\)"):
        main("paddlepatch")
    monkeypatch.setattr("sys.argv", ["paddlepatch", "--help"])
    with pytest.raises(SystemExit):
        main("paddlepatch")
    said = capsys.readouterr().out
    assert "usage: paddlepatch " in said and "paddlepatch --stats" in said and "infer.py" not in said
