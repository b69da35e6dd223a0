"""Hostile and damaged files: read whole, or refused in one line, with memory bounded by the file's size."""

from __future__ import annotations

import copy
import math
import pickle
import struct
import tracemalloc
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest
from conftest import done, run_process
from fuzz import damaged

from deploy import Preprocess, UserError
from deploy.calibration import Calibration
from deploy.pictures.decode import decode, decode_mask
from deploy.pictures.formats import stated
from deploy.results.description import header_text, levels_text, recorded
from deploy.results.tables import provenance_columns
from deploy.storage.tensors import read_tensors, write_tensors
from models import OrthoAD
from models.backbones.weights import read_weights

NAME = b"\x8c\x01a"  # the text "a"


def read_or_refused(path: Path, data: bytes) -> bool:
    """Whether weights are read from these bytes; a UserError is the only other way out."""
    path.write_bytes(data)
    try:
        read_weights(path)
    except UserError as error:
        assert path.name in str(error) and len(str(error)) < 400
        return False
    return True


def state() -> dict[str, object]:
    """What `paddle.save` takes, with the kinds of arrays that networks have."""
    layer = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4))
    more = {"half": np.ones(3, np.float16), "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
    return {**layer.state_dict(), **more, "flag": np.array([True]), "scalar": np.array(7), "none": np.zeros((0, 2))}


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_weights_are_those_that_paddle_loads(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "w.pdparams"
    for saved in (state(), OrderedDict(state())):
        paddle.save(saved, str(path), protocol=protocol)
        theirs = {name: np.asarray(value) for name, value in paddle.load(str(path)).items()}
        ours = read_weights(path)
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert (value.dtype, value.shape) == (theirs[name].dtype, theirs[name].shape)
            assert value.tobytes() == theirs[name].tobytes() and value.flags.writeable and value.flags.aligned


@pytest.mark.once
def test_weights_of_either_byte_order_have_the_same_values(tmp_path: Path) -> None:
    path, values = tmp_path / "w.pdparams", np.arange(6, dtype=np.float32).reshape(2, 3) / 7
    for order in "<>":
        path.write_bytes(pickle.dumps({"a": values.astype(f"{order}f4")}, 2))
        [found] = read_weights(path).values()
        assert found.dtype == np.float32 and found.tobytes() == values.tobytes()


def test_weights_that_would_fill_memory_or_crash_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pdparams"
    encode = b"c_codecs\nencode\n"
    nested = b"\x8c\x01a" + b"".join(b"\x94" + encode + b"h\x00\x8c\x07unicode\x86R" for _ in range(3))
    again = (
        b"X" + (20_000).to_bytes(4, "little") + b"a" * 20_000 + b"q\x00" + (encode + b"(h\x00\x8c\x06latin1tR") * 999
    )
    dtype = b"cnumpy\ndtype\n\x8c\x02f4\x85R"
    array = b"cnumpy.core.multiarray\n_reconstruct\n)R"
    for content in (
        NAME + b"r\xff\xff\xff\xff",  # a memo of 4 thousand million places
        nested,
        again,
        b")" + b"\x85" * 20_000,
        b"}" + b")" + b"\x85" * 20_000 + b"Ns",  # as a name, it would be hashed
        b"]" * 3000 + b"a" * 2999,
        b"(" * 20_000,
        b"]" * 20_000,
        b"cnumpy\ndtype\n)" + b"\x85" * 20_000 + b"\x85R",
        dtype + b"(K\x03" + NAME + b"NNNJ\xff\xff\xff\xff" * 3 + b"tb",
        dtype + b"(K\x03\x8c\x01<(K\x01K\x02tNNNtb",
        array + b"(K\x01J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86" + dtype + b"\x89C\x00tb",
        array + b"(K\x01\x8a\xff" + b"\x01" * 255 + b"\x85" + dtype + b"\x89C\x00tb",
        array + b"(K\x01K\x00\x8a\x0a" + b"\x01" * 10 + b"\x86" + dtype + b"\x89C\x00tb",
        b"B\xff\xff\xff\x7f",
        b"e", b"t", b"R", b"b", b"0", b"s", b"(u", b"\x94", b"h\x07",
    ):  # fmt: skip
        tracemalloc.start()
        assert not read_or_refused(path, b"\x80\x04" + content + b".")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 500_000 + 80 * len(content)
    assert not read_or_refused(path, b"")


def test_damaged_weights_are_read_or_refused(tmp_path: Path) -> None:
    path, read = tmp_path / "w.pdparams", 0
    for protocol in (2, 4):
        paddle.save(state(), str(path), protocol=protocol)
        read += sum(
            read_or_refused(path, data) for data in damaged(path.read_bytes(), 300, np.random.default_rng(protocol))
        )
    assert 20 < read < 580


# Pictures -------------------------------------------------------------------------------------------------------------


def encoded(suffix: str, picture: np.ndarray, *settings: int) -> bytes:
    return cv2.imencode(suffix, picture, settings)[1].tobytes()


def decoded_or_refused(path: Path, data: bytes) -> bool:
    """Whether a picture is decoded from these bytes; a UserError is the only other way out."""
    path.write_bytes(data)
    try:
        picture = decode(path)
    except UserError as error:
        assert path.name in str(error)
        return False
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    return True


SMOOTH = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8), (0, 0), 2)
DEFLATED, LZW = (cv2.IMWRITE_TIFF_COMPRESSION, 8), (cv2.IMWRITE_TIFF_COMPRESSION, 5)
FORMATS = [
    (".png", ()),
    (".jpg", ()),
    (".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
    (".tif", LZW),
    (".tif", DEFLATED),
    (".bmp", ()),
    (".webp", ()),
    (".ppm", ()),
    (".jp2", ()),
]


@pytest.mark.once
@pytest.mark.parametrize(("suffix", "settings"), FORMATS)
def test_every_format_says_its_size(tmp_path: Path, suffix: str, settings: tuple[int, ...]) -> None:
    data = encoded(suffix, SMOOTH, *settings)
    assert stated(data) == (120, 90, 8)
    assert decoded_or_refused(tmp_path / f"x{suffix}", data)
    for share in (0.3, 0.7, 0.97):
        assert not decoded_or_refused(tmp_path / f"x{suffix}", data[: int(len(data) * share)]), share


@pytest.mark.once
def test_damage_that_a_checksum_tells_is_refused(tmp_path: Path) -> None:
    for suffix, settings in ((".png", ()), (".tif", DEFLATED)):
        data = bytearray(encoded(suffix, SMOOTH, *settings))
        data[len(data) // 2] ^= 5
        assert not decoded_or_refused(tmp_path / f"x{suffix}", bytes(data))
    # a thumbnail's end is not the picture's
    whole, thumbnail = encoded(".jpg", SMOOTH), encoded(".jpg", SMOOTH[:20, :20])
    with_thumbnail = b"\xff\xd8\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + whole[2:]
    assert decoded_or_refused(tmp_path / "x.jpg", with_thumbnail)
    assert not decoded_or_refused(tmp_path / "x.jpg", with_thumbnail[:-300])


@pytest.mark.once
def test_a_strip_that_ends_early_is_refused(tmp_path: Path) -> None:
    """A decoder may leave out what is missing, without an error."""
    data = bytearray(encoded(".tif", SMOOTH, *DEFLATED))
    sizes = data.find(struct.pack("<HH", 279, 4)) + 8  # of the strips, in bytes: their place, as they are several
    first = int.from_bytes(data[sizes : sizes + 4], "little")
    assert int.from_bytes(data[sizes - 4 : sizes], "little") > 1 and decoded_or_refused(tmp_path / "x.tif", bytes(data))
    data[first : first + 4] = (int.from_bytes(data[first : first + 4], "little") - 20).to_bytes(4, "little")
    assert not decoded_or_refused(tmp_path / "x.tif", bytes(data))


@pytest.mark.once
def test_small_files_of_huge_pictures_are_refused_by_their_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def png(width: int, height: int) -> bytes:
        head = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\1\0\0\0\0"
        return b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + head + zlib.crc32(head).to_bytes(4, "big") + b"IEND"

    whole = bytearray(encoded(".png", SMOOTH))
    whole[33:37] = b"\xff\0\x19\x66"  # the length of a chunk
    assert not decoded_or_refused(tmp_path / "x.png", bytes(whole))
    for width, height in ((32_000, 32_000), (2**31 - 1, 1), (1, 2**31 - 1)):
        (tmp_path / "x.png").write_bytes(png(width, height))
        with pytest.raises(UserError, match=f"{width} x {height} pixels.*PADDLEPATCH_MAX_PIXELS"):
            decode(tmp_path / "x.png")
    monkeypatch.setenv("PADDLEPATCH_MAX_PIXELS", str(SMOOTH[..., 0].size - 1))
    assert not decoded_or_refused(tmp_path / "x.png", encoded(".png", SMOOTH))
    with pytest.raises(UserError, match="smaller --resize"):
        Preprocess(112, 96).resized(np.zeros((96, 96, 3), np.uint8))
    monkeypatch.setenv("PADDLEPATCH_MAX_PIXELS", "many")
    with pytest.raises(UserError, match="PADDLEPATCH_MAX_PIXELS many"):
        decode(tmp_path / "x.png")
    monkeypatch.delenv("PADDLEPATCH_MAX_PIXELS")
    with pytest.raises(UserError, match="over 32 times"):
        Preprocess(112, 96).resized(np.zeros((30_000, 1, 3), np.uint8))


@pytest.mark.once
def test_twelve_bits_in_sixteen_are_not_read_as_black(tmp_path: Path) -> None:
    deep = SMOOTH[..., 0].astype(np.uint16)
    for suffix in (".png", ".tif"):
        assert decoded_or_refused(tmp_path / f"x{suffix}", encoded(suffix, deep << 8))
        assert decoded_or_refused(tmp_path / f"x{suffix}", encoded(suffix, deep * 0))
        assert not decoded_or_refused(tmp_path / f"x{suffix}", encoded(suffix, deep << 4))
        (tmp_path / f"m{suffix}").write_bytes(encoded(suffix, (deep > 128).astype(np.uint16)))
        assert decode_mask(tmp_path / f"m{suffix}").sum() == (deep > 128).sum()


@pytest.mark.once
@pytest.mark.parametrize(("suffix", "settings"), FORMATS)
def test_damaged_pictures_are_decoded_or_refused(tmp_path: Path, suffix: str, settings: tuple[int, ...]) -> None:
    data = encoded(suffix, SMOOTH[:64, :64], *settings)
    read = sum(
        decoded_or_refused(tmp_path / f"x{suffix}", changed) for changed in damaged(data, 60, np.random.default_rng(1))
    )
    assert read < 60


# Headers and projections ----------------------------------------------------------------------------------------------

HEADER = {
    "kind": "stats",
    "method": "patchcore",
    "arch": "compact",
    "layers": ["layer2"],
    "k": 2.0,
    "seed": 521,
    "options": {"sigma": 4.0, "grid": None, "search": "coarse"},
    "backbone": {"file": "compact-1.safetensors", "sha256": "1"},
    "preprocess": Preprocess(112, 96).to_dict(),
    "calibration": Calibration((0.5, 1.0), (5.0, 6.0), 1.0, 9.0, 0.05, 1.0, 5.0, (80.0, 81.0)).to_dict(),
    "versions": {"numpy": "2"},
    "data": {"pictures": 8, "sha256": "1"},
    "command": "python train.py --sigma 4",
    "layout": "split",
    "input": "float32",
    "program": {"graph_sha256": "1", "params_sha256": "1"},
}
ODD = [None, True, -1, 10**30, math.nan, math.inf, "", "../x", "x" * 300, [1], {}]


def places(value: object, place: tuple = ()) -> Iterator[tuple]:
    """Where something is in a header."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*place, key)
        yield from places(value[key], (*place, key))


def with_header(path: Path, header: dict) -> str:
    """What reading a stats file with this header, and describing it, is refused for; empty where it is not."""
    write_tensors(path, {"a": np.zeros(2, np.float32)}, header)
    try:
        read = read_tensors(path, "stats")[1]
        Preprocess.from_dict(read["preprocess"])
    except UserError as error:
        return str(error)
    header_text(read, {"a": (2,)}, *recorded(read))
    levels = Calibration.from_dict(read["calibration"])
    assert levels_text(levels) and provenance_columns(read, "x")
    assert math.isfinite(levels.image_threshold + levels.p_value(1.0))
    return ""


@pytest.mark.once
def test_headers_are_checked_against_one_schema(tmp_path: Path) -> None:
    path, refused = tmp_path / "stats", 0
    assert with_header(path, HEADER) == ""
    for place in places(HEADER):
        if place == ("kind",):
            continue
        for odd in ["missing", *ODD]:
            header = copy.deepcopy(HEADER)
            inner = header
            for key in place[:-1]:
                inner = inner[key]
            if odd == "missing":
                del inner[place[-1]]
            else:
                inner[place[-1]] = odd
            refused += bool(with_header(path, header))
    assert refused > 200
    for value in (math.nan, math.inf, None, "1"):
        header = copy.deepcopy(HEADER)
        header["calibration"]["image_threshold"] = value
        assert str(path) in with_header(path, header)
    for depth in (20, 500):
        deep = 1
        for _ in range(depth):
            deep = [deep]
        assert "nested" in with_header(path, {**HEADER, "more": deep})


@pytest.mark.once
def test_arrays_outside_of_a_file_are_refused(tmp_path: Path) -> None:
    whole = write_tensors(tmp_path / "stats", {"a": np.zeros(2, np.float32)}, HEADER).read_bytes()
    for old, new in ((b"[0, 8]", b"[0,99]"), (b"[0, 8]", b"[8, 0]"), (b'"F32"', b'"F99"'), (b"[2]", b"[3]")):
        assert old in whole
        (tmp_path / "stats").write_bytes(whole.replace(old, new))
        with pytest.raises(UserError, match="stats is damaged"):
            read_tensors(tmp_path / "stats", "stats")
    head = b'{"a":' + b"[" * 100_000
    (tmp_path / "stats").write_bytes(len(head).to_bytes(8, "little") + head)
    with pytest.raises(UserError, match="stats is damaged"):
        read_tensors(tmp_path / "stats", "stats")


@pytest.mark.once
def test_a_file_without_a_digest_is_refused(tmp_path: Path) -> None:
    whole = write_tensors(tmp_path / "stats", {"a": np.zeros(2, np.float32)}, HEADER).read_bytes()
    assert whole.count(b'"sha256": "') == 1
    (tmp_path / "stats").write_bytes(whole.replace(b'"sha256": "', b'"sha512": "'))
    with pytest.raises(UserError, match="stats is damaged or was changed"):
        read_tensors(tmp_path / "stats", "stats")


def test_projections_that_are_damaged_or_not_finite_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.npy"
    model = OrthoAD("compact", 4, weights="random", preprocess=Preprocess(64, 64), orthogonal="none")
    channels = model.projection.shape[0]
    np.save(path, np.full((channels, 4), np.nan))
    contents = [path.read_bytes(), b"", b"\x93NUMPY\1\0", b"PK\3\4" + bytes(40)]
    np.save(path, model.projection.numpy())
    whole = path.read_bytes()
    contents += [
        whole.replace(b"(%d," % channels, b"(9%d9999999999," % channels),
        whole[:-1],
        whole.replace(b"{", b"("),
    ]
    contents += [head + whole[128:] for head in damaged(whole[:128], 150, np.random.default_rng(3))]
    model.options["load_projection"] = str(path)
    read = 0
    for content in contents:
        path.write_bytes(content)
        try:
            model._projection(channels)
            read += 1
        except UserError as error:
            assert "--load_projection" in str(error)
    assert 0 < read < 100


@pytest.mark.once
def test_every_loader_reads_or_refuses_damaged_files() -> None:
    """A short run of `tests/fuzz.py`, in a process of its own: a crash by signal would end it."""
    result = run_process("tests/fuzz.py", "--count", "40", "--seed", "7")
    assert done(result).stdout.endswith("1000 damaged files: each was read or refused\n")
