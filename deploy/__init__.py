"""Saving, loading and running programs. Knows nothing of the methods; `infer.py` needs this package alone."""

from .calibration import Calibration
from .errors import UserError
from .predictor import Prediction, Predictor
from .preprocess import Preprocess
from .program import Program, Runtime, save_program

__all__ = ["Calibration", "Prediction", "Predictor", "Preprocess", "Program", "Runtime", "UserError", "save_program"]
__version__ = "0.1.0"
