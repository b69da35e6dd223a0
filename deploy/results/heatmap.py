"""Pictures of results for people. The colour scale of a heat map belongs to the model, not to the single picture."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..calibration import Calibration
from ..pictures.preprocess import Preprocess
from ..predictor import Prediction
from .regions import Region

TILE = 320  # height of each picture in a panel
LARGE = 960  # tiled pictures are shown with at most about as many pixels as a square of this side
BAR = 70  # width of the colour bar with its numbers
TITLE = 30
GAP = 8
INK = (30, 30, 30)
FONT = cv2.FONT_HERSHEY_SIMPLEX
HOT = (255, 0, 255)
OPACITY = 0.8
"""Heat is shown in magenta. It becomes more opaque with the map's value, up to `OPACITY`, so that the highest values
are the most conspicuous, to colour-blind people as well (docs/outputs.md has measurements, tests/test_colours.py checks
it)."""
BACKDROP = 128  # grey behind the colour bar
DULL = (np.arange(3 * 255 + 1) / 3 * 0.4 + 110).astype(np.uint8)
"""Grey level of pixels that are not examined, by the sum of the pixel's three colours."""


def panel(
    prediction: Prediction,
    calibration: Calibration,
    preprocess: Preprocess,
    mask: np.ndarray | None = None,
    regions: Sequence[Region] = (),
) -> np.ndarray:
    """Draw the pictures of `tiles` beside each other, with verdict and colour bar: uint8 RGB [height, width, 3].

    Arguments as for `tiles`.
    """
    return strip(prediction, calibration, tiles(prediction, calibration, preprocess, mask, regions))


