"""How small a defect a model sees: good test pictures beside the same ones with a drawn spot, scratch or moved piece.

python -m benchmarks.small_defects output/patchcore_resnet18_3/seed1/bottle.safetensors --data_path data/mvtec

Test sets have few defects of a few pixels, so a setting that loses them looks no worse there. Drawn ones are no
replacement for real ones: use them to compare settings.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from sklearn.metrics import roc_auc_score

from datasets.readers import Category
from deploy.command_line.parser import Parser, natural, positive
from deploy.command_line.progress import progress
from deploy.command_line.script import run_script
from deploy.errors import UserError
from deploy.storage.files import write_whole
from models import AnomalyMethod, load_model

from .report import table
from .selection import categories_in

Draw = Callable[[np.ndarray, np.random.Generator], np.ndarray]
MIDDLE = 0.25, 0.75
"""Defects begin in the middle half of height and width, where the product is."""


def main() -> int:
    """Print the table and write it to FILE."""
    parser = Parser(prog="python -m benchmarks.small_defects", description=__doc__)
    parser.add_argument("model", nargs="+", metavar="MODEL", help="files of train.py, each named after its category")
    parser.add_argument("--data_path", nargs="+", required=True, metavar="FOLDER", help="with the categories")
    parser.add_argument("--pictures", type=positive, default=40, help="at most so many good test pictures")
    parser.add_argument("--seed", type=natural, default=521, help="decides where defects are, and their directions")
    parser.add_argument("--output", default="output/small_defects.md", help="receives the table")
    args = parser.parse()
    rows = []
    for file in map(Path, args.model):
        [category] = categories_in(args.data_path, file.stem)
        model = load_model(file)
        rows.append([str(file), *found(model, good_pictures(category, model, args.pictures), args.seed)])
        print("  ".join(rows[-1]), flush=True)
    head = ["model", *(f"{name}: image AUROC (share above the threshold)" for name in DEFECTS), "mean image AUROC"]
    print(write_whole(Path(args.output), "\n".join(table(head, rows)) + "\n"))
    return 0


def good_pictures(category: Category, model: AnomalyMethod, most: int) -> list[np.ndarray]:
    """Return the category's good test pictures, at most `most`, in the size that the model sees: uint8 RGB.

    Raises:
        UserError: there is none.
    """
    paths = [picture.path for picture in category.test_pictures() if not picture.defective][:most]
    if not paths:
        raise UserError(f"{category.name}: no good test pictures; they are needed to draw defects into")
    return [model.preprocess.resized(path) for path in paths]


def found(model: AnomalyMethod, good: list[np.ndarray], seed: int) -> list[str]:
    """Return a cell for each of DEFECTS, and the mean AUROC."""

    def scores(pictures: list[np.ndarray]) -> np.ndarray:
        return np.array([prediction.score for prediction in model.predict(pictures, 8)])

    usual, random, cells, every = scores(good), np.random.default_rng(seed), [], []
    for draw in progress(DEFECTS.values(), len(DEFECTS), "defects"):
        defective = scores([draw(picture, random) for picture in good])
        labels = np.repeat([0, 1], len(good))
        every.append(roc_auc_score(labels, np.concatenate([usual, defective])))
        above = (defective > model.calibration.image_threshold).mean()
        cells.append(f"{every[-1]:.3f} ({above:.2f})")
    return [*cells, f"{np.mean(every):.4f}"]


def spot(radius: float, contrast: float) -> Draw:
    """A round spot, brighter or darker than the picture by `contrast` of 255."""

    def draw(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
        row, column = _place(picture, random)
        shape = np.zeros(picture.shape[:2], np.float32)
        cv2.circle(shape, (16 * column, 16 * row), round(16 * radius), 1, -1, cv2.LINE_AA, 4)
        return _shaded(picture, shape, contrast * random.choice([-1, 1]))

    return draw


def scratch(length: int, width: int, contrast: float) -> Draw:
    """A straight line in any direction, brighter or darker than the picture by `contrast` of 255."""

    def draw(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
        row, column = _place(picture, random)
        angle = random.uniform(0, np.pi)
        across, down = length / 2 * np.cos(angle), length / 2 * np.sin(angle)
        ends = [(round(column + side * across), round(row + side * down)) for side in (-1, 1)]
        shape = np.zeros(picture.shape[:2], np.float32)
        cv2.line(shape, *ends, 1, width, cv2.LINE_AA)
        return _shaded(picture, shape, contrast * random.choice([-1, 1]))

    return draw


def moved(side: int) -> Draw:
    """A square from another place of the same picture, rotated by 90, 180 or 270 degrees."""

    def draw(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
        row, column = _place(picture, random)
        top, left = (int(random.integers(length - side)) for length in picture.shape[:2])
        piece = np.rot90(picture[top : top + side, left : left + side], random.integers(1, 4))
        changed = picture.copy()
        into = changed[row : row + side, column : column + side]
        into[:] = piece[: into.shape[0], : into.shape[1]]
        return changed

    return draw


def _place(picture: np.ndarray, random: np.random.Generator) -> tuple[int, int]:
    row, column = (int(length * random.uniform(*MIDDLE)) for length in picture.shape[:2])
    return row, column


def _shaded(picture: np.ndarray, shape: np.ndarray, change: float) -> np.ndarray:
    """Add `change` to the picture where `shape`, float32 [height, width], is 1; its edge is a little soft."""
    share = cv2.GaussianBlur(shape, None, 0.6)[..., None]
    return np.rint(np.clip(picture + change * share, 0, 255)).astype(np.uint8)


DEFECTS: dict[str, Draw] = {
    "spot of radius 1.5, 50 levels": spot(1.5, 50),
    "spot of radius 3, 25 levels": spot(3, 25),
    "spot of radius 3, 50 levels": spot(3, 50),
    "spot of radius 6, 20 levels": spot(6, 20),
    "scratch of 20 x 1, 50 levels": scratch(20, 1, 50),
    "scratch of 40 x 2, 25 levels": scratch(40, 2, 25),
    "moved 8 x 8": moved(8),
    "moved 16 x 16": moved(16),
}
"""Sizes are in pixels that the model sees; levels are of 255."""


if __name__ == "__main__":
    run_script(main)
