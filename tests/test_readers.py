"""Layouts of data: each gives the pictures, labels and masks that MVTec AD's form of the same data gives."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import FAST, done, fitted, refused, run, table

from datasets.readers import LAYOUTS, Category, find_categories, read_mask
from datasets.readers.layouts import layout_of
from deploy import UserError
from deploy.pictures.preprocess import Preprocess

pytestmark = pytest.mark.once

GOOD_TESTS = 2
"""Of eight good pictures to fit on and these, every fifth is for testing."""


@pytest.fixture(scope="module")
def washer(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A category in MVTec AD's form, with two good test pictures."""
    place = tmp_path_factory.mktemp("mvtec") / "washer"
    shutil.copytree(data / "washer", place)
    for path in sorted((place / "test/good").iterdir())[GOOD_TESTS:]:
        path.unlink()
    return place


def copied(path: Path, place: Path) -> Path:
    """`place`, into which `path` was copied."""
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, place)
    return place


def good_in_order(washer: Path) -> list[Path]:
    """Good pictures to fit on, of which every fifth one is one to test on."""
    order = sorted((washer / "train/good").iterdir())
    for number, path in enumerate(sorted((washer / "test/good").iterdir()), 1):
        order.insert(5 * number - 1, path)
    return order


def defective(washer: Path) -> list[tuple[Path, Path]]:
    """Defective pictures, each with its mask."""
    found = [path for path in sorted((washer / "test").glob("*/*")) if path.parent.name != "good"]
    return [(path, washer / "ground_truth" / path.parent.name / f"{path.stem}_mask.png") for path in found]


def as_btad(washer: Path, root: Path) -> Path:
    """Folders ok and ko, masks called as the pictures are, as .bmp."""
    shutil.copytree(washer / "train/good", root / "01/train/ok")
    shutil.copytree(washer / "test/good", root / "01/test/ok")
    for number, (path, mask) in enumerate(defective(washer)):
        copied(path, root / f"01/test/ko/{number:04d}.png")
        (root / "01/ground_truth/ko").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / f"01/ground_truth/ko/{number:04d}.bmp"), cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE))
    return root


def as_loco(washer: Path, root: Path) -> Path:
    """Each mask in two halves, in a folder of its own."""
    shutil.copytree(washer, root / "washer", ignore=shutil.ignore_patterns("ground_truth"))
    copied(washer / "train/good/000.png", root / "washer/validation/good/000.png")
    for path, mask in defective(washer):
        place = root / "washer/ground_truth" / path.parent.name / path.stem
        place.mkdir(parents=True)
        whole = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)
        for number, rows in enumerate((slice(0, 40), slice(40, None))):
            part = np.zeros_like(whole)
            part[rows] = whole[rows]
            cv2.imwrite(str(place / f"{number:03d}.png"), part)
    return root


def as_ad2(washer: Path, root: Path) -> Path:
    """The test and its masks in test_public."""
    shutil.copytree(washer / "train", root / "washer/train")
    shutil.copytree(washer / "test", root / "washer/test_public")
    shutil.copytree(washer / "ground_truth", root / "washer/test_public/ground_truth")
    copied(washer / "test/good/000.png", root / "washer/test_private/000.png")
    return root


def as_visa(washer: Path, root: Path) -> Path:
    """A table in split_csv."""
    rows = []
    for split in ("train", "test"):
        for path in sorted((washer / split / "good").iterdir()):
            image = f"washer/Data/Images/Normal/{split}{path.stem}.PNG"
            copied(path, root / image)
            rows.append(("washer", split, "normal", image, ""))
    for number, (path, mask) in enumerate(defective(washer)):
        image, place = f"washer/Data/Images/Anomaly/{number}.PNG", f"washer/Data/Masks/Anomaly/{number}.png"
        copied(path, root / image)
        copied(mask, root / place)
        rows.append(("washer", "test", "anomaly", image, place))
    (root / "split_csv").mkdir()
    with open(root / "split_csv/1cls.csv", "w", newline="") as file:
        csv.writer(file).writerows([("object", "split", "label", "image", "mask"), *rows])
    return root


