"""Options that the scripts share, and what they mean."""

from .arguments import (
    add_evaluation_options,
    add_method_options,
    add_model_options,
    add_precision_option,
    add_run_options,
)
from .selection import (
    archs,
    check_model,
    command,
    method_options,
    model_file,
    names,
    one_category,
    per_backbone,
    preprocess,
    pro_limit,
    results_folder,
    run_folder,
    run_name,
    runtime,
)

__all__ = [
    "add_evaluation_options",
    "add_method_options",
    "add_model_options",
    "add_precision_option",
    "add_run_options",
    "archs",
    "check_model",
    "command",
    "method_options",
    "model_file",
    "names",
    "one_category",
    "per_backbone",
    "preprocess",
    "pro_limit",
    "results_folder",
    "run_folder",
    "run_name",
    "runtime",
]
