"""Named settings of the methods, which `--preset` of train.py chooses."""

from __future__ import annotations

from typing import Any, NamedTuple

from deploy.errors import UserError
from deploy.pictures.preprocess import Preprocess

from .registry import METHODS, method_named


class Preset(NamedTuple):
    """All settings of a model except its data, its backbone and the seed."""

    preprocess: Preprocess
    layers: tuple[str, ...]
    k: float
    options: dict[str, Any]
    """Options of the method that differ from the defaults of its class."""
    whole: int | None = None
    """Pictures far from square are seen whole, in an input of about as many pixels as a square of this side has.

    None: about as many as the crop has.

    It is given where the crop is large: more pixels show more of a surface's grain, and then KolektorSDD's cracks are
    found less well.
    """


FINE = {"grid": "layer2", "image_score": "density", "score_sigma": 0.7}
"""Options of PatchCore on layer1 to layer3: patches on the grid of layer2."""
MEANS = {**FINE, "lloyd": 0.5}
"""The same, and the bank's rows are moved half of the way to the means of their patches."""
PAPER = "paper"
PRESETS: dict[str, dict[str, Preset]] = {
    name: {PAPER: Preset(Preprocess(256, 224), method.LAYERS, method.K, {})} for name, method in METHODS.items()
}
"""Presets by method and name. `paper` has the settings of the method's paper for a ResNet-18."""
PRESETS["patchcore"] |= {
    "fast": Preset(Preprocess(256, 224), ("layer1", "layer2", "layer3"), 1.0, FINE),
    "balanced": Preset(Preprocess(366, 320), ("layer1", "layer2", "layer3"), 3.0, MEANS),
    "best": Preset(Preprocess(458, 400), ("layer1", "layer2", "layer3"), 5.0, MEANS, whole=320),
}
for name in ("padim", "orthoad"):
    options = {"grid": "layer2", "power": 0.75, "eps": 0.004}
    options |= {"image_score": "top", "score_sigma": 1.0, "score_top": 2.0}
    PRESETS[name]["balanced"] = Preset(Preprocess(256, 256), ("layer1", "layer2", "layer3"), 100, options)
PRESETS["spade"]["balanced"] = Preset(
    Preprocess(256, 256),
    ("layer2", "layer3"),
    50,
    {"descriptor_layer": "layer3", "image_score": "top", "score_top": 2.0},
)
DEFAULT = "balanced"
"""The preset that is used if none is given."""


def preset(method: str, name: str | None = None) -> Preset:
    """Return the preset called `name` of a method; `method` may be an alias.

    `build_model("patchcore", ["resnet18"], [found.layers], [None], k=found.k, preprocess=found.preprocess,
    **found.options)` builds a model from the preset `found`.

    Raises:
        UserError: the method has no preset of that name.
    """
    own = method_named(method)[0].NAME
    found = PRESETS[own].get(name or DEFAULT)
    if found is None:
        raise UserError(f"--preset {name}: {own} has {', '.join(PRESETS[own])}")
    return found
