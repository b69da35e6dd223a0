"""What people read: lines without dumps, help in groups, one line for one picture, errors that name what is there."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, done, fitted, refused, run, table

from deploy import Calibration, Preprocess
from deploy.command_line.progress import progress
from deploy.predictor import Prediction
from deploy.results.description import recorded
from deploy.results.tables import ScoreSheet, facts
from deploy.storage.tensors import read_header, write_tensors
from evaluation.aupro import aupro
from evaluation.report import FIGURES, summary
from models import METHODS, SPADE, AnomalyMethod, PaDiM, PatchCore, load_model
from models.export.export import compare
from models.memory_bank.neighbours import neighbours
from models.presets import preset
from models.registry import differing

pytestmark = pytest.mark.once
SCRIPTS = ("train.py", "eval.py", "predict.py", "export_model.py", "infer.py")
WIDTH = 160  # of a printed line, without the paths in it


def readable(text: str) -> None:
    """No line is a dump."""
    for line in text.splitlines():
        assert len(re.sub(r"/\S+", "", line)) <= WIDTH, line
        assert not re.search(r"[{}\[\]]", re.sub(r"^\[ *[\d.]+ s\]", "", line)), line


def description(text: str, method: str = "patchcore") -> str:
    """The lines that say what the model is: the second one has the options."""
    lines = text.splitlines()
    [first] = [number for number, line in enumerate(lines) if f"{method} on " in line]
    return "\n".join(lines[first : first + 2])


def test_every_script_says_what_the_model_is_in_readable_lines(trained: SimpleNamespace, tmp_path: Path) -> None:
    model = load_model(trained.model)
    said = f"patchcore on compact (layer2 layer3), k 2, bank of {len(model.fitted['memory_bank'])} patches, 8 pictures"
    said += f", resize 112 crop 96, threshold {model.calibration.image_threshold:.4f}"
    said += ",\n  image_score density, lloyd 0.5, score_sigma 0.7"
    words = ["--category", "washer", "--model_path", trained.model, "--save_path", tmp_path]
    runs = {
        "eval.py": ["--data_path", trained.data, *words, "--eval_PRO"],
        "predict.py": [trained.data / "washer/test/good", *words],
        "export_model.py": [*words, "--save_dir", tmp_path / "export", "--data_path", tmp_path],
        "infer.py": [
            "--stats",
            trained.export / "stats",
            "-i",
            trained.data / "washer/test/good",
            "--save_path",
            tmp_path,
        ],
    }
    for script, own in runs.items():
        result = done(run(script, *own))
        readable(result.stdout + result.stderr)
        assert description(result.stdout).removeprefix("== washer: ") == said, script


def test_only_options_that_are_no_defaults_are_told(data: Path, tmp_path: Path) -> None:
    words = ["--data_path", data, "--category", "washer", "--arch", "compact", "--resize", "72", "--crop_size", "64"]
    words += ["--save_path", tmp_path]
    own = ["--method", "h_sample", "--preset", "paper", "--k", "12", "--sigma", "2.5", "--eps", "0.01"]
    result = done(run("train.py", *words, *own, "--eval", "--eval_PRO", "--save_pic", "no"))
    readable(result.stdout)
    line = description(result.stdout, "h_sample")
    assert line.startswith("h_sample on compact (layer1 layer2 layer3), k 12, Gaussians of 12 channels, 8 pictures")
    assert line.endswith(",\n  sigma 2.5"), line
    path = tmp_path / "h_sample_compact_12/washer.safetensors"
    header = read_header(path, "model")
    assert recorded(header) == ("h_sample", {"sigma": 2.5, "eps": 0.01}), "an export knows what the command named"
    assert recorded({**header, "command": "an 'odd one"}) == ("padim", {})
    assert header["options"]["image_score"] == "smooth", "the header keeps all"


def test_what_an_option_becomes_by_itself_is_not_told() -> None:
    def told(method: type[AnomalyMethod], arch: str = "compact", **options: object) -> tuple[str, dict]:
        model = method(arch, preprocess=Preprocess(64, 64), weights="random", **options)
        return differing({"method": method.NAME, **model.config()})

    assert told(PatchCore) == ("patchcore", {})
    assert told(PatchCore, num_neighbors=2) == ("patchcore", {"num_neighbors": 2}), "search becomes exact"
    assert told(PatchCore, search="exact") == ("patchcore", {"search": "exact"})
    assert told(SPADE) == ("spade", {}), "the descriptor's layer becomes layer3"
    assert told(SPADE, "resnet18", descriptor_layer="layer3") == ("spade", {"descriptor_layer": "layer3"})
    assert told(PaDiM, channels="even", sigma=2.0) == ("h_sample", {"sigma": 2.0})


def test_all_figures_fit_on_a_line() -> None:
    line = summary({"category": "x", **dict.fromkeys(FIGURES, 0.12345)})
    assert len(line) + len("[12345.6 s] ") <= WIDTH
    assert line.count("0.1235") == len(FIGURES) - 2, "false alarms and misses are told as counts"
    assert summary({"category": "x", **dict.fromkeys(FIGURES)}) == "no figures"


def groups(script: str) -> dict[str, str]:
    """The groups of --help by title, and the part before them."""
    parts = re.split(r"^(\S[^\n]*):$", done(run(script, "--help")).stdout, flags=re.M)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2]))}


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_comes_in_groups_with_an_example_each(script: str) -> None:
    found = groups(script)
    head, rest = found.pop(""), {title: text for title, text in found.items() if not title.startswith("option")}
    assert "[OPTIONS]" in head and f"python {script}" in head
    assert {"data", "model", "running", "kept from Anomaly.Paddle"} <= set(rest)
    assert list(rest)[-1] == "kept from Anomaly.Paddle"
    if script == "train.py":
        assert {"patchcore", "padim, orthoad", "spade", "every method", "evaluation"} <= set(rest)
    for title, text in rest.items():
        assert text.count("example: ") == 1, title
        [example] = re.findall(r"example: (.*)", text)
        for option in re.findall(r"--\w+", example):
            assert any(option in other for other in rest.values()), option
        assert re.search(r"^ +(-|picture_path)", text, re.M), f"{title} is empty"
        assert text.count("no effect: ") == 0 or title == "kept from Anomaly.Paddle"
    assert "None" not in "".join(rest.values())


def test_help_tells_the_truth() -> None:
    texts = {script: " ".join(" ".join(groups(script).values()).split()) for script in SCRIPTS}
    for script in ("predict.py", "export_model.py"):
        assert "--category NAME" in texts[script] and "textures" not in texts[script] and ",tile" not in texts[script]
        assert "521" not in texts[script], "the seed is the model's"
    assert "all, textures or objects (default: all)" in texts["train.py"] and "(default: 521)" in texts["train.py"]
    for name in METHODS:
        assert f"{name} {preset(name).k:g}" in texts["train.py"]
        assert f"{name} {preset(name).options['image_score']}" in texts["train.py"]
    assert f"0 to 1 (default: {preset('patchcore').options['lloyd']})" in texts["train.py"]


def test_options_of_a_method_stand_in_its_group() -> None:
    found = groups("train.py")
    for name in METHODS["patchcore"].OPTIONS:
        if name not in ("image_score", "score_sigma", "score_top", "sigma", "grid", "power"):
            assert f"--{name} " in found["patchcore"], name
    assert "--grid " in found["patchcore, padim, orthoad"] and "--power " in found["patchcore, padim, orthoad"]
    assert "--eps" in found["padim, orthoad"] and "--gallery" in found["spade"] and "--sigma" in found["every method"]


@pytest.mark.parametrize(("script", "threshold"), [("predict.py", None), ("infer.py", 0.01)])
def test_a_single_picture_gets_its_line(
    trained: SimpleNamespace, tmp_path: Path, script: str, threshold: float | None
) -> None:
    picture = trained.data / "washer/test/chip/000.png"
    words = {"predict.py": [picture, "--model_path", trained.model], "infer.py": ["--stats", trained.export / "stats"]}
    more = [] if threshold is None else ["-i", picture, "--threshold", threshold]
    result = done(run(script, *words[script], *more, "--save_path", tmp_path, "--save_pic", "no"))
    [line] = [line for line in result.stdout.splitlines() if line.startswith(f"{picture}: ")]
    [known] = [row for row in table(trained.run / "washer/eval.csv") if row["path"] == str(picture)]
    score, scaled, levels = float(known["score"]), float(known["scaled"]), load_model(trained.model).calibration
    low = float(np.median(levels.scores))
    level = low + (levels.image_threshold - low) * (threshold or 0.5) / 0.5
    said = f"{'DEFECT' if score > level else 'good'}, score {score:.4f} (scaled {scaled:.3f}), "
    said += f"threshold {level:.4f} (scaled {threshold or 0.5:.3f}), p-value {levels.p_value(score):.2g}"
    assert line == f"{picture}: {said}"


LEVELS = Calibration((1.0, 2.0), (1.5, 3.0), 1.0, 5.0, false_alarm=0.05, image_threshold=2.0, pixel_threshold=3.0)


@pytest.mark.parametrize(("threshold", "scaled", "level"), [(0.25, True, 1.75), (1.0, False, 1.0), (3.5, False, 3.5)])
def test_a_threshold_moves_verdicts_and_contour_and_nothing_else(threshold: float, scaled: bool, level: float) -> None:
    moved = LEVELS.at(threshold, scaled)
    assert moved.image_threshold == level and moved.pixel_threshold == pytest.approx(3 * level / 2)
    assert [moved.is_defect(score) for score in (level, level + 0.01)] == [False, True]
    assert [moved.scaled(score) for score in (1.5, 2.0, 4.0, 1.0)] == [
        0.0,
        0.5,
        2.5,
        -0.5,
    ], "0.5 is the model's threshold"
    assert (moved.map_low, moved.map_high) == (1.0, 5.0), "colours are the model's"
    assert moved.to_dict() == LEVELS.to_dict() and "own" not in LEVELS.to_dict()
    again = moved.at(0.5, True)
    assert (again.image_threshold, again.pixel_threshold) == (2.0, 3.0), "thresholds do not add up"


def test_tables_keep_the_scale_whatever_the_threshold(trained: SimpleNamespace, tmp_path: Path) -> None:
    words = ["--stats", trained.export / "stats", "-i", trained.data / "washer/test", "--save_pic", "no", "--jsonl"]
    low, middle = load_model(trained.model).calibration._scale
    done(run("infer.py", *words, "--save_path", tmp_path, f"--threshold={0.5 * (0.01 - low) / (middle - low)}"))
    known, found = table(trained.run / "washer/eval.csv"), table(tmp_path / "infer.csv")
    of_model = [pytest.approx(float(row["scaled"]), rel=1e-4) for row in known]
    assert [float(row["scaled"]) for row in found] == of_model
    assert {row["defective"] for row in found} == {"1"} != {row["defective"] for row in known}
    for line, row in zip((tmp_path / "infer.jsonl").read_text().splitlines(), found):
        assert json.loads(line)["scaled"] == float(row["scaled"]) and json.loads(line)["defective"] is True


@pytest.mark.parametrize("score", [0.5, 1.5, 2.0, 2.5, 7.0])
def test_objects_say_what_rows_say(score: float, tmp_path: Path) -> None:
    sheet = ScoreSheet(tmp_path, "x", LEVELS, SimpleNamespace(crop_size=8), {}, heat_maps=False)
    row = dict(zip(sheet.columns, sheet.row(SimpleNamespace(name="a.png", score=score))))
    told = {"path": "a.png", **facts(score, LEVELS)}
    assert {name: "" if value is None else value for name, value in told.items()} == {
        name: value if name in ("path", "defective") or value == "" else float(value) for name, value in row.items()
    }


def test_several_pictures_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    model = SimpleNamespace(crop_size=8)
    for scores in ([1.0, 3.0], [3.0]):
        sheet = ScoreSheet(tmp_path, "x", LEVELS, model, {}, heat_maps=False)
        for number, score in enumerate(scores):
            sheet.add(Prediction(f"{number}.png", score, np.zeros((8, 8)), picture, picture.shape[:2], 9.0), "")
        assert sheet.finish() == 0
    first, _, alone, _ = capsys.readouterr().out.splitlines()
    assert first == "2 pictures: 1 defective, 1 good; threshold 2.0000 for a false alarm rate of 0.05"
    assert alone == "0.png: DEFECT, score 3.0000 (scaled 1.500), threshold 2.0000 (scaled 0.500), p-value 0.33"


EACH = """
import runpy, sys
for name in sys.argv[1:]:
    runpy.run_path(name, run_name="__main__")
    print("end of", name)
