"""Banks of 100,000 rows and more: faiss' indexes over all rows beside a coreset of them in our program.

python -m benchmarks.large_banks --data_path data --category kolektor,magnetic_tile --weights resnet18.pdparams

The rows are the patch features of the preset `balanced`: of the training pictures as they are, then of copies that are
mirrored, shifted, turned and noisy, and above 1,000,000 of noisy copies of features. Image scores are the mean of the
largest 1 % of a picture's distances, and maps are made of the distances, the same way for every contestant. Times are
processor time: with one thread, those of the clock on an idle machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple

import cv2
import numpy as np
import paddle

import options
from datasets.readers import Category, read_mask
from deploy.command_line.parser import Parser, natural, positive
from deploy.command_line.script import run_script
from deploy.errors import UserError
from deploy.pictures.stream import batches, stream
from deploy.runtime.program import Program, Runtime
from deploy.storage.files import write_whole
from models import PatchCore, build_model
from models.graph.compiled import compile_embedding, compile_feature_scoring
from models.memory_bank.coreset import Sampler, projection
from models.memory_bank.search import coarse_tables, half_norms_of
from models.presets import preset

from .engines import missing
from .report import table
from .selection import categories_in
from .stages.quality import figures_of

BATCH = 8
WIDE = 500_000
"""Banks of at least WIDE rows are kept as random projections to 128 values in half precision, 256 bytes a row."""
PROGRAM = 200_000
"""Largest bank for our program, which holds one number for every row and patch of a picture in memory."""
GRAPH = 200_000
"""Largest bank for which a graph (HNSW) is built."""
LOOKED_AT = 2
"""Number of test pictures whose patches are compared with all rows, to know the true nearest rows."""
CORESETS = (1_000, 10_000, 30_000)
CHOOSABLE = 2_000_000
"""Largest bank that coresets are chosen from."""
EMBEDDED, NOISE = 1_000_000, 0.1
"""Number of rows from pictures and their copies. Further rows are copies of these with normal noise, whose deviation is
NOISE times that of the rows."""
LISTS, LISTS_MOST = {200_000: 1024}, 4096
"""Number of lists of an inverted file, by the largest number of rows it is used for; LISTS_MOST for more rows."""
ADDED = 65_536
"""Number of rows that are added to an index at a time."""
FINE = 10
"""Number of rows that an index without the vectors finds and that are then compared exactly."""
COLUMNS = ("recall@1", "distances", "image AUROC", "AU-PRO", "picture, ms", "MB", "made in, s")
Search = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Function from queries, float32 [n, channels], to distances and numbers of the nearest rows."""
Scores = Callable[[np.ndarray], tuple[np.ndarray, float]]
"""Function from a picture's features, float32 [positions, channels], to map [height, width] and score."""


class Engine(NamedTuple):
    """A way to find nearest rows."""

    name: str
    search: Search
    scores: Scores | None
    """Function that computes map and score directly; None if they are computed from the distances."""
    whole: bool
    """Whether it has all rows, so that row numbers can be compared with the true nearest rows."""
    megabytes: float
    seconds: float
    """Time to build it."""


def main() -> int:
    """Print the rows of the table as they come, and write it to FILE."""
    parser = Parser(prog="python -m benchmarks.large_banks", description=__doc__)
    parser.add_argument("--data_path", nargs="+", required=True, metavar="FOLDER", help="with categories as MVTec AD")
    parser.add_argument("--category", default="all", help="NAME[,NAME...] or all")
    parser.add_argument("--weights", default=None, help="ResNet-18's, as in train.py; if not given, compact is used")
    parser.add_argument("--rows", nargs="+", type=positive, default=[100_000, 1_000_000], help="of the banks")
    parser.add_argument("--every", type=positive, default=4, help="of so many test pictures of a kind, one is scored")
    parser.add_argument("--cpu_threads", type=positive, default=1, help="of every contestant")
    parser.add_argument("--seed", type=natural, default=521, help="decides everything random")
    parser.add_argument("--output", default="output/large_banks.md", help="receives the table")
    args = parser.parse()
    if missing("faiss"):
        raise UserError("faiss is not installed: pip install faiss-cpu")
    import faiss

    faiss.omp_set_num_threads(args.cpu_threads)
    rows: list[dict[str, Any]] = []
    for category in categories_in(args.data_path, args.category):
        for count in args.rows:
            for row in measure(category, count, args):
                rows.append(row)
                print(*row.values(), sep=" | ", flush=True)
                cells = [[str(value) for value in found.values()] for found in rows]
                write_whole(args.output, "\n".join(table(list(rows[0]), cells)) + "\n")
    return 0