def as_kolektor(washer: Path, root: Path) -> Path:
    """Items with parts and their labels; the fifth item's good parts are those to test on."""
    parts = [(path, 1 + number % 4, None) for number, path in enumerate(sorted((washer / "train/good").iterdir()))]
    parts += [(path, 5, None) for path in sorted((washer / "test/good").iterdir())]
    parts += [(path, 1 + number % 5, mask) for number, (path, mask) in enumerate(defective(washer))]
    for number, (path, item, mask) in enumerate(parts):
        picture = copied(path, root / f"kos{item:02d}/Part{number}.png")
        label = (
            cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)
            if mask
            else np.zeros(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).shape, np.uint8)
        )
        cv2.imwrite(str(picture.with_name(f"Part{number}_label.bmp")), label)
    return root


def as_plain(washer: Path, root: Path) -> Path:
    """Folders OK and one per kind, masks beside them."""
    for number, path in enumerate(good_in_order(washer)):
        copied(path, root / f"OK/{number:03d}.png")
    for path, mask in defective(washer):
        copied(path, root / path.parent.name / path.name)
        copied(mask, root / "masks" / path.parent.name / path.name)
    return root


def as_table(washer: Path, root: Path) -> Path:
    """Json lines without a split, with kinds and masks."""
    rows = [{"path": str(path), "label": 0} for path in good_in_order(washer)]
    rows += [{"path": str(path), "label": path.parent.name, "mask": str(mask)} for path, mask in defective(washer)]
    (root / "washer.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root / "washer.jsonl"


def content(category: Category) -> tuple[list[bytes], list[tuple[bytes, bool, bytes]]]:
    """All that a category holds but names and order."""
    size = Preprocess(80, 64)
    tests = [
        (picture.path.read_bytes(), picture.defective, read_mask(picture, size).tobytes())
        for picture in category.test_pictures()
    ]
    return sorted(path.read_bytes() for path in category.train_pictures()), sorted(tests)


MAKERS = {
    "btad": as_btad, "loco": as_loco, "mvtec_ad2": as_ad2, "visa": as_visa, "kolektor": as_kolektor,
    "plain": as_plain, "table": as_table,
}  # fmt: skip


@pytest.mark.parametrize("layout", MAKERS)
def test_every_layout_gives_what_mvtecs_gives(layout: str, washer: Path, tmp_path: Path) -> None:
    place = MAKERS[layout](washer, tmp_path)
    (plain,) = find_categories(washer)
    assert layout_of(plain) == "mvtec" and len(content(plain)[0]) == 8
    for asked in (None, layout):
        (found,) = find_categories(place, asked)
        assert type(found) is LAYOUTS[layout]
        assert content(found) == content(plain) and not found.unused_masks()


def test_every_name_has_a_maker_here() -> None:
    assert set(LAYOUTS) == {*MAKERS, "mvtec", "mpdd"}


def test_masks_below_defective_are_found(washer: Path, tmp_path: Path) -> None:
    shutil.copytree(washer, tmp_path / "washer")
    (tmp_path / "washer/ground_truth").rename(tmp_path / "defective")
    (tmp_path / "washer/ground_truth").mkdir()
    (tmp_path / "defective").rename(tmp_path / "washer/ground_truth/defective")
    assert content(find_categories(tmp_path)[0]) == content(find_categories(washer)[0])


def test_masks_in_folders_are_found_without_the_validation_pictures(washer: Path, tmp_path: Path) -> None:
    shutil.rmtree(as_loco(washer, tmp_path) / "washer/validation")
    (found,) = find_categories(tmp_path)
    assert layout_of(found) == "loco" and content(found) == content(find_categories(washer)[0])


def test_pictures_alone_are_all_good(washer: Path, tmp_path: Path) -> None:
    shutil.copytree(washer / "train/good", tmp_path / "nuts")
    (found,) = find_categories(tmp_path / "nuts")
    assert (found.name, len(found.train_pictures())) == ("nuts", 8)
    with pytest.raises(UserError, match="good pictures alone"):
        found.test_pictures()
    copied(washer / "test/good/000.png", tmp_path / "nuts/scratch/000.png")
    with pytest.raises(UserError, match="move the good pictures"):
        found.train_pictures()


def test_a_table_of_good_pictures_alone_is_all_to_fit_on(washer: Path, tmp_path: Path) -> None:
    paths = sorted((washer / "train/good").iterdir())
    lines = ["\ufeffpath,label", *(f"{path},ok" for path in paths)]  # with the mark that spreadsheets write first
    (tmp_path / "nuts.csv").write_text("\n".join(lines), "utf-8")
    (found,) = find_categories(tmp_path / "nuts.csv")
    assert (found.name, found.train_pictures()) == ("nuts", paths)
    with pytest.raises(UserError, match="no picture to test on"):
        found.test_pictures()


def test_jsons_own_true_is_defective_and_false_is_good(washer: Path, tmp_path: Path) -> None:
    (bad, _), *_ = defective(washer)
    rows = [{"path": str(path), "label": path == bad} for path in (*good_in_order(washer), bad)]
    (tmp_path / "nuts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (found,) = find_categories(tmp_path / "nuts.jsonl")
    assert [picture.path for picture in found.test_pictures() if picture.defective] == [bad]
    assert len(found.train_pictures()) == 8


def test_masks_of_plain_folders_may_lie_in_ground_truth(washer: Path, tmp_path: Path) -> None:
    (as_plain(washer, tmp_path) / "masks").rename(tmp_path / "ground_truth")
    (found,) = find_categories(tmp_path)
    assert layout_of(found) == "plain" and content(found) == content(find_categories(washer)[0])


@pytest.mark.parametrize("layout", ["btad", "kolektor", "plain"])
def test_a_link_to_a_category_gives_it_the_links_name(layout: str, washer: Path, tmp_path: Path) -> None:
    made = MAKERS[layout](washer, tmp_path / "made")
    (tmp_path / "linked").mkdir()
    [category] = find_categories(made, layout)
    (tmp_path / "linked/mine").symlink_to(category.folder)
    assert [one.name for one in find_categories(tmp_path / "linked", layout)] == ["mine"]


def test_a_label_of_two_pictures_is_refused(washer: Path, tmp_path: Path) -> None:
    (label, *_) = sorted(as_kolektor(washer, tmp_path).glob("*/*_label.bmp"))
    stem = label.name.replace("_label.bmp", "")
    copied(washer / "train/good/000.png", label.with_name(f"{stem}.jpg"))
    (found,) = find_categories(tmp_path)
    with pytest.raises(UserError, match=f"{label.name} is the mask of 2 pictures: there must be one, {stem}.jpg"):
        found.train_pictures()


def test_a_table_gives_the_figures_of_the_folders(trained, tmp_path: Path) -> None:  # noqa: ANN001
    place = trained.data / "washer"
    rows = [("path", "label", "mask", "split", "category")]
    for path in [*sorted(place.glob("train/*/*")), *sorted(place.glob("test/*/*"))]:
        kind, split = path.parent.name, path.relative_to(place).parts[0]
        mask = "" if kind == "good" else place / "ground_truth" / kind / f"{path.stem}_mask.png"
        rows.append((path, kind, mask, split, "washer"))
    with open(tmp_path / "parts.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    words = ["--data_path", tmp_path / "parts.csv", "--category", "washer", *FAST, "--save_path", tmp_path]
    said = done(run("train.py", *words, "--eval", "--eval_PRO", "--save_pic", "False")).stdout
    assert "layout table" in said and "8 good pictures to fit on" in said and "to test on: 3 good pictures" in said
    run_folder = tmp_path / trained.run.name
    ours, theirs = (table(folder / "washer_seed521.csv")[0] for folder in (run_folder, trained.run))
    assert {k: v for k, v in ours.items() if k != "command"} == {k: v for k, v in theirs.items() if k != "command"}
    assert fitted(run_folder / "washer.safetensors") == fitted(trained.model)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,label\nno.png,good\n", ["row 2", "no picture at"]),
        ("path,label,category\na.png,good,../../evil\n", ["row 2", "category '../../evil' is not a plain name"]),
        ("path,label\na.png,\n", ["row 2", "label is empty"]),
        ("path,label,split\na.png,dent,train\n", ["row 2", "defective picture in split train"]),
        ("path,label,split\na.png,good,val\n", ["row 2", "'val'"]),
        ("path,label,mask\na.png,dent,m.png\n", ["row 2", "no mask at"]),
        ("path,kind\na.png,good\n", ["row 2", "no label"]),
        ("path,label\n", ["no rows"]),
        ("path,label\n\xff,good\n", ["cannot read", "UTF-8"]),
    ],
)
def test_tables_that_cannot_be_understood(washer: Path, tmp_path: Path, text: str, said: list[str]) -> None:
    copied(washer / "train/good/000.png", tmp_path / "a.png")
    (tmp_path / "t.csv").write_bytes(text.encode("latin-1"))
    refused(run("train.py", "--data_path", tmp_path / "t.csv", *FAST, "--save_path", tmp_path / "o"), "t.csv", *said)


def test_what_is_no_data_set(data: Path, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("")
    refused(run("train.py", "--data_path", tmp_path / "x.txt", *FAST), "no table")
    refused(run("train.py", "--data_path", tmp_path / "x.txt", "--layout", "mvtec", *FAST), "layout mvtec is a folder")
    refused(run("-m datasets", tmp_path / "nowhere"), "no such folder", "train.py --download")
    refused(run("train.py", "--data_path", data, "--layout", "visa", *FAST), "layout visa")
    (tmp_path / "two/good").mkdir(parents=True)
    (tmp_path / "two/OK").mkdir()
    refused(run("train.py", "--data_path", tmp_path / "two", *FAST), "OK and good")


def test_a_look_at_good_data(washer: Path) -> None:
    said = done(run("-m datasets", washer)).stdout
    for line in (
        "layout mvtec",
        "to fit on: 8 good pictures",
        "to test on: 2 good pictures",
        "uint8 x 3",
        "are few",
        "can start",
    ):
        assert line in said
    assert "nearly" not in said and "copies" not in said and "error" not in said and "of no picture" not in said


def test_a_look_at_bad_data(washer: Path, tmp_path: Path) -> None:
    place = tmp_path / "washer"
    shutil.copytree(washer, place)
    good = place / "train/good"
    shutil.copy(good / "000.png", good / "copy.png")
    shutil.copy(good / "001.png", place / "test/good/seen.png")
    cv2.imwrite(str(good / "again.jpg"), cv2.imread(str(good / "002.png")), [cv2.IMWRITE_JPEG_QUALITY, 90])
    cv2.imwrite(str(place / "test/good/near.jpg"), cv2.imread(str(good / "004.png")), [cv2.IMWRITE_JPEG_QUALITY, 90])
    (good / "broken.png").write_bytes((good / "003.png").read_bytes()[:500])
    (_, first), (other, second), (last, third), *_ = defective(place)
    cv2.imwrite(str(first), np.zeros_like(cv2.imread(str(first))))
    cv2.imwrite(str(second), np.ones((7, 9), np.uint8))
    stray = third.rename(third.with_name(f"of_nothing{third.suffix}"))
    result = run("-m datasets", tmp_path)
    assert result.returncode == 2
    for line in (
        "1 pictures to fit on are copies of others: good/copy.png = good/000.png",
        "1 test pictures are also among those to fit on: figures will look too good: good/seen.png = good/001.png",
        "nearly the same as others: good/again.jpg = good/002.png",
        "1 test pictures are nearly the same as one to fit on: figures may look too good: good/near.jpg = good/004.png",
        "broken.png",
        "masks of defective pictures mark nothing",
        f"{second} is 9 x 7 pixels, its picture {other}",
        f"have no mask: {last.name}",
        f"1 masks are of no picture: {stray}",
        "training would fail for 1",
    ):
        assert line in result.stdout, line


def test_a_look_at_pictures_of_which_too_few_can_be_read(washer: Path, tmp_path: Path) -> None:
    copied(washer / "train/good/000.png", tmp_path / "nuts/0.png")
    for name in ("1.png", "2.png"):
        (tmp_path / "nuts" / name).write_bytes(b"no picture")
    result = run("-m datasets", tmp_path / "nuts")
    assert result.returncode == 2
    assert "1 good pictures to fit on: fitting needs at least 2" in result.stdout
