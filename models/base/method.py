"""Base class of the methods: they are fitted on features in one pass, then all pictures get held-out scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Callable, ClassVar

import numpy as np
import paddle

from deploy.command_line.progress import progress
from deploy.errors import UserError
from deploy.pictures.decode import Picture
from deploy.pictures.preprocess import Preprocess
from deploy.pictures.stream import batches, stream
from deploy.results.description import size_text
from deploy.runtime.program import Runtime, release_memory
from deploy.storage.tensors import read_tensors

from ..backbones.backbone import Backbone
from ..graph.compiled import compile_embedding, compile_feature_scoring
from ..threads import one_thread
from .augment import Augment, as_augment, copies
from .checks import checked, checked_seed, pictures_to
from .data import DIGITS, data_of, fingerprint_of
from .detector import Detector, OnBad
from .fitting import fit_features
from .forget import forget_pictures
from .tiling import MapAndScore, Tiling, run_parts
from .update import update_model


class AnomalyMethod(Detector):
    """A method on one backbone, as one layer.

    A subclass defines how features are computed (`embed`), how statistics are fitted on them, batch by batch
    (`start_fit`, `partial_fit`, `finish_fit`), how features are scored with these statistics (`score_features`), and
    how the statistics change when a training picture is held out (`hold_out`). `start_update` adds pictures to
    fitted statistics, `without` takes pictures out of them.

    Args:
        arch: backbone, one of `models.backbones.backbone.ARCHS`.
        k: the method's size, see its class; None is the method's default.
        layers: backbone layers to read; None is the method's default.
        preprocess: how a picture is converted to the program's input.
        weights: backbone weights, see `models.backbones.weights.find_weights`.
        seed: of everything random.
        runtime: how compiled programs run.
        augment: which augmented copies of training pictures are trained on too.
        options: the method's own settings, by the names in its `OPTIONS`.

    Raises:
        UserError: an argument is not usable; the message says which and why.
    """

    NAME: ClassVar[str]
    LAYERS: ClassVar[tuple[str, ...]]
    K: ClassVar[float]
    OPTIONS: ClassVar[dict[str, Any]]
    FIT_ONLY: ClassVar[frozenset[str]] = frozenset()
    """Options that are recorded in a saved model, but are needed for fitting only."""
    WHOLE: ClassVar[frozenset[str]] = frozenset()
    """Options that are whole numbers although their default is None."""
    STAGE: ClassVar[str] = "statistics"
    """Name of `finish_fit` in tables of times."""
    HELD_OUT: ClassVar[int] = 1
    """How many pictures `hold_out` takes at a time, unless the method decides it by their number, see `held_out`."""
    channels: int
    """Values per row of features, set by `build`."""
    positions: int
    """Rows of features per picture or tile, set by `build`, for this class's `training_features`."""
    shard: range
    """Numbers of the pictures of the last fit or update whose features this process has; all, if it is alone."""
    at_once: int
    """How many pictures `hold_out` takes at a time, see `held_out`; set when the features have been computed."""

    def __init__(
        self,
        arch: str = "resnet18",
        k: float | None = None,
        layers: Sequence[str] | None = None,
        preprocess: Preprocess | None = None,
        weights: str | Path | None = None,
        seed: int = 521,
        runtime: Runtime | None = None,
        augment: Augment | None = None,
        **options: Any,
    ) -> None:
        super().__init__(preprocess, seed, runtime)
        unknown = set(options) - set(self.OPTIONS)
        if unknown:
            raise UserError(f"{self.NAME} has no option {', '.join(sorted(unknown))}")
        k = checked("k", k, self.K, False)
        options = {name: checked(name, of, self.OPTIONS[name], name in self.WHOLE) for name, of in options.items()}
        self.seed = checked_seed(seed)
        self.k = self.check_k(self.K if k is None else k)
        self.options = self.resolve(arch, options)
        if isinstance(layers, str):
            raise UserError(f"layers {layers}: give a list of names, [{layers!r}]")
        self.layers = tuple(layers or self.LAYERS)
        self.backbone = self.make_backbone(arch, weights)
        self.data: dict[str, Any] = {}
        self.names: list[str] = []
        self.tiling = Tiling(self.preprocess)
        self.augment, self.copied = as_augment(augment), ()
        self.shard = range(0)
        self.build()
        self.eval()

    # What a method defines ------------------------------------------------------------------------------------------

    @classmethod
    def resolve(cls, arch: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return all options: those given, and defaults of the others, which may depend on `arch` and those given."""
        return {**cls.OPTIONS, **options}

    def check_k(self, k: float) -> float:
        """Return a usable `k`; UserError otherwise."""
        raise NotImplementedError

    def make_backbone(self, arch: str, weights: str | Path | None) -> Backbone:
        """Return the backbone whose outputs are `self.layers`."""
        return Backbone(arch, self.layers, self.preprocess.size, weights, self.seed)

    def build(self) -> None:
        """Make the layers between backbone and score, from `self.backbone.features` and `self.options`."""
        raise NotImplementedError

    def embed(self, image: paddle.Tensor) -> paddle.Tensor:
        """Compute features [rows, channels], equally many rows per picture, of normalised [batch, 3, height, width]."""
        raise NotImplementedError

    def score_features(
        self, features: paddle.Tensor, *statistics: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Score the features of `embed`: map [batch, height, width] and score [batch], both at least 0."""
        raise NotImplementedError

    def load_constants(self, constants: dict[str, np.ndarray]) -> None:
        """Set the `constants` from a saved model."""

    def load_records(self, tensors: dict[str, np.ndarray]) -> None:
        """Set the `records` from a saved model, if it has them, before its statistics are loaded."""

    def start_fit(self, pictures: int) -> None:
        """Start fitting on at most `pictures` pictures, or tiles of pictures."""
        raise NotImplementedError

    def start_update(self, pictures: int, max_size: int | None) -> None:
        """Start adding at most `pictures` pictures to the fitted statistics.

        `max_size` limits the size of the statistics, see `update`. UserError if it is too small, or if the method's
        statistics do not grow.
        """
        raise NotImplementedError

    def partial_fit(self, features: np.ndarray) -> None:
        """Add the features of the next pictures, or tiles, as `embed` computes them."""
        raise NotImplementedError

    def finish_fit(self) -> dict[str, np.ndarray]:
        """Return the statistics of all features added, by the names of `statistics`."""
        raise NotImplementedError

    def training_features(self, pictures: range) -> np.ndarray:
        """Return features of pictures of the last fit or update, as `embed` computed them; not after `end_fit`.

        If pictures have several tiles or copies, the features of all of them, see `self.tiling`.
        """
        parts = self.tiling.parts(pictures)
        first = parts.start - self.tiling.parts(self.shard).start
        return self._spool.read_block(first * self.positions, len(parts) * self.positions)

    def held_out(self, pictures: int) -> int:
        """How many pictures `hold_out` takes at a time, at most `tiling.AT_ONCE`, if there are `pictures` in all."""
        return self.HELD_OUT

    def hold_out(
        self, pictures: range, features: np.ndarray
    ) -> AbstractContextManager[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Context manager that yields features and statistics with which pictures are scored as held out.

        The yielded statistics replace those of `fitted` with the same names. Other statistics in `fitted` may be
        changed in place while the context is open. `pictures` are the numbers of at most `at_once` pictures of the
        last fit or update, `features` are their `training_features`.
        """
        raise NotImplementedError

    def without(self, numbers: list[int], features: np.ndarray) -> dict[str, np.ndarray]:
        """Return the statistics without the training pictures of these numbers; UserError if too few are left.

        Args:
            numbers: of the pictures, counted through the first fit and all updates.
            features: their features, [pictures or tiles, rows, channels], as `embed` computes them.
        """
        raise NotImplementedError

    def end_fit(self) -> None:
        """Free what only `training_features` needs."""

    def unit(self) -> float:
        """Factor by which a map is multiplied, to compare it with maps of fits of this method on other pictures."""
        return 1.0

    # ----------------------------------------------------------------------------------------------------------------

    def score(self, image: paddle.Tensor, *statistics: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Score normalised [batch, 3, height, width]: map and image score."""
        return self.score_features(self.embed(image), *statistics)

    def methods(self) -> list[AnomalyMethod]:
        """Return a list with this method only."""
        return [self]

    @classmethod
    def load(cls, path: str | Path, runtime: Runtime | None = None) -> AnomalyMethod:
        """Load a model that `save` wrote; the backbone is read from the model's folder.

        Raises:
            UserError: a file is missing or damaged, or the model is of another method.
        """
        tensors, header = read_tensors(path, "model")
        if header["method"] != cls.NAME:
            raise UserError(f"{path} is a {header['method']} model, not {cls.NAME}: give --method {header['method']}")
        if "members" in header:
            raise UserError(f"{path} is an ensemble: read it with models.load_model")
        model = cls.from_header(Path(path), tensors, header, runtime)
        model.restore(Path(path), tensors, header)
        return model

    @classmethod
    def from_header(
        cls, path: Path, tensors: dict[str, np.ndarray], header: dict[str, Any], runtime: Runtime | None
    ) -> AnomalyMethod:
        """Build the method that `header` describes, with the statistics in `tensors`; UserError if they do not fit."""
        backbone = path.parent / header["backbone"]["file"]
        options = {name: value for name, value in header["options"].items() if name not in cls.FIT_ONLY}
        try:
            model = cls(
                header["arch"],
                header["k"],
                header["layers"],
                Preprocess.from_dict(header["preprocess"]),
                backbone,
                header["seed"],
                runtime,
                **options,
            )
        except UserError as error:
            raise UserError(f"{path} does not describe a model that can be made: {error}") from error
        if model.backbone.sha256 != header["backbone"]["sha256"]:
            raise UserError(f"{backbone} is not the backbone that {path} was trained with: train it again")
        model.data = header["data"]
        model.load_constants({name: tensors[name] for name in model.constants() if name in tensors})
        model.load_records(tensors)
        statistics = {name: tensors[name] for name in model.statistics() if name in tensors}
        model.check_shapes(path, statistics)
        model.load_statistics(statistics)
        return model

    def fit_statistics(
        self,
        pictures: list[Picture],
        batch_size: int,
        workers: int | None,
        on_bad: OnBad | None,
        log: Callable[[str], None],
    ) -> Iterator[MapAndScore]:
        """Fit on all pictures; yield held-out map and score of each picture in this process's share."""
        seen = fit_features(self, pictures, batch_size, workers, on_bad)
        log(f"features: {len(seen)} pictures")
        self.make_statistics()
        log(self.describe())
        self.data = data_of(seen, self.tiling.tiles)
        return self.score_held_out()

    def update(
        self,
        pictures: Iterable[Picture],
        batch_size: int = 8,
        workers: int | None = None,
        on_bad: OnBad | None = None,
        log: Callable[[str], None] = lambda text: None,
        false_alarm: float | None = None,
        max_size: int | None = None,
    ) -> AnomalyMethod:
        """Add good pictures to a fitted model; the pictures of the first fit are not needed. See `models.base.update`.

        Arguments are as in `fit`, but one picture is enough, and `false_alarm` is the model's own rate if not given.
        `max_size` limits the rows of PatchCore's bank, or the pictures or tiles of SPADE's gallery, at the end.

        Raises:
            UserError: not fitted, an unreadable picture, no new picture, or `max_size` does not fit the method.
        """
        update_model(
            self, pictures_to("update", self, pictures), batch_size, workers, on_bad, log, false_alarm, max_size
        )
        return self

    def forget(self, pictures: Iterable[Picture], log: Callable[[str], None] = lambda text: None) -> AnomalyMethod:
        """Take training pictures out of a fitted model that turned out to be defective; see `models.base.forget`.

        Gaussians and galleries become what they would be without the pictures, except for rounding. PatchCore's bank
        loses the rows that came from the pictures; its other rows stay as they are, although fitting without the
        pictures would have chosen and moved them differently.

        Raises:
            UserError: not fitted, a picture that the model was not fitted on, or too few pictures are left.
        """
        forget_pictures(self, pictures_to("forget", self, pictures), log)
        return self

    def describe(self) -> str:
        """Return one line about the fitted statistics."""
        return size_text({name: value.shape for name, value in self.fitted.items()}) or "statistics are fitted"

    def config(self) -> dict[str, Any]:
        """Return arch, layers, k, options, backbone and data, for the header."""
        return {
            "arch": self.backbone.arch,
            "layers": list(self.layers),
            "k": self.k,
            "options": self.options,
            "backbone": self.backbone.config(),
            "data": self.data,
            **({"augment": self.augment.to_dict()} if self.augment.asked else {}),
        }

    @one_thread
    def add_features(
        self,
        pictures: list[Picture],
        batch_size: int,
        workers: int | None,
        on_bad: OnBad | None,
        known: Set[str] = frozenset(),
        look: Callable[[np.ndarray, list[int]], None] = lambda features, numbers: None,
    ) -> list[str]:
        """Compute the features of all pictures and their copies, and call `partial_fit` on them.

        Sets `names`, `brightness` and `tiling`; returns the fingerprints of the pictures' crops. Pictures whose short
        fingerprint (see `data_of`) is in `known` are left out. `look` is called with each batch's features, and with
        the number of the picture of each part in the batch. The other arguments are as in `fit`.
        """
        embedding = self.compiled(compile_embedding)
        seen: list[str] = []
        self.names, self.brightness, self.tiling = [], [], Tiling(self.preprocess)
        shown = progress(stream(pictures, self.preprocess, workers, on_bad), len(pictures), "features")
        for group in batches(shown, 1 if self.preprocess.tiled else batch_size):
            self.stages.add("read", sum(item.seconds for item in group))
            crops = [(item, self.preprocess.crop(item.resized)) for item in group]
            marked = [(item, crop, fingerprint_of(crop)) for item, crop in crops]
            marked = [entry for entry in marked if entry[2][:DIGITS] not in known]
            place = self.copied, self.preprocess, self.seed
            looks = [[crop, *copies(item, *place, len(seen) + i)] for i, (item, crop, _) in enumerate(marked)]
            of = enumerate(looks, len(seen))
            every = ((n, part) for n, own in of for crop in own for part in self.preprocess.parts(crop))
            for parts in batches(every, batch_size):
                batch = self.preprocess.normalise(np.stack([part for _, part in parts]))
                with self.stages.timed("features"):
                    features = embedding.run(batch)[0]
                look(features, [n for n, _ in parts])
                self.partial_fit(features)
            for (item, crop, mark), own in zip(marked, looks):
                self.names.append(item.name)
                self.brightness.append(float(crop.mean()))
                self.tiling.add(own)
                seen.append(mark)
        embedding.shrink()
        return seen

    def make_statistics(self) -> None:
        """Compute the statistics of all features that were added, and set them."""
        with self.stages.timed(self.STAGE):
            self.load_statistics(self.finish_fit())
            release_memory()

    def score_held_out(self) -> Iterator[MapAndScore]:
        """Yield map and score of each picture of the last fit or update, with statistics that it is held out from."""
        scoring, size = self.scoring_program(compile_feature_scoring), self.at_once
        groups = [range(start, min(start + size, self.shard.stop)) for start in self.shard[::size]]
        for group in progress(groups, len(groups), "calibration"):
            held_out = self.hold_out(group, self.training_features(group))
            with self.stages.timed("calibration"), held_out as (features, changed):
                scoring.set({**self.fitted, **changed})
                rows = len(features) // len(self.tiling.parts(group))
                maps, scores = run_parts(scoring, self.tiling.without_copies(group, features), rows)
            yield from self.tiling.join(group, maps, scores)
        scoring.shrink()
        self.end_fit()
