"""Whatever a camera or an office writes is read alike; masks and crops share one geometry."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.readers import LabelledPicture, read_mask
from deploy import Preprocess, UserError
from deploy.pictures.antialias import resize
from deploy.pictures.decode import decode
from deploy.pictures.listing import list_pictures
from deploy.pictures.stream import batches, stream

pytestmark = pytest.mark.once

RGB = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8), (0, 0), 3)


def save(path: Path, picture: Image.Image, **settings: object) -> Path:
    picture.save(path, **settings)
    return path


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        ("png", "RGB"),
        ("png", "L"),
        ("png", "1"),
        ("png", "P"),
        ("png", "RGBA"),
        ("png", "LA"),
        ("jpg", "RGB"),
        ("jpg", "L"),
        ("jpg", "CMYK"),
        ("tif", "RGB"),
        ("tif", "CMYK"),
        ("bmp", "RGB"),
        ("webp", "RGB"),
    ],
)
def test_formats_decode_as_pillow_does(tmp_path: Path, suffix: str, mode: str) -> None:
    settings = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"x.{suffix}", Image.fromarray(RGB).convert(mode), **settings)
    expected = np.asarray(Image.open(path).convert("RGB")).astype(int)
    found = decode(path)
    assert found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 2


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    grey = RGB[..., 0].astype(np.uint16) * 256 + 7
    path = save(tmp_path / f"x.{suffix}", Image.fromarray(grey))
    assert np.abs(decode(path)[..., 1].astype(int) - RGB[..., 0]).max() <= 1


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "x.jpg", Image.fromarray(RGB), exif=exif, quality=95)
    assert decode(path).shape == (60, 40, 3)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    whole = save(tmp_path / "x.png", Image.fromarray(RGB)).read_bytes()
    photo = save(tmp_path / "x.jpg", Image.fromarray(RGB)).read_bytes()
    cases = {"empty.png": b"", "text.png": b"hello", "cut.png": whole[:-200], "cut.jpg": photo[: len(photo) // 2]}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            decode(tmp_path / name)
    with pytest.raises(UserError, match="missing.png"):
        decode(tmp_path / "missing.png")


def test_odd_names_and_suffixes_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["Ünïcode 图片.png", "with space.PNG", "b.jpeg", "sub/c.TIF"]
    (tmp_path / "sub").mkdir()
    for name in names:
        save(tmp_path / name, Image.fromarray(RGB))
    save(tmp_path / ".hidden.png", Image.fromarray(RGB))
    (tmp_path / ".hidden.gif").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    found = list_pictures(tmp_path)
    assert not capsys.readouterr().err, "hidden files are not among those passed over"
    assert sorted(str(p.relative_to(tmp_path)) for p in found) == sorted(names)
    assert all(decode(path).shape == (40, 60, 3) for path in found)


@pytest.mark.parametrize("shape", [(90, 90), (90, 150), (151, 90), (50, 40), (33, 33)])
def test_geometry(shape: tuple[int, int]) -> None:
    size = Preprocess(64, 48)
    resized = size.resized(np.zeros((*shape, 3), np.uint8))
    assert min(resized.shape[:2]) == 64
    assert abs(resized.shape[0] / resized.shape[1] - shape[0] / shape[1]) < 0.02
    assert size.crop(resized).shape == (48, 48, 3)
    assert size.normalise(size.crop(resized)[None]).shape == (1, 3, 48, 48)


def test_mean_and_deviation_are_of_three_colours() -> None:
    for wrong in ({"mean": (0.5, 0.5)}, {"std": (1, 1, 1, 1)}, {"std": (0.2, 0, 0.2)}):
        with pytest.raises(UserError, match="three numbers each"):
            Preprocess(64, 64, **wrong)


def test_normalisation_is_imagenets() -> None:
    size = Preprocess(32, 32)
    crop = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    expected = (crop / 255 - np.array(size.mean)) / np.array(size.std)
    np.testing.assert_allclose(size.normalise(crop), expected.transpose(0, 3, 1, 2), atol=1e-5)


def test_masks_keep_small_defects_and_their_place(tmp_path: Path) -> None:
    size = Preprocess(256, 224)
    for radius in (4, 8, 40):
        mask = np.zeros((1024, 1024), np.uint8)
        cv2.circle(mask, (512, 400), radius, 255, -1)
        path = save(tmp_path / "m.png", Image.fromarray(mask))
        small = read_mask(LabelledPicture(tmp_path / "x.png", "dent", (path,)), size)
        assert small.shape == (224, 224)
        assert small.sum() * 16 == pytest.approx((mask > 0).sum(), rel=0.1 if radius > 4 else 0.35)
        y, x = np.argwhere(small).mean(0)
        assert (y, x) == pytest.approx((400 / 4 - 16, 512 / 4 - 16), abs=0.6)


def test_antialiasing() -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[::2] = 255
    assert np.abs(Preprocess(64, 64).resized(stripes)[1:-1].astype(int) - 127).max() <= 2  # the border sees half


@pytest.mark.parametrize(
    ("shape", "height", "width"),
    [
        ((900, 900), 256, 256),
        ((1267, 500), 649, 256),
        ((97, 61), 61, 40),
        ((300, 200), 299, 199),
        ((40, 50), 128, 160),  # enlarged
        ((64, 64), 64, 64),
        ((1, 9), 32, 288),
        ((513, 2), 256, 1),
    ],
)
def test_resizing_is_pillows(shape: tuple[int, int], height: int, width: int) -> None:
    """To one grey level: Pillow rounds between both sides."""
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    ours = resize(noise, height, width).astype(int)
    theirs = np.asarray(Image.fromarray(noise).resize((width, height), Image.BILINEAR))
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1


@pytest.mark.parametrize(
    ("size", "resized", "inside"),
    [
        (Preprocess(64, 48), (128, 64), (32, 32)),
        (Preprocess(64, (96, 48)), (128, 64), (32, 32)),
        (Preprocess(64, (160, 48)), (160, 80), (40, 40)),  # resized to more than 64, as the crop needs it
        (Preprocess(crop_size=(40, 60), fit="stretch"), (40, 60), (10, 30)),
        (Preprocess(crop_size=64, fit="pad"), (64, 64), (16, 32)),
        (Preprocess(crop_size=(40, 120), fit="pad"), (40, 120), (10, 60)),
    ],
)
def test_the_part_that_is_seen_and_masks_agree(
    size: Preprocess, resized: tuple[int, int], inside: tuple[int, int]
) -> None:
    """A picture of 200 x 100 with a square at rows 20 to 80, columns 20 to 80: where its centre is."""
    picture, mask = np.full((200, 100, 3), 40, np.uint8), np.zeros((200, 100), np.uint8)
    picture[20:80, 20:80], mask[20:80, 20:80] = 250, 255
    seen, truth = size.resized(picture), size.resized_mask(mask)
    assert seen.shape == (*resized, 3) and truth.shape == resized == size.resized_shape(200, 100)
    assert np.argwhere(truth).mean(axis=0) == pytest.approx(inside, abs=1)
    assert (truth == (seen[..., 0] > 145)).mean() > 0.98
    assert size.crop(seen).shape == (*size.size, 3) and size.crop(truth).shape == size.size
    top, left = size.window(*resized)[:2]
    assert (size.crop(truth) == truth[top : top + size.size[0], left : left + size.size[1]]).all()
    assert Preprocess.from_dict(json.loads(json.dumps(size.to_dict()))) == size


def test_padding_repeats_the_border() -> None:
    picture = np.tile(np.linspace(0, 255, 100).astype(np.uint8)[None, :, None], (50, 1, 3))
    seen = Preprocess(crop_size=64, fit="pad").resized(picture)
    assert (seen == seen[32]).all() and seen[0, 0, 0] < 5 and seen[-1, -1, 0] > 250


def test_a_square_is_the_same_setting_however_it_is_given() -> None:
    assert Preprocess(64, (48, 48)) == Preprocess(64, 48)
    for words, told in (({"fit": "x"}, "--fit x is unknown"), ({"crop_size": (300, 300)}, "larger than --resize 256")):
        with pytest.raises(UserError, match=told):
            Preprocess(**words)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_stream_keeps_order_and_hands_over_bad_pictures(tmp_path: Path, workers: int) -> None:
    paths = []
    for number in range(20):
        path = tmp_path / f"{number:02d}.png"
        save(path, Image.fromarray(np.full((40, 40, 3), number, np.uint8)))
        paths.append(path)
    paths[7].write_text("no picture")
    bad = []
    size = Preprocess(40, 40)
    groups = list(batches(stream(paths, size, workers, lambda name, error: bad.append(name)), 4))
    assert [int(item.resized[0, 0, 0]) for group in groups for item in group] == [n for n in range(20) if n != 7]
    assert [len(group) for group in groups] == [4, 4, 4, 4, 3]
    assert bad == [str(paths[7])]
    with pytest.raises(UserError, match="07.png"):
        list(stream(paths, size, workers))
