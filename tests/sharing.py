"""Models of one test process share what is the same in them: backbones, and programs that are traced alike.

As the models of one run over several categories do; making these again and again was a third of many tests' time.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Callable, TypeVar

from deploy.pictures.preprocess import height_width
from deploy.runtime.program import Program
from deploy.storage.tensors import fingerprint
from models import spade
from models.backbones.backbone import Backbone
from models.backbones.weights import find_weights
from models.base import method
from models.base.detector import Detector

Made = TypeVar("Made")
MOST = 24
"""How many of each kind are kept."""


class Kept:
    """What was made last, by what it was made of."""

    def __init__(self) -> None:
        self._made: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What is there, or else is made."""
        made = self._made[key] = self._made.pop(key, None) or make()
        if len(self._made) > MOST:
            self._made.popitem(last=False)
        return made


def share_between_models() -> None:
    """Let methods share backbones, and detectors share programs, in this process."""
    backbones, programs, compiled = Kept(), Kept(), Detector.compiled

    def backbone(arch: str, layers: Any, size: Any, weights: Any, seed: int) -> Backbone:
        found = find_weights(arch, weights)
        of = seed if found.arrays is None else fingerprint(found.arrays)
        key = arch, tuple(layers), height_width(size), found.source, of
        return backbones.get(key, lambda: Backbone(arch, layers, size, weights, seed))

    def shared(self: Detector, compiler: Callable[..., Program], key: Any = None) -> Program:
        # what a file must say for the same model to be made again
        config = {name: value for name, value in self.config().items() if name != "data"}
        made_of = json.dumps([config, self.preprocess.to_dict(), self.seed], sort_keys=True)
        constants = fingerprint({name: tensor.numpy() for name, tensor in self.constants().items()})
        whole = compiler, type(self), made_of, constants, str(self.runtime), key
        return programs.get(whole, lambda: compiled(self, compiler, key))

    for place in (method, spade):
        place.Backbone = backbone
    Detector.compiled = shared
