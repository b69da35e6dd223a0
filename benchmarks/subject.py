"""Data that all stages share: pictures, backbone, and the models fitted on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datasets.readers import Category
from deploy.pictures.decode import Picture
from deploy.pictures.preprocess import Preprocess
from deploy.pictures.stream import Loaded, batches, cores, stream
from deploy.runtime.program import Program, Runtime
from models.base.method import AnomalyMethod
from models.graph.compiled import compile_embedding, compile_scoring
from models.padim import PaDiM
from models.patchcore import PatchCore

BATCH = 8
METHODS: dict[str, tuple[type[AnomalyMethod], float]] = {"patchcore": (PatchCore, 10.0), "padim": (PaDiM, 100)}
"""The methods whose programs are timed, with their values of k."""


@dataclass
class Subject:
    """Settings and data of a run. Coreset, search and fits use all `categories`, other stages the first one."""

    categories: list[Category]
    arch: str
    weights: str | None
    preprocess: Preprocess
    seed: int
    rounds: int
    runtime: Runtime
    counts: list[int]
    """Numbers of training pictures for the stage `scaling`."""
    archs: list[str]
    layers: list[str]
    """Backbones and layers for the stage `backbones`."""
    noise: int
    """Number of rows of uniform noise for the stage `coreset`."""
    shapes: list[tuple[int, float]]
    """Numbers of patches and percentages for the stage `sweep`."""
    methods: list[str]
    seeds: list[int]
    """Methods and seeds for the stage `quality`."""
    folder: Path
    """Folder for the pictures of the report."""
    _fitted: dict[tuple[str, str, float], AnomalyMethod] = field(default_factory=dict)
    _features: np.ndarray | None = None

    @property
    def category(self) -> Category:
        """The category for stages that use only one."""
        return self.categories[0]

    @property
    def threads(self) -> int:
        """Number of threads that every contestant may use."""
        return self.runtime.threads or cores()

    @property
    def few(self) -> int:
        """Number of rounds for measurements that take many seconds."""
        return max(1, self.rounds // 10)

    def build(
        self,
        method: str,
        runtime: Runtime | None = None,
        k: float | None = None,
        preprocess: Preprocess | None = None,
        **options: object,
    ) -> AnomalyMethod:
        """Return a model of a method with the settings of this run, not fitted."""
        kind, default = METHODS[method]
        arguments = {"arch": self.arch, "k": k or default}
        arguments |= {"preprocess": preprocess or self.preprocess, "weights": self.weights}
        return kind(**arguments, seed=self.seed, runtime=runtime or self.runtime, **options)

    def fitted(self, method: str, category: Category, k: float | None = None) -> AnomalyMethod:
        """Return a model with statistics from the category's training pictures, not calibrated; it is made once."""
        key = method, category.name, k or METHODS[method][1]
        if key not in self._fitted:
            # with the tables of the coarse search, however small the bank is; `scorer` may leave them out
            model = self.build(method, k=k, **({"search": "coarse"} if method == "patchcore" else {}))
            fit_statistics(model, category.train_pictures())
            self._fitted[key] = model
        return self._fitted[key]

    def scorer(
        self,
        method: str,
        category: Category,
        runtime: Runtime | None = None,
        k: float | None = None,
        **options: object,
    ) -> Program:
        """Return the scoring program, as it is exported, with its statistics set."""
        source = self.fitted(method, category, k)
        model = self.build(method, runtime, k, **options)
        return scoring_with(model, source)

    def features(self) -> np.ndarray:
        """PatchCore's features of all training pictures, float32 [patches, channels]; computed once."""
        if self._features is None:
            embedding = compile_embedding(self.build("patchcore"), self.runtime)
            items = stream(self.category.train_pictures(), self.preprocess)
            self._features = np.concatenate(list(self.embedded(embedding, items)))
        return self._features

    def embedded(
        self, embedding: Program, items: Iterable[Loaded], preprocess: Preprocess | None = None
    ) -> Iterator[np.ndarray]:
        """Yield features of loaded pictures, float32 [patches, channels], batch by batch."""
        for group in batches(items, BATCH):
            yield embedding.run(self.images(group, preprocess))[0]

    def images(self, group: Sequence[Loaded], preprocess: Preprocess | None = None) -> np.ndarray:
        """Convert loaded pictures to program input, float32 [pictures, 3, height, width]."""
        preprocess = preprocess or self.preprocess
        return preprocess.normalise(np.stack([preprocess.crop(item.resized) for item in group]))

    def test_images(self, category: Category, preprocess: Preprocess | None = None) -> list[np.ndarray]:
        """Return program inputs [1, 3, height, width] of the category's test pictures."""
        paths, preprocess = [picture.path for picture in category.test_pictures()], preprocess or self.preprocess
        return [self.images([item], preprocess) for item in stream(paths, preprocess)]


def scoring_with(model: AnomalyMethod, source: AnomalyMethod) -> Program:
    """Return the scoring program of `model` with the statistics of `source`, which may have further statistics."""
    model.load_statistics({name: source.fitted[name] for name in model.statistics()})
    program = compile_scoring(model, model.runtime)
    program.set(model.fitted)
    return program


def fit_statistics(model: AnomalyMethod, pictures: list[Picture]) -> None:
    """Fit a model without calibration: decode pictures, compute features and statistics."""
    model.fit_statistics(pictures, BATCH, None, None, lambda text: None)
