"""PatchCore's program in all its modes, compared with the backbone alone, other runtimes, and faiss."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, Callable

import numpy as np
import paddle

from datasets.readers import Category, read_mask
from deploy.errors import UserError
from deploy.pictures.preprocess import Preprocess
from deploy.runtime.program import Runtime
from evaluation.ranking import rank
from evaluation.report import rank_pixels
from models.graph.compiled import compile_embedding
from models.graph.scores import ImageScore
from models.memory_bank.coreset import PROJECTED
from models.memory_bank.search import FEW, CoarseSearch, coarse_tables, distance_to, exact_nearest
from models.presets import DEFAULT, preset
from options import preset_preprocess

from ..engines import Run, missing, onnxruntime, openvino
from ..flat import flat_patchcore
from ..onnx_graph import backbone_gflop
from ..points import NOISE
from ..report import Stage
from ..subject import METHODS, Subject, fit_statistics, scoring_with
from ..timing import in_turns
from .backbones import compiled

TOLERANCE = 1e-3
SMALL_BANK = 1.0  # percent; the large bank's percentage is in METHODS
BACKBONE, FEATURES, EXACT = "backbone alone", "features (backbone, pooling, alignment)", "our program, exact search"
COARSE, COARSE16 = "our program (coarse search)", "our program (coarse search), bf16"
OF_DEFAULT = f"{COARSE}, preset {DEFAULT}"
FAISS, SEARCH = "faiss IndexFlatL2, search alone", "our exact search, score and map (program minus features)"
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    EXACT: ("fp32", {"search": "exact"}),
    COARSE: ("fp32", {"search": "coarse"}),
    COARSE16: ("bf16", {"search": "coarse"}),
}
"""Precision and options of every mode of our program; results of the others are compared with the first."""
FLAT: dict[str, tuple[str, Callable[[bytes, int], Run]]] = {
    "flat graph, ONNX Runtime fp32": ("onnxruntime", onnxruntime),
    "flat graph, OpenVINO fp32": ("openvino", lambda graph, threads: openvino(graph, threads, "fp32")),
    "flat graph, OpenVINO bf16": ("openvino", lambda graph, threads: openvino(graph, threads, "bf16")),
}
"""Module and start function of every other runtime."""
GRID = (28, 28)  # of the patches of a picture of noise
MAP_ERROR, SCORE_ERROR = "maps: largest error / the map's maximum", "image scores: largest relative error"
Answers = list[list[np.ndarray]]
"""Map and score of each picture."""


def run(subject: Subject) -> Stage:
    """Measure in turns, one picture at a time, then compare all scores of test pictures; other runtimes on one set."""
    large = METHODS["patchcore"][1]
    stage = Stage("search", f"PatchCore, banks of {large:g} % and {SMALL_BANK:g} %, one picture at a time", "picture")
    slowest: dict[float, tuple[float, str]] = {}
    for k in (large, SMALL_BANK):
        for category in subject.categories:
            everybody = k == large and category is subject.category
            quotient = measure(subject, category, k, everybody, stage)
            slowest[k] = max(slowest.get(k, (0.0, "")), (quotient, category.name))
    for category in subject.categories:
        error_of_default(subject, category, stage)
    error_on_noise(subject, stage)
    ours = [row for row in stage.figures if row["contestant"] in (COARSE, OF_DEFAULT)]
    of_map, of_score = (max(ours, key=lambda row: row[key]) for key in (MAP_ERROR, SCORE_ERROR))
    stage.summary = "search: " + ", ".join(
        [f"{times:.3g} times the backbone at a {k:g} % bank ({name})" for k, (times, name) in slowest.items()]
        + [f"map error {of_map[MAP_ERROR]:.2g} of the maximum ({of_map['data']}, {of_map['k']:g} %)"]
        + [f"image scores' relative error {of_score[SCORE_ERROR]:.1e} ({of_score['data']})"]
    )
    return stage


def measure(subject: Subject, category: Category, k: float, everybody: bool, stage: Stage) -> float:
    """Time and compare all contestants, or only our program and the backbone; return the ratio of these two times."""
    model, size = subject.fitted("patchcore", category, k), subject.preprocess.crop_size
    bank, here = model.fitted["memory_bank"], f"{category.name}, {k:g} %: "
    stage.notes.append(f"{here}bank {len(bank)} x {bank.shape[1]}; {model.positions} patches per picture")
    image = subject.test_images(category)[-1]
    backbone, embedding = compiled(model.backbone, size, subject.runtime), compile_embedding(model, subject.runtime)
    scorers = dict(contestants(subject, category, k, everybody, stage))
    calls = {BACKBONE: lambda: backbone.run(image), FEATURES: lambda: embedding.run(image)}
    calls |= {name: lambda scorer=scorer: scorer(image) for name, scorer in scorers.items()}
    why = missing("faiss")
    if everybody and why:
        stage.skip(FAISS, why)
    elif everybody:
        calls[FAISS] = faiss_search(bank, embedding.run(image)[0] - model.fitted["bank_mean"], subject.threads)

    compare_answers(subject, category, k, scorers, stage)
    times = in_turns(calls, subject.rounds, calls=2)
    times[SEARCH] = [whole - part for whole, part in zip(times[EXACT], times[FEATURES])]
    searching, convolving = 2e-9 * bank.size * model.positions, backbone_gflop(model.backbone, size)
    work = {name: convolving + searching for name in scorers if name in FLAT or name == EXACT}
    work |= {BACKBONE: convolving, FAISS: searching, SEARCH: searching}
    named = {here + name: seconds for name, seconds in times.items()}
    stage.add(named, {here + name: gflop for name, gflop in work.items()}, bf16=[n for n in named if "bf16" in n])
    for name in OURS:
        stage.compare(here + name, here + BACKBONE, *(here + other for other in FLAT))
    stage.compare(here + SEARCH, here + FAISS)
    default = EXACT if len(bank) <= FEW else COARSE
    return float(np.median(np.divide(times[default], times[BACKBONE])))


def contestants(subject: Subject, category: Category, k: float, everybody: bool, stage: Stage) -> dict[str, Run]:
    """Return every way to score a picture of `category`, by name; those that cannot run are noted in the stage."""
    found: dict[str, Run] = {}
    for name, (precision, options) in OURS.items():
        runtime = replace(subject.runtime, precision=precision)
        why = cannot(runtime)
        if why:
            stage.skip(name, why)
        else:
            found[name] = subject.scorer("patchcore", category, runtime, k, **options).run
    for name, (module, start) in FLAT.items() if everybody else ():
        why = missing("onnx", module)
        if why:
            stage.skip(name, why)
        else:
            found[name] = start(flat_patchcore(subject.fitted("patchcore", category, k)), subject.threads)
    return found


def error_of_default(subject: Subject, category: Category, stage: Stage) -> None:
    """Add to the stage how much the coarse search changes the results of the default preset."""
    pictures, found = category.train_pictures(), preset("patchcore")
    preprocess = preset_preprocess("patchcore", found, pictures)
    arguments = {"k": found.k, "preprocess": preprocess, "layers": found.layers, **found.options}
    model = subject.build("patchcore", search="coarse", **arguments)
    fit_statistics(model, pictures)
    exact = subject.build("patchcore", search="exact", **arguments)
    ways = {f"{EXACT}, preset {DEFAULT}": exact, OF_DEFAULT: model}
    scorers = {name: scoring_with(one, model).run for name, one in ways.items()}
    compare_answers(subject, category, found.k, scorers, stage, preprocess)


def error_on_noise(subject: Subject, stage: Stage) -> None:
    """Add to the stage the coarse search's error on features without any structure, without times."""
    random, rows, channels = np.random.default_rng(subject.seed), subject.noise // 10, PROJECTED
    bank, query = (random.random((n, channels), dtype=np.float32) - 0.5 for n in (rows, 8 * GRID[0] * GRID[1]))
    half_norms = (bank**2).sum(axis=1) / 2
    tables = [paddle.to_tensor(value) for value in (query, bank, half_norms, *coarse_tables(bank).values())]
    score = ImageScore({"image_score": "max", "score_sigma": 0, "score_top": 1}, GRID)
    given = CoarseSearch(channels, score)(*tables)[1].numpy().reshape(8, -1)
    known = distance_to(*tables[:2], exact_nearest(*tables[:3])).numpy().reshape(8, -1)
    row: dict[str, Any] = {"data": f"{NOISE}, {rows} rows", "k": 10.0, "contestant": COARSE}
    row[SCORE_ERROR] = float(np.abs(given.max(axis=1) / known.max(axis=1) - 1).max())
    row[MAP_ERROR] = float((np.abs(given - known).max(axis=1) / known.max(axis=1)).max())
    stage.figures.append({**row, "image AUROC": None, "pixel AUROC": None})


