"""Which pictures are drawn, those for programs to read, and the contact sheet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import done, refused, run, table

from deploy import Calibration, Preprocess
from deploy.command_line.parser import Parser
from deploy.errors import UserError
from deploy.pictures.mark import is_marked
from deploy.predictor import Prediction
from deploy.results.heatmap import defect_mask, map_step, raw_map
from evaluation import contact
from evaluation.contact import ContactSheet

pytestmark = pytest.mark.once
LEVELS = Calibration((1.0, 2.0), (1.0, 2.0), 0.5, 4.0, 0.05, 2.0, 2.0)


def prediction(name: str, score: float, anomaly_map: np.ndarray) -> Prediction:
    return Prediction(name, score, anomaly_map, np.full((112, 130, 3), 90, np.uint8), (112, 130), 90.0)


@pytest.mark.parametrize(
    "words, found",
    [([], "all"), (["--save_pic"], "all"), (["--save_pic=True"], "all"), (["--save_pic", "no"], "none"),
     (["--save_pic", "Wrong"], "wrong"), (["--save_pic", "NONE"], "none"), (["--save_pic", "all"], "all")],
)  # fmt: skip
def test_words_of_save_pic(words: list[str], found: str) -> None:
    parser = Parser(prog="x.py")
    parser.pictures("write", labelled=True)
    assert parser.parse(words).save_pic == found
    with pytest.raises(UserError, match="'some' is none of all, wrong, none, True, False"):
        parser.parse(["--save_pic", "some"])


def test_eval_draws_the_wrong_ones_alone_and_maps_for_programs_of_all(trained: SimpleNamespace, tmp_path: Path) -> None:
    words = ["--model_path", trained.model, "--data_path", trained.data, "--category", "washer"]
    more = ["--save_path", tmp_path, "--save_mask", "--save_map", "--save_regions", "--false_alarm", "0.001"]
    done(run("eval.py", *words, *more, "--save_pic", "wrong"))
    folder = tmp_path / "patchcore_compact_2/washer"
    rows = table(folder / "eval.csv")
    names = {kind: {str(p.relative_to(folder / kind)) for p in (folder / kind).rglob("*.png")} for kind in
             ("heatmaps", "masks", "maps")}  # fmt: skip
    wrong = [row["path"] for row in rows if (row["kind"] != "good") != (row["defective"] == "1")]
    assert 0 < len(wrong) < len(rows)
    assert names["heatmaps"] == {"/".join(Path(path).parts[-2:]) for path in wrong}
    assert names["masks"] == names["maps"] == {"/".join(Path(row["path"]).parts[-2:]) for row in rows}
    assert (folder / "eval_regions.csv").is_file() and (folder / "eval_coco.json").is_file()
    assert is_marked(folder / "contact_sheet.png")
    raw = cv2.imread(str(folder / "maps" / sorted(names["maps"])[0]), cv2.IMREAD_UNCHANGED)
    assert raw.dtype == np.uint16 and raw.max() > 1 and raw[0, 0] == 0  # outside the crop
    assert float(rows[0]["map_step"]) > 0
    refused(run("predict.py", trained.data / "washer/test", *trained.named, "--save_pic", "wrong"), "labelled")


def test_a_raw_map_gives_the_values_back() -> None:
    rng = np.random.default_rng(3)
    anomaly_map = (rng.random((96, 96)) * 5).astype(np.float32)
    anomaly_map[0, 0] = 1e6
    preprocess = Preprocess(112, 96)
    one = prediction("a", 1.0, anomaly_map)
    raw, mask = raw_map(one, LEVELS, preprocess), defect_mask(one, LEVELS, preprocess)
    assert raw.dtype == np.uint16 and raw.shape == mask.shape == (112, 130)
    assert np.array_equal(raw == 0, mask == 127)
    top, left = preprocess.window(112, 130)[:2]
    values = (raw[top : top + 96, left : left + 96].astype(float) - 1) * map_step(LEVELS)
    assert raw.max() == 65535 and values[0, 0] > 7 * LEVELS.map_high
    np.testing.assert_allclose(values.ravel()[1:], anomaly_map.ravel()[1:], atol=map_step(LEVELS) / 2 + 1e-6)
    # of another threshold for one run the step is the same
    assert map_step(LEVELS.at(false_alarm=0.5)) == map_step(LEVELS)


def test_the_contact_sheet_keeps_the_wrong_ones_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kinds = {"a/1": "good", "a/2": "good", "b/3": "cut", "b/4": "cut"}
    scores = {"a/1": 0.1, "a/2": 3.0, "b/3": 1.9, "b/4": 9.0}
    sheet = ContactSheet(kinds, LEVELS)
    assert sheet.write(tmp_path) is None and not any(tmp_path.iterdir())
    heat = np.full((320, 160, 3), 7, np.uint8)
    for name, score in scores.items():
        sheet.add(prediction(name, score, np.zeros((96, 96), np.float32)), heat)
    whole = sheet.draw()
    path = sheet.write(tmp_path)
    assert np.array_equal(cv2.imread(str(path))[..., ::-1], whole)
    rows = (contact.HEADING + contact.SIDE + contact.CAPTION + contact.GAP) * 2
    assert whole.shape[0] == rows
    framed = (whole == contact.ALARM).all(axis=2)
    assert framed[: rows // 2].any() and framed[rows // 2 :].any()
    monkeypatch.setattr(contact, "MOST", 2)
    told = []
    monkeypatch.setattr(contact, "write_text", lambda sheet, text, *more: told.append(text))
    sheet.draw()
    assert {"FALSE ALARM", "MISSED"} <= set(told) and "2 of 4 pictures: those nearest to the threshold" in told
    assert "1" not in told and "4" not in told
    higher = replace(LEVELS, image_threshold=100.0)
    calm = ContactSheet({"a/1": "good"}, higher)
    calm.add(prediction("a/1", 1.0, np.zeros((96, 96), np.float32)), heat)
    assert not (calm.draw() == contact.ALARM).all(axis=2).any()
