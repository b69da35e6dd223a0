"""Backbones, methods, coreset and search. `from models import PatchCore`."""

from .method import AnomalyMethod
from .orthoad import OrthoAD
from .padim import PaDiM
from .patchcore import PatchCore
from .registry import ALIASES, METHODS, load_model, method_named

__all__ = ["ALIASES", "METHODS", "AnomalyMethod", "OrthoAD", "PaDiM", "PatchCore", "load_model", "method_named"]
