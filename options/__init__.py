"""Options that the scripts share, and their interpretation."""

from .arguments import (
    add_data_option,
    add_evaluation_options,
    add_model_options,
    add_precision_option,
    add_run_options,
    add_size_options,
)
from .pictures import preprocess, preset_preprocess
from .selection import (
    asked_seeds,
    builder,
    categories,
    check_model,
    command,
    model_file,
    model_files,
    model_names,
    one_category,
    results_folder,
    run_folder,
    run_name,
    runtime,
    seed_folder,
    seeds,
    settle,
    shared_seed,
)
from .training import train_parser
from .update import adds, check_update, update_category

__all__ = [
    "adds",
    "add_data_option",
    "add_evaluation_options",
    "add_model_options",
    "add_precision_option",
    "add_run_options",
    "add_size_options",
    "asked_seeds",
    "builder",
    "categories",
    "check_model",
    "check_update",
    "command",
    "model_file",
    "model_files",
    "model_names",
    "one_category",
    "preprocess",
    "preset_preprocess",
    "results_folder",
    "run_folder",
    "run_name",
    "runtime",
    "seed_folder",
    "seeds",
    "settle",
    "shared_seed",
    "train_parser",
    "update_category",
]
