"""Which values of PatchCore's options can be used, as far as they do not depend on the backbone."""

from __future__ import annotations

from typing import Any

from deploy.errors import UserError

from ..graph.power import check_power
from ..graph.scores import check_image_score
from .coreset import SAMPLERS


def check_options(options: dict[str, Any], name: str) -> None:
    """Raise UserError, naming the option, if one of PatchCore's options cannot be used; `name` is the method's."""
    check_image_score(options["image_score"], ("reweighted", "max", "top", "density", "smooth"), name)
    if options["sampler"] not in SAMPLERS:
        raise UserError(f"--sampler {options['sampler']} is unknown: choose one of {', '.join(SAMPLERS)}")
    if not 0 <= options["lloyd"] <= 1:
        raise UserError(f"--lloyd {options['lloyd']:g} must be 0 to 1, the share of the way to the means")
    check_power(options["power"])
    if not 0 <= options["standardise"] <= 1:
        raise UserError(f"--standardise {options['standardise']:g} must be 0 to 1, a power of the deviation")
    patch = options["patch_size"]
    if patch < 1 or patch % 2 == 0:
        raise UserError(f"--patch_size {patch} must be odd and at least 1")
    if options["reweight_neighbors"] < 2:
        raise UserError(f"--reweight_neighbors {options['reweight_neighbors']} must be at least 2 (b of equation 7)")
    if options["num_neighbors"] < 1:
        raise UserError(f"--num_neighbors {options['num_neighbors']} must be at least 1")
    if options["search"] not in (None, "coarse", "exact"):
        raise UserError(f"--search {options['search']} is unknown: choose coarse or exact")
    if options["search"] == "coarse" and options["num_neighbors"] > 1:
        raise UserError(
            f"--search coarse finds one neighbour, not --num_neighbors {options['num_neighbors']}: "
            "give --search exact"
        )
    for size in ("coreset_block", "patch_stride", "pretrain_dim", "target_dim"):
        if options[size] is not None and options[size] < 1:
            raise UserError(f"--{size} {options[size]} must be at least 1")
