"""Ensemble of one method on several backbones, or on several sets of layers: one program, one model file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable

import numpy as np
import paddle
from paddle import nn

from deploy.errors import UserError
from deploy.pictures.decode import Picture
from deploy.pictures.stream import picture_name
from deploy.runtime.program import Runtime
from deploy.storage.tensors import read_tensors

from .base.detector import Detector, OnBad
from .base.method import AnomalyMethod
from .base.spool import Spool
from .base.tiling import MapAndScore

FLOOR = 0.01
"""Smallest spread, as a share of the mean level: the values of a few pictures can be nearly equal by chance."""


class Ensemble(Detector):
    """The mean of several members' maps and scores, after division of each by its spread over good pictures.

    A member has two spreads: the standard deviation of its image scores, and that of its map's values, both on training
    pictures that were held out. Division by them gives all members the same weight, whatever their units, and needs no
    test pictures (patchcore-inspection scales each member by the smallest and largest score of the test set). The mean
    level is not subtracted: this would only shift all scores, and 0 would lose its meaning.

    Args:
        members: models of one method, with the same `k`, options and preprocessing; `fit` fits all of them.

    Raises:
        UserError: the members differ in method, `k`, options or preprocessing.
    """

    def __init__(self, members: Sequence[AnomalyMethod]) -> None:
        first = members[0]
        super().__init__(first.preprocess, first.seed, first.runtime)
        for other in members[1:]:
            shared = [(type(m), m.k, m.options, m.preprocess) for m in (first, other)]
            if shared[0] != shared[1]:
                names = [f"--{name}" for name, value in first.options.items() if other.options.get(name) != value]
                raise UserError(
                    "the members of an ensemble must share method, k, options and preprocessing"
                    + (f": give one {', '.join(names)} for all" if names else "")
                )
        self.members = nn.LayerList(members)
        self.NAME = first.NAME
        self.register_buffer("spreads", paddle.ones([len(members), 2]))
        self.eval()

    def methods(self) -> list[AnomalyMethod]:
        """Return the members."""
        return list(self.members)

    def statistics(self) -> dict[str, paddle.Tensor]:
        """Return `spreads` [members, 2] (of the map, of the score), and the statistics of every member."""
        return {"spreads": self.spreads, **self._gather(lambda member: member.statistics())}

    def free_dimensions(self) -> dict[str, tuple[int, ...]]:
        """Return the free dimensions of every member's statistics."""
        return self._gather(lambda member: member.free_dimensions())

    def traced_numbers(self) -> tuple[int, ...]:
        """Return the traced numbers of all members, one after the other."""
        return tuple(number for member in self.members for number in member.traced_numbers())

    def constants(self) -> dict[str, paddle.Tensor]:
        """Return the constants of every member."""
        return self._gather(lambda member: member.constants())

    def score(
        self, image: paddle.Tensor, spreads: paddle.Tensor, *statistics: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Return the mean over the members of map / spread and of score / spread."""
        maps, scores, start = [], [], 0
        for number, member in enumerate(self.members):
            count = len(member.statistics())
            anomaly_map, score = member.score(image, *statistics[start : start + count])
            start += count
            spread = paddle.index_select(spreads, paddle.arange(number, number + 1)).reshape([2, 1])
            of_map, of_score = (paddle.index_select(spread, paddle.arange(i, i + 1)) for i in (0, 1))
            maps.append(anomaly_map / of_map.reshape([1, 1, 1]))
            scores.append(score / of_score.reshape([1]))
        return sum(maps[1:], maps[0]) / len(maps), sum(scores[1:], scores[0]) / len(scores)

    def fit_statistics(
        self,
        pictures: list[Picture],
        batch_size: int,
        workers: int | None,
        on_bad: OnBad | None,
        log: Callable[[str], None],
    ) -> Iterator[MapAndScore]:
        """Fit the members one after the other, so that one member's features are stored at a time; then the spreads."""
        if self.group.size > 1:
            raise UserError("an ensemble is fitted by one process: start as many as categories, or fewer")
        bad: set[str] = set()

        def skip(name: str, error: UserError) -> None:
            bad.add(name)
            on_bad(name, error)

        maps, scores, shapes, spreads = [], [], [], []
        for member in self.members:
            text = f"{member.backbone.arch} {','.join(member.layers)}"
            answers = member.fit_statistics(
                pictures, batch_size, workers, skip if on_bad else None, lambda t, text=text: log(f"{text}: {t}")
            )
            maps.append(Spool(None, 1))
            scores.append([])
            shapes, moments = [], np.zeros(3)
            for anomaly_map, score in answers:
                maps[-1].append(anomaly_map.reshape(-1, 1))
                shapes.append(anomaly_map.shape)
                scores[-1].append(score)
                values = anomaly_map.astype(np.float64)
                moments += (values.size, values.sum(), (values * values).sum())
            for stage, seconds in member.stages.seconds.items():
                self.stages.add(stage, seconds)
            pictures = [item for number, item in enumerate(pictures) if picture_name(item, number) not in bad]
            bad.clear()  # the arrays that are left have new numbers, and so other names
            of_scores = np.array(scores[-1])
            mean, mean_square = moments[1:] / moments[0]
            deviation = np.sqrt(max(mean_square - mean**2, 0))
            spreads.append([_spread(deviation, mean), _spread(of_scores.std(), of_scores.mean())])
        self.names, self.brightness = self.members[0].names, self.members[0].brightness
        self.load_statistics({"spreads": np.array(spreads, np.float32)})
        return self._joined(maps, shapes, scores)

    def _joined(
        self, maps: list[Spool], shapes: list[tuple[int, int]], scores: list[list[float]]
    ) -> Iterator[MapAndScore]:
        """Yield the ensemble's map and score of each picture from those of the members, in units of their spreads."""
        start, spreads = 0, self.fitted["spreads"]
        for (height, width), of_members in zip(shapes, zip(*scores)):
            parts = [of.read_block(start, height * width) / spread for of, spread in zip(maps, spreads[:, 0])]
            start += height * width
            score = float((np.array(of_members) / spreads[:, 1]).mean())
            yield sum(parts).reshape(height, width) / len(parts), score

    def load_statistics(self, statistics: dict[str, np.ndarray]) -> None:
        """Set the ensemble's own statistics; the members keep theirs."""
        super().load_statistics(statistics)
        self.fitted.update(self._gather(lambda member: member.fitted))

    def config(self) -> dict[str, Any]:
        """Return the header values that the members share, and those of each member."""
        each = [member.config() for member in self.members]
        own = ("arch", "layers", "backbone")
        members = [{**{key: of[key] for key in own}, "seed": member.seed} for member, of in zip(self.members, each)]
        return {
            **{key: value for key, value in each[0].items() if key not in own},
            "arch": "+".join(of["arch"] for of in each),
            "layers": [",".join(of["layers"]) for of in each],
            "members": members,
        }

    @classmethod
    def load(cls, path: str | Path, method: type[AnomalyMethod], runtime: Runtime | None = None) -> Ensemble:
        """Load an ensemble of `method` that `save` wrote; UserError as in `AnomalyMethod.load`."""
        tensors, header = read_tensors(path, "model")
        members = []
        for number, own in enumerate(header["members"]):
            prefix = _prefix(number)
            part = {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
            members.append(method.from_header(Path(path), part, {**header, **own}, runtime))
        model = cls(members)
        model.restore(Path(path), tensors, header)
        model.check_shapes(Path(path), {"spreads": tensors["spreads"]})
        if tensors["spreads"].shape[0] != len(members):
            raise UserError(f"{path} is damaged: it has spreads for other members than it names; train it again")
        model.load_statistics({"spreads": tensors["spreads"]})
        return model

    def _gather(self, what: Callable[[AnomalyMethod], dict[str, Any]]) -> dict[str, Any]:
        return {
            _prefix(number) + name: value
            for number, member in enumerate(self.members)
            for name, value in what(member).items()
        }


def _prefix(number: int) -> str:
    return f"member{number}_"


def _spread(deviation: float, level: float) -> float:
    return float(max(deviation, FLOOR * abs(level), np.finfo(np.float32).tiny))
