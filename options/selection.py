"""Interpretation of the options: the model, its files, and the command that repeats the run."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable

from datasets.readers import Category, select_categories
from datasets.readers.category import names_in
from datasets.readers.download import download
from deploy.command_line.parser import Arguments, Parser
from deploy.errors import Failed, UserError
from deploy.pictures.preprocess import Preprocess
from deploy.runtime.program import Runtime, gpu_usable
from deploy.storage.files import plain_name
from deploy.storage.tensors import read_header
from models import Augment, Detector, build_model, method_named, variant_name
from models.presets import Preset, preset

from .arguments import METHOD_OPTIONS
from .pictures import crop_size

ALWAYS_RECORDED = (
    "data_path",
    "category",
    "resize",
    "crop_size",
    "fit",
    "preset",
    "batch_size",
    "precision",
    "save_path",
)
"""Options that a recorded `command` always contains, even if they were not given; so are method, arch, k and seed."""
MODELS = 4
"""Largest number of models that are kept for further categories, one for each preprocessing."""
ALIKE = 2
"""Number of other models that an error names if the wanted model is missing."""


def categories(args: Arguments, selection: str | None = None) -> list[Category]:
    """Return the categories of --data_path in --layout that `selection` names, or --category if that is None.

    --download fetches missing ones before.
    """
    selection = args.category if selection is None else selection
    if args.download:
        download(Path(args.data_path), selection)
    return select_categories(args.data_path, selection, args.layout)


def method_options(args: Arguments) -> dict[str, Any]:
    """Return the options of METHOD_OPTIONS that have a value."""
    return {name: getattr(args, name) for name in METHOD_OPTIONS if getattr(args, name) is not None}


def archs(args: Arguments) -> list[str]:
    """Return the backbones of --arch."""
    words = [args.arch] if isinstance(args.arch, str) else args.arch
    return [name for word in words for name in word.split("+")]


def per_backbone(args: Arguments) -> dict[str, list[Any]]:
    """Return backbones, layers and weights, one entry per backbone; UserError if their numbers do not fit together."""
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


def runtime(args: Arguments) -> Runtime:
    """Return how programs run: on the GPU of --gpu; else on the first GPU, if there is one and --cpu is not given.

    Each process of paddle.distributed.launch uses the GPU that the launcher assigns to it.

    Raises:
        UserError: the GPU does not exist, or the options contradict each other.
    """
    if args.cpu and args.gpu is not None:
        raise UserError(f"--cpu and --gpu {args.gpu} contradict each other: leave out one of them")
    chosen = Runtime(
        use_gpu=args.gpu is not None or (gpu_usable() and not args.cpu),
        gpu=args.gpu or int(os.environ.get("FLAGS_selected_gpus", "0").split(",")[0]),  # noqa: SIM112
        threads=args.cpu_threads,
        precision=getattr(args, "precision", "fp32"),
    )
    chosen.check()
    return chosen


def augment(args: Arguments) -> Augment:
    """Return the augmentation of --augment; UserError for an unknown kind, and for --augment_force alone."""
    if args.augment is None and args.augment_force:
        raise UserError("--augment_force enters all kinds of copies that --augment names: give it too")
    return Augment(tuple(args.augment.split(",")) if args.augment else (), args.augment_force)


def builder(args: Arguments, seed: int) -> Callable[[Preprocess], Detector]:
    """Return a function that builds the model of the options for a given preprocessing.

    For the same preprocessing it returns the same model again. So if several categories are fitted one after the other,
    weights are read and programs are compiled only once.
    """

    @lru_cache(MODELS)
    def build(preprocess: Preprocess) -> Detector:
        return build_model(
            args.method,
            **per_backbone(args),
            k=args.k,
            preprocess=preprocess,
            seed=seed,
            runtime=runtime(args),
            augment=augment(args),
            **method_options(args),
        )

    return build


def seeds(args: Arguments) -> list[int]:
    """Return the seeds of --seed; UserError if one is given twice."""
    found = [args.seed] if isinstance(args.seed, int) else args.seed
    if len(set(found)) < len(found):
        raise UserError(f"--seed {' '.join(map(str, found))}: give every seed once")
    return found


def asked_seeds(args: Arguments) -> list[int | None]:
    """Return the seeds whose models are asked for; [None] if --seed is not given: then any seed is accepted."""
    return list(seeds(args)) if "seed" in args.given else [None]


def run_name(args: Arguments) -> str:
    """Return `{method}_{arch}_{k}`, with the variant's name as method and the preset's k if --k is not given."""
    return "_".join(_described(args).values())


def _described(args: Arguments) -> dict[str, str]:
    """Return method, arch and k of the options, as they are written in folder names and commands."""
    method, options = method_named(args.method)
    name = variant_name(method.NAME, {**method.OPTIONS, **options})
    return {
        "method": name,
        "arch": "+".join(archs(args)),
        "k": _number(preset(args.method, args.preset).k if args.k is None else args.k),
    }


def _described_model(header: dict[str, Any]) -> dict[str, str]:
    """Return method, arch and k of a model, in the form of `_described`."""
    name = variant_name(header["method"], header["options"])
    return {"method": name, "arch": header["arch"], "k": _number(header["k"])}


def _number(k: float) -> str:
    return f"{k:.15g}"


def run_folder(args: Arguments) -> Path:
    """Return `{save_path}/{method}_{arch}_{k}`."""
    return Path(args.save_path) / run_name(args)


def seed_folder(folder: Path, seed: int) -> Path:
    """Return the folder for models and results of one seed, if several seeds are trained."""
    return folder / f"seed{seed}"


def results_folder(args: Arguments, model: Detector, path: Path) -> Path:
    """Return the folder for the results of `model`, which was read from `path`.

    It is `{save_path}/{method}_{arch}_{k}` with the values of the model, or the seed's folder below it if `path` is in
    such a folder.
    """
    folder = Path(args.save_path) / "_".join(_described_model(model.header).values())
    below = seed_folder(folder, model.header["seed"])
    return below if path.absolute().parent.name == below.name else folder


def model_file(args: Arguments, category: str, seed: int | None = None) -> Path:
    """Return the path of --model_path, or of the category's model in the run folder.

    Raises:
        UserError: the model is missing (the message says what was looked for), or has another seed than `seed`.
    """
    if args.model_path is not None:
        path = Path(args.model_path)
        ours = path.with_suffix(".safetensors")  # configs written for Anomaly.Paddle name category.pdparams
        path = ours if path.suffix == ".pdparams" and ours.is_file() and not path.is_file() else path
    else:
        path = _model_below(run_folder(args), f"{category}.safetensors", seed)
        if not path.is_file():
            raise UserError(
                f"no model at {path}: train {category} first with the same --method, --arch, --k and --save_path, "
                "or give --model_path"
                + (_seeds_there(run_folder(args), glob.escape(path.name)) or _others_there(args, path.name))
            )
    held = seed if seed is None else model_seed(path)
    if held != seed:
        raise UserError(f"--seed {seed}: {path} was trained with seed {held}; train it with {seed} or drop the option")
    return path


def model_files(args: Arguments, names: Sequence[str], seed: int | None, failed: Failed) -> dict[str, Path]:
    """Return the model files of these categories, by name; missing ones are noted in `failed`.

    Raises:
        UserError: all are missing.
    """
    found: dict[str, Path] = {}
    missing: dict[str, UserError] = {}
    for name in names:
        try:
            found[name] = model_file(args, name, seed)
        except UserError as error:  # noqa: PERF203
            missing[name] = error
    if not found:
        raise next(iter(missing.values()))
    for name, error in missing.items():
        with failed.noted(name):
            raise error
    return found


def model_names(args: Arguments, seed: int | None) -> list[str]:
    """Return the names in --category; `all` means those of all models in the run folder, or in that of `seed`.

    Raises:
        UserError: no category is given, there is no model, or several categories are given with --model_path.
    """
    asked = args.category or ""
    if asked != "all" and "," not in asked:
        return [one_category(args)]
    if args.model_path is not None:
        raise UserError(f"--model_path is one model, --category {asked} are several: give one of both")
    if asked != "all":
        return [plain_name(name, "--category") for name in names_in(asked)]
    folder = run_folder(args)
    places = [folder, *([] if seed is None else [seed_folder(folder, seed)])]
    found = {path.stem for place in places for path in place.glob("*.safetensors") if not _is_backbone(path)}
    if not found:
        raise UserError(
            f"--category all: no model in {places[-1]}: train first with the same --method, --arch, --k and "
            "--save_path" + (_seeds_there(folder, "*.safetensors") if seed is None else "")
        )
    return sorted(found)


def _is_backbone(path: Path) -> bool:
    """Whether the file is a backbone. A damaged file counts as a model, so that its reader reports the damage."""
    try:
        return bool(read_header(path, "backbone"))
    except UserError:
        return False


def _model_below(folder: Path, name: str, seed: int | None) -> Path:
    """Return the path of a model of `seed` in a run folder, or in its folder for this seed.

    A run with one seed writes into the run folder itself, a run with several seeds into a folder for each.
    """
    alone = folder / name
    if seed is None:
        return alone
    several = seed_folder(folder, seed) / name
    return several if several.is_file() and not (alone.is_file() and model_seed(alone) == seed) else alone


def _seeds_there(folder: Path, pattern: str) -> str:
    """Return a text for an error if the folder has models of several seeds whose files match `pattern`."""
    found = sorted({path.parent.name[4:] for path in folder.glob(f"seed*/{pattern}")})
    return f"; models of seeds {', '.join(found)} are there: give --seed" if found else ""


def _others_there(args: Arguments, name: str) -> str:
    """Return a text for an error if --save_path has models called `name` with other settings: the most similar ones."""
    root, asked = Path(args.save_path), _described(args)
    found = []
    for path in sorted({*root.glob(f"*/{glob.escape(name)}"), *root.glob(f"*/seed*/{glob.escape(name)}")}):
        try:
            header = read_header(path, "model")
            held = _described_model(header)
        except (UserError, KeyError):  # damaged, or no model
            continue
        given = {name: value for name, value in held.items() if value != asked[name]}
        if args.k is None and header["k"] == preset(header["method"]).k:
            given.pop("k", None)  # it is the default of that method, so --k need not be given
        own = root / "_".join(held.values())
        if path.parent != own:
            given["seed"] = header["seed"]
        if path.parent in (own, seed_folder(own, header["seed"])):
            found.append((len(given), path, " ".join(f"--{name} {value}" for name, value in given.items())))
    told = [f"{path} is there: give {words}" for _, path, words in sorted(found)[:ALIKE]]
    return "".join(f"; {one}" for one in told)


def model_seed(path: Path) -> int | None:
    """Return the seed that a model was trained with; UserError if `path` is not a model."""
    return read_header(path, "model").get("seed")


def shared_seed(paths: list[Path]) -> int:
    """Return the seed of these models, which is part of their table's name; UserError if they have different seeds."""
    found = {path: model_seed(path) for path in paths}
    if len(set(found.values())) > 1:
        told = ", ".join(f"{path.stem} {seed}" for path, seed in found.items())
        raise UserError(
            f"the models in {paths[0].parent} have different seeds ({told}): give --category those of one seed"
        )
    return found[paths[0]]


