"""PatchCore's program in all its modes against the backbone alone, other runtimes, and faiss."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, Callable

import numpy as np

from datasets.readers.mvtec import Category, read_mask
from deploy.errors import UserError
from deploy.runtime.program import Runtime
from evaluation.ranking import rank
from models.graph.compiled import compile_embedding

from ..engines import Run, missing, onnxruntime, openvino
from ..flat import flat_patchcore
from ..onnx_graph import backbone_gflop
from ..report import Stage
from ..subject import Subject
from ..timing import in_turns
from .backbones import compiled

TOLERANCE = 1e-3
BACKBONE, FEATURES, EXACT = "backbone alone", "features (backbone, pooling, alignment)", "our program, exact search"
COARSE, COARSE16 = "our program (coarse search)", "our program (coarse search), bf16"
FAISS, SEARCH = "faiss IndexFlatL2, search alone", "our exact search, score and map (program minus features)"
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    EXACT: ("fp32", {"search": "exact"}),
    COARSE: ("fp32", {"search": "coarse"}),
    COARSE16: ("bf16", {"search": "coarse"}),
}
"""Precision and options of every mode of our program; the first is what the others' answers are compared with."""
FLAT: dict[str, tuple[str, Callable[[bytes, int], Run]]] = {
    "flat graph, ONNX Runtime fp32": ("onnxruntime", onnxruntime),
    "flat graph, OpenVINO fp32": ("openvino", lambda graph, threads: openvino(graph, threads, "fp32")),
    "flat graph, OpenVINO bf16": ("openvino", lambda graph, threads: openvino(graph, threads, "bf16")),
}
"""The module and the start of every other runtime."""
Answers = list[list[np.ndarray]]
"""Per picture: map and score."""


def run(subject: Subject) -> Stage:
    """One picture at a time, in turns, then everybody's scores of all test pictures."""
    stage = Stage("search", "PatchCore, a bank of 10 %, one picture at a time", "picture")
    model, size = subject.fitted("patchcore", subject.category), subject.preprocess.crop_size
    bank = model.fitted["memory_bank"]
    stage.notes.append(f"bank: {len(bank)} x {bank.shape[1]}; {model.positions} patches per picture")
    image = subject.test_images(subject.category)[-1]
    backbone, embedding = compiled(model.backbone, size, subject.runtime), compile_embedding(model, subject.runtime)
    scorers = dict(contestants(subject, subject.category, stage))
    calls = {BACKBONE: lambda: backbone.run(image), FEATURES: lambda: embedding.run(image)}
    calls |= {name: lambda scorer=scorer: scorer(image) for name, scorer in scorers.items()}
    why = missing("faiss")
    if why:
        stage.skip(FAISS, why)
    else:
        calls[FAISS] = faiss_search(bank, embedding.run(image)[0] - model.fitted["bank_mean"], subject.threads)

    compare_answers(subject, scorers, stage)
    times = in_turns(calls, subject.rounds, calls=2)
    times[SEARCH] = [whole - part for whole, part in zip(times[EXACT], times[FEATURES])]
    searching, convolving = 2e-9 * bank.size * model.positions, backbone_gflop(model.backbone, size)
    work = {name: convolving + searching for name in scorers if name in FLAT or name == EXACT}
    work |= {BACKBONE: convolving, FAISS: searching, SEARCH: searching}
    stage.add(times, work, bf16=[name for name in times if "bf16" in name])
    for name in OURS:
        stage.compare(name, BACKBONE, *FLAT)
    stage.compare(SEARCH, FAISS)
    return stage


def contestants(subject: Subject, category: Category, stage: Stage) -> dict[str, Run]:
    """Every way to score a picture of `category`, by name; those that cannot run are named in the stage."""
    found: dict[str, Run] = {}
    for name, (precision, options) in OURS.items():
        runtime = replace(subject.runtime, precision=precision)
        why = cannot(runtime)
        if why:
            stage.skip(name, why)
        else:
            found[name] = subject.scorer("patchcore", category, runtime, **options).run
    for name, (module, start) in FLAT.items():
        why = missing("onnx", module)
        if why:
            stage.skip(name, why)
        else:
            found[name] = start(flat_patchcore(subject.fitted("patchcore", category)), subject.threads)
    return found


def cannot(runtime: Runtime) -> str | None:
    """Why this machine cannot run so, or None."""
    try:
        runtime.check()
    except UserError as error:
        return str(error)
    return None


def compare_answers(subject: Subject, scorers: dict[str, Run], stage: Stage) -> None:
    """Everybody's scores and maps of all categories' test pictures beside the exact ones, and their AUROC."""
    for category in subject.categories:
        images = subject.test_images(category)
        own = scorers if category is subject.category else contestants(subject, category, Stage("", "", ""))
        pictures = category.test_pictures()
        exact = None
        for name, scorer in own.items():
            answers = [scorer(image) for image in images]
            exact = exact or answers
            score, anomaly_map = errors(exact, answers)
            if max(score, anomaly_map) > TOLERANCE and name in FLAT and "fp32" in name:
                raise AssertionError(f"{name} computes something else: {score:.1e}, {anomaly_map:.1e}")
            truth = np.asarray([picture.defective for picture in pictures])
            masks = [read_mask(picture, subject.preprocess) for picture in pictures]
            scores = np.asarray([float(np.ravel(answer[1])[0]) for answer in answers])
            known = [(np.squeeze(a[0]), mask) for a, mask in zip(answers, masks) if mask is not None]
            inside = np.concatenate([found[mask] for found, mask in known])
            outside = np.concatenate([found[~mask] for found, mask in known])
            stage.figures.append(
                {
                    "category": category.name,
                    "contestant": name,
                    "image scores: largest relative error": score,
                    "maps: largest error / the map's maximum": anomaly_map,
                    "image AUROC": rank(scores[truth], scores[~truth]).auroc,
                    "pixel AUROC": rank(inside, outside).auroc,
                }
            )


def errors(known: Answers, given: Answers) -> tuple[float, float]:
    """Largest relative error of any image score, and of any map's value over its map's largest value."""
    score = max(abs(float(np.ravel(g[1])[0]) / float(np.ravel(k[1])[0]) - 1) for k, g in zip(known, given))
    maps = (np.abs(np.squeeze(g[0]) - np.squeeze(k[0])).max() / np.abs(k[0]).max() for k, g in zip(known, given))
    return score, float(max(maps))


def faiss_search(bank: np.ndarray, query: np.ndarray, threads: int) -> Callable[[], object]:
    """The exact nearest row of every query by faiss."""
    logging.getLogger("faiss").setLevel(logging.WARNING)
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatL2(bank.shape[1])
    index.add(bank)
    return lambda: index.search(query, 1)
