"""Damaged files for every loader: each is read, or refused in one line; nothing else may happen.

python tests/fuzz.py --count 2000

Of each kind of file, `--count` copies are damaged and loaded. A run ends with 1 if a loader does anything but return or
raise UserError, takes over 20 seconds, or needs over 3 GB; a crash by signal ends it as well. It also ends with 1 if a
changed file with a digest (models, stats, programs, stored backbones) is read with another content. Formats without a
checksum cannot tell a changed value: for them, the table says how many were read as something else.
"""

from __future__ import annotations

import hashlib
import io
import resource
import signal
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
import paddle
from safetensors.numpy import save_file

from datasets.readers import select_categories
from datasets.readers.download import unpack
from datasets.readers.labelled import labelled_pictures
from deploy import Predictor, Preprocess, UserError
from deploy.command_line.parser import Parser, natural, positive
from deploy.command_line.script import run_script
from deploy.pictures.decode import decode, decode_mask
from deploy.pictures.listing import list_pictures
from deploy.results.watch import Journal
from models import OrthoAD, PatchCore, load_model
from models.backbones.weights import read_weights
from models.export.export import export

SECONDS, MEMORY = 20, 3 << 30
TEXT = (
    b'"',
    b",",
    b"\n",
    b"=1+1",
    b"\xff\xfe",
    b"\0",
    b"{",
    b"]",
    b"NaN",
    b"1e999",
    b"../",
    "é中".encode(),
    b"\\u0000",
)


class Kind(NamedTuple):
    """A kind of file."""

    name: str
    file: Path
    """The file that is damaged, in place."""
    load: Callable[[Path], Any]
    """Loads it, and returns its content in any form that `digest` takes."""
    digest: bool = False
    """Whether the file has a digest, so that no damage may go unnoticed."""
    text: bool = False


def damaged(whole: bytes, count: int, random: np.random.Generator, text: bool = False) -> Iterator[bytes]:
    """Yield copies of `whole` with one to three changes: bits, numbers, pieces removed, doubled or cut off."""
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            if not data:
                break
            early = len(data) if random.random() < 0.5 else min(len(data), 256)  # headers are in front
            at, how = int(random.integers(early)), int(random.integers(9))
            if text and how < 4:
                data[at:at] = TEXT[random.integers(len(TEXT))]
            elif how < 2:
                data[at] ^= 1 << int(random.integers(8))
            elif how < 4:
                data[at] = int(random.choice([random.integers(256), 0, 127, 255]))
            elif how == 4:
                number = int(random.choice([0, 1, 0x7F, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]))
                data[at : at + 4] = number.to_bytes(4, str(random.choice(["little", "big"])))
            elif how == 5:
                del data[at : at + int(random.integers(1, 65))]
            elif how == 6:
                data[at:at] = data[at : at + int(random.integers(1, 65))]
            elif how == 7:
                there = int(random.integers(len(data)))
                data[at : at + 16] = data[there : there + 16]
            else:
                del data[at + 1 :]
        yield bytes(data)


def digest(content: Any) -> str:
    """A fingerprint of what a loader returned."""
    found = hashlib.sha256()
    for part in content if isinstance(content, (list, tuple)) else [content]:
        if isinstance(part, dict):
            for name, value in sorted(part.items()):
                found.update(f"{name} {digest(value)}".encode())
        elif isinstance(part, np.ndarray):
            found.update(f"{part.dtype} {part.shape}".encode() + np.ascontiguousarray(part).tobytes())
        elif isinstance(part, (list, tuple)):
            found.update(digest(part).encode())
        else:
            found.update(repr(part).encode(errors="surrogateescape"))
    return found.hexdigest()


def tried(kind: Kind, count: int, random: np.random.Generator) -> dict[str, int]:
    """Load `count` damaged copies; return how many were read unchanged, read as something else, and refused."""
    whole = kind.file.read_bytes()
    usual, found = digest(kind.load(kind.file)), dict.fromkeys(("unchanged", "otherwise", "refused"), 0)
    for data in damaged(whole, count, random, kind.text):
        kind.file.write_bytes(data)
        signal.alarm(SECONDS)
        try:
            outcome = "unchanged" if digest(kind.load(kind.file)) == usual else "otherwise"
        except UserError as error:
            outcome = "refused"
            assert str(error).strip() and len(str(error).splitlines()) == 1, f"not one line: {error!r}"
        except BaseException:
            kept = Path(tempfile.gettempdir()) / f"fuzz-{kind.file.name}"
            kept.write_bytes(data)
            print(f"{kind.name}: {kept}", file=sys.stderr)
            raise
        finally:
            signal.alarm(0)
        found[outcome] += 1
        if outcome == "otherwise" and kind.digest:
            raise AssertionError(f"{kind.name}: read with another content")
    kind.file.write_bytes(whole)
    return found


