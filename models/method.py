"""What every method shares: fitting, calibration, prediction, saving and loading."""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, ClassVar

import numpy as np
import paddle
from paddle import nn

import deploy
from deploy import selfcheck
from deploy.calibration import Calibration
from deploy.errors import UserError
from deploy.files import make_folder, read_tensors, write_tensors
from deploy.pictures import Picture
from deploy.predictor import Prediction, Predictor
from deploy.preprocess import Preprocess
from deploy.program import Program, Runtime
from deploy.progress import progress
from deploy.stream import batches, stream

from .backbone import Backbone
from .compiled import arrays_of, compile_embedding, compile_scoring

CALIBRATION_PICTURES = 64


class AnomalyMethod(nn.Layer):
    """A method as one layer: its `forward` is the whole scorer, its fitted statistics are buffers.

    A method says how features are made (`embed`), what is kept of them (`begin`, `absorb`, `summarise`), how a picture
    is scored against that (`score`), and what the statistics would be without a training picture (`without`).

    Args:
        arch: backbone, one of `models.backbone.ARCHS`.
        k: the method's size, see its class; None takes its default.
        layers: backbone layers to read; None takes the method's default.
        preprocess: how pictures enter.
        weights: backbone weights, see `models.weights.find_weights`.
        seed: decides everything random.
        runtime: how compiled programs run.
        options: the method's own settings, by the names in its `OPTIONS`.

    Raises:
        UserError: an argument is not usable; the message says which and why.
    """

    NAME: ClassVar[str]
    LAYERS: ClassVar[tuple[str, ...]]
    K: ClassVar[float]
    OPTIONS: ClassVar[dict[str, Any]]
    FIT_ONLY: ClassVar[frozenset[str]] = frozenset()
    """Options that a saved model records and does not need again."""

    def __init__(
        self,
        arch: str = "resnet18",
        k: float | None = None,
        layers: Sequence[str] | None = None,
        preprocess: Preprocess | None = None,
        weights: str | Path | None = None,
        seed: int = 521,
        runtime: Runtime | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        unknown = set(options) - set(self.OPTIONS)
        if unknown:
            raise UserError(f"{self.NAME} has no option {', '.join(sorted(unknown))}")
        for name, value in {"k": k, **options}.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"--{name} {value} is not a finite number")
        self.k = self.check_k(self.K if k is None else k)
        self.preprocess = preprocess or Preprocess()
        self.options = {**self.OPTIONS, **options}
        self.seed, self.runtime = seed, runtime or Runtime()
        paddle.set_device("gpu" if self.runtime.use_gpu else "cpu")
        self.backbone = Backbone(arch, layers or self.LAYERS, self.preprocess.crop_size, weights, seed)
        self.header: dict[str, Any] = {}
        self.calibration: Calibration | None = None
        self._checks: dict[str, np.ndarray] = {}
        self._predictor: Predictor | None = None
        self.build()
        self.eval()

    # What a method defines ------------------------------------------------------------------------------------------

    def check_k(self, k: float) -> float:
        """Return a usable `k`; UserError otherwise."""
        raise NotImplementedError

    def build(self) -> None:
        """Make the layers between backbone and score, from `self.backbone.features` and `self.options`."""
        raise NotImplementedError

    def embed(self, image: paddle.Tensor) -> paddle.Tensor:
        """float32 [batch, 3, height, width], normalised, to features [batch * positions, channels]."""
        raise NotImplementedError

    def statistics(self) -> dict[str, paddle.Tensor]:
        """The fitted buffers by name, in the order in which `score` takes them."""
        raise NotImplementedError

    def score(self, image: paddle.Tensor, *statistics: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """float32 [batch, 3, height, width] to map [batch, height, width] and score [batch], both 0 and up."""
        raise NotImplementedError

    def constants(self) -> dict[str, paddle.Tensor]:
        """Buffers that are fixed before fitting and belong to the program, by name."""
        return {}

    def take_constants(self, constants: dict[str, np.ndarray]) -> None:
        """Restore what `constants` gave when the model was saved."""

    def begin(self, pictures: int) -> None:
        """Get ready for the features of at most `pictures` pictures."""
        raise NotImplementedError

    def absorb(self, features: np.ndarray) -> None:
        """Take the features of the next pictures: float32 [pictures * positions, channels]."""
        raise NotImplementedError

    def summarise(self) -> dict[str, np.ndarray]:
        """The statistics of all features absorbed, by the names of `statistics`."""
        raise NotImplementedError

    def without(self, picture: int, features: np.ndarray) -> dict[str, np.ndarray]:
        """The statistics that change had training picture number `picture` contributed nothing. Only after fitting.

        `features` are the picture's own, float32 [positions, channels].
        """
        raise NotImplementedError

    # What users call ------------------------------------------------------------------------------------------------

    def forward(self, image: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """float32 [batch, 3, height, width], normalised, to map [batch, height, width] and score [batch]."""
        return self.score(image, *self.statistics().values())

    def fit(
        self,
        pictures: Iterable[Picture],
        batch_size: int = 8,
        workers: int | None = None,
        on_bad: Callable[[str, UserError], None] | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> AnomalyMethod:
        """Fit on good pictures: paths, or uint8 RGB arrays [height, width, 3] with values 0-255.

        Args:
            pictures: at least two.
            batch_size: pictures per run of the feature program.
            workers: decoding threads, default one per core.
            on_bad: called with name and error for a picture that cannot be read; without it that is an error.
            say: receives a line per stage.

        Raises:
            UserError: an unreadable picture, or fewer than two pictures.
        """
        pictures = list(pictures)
        embedding = compile_embedding(self, self.runtime)
        crops, seen = self._absorb(embedding, pictures, batch_size, workers, on_bad)
        say(f"features: {len(seen)} pictures")
        self._take(self.summarise())
        say(self.describe())
        self._self_check()
        self.calibration = self._calibrate(embedding, crops)
        say(
            f"calibration: {self.calibration.pictures} good pictures scored as if not seen; image threshold "
            f"{self.calibration.image_threshold:.4f}, pixel threshold {self.calibration.pixel_threshold:.4f}"
        )
        self.header = self._describe(seen)
        return self

    def predict(
        self,
        pictures: Iterable[Picture],
        batch_size: int = 1,
        workers: int | None = None,
        on_bad: Callable[[str, UserError], None] | None = None,
    ) -> Iterator[Prediction]:
        """Score pictures, in order; arguments as in `fit`, results as in `deploy.Prediction`.

        Raises:
            UserError: the model is not fitted, the program fails its self-check, or a picture is unreadable.
        """
        return self.predictor().predict(pictures, batch_size, workers, on_bad)

    def predictor(self) -> Predictor:
        """The compiled scorer of this fitted model, made once."""
        if self.calibration is None:
            raise UserError(f"this {self.NAME} model is not fitted: call fit or load first")
        if self._predictor is None:
            program = compile_scoring(self, self.runtime)
            self._predictor = Predictor(program, self.tensors(), self.header)
        return self._predictor

    def tensors(self) -> dict[str, np.ndarray]:
        """What a model or stats file stores: statistics, constants and the self-check's answer."""
        return {**arrays_of(self.statistics()), **arrays_of(self.constants()), **self._checks}

    def save(self, path: str | Path, command: str = "") -> Path:
        """Write the model to `path` (.safetensors) and, once per folder, its backbone beside it.

        Raises:
            UserError: not fitted, or the files cannot be written (nothing that was there is damaged).
        """
        if self.calibration is None:
            raise UserError(f"this {self.NAME} model is not fitted: there is nothing to save")
        path = Path(path)
        make_folder(path.parent)
        backbone = path.parent / self.header["backbone"]["file"]
        if not backbone.is_file():
            content = {"kind": "backbone", "arch": self.backbone.arch, "sha256": self.backbone.sha256}
            write_tensors(backbone, self.backbone.arrays(), content)
        self.header["command"] = command
        return write_tensors(path, self.tensors(), self.header)

    @classmethod
    def load(cls, path: str | Path, runtime: Runtime | None = None) -> AnomalyMethod:
        """Read what `save` wrote; the backbone is read from the model's folder.

        Raises:
            UserError: a file is missing or damaged, or the model is of another method.
        """
        tensors, header = read_tensors(path, "model")
        if header["method"] != cls.NAME:
            raise UserError(f"{path} is a {header['method']} model, not {cls.NAME}: give --method {header['method']}")
        backbone = Path(path).parent / header["backbone"]["file"]
        options = {name: value for name, value in header["options"].items() if name not in cls.FIT_ONLY}
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
        if model.backbone.sha256 != header["backbone"]["sha256"]:
            raise UserError(f"{backbone} is not the backbone that {path} was trained with: train it again")
        needed = (*model.statistics(), *model.constants(), selfcheck.SCORE, selfcheck.MAP)
        missing = [name for name in needed if name not in tensors]
        if missing:
            raise UserError(f"{path} is damaged: it lacks {', '.join(missing)}; train it again")
        model.take_constants({name: tensors[name] for name in model.constants()})
        model._take({name: tensors[name] for name in model.statistics()})
        model._checks = {name: tensors[name] for name in (selfcheck.SCORE, selfcheck.MAP)}
        model.calibration, model.header = Calibration.from_dict(header["calibration"]), header
        return model

    def describe(self) -> str:
        """One line about the fitted statistics."""
        return ", ".join(f"{name} {list(value.shape)}" for name, value in self.statistics().items())

    # Inside ---------------------------------------------------------------------------------------------------------

    def _take(self, statistics: dict[str, np.ndarray]) -> None:
        for name, value in statistics.items():
            self.register_buffer(name, paddle.to_tensor(value))
        self._predictor = None

    def _absorb(
        self,
        embedding: Program,
        pictures: list[Picture],
        batch_size: int,
        workers: int | None,
        on_bad: Callable[[str, UserError], None] | None,
    ) -> tuple[dict[int, np.ndarray], dict[str, str]]:
        """Feed all pictures to `absorb`; return calibration's crops by picture number, and fingerprints by name."""
        count = len(pictures)
        wanted = set(np.linspace(0, count - 1, min(count, CALIBRATION_PICTURES)).round().astype(int).tolist())
        crops: dict[int, np.ndarray] = {}
        seen: dict[str, str] = {}
        self.begin(count)
        shown = progress(stream(pictures, self.preprocess, workers, on_bad), count, "features")
        for group in batches(shown, batch_size):
            batch = np.stack([self.preprocess.crop(item.resized) for item in group])
            self.absorb(embedding.run(self.preprocess.normalise(batch))[0])
            for item, crop in zip(group, batch):
                if len(seen) in wanted:
                    crops[len(seen)] = crop
                seen[item.name] = hashlib.sha256(crop.tobytes()).hexdigest()
        if len(seen) < 2:
            raise UserError(f"fitting needs at least two good pictures, got {len(seen)}")
        return crops, seen

    def _self_check(self) -> None:
        with paddle.no_grad():
            answer = self(paddle.to_tensor(selfcheck.probe(self.preprocess)))
        self._checks = selfcheck.expected(*(tensor.numpy() for tensor in answer))

    def _calibrate(self, embedding: Program, crops: dict[int, np.ndarray]) -> Calibration:
        """Score good pictures, each against the statistics without it, through the same compiled program."""
        scoring = compile_scoring(self, self.runtime)
        scoring.set(arrays_of(self.statistics()))
        scores, maxima, medians = [], [], []
        for number, crop in progress(crops.items(), len(crops), "calibration"):
            image = self.preprocess.normalise(crop[None])
            scoring.set(self.without(number, embedding.run(image)[0]))
            anomaly_map, score = scoring.run(image)
            scores.append(score[0])
            maxima.append(anomaly_map.max())
            medians.append(np.median(anomaly_map))
        return Calibration.from_good(np.array(scores), np.array(maxima), np.array(medians))

    def _describe(self, seen: dict[str, str]) -> dict[str, Any]:
        backbone = self.backbone
        return {
            "kind": "model",
            "method": self.NAME,
            "arch": backbone.arch,
            "layers": list(backbone.layers),
            "k": self.k,
            "options": self.options,
            "preprocess": self.preprocess.to_dict(),
            "calibration": self.calibration.to_dict(),
            "seed": self.seed,
            "versions": versions(),
            "backbone": {
                "file": f"{backbone.arch}-{backbone.sha256[:12]}.safetensors",
                "sha256": backbone.sha256,
                "source": Path(backbone.source).name,
            },
            "data": {"pictures": len(seen), "sha256": hashlib.sha256("".join(seen.values()).encode()).hexdigest()},
        }


def versions() -> dict[str, str]:
    """Versions that decide a result."""
    return {
        "paddlepatch": deploy.__version__,
        "paddle": paddle.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
