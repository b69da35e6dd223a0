"""The options of train.py."""

from __future__ import annotations

from deploy.calibration import FALSE_ALARM, RATE_HELP
from deploy.command_line.parser import Parser, positive, rate
from models.presets import preset

from .arguments import (
    add_data_option,
    add_evaluation_options,
    add_method_options,
    add_model_options,
    add_run_options,
    add_size_options,
    preset_defaults,
)

LAYERS_HELP = "backbone layers; for an ensemble A,B per backbone" + preset_defaults(
    lambda name: ",".join(preset(name).layers)
)


def train_parser(description: str) -> Parser:
    """Return the parser of train.py, which begins its help with `description`."""
    parser = Parser(prog="train.py", usage="python %(prog)s [OPTIONS]", description=description)
    add_data_option(parser, "the folder that holds the categories", several=True)
    add_model_options(parser, several=True, seed=521)
    parser.group("model")
    parser.add_argument("--layers", nargs="+", default=None, help=LAYERS_HELP)
    parser.add_argument("--weights", nargs="+", default=None, help="its .pdparams or .safetensors file, or 'random'")
    parser.flag("save_model", True, "write the model")
    parser.flag("save_model_subfolder", True, "write below {method}_{arch}_{k}, not straight into --save_path")
    parser.add_argument("--false_alarm", type=rate, default=FALSE_ALARM, help=RATE_HELP)
    add_size_options(parser, sets=True)
    parser.add_argument("--shots", type=positive, default=None, help="learn from so many pictures, drawn by --seed")
    parser.flag("skip_bad", False, "leave out pictures that cannot be read instead of stopping")
    add_method_options(parser)
    parser.group("update", "--update output/patchcore_resnet18_3/bottle.safetensors --data_path new")
    parser.add_argument("--update", metavar="MODEL", default=None, help="add the pictures to this model, do not train")
    parser.add_argument("--forget", nargs="+", metavar="PICTURE", help="take these out of it first; alone without data")
    parser.add_argument(
        "--max_size", type=positive, default=None, help="patchcore: most rows of the bank then; spade: most pictures"
    )
    for name in ("forget", "max_size"):
        parser.only_with(name, "update")
    parser.group("evaluation", "--eval --eval_PRO")
    parser.flag("eval", False, "evaluate on the test pictures afterwards")
    add_evaluation_options(parser)
    for name in ("eval_PRO", "save_mask", "save_map", "save_regions", "report", "log", "test_batch_size"):
        parser.only_with(name, "eval")
    add_run_options(parser)
    parser.add_argument("--batch_size", type=positive, default=8, help="pictures per run of the feature program")
    parser.no_effect("inc", "mean and covariance are always accumulated in one pass")
    parser.no_effect("einsum", "the distance is always one batched matrix product")
    parser.no_effect("debug", "errors carry their traceback without it")
    return parser
