"""Backbones, methods, coreset and search. `from models import PatchCore`."""

from .method import AnomalyMethod
from .patchcore import PatchCore
from .registry import ALIASES, METHODS, load_model, method_named

__all__ = ["ALIASES", "METHODS", "AnomalyMethod", "PatchCore", "load_model", "method_named"]
