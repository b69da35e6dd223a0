"""The runner: a compiled program, its statistics, and the header that describes them."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np

from .calibration import Calibration
from .errors import UserError
from .pictures.decode import Picture, several
from .pictures.preprocess import Preprocess
from .pictures.stream import Loaded, batches, stream
from .runtime import selfcheck
from .runtime.autolog import Times
from .runtime.program import Program, Runtime, graph_file
from .storage.tensors import read_tensors


@dataclass
class Prediction:
    """The result for one picture."""

    name: str
    """The picture's path, or `picture N` for an array, where N counts all pictures from 0."""
    score: float
    """Raw image score, 0 and up; comparable between pictures of one model."""
    anomaly_map: np.ndarray
    """float32 [height, width], raw distances, at least 0; it covers the part of the picture that is examined."""
    resized: np.ndarray
    """The picture, uint8 RGB, resized; `anomaly_map` covers its centre crop, or all of it if it is tiled."""
    shape: tuple[int, int]
    """Height and width of the picture before resizing."""
    brightness: float
    """Mean pixel value, 0 to 255, of the part that is examined."""


class Predictor:
    """Scores pictures with a loaded program.

    Args:
        program: takes `image` and the statistics by name as inputs; returns map [batch, crop, crop] and score [batch].
        tensors: the statistics by input name, and the stored result of the self-check.
        header: `preprocess`, `calibration` and the rest of the model's description.

    Raises:
        UserError: a statistic that the program needs is missing, or the program fails its self-check.
    """

    def __init__(self, program: Program, tensors: dict[str, np.ndarray], header: dict[str, Any]) -> None:
        self.program, self.header = program, header
        self.preprocess = Preprocess.from_dict(header["preprocess"])
        self.calibration = Calibration.from_dict(header["calibration"])
        self.times = Times()
        self.shapes = {name: value.shape for name, value in tensors.items()}
        """Shapes of the arrays in the stats file, by name."""
        statistics = [name for name in program.inputs if name != "image"]
        missing = [name for name in (*statistics, selfcheck.SCORE, selfcheck.MAP) if name not in tensors]
        if missing or "image" not in program.inputs or len(program.outputs) != 2:
            raise UserError(
                f"{program.name} and the stats are not of one export: the program wants {program.inputs}, "
                f"the stats hold {sorted(tensors)}; give the files of one export"
            )
        self._statistics = {name: tensors[name] for name in statistics}
        anomaly_map, score = self._run(self.to_input(selfcheck.probe(self.preprocess)))
        self.selfcheck = selfcheck.verify(tensors, anomaly_map, score, program.runtime.precision, program.name)

    def to_input(self, crops: np.ndarray) -> np.ndarray:
        """Convert crops, uint8 RGB [batch, crop, crop, 3], to the input type of the program (uint8 or float32)."""
        return np.ascontiguousarray(crops) if self.header.get("input") == "uint8" else self.preprocess.normalise(crops)

    @classmethod
    def load(
        cls,
        stats: str | Path,
        model_file: str | Path | None = None,
        params_file: str | Path | None = None,
        runtime: Runtime | None = None,
        programs: MutableMapping[tuple[str, str], Program] | None = None,
    ) -> Predictor:
        """Load an export. The program's files default to `model.json` or `model.pdmodel` beside the stats file.

        `programs` holds loaded programs by the fingerprints of their files. If the program is in it, it is shared;
        otherwise it is loaded and added. Models that share a program must be used in one thread.

        Raises:
            UserError: a file is missing or damaged, or belongs to another export.
        """
        tensors, header = read_tensors(stats, "stats")
        known = header["program"]["graph_sha256"], header["program"]["params_sha256"]
        programs = {} if programs is None else programs
        program = programs.get(known) or Program(*_program_files(stats, header, model_file, params_file), runtime)
        programs[known] = program
        return cls(program, tensors, header)

    def clone(self) -> Predictor:
        """Return a second predictor with the same program, for another thread; both share weights and statistics."""
        twin = copy.copy(self)
        twin.program, twin.times = self.program.clone(), Times()
        return twin

    def predict(
        self,
        pictures: Iterable[Picture],
        batch_size: int = 1,
        workers: int | None = None,
        on_bad: Callable[[str, UserError], None] | None = None,
    ) -> Iterator[Prediction]:
        """Score pictures in order; they are decoded ahead, see `stream` for `workers` and `on_bad`."""
        loaded = stream(several(pictures), self.preprocess, workers, on_bad)
        for group in batches(loaded, 1 if self.preprocess.tiled else batch_size):
            for prediction in self.score(group, self.times, batch_size):
                begin = time.perf_counter()
                yield prediction
                self.times.add("postprocess", time.perf_counter() - begin)

    def score(self, group: Sequence[Loaded], times: Times | None = None, tiles: int = 1) -> list[Prediction]:
        """Score loaded pictures in one run of the program; tiled pictures one by one, with `tiles` tiles per run.

        The times that it takes are added to `times`.
        """
        if self.preprocess.tiled:
            return [self._by_tiles(item, times, tiles) for item in group]
        begin = time.perf_counter()
        crops = np.stack([self.preprocess.crop(item.resized) for item in group])
        image = self.to_input(crops)
        middle = time.perf_counter()
        maps, scores = self._run(image)
        end = time.perf_counter()
        if times is not None:
            for item in group:
                times.add("preprocess", item.seconds + (middle - begin) / len(group))
                times.add("inference", (end - middle) / len(group))
        return [
            Prediction(item.name, float(score), anomaly_map, item.resized, item.shape, float(crop.mean()))
            for item, anomaly_map, score, crop in zip(group, maps, scores, crops)
        ]

    def _run(self, image: np.ndarray) -> list[np.ndarray]:
        """Run the program on an input; return maps and scores. On the CPU the statistics are not copied."""
        if self.program.user is not self._statistics:
            self.program.set(self._statistics)
            self.program.user = self._statistics
        return self.program.run(image)

    def _by_tiles(self, item: Loaded, times: Times | None, tiles: int) -> Prediction:
        """Score one picture by its tiles: its map is stitched from theirs, its score is the largest of theirs."""
        begin, crop, scores = time.perf_counter(), self.preprocess.crop(item.resized), []

        def maps() -> Iterator[np.ndarray]:
            for some in batches(self.preprocess.parts(crop), tiles):
                found, own = self._run(self.to_input(np.stack(some)))
                scores.extend(own.tolist())
                yield from found

        stitched = self.preprocess.join(maps(), *crop.shape[:2])
        if times is not None:
            times.add("preprocess", item.seconds)
            times.add("inference", time.perf_counter() - begin)
        return Prediction(item.name, max(scores), stitched, item.resized, item.shape, float(crop.mean()))


