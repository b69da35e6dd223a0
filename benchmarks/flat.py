"""Fitted PatchCore and PaDiM models as flat ONNX graphs, from image [1, 3, crop, crop] to map and score [1]."""

from __future__ import annotations

import numpy as np

from models.graph.resample import Resample
from models.padim import PaDiM
from models.patchcore import PatchCore

from .onnx_graph import Graph, add_backbone


def flat_patchcore(model: PatchCore) -> bytes:
    """Return a graph of pooling, alignment, exact search, equation 7 and the map, for the method's default options."""
    graph, (height, width) = Graph(), model.grid
    aligned = []
    for feature, output in zip(model.backbone.features, add_backbone(graph, model.backbone, "image")):
        window = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1], "count_include_pad": 1}
        pooled = graph.add("AveragePool", output, **window)
        if (feature.height, feature.width) != model.grid:
            size = graph.constant([1, feature.channels, height, width])
            how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
            pooled = graph.add("Resize", pooled, "", "", size, **how)
        aligned.append(pooled)
    query = graph.add("Sub", _rows(graph, aligned, model.channels, model.positions), _fitted(graph, model, "bank_mean"))
    bank = _fitted(graph, model, "memory_bank")
    product = graph.add("MatMul", query, graph.constant(model.fitted["memory_bank"].T))
    nearness = graph.add("Sub", product, _fitted(graph, model, "half_norms"))
    nearest = graph.add("ArgMax", nearness, axis=1, keepdims=0)
    distance = _length(graph, graph.add("Sub", query, graph.add("Gather", bank, nearest)), 1)
    worst = graph.add("ArgMax", distance, axis=0, keepdims=1)
    around = graph.add("Gather", _fitted(graph, model, "neighbors"), graph.add("Gather", nearest, worst))
    patch = graph.add("Unsqueeze", graph.add("Gather", query, worst), graph.constant([1]))
    shares = graph.add("Softmax", _length(graph, graph.add("Sub", patch, graph.add("Gather", bank, around)), 2), axis=1)
    share = graph.add("Gather", shares, graph.constant(np.int64(0)), axis=1)
    weight = graph.add("Sub", graph.constant(np.ones(1, np.float32)), share)
    score = graph.add("Mul", weight, graph.add("Gather", distance, worst))
    return _finish(graph, model, distance, score)


def flat_padim(model: PaDiM) -> bytes:
    """Return a graph of channels, nearest-neighbour alignment, whitening, length and map, for the default options."""
    graph, (height, width) = Graph(), model.grid
    parts = []
    for layer, output in enumerate(add_backbone(graph, model.backbone, "image")):
        feature, channels = model.backbone.features[layer], getattr(model, f"channels_{layer}").numpy()
        if not len(channels):
            continue
        part = graph.add("Gather", output, graph.constant(channels), axis=1)
        if (feature.height, feature.width) != model.grid:
            how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            part = graph.add("Resize", part, "", "", graph.constant([1, len(channels), height, width]), **how)
        parts.append(part)
    offset = graph.add("Sub", _rows(graph, parts, model.k, model.positions), _fitted(graph, model, "position_mean"))
    row = graph.add("Unsqueeze", offset, graph.constant([1]))
    parts = (model.fitted[name] for name in model.parts())
    whole = np.concatenate([np.pad(part, ((0, 0), (0, model.k - part.shape[1]), (0, 0))) for part in parts], 2)
    white = graph.add("MatMul", row, graph.constant(whole))
    distance = _length(graph, graph.add("Reshape", white, graph.constant([model.positions, model.k])), 1)
    return _finish(graph, model, distance, None)


def _rows(graph: Graph, parts: list[str], channels: int, positions: int) -> str:
    """Add nodes that join parts, [1, channels, height, width] each, to [positions, channels]."""
    joined = graph.add("Concat", *parts, axis=1)
    return graph.add("Transpose", graph.add("Reshape", joined, graph.constant([channels, positions])), perm=[1, 0])


def _fitted(graph: Graph, model: PatchCore | PaDiM, name: str) -> str:
    return graph.constant(model.fitted[name])


def _length(graph: Graph, vectors: str, axis: int) -> str:
    squares = graph.add("ReduceSum", graph.add("Mul", vectors, vectors), graph.constant([axis]), keepdims=0)
    return graph.add("Sqrt", squares)


def _finish(graph: Graph, model: PatchCore | PaDiM, distance: str, score: str | None) -> bytes:
    """Add the map, by the model's own row and column matrices; if `score` is None, the score is its largest value."""
    resample: Resample = model.to_pixels
    small = graph.add("Reshape", distance, graph.constant([resample.height_in, resample.width_in]))
    wide = graph.add("MatMul", small, graph.constant(resample.columns.numpy()))
    full = graph.add("MatMul", graph.constant(resample.rows.numpy().T), wide)
    if score is None:
        score = graph.add(
            "ReduceMax", graph.add("Reshape", full, graph.constant([-1])), graph.constant([0]), keepdims=1
        )
    size = model.preprocess.crop_size
    return graph.model({"image": (1, 3, size, size)}, {full: (size, size), score: (1,)})
