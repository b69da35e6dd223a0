"""Saving, loading and running programs, independent of the methods. `infer.py` needs only this package.

`pip install .` installs it, and nothing else of the repository, as the package `paddlepatch`.
"""

import sys

try:
    from .calibration import Calibration
    from .errors import UserError
    from .pictures.preprocess import Preprocess
    from .predictor import Prediction, Predictor
    from .runtime.program import Program, Runtime, save_program
except KeyboardInterrupt:  # importing Paddle takes seconds
    if not hasattr(sys.modules.get("__main__"), "__file__"):
        raise  # in a console or notebook, which must not exit
    print("interrupted: nothing was begun", file=sys.stderr)
    sys.exit(130)

__all__ = ["Calibration", "Prediction", "Predictor", "Preprocess", "Program", "Runtime", "UserError", "save_program"]
__version__ = "0.1.0"
