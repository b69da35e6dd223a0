"""What the options mean: which model, its files, and the command that repeats the run."""

from __future__ import annotations

import glob
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable

from datasets.readers import Category, select_categories
from datasets.readers.download import download
from deploy.command_line.parser import Arguments, Parser
from deploy.errors import UserError
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
"""Options that a recorded `command` names even where they were not given; method, arch, k and seed as well."""
MODELS = 4
"""Models that are kept for further categories, one for each size of pictures."""
ALIKE = 2
"""Other models that an error names where the one that was looked for is missing."""


def categories(args: Arguments) -> list[Category]:
    """What --data_path, --category and --layout name, after --download fetched what is missing."""
    if args.download:
        download(Path(args.data_path), args.category)
    return select_categories(args.data_path, args.category, args.layout)


def method_options(args: Arguments) -> dict[str, Any]:
    """What was given of them."""
    return {name: getattr(args, name) for name in METHOD_OPTIONS if getattr(args, name) is not None}


def archs(args: Arguments) -> list[str]:
    """The backbones of --arch."""
    words = [args.arch] if isinstance(args.arch, str) else args.arch
    return [name for word in words for name in word.split("+")]


def per_backbone(args: Arguments) -> dict[str, list[Any]]:
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


def runtime(args: Arguments) -> Runtime:
    """The GPU that --gpu names, else the first where Paddle has one and --cpu is not given; UserError if not there.

    Processes of paddle.distributed.launch take the one that it gives each.
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
    """Which copies --augment asks for; UserError for an unknown kind, and for --augment_force alone."""
    if args.augment is None and args.augment_force:
        raise UserError("--augment_force enters all kinds of copies that --augment names: give it too")
    return Augment(tuple(args.augment.split(",")) if args.augment else (), args.augment_force)


def builder(args: Arguments, seed: int) -> Callable[[Preprocess], Detector]:
    """What makes the model that the options describe, for pictures that are prepared as its argument says.

    It gives the same model again for the same argument: fitted on one category after the other, a model reads its
    weights and compiles its programs once.
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


def pro_limit(args: Arguments) -> float | None:
    """The false positive rate up to which PRO_score integrates; None without --eval_PRO or --report."""
    return 0.3 if args.eval_PRO or args.report else None


def seeds(args: Arguments) -> list[int]:
    """The seeds of --seed; UserError when one is there twice."""
    found = [args.seed] if isinstance(args.seed, int) else args.seed
    if len(set(found)) < len(found):
        raise UserError(f"--seed {' '.join(map(str, found))}: give every seed once")
    return found


def asked_seeds(args: Arguments) -> list[int | None]:
    """Whose models are asked for: the seeds given, or [None], whichever seed the model there has."""
    return list(seeds(args)) if "seed" in args.given else [None]


def run_name(args: Arguments) -> str:
    """`{method}_{arch}_{k}`, with the variant's own name and the method's default k."""
    return "_".join(_described(args).values())


def _described(args: Arguments) -> dict[str, str]:
    """Method, arch and k as the folder and the command name them."""
    method, options = method_named(args.method)
    name = variant_name(method.NAME, {**method.OPTIONS, **options})
    return {
        "method": name,
        "arch": "+".join(archs(args)),
        "k": _number(preset(args.method, args.preset).k if args.k is None else args.k),
    }


def _described_model(header: dict[str, Any]) -> dict[str, str]:
    """The same of a model."""
    name = variant_name(header["method"], header["options"])
    return {"method": name, "arch": header["arch"], "k": _number(header["k"])}


def _number(k: float) -> str:
    return f"{k:.15g}"


def run_folder(args: Arguments) -> Path:
    """`{save_path}/{method}_{arch}_{k}`."""
    return Path(args.save_path) / run_name(args)


def seed_folder(folder: Path, seed: int) -> Path:
    """Where one of several seeds' models and results go."""
    return folder / f"seed{seed}"


def results_folder(args: Arguments, model: Detector, path: Path) -> Path:
    """Where what comes of `model` goes: `{save_path}/{method}_{arch}_{k}`, by what the model is.

    Below it, the seed's folder if the model, read from `path`, is one of several seeds.
    """
    folder = Path(args.save_path) / "_".join(_described_model(model.header).values())
    below = seed_folder(folder, model.header["seed"])
    return below if path.absolute().parent.name == below.name else folder


