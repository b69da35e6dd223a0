"""Static programs: saving a layer as a program, and running programs with Paddle Inference.

These rules avoid crashes and wrong results without an error, found on Paddle 3.3.1 and 2.6.2 on the CPU:
- oneDNN is on unless `disable_mkldnn` is called, so it is always switched on or off explicitly;
- `enable_memory_optim` fails with json programs on the CPU, so it is never called;
- programs are traced with `full_graph=True`: those traced by SOT crashed in oneDNN's reshape fusion;
- layers that are saved use no `interpolate` and no rank-4 matmul (see `models/graph/resample.py`).
"""

from __future__ import annotations

import copy
import ctypes
import os
import platform
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("GLOG_minloglevel", "2")  # set before paddle is imported, to suppress its notices
# By default OpenMP's threads spin for 200 ms after a run, on cores that decoding needs. 1 ms is enough to bridge the
# gaps within a run.
os.environ.setdefault("KMP_BLOCKTIME", "1")
# GPUs from Ampere on would round float32 to ten bits in products and convolutions (TensorFloat-32), which changes maps
# by up to .006 of their largest value (docs/deployment.md).
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
# glibc returns blocks of 32 MB and more to the system at once. To get them again for every run takes longer than to
# fill them: PatchCore's exact search with a 10 % bank takes 107 ms per picture, and 83 ms if glibc keeps the blocks.
if platform.libc_ver()[0] == "glibc":
    for option, value in ((-3, 1 << 30), (-1, (1 << 31) - 1)):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
        ctypes.CDLL(None).mallopt(option, value)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import paddle
    from paddle import inference

import numpy as np

from ..command_line.parser import MOST_THREADS
from ..errors import UserError
from ..pictures.stream import cores
from ..storage.files import make_folder, scratch_folder

BF16_OPERATORS = {"conv2d", "fused_conv2d", "pool2d", "relu"}
GRAPH_SUFFIXES = (".json", ".pdmodel")  # Paddle 3 and Paddle 2


@dataclass(frozen=True)
class Runtime:
    """Settings of how a program is run. Those of GPU, TensorRT and fp16 are implemented, but were not measured."""

    use_gpu: bool = False
    gpu: int = 0
    """Number of the GPU, from 0."""
    onednn: bool = True
    threads: int | None = None
    """CPU threads; None is one per core."""
    precision: str = "fp32"
    """`fp32`, `bf16` (CPU with AVX512-BF16 or AMX, needs oneDNN) or `fp16` (GPU)."""
    tensorrt: bool = False
    gpu_mem: int = 4000
    """Initial size of the GPU's memory pool, in MiB."""
    ir_optim: bool = True

    def check(self) -> None:
        """Raise UserError if this Paddle build or this machine cannot run with these settings."""
        if self.threads is not None and not (isinstance(self.threads, int) and 1 <= self.threads <= MOST_THREADS):
            raise UserError(f"--cpu_threads {self.threads}: give a whole number from 1 to {MOST_THREADS}")
        if self.use_gpu and not paddle.is_compiled_with_cuda():
            raise UserError("--use_gpu, --gpu: this Paddle build has no CUDA; install paddlepaddle-gpu or use the CPU")
        if self.use_gpu and self.gpu >= paddle.device.cuda.device_count():
            count = paddle.device.cuda.device_count()
            raise UserError(f"--gpu {self.gpu}: Paddle sees {count} GPUs here, numbered from 0; give another or --cpu")
        if self.tensorrt and not self.use_gpu:
            raise UserError("--use_tensorrt needs --use_gpu True: TensorRT runs on NVIDIA GPUs only")
        if self.precision not in ("fp32", "bf16", "fp16"):
            raise UserError(f"--precision {self.precision} is unknown: choose fp32, bf16 or fp16")
        if self.precision == "fp16" and not self.use_gpu:
            raise UserError("--precision fp16 needs a GPU (infer.py: --use_gpu): on the CPU use fp32 or bf16")
        if self.precision == "bf16" and (self.use_gpu or not self.onednn):
            raise UserError("--precision bf16 is oneDNN's: it needs the CPU and --enable_mkldnn True")
        if self.precision == "bf16" and _paddle_2():
            raise UserError(f"--precision bf16 needs Paddle 3: Paddle {paddle.__version__} stays in fp32; leave it out")
        if self.precision == "bf16" and not _cpu_has_bf16():
            raise UserError("--precision bf16: this CPU has neither AVX512-BF16 nor AMX; use --precision fp32")


