"""Points that coresets are chosen from: projected patch features of pictures, and uniform noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datasets.readers import Category
from deploy.pictures.stream import Loaded, stream
from deploy.runtime.program import release_memory
from models.graph.compiled import compile_embedding
from models.memory_bank.coreset import PROJECTED, principal_axes, projection

from .multiply import SYMMETRIES, symmetry
from .subject import Subject

NOISE = "uniform noise"


def points_of(subject: Subject, category: Category | None, rows: int | None = None) -> np.ndarray:
    """Return points as in a fit, float32 [patches, dimensions] on their principal axes.

    They are patches of a category, or uniform noise if `category` is None. `rows` is the number of points; for a
    category, they come first from its pictures, then from mirrored and rotated copies of these.
    """
    if category is None:
        random = np.random.default_rng(subject.seed)
        return random.random((rows or subject.noise, PROJECTED), dtype=np.float32)
    model = subject.build("patchcore")
    embedding = compile_embedding(model, subject.runtime)
    matrix = projection(model.channels, np.random.default_rng(subject.seed))
    parts, seen = [], 0
    items = pictures_of(subject, category.train_pictures(), rows is not None)
    for features in subject.embedded(embedding, items):
        parts.append(features @ matrix)
        seen += len(parts[-1])
        if rows is not None and seen >= rows:
            break
    points = np.concatenate(parts)[:rows]
    mean, axes = principal_axes(points)
    del parts
    release_memory()  # as in a fit: then new memory has huge pages, if the system supports them
    return (points - mean) @ axes


def pictures_of(subject: Subject, paths: list[Path], more: bool) -> Iterator[Loaded]:
    """Yield the loaded pictures; then, if `more`, their mirrored and rotated copies."""
    for number in range(SYMMETRIES if more else 1):
        for item in stream(paths, subject.preprocess):
            yield item._replace(resized=symmetry(item.resized, number))
