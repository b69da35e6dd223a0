"""Other inference runtimes, each as a function from picture to outputs."""

from __future__ import annotations

from importlib.util import find_spec
from io import BytesIO
from typing import Callable

import numpy as np

Run = Callable[[np.ndarray], list[np.ndarray]]


def missing(*modules: str) -> str | None:
    """Return `X is not installed` for the first of `modules` that is missing, else None."""
    return next((f"{module} is not installed" for module in modules if find_spec(module) is None), None)


def onnxruntime(model: bytes, threads: int) -> Run:
    """ONNX Runtime on the CPU, fp32, all graph optimisations; the input is named `image`."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})


def openvino(model: bytes, threads: int, precision: str) -> Run:
    """OpenVINO on the CPU; `precision` is fp32 or bf16."""
    import openvino as ov

    settings = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # other contestants use the same cores
    }
    core = ov.Core()
    compiled = core.compile_model(core.read_model(BytesIO(model)), "CPU", settings)
    request = compiled.create_infer_request()

    def run(image: np.ndarray) -> list[np.ndarray]:
        request.infer({"image": image}, share_inputs=True)
        return [request.get_output_tensor(number).data.copy() for number in range(len(compiled.outputs))]

    return run
