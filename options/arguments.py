"""Options that several scripts share."""

from __future__ import annotations

from typing import Any

from deploy.command_line.parser import Parser, natural, positive
from models import ALIASES, METHODS
from models.backbones.backbone import ARCHS


def add_model_options(parser: Parser, category: str | None, archs: str | None = "+", seeds: str | None = None) -> None:
    """Which model: category, method, arch, k, and where it lies.

    `archs` is None where pictures may follow, which several words of --arch would swallow: A+B is one word. `seeds` is
    "+" where several can be given.
    """
    parser.add_argument("--category", default=category, help="NAME[,NAME...], all, textures or objects")
    parser.add_argument("--method", default="patchcore", help=f"one of {', '.join([*METHODS, *ALIASES])}")
    parser.add_argument(
        "--arch",
        nargs=archs,
        default="resnet18",
        help=f"backbone, or an ensemble of several, A B or A+B; of {', '.join(ARCHS)}",
    )
    parser.add_argument(
        "--k",
        type=float,
        default=None,
        help="patchcore: percent of patches kept, above 100 their number (10); padim, orthoad: channels (100); "
        "spade: neighbouring pictures (50)",
    )
    parser.add_argument("--save_path", default="./output", help="where models and results are")
    several = "; several: one model each, and a table of mean and deviation" if seeds else ""
    parser.add_argument("--seed", type=natural, nargs=seeds, default=521, help=f"decides everything random{several}")
    parser.add_argument("--model_name", default=None, help="a label of TIPC configs; decides nothing")


METHOD_OPTIONS: dict[str, tuple[Any, str]] = {
    "image_score": (str, "max, top, smooth; patchcore: also reweighted; spade: also knn"),
    "sigma": (float, "Gaussian smoothing of the map, pixels"),
    "sampler": (str, "patchcore: greedy, approx_greedy, random, identity"),
    "coreset_block": (positive, "patchcore: choose patches in blocks where there are more than this"),
    "spool_dir": (str, "patchcore: folder for the features of all patches while fitting; None: temporary folder"),
    "patch_size": (positive, "patchcore: features are averaged over this neighbourhood"),
    "patch_stride": (positive, "patchcore: every how many-th position is a patch"),
    "pretrain_dim": (positive, "patchcore: pool each layer's patches adaptively to this many values"),
    "target_dim": (positive, "patchcore: pool all layers' patches together to this many values"),
    "search": (str, "patchcore: coarse (image scores exact, lesser patches at times too far) or exact"),
    "num_neighbors": (positive, "patchcore: a distance is the mean over this many nearest rows"),
    "reweight_neighbors": (positive, "patchcore: b of the re-weighting, eq. 7"),
    "eps": (float, "padim, orthoad: added to the covariances' diagonal"),
    "k_image": (positive, "spade: the image score is the mean over this many nearest pictures"),
    "descriptor_layer": (str, "spade: the layer whose mean describes a picture"),
    "gallery": (str, "spade: all_positions of the neighbours, or same_position"),
    "load_projection": (str, "padim, orthoad: .npy file in place of the drawn channels or projection"),
}
"""Options that belong to a method; one that the method does not have is an error."""


def add_method_options(parser: Parser) -> None:
    """Settings of the methods, each with the method's own default when not given."""
    for name, (kind, help) in METHOD_OPTIONS.items():
        parser.add_argument(f"--{name}", type=kind, default=None, help=f"{help} (defaults: {_defaults(name)})")


def _defaults(name: str) -> str:
    found = {key: method.OPTIONS[name] for key, method in METHODS.items() if name in method.OPTIONS}
    return ", ".join(f"{key} {value}" for key, value in found.items())


def add_run_options(parser: Parser) -> None:
    """How programs run."""
    parser.flag("cpu", False, "use the CPU even where there is a GPU")
    parser.add_argument("--gpu", type=natural, default=None, help="use the GPU of this number (unmeasured)")
    parser.add_argument("--cpu_threads", type=positive, default=None, help="CPU threads; one per core if not given")
    parser.add_argument("--num_workers", type=natural, default=None, help="decoding threads; one per core if not given")


def add_precision_option(parser: Parser) -> None:
    """For scripts that score with a model that is there."""
    parser.add_argument(
        "--precision",
        default="fp32",
        choices=["fp32", "bf16", "fp16"],
        help="bf16: CPUs with AVX512-BF16 or AMX; fp16: GPU",
    )


def add_evaluation_options(parser: Parser) -> None:
    """What is measured and drawn."""
    parser.flag("eval_PRO", False, "also compute AU-PRO")
    parser.no_effect(
        "non_partial_AUC",
        "in Anomaly.Paddle it sums the areas under the same curves in another way, to the same figures; "
        "PRO_score goes to a false positive rate of 0.3",
    )
    parser.flag("save_pic", True, "write a heat map per test picture")
    parser.add_argument("--test_batch_size", type=positive, default=1, help="pictures per run when scoring")
    parser.no_effect("eval_threthold_step", "AU-PRO is exact: every distinct map value is a threshold")