class Export(NamedTuple):
    """An export's verified files: statistics by name, header, and the program's two files."""

    tensors: dict[str, np.ndarray]
    header: dict[str, Any]
    model_file: Path
    params_file: Path


def read_export(
    stats: str | Path, model_file: str | Path | None = None, params_file: str | Path | None = None
) -> Export:
    """Read an export without loading its program; arguments and errors as `Predictor.load`."""
    tensors, header = read_tensors(stats, "stats")
    return Export(tensors, header, *_program_files(stats, header, model_file, params_file))


def _program_files(
    stats: str | Path, header: dict[str, Any], model_file: str | Path | None, params_file: str | Path | None
) -> tuple[Path, Path]:
    """Find graph and parameters of the export whose stats file has this header; check their fingerprints."""
    model_file = graph_file(model_file or Path(stats).parent / "model")
    params_file = Path(params_file or model_file.with_suffix(".pdiparams"))
    for path, key in ((model_file, "graph_sha256"), (params_file, "params_sha256")):
        if file_sha256(path) != header["program"][key]:
            raise UserError(f"{path} is not the file that {stats} was exported with: damaged, or of another export")
    return model_file, params_file


def file_sha256(path: str | Path) -> str:
    """sha256 of a file's bytes; UserError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the path, or export the model first") from error
    return digest.hexdigest()