def one_category(args: Arguments) -> str:
    """Return the category of --category, else the name of the file of --model_path; UserError for none or several."""
    if args.category is None and args.model_path is None:
        raise UserError("--category is needed to find the model (or give --model_path)")
    if args.category is None:
        return Path(args.model_path).stem
    if args.category in ("all", "textures", "objects") or "," in args.category:
        raise UserError(f"--category {args.category}: give one category here")
    return plain_name(args.category, "--category")


def check_model(args: Arguments, model: Detector, path: Path) -> None:
    """Raise UserError if the options describe another model than `model`, which was read from `path`."""
    held = {**_described_model(model.header), **vars(model.preprocess), "img_size": model.preprocess.crop_size}
    asked = _described(args)
    if args.model_path is not None:  # then only the given options are compared
        asked = {name: value for name, value in asked.items() if name in args.given}
    sizes = {
        "resize": getattr(args, "resize", None),
        "img_size": getattr(args, "img_size", None),
        "crop_size": crop_size(args) if hasattr(args, "crop_size") else None,
    }
    for name, value in {**asked, **sizes}.items():
        if value is not None and value != held[name]:
            raise UserError(
                f"--{name} {value}: {path} was trained with {held[name]}; train it again or drop the option"
            )


def settle(args: Arguments) -> Preset:
    """Set the options that were not given to the preset's values, as if they had been given; return the preset.

    With --layers, the preset's --grid is not set, since it may not be one of these layers.

    Raises:
        UserError: the method has no such preset.
    """
    found = preset(args.method, args.preset)
    values = {"k": found.k, "layers": [",".join(found.layers)], **found.options}
    if args.layers is not None:
        values.pop("grid", None)
    missing = {name: value for name, value in values.items() if getattr(args, name) is None}
    for name, value in missing.items():
        setattr(args, name, value)
    args.given += tuple(missing)
    return found


def command(parser: Parser, args: Arguments, model: Detector | None = None) -> str:
    """Return the command that repeats the run: all given options, and the most important ones even if not given.

    If a `model` was read, its method, arch, k and seed are used.
    """
    values = {name: getattr(args, name) for name in ALWAYS_RECORDED if hasattr(args, name)}
    values |= _described(args) if model is None else _described_model(model.header)
    values["seed"] = model.header["seed"] if model and "seed" not in args.given else args.seed
    return parser.command(args, values)