def measure(category: Category, count: int, args: Any) -> Iterator[dict[str, Any]]:
    """Yield a row of the table for each contestant."""
    paths, found = category.train_pictures(), preset("patchcore")
    prepared = options.preset_preprocess("patchcore", found, paths)
    given = {**found.options, "lloyd": 0.0, "image_score": "top", "search": "coarse"}
    given |= {"k": found.k, "preprocess": prepared, "seed": args.seed, "runtime": Runtime(threads=args.cpu_threads)}
    arch = "compact" if args.weights is None else "resnet18"
    model = build_model("patchcore", [arch], [found.layers], [args.weights], **given)
    embedding = compile_embedding(model, model.runtime)
    matrix = projection(model.channels, np.random.default_rng(args.seed)) if count >= WIDE else None
    pictures = category.test_pictures()[:: args.every]
    loaded = (item.resized for item in stream([picture.path for picture in pictures], prepared))
    tests = [_narrow(features, matrix) for features in features_of(model, embedding, loaded)]
    masks = [read_mask(picture, prepared) for picture in pictures]
    bank = rows_of(model, embedding, paths, count, matrix, args.seed)
    queries = np.concatenate(tests[:: -(-len(tests) // LOOKED_AT)])
    begin = time.process_time()
    distances, numbers = nearest_of_all(queries, bank)
    seconds = (time.process_time() - begin) / len(queries) * model.positions
    head = {"data": category.name, "rows": f"{len(bank):,} x {bank.shape[1]}"}
    told = "1", "0", "", "", f"{1e3 * seconds:.0f}", f"{bank.nbytes / 1e6:.0f}", "0"
    yield {**head, "contestant": "all rows, every product", **dict(zip(COLUMNS, told))}
    for engine in engines(model, bank, args):
        nearest, found_numbers = engine.search(queries)
        right = f"{np.mean(found_numbers == numbers):.3f}" if engine.whole else ""
        error = 100 * (nearest.mean() / distances.mean() - 1)
        times, answers = [], []
        for features in tests:
            begin = time.process_time()
            answers.append(engine.scores(features) if engine.scores else answer(model, engine.search(features)[0]))
            times.append(time.process_time() - begin)
        image, _, pro = figures_of([s for _, s in answers], [m for m, _ in answers], masks, pictures)
        told = right, f"{error:+.2f} %", _figure(image), _figure(pro), f"{1e3 * np.median(times):.0f}"
        told = *told, f"{engine.megabytes:.0f}", f"{engine.seconds:.0f}"
        yield {**head, "contestant": engine.name, **dict(zip(COLUMNS, told))}


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def features_of(model: PatchCore, embedding: Program, pictures: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the features, float32 [patches, channels], of each resized picture."""
    for group in batches(pictures, BATCH):
        crops = np.stack([model.preprocess.crop(picture) for picture in group])
        found = embedding.run(model.preprocess.normalise(crops))[0]
        yield from found.reshape(len(group), -1, model.channels)


def rows_of(
    model: PatchCore, embedding: Program, paths: list[Path], count: int, matrix: np.ndarray | None, seed: int
) -> np.ndarray:
    """Return `count` rows: float32 [count, channels], or random projections in half precision."""
    shape = (count, model.channels if matrix is None else matrix.shape[1])
    bank, filled, seen = np.empty(shape, np.float32 if matrix is None else np.float16), 0, min(count, EMBEDDED)
    loaded = [item.resized for item in stream(paths, model.preprocess)]
    for features in features_of(model, embedding, copies_of(loaded, -(-seen // model.positions), seed)):
        some = _narrow(features, matrix)[: seen - filled]
        bank[filled : filled + len(some)] = some
        filled += len(some)
    random, deviation = np.random.default_rng(seed), NOISE * bank[:filled:100].astype(np.float32).std(axis=0)
    for start in range(seen, count, ADDED):
        again = np.take(bank[:seen], range(start, min(start + ADDED, count)), axis=0, mode="wrap")
        bank[start : start + len(again)] = again + deviation * random.standard_normal(again.shape, np.float32)
    return bank


def _narrow(features: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    return features if matrix is None else features @ matrix


def copies_of(pictures: list[np.ndarray], count: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the pictures, then augmented copies of them, `count` in all."""
    random = np.random.default_rng(seed)
    for number in range(count):
        picture = pictures[number % len(pictures)]
        if number >= len(pictures):
            height, width = picture.shape[:2]
            turn = cv2.getRotationMatrix2D((width / 2, height / 2), random.uniform(-10, 10), random.uniform(0.95, 1.05))
            turn[:, 2] += random.uniform(-16, 16, 2)
            flipped = picture[:: random.choice([-1, 1]), :: random.choice([-1, 1])]
            moved = cv2.warpAffine(np.ascontiguousarray(flipped), turn, (width, height), borderMode=cv2.BORDER_REFLECT)
            noise = random.normal(0, 3, moved.shape[:2])[..., None]
            picture = np.clip(moved + noise, 0, 255).astype(np.uint8)
        yield picture


def nearest_of_all(queries: np.ndarray, bank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distances to the nearest rows, and their numbers, by comparing with all rows."""
    best, number = np.full(len(queries), np.inf, np.float32), np.zeros(len(queries), np.int64)
    own = (queries**2).sum(axis=1)
    for start in range(0, len(bank), 16384):
        rows = bank[start : start + 16384].astype(np.float32)
        squared = own[:, None] + (rows**2).sum(axis=1) - 2 * (queries @ rows.T)
        place = squared.argmin(axis=1)
        found = squared[np.arange(len(queries)), place]
        closer = found < best
        best[closer], number[closer] = found[closer], start + place[closer]
    offset = queries - bank[number].astype(np.float32)
    return np.sqrt((offset**2).sum(axis=1)), number


def answer(model: PatchCore, distances: np.ndarray) -> tuple[np.ndarray, float]:
    """Return map and image score of a picture from its patches' distances."""
    with paddle.no_grad():
        anomaly_map = model.to_pixels(paddle.to_tensor(distances.reshape(1, *model.grid)))
    count = max(1, round(0.01 * distances.size))
    return anomaly_map.numpy()[0], float(np.sort(distances.ravel())[-count:].mean())


def engines(model: PatchCore, bank: np.ndarray, args: Any) -> Iterator[Engine]:
    """Yield all contestants one after the other, because each may need much memory."""
    if len(bank) <= CHOOSABLE:
        yield from coresets(model, bank, args.seed)
    if len(bank) <= PROGRAM:
        yield _of_rows(model, "all rows", bank, 0)
    yield from indexes(bank, args.seed)


def coresets(model: PatchCore, bank: np.ndarray, seed: int) -> Iterator[Engine]:
    """Yield contestants with greedy coresets of several sizes."""
    begin = time.process_time()
    sampler = Sampler("greedy", bank.shape[1], len(bank), min(CORESETS[-1], len(bank)), CHOOSABLE, seed)
    for start in range(0, len(bank), model.positions):
        sampler.add(bank[start : start + model.positions].astype(np.float32))
    chosen = sampler.choose()  # smaller coresets are the first rows of this one
    seconds = time.process_time() - begin
    for size in CORESETS:
        rows = bank[chosen[:size]].astype(np.float32)
        yield _of_rows(model, f"coreset of {len(rows):,}", rows, seconds)


def _of_rows(model: PatchCore, name: str, rows: np.ndarray, seconds: float) -> Engine:
    """Return our program with a bank of these rows; for projected rows, which it does not take, faiss' exact search."""
    if rows.shape[1] == model.channels:
        return _program(model, name, rows, seconds)
    import faiss

    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)
    return Engine(f"{name}, every product", search_of(index), None, False, rows.nbytes / 1e6, seconds)


def _program(model: PatchCore, name: str, rows: np.ndarray, seconds: float) -> Engine:
    begin, mean = time.process_time(), rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = rows - mean
    tables = {"memory_bank": centred, "bank_mean": mean, "half_norms": half_norms_of(centred)}
    model.load_statistics({**tables, **coarse_tables(centred)})
    seconds += time.process_time() - begin
    program = compile_feature_scoring(model, model.runtime)
    program.set(model.fitted)

    def search(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = []
        for picture in np.split(queries, len(queries) // model.positions):
            bank, middle, *others = model.statistics().values()
            with paddle.no_grad():
                found.append([part.numpy() for part in model.coarse(paddle.to_tensor(picture) - middle, bank, *others)])
        numbers, distances = (np.concatenate(parts) for parts in zip(*found))
        return distances, numbers

    def scores(features: np.ndarray) -> tuple[np.ndarray, float]:
        maps, values = program.run(features, "features")
        return maps[0], float(values[0])

    size = sum(value.nbytes for value in model.fitted.values()) / 1e6
    return Engine(f"{name}, our program", search, scores, name == "all rows", size, seconds)


def indexes(bank: np.ndarray, seed: int) -> Iterator[Engine]:
    """Yield contestants with faiss' indexes."""
    import faiss

    wide, lists = bank.shape[1], next((lists for most, lists in LISTS.items() if len(bank) <= most), LISTS_MOST)
    half = "SQfp16" if bank.dtype == np.float16 else "Flat"
    kinds = {f"IVF{lists},{half}": (1, 16), f"IVF{lists},PQ{wide // 8}x8": (16,)}
    kinds |= {"HNSW32,Flat": (16, 128)} if len(bank) <= GRAPH else {}
    for kind, efforts in kinds.items():
        begin, index = time.process_time(), faiss.index_factory(wide, kind)
        random = np.random.default_rng(seed)
        index.train(bank[np.sort(random.permutation(len(bank))[: 40 * lists])].astype(np.float32))
        for start in range(0, len(bank), ADDED):
            index.add(bank[start : start + ADDED].astype(np.float32))
        seconds, size = time.process_time() - begin, bytes_of(index) / 1e6
        for effort in efforts:
            graph = "HNSW" in kind
            faiss.ParameterSpace().set_index_parameter(index, "efSearch" if graph else "nprobe", effort)
            name = f"{kind}, {'efSearch' if graph else 'nprobe'} {effort}"
            yield Engine(name, search_of(index), None, True, size, seconds)
            if "PQ" in kind:
                finer = search_of(index, bank)
                yield Engine(f"{name}, {FINE} best exactly", finer, None, True, size, seconds)
        del index


def bytes_of(index: Any) -> int:
    """Return the size of an index's file."""
    import faiss

    total = 0

    def count(data: bytes) -> int:
        nonlocal total
        total += len(data)
        return len(data)

    writer = faiss.PyCallbackIOWriter(count)
    faiss.write_index(index, writer)
    del writer  # flushes its buffer
    return total


def search_of(index: Any, rows: np.ndarray | None = None) -> Search:
    """Return a search with the index; with `rows`, its FINE best rows are compared exactly, to take the nearest."""

    def search(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        squared, numbers = index.search(queries, 1 if rows is None else FINE)
        if rows is not None:
            squared = ((rows[numbers].astype(np.float32) - queries[:, None]) ** 2).sum(axis=2)
        best = squared.argmin(axis=1)[:, None]
        nearest = np.take_along_axis(squared, best, 1), np.take_along_axis(numbers, best, 1)
        return np.sqrt(np.maximum(nearest[0][:, 0], 0)), nearest[1][:, 0]

    return search


if __name__ == "__main__":
    run_script(main)
