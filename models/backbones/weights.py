"""Pretrained backbone weights: finding them, and reading them without executing code from the file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import paddle
from safetensors import SafetensorError, safe_open

from deploy.errors import UserError
from deploy.storage.tensors import HEADER_KEY, read_tensors

from .compact import EMBEDDED as COMPACT
from .pickled import read_pickle

FOLDER_VARIABLE = "PADDLEPATCH_WEIGHTS"
EMBEDDED = {"compact": COMPACT}
"""Weights that are part of the repository; nothing is downloaded for these networks."""
RANDOM = "random"  # value of --weights for seeded random weights, for demonstrations and tests


class Weights(NamedTuple):
    """Arrays by parameter name, and their source in words."""

    arrays: dict[str, np.ndarray] | None
    """None: the network keeps its seeded random weights."""
    source: str


def find_weights(arch: str, weights: str | Path | None = None) -> Weights:
    """Find weights for `arch`.

    These places are tried in this order: the file `weights`, `$PADDLEPATCH_WEIGHTS`, the repository, Paddle's cache,
    Paddle's download.

    Raises:
        UserError: `weights` is not a readable file, or no place has weights (the message names the places).
    """
    if weights is not None and str(weights) == RANDOM:
        return Weights(None, "random weights (NOT pretrained)")
    if weights is not None:
        return Weights(read_weights(weights), str(weights))
    local = local_weights(arch)
    if local is not None:
        return Weights(read_weights(local), f"{local} (embedded)" if local == EMBEDDED.get(arch) else str(local))
    if arch in EMBEDDED:
        raise UserError(f"the embedded weights {EMBEDDED[arch]} are missing: check the file out again")
    try:
        url, md5 = _download_of(arch)
        path = Path(paddle.utils.download.get_weights_path_from_url(url, md5))
    except Exception as error:  # the type depends on the proxy and on Paddle's version if there is no network
        raise UserError(
            f"no pretrained weights for {arch}: looked at --weights (not given), "
            f"${FOLDER_VARIABLE}/{arch}.pdparams ({os.environ.get(FOLDER_VARIABLE) or 'not set'}), {_cache(arch)} "
            f"(absent) and Paddle's download ({type(error).__name__}); put the file in one of these places"
        ) from error
    return Weights(read_weights(path), str(path))


def local_weights(arch: str) -> Path | None:
    """Return the weights file in `$PADDLEPATCH_WEIGHTS`, in the repository or in Paddle's cache, if there is one."""
    folder = os.environ.get(FOLDER_VARIABLE)
    places = [Path(folder) / f"{arch}{suffix}" for suffix in (".pdparams", ".safetensors")] if folder else []
    places.append(EMBEDDED.get(arch, _cache(arch)))
    return next((path for path in places if path.is_file()), None)


def _download_of(arch: str) -> tuple[str, str]:
    """Return address and md5 from Paddle's own tables, whose keys differ slightly (`mobilenetv2_1.0`, for instance)."""
    urls = sys.modules[getattr(paddle.vision.models, arch).__module__].model_urls

    def plain(name: str) -> str:
        return name.replace("_", "").replace(".", "")

    return next(urls[key] for key in urls if plain(key) in (plain(arch), plain(arch) + "10", plain(arch) + "x10"))


def _cache(arch: str) -> Path:
    return Path.home() / ".cache/paddle/hapi/weights" / f"{arch}.pdparams"


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """Read weights from `.pdparams` or `.safetensors`; return arrays by Paddle's parameter names.

    A `.safetensors` file is a backbone that a training run stored, or a state dict of torchvision or timm.

    Raises:
        UserError: the file is missing, damaged, or holds anything but plain arrays.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return _read_torch(path) if _is_foreign(path) else read_tensors(path, "backbone")[0]
    if path.exists() and not path.is_file():  # reading a pipe or a device might never end
        raise UserError(f"cannot read weights {path}: it is no file; check --weights")
    try:
        content = read_pickle(path)
    except OSError as error:
        raise UserError(f"cannot read weights {path}: {error.strerror}; check --weights") from error
    except UserError as error:
        raise UserError(f"weights {path} refused: {error}") from error
    except ValueError as error:
        raise UserError(f"weights {path} are damaged or no .pdparams file ({error}): fetch them again") from error
    if not isinstance(content, dict):
        raise UserError(f"weights {path} hold a {type(content).__name__}, not parameters by name")
    if isinstance(content.get("params"), dict):
        raise UserError(f"weights {path} are a model file of Anomaly.Paddle: give the backbone's own .pdparams")
    arrays = {str(name): value for name, value in content.items() if isinstance(value, np.ndarray)}
    if not arrays:
        raise UserError(f"weights {path} hold no arrays")
    return arrays


def _is_foreign(path: Path) -> bool:
    """Whether a safetensors file was not written by PaddlePatch.

    False for a damaged file: then the reader of our own files reports what is wrong.
    """
    try:
        with safe_open(path, "numpy") as file:
            return HEADER_KEY not in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    """Read a state dict of torchvision or timm, and rename its two parameter names that differ in Paddle.

    It works for networks that Paddle builds in the same way: ResNet, ResNeXt, Wide ResNet, VGG and MobileNetV2. Paddle
    stores the classifiers' matrices transposed, but these are never used.
    """
    try:
        with safe_open(path, "numpy") as file:
            names = [name for name in file.keys() if not name.endswith("num_batches_tracked")]  # noqa: SIM118
            arrays = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, TypeError) as error:  # TypeError: numpy has no such type, bfloat16 for instance
        raise UserError(
            f"cannot read weights {path} ({error}): save them as float32 with safetensors.torch.save_file"
        ) from error
    renamed = {".running_mean": "._mean", ".running_var": "._variance"}
    for name in list(arrays):
        for theirs, ours in renamed.items():
            if name.endswith(theirs):
                arrays[name[: -len(theirs)] + ours] = arrays.pop(name)
    return arrays