def model_file(args: Arguments, category: str, seed: int | None = None) -> Path:
    """--model_path, or the category's model in the run folder; its seed is `seed`, if given.

    Raises:
        UserError: it is missing (the message says what was looked for), or of another seed.
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
                "or give --model_path" + (_seeds_there(run_folder(args), path.name) or _others_there(args, path.name))
            )
    held = seed if seed is None else model_seed(path)
    if held != seed:
        raise UserError(f"--seed {seed}: {path} was trained with seed {held}; train it with {seed} or drop the option")
    return path


def model_files(args: Arguments) -> dict[str, Path]:
    """The models that --category names, by category, or with `all` every one that a run left; see `model_file`.

    Raises:
        UserError: none is named or there, one is missing, or several are named beside --model_path.
    """
    [seed], asked = asked_seeds(args), args.category or ""
    if asked != "all" and "," not in asked:
        name = one_category(args)
        return {name: model_file(args, name, seed)}
    if args.model_path is not None:
        raise UserError(f"--model_path is one model, --category {asked} are several: give one of both")
    names = [plain_name(name, "--category") for name in dict.fromkeys(asked.split(","))]
    if asked == "all":
        folder = run_folder(args)
        places = [folder, *([] if seed is None else [seed_folder(folder, seed)])]
        names = sorted(
            {path.stem for place in places for path in place.glob("*.safetensors") if not _is_backbone(path)}
        )
        if not names:
            raise UserError(
                f"--category all: no model in {places[-1]}: train first with the same --method, --arch, --k and "
                "--save_path" + (_seeds_there(folder, "") if seed is None else "")
            )
    return {name: model_file(args, name, seed) for name in names}


def _is_backbone(path: Path) -> bool:
    """Whether the file is the weights that models share; a damaged one counts as a model, for its reader to tell."""
    try:
        return bool(read_header(path, "backbone"))
    except UserError:
        return False


def _model_below(folder: Path, name: str, seed: int | None) -> Path:
    """A run of one seed writes into the run folder, a run of several into a folder for each."""
    alone = folder / name
    if seed is None:
        return alone
    several = seed_folder(folder, seed) / name
    return several if several.is_file() and not (alone.is_file() and model_seed(alone) == seed) else alone


def _seeds_there(folder: Path, name: str) -> str:
    """What to add where no model of one seed is there, but those of several are; `name` is the file, "" any."""
    found = sorted({path.parent.name[4:] for path in folder.glob(f"seed*/{glob.escape(name) or '*.safetensors'}")})
    return f"; models of seeds {', '.join(found)} are there: give --seed" if found else ""


def _others_there(args: Arguments, name: str) -> str:
    """What to add where models called `name` of another method, arch or k lie below --save_path: the most alike."""
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
            given.pop("k", None)  # the default, of this method as of ours
        own = root / "_".join(held.values())
        if path.parent != own:
            given["seed"] = header["seed"]
        if path.parent in (own, seed_folder(own, header["seed"])):
            found.append((len(given), path, " ".join(f"--{name} {value}" for name, value in given.items())))
    told = [f"{path} is there: give {words}" for _, path, words in sorted(found)[:ALIKE]]
    return "".join(f"; {one}" for one in told)


def model_seed(path: Path) -> int | None:
    """The seed that a model was trained with; UserError if `path` is no model."""
    return read_header(path, "model").get("seed")


def shared_seed(paths: list[Path]) -> int:
    """The seed of all these models, which their table is named by; UserError when they differ."""
    found = {path: model_seed(path) for path in paths}
    if len(set(found.values())) > 1:
        told = ", ".join(f"{path.stem} {seed}" for path, seed in found.items())
        raise UserError(
            f"the models in {paths[0].parent} have different seeds ({told}): give --category those of one seed"
        )
    return found[paths[0]]


def one_category(args: Arguments) -> str:
    """The single category that predict and export need."""
    if args.category is None and args.model_path is None:
        raise UserError("--category is needed to find the model (or give --model_path)")
    if args.category is None:
        return Path(args.model_path).stem
    if args.category in ("all", "textures", "objects") or "," in args.category:
        raise UserError(f"--category {args.category}: give one category here")
    return plain_name(args.category, "--category")


def check_model(args: Arguments, model: Detector, path: Path) -> None:
    """UserError when the options describe another model than the file at `path` holds."""
    held = {**_described_model(model.header), **vars(model.preprocess)}
    asked = _described(args)
    if args.model_path is not None:  # then only what was given is asked for
        asked = {name: value for name, value in asked.items() if name in args.given}
    sizes = {
        "resize": getattr(args, "resize", None),
        "crop_size": crop_size(args) if hasattr(args, "crop_size") else None,
    }
    for name, value in {**asked, **sizes}.items():
        if value is not None and value != held[name]:
            raise UserError(
                f"--{name} {value}: {path} was trained with {held[name]}; train it again or drop the option"
            )


def settle(args: Arguments) -> Preset:
    """Set what was not given to what the preset has, as if it had been given, and return the preset.

    With --layers, the preset's --grid is left out, which is a layer of its own.

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
    """The command that repeats the run: all that was given, and what decides most even where it was not.

    Of a `model` that was read, method, arch, k and seed are the model's.
    """
    values = {name: getattr(args, name) for name in ALWAYS_RECORDED if hasattr(args, name)}
    values |= _described(args) if model is None else _described_model(model.header)
    values["seed"] = model.header["seed"] if model and "seed" not in args.given else args.seed
    return parser.command(args, values)


def names(categories: list[Category]) -> str:
    """Their names in a row."""
    return ", ".join(category.name for category in categories)
