"""The methods by name. A new one is a file in this folder and a line here."""

from __future__ import annotations

from pathlib import Path

from deploy.errors import UserError
from deploy.files import read_tensors
from deploy.program import Runtime

from .method import AnomalyMethod
from .patchcore import PatchCore

METHODS: dict[str, type[AnomalyMethod]] = {method.NAME: method for method in (PatchCore,)}
ALIASES = {"coreset": "patchcore"}  # the predecessor's names


def method_named(name: str) -> type[AnomalyMethod]:
    """The class for a method's name or alias; UserError for an unknown one."""
    try:
        return METHODS[ALIASES.get(name, name)]
    except KeyError:
        raise UserError(f"--method {name} is unknown: choose one of {', '.join([*METHODS, *ALIASES])}") from None


def load_model(path: str | Path, runtime: Runtime | None = None) -> AnomalyMethod:
    """Load a model of whatever method its file says; errors as in `AnomalyMethod.load`."""
    return method_named(read_tensors(path, "model")[1]["method"]).load(path, runtime)