def tiles(
    prediction: Prediction,
    calibration: Calibration,
    preprocess: Preprocess,
    mask: np.ndarray | None = None,
    regions: Sequence[Region] = (),
) -> list[tuple[str, np.ndarray]]:
    """Draw the picture, the ground truth if `mask` is given, and the map over the picture; return them with titles.

    Args:
        prediction: a result of `Predictor.predict`.
        calibration: has the colour scale and the contour's level.
        preprocess: has the position of the map in the picture.
        mask: bool [height, width] of the crop, True where defective.
        regions: regions whose numbers are drawn.

    Returns:
        uint8 RGB [height, width, 3] each, the map last. Pixels outside of the crop, or of the region of interest, were
        not examined; they are hatched.
    """
    resized = prediction.resized
    scale, way = TILE / resized.shape[0], cv2.INTER_LINEAR
    if preprocess.tiled:
        scale, way = min(1.0, LARGE / (resized.shape[0] * resized.shape[1]) ** 0.5), cv2.INTER_AREA
    shown = max(1, round(resized.shape[0] * scale))
    picture = cv2.resize(resized, (max(1, round(resized.shape[1] * scale)), shown), interpolation=way)
    top, left, height, width = (round(edge * scale) for edge in preprocess.window(*resized.shape[:2]))
    height, width = max(1, min(height, shown - top)), max(1, min(width, picture.shape[1] - left))
    window = (slice(top, top + height), slice(left, left + width))

    anomaly_map = cv2.resize(prediction.anomaly_map, (width, height), interpolation=way)
    above = anomaly_map > calibration.pixel_threshold
    if scale < 1 and preprocess.tiled:  # keeps small regions visible in the reduced picture
        found = np.where(prediction.anomaly_map > calibration.pixel_threshold, np.uint8(255), np.uint8(0))
        above = cv2.resize(found, (width, height), interpolation=way) > 0
    inside = preprocess.inside(*prediction.anomaly_map.shape)
    if inside is None:
        inside = np.ones((height, width), bool)
    else:
        inside = cv2.resize(inside.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    hatched = _hatched(picture, window, inside)
    heat = hatched.copy()
    _put(heat[window], heated(picture[window], _share(anomaly_map, calibration)), inside)
    _outline(heat[window], above & inside)
    for region in regions:
        row, column = region.corner
        own_height, own_width = prediction.anomaly_map.shape
        _label(heat[window], str(region.number), row * height // own_height, column * width // own_width)
    found = [("picture", picture)]
    if mask is not None:
        truth = hatched.copy()
        large = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
        _put(truth[window], heated(picture[window], np.where(large, 0.7, 0.0)), inside)
        found.append(("ground truth", truth))
    return [*found, ("anomaly map", heat)]


def heated(picture: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Draw the colour of heat over a picture.

    Args:
        picture: uint8 RGB [height, width, 3].
        share: [height, width], the map's values on the colour scale: up to 0 the picture is not changed, from 1 on the
            colour covers it with `OPACITY`.

    Returns:
        uint8 RGB [height, width, 3].
    """
    opacity = OPACITY * np.clip(share, 0, 1)[..., None].astype(np.float32)
    return np.rint(picture + opacity * (np.array(HOT, np.float32) - picture)).astype(np.uint8)


def strip(prediction: Prediction, calibration: Calibration, tiles: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """Draw the pictures in `tiles` beside each other, below the verdict: uint8 RGB [height, width, 3]."""
    defect = calibration.is_defect(prediction.score)
    verdict = (
        f"{'DEFECT' if defect else 'good'}: score {prediction.score:.3f}, threshold {calibration.image_threshold:.3f}"
    )
    return _strip(readable(prediction.name), verdict, (180, 0, 0) if defect else (0, 110, 0), tiles, calibration)


OUTSIDE = 127
MAP_LEVELS = 8192
"""Steps of a raw map from 0 to `map_high`; 16 bits can hold eight times as many."""


def defect_mask(prediction: Prediction, calibration: Calibration, preprocess: Preprocess) -> np.ndarray:
    """Return a mask of the pixels above the pixel threshold, uint8 [height, width], in the size of the resized picture.

    255 is defective, 0 is good. OUTSIDE is outside of the crop or the region of interest, and was not examined.
    """
    found = prediction.anomaly_map > calibration.pixel_threshold
    return _in_picture(np.where(found, np.uint8(255), np.uint8(0)), OUTSIDE, prediction, preprocess)


def map_step(calibration: Calibration) -> float:
    """Size of one step of `raw_map`, in units of the map; it depends on the model, not on the threshold of a run."""
    return max(calibration.map_high, 1e-12) / MAP_LEVELS


def raw_map(prediction: Prediction, calibration: Calibration, preprocess: Preprocess) -> np.ndarray:
    """Return the map's values as uint16 [height, width], in the size of the resized picture.

    A pixel is 1 + the map's value / `map_step`, rounded, at most 65535; outside of the crop or the region of interest
    it is 0.
    """
    steps = np.rint(prediction.anomaly_map / map_step(calibration)) + 1
    return _in_picture(np.clip(steps, 1, 65535).astype(np.uint16), 0, prediction, preprocess)


def _in_picture(seen: np.ndarray, outside: int, prediction: Prediction, preprocess: Preprocess) -> np.ndarray:
    """Put the map's pixels `seen` at their position in the resized picture; pixels not examined become `outside`."""
    whole = np.full(prediction.resized.shape[:2], outside, seen.dtype)
    top, left, height, width = preprocess.window(*whole.shape)
    inside = preprocess.inside(height, width)
    if inside is not None:
        seen[~inside] = outside
    whole[top : top + height, left : left + width] = seen
    return whole


def _strip(
    name: str,
    verdict: str,
    colour: tuple[int, int, int],
    tiles: list[tuple[str, np.ndarray]],
    calibration: Calibration,
) -> np.ndarray:
    width = sum(tile.shape[1] + GAP for _, tile in tiles) + BAR + GAP
    sheet = np.full((2 * TITLE + max(TILE, tiles[0][1].shape[0]) + GAP, max(width, 560), 3), 255, np.uint8)
    write_text(sheet, verdict, (GAP, 20), colour, 0.55)
    name = name[-max(8, (sheet.shape[1] - text_width(verdict, 0.55) - 4 * GAP) // 8) :]
    write_text(sheet, name, (sheet.shape[1] - GAP - text_width(name, 0.4), 20), (120, 120, 120), 0.4)
    x = GAP
    for label, tile in tiles:
        write_text(sheet, label, (x, 50), INK, 0.42)
        sheet[2 * TITLE : 2 * TITLE + len(tile), x : x + tile.shape[1]] = tile
        x += tile.shape[1] + GAP
    ramp = np.linspace(calibration.map_high, calibration.map_low, TILE, dtype=np.float32)[:, None].repeat(16, 1)
    grey = np.full((*ramp.shape, 3), BACKDROP, np.uint8)
    sheet[2 * TITLE : 2 * TITLE + TILE, x : x + 16] = heated(grey, _share(ramp, calibration))
    for value in (calibration.map_low, calibration.pixel_threshold, calibration.map_high):
        y = 2 * TITLE + round((1 - _share(value, calibration)) * (TILE - 1))
        if 2 * TITLE <= y < 2 * TITLE + TILE:
            cv2.line(sheet, (x + 12, y), (x + 19, y), INK, 1)
            write_text(sheet, f"{value:.2f}", (x + 22, min(max(y + 4, 2 * TITLE + 9), 2 * TITLE + TILE - 1)), INK, 0.38)
    return sheet


def _share(value: Any, calibration: Calibration) -> Any:
    """Convert a map value, or an array of them, to the colour scale: 0 is its start, 1 is its end."""
    return (value - calibration.map_low) / max(calibration.map_high - calibration.map_low, 1e-12)


def _outline(picture: np.ndarray, inside: np.ndarray) -> None:
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    drawn = np.ascontiguousarray(picture)
    cv2.drawContours(drawn, contours, -1, (0, 0, 0), 3)
    cv2.drawContours(drawn, contours, -1, (255, 255, 255), 1)
    picture[:] = drawn


def _label(picture: np.ndarray, text: str, row: int, column: int) -> None:
    """Write a number above a position, or below it near the top edge, readable on any colour."""
    drawn, at = np.ascontiguousarray(picture), (column, row - 3 if row > 14 else row + 12)
    cv2.putText(drawn, text, at, FONT, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(drawn, text, at, FONT, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    picture[:] = drawn


def _hatched(picture: np.ndarray, window: tuple[slice, slice], inside: np.ndarray) -> np.ndarray:
    """Return the picture, greyed and hatched outside of `window`, and in the window where it is not `inside`."""
    red, green, blue = (picture[..., channel].astype(np.uint16) for channel in range(3))
    grey = DULL[red + green + blue]
    for row in range(8):
        grey[row::8, -row % 8 :: 8] = 150
    dull = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    _put(dull[window], picture[window], inside)
    return dull


def _put(picture: np.ndarray, new: np.ndarray, inside: np.ndarray) -> None:
    """Replace those pixels of the picture that are `inside` by those of `new`, in place."""
    np.copyto(picture, new, where=True if inside.all() else inside[..., None])


def readable(name: str) -> str:
    """Return the end of a path in ASCII, for OpenCV's font: without accents, other letters as escapes, \\u56fe."""
    short = unicodedata.normalize("NFKD", "/".join(Path(name).parts[-3:]))
    plain = "".join(letter for letter in short if not unicodedata.combining(letter))
    return plain.encode("ascii", "backslashreplace").decode()[-60:]


def write_text(sheet: np.ndarray, text: str, at: tuple[int, int], colour: tuple[int, int, int], size: float) -> None:
    """Write ASCII text into a picture, uint8 RGB; `at` is x and y of the left end of its base line."""
    cv2.putText(sheet, text, at, FONT, size, colour, 1, cv2.LINE_AA)


def text_width(text: str, size: float) -> int:
    """Width in pixels of a text that `write_text` writes."""
    return cv2.getTextSize(text, FONT, size, 1)[0][0]