def cannot(runtime: Runtime) -> str | None:
    """Return why this machine cannot run with these settings, or None."""
    try:
        runtime.check()
    except UserError as error:
        return str(error)
    return None


def compare_answers(
    subject: Subject,
    category: Category,
    k: float,
    scorers: dict[str, Run],
    stage: Stage,
    preprocess: Preprocess | None = None,
) -> None:
    """Compare the scores and maps of all contestants on the category's test pictures with the exact ones; add AUROC."""
    images, pictures, exact = subject.test_images(category, preprocess), category.test_pictures(), None
    masks = [read_mask(picture, preprocess or subject.preprocess) for picture in pictures]
    truth = np.asarray([picture.defective for picture in pictures])
    for name, scorer in scorers.items():
        answers = [scorer(image) for image in images]
        exact = exact or answers
        score, anomaly_map = errors(exact, answers)
        if max(score, anomaly_map) > TOLERANCE and name in FLAT and "fp32" in name:
            raise AssertionError(f"{name} computes something else: {score:.1e}, {anomaly_map:.1e}")
        scores = np.asarray([float(np.ravel(answer[1])[0]) for answer in answers])
        known = [(np.squeeze(a[0]), mask) for a, mask in zip(answers, masks) if mask is not None]
        pixel = rank_pixels(*zip(*known))
        row = {"data": category.name, "k": k, "contestant": name, SCORE_ERROR: score, MAP_ERROR: anomaly_map}
        auroc = {"image AUROC": rank(scores[truth], scores[~truth]).auroc, "pixel AUROC": pixel.auroc}
        stage.figures.append({**row, **auroc})


def errors(known: Answers, given: Answers) -> tuple[float, float]:
    """Return the largest relative error of an image score, and of a map's value relative to its map's largest value."""
    score = max(abs(float(np.ravel(g[1])[0]) / float(np.ravel(k[1])[0]) - 1) for k, g in zip(known, given))
    maps = (np.abs(np.squeeze(g[0]) - np.squeeze(k[0])).max() / np.abs(k[0]).max() for k, g in zip(known, given))
    return score, float(max(maps))


def faiss_search(bank: np.ndarray, query: np.ndarray, threads: int) -> Callable[[], object]:
    """Return a function that finds the exact nearest row of every query with faiss."""
    logging.getLogger("faiss").setLevel(logging.WARNING)
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatL2(bank.shape[1])
    index.add(bank)
    return lambda: index.search(query, 1)