def gpu_usable() -> bool:
    """Whether this Paddle build has CUDA and sees a GPU."""
    return paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0


class Program:
    """A saved program, loaded. Inputs stay set between runs, so only changed inputs must be set."""

    def __init__(self, model_file: str | Path, params_file: str | Path, runtime: Runtime | None = None) -> None:
        self.runtime = runtime or Runtime()
        self.runtime.check()
        self.name = str(model_file)
        for path in (model_file, params_file):
            if not Path(path).is_file():
                raise UserError(f"no program file at {path}: check the path, or export the model first")
        _check_kind(self.name, self.runtime.precision)
        try:
            self._predictor = inference.create_predictor(_config(model_file, params_file, self.runtime))
        except Exception as error:  # Paddle raises whatever type its C++ error has
            raise UserError(
                f"cannot load program {self.name} in Paddle {paddle.__version__}: {_first_line(error)}; export it again"
            ) from error
        self._held: dict[str, paddle.Tensor] = {}
        self._values: dict[str, np.ndarray] = {}
        """Keeps alive the arrays whose memory the inputs use."""
        self.user: object = None
        """The statistics that are set as inputs, for models that share the program."""
        self.inputs: list[str] = list(self._predictor.get_input_names())
        self.outputs: list[str] = list(self._predictor.get_output_names())

    def clone(self) -> Program:
        """Return the same program for another thread; weights are shared, inputs are not set."""
        twin = copy.copy(self)
        twin._predictor, twin._held, twin._values, twin.user = self._predictor.clone(), {}, {}, None
        return twin

    def set(self, values: Mapping[str, np.ndarray]) -> None:
        """Set inputs by name; they stay set for all later runs. On the CPU they are not copied."""
        for name, value in values.items():
            handle, array = self._predictor.get_input_handle(name), np.ascontiguousarray(value)
            self._values[name] = array
            if self.runtime.use_gpu:
                handle.copy_from_cpu(array)
            else:
                self._held[name] = tensor_over(array)
                handle.share_external_data(self._held[name])

    def run(self, image: np.ndarray, name: str = "image") -> list[np.ndarray]:
        """Set the input `name` to `image`, usually float32 [batch, 3, height, width], run, and return all outputs."""
        try:
            self.set({name: image})
            self._predictor.run()
            return [self._predictor.get_output_handle(name).copy_to_cpu() for name in self.outputs]
        except (RuntimeError, ValueError, OSError, MemoryError) as error:
            raise UserError(f"program {self.name} does not run with these inputs: {_first_line(error)}") from error

    def shrink(self) -> None:
        """Free memory that a run keeps for the next run; called when there will be none for some time."""
        self._predictor.try_shrink_memory()


def release_memory() -> None:
    """Return freed memory to the system, between stages that use much memory; otherwise glibc keeps it (see above)."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def tensor_over(array: np.ndarray) -> paddle.Tensor:
    """Return a CPU tensor that shares the array's memory; of a memory-mapped array, only the used parts are read."""
    name = paddle.utils.unique_name.generate("array")
    return paddle.Tensor(value=array, place=paddle.CPUPlace(), zero_copy=True, name=name, persistable=False)


def save_program(layer: paddle.nn.Layer, inputs: Sequence[Any], folder: str | Path) -> tuple[Path, Path]:
    """Trace `layer` and save it as `folder/model`; `inputs` are paddle.static.InputSpec, nested as in its forward.

    Returns the graph file (`model.json` or, with Paddle 2, `model.pdmodel`) and `model.pdiparams`.
    """
    prefix = make_folder(folder) / "model"
    layer.eval()
    # Paddle's own names contain counters, so the same layer would be saved as a different file later in the process
    for name, tensor in (*layer.named_parameters(), *layer.named_buffers()):
        tensor.name = name
    with warnings.catch_warnings(), _without_stacks(), _sources_apart():
        warnings.simplefilter("ignore")
        static = paddle.jit.to_static(layer, input_spec=list(inputs), full_graph=True)
        try:
            paddle.jit.save(static, str(prefix))
            files = graph_file(prefix), prefix.with_suffix(".pdiparams")
            for path in files:
                _check_written(path)
        except OSError as error:
            raise UserError(f"cannot write a program in {folder}: {error.strerror or _first_line(error)}") from error
        finally:
            layer.__dict__.pop("forward", None)  # set by to_static; dygraph and other programs cannot call it
    return files


