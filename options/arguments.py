"""Declaration of the options that several scripts share."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable

from datasets.readers import LAYOUTS
from deploy.command_line.parser import KEPT, Parser, natural, positive, threads
from deploy.pictures.preprocess import FITS
from models import ALIASES, METHODS
from models.backbones.backbone import ARCHS
from models.base.augment import KINDS
from models.presets import DEFAULT, PRESETS, preset

PRESET_HELP = "sizes, layers, --k and the method's options where they are not given"
OVERLAP = 64
RANGE_HELP = "16-bit values that become 0 and 255; if not given, those of the training pictures, with a tenth more"
ROI_HELP = "region of interest: a mask of a training picture's size, 0 outside, or a box in its pixels"
TILE_HELP = (
    "examine all of a picture in tiles of so many pixels: in its own size, or with its short side at --resize if given"
)
LANGUAGES = ("en", "zh")
LOGS = ("visualdl", "wandb", "mlflow")
LOG_HELP = (
    "write figures, times, settings and the worst heat maps into a log of experiments below --save_path, for VisualDL, "
    "Weights & Biases or MLflow to show; needs that package"
)
AUGMENT_HELP = (
    f"enter good pictures mirrored and turned too: any of {','.join(KINDS)}; each kind only if held-out good pictures "
    "then score lower"
)
REPORT_HELP = (
    "write a page with figures, curves, the worst pictures and times, in English or Chinese; it computes AU-PRO and "
    "writes regions too"
)
FIT_HELP = (
    "how a picture becomes --crop_size: its centre is cut out, or all of it is stretched, or padded with its border's "
    "colours; --resize is for crop alone; if not given, crop, but stretch for pictures far from square (not in the "
    "preset paper)"
)


def preset_defaults(value: Callable[[str], Any]) -> str:
    """Return the text about defaults for the help of an option whose default depends on the method or its preset.

    `value` returns the default for a method's name, or None if the method does not have one.
    """
    told = {name: value(name) for name in METHODS}
    told = {name: found for name, found in told.items() if found is not None}
    if len(set(told.values())) == 1:
        return f" (default: {next(iter(told.values()))})"
    return f" (defaults: {', '.join(f'{name} {found}' for name, found in told.items())})" if told else ""


def _method_default(option: str, name: str) -> Any:
    return {**METHODS[name].OPTIONS, **preset(name).options}.get(option)


def add_size_options(parser: Parser, sets: bool = False, nargs: str | None = "+") -> None:
    """Add the options for sizes of pictures.

    If `sets`, they set the sizes, with the preset's as defaults; else they are only compared with the model's. `nargs`
    is None for scripts whose arguments include pictures, since --crop_size with several words would take these too.
    """
    only = "; the model's, only checked"
    resize = preset_defaults(lambda name: preset(name).preprocess.resize) if sets else only
    crop = preset_defaults(lambda name: preset(name).preprocess.crop_size) if sets else only
    parser.group("data")
    parser.add_argument("--resize", type=positive, default=None, help=f"short side in pixels{resize}")
    words = f"the program's input in pixels, one number{' or height and width' if nargs else ''}"
    parser.add_argument("--crop_size", type=positive, nargs=nargs, default=None, help=f"{words}{crop}")
    if sets:
        parser.add_argument("--fit", choices=FITS, default=None, help=FIT_HELP)
        parser.add_argument("--tile", type=positive, default=None, help=TILE_HELP)
        parser.add_argument(
            "--overlap", type=natural, default=None, help=f"pixels that tiles share (default: {OVERLAP})"
        )
        parser.add_argument("--range", type=natural, nargs=2, default=None, metavar=("LO", "HI"), help=RANGE_HELP)
        parser.add_argument("--roi", default=None, metavar="MASK|X,Y,W,H", help=ROI_HELP)
        parser.add_argument("--augment", default=None, metavar="KIND[,KIND...]", help=AUGMENT_HELP)
        parser.flag("augment_force", False, "all kinds of --augment, without asking")


def add_data_option(parser: Parser, what: str, several: bool) -> None:
    """Add the options that say where the data set is; `what` is the help of --data_path.

    `several`: the script works on several categories, so --download and --layout are added.
    """
    parser.group("data", f"--data_path data/mvtec --category bottle{',tile' if several else ''}")
    parser.add_argument("--data_path", default="./data/mvtec", help=what)
    if several:
        parser.flag("download", False, "fetch those of MVTec AD's categories that --data_path lacks (5 GB for all)")
        names = ", ".join(LAYOUTS)
        parser.add_argument(
            "--layout", choices=LAYOUTS, default=None, help=f"of the data, found by looking if not given: {names}"
        )


def add_model_options(
    parser: Parser,
    several: bool,
    archs: str | None = "+",
    seed: int | None = None,
    category: str = "the model's category, one name",
) -> None:
    """Add the options that identify a model: category, method, arch, preset, k, seed, and its place.

    Args:
        parser: gets the options.
        several: whether several categories and seeds may be given.
        archs: `nargs` of --arch; None for scripts whose arguments include pictures, since --arch with several words
            would take these too (A+B is one word).
        seed: default of --seed; None means the seed of the model that is found.
        category: help of --category if only one may be given.
    """
    parser.group("data")
    if several:
        parser.add_argument("--category", default="all", help="NAME[,NAME...], all, textures or objects")
    else:
        parser.add_argument("--category", metavar="NAME", default=None, help=category)
    parser.group("model", "--method patchcore --arch resnet18 --k 10")
    parser.add_argument("--method", default="patchcore", help=f"one of {', '.join([*METHODS, *ALIASES])}")
    parser.add_argument(
        "--arch",
        nargs=archs,
        default="resnet18",
        help=f"backbone, or an ensemble of several, {'A B or ' if archs else ''}A+B; of {', '.join(ARCHS)}",
    )
    names = ", ".join(dict.fromkeys(name for found in PRESETS.values() for name in found))
    parser.add_argument(
        "--preset",
        default=None,
        help=(PRESET_HELP if seed is not None else "the preset whose --k is looked for")
        + f"; {names} (default: {DEFAULT})",
    )
    parser.add_argument(
        "--k",
        type=float,
        default=None,
        help="patchcore: percent of patches kept, above 100 their number; padim, orthoad: channels; "
        f"spade: neighbouring pictures{preset_defaults(lambda name: f'{preset(name).k:g}')}",
    )
    parser.add_argument("--save_path", default="./output", help="where models and results are")
    more = "; several: one model each, and a table of mean and deviation" if several else ""
    known = "decides everything random" if seed is not None else "that the model was trained with; any if not given"
    parser.add_argument("--seed", type=natural, nargs="+" if several else None, default=seed, help=known + more)
    if seed is None:
        parser.add_argument("--model_path", default=None, help="a model file, instead of looking it up")
    parser.group(KEPT, "--model_name PatchCore")
    parser.add_argument("--model_name", default=None, help="a label of TIPC configs; decides nothing")


METHOD_OPTIONS: dict[str, tuple[Any, str]] = {
    "image_score": (str, "max, top, smooth; patchcore: also density, reweighted; spade: also knn"),
    "score_sigma": (float, "Gaussian smoothing of the distances before max, top and density, in patches; 0 is none"),
    "score_top": (float, "top and density are the mean of the largest distances, this percentage of the patches"),
    "sigma": (float, "Gaussian smoothing of the map, pixels"),
    "sampler": (str, "greedy, approx_greedy, random, identity"),
    "lloyd": (float, "share of the way that chosen patches move to the mean of those nearest to them, 0 to 1"),
    "coreset_block": (positive, "choose patches in blocks where there are more than this"),
    "spool_dir": (str, "folder for the features of all patches while fitting, the system's temporary one if not given"),
    "patch_size": (positive, "features are averaged over this neighbourhood"),
    "power": (float, "to which features are raised: 1, 0.75 or 0.5"),
    "standardise": (float, "each channel is divided by this power of its standard deviation, 0 to 1"),
    "grid": (
        str,
        "the layer whose positions are the patches or have Gaussians, with --layers the first; finer ones are averaged",
    ),
    "patch_stride": (positive, "every how many-th position is a patch"),
    "pretrain_dim": (positive, "pool each layer's patches adaptively to this many values"),
    "target_dim": (positive, "pool all layers' patches together to this many values"),
    "search": (
        str,
        "coarse (image scores exact, by density nearly always; lesser patches at times too far) or exact; "
        "if not given, coarse for banks of more than 1,000 rows, where it can",
    ),
    "num_neighbors": (positive, "a distance is the mean over this many nearest rows"),
    "reweight_neighbors": (positive, "b of the re-weighting, eq. 7"),
    "eps": (float, "added to the covariances' diagonal"),
    "k_image": (positive, "the image score is the mean over this many nearest pictures"),
    "descriptor_layer": (str, "the layer whose mean describes a picture; on compact layer3"),
    "gallery": (str, "all_positions of the neighbours, or same_position"),
    "load_projection": (str, ".npy file in place of the drawn channels or projection"),
}
"""Options of the methods, with type and help; it is an error to give an option that the chosen method does not have."""


METHOD_EXAMPLES = {
    "patchcore": "--k 1 --sampler approx_greedy --search exact",
    "patchcore, padim, orthoad": "--grid layer2",
    "padim, orthoad": "--method padim --k 100 --eps 0.01",
    "spade": "--method spade --k 50 --k_image 5 --gallery same_position",
    "every method": "--image_score max --sigma 2",
}
"""An example for each group of METHOD_OPTIONS."""


def add_method_options(parser: Parser) -> None:
    """Add the options of the methods, grouped by the methods that have them.

    An option that is not given has the value of the preset, or else the method's default.
    """
    for title, example in METHOD_EXAMPLES.items():
        parser.group(title, example)
    for name, (kind, help) in METHOD_OPTIONS.items():
        owners = [method for method in METHODS if name in METHODS[method].OPTIONS]
        parser.group("every method" if len(owners) == len(METHODS) else ", ".join(owners))
        default = preset_defaults(partial(_method_default, name))
        parser.add_argument(f"--{name}", type=kind, default=None, help=help + default)


def add_run_options(parser: Parser) -> None:
    """Add the options of how programs run."""
    parser.group("running", "--cpu --cpu_threads 4 --num_workers 2")
    parser.flag("cpu", False, "use the CPU even where there is a GPU")
    parser.add_argument("--gpu", type=natural, default=None, help="use the GPU of this number (unmeasured)")
    parser.add_argument("--cpu_threads", type=threads, default=None, help="CPU threads; one per core if not given")
    parser.add_argument("--num_workers", type=natural, default=None, help="decoding threads; one per core if not given")


def add_precision_option(parser: Parser) -> None:
    """Add --precision, for scripts that score with an existing model."""
    parser.group("running", "--cpu --cpu_threads 4 --num_workers 2")
    parser.add_argument(
        "--precision",
        default="fp32",
        choices=["fp32", "bf16", "fp16"],
        help="bf16: CPUs with AVX512-BF16 or AMX; fp16: GPU",
    )


def add_evaluation_options(parser: Parser) -> None:
    """Add the options of what is evaluated, drawn and written."""
    parser.group("evaluation", "--eval_PRO --test_batch_size 4")
    parser.flag("eval_PRO", False, "also compute AU-PRO")
    parser.no_effect(
        "non_partial_AUC",
        "in Anomaly.Paddle it sums the areas under the same curves in another way, to the same figures; "
        "PRO_score goes to a false positive rate of 0.3",
    )
    parser.pictures("write heat maps: of test pictures, and train.py of odd training pictures", labelled=True)
    parser.files_for_machines()
    parser.add_argument("--report", nargs="?", const="en", choices=LANGUAGES, default=None, help=REPORT_HELP)
    parser.add_argument("--log", choices=LOGS, default=None, help=LOG_HELP)
    parser.add_argument("--test_batch_size", type=positive, default=1, help="pictures per run when scoring")
    parser.no_effect("eval_threthold_step", "AU-PRO is exact: every distinct map value is a threshold")
