"""PaDiM: "a Patch Distribution Modeling Framework for Anomaly Detection and Localization", Defard et al. 2020
(arXiv 2011.08785)."""

from __future__ import annotations

import numpy as np
import paddle

from deploy.errors import UserError

from .base.gaussian import GaussianMethod
from .graph.power import normalised


class PaDiM(GaussianMethod):
    """A Gaussian per position over `k` channels drawn at random from all layers.

    Option `channels`: how they are drawn, `random` from all layers together, or `even`, the same number from each
    layer. The other options are those of `GaussianMethod`.
    """

    NAME = "padim"
    OPTIONS = {**GaussianMethod.OPTIONS, "channels": "random"}

    def make_projection(self, channels: int) -> np.ndarray:
        """Draw k channel numbers, int64 [k], sorted; channels are numbered through all layers."""
        random = np.random.default_rng(self.seed)
        if self.options["channels"] == "random":
            return np.sort(random.choice(channels, self.k, replace=False))
        if self.options["channels"] != "even":
            raise UserError(f"--channels {self.options['channels']} is unknown: choose random or even")
        layers = self.backbone.features
        chosen, start = [], 0
        for number, feature in enumerate(layers):
            share = (self.k + len(layers) - 1 - number) // len(layers)
            if share > feature.channels:
                raise UserError(f"--k {self.k}: {self.backbone.layers[number]} has no {share} channels to draw evenly")
            chosen.append(start + np.sort(random.choice(feature.channels, share, replace=False)))
            start += feature.channels
        return np.concatenate(chosen)

    def check_projection(self, projection: np.ndarray, channels: int) -> np.ndarray:
        """Return a loaded projection as k different channel numbers, sorted; UserError if it is something else."""
        fits = projection.dtype.kind in "iu" and projection.size == self.k
        numbers = np.sort(projection.ravel()) if fits else np.zeros(0)
        if not fits or len(np.unique(numbers)) < self.k or numbers[0] < 0 or numbers[-1] >= channels:
            raise UserError(f"--load_projection must hold {self.k} different whole numbers from 0 to {channels - 1}")
        return numbers.astype(np.int64)

    def use_projection(self, projection: np.ndarray) -> None:
        """Store the channel numbers, split by layer."""
        super().use_projection(projection)
        start = 0
        for layer, feature in enumerate(self.backbone.features):
            own = projection[(projection >= start) & (projection < start + feature.channels)] - start
            self.register_buffer(f"channels_{layer}", paddle.to_tensor(own), persistable=False)
            start += feature.channels

    def reduce(self, output: paddle.Tensor, layer: int) -> paddle.Tensor | None:
        """Select the drawn channels of a layer, raised to `power`; None if none of its channels was drawn."""
        channels = getattr(self, f"channels_{layer}")
        if not channels.shape[0]:
            return None
        return normalised(paddle.index_select(output, channels, axis=1), self.options["power"])

    def join(self, parts: list[paddle.Tensor]) -> paddle.Tensor:
        """Concatenate the channels of all layers."""
        return paddle.concat(parts, axis=1) if len(parts) > 1 else parts[0]
