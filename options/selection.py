"""What the options mean: which model, its files, and the command that repeats the run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from datasets.readers.mvtec import Category
from deploy.command_line.parser import command_line
from deploy.errors import UserError
from deploy.pictures.preprocess import Preprocess
from deploy.runtime.program import Runtime, gpu_usable
from models import Detector, method_named

from .arguments import METHOD_OPTIONS

RESULT_OPTIONS = (
    "data_path",
    "category",
    "method",
    "arch",
    "k",
    "layers",
    "resize",
    "crop_size",
    "batch_size",
    "weights",
    "seed",
    "sampler",
    "coreset_block",
    "patch_size",
    "patch_stride",
    "pretrain_dim",
    "target_dim",
    "image_score",
    "search",
    "num_neighbors",
    "reweight_neighbors",
    "sigma",
    "eps",
    "load_projection",
    "k_image",
    "descriptor_layer",
    "gallery",
    "eval",
    "eval_PRO",
    "non_partial_AUC",
    "skip_bad",
)
"""The options that decide a result: they make up the `command` that models and tables carry."""


def method_options(args: argparse.Namespace) -> dict[str, Any]:
    """What was given of them."""
    return {name: getattr(args, name) for name in METHOD_OPTIONS if getattr(args, name) is not None}


def archs(args: argparse.Namespace) -> list[str]:
    """The backbones of --arch."""
    words = [args.arch] if isinstance(args.arch, str) else args.arch
    return [name for word in words for name in word.split("+")]


def per_backbone(args: argparse.Namespace) -> dict[str, list[Any]]:
    """--layers and --weights, one entry per --arch; UserError when their numbers do not fit."""
    names, layers, weights = archs(args), args.layers, args.weights or [None]
    if layers is None:
        each_layers = [None]
    elif len(names) == 1:
        each_layers = [[name for word in layers for name in word.split(",")]]
    else:
        each_layers = [word.split(",") for word in layers]
    found = {"layers": each_layers, "weights": weights}
    for name, values in found.items():
        if len(values) not in (1, len(names)):
            raise UserError(
                f"--{name}: {len(values)} given for {len(names)} backbones; give one for all or one for each "
                "(--layers layer2,layer3 layer1,layer2)"
            )
    return {"archs": names, **{n: v * len(names) if len(v) == 1 else v for n, v in found.items()}}


def runtime(args: argparse.Namespace) -> Runtime:
    """A GPU where Paddle has one and --cpu is not given."""
    precision = getattr(args, "precision", "fp32")
    return Runtime(use_gpu=gpu_usable() and not args.cpu, threads=args.cpu_threads, precision=precision)


def pro_limit(args: argparse.Namespace) -> float | None:
    """The false positive rate up to which PRO_score integrates; None without --eval_PRO."""
    return (1.0 if args.non_partial_AUC else 0.3) if args.eval_PRO else None


def run_name(args: argparse.Namespace) -> str:
    """`{method}_{arch}_{k}`, with the method's own name and default k."""
    method = method_named(args.method)[0]
    return _run_name(method.NAME, "+".join(archs(args)), method.K if args.k is None else args.k)


def _run_name(method: str, arch: str, k: float) -> str:
    return f"{method}_{arch}_{k:g}"


def run_folder(args: argparse.Namespace) -> Path:
    """`{save_path}/{method}_{arch}_{k}`."""
    return Path(args.save_path) / run_name(args)


def results_folder(args: argparse.Namespace, model: Detector) -> Path:
    """Where what comes of `model` goes: `{save_path}/{method}_{arch}_{k}`, by what the model is."""
    return Path(args.save_path) / _run_name(*(model.header[name] for name in ("method", "arch", "k")))


def model_file(args: argparse.Namespace, category: str) -> Path:
    """--model_path, or the category's model in the run folder; UserError naming what is missing."""
    if args.model_path is not None:
        path = Path(args.model_path)
        ours = path.with_suffix(".safetensors")  # configs written for Anomaly.Paddle name category.pdparams
        return ours if path.suffix == ".pdparams" and ours.is_file() and not path.is_file() else path
    path = run_folder(args) / f"{category}.safetensors"
    if not path.is_file():
        raise UserError(
            f"no model at {path}: train {category} first with the same --method, --arch, --k and --save_path, "
            "or give --model_path"
        )
    return path


def one_category(args: argparse.Namespace) -> str:
    """The single category that predict and export need."""
    if args.category is None and args.model_path is None:
        raise UserError("--category is needed to find the model (or give --model_path)")
    if args.category is None:
        return Path(args.model_path).stem
    if args.category in ("all", "textures", "objects") or "," in args.category:
        raise UserError(f"--category {args.category}: give one category here")
    return args.category


def check_model(args: argparse.Namespace, model: Detector, path: Path) -> None:
    """UserError when the options describe another model than the file at `path` holds."""
    method, options = method_named(args.method)
    asked = {"method": method.NAME, "arch": "+".join(archs(args)), "k": args.k, **options}
    size = {"resize": getattr(args, "resize", None), "crop_size": getattr(args, "crop_size", None)}
    held = {**model.header, **model.header["preprocess"], **model.header["options"]}
    for name, value in {**(asked if args.model_path is None else {}), **size}.items():
        if value is not None and value != held[name]:
            raise UserError(
                f"--{name} {value}: {path} was trained with {held[name]}; train it again or drop the option"
            )


def preprocess(args: argparse.Namespace) -> Preprocess:
    """From --resize and --crop_size."""
    return Preprocess(args.resize, args.crop_size)


def command(script: str, args: argparse.Namespace) -> str:
    """The command that repeats the result."""
    values = vars(args)
    shown = {name: values[name] for name in RESULT_OPTIONS if name in values}
    if "k" in shown:
        method, options = method_named(args.method)
        standard = all(method.OPTIONS[name] == value for name, value in options.items())
        shown.update(method=method.NAME if standard else args.method, k=f"{method.K if args.k is None else args.k:g}")
    return command_line(script, shown)


def names(categories: list[Category]) -> str:
    """Their names in a row."""
    return ", ".join(category.name for category in categories)
