"""The methods by name. A new one is a file in this folder and a line here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deploy.errors import UserError
from deploy.program import Runtime
from deploy.tensors import read_header

from .method import AnomalyMethod
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
}
"""The predecessor's names: a method and the options that the name stands for."""


def method_named(name: str) -> tuple[type[AnomalyMethod], dict[str, Any]]:
    """The class and options for a method's name or alias; UserError for an unknown one."""
    own, options = ALIASES.get(name, (name, {}))
    if own not in METHODS:
        raise UserError(f"--method {name} is unknown: choose one of {', '.join([*METHODS, *ALIASES])}")
    return METHODS[own], options


def load_model(path: str | Path, runtime: Runtime | None = None) -> AnomalyMethod:
    """Load a model of whatever method its file says; errors as in `AnomalyMethod.load`."""
    return method_named(read_header(path, "model")["method"])[0].load(path, runtime)
