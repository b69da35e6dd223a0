"""A loaded model that scores the contents of picture files and returns answers as json."""

from __future__ import annotations

import base64
import json
import math
import traceback
from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, TypeVar

from ..errors import UserError
from ..pictures.decode import Encoded, TooLarge, encode_png
from ..pictures.stream import Loaded, load, prefetch
from ..predictor import Prediction, Predictor
from ..results.heatmap import panel
from ..results.regions import facts as region_facts
from ..results.regions import find_regions
from ..results.tables import facts
from ..runtime.program import Program
from .settings import Job

NAME = "sent"
"""Name of every picture instead of a path; names given by clients are not used."""
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Answer:
    """The answer to one request."""

    status: int
    """HTTP status."""
    body: bytes
    """json text."""
    defective: bool = False

    @classmethod
    def of(cls, status: int, values: dict[str, Any]) -> Answer:
        """Make an answer from plain json types; infinite numbers and NaN become null."""
        known = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        return cls(status, json.dumps(known, allow_nan=False).encode(), bool(values.get("defective")))


class Scorer:
    """A model loaded for a job, which answers requests; models share `programs`, see `Predictor.load`."""

    def __init__(self, job: Job, programs: MutableMapping[tuple[str, str], Program]) -> None:
        self.job = job
        self.predictor = Predictor.load(job.stats, job.model_file, job.params_file, job.runtime, programs)
        self.levels = self.predictor.calibration.at(job.threshold, scaled=True, false_alarm=job.false_alarm)

    def answers(self, pictures: Sequence[Encoded], wanted: Sequence[bool]) -> list[Answer]:
        """Score pictures in one run, and draw the heat maps where `wanted` is True; return one answer per picture.

        A picture that cannot be read gets an answer that says so; the others are scored.
        """
        found: dict[int, Any] = dict(self._each(partial(load, preprocess=self.predictor.preprocess), pictures))
        good = {number: item for number, item in found.items() if isinstance(item, Loaded)}
        if good:
            scored = tried(lambda: self.predictor.score(list(good.values())))
            found.update(zip(good, [scored] * len(good) if isinstance(scored, Answer) else scored))
        described = dict(self._each(lambda number: self.answer(found[number], wanted[number]), range(len(pictures))))
        return list(described.values())

    def answer(self, found: Prediction | Answer, heat_map: bool) -> Answer:
        """Make the answer for one picture from its prediction; an answer (about an error) is returned as it is."""
        if isinstance(found, Answer):
            return found
        regions = find_regions(found, self.levels, self.predictor.preprocess, self.job.least_area)
        values = {
            **facts(found.score, self.levels),
            "height": found.shape[0],
            "width": found.shape[1],
            "regions": [region_facts(region) for region in regions],
        }
        if heat_map:
            png = encode_png(panel(found, self.levels, self.predictor.preprocess, regions=regions))
            values["heat_map"] = base64.b64encode(png).decode()
        return Answer.of(200, values)

    def _each(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterable[tuple[int, Result | Answer]]:
        """Run `work` on each item, on the decoding threads; yield index and result, or the answer about its error."""
        results = prefetch(work, items, self.job.workers)
        return ((number, tried(result)) for number, (_, result) in enumerate(results))


def tried(call: Callable[[], Result]) -> Result | Answer:
    """Return the result of the call, or an answer that says why it failed."""
    try:
        return call()
    except TooLarge as error:
        return Answer.of(413, {"detail": str(error)})
    except UserError as error:
        return Answer.of(400, {"detail": str(error)})
    except Exception:  # a bug, or no memory: the other pictures must still be answered
        traceback.print_exc()
        return Answer.of(500, {"detail": "this picture could not be scored; the server's log says why"})