def kinds(place: Path) -> Iterator[Kind]:
    """Make one file of each kind in `place`."""
    random = np.random.default_rng(3)
    pictures = [cv2.GaussianBlur(random.integers(0, 256, (72, 80, 3), dtype=np.uint8), None, 1.5) for _ in range(12)]
    lzw, deflated = (cv2.IMWRITE_TIFF_COMPRESSION, 5), (cv2.IMWRITE_TIFF_COMPRESSION, 8)
    named = [(".png", ()), (".jpg", ()), (".bmp", ()), (".webp", ()), (".ppm", ()), (".jp2", ()), (".gif", ())]
    for suffix, settings in [*named, (".tif", lzw), (".tiff", deflated)]:
        data = cv2.imencode(suffix, pictures[0], settings)[1].tobytes()
        yield Kind(f"picture {suffix}", _written(place / f"picture{suffix}", data), decode)
    data = cv2.imencode(".png", (pictures[0][..., 0] > 128).astype(np.uint8) * 255)[1].tobytes()
    yield Kind("mask .png", _written(place / "mask.png", data), decode_mask)

    layer = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4))
    paddle.save(layer.state_dict(), str(place / "w.pdparams"))
    yield Kind("weights .pdparams", place / "w.pdparams", read_weights)

    arrays = {"conv1.weight": np.ones((4, 3, 3, 3), np.float32), "bn1.bias": np.zeros(4, np.float16)}
    save_file(arrays, place / "w.safetensors", {"format": "pt"})
    yield Kind("weights .safetensors", place / "w.safetensors", read_weights)
    (place / "w.safetensors").unlink()

    settings = {"arch": "compact", "layers": ["layer2"], "preprocess": Preprocess(72, 64), "weights": "random"}
    model = PatchCore(k=2, **settings).fit(pictures)
    file = model.save(place / "model.safetensors")
    [backbone] = set(place.glob("*.safetensors")) - {file}
    yield Kind("model", file, lambda path: load_model(path).fitted, digest=True)
    yield Kind("stored backbone", backbone, lambda _: load_model(file).fitted, digest=True)
    exported = place / "export"
    export(model, exported)

    def scored(_: Path) -> list[float]:
        return [prediction.score for prediction in Predictor.load(exported / "stats").predict(pictures[:1])]

    for path in sorted(exported.iterdir()):
        if path.name != "about.json":
            yield Kind(f"export's {path.name}", path, scored, digest=True)

    basis = np.linalg.qr(random.normal(size=(64, 10)))[0]
    np.save(place / "projection.npy", basis.astype(np.float32))
    orthoad = OrthoAD(k=10, **settings, load_projection=str(place / "projection.npy"))
    yield Kind("projection .npy", place / "projection.npy", lambda _: orthoad._projection(64))

    folder = place / "pictures"
    folder.mkdir()
    paths = [_written(folder / f"{number:03}.png", cv2.imencode(".png", pictures[number])[1]) for number in range(4)]
    lines = "".join(f"{path}\n" for path in paths).encode()
    yield Kind("list .txt", _written(place / "list.txt", lines), list_pictures, text=True)
    rows = [(f"pictures/{path.name}", "good" if number < 3 else "defective") for number, path in enumerate(paths)]
    table = "path,label\n" + "".join(f"{path},{label}\n" for path, label in rows)
    as_json = "".join(f'{{"path": "{path}", "label": "{label}"}}\n' for path, label in rows)
    for suffix, content in ((".csv", table), (".jsonl", as_json)):
        file = _written(place / f"table{suffix}", content.encode())
        yield Kind(f"data {suffix}", file, _categories, text=True)
        yield Kind(f"labelled {suffix}", file, labelled_pictures, text=True)
    grown = "path,score\n" + "".join(f"{path},{number}.5\n" for number, (path, _) in enumerate(rows))
    yield Kind("watcher's .csv", _written(place / "watch.csv", grown.encode()), _grown, text=True)

    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:xz") as made:
        made.add(folder, "bottle/train/good")
    yield Kind("archive .tar.xz", _written(place / "bottle.tar.xz", archive.getvalue()), _unpacked)


def _written(path: Path, data: Any) -> Path:
    path.write_bytes(bytes(data))
    return path


def _categories(path: Path) -> list[Any]:
    return [(found.name, found.train_pictures()) for found in select_categories(path, "all")]


def _grown(path: Path) -> list[str]:
    table = Journal(path, ["path", "score"])
    table.close()
    return sorted(table.done)


def _unpacked(path: Path) -> list[Any]:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        target = Path(folder, "data")
        target.mkdir()
        unpack(path, target, ["bottle"])
        made = [found for found in sorted(Path(folder).rglob("*")) if found.is_file()]
        assert all(target in found.parents for found in made), "a file outside of the folder"
        return [(str(found.relative_to(folder)), found.read_bytes()) for found in made]


def _took_too_long(*_: object) -> None:
    raise AssertionError(f"over {SECONDS} seconds")


def main() -> int:
    """Print a row for each kind."""
    parser = Parser(prog="python tests/fuzz.py", description=__doc__)
    parser.add_argument("--count", type=positive, default=100, help="damaged copies of each kind")
    parser.add_argument("--seed", type=natural, default=1, help="decides the damage")
    args = parser.parse()
    signal.signal(signal.SIGALRM, _took_too_long)
    total = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, kind in enumerate(kinds(Path(folder))):
            if not number:
                used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, -1))
            found = tried(kind, args.count, np.random.default_rng((args.seed, number)))
            total += sum(found.values())
            told = ", ".join(f"{count} {outcome}" for outcome, count in found.items())
            print(f"{kind.name}: {told}", flush=True)
    print(f"{total} damaged files: each was read or refused")
    return 0


if __name__ == "__main__":
    run_script(main)
