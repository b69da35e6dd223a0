"""A region of interest: what is outside is neither learned nor scored nor drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import FAST, done, refused, run, table

from deploy import Predictor, Preprocess, UserError
from deploy.results.heatmap import defect_mask, panel
from deploy.storage.tensors import read_header, read_tensors
from models import SPADE, Detector, OrthoAD, PaDiM, PatchCore, load_model

pytestmark = pytest.mark.once
SIZE = Preprocess(80, (64, 72))


def test_the_region_follows_the_pictures_way() -> None:
    mask = np.zeros((160, 200), bool)
    mask[30:90, 60:150] = True
    size = SIZE.within(mask)
    nearest = SIZE.crop(SIZE.resized_mask(mask))
    assert not (size.region & ~nearest).any() and (nearest & ~size.region).sum() < 150, "a border of a pixel less"
    assert Preprocess.from_dict(size.to_dict()) == size and 0.2 < size.region.mean() < 0.5
    picture = np.random.default_rng(1).integers(0, 256, (160, 200, 3), np.uint8)
    seen, whole = (of.crop(of.resized(picture)) for of in (size, SIZE))
    np.testing.assert_array_equal(seen[size.region], whole[size.region])
    assert (seen[~size.region] == (124, 116, 104)).all()
    assert SIZE.within(np.ones((160, 200), bool)).region.all()
    with pytest.raises(UserError, match="--roi: nothing of it"):
        SIZE.within(np.zeros((160, 200), bool))
    with pytest.raises(UserError, match="region of interest"):
        Preprocess(80, 64, roi=(5, 5))


@pytest.mark.parametrize("sizes", [Preprocess(72, 64), Preprocess(140, 64, "tile", overlap=32)], ids=["crop", "tiles"])
@pytest.mark.parametrize("method", [PatchCore, PaDiM, OrthoAD, SPADE])
def test_what_is_outside_changes_nothing(method: type[Detector], sizes: Preprocess, data: Path) -> None:
    pictures = [cv2.imread(str(path)) for path in sorted((data / "washer/train/good").iterdir())[:5]]
    mask = np.zeros(pictures[0].shape[:2], bool)
    mask[40:110, 50:120] = True
    size = sizes.within(mask)
    model = method("compact", 2 if method is SPADE else 10, ["layer2"], size, "random", 1)
    model.fit(pictures)
    changed = pictures[0].copy()
    changed[~mask] = 255 - changed[~mask]
    inner = pictures[0].copy()
    inner[70:80, 70:90] = (0, 0, 255)
    one, other, defect = model.predict([pictures[0], changed, inner])
    assert one.score == other.score
    np.testing.assert_array_equal(one.anomaly_map, other.anomaly_map)
    assert (defect.anomaly_map[~size.region] == 0).all() and defect.anomaly_map[size.region].max() > 0
    assert defect.score > 1.1 * one.score
    found = defect_mask(defect, model.calibration, size)
    top, left, height, width = size.window(*defect.resized.shape[:2])
    assert (found[top : top + height, left : left + width][~size.region] == 127).all()
    drawn, without = (panel(defect, model.calibration, of) for of in (size, sizes))
    assert (drawn != without).any(axis=2).mean() > 0.05, "what is outside is hatched"


def test_only_tiles_with_a_part_of_the_region_are_examined() -> None:
    sizes = Preprocess(None, 64, "tile", overlap=32)
    mask = np.zeros((160, 224), bool)
    mask[100:130, 70:90] = True
    size = sizes.within(mask)
    assert size.roi_size == (160, 224) and Preprocess.from_dict(size.to_dict()) == size
    tiles = size.tiles(160, 224)
    assert (len(sizes.tiles(160, 224)), len(tiles)) == (24, 4)
    picture = np.random.default_rng(1).integers(1, 256, (160, 224, 3), np.uint8)
    parts = list(size.parts(size.crop(picture)))
    assert len(parts) == 4 and all((part != (124, 116, 104)).any() for part in parts)
    whole = size.join((part[..., 0] for part in parts), 160, 224)
    np.testing.assert_allclose(whole, picture[..., 0] * mask, atol=1e-3)

    other = size.inside(80, 112)
    assert other.shape == (80, 112) and other.sum() == pytest.approx(mask.sum() / 4, rel=0.05), "in proportion"
    with pytest.raises(UserError, match="--roi: nothing of it is left in a picture of 5 x 2 pixels"):
        size.tiles(2, 5)
    for wrong in ({"roi_size": None}, {"roi_size": (160, 223)}, {"roi": None}):
        with pytest.raises(UserError, match="region of interest"):
            replace(size, **wrong)
    with pytest.raises(UserError, match="region of interest"):
        Preprocess(80, 64, roi=(0, 64 * 64), roi_size=(64, 64))


def test_a_region_in_tiles_through_the_scripts(trained: SimpleNamespace, tmp_path: Path) -> None:
    good = trained.data / "washer/train/good/000.png"
    shape = cv2.imread(str(good)).shape[:2]
    words = ["--data_path", trained.data, "--category", "washer", "--arch", "compact", "--layers", "layer2", "--k", "5"]
    words += ["--tile", "64", "--overlap", "32", "--roi", "30,30,50,40", "--save_path", tmp_path]
    said = done(run("train.py", *words, "--eval", "--eval_PRO")).stdout
    assert "region of interest: " in said
    [model] = tmp_path.rglob("washer.safetensors")
    header = read_header(model, "model")
    tiles = Preprocess.from_dict(header["preprocess"]).tiles(*shape)
    assert header["preprocess"]["roi_size"] == list(shape)
    assert tiles.left_out and set(header["data"]["tiles"]) == {len(tiles)}
    scores = {row["path"]: float(row["score"]) for row in table(model.parent / "washer/eval.csv")}
    done(run("export_model.py", "--model_path", model, "--save_dir", tmp_path / "export", "--input", "uint8"))
    exported = Predictor.load(tmp_path / "export/stats")
    inside = exported.preprocess.region
    for prediction in exported.predict(map(Path, scores)):
        assert prediction.score == pytest.approx(scores[prediction.name], rel=1e-5)
        assert not prediction.anomaly_map[~inside].any() and prediction.anomaly_map[inside].any()


def test_the_scripts_keep_the_region(trained: SimpleNamespace, tmp_path: Path) -> None:
    good = trained.data / "washer/train/good/000.png"
    height, width = cv2.imread(str(good)).shape[:2]
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : 3 * width // 4] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    box = f"{width // 4},{height // 4},{3 * width // 4 - width // 4},{height // 2 - height // 4}"
    words = ["--data_path", trained.data, "--category", "washer", *FAST, "--save_pic", "False"]
    models = []
    for number, roi in enumerate((box, tmp_path / "mask.png")):
        more = ["--eval", "--eval_PRO", "--roi", roi, "--save_path", tmp_path / str(number)]
        assert "region of interest: " in done(run("train.py", *words, *more)).stdout
        models.append(tmp_path / str(number) / trained.run.name / "washer.safetensors")
    (first, _), (second, header) = (read_tensors(path, "model") for path in models)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert sum(header["preprocess"]["roi"]) == 96 * 96
    scores = {row["path"]: float(row["score"]) for row in table(models[0].parent / "washer/eval.csv")}
    assert scores != {row["path"]: float(row["score"]) for row in table(trained.run / "washer/eval.csv")}

    done(run("export_model.py", "--model_path", models[0], "--save_dir", tmp_path / "export", "--input", "uint8"))
    exported = Predictor.load(tmp_path / "export/stats")
    for prediction in exported.predict(map(Path, scores)):
        assert prediction.score == pytest.approx(scores[prediction.name], rel=1e-5)
        assert (prediction.anomaly_map[~exported.preprocess.region] == 0).all()
    assert load_model(models[0]).preprocess == exported.preprocess

    cv2.imwrite(str(tmp_path / "small.png"), mask[1:])
    for roi, said in (
        (tmp_path / "small.png", f"{width} x {height}"),
        ("1,2,3", "no box"),
        (f"5,5,{width},5", "does not lie"),
        ("0,0,1,1", "nothing of it"),
    ):
        refused(run("train.py", *words, "--save_path", tmp_path / "no", "--roi", roi), "--roi", said)
