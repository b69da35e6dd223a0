"""The benchmark program runs, and what it prints and writes is what it measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, done, refused, run
from warm_python import WarmPython

from benchmarks.engines import missing
from benchmarks.large_banks import copies_of, nearest_of_all, search_of
from benchmarks.multiply import SYMMETRIES, symmetry
from benchmarks.report import Report, Stage, sentence
from benchmarks.selection import categories_in, shape
from benchmarks.small_defects import DEFECTS, found
from benchmarks.stages.coreset import radius
from benchmarks.stages.scaling import exponent
from benchmarks.timing import in_turns, spread
from deploy.errors import UserError
from deploy.pictures.preprocess import Preprocess
from models.presets import PRESETS

pytestmark = pytest.mark.once
STAGES = ("coreset", "sweep", "search", "fit", "padim", "decode", "pro", "backbones", "scaling", "quality", "serve")


@pytest.fixture(scope="module")
def measured(data: Path, warm: WarmPython, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict, str]:
    output = tmp_path_factory.mktemp("bench") / "figures"
    words = ["--stages", *STAGES, "--data_path", data, "--category", "washer", "--rounds", "1"]
    small = ["--resize", "112", "--crop_size", "96", "--archs", "compact", "--layers", "layer2", "--counts", "8"]
    small += ["--noise", "2000", "--shapes", "100:5", "400:50", "9999:1"]
    small += ["--methods", "padim", "--seeds", "1", "2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.timing.REST", 0.01)
        patch.setattr("benchmarks.ceilings.BYTES", 1 << 22)
        patch.setattr("benchmarks.ceilings.SIZE", 256)
        for name, preset in PRESETS["padim"].items():
            patch.setitem(PRESETS["padim"], name, preset._replace(preprocess=Preprocess(112, 96)))
        patch.setattr("sys.executable", str(warm.program))
        result = done(run("-m benchmarks", *words, *small, "--output", output))
    return result.stdout, json.loads(output.with_suffix(".json").read_text()), output.with_suffix(".md").read_text()


def test_every_stage_measures_and_says_what_is_missing(measured: tuple[str, dict, str]) -> None:
    _, found, _ = measured
    assert tuple(found["stages"]) == STAGES
    assert {"cpu", "versions"} <= set(found["machine"]) and found["machine"]["versions"]["numpy"] == np.__version__
    assert {"command", "seed", "data_sha256"} <= set(found["run"])
    command = found["run"]["command"]
    assert command.startswith("python -m benchmarks --") and "--shapes 100:5 400:50 9999:1 --" in command
    assert "--counts 8 --" in command and "--archs compact --" in command and "--output" not in command
    assert found["ceilings"]["fp32"] > 1 and found["ceilings"]["copy"] > 0.1
    for stage in found["stages"].values():
        assert stage["rows"] or stage["figures"]
        for row in stage["rows"]:
            assert row["quartiles"][0] <= row["median"] <= row["quartiles"][1], row
            assert row["median"] > 0 or "minus" in row["name"], "one round's difference of two times may be anything"
        for why in stage["absent"].values():
            assert "not installed" in why or "bf16" in why or "its pictures give" in why
    contestants = {row["name"] for row in found["stages"]["search"]["rows"]}
    assert {f"{name}, {k} %: backbone alone" for name in ("washer",) for k in (10, 1)} <= contestants
    others = {name.partition(" %: ")[2] for name in contestants} | set(found["stages"]["search"]["absent"])
    assert {"flat graph, ONNX Runtime fp32", "flat graph, OpenVINO fp32"} <= others
    coreset = {row["name"] for row in found["stages"]["coreset"]["rows"]}
    assert {f"{name}: brute force" for name in ("washer", "uniform noise")} <= coreset
    swept = {(row["data"], row["patches"], row["share"]) for row in found["stages"]["sweep"]["figures"]}
    assert swept >= {(name, *shape) for name in ("washer", "uniform noise") for shape in ((100, 5), (400, 50))}
    assert any("9999" in name for name in found["stages"]["sweep"]["absent"])


def test_the_summary_is_the_worst_set(measured: tuple[str, dict, str]) -> None:
    _, found, page = measured
    stages = found["stages"]
    for name in ("coreset", "sweep", "search", "fit"):
        assert f"- {stages[name]['summary']}\n" in page and stages[name]["summary"]
    slowest = min(quotient["median"] for quotient in stages["coreset"]["quotients"])
    assert f" {slowest:.3g} times" in stages["coreset"]["summary"]
    assert f" {min(r['times as fast'] for r in stages['sweep']['figures']):.3g} times" in stages["sweep"]["summary"]
    worst = max(
        r["maps: largest error / the map's maximum"]
        for r in stages["search"]["figures"]
        if "coarse" in r["contestant"] and "bf16" not in r["contestant"]
    )
    assert f"map error {worst:.2g} " in stages["search"]["summary"]


def test_the_page_says_what_the_json_says(measured: tuple[str, dict, str]) -> None:
    printed, found, page = measured
    for name, stage in found["stages"].items():
        assert f"## {name}: {stage['title']}" in page and f"## {name}: {stage['title']}" in printed
        for text in (*stage["notes"], *stage["absent"].values()):
            assert text in page and text in printed
        assert page.count("times faster than** ") + page.count("times as long as** ") == sum(
            len(other["quotients"]) for other in found["stages"].values()
        )


def test_a_fit_alone_has_its_own_peak_memory(measured: tuple[str, dict, str]) -> None:
    figures = measured[1]["stages"]["scaling"]["figures"]
    assert [row["data"] for row in figures] == ["washer"]
    figures = figures[0]
    assert figures["pictures"] == 8 and figures["seconds"] > 0
    assert 50 < figures["before_mb"] < figures["peak_mb"] < 4000


def test_quality_is_mean_and_deviation_over_seeds(measured: tuple[str, dict, str]) -> None:
    printed, found, page = measured
    stage = found["stages"]["quality"]
    assert stage["title"].endswith("of seeds 1, 2") and "anomalib" in stage["absent"]
    rows = stage["figures"]
    assert [(row["data"], row["contestant"]) for row in rows] == [
        ("washer", f"padim, {n}") for n in ("paper", "balanced")
    ]
    for row in rows:
        for name in ("image AUROC", "pixel AUROC", "AU-PRO"):
            mean, deviation = (float(part) for part in row[name].split(" ± "))
            assert 0.3 < mean <= 1 and 0 <= deviation < 0.3 and row[name] in page and row[name] in printed
        assert row["fit, s"] > 0 and row["picture, ms"] > 0
    assert any(not row["AU-PRO"].endswith("± 0.0000") for row in rows), "the seed draws PaDiM's channels"


def test_a_server_is_timed_and_gives_the_same_scores(measured: tuple[str, dict, str]) -> None:
    rows = measured[1]["stages"]["serve"]["figures"]
    assert [row["clients"] for row in rows] == [1, 8]
    for row in rows:
        assert 0 < row["p50, ms"] <= row["p99, ms"] and row["pictures / s"] > 0
        assert row["scores: largest relative error"] < 1e-5


def test_anomalibs_process_has_nothing_of_ours() -> None:
    text = (ROOT / "benchmarks/anomalib_worker.py").read_text()
    found = {name.partition(".")[0] for name in re.findall(r"^\s*(?:from|import) ([\w.]+)", text, re.MULTILINE)}
    assert "torch" in found and not found & {"", "benchmarks", "datasets", "deploy", "evaluation", "models", "options"}


def test_blocks_cost_radius(measured: tuple[str, dict, str]) -> None:
    figures = measured[1]["stages"]["coreset"]["figures"]
    assert [row["blocks"] for row in figures] == [1, 2, 4, 8] and figures[0]["radius"] == 1
    assert all(0.9 < row["radius"] < 2 for row in figures)


def test_accuracy_is_that_of_the_exact_search(measured: tuple[str, dict, str]) -> None:
    figures = measured[1]["stages"]["search"]["figures"]
    assert {row["data"] for row in figures} == {"washer", "uniform noise, 200 rows"}
    for row in figures:
        assert row["image scores: largest relative error"] <= (0.2 if "bf16" in row["contestant"] else 1e-4)
        coarse = "coarse" in row["contestant"] or "bf16" in row["contestant"]
        assert row["maps: largest error / the map's maximum"] <= (0.2 if coarse else 1e-4)
        if "noise" not in row["data"]:
            assert 0 <= row["image AUROC"] <= 1 and 0 <= row["pixel AUROC"] <= 1


def test_categories_of_several_folders(data: Path, tmp_path: Path) -> None:
    (tmp_path / "other/rope/train/good").mkdir(parents=True)
    folders = [str(data), str(tmp_path / "other")]
    assert [c.name for c in categories_in(folders, "rope,washer")] == ["rope", "washer"]
    assert [c.name for c in categories_in(folders[:1], "all")] == ["fabric", "washer"]
    assert [c.name for c in categories_in(folders, "rope")] == ["rope"], "one name need not be in every folder"
    assert [c.folder.parent for c in categories_in([folders[1], str(data)], "all")] == [tmp_path / "other", data, data]
    with pytest.raises(UserError, match="--category hose"):
        categories_in(folders, "rope,hose")
    assert shape("2000:0.5") == (2000, 0.5)


def test_contestants_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.timing.REST", 0.01)
    order: list[str] = []
    times = in_turns({name: lambda name=name: order.append(name) for name in "AB"}, rounds=2, calls=2)
    assert order == ["A"] * 3 + ["B"] * 3 + ["A"] * 3 + ["B"] * 3
    assert {name: len(values) for name, values in times.items()} == {"A": 2, "B": 2}


def test_quotients_are_of_rounds_and_say_who_is_faster() -> None:
    stage = Stage("s", "t", "run")
    stage.add({"ours": [1.0, 2.0, 4.0], "theirs": [2.0, 6.0, 8.0]})
    stage.compare("ours", "theirs", "nobody")
    stage.compare("theirs", "ours")
    assert [sentence(*quotient) for quotient in stage.quotients] == [
        "ours is **2 times faster than** theirs (quartiles 2 to 2.5)",
        "theirs takes **2 times as long as** ours (quartiles 2 to 2.5)",
    ]
    assert spread([1.0, 2.0, 3.0]) == (2.0, 1.5, 2.5)


def test_rates_are_shares_of_the_ceiling() -> None:
    report = Report({}, {}, {"fp32": 100.0, "bf16": 200.0, "read": 10.0})
    stage = Stage("s", "t", "run")
    stage.add({"a": [2.0], "b": [2.0]}, {"a": 50.0, "b": 100.0}, {"a": 5.0}, bf16=["b"])
    lines = report.stage_lines(stage)
    assert any("25 GFLOP/s, 2.5 GB/s" in line and "25% of fp32, 25% of read" in line for line in lines)
    assert any("50 GFLOP/s" in line and "25% of bf16" in line for line in lines)


def test_pictures_are_multiplied_by_different_symmetries() -> None:
    picture = np.arange(3 * 3 * 3, dtype=np.uint8).reshape(3, 3, 3)
    seen = {symmetry(picture, number).tobytes() for number in range(SYMMETRIES)}
    assert len(seen) == SYMMETRIES
    assert (symmetry(picture, 0) == picture).all()


def test_exponent_and_radius() -> None:
    assert exponent([10, 20, 40], [3.0, 12.0, 48.0]) == pytest.approx(2)
    points = np.asarray([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]], np.float32)
    assert radius(points, np.asarray([0])) == pytest.approx(5)
    assert radius(points, np.asarray([0, 1])) == pytest.approx(1)


def test_false_alarms_are_counted_over_splits(data: Path, tmp_path: Path) -> None:
    words = ["--data_path", data, "--category", "washer", "--method", "padim", "--splits", "2"]
    result = done(run("-m benchmarks.false_alarms", *words, "--output", tmp_path / "found.md"))
    head, _, row = (tmp_path / "found.md").read_text().splitlines()
    assert "promised 0.05" in head and row.startswith("| washer | padim ")
    for cell in row.split("|")[3:6]:
        rate, above = re.match(r" (\d\.\d+), (\d\.\d+)", cell).groups()
        assert 0 <= float(rate) <= 1 and 0 <= float(above) <= 1
    assert "(estimate)" in row, "so few pictures cannot promise .01"
    assert "washer padim" in result.stdout


def test_parts_of_the_study_of_large_banks(data: Path) -> None:
    random = np.random.default_rng(4)
    bank, queries = random.normal(size=(500, 8)).astype(np.float32), random.normal(size=(40, 8)).astype(np.float32)
    every = np.linalg.norm(queries[:, None] - bank, axis=2)
    distances, numbers = nearest_of_all(queries, bank)
    assert (numbers == every.argmin(axis=1)).all() and np.allclose(distances, every.min(axis=1), atol=1e-5)

    class Nearly:
        """An index without the vectors, which finds some rows and the best one among them."""

        def search(self, wanted: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
            found = np.argsort(every, axis=1)[:, ::-1][:, -count:]
            return np.zeros(found.shape, np.float32), found

    assert (search_of(Nearly())(queries)[1] == numbers).all()
    exactly = search_of(Nearly(), bank)(queries)
    assert (exactly[1] == numbers).all() and np.allclose(exactly[0], distances, atol=1e-5)

    pictures = [random.integers(0, 256, (24, 32, 3), np.uint8) for _ in range(2)]
    some, again = (list(copies_of(pictures, 5, seed)) for seed in (1, 1))
    assert (
        all((a == b).all() for a, b in zip(some, again))
        and [(s == p).all() for s, p in zip(some, pictures)] == [True] * 2
    )
    assert len(some) == 5 and not any((copy == picture).all() for copy in some[2:] for picture in pictures)
    if missing("faiss"):
        refused(run("-m benchmarks.large_banks", "--data_path", data), "pip install faiss-cpu")


def test_drawn_defects_are_small_and_their_scores_are_compared(trained: SimpleNamespace, tmp_path: Path) -> None:
    flat = np.full((96, 128, 3), 100, np.uint8)
    changed = {
        name: np.count_nonzero((draw(flat, np.random.default_rng(1)) != flat).any(axis=2))
        for name, draw in DEFECTS.items()
    }
    spots = [changed[f"spot of radius {name} levels"] for name in ("1.5, 50", "3, 25", "6, 20")]
    assert 8 < spots[0] < spots[1] < spots[2] < 200 and changed["moved 8 x 8"] == 0, "moved, it is the same"
    noise = np.random.default_rng(2).integers(0, 256, flat.shape, np.uint8)
    piece = DEFECTS["moved 8 x 8"](noise, np.random.default_rng(1)) != noise
    assert 0.9 * 64 < piece.any(axis=2).sum() <= 64

    def predict(pictures: list[np.ndarray], batch_size: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(score=float(picture.std())) for picture in pictures]

    stub = SimpleNamespace(predict=predict, calibration=SimpleNamespace(image_threshold=1.0))
    cells = dict(zip([*DEFECTS, "mean"], found(stub, [flat] * 3, 1)))
    assert cells["spot of radius 3, 50 levels"] == "1.000 (1.00)"
    assert cells["spot of radius 1.5, 50 levels"].startswith("1.000")
    assert cells["moved 16 x 16"] == "0.500 (0.00)" and cells["mean"] == f"{(6 + 2 * 0.5) / 8:.4f}"

    model = trained.run / "washer.safetensors"
    words = [model, "--data_path", trained.data, "--output", tmp_path / "found.md"]
    done(run("-m benchmarks.small_defects", *words))
    head, _, row = (tmp_path / "found.md").read_text().splitlines()
    written = [cell.strip() for cell in row.split("|")[1:-1]]
    assert written[0] == str(model) and len(written) == len(DEFECTS) + 2 == len(head.split("|")) - 2
    areas = [float(cell.split()[0]) for cell in written[1:-1]]
    assert float(written[-1]) == pytest.approx(np.mean(areas), abs=0.001) and len(set(areas)) > 1
    refused(run("-m benchmarks.small_defects", model, "--data_path", tmp_path), str(tmp_path))
