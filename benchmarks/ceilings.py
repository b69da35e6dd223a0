"""Limits of this machine: arithmetic of matrix products per second, and bytes moved per second."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import paddle
from paddle import nn
from paddle.static import InputSpec

from deploy.errors import UserError
from deploy.pictures.stream import cores
from deploy.runtime.program import Program, Runtime, save_program
from deploy.storage.files import scratch_folder

from .engines import missing, openvino
from .gemm import SIZE, best_rate, numpy_rate
from .onnx_graph import Graph

BYTES = 1 << 28
"""Size of each array that is copied or read, much larger than any cache."""


def measure(threads: int) -> dict[str, float | str]:
    """Return GFLOP/s and GB/s by name, or a text that says why there is no number.

    `fp32` and `bf16` are the best rates of their kind.
    """
    found: dict[str, float | str] = {f"numpy fp32 product, {t} threads": numpy_rate(t) for t in {1, threads}}
    found["Paddle fp32 product"] = _paddle_rate(Runtime(threads=threads))
    try:
        found["Paddle bf16 product"] = _paddle_rate(Runtime(threads=threads, precision="bf16"))
    except UserError as error:
        found["Paddle bf16 product"] = str(error)
    for precision in ("fp32", "bf16"):
        found[f"OpenVINO {precision} product"] = missing("onnx", "openvino") or _openvino_rate(threads, precision)
    found["copy"] = _copy_rate()
    found["read"] = _read_rate()
    for precision in ("fp32", "bf16"):
        rates = [rate for name, rate in found.items() if f"{precision} product" in name and not isinstance(rate, str)]
        if rates:
            found[precision] = max(rates)
    return found


class _Product(nn.Layer):
    def __init__(self, right: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("right", paddle.to_tensor(right))

    def forward(self, left: paddle.Tensor) -> paddle.Tensor:
        return paddle.matmul(left, self.right)


def _matrices() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.standard_normal((SIZE, SIZE)).astype(np.float32) for _ in range(2)]


def _paddle_rate(runtime: Runtime) -> float:
    left, right = _matrices()
    with scratch_folder() as folder:
        files = save_program(_Product(right), [InputSpec([None, SIZE], "float32", "image")], folder)
        program = Program(*files, runtime)
    return best_rate(2e-9 * SIZE**3, lambda: program.run(left))


def _openvino_rate(threads: int, precision: str) -> float:
    left, right = _matrices()
    graph = Graph()
    product = graph.add("MatMul", "image", graph.constant(right))
    run = openvino(graph.model({"image": left.shape}, {product: left.shape}), threads, precision)
    return best_rate(2e-9 * SIZE**3, lambda: run(left))


def _copy_rate() -> float:
    """Return GB/s of copying with one thread per core; each byte is counted twice, as read and as written."""
    source, target = np.ones(BYTES, np.uint8), np.empty(BYTES, np.uint8)
    parts = np.array_split(np.arange(BYTES), cores())
    slices = [slice(int(part[0]), int(part[-1]) + 1) for part in parts]
    with ThreadPoolExecutor(len(slices)) as pool:
        return best_rate(2e-9 * BYTES, lambda: list(pool.map(lambda s: np.copyto(target[s], source[s]), slices)))


def _read_rate() -> float:
    """Return GB/s of adding up many numbers, on all cores."""
    numbers = np.ones(BYTES // 4, np.float32)
    return best_rate(1e-9 * BYTES, lambda: _total(numbers))


@numba.njit(cache=True, parallel=True, fastmath=True)
def _total(numbers: np.ndarray) -> float:
    total = np.float32(0)
    for i in numba.prange(len(numbers)):
        total += numbers[i]
    return total