@contextmanager
def _without_stacks() -> Iterator[None]:
    """Keep Paddle from recording the Python stack of each operation, which takes more than half of the tracing time."""
    asked, traceback.extract_stack = traceback.extract_stack, lambda *_, **__: traceback.StackSummary()
    try:
        yield
    finally:
        traceback.extract_stack = asked


@contextmanager
def _sources_apart() -> Iterator[None]:
    """Let Paddle write the sources that it rewrites into a folder that is gone afterwards.

    It takes `~/.cache/paddle`, which may not be writable, and leaves them there when it is killed.
    """
    utils = paddle.jit.dy2static.utils
    asked = utils.get_temp_dir
    with scratch_folder() as folder:
        utils.get_temp_dir = lambda: str(folder)
        try:
            yield
        finally:
            utils.get_temp_dir = asked


def _check_written(path: Path) -> None:
    """Raise OSError if the disk is full: Paddle does not notice this, and leaves a truncated file.

    The test is to append some bytes: if they can be written, the file before was complete.
    """
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.seek(size)
        file.write(bytes(1 << 16))
        file.flush()
        file.truncate(size)
        os.fsync(file.fileno())


def graph_file(path: str | Path) -> Path:
    """Return `path` if it exists, else the file with the suffix of another Paddle version; UserError if none exists."""
    path = Path(path)
    choices = [path] if path.suffix in GRAPH_SUFFIXES else []
    choices += [path.with_suffix(suffix) for suffix in GRAPH_SUFFIXES]
    for choice in choices:
        if choice.is_file():
            return choice
    raise UserError(f"no program at {path}: neither {' nor '.join(str(c) for c in choices[-2:])} exists")


def _paddle_2() -> bool:
    return str(paddle.__version__).startswith("2.")


def _check_kind(model_file: str, precision: str) -> None:
    """Raise UserError for a json program on Paddle 2, which would crash, and for one of Paddle 2 in bf16.

    In programs of Paddle 2, convolutions stay apart from what surrounds them, and oneDNN converts none or one of them.
    """
    with open(model_file, "rb") as file:
        newer = file.read(1) == b"{"
    if newer and _paddle_2():
        raise UserError(
            f"{model_file} is of Paddle 3, this is Paddle {paddle.__version__}: export it again with this one"
        )
    if precision == "bf16" and not newer:
        raise UserError(f"--precision bf16: {model_file} is of Paddle 2, which stays in fp32: export it with Paddle 3")


def _config(model_file: str | Path, params_file: str | Path, runtime: Runtime) -> inference.Config:
    config = inference.Config(str(model_file), str(params_file))
    config.disable_glog_info()
    config.switch_ir_optim(runtime.ir_optim)
    if runtime.use_gpu:
        precision = {"fp32": inference.PrecisionType.Float32, "fp16": inference.PrecisionType.Half}[runtime.precision]
        config.enable_use_gpu(runtime.gpu_mem, runtime.gpu, precision)
        if runtime.tensorrt:
            config.enable_tensorrt_engine(1 << 30, 32, 3, precision, False, False)
        return config
    config.disable_gpu()
    config.set_cpu_math_library_num_threads(runtime.threads or cores())
    if runtime.onednn:
        config.enable_mkldnn()
        if runtime.precision == "bf16":
            config.enable_mkldnn_bfloat16()
            # only operators of the backbone: the statistics are float32 inputs, and converting them to bfloat16 in
            # every run takes longer than it saves
            config.set_bfloat16_op(BF16_OPERATORS)
    else:
        config.disable_mkldnn()
    return config


def _cpu_has_bf16() -> bool:
    if platform.system() != "Linux":
        return False
    flags = Path("/proc/cpuinfo").read_text()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _first_line(error: BaseException) -> str:
    """Return the line of a Paddle error that says what happened, without the C++ stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "Error:" in line or line.startswith("(")]
    return (told or lines or [type(error).__name__])[-1 if told else 0][:300]
