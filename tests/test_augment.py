"""Mirrored and turned copies of training pictures: what they are, what is held out, and which are kept."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import FAST, done, fitted, refused, run
from held_out import check_held_out

from deploy import Preprocess, UserError
from deploy.pictures.stream import load
from deploy.storage.tensors import read_tensors
from models import SPADE, Augment, Detector, Ensemble, PaDiM, PatchCore
from models.base.augment import copies, copies_each, rotated

SIZE = Preprocess(64, 64)
SETTINGS = {"arch": "compact", "layers": ["layer2"], "preprocess": SIZE}


def textures(count: int, seed: int = 0) -> list[np.ndarray]:
    """Blurred noise, uint8 RGB [64, 64, 3] each."""
    random = np.random.default_rng(seed)
    return [cv2.GaussianBlur(random.integers(0, 256, (64, 64, 3), np.uint8), None, 2) for _ in range(count)]


def shapes(count: int, shape: str, turns: tuple[int, ...] = (0,)) -> list[np.ndarray]:
    """An `arrow` to the right, or a `hook`, whose mirror image never comes, on noise, turned by right angles."""
    random, found = np.random.default_rng(5), []
    corners = {"arrow": [[14, 12], [50, 32], [14, 52], [14, 12]], "hook": [[20, 54], [20, 12], [46, 12], [46, 24]]}
    for _ in range(count):
        picture = np.full((64, 64, 3), 90, np.uint8)
        points = np.array(corners[shape]) + random.integers(-4, 5, (4, 2))
        cv2.polylines(picture, [points], False, (230, 200, 60), 6, cv2.LINE_AA)
        noise = cv2.GaussianBlur(random.normal(0, 15, picture.shape).astype(np.float32), None, 1)
        found.append(np.clip(np.rot90(picture, random.choice(turns)) + noise, 0, 255).astype(np.uint8))
    return found


def test_copies_are_the_picture_mirrored_and_turned() -> None:
    [picture] = textures(1)
    item = load(picture, SIZE)
    (flipped,) = copies(item, ["flip"], SIZE, 1, 0)
    assert (flipped == picture[:, ::-1]).all()
    turned = copies(item, ["rot90"], SIZE, 1, 0)
    assert len(turned) == 3 and all((copy == np.rot90(picture, n + 1)).all() for n, copy in enumerate(turned))
    for degrees, turns in ((90, 1), (180, 2)):
        assert np.abs(rotated(item, degrees, SIZE).astype(int) - np.rot90(picture, turns)).max() <= 2
    any_way = copies(item, ["rotate", "flip"], SIZE, 1, 0)
    assert len(any_way) == 4 == copies_each(["rotate", "flip"], SIZE)
    for seed, number, same in ((1, 0, True), (2, 0, False), (1, 1, False)):
        other = copies(item, ["rotate"], SIZE, seed, number)
        assert all((a == b).all() == same for a, b in zip(any_way, other))


def test_copies_of_pictures_that_are_not_square_or_have_a_region_of_interest() -> None:
    wide = Preprocess(crop_size=(64, 128), fit="stretch")
    picture = np.zeros((64, 256, 3), np.uint8)  # as wide again as the program's input
    picture[28:36, 144:152] = 255  # 20 right of the centre: 10 in the input
    item = load(picture, wide)
    assert [copy.shape for copy in copies(item, ["rot90"], wide, 1, 0)] == [(64, 128, 3)], "half a turn alone"
    y, x = np.argwhere(rotated(item, 90, wide)[..., 0] > 128).mean(axis=0)
    assert (y, x) == pytest.approx((31.5 - 20, 63.5), abs=1), "20 above the centre"
    mask = np.zeros((64, 64), bool)
    mask[:, :32] = True
    (flipped,) = copies(load(textures(1)[0], SIZE), ["flip"], SIZE.within(mask), 1, 0)
    assert len(np.unique(flipped[:, 32:].reshape(-1, 3), axis=0)) == 1 < len(np.unique(flipped[:, :31].reshape(-1, 3)))


def test_a_picture_is_held_out_with_all_of_its_copies() -> None:
    pictures = textures(9)
    settings = {**SETTINGS, "k": 5, "weights": "random", "seed": 3, "augment": Augment(("flip", "rot90"), True)}
    model, others = PaDiM(**settings, eps=1e-6), PaDiM(**settings, eps=1e-6)
    check_held_out(model, others, pictures)


@pytest.mark.parametrize("method", [PatchCore, SPADE])
def test_no_picture_is_compared_with_its_own_copies(method: type[Detector]) -> None:
    """A mark in the middle looks the same in the mirror."""
    pictures = textures(6)
    options = {"k": 90.0, "lloyd": 0.5} if method is PatchCore else {"k": 4, "k_image": 2, "descriptor_layer": "layer3"}
    model = method(**SETTINGS, **options, weights="random", augment=Augment(("flip",), True))
    usual = model.fit(pictures).calibration.scores
    pictures[2][24:40, 24:40] = (255, 0, 0)
    marked = model.fit(pictures).calibration.scores
    assert marked[-1] > 1.3 * usual[-1] and marked[0] > 0
    [again] = model.predict([pictures[2][:, ::-1].copy()])
    assert again.score < 0.8 * marked[-1], "its copy is in the model, and known"
    assert model.header["copies"] == {"kept": ["flip"], "changes": {}}
    if method is PatchCore:
        assert set(model._owner) == set(range(6))
        with pytest.raises(UserError, match="--update: .* --augment"):
            model.update(pictures)


@pytest.mark.parametrize(
    "method, pictures, kept, left_out",
    [
        (PaDiM, shapes(20, "arrow", (0, 2)), "flip", None),
        (PaDiM, shapes(20, "arrow"), None, "flip"),
        (PatchCore, shapes(24, "hook", (0, 1, 2, 3)), "rot90", "flip"),
    ],
)
def test_copies_are_kept_where_the_product_comes_so(
    method: type[Detector], pictures: list[np.ndarray], kept: str | None, left_out: str | None
) -> None:
    told: list[str] = []
    kinds = tuple(kind for kind in (kept, left_out) if kind)
    model = method(**SETTINGS, k=20, seed=1, augment=Augment(kinds)).fit(pictures, log=told.append)
    changes = model.header["copies"]["changes"]
    assert model.header["copies"]["kept"] == ([kept] if kept else []) and tuple(changes) == kinds, told
    for kind, line in zip(kinds, told):
        assert line.startswith(f"{kind}: held-out good pictures score ")
        assert line.endswith(": kept" if kind == kept else ": left out")
        assert changes[kind]["error"] > 0 and (changes[kind]["change"] < -0.03) == (kind == kept)
    assert "copies" in model.stages.seconds


@pytest.mark.once
def test_from_the_command_line(trained: SimpleNamespace, tmp_path: Path) -> None:
    words = [*trained.words[:-1], tmp_path]
    said = done(run("train.py", *words, "--augment", "flip,rotate", "--augment_force")).stdout
    path = tmp_path / "patchcore_compact_2" / "washer.safetensors"
    header = fitted(path)[0]
    assert header["copies"]["kept"] == header["augment"]["asked"] == ["flip", "rotate"] and header["augment"]["forced"]
    assert "8 pictures with copies (flip rotate)" in said and header["data"]["pictures"] == 8
    rows = [len(read_tensors(file, "model")[0]["bank_owner"]) for file in (path, trained.model)]
    assert rows[0] == pytest.approx(rows[1], abs=1), "the bank does not grow with copies"
    assert "kept: " in done(run("train.py", *words, "--augment", "flip,rotate", "--augment_force")).stdout
    said = done(run("train.py", *words, "--augment", "flip")).stdout
    assert "flip: held-out good pictures score " in said, "another setting is another model"
    refused(run("train.py", "--update", path, "--data_path", trained.data), "was trained with --augment")
    refused(run("train.py", "--update", path, "--data_path", trained.data, "--augment", "flip"), "has its own")


def test_an_ensemble_asks_its_first_member() -> None:
    members = [PaDiM(**SETTINGS, k=20, seed=seed, augment=Augment(("flip",))) for seed in (1, 2)]
    told: list[str] = []
    model = Ensemble(members).fit(shapes(20, "arrow", (0, 2)), log=told.append)
    assert members[1].copied == ("flip",) == members[0].copied and model.header["augment"]["asked"] == ["flip"]
    assert sum(line.startswith("flip: held-out") for line in told) == 1 == len(model.header["copies"]["changes"])


@pytest.mark.once
def test_options_of_copies(data: Path, tmp_path: Path) -> None:
    words = ["--data_path", data, "--category", "washer", *FAST, "--save_path", tmp_path]
    for wrong, told in (
        (["--augment", "flip,shear"], "--augment flip,shear: give any of flip, rot90, rotate"),
        (["--augment", "flip,flip"], "each once"),
        (["--augment_force"], "give it too"),
        (["--augment", "flip", "--shots", "4"], "4 good pictures cannot tell"),
    ):
        refused(run("train.py", *words, *wrong), told)
