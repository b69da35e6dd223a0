"""Interpretation of the options for --update; they must not contradict the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasets.readers import Category
from deploy.command_line.parser import Arguments
from deploy.errors import UserError
from models import AnomalyMethod, Detector

from .arguments import METHOD_OPTIONS
from .selection import categories, check_model

OWN = ("weights", "preset", "roi", "augment", "augment_force")
"""Options that are not allowed for an update, because the model has its own values."""
OF_DATA = ("eval", "download", "false_alarm", "max_size", "skip_bad")
"""Options that have no effect where --forget is given without --data_path."""


def check_update(args: Arguments, model: Detector, path: Path) -> AnomalyMethod:
    """Return the model, which was read from `path`, after setting --model_path to that of --update.

    Raises:
        UserError: it is an ensemble, options contradict it, or options have no effect on an update.
    """
    if not isinstance(model, AnomalyMethod):
        raise UserError(
            f"--update {path}: it is an ensemble, which cannot be updated: train it again with all pictures"
        )
    args.model_path = args.update
    check_model(args, model, path)
    asked = {name: getattr(args, name) for name in ("fit", "tile", "overlap", *METHOD_OPTIONS)}
    tile = model.preprocess.crop_size if model.preprocess.tiled else None
    held = {"fit": model.preprocess.fit, "tile": tile, "overlap": model.preprocess.overlap}
    held |= {**dict.fromkeys(METHOD_OPTIONS), **model.options}
    asked["range"], held["range"] = words(args.range), words(model.preprocess.value_range)
    if args.layers is not None:
        asked["layers"], held["layers"] = (" ".join(" ".join(args.layers).split(",")), " ".join(model.layers))
    if "seed" in args.given:
        asked["seed"], held["seed"] = words(args.seed), str(model.seed)
    for name, value in asked.items():
        if value is not None and value != held[name]:
            how = "without it" if held[name] is None else f"with {held[name]}"
            raise UserError(f"--{name} {value}: {path} was trained {how}; train it again or drop the option")
    for name in OWN:
        if name in args.given:
            raise UserError(f"--{name}: {path} has its own; leave the option out of an update")
    if args.shots is not None:
        raise UserError(f"--shots {args.shots}: an update adds all new pictures; leave the option out")
    for name in () if adds(args) else OF_DATA:
        if name in args.given and getattr(args, name) is not False:
            raise UserError(
                f"--{name} has an effect only with --data_path, whose good pictures are added: give it too, or leave "
                f"out --{name}"
            )
    return model


def words(values: Sequence[object] | None) -> str | None:
    """Return values as they are given to an option; None for None."""
    return None if values is None else " ".join(map(str, values))


def adds(args: Arguments) -> bool:
    """Whether pictures are added; not if --forget is given without --data_path."""
    return args.forget is None or "data_path" in args.given


def update_category(args: Arguments, path: Path) -> Category:
    """Return the category whose pictures are added: that of --category, or that of the model file's name.

    If none are added, it has only a name. UserError for several categories.
    """
    if not adds(args):
        return Category(path.stem, Path(args.data_path) / path.stem)
    chosen = categories(args, args.category if "category" in args.given else path.stem)
    if len(chosen) > 1:
        raise UserError(f"--update is of one model, --category {args.category} are {len(chosen)}: name one category")
    return chosen[0]
