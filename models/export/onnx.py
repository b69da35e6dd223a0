"""Convert saved programs to ONNX with paddle2onnx, and run them with ONNX Runtime for comparison."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
from pathlib import Path
from types import ModuleType

import numpy as np
import paddle

from deploy.errors import UserError
from deploy.runtime.program import Runtime

OPSET = 17


def to_onnx(model_file: Path, params_file: Path, path: Path) -> Path:
    """Convert a saved program to the ONNX file `path`; inputs and outputs keep their names and order.

    Raises:
        UserError: paddle2onnx is not installed, or cannot convert the program.
    """
    converter, said = needed("paddle2onnx"), io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            # no optimiser, because the default one installs packages with pip while it runs
            converter.export(str(model_file), str(params_file), str(path), opset_version=OPSET, optimize_tool="None")
    except (RuntimeError, AssertionError, ValueError, TypeError, OSError) as error:
        raise UserError(f"--format onnx: paddle2onnx cannot convert this program ({error})") from error
    if not path.is_file():
        raise UserError(f"--format onnx: paddle2onnx wrote nothing ({said.getvalue().strip()[-300:]})")
    return path


class OnnxProgram:
    """Runs an ONNX file on the CPU, with the interface of `deploy.Program`."""

    def __init__(self, path: Path) -> None:
        onnxruntime = needed("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: it would warn about every constant that the graph does not use
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.name, self.runtime = str(path), Runtime()
        self.inputs = [entry.name for entry in self._session.get_inputs()]
        self.outputs = [entry.name for entry in self._session.get_outputs()]
        self._held: dict[str, np.ndarray] = {}
        self.user: object = None

    def set(self, values: dict[str, np.ndarray]) -> None:
        """Set inputs by name; they stay set for all later runs."""
        self._held.update(values)

    def run(self, image: np.ndarray) -> list[np.ndarray]:
        """Run on one batch of images and return map and score."""
        return self._session.run(None, {**self._held, "image": image})


def needed(name: str) -> ModuleType:
    """Import a module; UserError with the pip command when it is not installed."""
    try:
        logging.getLogger(name).setLevel(logging.ERROR)
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"--format onnx needs {name}: pip install paddle2onnx onnxruntime") from error
    except ValueError as error:  # raised by paddle2onnx with Paddle 2
        version = paddle.__version__
        raise UserError(f"--format onnx: {name} does not work with Paddle {version}; use Paddle 3") from error
