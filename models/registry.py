"""Registry of the methods by name. To add a method, add a file in this folder and a line here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.errors import UserError
from deploy.results.description import header_text
from deploy.runtime.program import Runtime
from deploy.storage.tensors import read_header

from .base.detector import Detector
from .base.method import AnomalyMethod
from .ensemble import Ensemble
from .orthoad import OrthoAD
from .padim import PaDiM
from .patchcore import PatchCore
from .spade import SPADE

METHODS: dict[str, type[AnomalyMethod]] = {method.NAME: method for method in (PatchCore, PaDiM, OrthoAD, SPADE)}
ALIASES: dict[str, tuple[str, dict[str, Any]]] = {
    "coreset": ("patchcore", {}),
    "sample": ("padim", {"channels": "random"}),
    "h_sample": ("padim", {"channels": "even"}),
    "ortho": ("orthoad", {"orthogonal": "qr"}),
    "svd_ortho": ("orthoad", {"orthogonal": "svd"}),
    "gaussian": ("orthoad", {"orthogonal": "none"}),
}
"""Names used by this project's predecessor, each with its method and options."""


def method_named(name: str) -> tuple[type[AnomalyMethod], dict[str, Any]]:
    """Return the class and options for a method's name or alias; UserError for an unknown one."""
    own, options = ALIASES.get(name, (name, {}))
    if own not in METHODS:
        raise UserError(f"--method {name} is unknown: choose one of {', '.join([*METHODS, *ALIASES])}")
    return METHODS[own], options


def variant_name(method: str, options: dict[str, Any]) -> str:
    """Return the name of a method with these options: its own name, or `h_sample`, `svd_ortho` or `gaussian`."""
    standard = method_named(method)[0].OPTIONS
    for name, (own, chosen) in ALIASES.items():
        if own == method and chosen.items() <= options.items() and not chosen.items() <= standard.items():
            return name
    return method


def model_text(model: Detector) -> str:
    """Return one line about a fitted model: method, size, threshold, and the options that differ from the defaults."""
    shapes = {name: value.shape for name, value in model.fitted.items()}
    return header_text(model.header, shapes, *differing(model.header))


def differing(header: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a model's variant name (see `variant_name`) and the options that differ from its defaults."""
    options, method = header["options"], method_named(header["method"])[0]
    name = variant_name(method.NAME, options)
    standard = method_named(name)[1]

    def default(option: str) -> Any:
        """The value that the option has if it is not given and all others are."""
        others = {other: value for other, value in options.items() if other != option}
        return {**method.resolve(header["arch"].split("+")[0], others), **standard}[option]

    return name, {option: value for option, value in options.items() if value != default(option)}


def build_model(
    name: str,
    archs: Sequence[str],
    layers: Sequence[Sequence[str] | None],
    weights: Sequence[str | Path | None],
    seed: int = 521,
    **arguments: Any,
) -> Detector:
    """Build an unfitted model: the method called `name`, or an ensemble of it when there are several `archs`.

    `layers` and `weights` are per backbone, `arguments` are those of `AnomalyMethod`; member number i has seed + i.

    Raises:
        UserError: an argument is not usable, or `archs`, `layers` and `weights` are not equally many.
    """
    method, options = method_named(name)
    counts = len(archs), len(layers), len(weights)
    if len(set(counts)) > 1 or not archs:
        told = "{} archs, {} layers and {} weights".format(*counts)
        raise UserError(f"{told}: give one of each for every backbone, and None where the default is wanted")
    arguments = {**options, **arguments}
    members = [
        method(arch, layers=own_layers, weights=own_weights, seed=seed + number, **arguments)
        for number, (arch, own_layers, own_weights) in enumerate(zip(archs, layers, weights))
    ]
    return members[0] if len(members) == 1 else Ensemble(members)


def load_model(path: str | Path, runtime: Runtime | None = None) -> Detector:
    """Load a model or an ensemble; its file says of which method. Errors as in `AnomalyMethod.load`."""
    header = read_header(path, "model")
    method = method_named(header["method"])[0]
    return Ensemble.load(path, method, runtime) if "members" in header else method.load(path, runtime)
