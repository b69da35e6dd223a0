"""Backbones, methods, coreset and search. `from models import PatchCore`."""

import deploy  # noqa: F401  before everything else: it imports Paddle without its notices

from .base.augment import Augment
from .base.detector import Detector
from .base.finished import changed_since_fit, is_finished
from .base.method import AnomalyMethod
from .ensemble import Ensemble
from .orthoad import OrthoAD
from .padim import PaDiM
from .patchcore import PatchCore
from .registry import ALIASES, METHODS, build_model, load_model, method_named, model_text, variant_name
from .spade import SPADE

__all__ = [
    "ALIASES",
    "METHODS",
    "SPADE",
    "AnomalyMethod",
    "Augment",
    "Detector",
    "Ensemble",
    "OrthoAD",
    "PaDiM",
    "PatchCore",
    "build_model",
    "changed_since_fit",
    "is_finished",
    "load_model",
    "method_named",
    "model_text",
    "variant_name",
]
