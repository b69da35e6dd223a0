"""Base class of every model, one method or an ensemble: fit, predict, save."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import numpy as np
import paddle
from paddle import nn

import deploy
from deploy.calibration import FALSE_ALARM, Calibration, check_rate, levels_of
from deploy.errors import UserError
from deploy.pictures.decode import Picture, several
from deploy.pictures.preprocess import Preprocess, height_width
from deploy.pictures.stream import check_batch, picture_name, prefetch
from deploy.predictor import Prediction, Predictor
from deploy.results.description import levels_text
from deploy.runtime import selfcheck
from deploy.runtime.program import Program, Runtime, tensor_over
from deploy.runtime.stages import Stages
from deploy.storage.files import make_folder
from deploy.storage.tensors import read_tensors, write_tensors

from ..backbones.backbone import Backbone
from ..distributed.group import Group
from ..graph.compiled import compile_scoring, statistic_specs
from .helping import choose_copies
from .tiling import MapAndScore

if TYPE_CHECKING:
    from .method import AnomalyMethod

OnBad = Callable[[str, UserError], None]
NAMED = 3
"""Number of training pictures that are named in the log because they have the highest held-out scores."""
ODD_SHARE, ODD_MOST = 0.3, 50
"""Share of the training pictures, those with the highest held-out scores, whose maps are kept; NAMED to ODD_MOST."""


class Detector(nn.Layer):
    """A layer whose `forward` scores pictures. Its fitted statistics are buffers, and inputs of a compiled program."""

    NAME: str
    names: list[str]
    """Names of the training pictures, in the order in which `fit_statistics` yields them; only after fitting."""
    brightness: list[float]
    """Their mean pixel values, 0 to 255, after resizing and cropping."""

    def __init__(self, preprocess: Preprocess | None, seed: int, runtime: Runtime | None) -> None:
        super().__init__()
        self.preprocess = preprocess or Preprocess()
        self.seed, self.runtime = seed, runtime or Runtime()
        paddle.set_device(f"gpu:{self.runtime.gpu}" if self.runtime.use_gpu else "cpu")
        self.header: dict[str, Any] = {}
        self.calibration: Calibration | None = None
        self.fitted: dict[str, np.ndarray] = {}
        """The statistics as arrays; on the CPU the buffers are views of them."""
        self.checks: dict[str, np.ndarray] = {}
        self.group = Group()
        """The processes that fit the model together."""
        self.stages = Stages()
        """Seconds that the stages of the last fit or update took: `read` (the sum over all reading threads, which work
        while others compute), `features`, the method's STAGE (its statistics) and `calibration`. They are not saved."""
        self._odd: list[tuple[Picture, str, float, np.ndarray, float]] = []
        self._copies: dict[str, Any] = {}
        self._predictor: Predictor | None = None
        self._programs: dict[Callable[..., Program], tuple[Any, Program]] = {}

    # What a kind of model defines -----------------------------------------------------------------------------------

    def methods(self) -> list[AnomalyMethod]:
        """Return the methods on one backbone each that the model consists of."""
        raise NotImplementedError

    def statistics(self) -> dict[str, paddle.Tensor]:
        """Return the fitted buffers by name, in the order in which `score` takes them."""
        raise NotImplementedError

    def free_dimensions(self) -> dict[str, tuple[int, ...]]:
        """Return, by name, which dimensions of a statistic may differ between models that share a program.

        Statistics that are not named may differ in the first dimension only.
        """
        return {}

    def traced_numbers(self) -> tuple[int, ...]:
        """Return the numbers that a scoring program takes from fitted statistics when it is traced."""
        return ()

    def constants(self) -> dict[str, paddle.Tensor]:
        """Return the buffers that are fixed before fitting and are part of the program, by name."""
        return {}

    def score(self, image: paddle.Tensor, *statistics: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Score float32 [batch, 3, height, width]: map [batch, height, width] and score [batch], both at least 0."""
        raise NotImplementedError

    def fit_statistics(
        self,
        pictures: list[Picture],
        batch_size: int,
        workers: int | None,
        on_bad: OnBad | None,
        log: Callable[[str], None],
    ) -> Iterator[MapAndScore]:
        """Fit the statistics on `pictures`, then yield map and score of each of them, held out from the statistics."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Return the part of the header that depends on the kind of model: enough to build the model again."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """One line, which a notebook shows after `fit`; Paddle's own would list every layer of the backbone."""
        archs = " + ".join(backbone.arch for backbone in self.backbones())
        return f"{self.NAME}, {archs}: {'not fitted' if self.calibration is None else self.calibration}"

    # What users call ------------------------------------------------------------------------------------------------

    def forward(self, image: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Score normalised float32 [batch, 3, height, width]: map [batch, height, width] and score [batch]."""
        return self.score(image, *self.statistics().values())

    def fit(
        self,
        pictures: Iterable[Picture],
        batch_size: int = 8,
        workers: int | None = None,
        on_bad: OnBad | None = None,
        log: Callable[[str], None] = lambda text: None,
        false_alarm: float = FALSE_ALARM,
    ) -> Detector:
        """Fit on good pictures: paths, or uint8 RGB arrays [height, width, 3] with values 0-255.

        Args:
            pictures: at least two.
            batch_size: pictures per run of the feature program.
            workers: decoding threads, default one per core.
            on_bad: called with name and error for a picture that cannot be read; without it that is an error.
            log: called with one line per stage.
            false_alarm: false alarm rate, the share of good pictures that the thresholds may call defective.

        Raises:
            UserError: an unreadable picture, fewer than two pictures, or a rate that is not between 0 and 1.
        """
        check_rate(false_alarm)
        check_batch(batch_size)
        pictures, self.stages = list(several(pictures)), Stages()
        count = min(max(NAMED, math.ceil(ODD_SHARE * len(pictures))), ODD_MOST)
        highest: list[tuple[float, int, np.ndarray]] = []
        scores: list[float] = []

        def noted(answers: Iterator[MapAndScore]) -> Iterator[MapAndScore]:
            for number, (anomaly_map, score) in enumerate(answers):
                if not np.isfinite(score) or not np.isfinite(anomaly_map).all():
                    raise UserError("good pictures get scores that are no finite numbers: check --weights, and options")
                scores.append(score)
                if len(highest) < count or score >= highest[-1][0]:
                    highest.append((score, number, anomaly_map.copy()))
                    highest.sort(key=lambda found: found[:2], reverse=True)
                    del highest[count:]
                yield anomaly_map, score

        self._copies = choose_copies(self.methods(), pictures, batch_size, workers, on_bad, log, self.stages)
        held_out = noted(self.fit_statistics(pictures, batch_size, workers, on_bad, log))
        rows = self.group.joined([levels_of(*answer) for answer in held_out])
        self.calibration = Calibration.from_levels(rows, false_alarm).with_brightness(self.brightness)
        self.tell_levels([row[0] for row in rows], log)
        if self.group.size > 1:
            highest = self._highest_of_all(highest, len(scores), count)
        by_name = {picture_name(picture, number): picture for number, picture in enumerate(pictures)}
        self._odd = [
            (by_name[self.names[number]], self.names[number], score, anomaly_map, self.brightness[number])
            for score, number, anomaly_map in highest
        ]
        return self.describe_fit()

    def _highest_of_all(
        self, highest: list[tuple[float, int, np.ndarray]], own: int, count: int
    ) -> list[tuple[float, int, np.ndarray]]:
        """Merge the highest scores of all processes and return the `count` highest.

        Args:
            highest: score, number and map of this process's pictures with the highest scores, numbered from 0.
            own: how many pictures this process scored.
            count: how many entries to return; they are numbered through all processes' pictures.
        """
        first = sum(self.group.joined([own])[: self.group.rank])
        told = self.group.joined([(score, number + first) for score, number, _ in highest])
        size = height_width(self.preprocess.size)
        maps = self.group.concatenated(np.array([kept for *_, kept in highest], np.float32).reshape(-1, *size))
        found = [(score, number, kept) for (score, number), kept in zip(told, maps)]
        return sorted(found, key=lambda one: one[:2], reverse=True)[:count]

    def tell_levels(self, scores: Sequence[float], log: Callable[[str], None]) -> None:
        """Log the thresholds, and the pictures with the highest held-out `scores`, in the order of `names`."""
        log(
            f"calibration: {self.calibration.pictures} good pictures scored as if not seen; pixel threshold "
            f"{self.calibration.pixel_threshold:.4f}, {levels_text(self.calibration)}"
        )
        odd = np.argsort(scores)[: -NAMED - 1 : -1]
        log(f"least like the others: {', '.join(f'{self.names[i]} ({scores[i]:.4f})' for i in odd)}")

    def describe_fit(self) -> Detector:
        """Set self-check and header after fitting and calibration; return the model."""
        with paddle.no_grad():
            answer = self(paddle.to_tensor(self.preprocess.normalise(selfcheck.probe(self.preprocess))))
        self.checks = selfcheck.expected(*(tensor.numpy() for tensor in answer))
        self.header = {**self.settings(), **self._copies, "calibration": self.calibration.to_dict()}
        return self

    def settings(self) -> dict[str, Any]:
        """Return the header without what fitting adds; `data` in it is that of the last fit."""
        return {
            "kind": "model",
            "method": self.NAME,
            "preprocess": self.preprocess.to_dict(),
            "seed": self.seed,
            "versions": versions(),
            **self.config(),
        }

    def odd(self) -> Iterator[Prediction]:
        """Yield the training pictures with the highest held-out scores, the highest first.

        They are 30 % of the training pictures, but at least 3 and at most 50. Each is read again, and has its held-out
        map and score of the last `fit`; `update` and `forget` change nothing here. A model that was loaded yields none.

        Raises:
            UserError: a picture cannot be read any more.
        """
        workers = 0 if self.preprocess.tiled else None  # as in `stream`
        read = prefetch(lambda one: self.preprocess.resized_with_shape(one[0]), self._odd, workers)
        for (_, name, score, anomaly_map, brightness), seen in read:
            yield Prediction(name, score, anomaly_map, *seen(), brightness)

    def predict(
        self,
        pictures: Iterable[Picture],
        batch_size: int = 1,
        workers: int | None = None,
        on_bad: OnBad | None = None,
    ) -> Iterator[Prediction]:
        """Score pictures, in order; arguments as in `fit`, results as in `deploy.Prediction`.

        Raises:
            UserError: the model is not fitted, the program fails its self-check, or a picture is unreadable.
        """
        return self.predictor().predict(pictures, batch_size, workers, on_bad)

    def predictor(self) -> Predictor:
        """Return the compiled scorer of this fitted model; it is made once. UserError if the model is not fitted."""
        if self.calibration is None:
            raise UserError(f"this {self.NAME} model is not fitted: call fit or load first")
        if self._predictor is None:
            self._predictor = Predictor(self.scoring_program(compile_scoring), self.tensors(), self.header)
        return self._predictor

    def save(self, path: str | Path, command: str = "") -> Path:
        """Write the model to `path` (.safetensors) and, once per folder, its backbones beside it.

        Raises:
            UserError: not fitted, or the files cannot be written (existing files stay undamaged).
        """
        if self.calibration is None:
            raise UserError(f"this {self.NAME} model is not fitted: there is nothing to save")
        path = Path(path)
        make_folder(path.parent)
        for backbone in self.backbones():
            file = path.parent / backbone.file
            if not is_backbone(file):
                content = {"kind": "backbone", "arch": backbone.arch, "sha256": backbone.sha256}
                write_tensors(file, backbone.arrays(), content)
        self.header["command"] = command
        return self._write_model(path)

    def set_thresholds(self, calibration: Calibration, path: str | Path) -> Path:
        """Replace the thresholds of the model, and in the file `path` that it was read from; the rest stays as it is.

        Raises:
            UserError: the file cannot be written (the existing file stays undamaged).
        """
        self.calibration = calibration
        self.header["calibration"] = calibration.to_dict()
        self._predictor = None
        return self._write_model(path)

    def _write_model(self, path: str | Path) -> Path:
        return write_tensors(path, {**self.tensors(), **self.records()}, self.header)

    def backbones(self) -> list[Backbone]:
        """Return the backbones that the model uses."""
        return [method.backbone for method in self.methods()]

    # For export and evaluation --------------------------------------------------------------------------------------

    def scoring_program(self, compiler: Callable[[Detector, Runtime], Program]) -> Program:
        """Return a compiled scoring program; the caller sets its statistics (it may have those of an earlier fit)."""
        return self.compiled(compiler, (*map(str, statistic_specs(self)), *self.traced_numbers()))

    def compiled(self, compiler: Callable[[Detector, Runtime], Program], key: Any = None) -> Program:
        """Return the program that `compiler` makes of the model, or the kept one if it was made for the same `key`."""
        if compiler not in self._programs or self._programs[compiler][0] != key:
            self._programs[compiler] = key, compiler(self, self.runtime)
        return self._programs[compiler][1]

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the arrays of a model or stats file: statistics, constants and the self-check's map and score."""
        return {**self.fitted, **{name: tensor.numpy() for name, tensor in self.constants().items()}, **self.checks}

    def records(self) -> dict[str, np.ndarray]:
        """Return the arrays of a model file that only `update` and `forget` need, not scoring, by name."""
        return {}

    def load_statistics(self, statistics: dict[str, np.ndarray]) -> None:
        """Set the model's statistics; on the CPU the arrays are not copied."""
        for name, value in statistics.items():
            self.fitted[name] = np.ascontiguousarray(value)
            buffer = paddle.to_tensor(value) if self.runtime.use_gpu else tensor_over(self.fitted[name])
            self.register_buffer(name, buffer)
        wanted = self.statistics()  # those of an earlier fit may have been others
        self.fitted = {name: value for name, value in self.fitted.items() if name in wanted}
        self._predictor = None

    def check_shapes(self, path: Path, statistics: dict[str, np.ndarray]) -> None:
        """Raise UserError if a statistic from a file has another type or shape than that of this model."""
        free = self.free_dimensions()
        for name, own in self.statistics().items():
            value = statistics.get(name)
            if value is None:
                continue
            same = [a == b or place in free.get(name, (0,)) for place, (a, b) in enumerate(zip(value.shape, own.shape))]
            if value.ndim != own.ndim or not all(same) or str(value.dtype) != str(own.dtype).replace("paddle.", ""):
                raise UserError(
                    f"{path}: its {name} is {value.dtype} {value.shape}: it is damaged, or of an older version; "
                    "train it again"
                )

    def restore(self, path: Path, tensors: dict[str, np.ndarray], header: dict[str, Any]) -> None:
        """Set calibration, header and self-check from the content of a file; UserError if something is missing."""
        needed = (*self.statistics(), *self.constants(), selfcheck.SCORE, selfcheck.MAP)
        missing = [name for name in needed if name not in tensors]
        if missing:
            raise UserError(f"{path} lacks {', '.join(missing)}: it is damaged, or of an older version; train it again")
        self.checks = {name: tensors[name] for name in (selfcheck.SCORE, selfcheck.MAP)}
        self.calibration, self.header = Calibration.from_dict(header["calibration"]), header


def versions() -> dict[str, str]:
    """Return the versions of the packages that results depend on."""
    return {
        "paddlepatch": deploy.__version__,
        "paddle": paddle.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def is_backbone(file: Path) -> bool:
    """Whether `file` is a backbone that can be read."""
    try:
        read_tensors(file, "backbone")
    except UserError:
        return False
    return True