"""


def python(blocks: list[str], folder: Path) -> subprocess.CompletedProcess:
    """Programs of a user's, one after the other in a process of its own: stdout says where each ends."""
    names = [f"program{number}.py" for number in range(len(blocks))]
    for name, block in zip(names, blocks):
        (folder / name).write_text(block)
    env = {"PYTHONPATH": str(ROOT), "PATH": "/bin:/usr/bin", "HOME": str(folder)}
    return subprocess.run([sys.executable, "-c", EACH, *names], env=env, cwd=folder, capture_output=True, text=True)


def test_the_readmes_programs_print_their_own_lines_alone(trained: SimpleNamespace, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    blocks += re.findall(
        r"^```python\n(.*?)^```", "".join(page.read_text() for page in ROOT.glob("docs/*.md")), re.M | re.S
    )
    assert len(blocks) >= 2
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported/gasket").symlink_to(trained.export)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/gasket").symlink_to(trained.data / "washer")
    result = python([block.replace('arch="resnet18"', 'arch="compact"') for block in blocks], tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    said = re.split(r"^end of program\d+\.py\n", result.stdout, flags=re.M)
    assert len(said) == len(blocks) + 1 and said.pop() == ""
    for lines in map(str.splitlines, said):
        assert lines and not [line for line in lines if re.match(r"[IWEF]?\d{4}[ \d]|.*(Warning|ccache)", line)]


def test_a_missing_model_names_those_beside_it(trained: SimpleNamespace, tmp_path: Path) -> None:
    base = [trained.data / "washer/test/good/000.png", "--save_path", tmp_path]
    there = Path(shutil.copytree(trained.run, tmp_path / trained.run.name)) / "washer.safetensors"
    run_words, compact = ["--category", "washer"], ["--arch", "compact"]
    for words, cure in (
        (["--arch", "resnet18", "--k", "2"], "give --arch compact"),
        (["--arch", "compact", "--k", "7"], "give --k 2"),
        (["--arch", "compact"], "give --k 2"),
        (["--method", "spade", "--arch", "compact"], "give --method patchcore --k 2"),
        (["--method", "h_sample", "--arch", "resnet34", "--k", "2"], "give --method patchcore --arch compact"),
    ):
        line = refused(run("predict.py", *base, *run_words, *words), "no model at", f"{there} is there: ")
        assert line.endswith(cure), line
    seeds = tmp_path / trained.run.name / "seed521"
    seeds.mkdir()
    there.rename(seeds / there.name)
    line = refused(run("predict.py", *base, *run_words, *compact, "--k", "7"), f"{seeds / there.name} is there: ")
    assert line.endswith("give --k 2 --seed 521")
    assert "is there" not in refused(run("predict.py", *base, "--category", "fabric"), "no model at")
    (seeds / there.name).write_bytes(b"damaged")
    assert "is there" not in refused(run("predict.py", *base, *run_words, *compact, "--k", "7"), "no model at")


def test_spade_on_compact_needs_no_layer_named(data: Path, tmp_path: Path) -> None:
    words = ["--category", "washer", "--method", "spade", "--preset", "paper", "--arch", "compact", "--k", "3"]
    words += ["--save_path", tmp_path]
    small = ["--resize", "72", "--crop_size", "64", "--save_pic", "no", "--gallery", "same_position"]
    result = done(run("train.py", "--data_path", data, *words, *small, "--eval"))
    assert result.stdout.count("pictures are described by layer3: compact has no layer4") == 1
    path = tmp_path / "spade_compact_3/washer.safetensors"
    header, before = read_header(path, "model"), fitted(path)
    assert header["options"]["descriptor_layer"] == "layer3" and "--descriptor_layer" not in header["command"]
    done(run("train.py", *shlex.split(header["command"])[2:], "--eval", "no"))
    assert fitted(path) == before
    done(run("export_model.py", *words, "--save_dir", tmp_path / "export"))
    out = ["--input_file", data / "washer/test", "--save_path", tmp_path / "infer", "--save_pic", "no"]
    done(run("infer.py", "--stats", tmp_path / "export/stats", *out))
    known = table(tmp_path / "spade_compact_3/washer/eval.csv")
    scores = [pytest.approx(float(row["score"]), rel=1e-4) for row in known]
    assert [float(row["score"]) for row in table(tmp_path / "infer/infer.csv")] == scores
    refused(run("train.py", "--data_path", data, *words, *small, "--descriptor_layer", "layer4"), "layer4", "compact")


class Terminal(io.StringIO):
    """A stderr that somebody watches."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, str]]:
    """Name, total and unit of every bar that was shown to its end, as a terminal sees them."""
    import tqdm

    shown = []

    class Bar(tqdm.tqdm):
        def close(self) -> None:
            if self.n == self.total and not getattr(self, "told", False):
                self.told = shown.append((self.desc, self.total, self.unit)) or True
            super().close()

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    monkeypatch.setattr("deploy.command_line.progress.sys", SimpleNamespace(stderr=Terminal()))
    return shown


def test_long_stages_show_how_far_they_are(bars: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.memory_bank.neighbours.BLOCK", 16)
    bank = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)
    neighbours(bank, (bank**2).sum(axis=1) / 2, np.arange(40) % 3, 2)
    masks = [np.eye(8, dtype=bool), np.zeros((8, 8), bool)]
    aupro([np.random.default_rng(1).random((8, 8)) for _ in masks], masks)
    write_tensors(tmp_path / "stats", {"bank": bank}, {"kind": "stats"})
    found = {name.strip(": "): (total, unit) for name, total, unit in bars}
    expected = {
        "neighbours": (6, "block"),
        "AU-PRO": (2, "picture"),
    }
    assert expected.items() <= found.items(), found
    assert {"writing stats", "checking bank"} <= set(found)


def test_gaussians_and_comparisons_show_how_far_they_are(bars: list) -> None:
    random = np.random.default_rng(0)
    pictures = list(random.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8))
    model = PaDiM("compact", 5, preprocess=Preprocess(64, 64), weights="random").fit(pictures)
    compare(model, {}, pictures)
    found = {name.strip(": "): (total, unit) for name, total, unit in bars}
    assert found["covariances"] == (1, "block") and found["comparing"] == (3, "picture"), found
    assert found["features"] == (3, "picture")


def test_a_bar_waits_when_told_and_names_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(progress(range(3), 3, "stage", "block", delay=9)) == [0, 1, 2]
    assert sys.stderr.getvalue().strip() == ""
    assert list(progress(range(3), 3, "stage", "block")) == [0, 1, 2]
    assert "stage" in sys.stderr.getvalue() and "block" in sys.stderr.getvalue()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    items = range(3)
    assert progress(items, 3, "stage") is items
