"""Large pictures in tiles: what is stitched, what is held out, and the same through every script."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import ROOT, done, refused, run, run_process, table
from held_out import check_held_out

from deploy import Predictor, Preprocess, UserError
from deploy.pictures.tiles import STEP, Tiles
from deploy.results.heatmap import defect_mask, panel
from deploy.results.regions import find_regions
from deploy.storage.tensors import read_header, read_tensors
from models import SPADE, Detector, OrthoAD, PaDiM, PatchCore

TILED = Preprocess(None, 64, "tile", overlap=32)
COMPACT = ["--arch", "compact", "--layers", "layer2,layer3"]


def textures(count: int, height: int = 150, width: int = 118, seed: int = 0) -> list[np.ndarray]:
    """Blurred noise, uint8 RGB [height, width, 3] each."""
    random = np.random.default_rng(seed)
    return [cv2.GaussianBlur(random.integers(0, 256, (height, width, 3), np.uint8), None, 2) for _ in range(count)]


@pytest.mark.parametrize("size, overlap", [((64, 64), 32), ((96, 64), 32), ((64, 64), 0), ((128, 128), 96)])
@pytest.mark.parametrize("shape", [(64, 64), (65, 200), (40, 300), (333, 97)])
def test_tiles_cover_the_picture_and_add_up_to_it(shape: tuple[int, int], size: tuple[int, int], overlap: int) -> None:
    tiles = Tiles.over(shape, size, overlap)
    for places, side, length in zip((tiles.rows, tiles.columns), size, shape):
        steps = np.diff(places)
        assert places[0] == 0 and (np.array(places) % STEP == 0).all() and (steps <= side - overlap).all()
        assert length <= places[-1] + side < max(length, side) + STEP
    picture = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    cut = list(tiles.cut(picture))
    assert len(cut) == len(tiles) and all(tile.shape == (*size, 3) for tile in cut)
    np.testing.assert_allclose(tiles.stitch(tile[..., 0] for tile in cut), picture[..., 0], atol=1e-3)


def test_a_stitched_map_is_that_of_the_whole_where_the_backbone_sees_no_border() -> None:
    """layer1's patches see 43 pixels, their neighbourhood 8 more: 32 from a tile's border they see none of it."""
    height, width, tile, reach = 256, 192, 128, 32
    train, [picture] = textures(3, height, width), textures(1, height, width, seed=9)
    settings = {"k": 30, "layers": ["layer1"], "weights": "random", "search": "exact", "sigma": 0.5}
    whole = PatchCore("resnet18", preprocess=Preprocess(crop_size=(height, width), fit="stretch"), **settings)
    whole.fit(train)
    parts = PatchCore("resnet18", preprocess=Preprocess(None, tile, "tile", overlap=64), **settings)
    parts.load_statistics(whole.fitted)
    parts.calibration = whole.calibration
    parts.describe_fit()
    [expected], [found] = whole.predict([picture]), parts.predict([picture], batch_size=3)
    assert found.anomaly_map.shape == (height, width) == expected.anomaly_map.shape
    tiles = parts.preprocess.tiles(height, width)
    clean = np.ones((height, width), bool)
    for places, axis, length in ((tiles.rows, 0, height), (tiles.columns, 1, width)):
        for edge in {place + side for place in places for side in (0, tile)} - {0, length}:
            np.moveaxis(clean, axis, 0)[max(0, edge - reach) : edge + reach] = False
    assert tiles.rows == (0, 64, 128) and tiles.columns == (0, 64)
    off = np.abs(found.anomaly_map - expected.anomaly_map) / expected.anomaly_map.max()
    assert off[clean].max() < 1e-5 < 1e-3 < off.max(), "borders are seen, but not there"
    assert off.max() < 0.05, "and where they are, they hardly count"


@pytest.mark.parametrize("method", [PaDiM, OrthoAD])
def test_a_picture_is_held_out_with_all_of_its_tiles(method: type[Detector]) -> None:
    pictures = textures(9)
    settings = {"arch": "compact", "k": 5, "layers": ["layer2"], "preprocess": TILED, "weights": "random", "seed": 3}
    model, others = method(**settings, eps=1e-6), method(**settings, eps=1e-6)
    check_held_out(model, others, pictures)


@pytest.mark.parametrize("method", [PatchCore, SPADE])
def test_no_tile_of_a_picture_is_compared_with_its_other_tiles(method: type[Detector]) -> None:
    """A mark in what two tiles share is in the model twice, both times from the same picture."""
    pictures = textures(6)
    options = {"k": 90.0, "lloyd": 0.5} if method is PatchCore else {"k": 4, "k_image": 2, "descriptor_layer": "layer3"}
    model = method(arch="compact", layers=["layer2"], preprocess=TILED, weights="random", **options)
    usual = model.fit(pictures).calibration.scores
    pictures[2][56:72, 40:56] = (255, 0, 0)
    marked = model.fit(pictures).calibration.scores
    assert marked[-1] > 1.3 * usual[-1] and marked[0] > 0
    [again] = model.predict(pictures[2:3])
    assert again.score < 0.8 * marked[-1], "it is in the model, and known"
    if method is PatchCore:
        assert set(model._owner) == set(range(6))


@pytest.mark.parametrize("method", [PatchCore, PaDiM, OrthoAD, SPADE])
def test_models_of_tiles_take_new_pictures_and_forget(method: type[Detector], tmp_path: Path) -> None:
    """New pictures, some of them of fewer tiles, come in and leave again."""
    first, second = textures(7), [*textures(2, seed=1), *textures(3, 70, 150, seed=2)]
    options = {"k": 20.0, "lloyd": 0.5} if method is PatchCore else {"k": 5}
    settings = {"arch": "compact", "layers": ["layer2"], "preprocess": TILED, "weights": "random", "seed": 3}
    new, known = (method(**settings, **options).fit(pictures) for pictures in (first, first + second))
    saved = new.save(tmp_path / "first.safetensors")
    said: list[str] = []
    new.update([*first[:2], *second], batch_size=3, log=said.append)
    assert said[0] == "features: 5 new pictures; 2 that the model holds already are left out"
    data = {name: known.header["data"][name] for name in ("pictures", "fingerprints", "tiles")}
    assert {name: new.header["data"][name] for name in data} == data and data["tiles"] == 9 * [12] + 3 * [8]
    if method is PatchCore:
        assert set(new._owner) == set(range(12))
        assert abs(len(new._owner) - len(known._owner)) <= 2
    else:
        for name, value in known.fitted.items():
            np.testing.assert_allclose(new.fitted[name], value, rtol=0, atol=1e-3 * np.abs(value).max())
    test = textures(3, 130, 170, seed=9)
    scores = [[p.score for p in model.predict(test)] for model in (new, known)]
    np.testing.assert_allclose(*scores, rtol=0.15 if method is PatchCore else 1e-3)
    levels = [model.calibration.image_threshold for model in (new, known)]
    np.testing.assert_allclose(*levels, rtol=0.15)

    new.forget(second[::-1])
    old = method.load(saved)
    assert new.data["tiles"] == old.data["tiles"] and new.data["fingerprints"] == old.data["fingerprints"]
    assert new.calibration.pictures == 7
    for name, value in old.fitted.items():
        assert new.fitted[name].shape == value.shape
    scores = [[p.score for p in model.predict(test)] for model in (new, old)]
    np.testing.assert_allclose(*scores, rtol=0.02)
    new.data["tiles"] = new.data["tiles"][1:]
    with pytest.raises(UserError, match="--update: the model is of an older version, which noted no tiles"):
        new.update(second)


@pytest.fixture(scope="module")
def tiled(data: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """train.py with --tile on washer, evaluated and exported."""
    output = tmp_path_factory.mktemp("tiled")
    words = ["--data_path", data, "--category", "washer", *COMPACT, "--k", "2", "--save_path", output]
    said = done(run("train.py", *words, "--tile", "128", "--overlap", "32", "--eval", "--eval_PRO")).stdout
    named = ["--category", "washer", "--arch", "compact", "--k", "2", "--save_path", output]
    done(run("export_model.py", *named))
    return SimpleNamespace(output=output, named=named, said=said, run=output / "patchcore_compact_2")


def test_scripts_agree_on_tiles(tiled: SimpleNamespace, data: Path, tmp_path: Path) -> None:
    assert "tiles of 128 that share 32" in tiled.said
    header = read_tensors(tiled.run / "washer.safetensors", "model")[1]
    assert header["preprocess"]["fit"] == "tile" and "resize" not in header["preprocess"]
    test, export = data / "washer" / "test", tiled.run / "washer" / "export"
    done(run("predict.py", test, *tiled.named, "--save_regions"))
    words = ["--stats", export / "stats", "--input_file", test, "--save_path", tmp_path]
    done(run("infer.py", *words, "--save_mask", "--save_regions", "--batch_size", "3"))
    folder = tiled.run / "washer"
    eval_rows, predicted, inferred = (
        {row["path"]: row for row in table(path)}
        for path in (folder / "eval.csv", folder / "predict.csv", tmp_path / "infer.csv")
    )
    assert len(inferred) == len(predicted) == len(eval_rows) >= 5
    for path, row in inferred.items():
        for other in (eval_rows[path], predicted[path]):
            assert float(row["score"]) == pytest.approx(float(other["score"]), rel=1e-5)
    for path in inferred:
        picture, mask = cv2.imread(path), cv2.imread(str(tmp_path / "masks" / Path(path).relative_to(test)), 0)
        assert mask.shape == picture.shape[:2] and not (mask == 127).any(), "all of a picture is examined"
    coco = json.loads((tmp_path / "infer_coco.json").read_text())
    assert coco["images"][0]["width"] == picture.shape[1]
    (row,) = table(tiled.run / "washer_seed521.csv")[:1]
    assert float(row["PRO_score"]) > 0.6 and float(row["Pixel_AUROC"]) > 0.8


def test_the_script_updates_a_model_of_tiles(tiled: SimpleNamespace, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "washer/test/good", tmp_path / "more/washer/train/good")
    model, added = tiled.run / "washer.safetensors", sorted((tmp_path / "more/washer/train/good").iterdir())
    before, folder = read_header(model, "model")["data"], tmp_path / tiled.run.name
    done(run("train.py", "--update", model, "--data_path", tmp_path / "more", "--save_path", tmp_path))
    found = read_header(folder / "washer.safetensors", "model")["data"]
    assert found["pictures"] == before["pictures"] + len(added) == len(found["tiles"])
    words = ["--update", folder / "washer.safetensors", "--save_path", tmp_path]
    done(run("train.py", *words, "--forget", added[0]))
    again = read_header(folder / "washer.safetensors", "model")["data"]
    assert again["pictures"] == found["pictures"] - 1 == len(again["tiles"])


def test_pictures_follow_the_tiles(tiled: SimpleNamespace) -> None:
    predictor = Predictor.load(tiled.run / "washer" / "export" / "stats")
    big = cv2.resize(textures(1, 300, 1000)[0], (1000, 1500))
    prediction = next(predictor.predict([big], batch_size=8))
    prediction.anomaly_map[:] = 0
    prediction.anomaly_map[700:720, 500:505] = 2 * predictor.calibration.pixel_threshold
    [region] = find_regions(prediction, predictor.calibration, predictor.preprocess)
    assert region.box == (500, 700, 5, 20)
    drawn = panel(prediction, predictor.calibration, predictor.preprocess)
    assert 1100 < drawn.shape[0] < 1400 and drawn.shape[1] > 2 * 700
    assert (defect_mask(prediction, predictor.calibration, predictor.preprocess) == 255).sum() == 100
    small = next(predictor.predict([big[:40, :30].copy()]))
    assert small.anomaly_map.shape == (40, 30), "smaller than a tile"


@pytest.mark.once
def test_options_of_tiles(data: Path, tmp_path: Path) -> None:
    words = ["--data_path", data, "--category", "washer", *COMPACT, "--save_path", tmp_path]
    for wrong, told in (
        (["--overlap", "32"], "give it with --tile"),
        (["--tile", "128", "--overlap", "100"], "multiple of 32"),
        (["--tile", "128", "--overlap", "128"], "--overlap 128: give 0 to 96"),
        (["--tile", "16"], "--tile 16 is too small"),
        (["--tile", "99999"], "--tile 99999: give"),
        (["--tile", "128", "--crop_size", "96"], "leave out --crop_size"),
        (["--tile", "128", "--fit", "pad"], "leave out --crop_size, --fit"),
    ):
        refused(run("train.py", *words, *wrong), told)
    with pytest.raises(UserError, match="--overlap None"):
        Preprocess(None, 64, "tile")


MEASURE = """
import resource, sys
import numpy as np
from deploy import Predictor
predictor = Predictor.load(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
[found] = predictor.predict([sys.argv[2]])
print(found.anomaly_map.shape, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.once
def test_memory_is_that_of_picture_map_and_one_tile(tiled: SimpleNamespace, tmp_path: Path) -> None:
    picture, script = tmp_path / "large.png", tmp_path / "measure.py"
    cv2.imwrite(str(picture), np.tile(textures(1, 300, 300)[0], (4, 5, 1)))
    script.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{MEASURE}")
    said = done(run_process(str(script), tiled.run / "washer" / "export" / "stats", picture)).stdout
    pixels, grown = 1200 * 1500 / 2**20, float(said.split()[-1])
    assert said.startswith("(1200, 1500)") and grown < 12 * pixels + 30, "two pictures while decoding, then its map"
