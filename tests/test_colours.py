"""The hottest place of a heat map is the most conspicuous one, to people with each kind of colour blindness as well."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from conftest import ROOT
from skimage.color import rgb2lab

from deploy import Calibration, Prediction, Preprocess
from deploy.results.heatmap import heated, tiles

pytestmark = pytest.mark.once

SIGHTS = {  # Machado, Oliveira and Fernandes 2009, severity 1.0, of linear RGB
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
LEVELS = np.linspace(0, 1, 17)
REAL = ROOT.parent / "shared/data"
TEXTURES = {"brown": (120, 75, 45), "grey": (140, 140, 140), "dark": (28, 28, 30), "bright": (225, 222, 215)}
Overlay = Callable[[np.ndarray, np.ndarray], np.ndarray]


def seen(picture: np.ndarray, sight: str) -> np.ndarray:
    """CIELAB [..., 3] of what somebody sees of a picture, uint8 RGB [..., 3]."""
    value = picture / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.array(SIGHTS[sight]).T, 0, 1)
    return rgb2lab(np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055))


def contrasts(overlay: Overlay, picture: np.ndarray, sight: str) -> tuple[np.ndarray, np.ndarray]:
    """CIELAB distances [levels, height, width] of the overlay: to its lowest level, and to the picture."""
    drawn = np.stack([seen(overlay(picture, np.full(picture.shape[:2], level)), sight) for level in LEVELS])
    return np.linalg.norm(drawn - drawn[0], axis=-1), np.linalg.norm(drawn - seen(picture, sight), axis=-1)


def conspicuous(overlay: Overlay, picture: np.ndarray) -> bool:
    """Whether the hottest level stands out most at 99 % of the places, a higher one always more than a lower one on
    the whole, and well in all, for everybody."""
    for sight in SIGHTS:
        for distance in contrasts(overlay, picture, sight):
            most = (distance[-1] >= distance[:-1].max(axis=0)).mean() >= 0.99
            rising = (np.diff(distance.mean(axis=(1, 2))) > 0).all()
            if not (most and rising and distance[-1].mean() > 40):
                return False
    return True


def turbo(picture: np.ndarray, share: np.ndarray) -> np.ndarray:
    """What heat maps were before: a rainbow at half opacity."""
    colours = cv2.applyColorMap(np.rint(share * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    return cv2.addWeighted(picture, 0.5, cv2.cvtColor(colours, cv2.COLOR_BGR2RGB), 0.5, 0)


def texture(name: str) -> np.ndarray:
    random = np.random.default_rng(1)
    light = 1 + 0.15 * cv2.resize(random.normal(size=(6, 6)), (24, 24)) + 0.05 * random.normal(size=(24, 24))
    return np.clip(np.array(TEXTURES[name]) * light[..., None], 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", TEXTURES)
def test_the_hottest_is_the_most_conspicuous(name: str) -> None:
    assert conspicuous(heated, texture(name))
    assert not conspicuous(turbo, texture(name))


@pytest.mark.skipif(not REAL.is_dir(), reason="no real pictures in ../shared/data")
@pytest.mark.parametrize("folder", ["mvtec/hazelnut", "mvtec/bottle", "other/kolektor", "other/magnetic_tile"])
def test_on_real_pictures(folder: str) -> None:
    paths = [path for path in sorted((REAL / folder / "test").glob("*/*")) if path.parent.name != "good"]
    assert paths
    for path in (paths[0], paths[-1]):
        picture = cv2.resize(cv2.imread(str(path))[..., ::-1], (24, 24), interpolation=cv2.INTER_AREA)
        assert conspicuous(heated, picture)


def test_the_simulation_is_right() -> None:
    """Greys stay as they are, and colour-blind people mistake for each other what the name of their sight says."""
    grey, red, green = (np.array([[colour]], np.uint8) for colour in ((128, 128, 128), (180, 90, 0), (120, 120, 0)))
    for sight in SIGHTS:
        assert np.abs(seen(grey, sight) - seen(grey, "normal")).max() < 0.5
    apart = {sight: np.linalg.norm(seen(red, sight) - seen(green, sight)) for sight in SIGHTS}
    assert max(apart["protanopia"], apart["deuteranopia"]) < 0.6 * min(apart["normal"], apart["tritanopia"])


@pytest.mark.parametrize("name", TEXTURES)
def test_a_panel_is_drawn_so(name: str) -> None:
    """A map's peak is where its tile differs most from the picture; where the map is low they are the same."""
    picture = cv2.resize(texture(name), (80, 80))
    levels = Calibration((1.0,), (1.0,), 0.0, 2.0, 0.05, 1.0, 9.0)  # a scale from 0 to 2, and no contour
    y, x = np.mgrid[:80, :80]
    bump = (2 * np.exp(-((y - 30) ** 2 + (x - 50) ** 2) / 200)).astype(np.float32)  # highest: 2, the scale's end
    prediction = Prediction("a.png", 1.0, bump, picture, (80, 80), 1.0)
    plain, heat = (tile[::4, ::4] for _, tile in tiles(prediction, levels, Preprocess(80, 80)))
    assert (plain[60:, :20] == heat[60:, :20]).all()
    for sight in SIGHTS:
        distance = np.linalg.norm(seen(heat, sight) - seen(plain, sight), axis=-1)
        row, column = np.unravel_index(cv2.GaussianBlur(distance, (0, 0), 2).argmax(), distance.shape)
        assert abs(row - 30) < 4 and abs(column - 50) < 4
