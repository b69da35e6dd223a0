"""Backbones, methods, coreset and search. `from models import PatchCore`."""

from .method import AnomalyMethod
from .orthoad import OrthoAD
from .padim import PaDiM
from .patchcore import PatchCore
from .registry import ALIASES, METHODS, load_model, method_named
from .spade import SPADE

__all__ = ["ALIASES", "METHODS", "SPADE", "AnomalyMethod", "OrthoAD", "PaDiM", "PatchCore", "load_model", "method_named"]
