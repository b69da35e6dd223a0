"""The generated data set: repeatable, varied, and flawed exactly where its masks say."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import done, refused, run

from datasets.sample.write import BORDER, CATEGORIES, SIZE, VISIBLE, draw, write_sample
from deploy.errors import UserError
from deploy.pictures.decode import decode

pytestmark = pytest.mark.once
FLAWS = [(category, flaw) for category, (_, flaws) in CATEGORIES.items() for flaw in flaws]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_same_seed_same_bytes_whichever_categories(tmp_path: Path) -> None:
    few = {"train": 2, "good": 1, "bad": 1}
    assert write_sample(tmp_path / "all", seed=4, **few) == list(CATEGORIES)
    assert write_sample(tmp_path / "one", seed=4, **few, categories=["wood"]) == ["wood"]
    write_sample(tmp_path / "more", seed=4, train=3, good=2, bad=2, categories=["wood"])
    write_sample(tmp_path / "other", seed=5, **few, categories=["wood"])
    every, one = files(tmp_path / "all"), files(tmp_path / "one")
    assert one == {name: data for name, data in every.items() if name.startswith("wood/")}
    assert one.items() <= files(tmp_path / "more").items(), "the first pictures don't depend on how many follow"
    other = files(tmp_path / "other")
    assert other.keys() == one.keys() and all(other[name] != one[name] for name in one if "ground" not in name)
    expected = {f"{category}/{split}/good/{number:03d}.png" for category in CATEGORIES
                for split, count in (("train", 2), ("test", 1)) for number in range(count)}  # fmt: skip
    expected |= {f"{category}/test/{flaw}/000.png" for category, flaw in FLAWS}
    expected |= {f"{category}/ground_truth/{flaw}/000_mask.png" for category, flaw in FLAWS}
    assert every.keys() == expected


def test_the_command_writes_what_the_function_does(tmp_path: Path) -> None:
    words = ["--seed", "9", "--categories", "fabric", "--train", "2", "--good", "1", "--bad", "1"]
    result = done(run("-m datasets.sample", tmp_path / "command", *words))
    assert result.stdout == f"sample data: fabric in {tmp_path / 'command'}\n"
    write_sample(tmp_path / "function", seed=9, train=2, good=1, bad=1, categories=["fabric"])
    assert files(tmp_path / "command") == files(tmp_path / "function")
    with pytest.raises(UserError, match="no sample category felt: choose from washer"):
        write_sample(tmp_path / "felt", categories=["felt"])
    refused(run("-m datasets.sample", tmp_path / "felt", "--categories", "felt"), "felt", "washer")
    refused(run("-m datasets.sample", tmp_path / "felt", "--seed", "-1"), "--seed", "'-1'")
    assert not (tmp_path / "felt").exists()


@pytest.mark.parametrize(("category", "flaw"), FLAWS)
def test_a_flaw_is_where_its_mask_says(category: str, flaw: str) -> None:
    """Against the same picture without the flaw: the same outside the mask, different inside."""
    masks = []
    for number in (100_000, 100_001):
        picture, mask = draw(category, flaw, 11, number)
        twin, none = draw(category, "good", 11, number)
        assert picture.shape == (SIZE, SIZE, 3) and picture.dtype == np.uint8 and mask.dtype == bool
        assert not none.any()
        assert 12 <= mask.sum() < 0.1 * SIZE**2
        assert mask.sum() == mask[BORDER:-BORDER, BORDER:-BORDER].sum(), "the centre crop shows all of it"
        change = np.abs(picture.astype(float) - twin).max(axis=2)
        assert change[cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0].max() == 0
        assert (change[mask] > VISIBLE - 1).mean() > 0.5
        assert change[mask].mean() > 2 * VISIBLE
        masks.append(mask)
    assert (masks[0] != masks[1]).any()


@pytest.mark.parametrize("category", CATEGORIES)
def test_good_pictures_vary_as_a_cameras_do(category: str) -> None:
    pictures = np.stack([draw(category, "good", 2, number)[0] for number in range(12)]).astype(float)
    brightness = pictures.mean(axis=(1, 2, 3))
    assert brightness.std() > 3 and brightness.min() > 30 and brightness.max() < 215
    colour = pictures[..., 0].mean(axis=(1, 2)) / pictures[..., 2].mean(axis=(1, 2))
    assert colour.std() > 0.01
    x = np.linspace(-1, 1, SIZE)
    across, down = pictures.mean(axis=(1, 3)) @ x, pictures.mean(axis=(2, 3)) @ x
    spread = [np.std(shade / brightness) / SIZE for shade in (across, down)]
    assert min(spread) > 0.005, "the lamp stands on any side"
    grain = [np.median(np.abs(cv2.Laplacian(p.mean(axis=2), cv2.CV_64F))) for p in pictures]
    assert max(grain) > 1.2 * min(grain)
    assert (pictures >= 255).mean() < 0.02, "not burnt out"
    for picture, other in zip(pictures, pictures[1:]):
        assert np.abs(picture - other).mean() > 5


def test_masks_on_disk_are_black_and_white(tmp_path: Path) -> None:
    write_sample(tmp_path, seed=1, train=1, good=0, bad=1, categories=["connector"])
    for path in sorted((tmp_path / "connector/ground_truth").rglob("*.png")):
        assert set(np.unique(decode(path))) == {0, 255}


def test_nothing_that_lies_there_is_overwritten(tmp_path: Path) -> None:
    few = {"train": 2, "good": 1, "bad": 1, "categories": ["wood"]}
    write_sample(tmp_path, seed=4, **few)
    before = files(tmp_path)
    write_sample(tmp_path, seed=4, **few)  # the same pictures again
    assert files(tmp_path) == before
    with pytest.raises(UserError, match="another picture than this sample's"):
        write_sample(tmp_path, seed=5, **few)
    for other in ("wood/train/good/002.png", "wood/notes.txt"):
        (tmp_path / other).write_text("mine")
        with pytest.raises(UserError, match="is not of this sample"):
            write_sample(tmp_path, seed=4, **few)
        (tmp_path / other).unlink()
    assert files(tmp_path) == before
