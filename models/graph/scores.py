"""Parts that several methods' graphs share: slicing columns, and the image score from distances and map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
from paddle import nn

from deploy.errors import UserError

from .resample import Resample, gaussian_matrix

CUT = 2.0  # the Gaussian of `score_sigma` ends at so many sigma: one of 0.7 covers 3 x 3 positions


def columns(table: paddle.Tensor, start: int, stop: int) -> paddle.Tensor:
    """Columns `start` to `stop` of a table [rows, columns], as a dense tensor.

    A slice would be a view. In dygraph, `index_select` of Paddle 2.6 reads a view as if it were dense, and gives wrong
    rows without an error.
    """
    return paddle.index_select(table, paddle.arange(start, stop), axis=1)


def check_image_score(name: str, choices: Sequence[str], method: str) -> None:
    """Raise UserError unless `name` is one of the method's `choices`."""
    if name not in choices:
        raise UserError(f"--image_score {name}: {method} has {', '.join(choices)}")


class ImageScore(nn.Layer):
    """Image score of a picture's distances, by one of these rules:

    - `max`: the largest distance. `top`: the mean of the largest `score_top` % of distances, at least one.
    - `smooth`: the largest value of the map.

    For `max` and `top`, each distance is first averaged with its neighbours by a Gaussian of `score_sigma` positions;
    0 is none. A defect is mostly seen at several neighbouring positions; what is odd in a good picture, often at one.
    """

    def __init__(self, options: dict[str, Any], grid: tuple[int, int]) -> None:
        """For positions of `grid`, height and width, and the options of a method: `image_score`, which may also be
        `density` (`top` of other distances) or `reweighted` (`max`, not smoothed), `score_sigma` and `score_top`.

        Raises:
            UserError: `score_sigma` or `score_top` is out of range.
        """
        super().__init__()
        name, self.grid = options["image_score"], grid
        self.rule = {"density": "top", "reweighted": "max"}.get(name, name)
        self.positions = grid[0] * grid[1]
        if not 0 < options["score_top"] <= 100:
            raise UserError(f"--score_top {options['score_top']:g} is a percentage of patches: above 0 and up to 100")
        self.share = options["score_top"] / 100
        """Share of the positions whose distances `top` is the mean of, above 0 and up to 1."""
        self.count = max(1, round(self.share * self.positions))
        sigma = options["score_sigma"]
        matrices = [gaussian_matrix(side, sigma, CUT, "score_sigma") for side in grid]
        self.reach = int(CUT * sigma + 0.5)
        """How many positions the Gaussian reaches to each side."""
        self.gaussian = Resample(*matrices) if self.reach and name in ("max", "top", "density") else None

    def smoothed(self, distances: paddle.Tensor) -> paddle.Tensor:
        """Average distances [batch * positions], of the grid row by row, with their neighbours: [batch, positions]."""
        if self.gaussian is not None:
            distances = self.gaussian(distances.reshape([-1, *self.grid]))
        return distances.reshape([-1, self.positions])

    def around(self, values: paddle.Tensor) -> paddle.Tensor:
        """The largest of the values [batch, positions] as far as the Gaussian reaches: [batch, positions]."""
        if self.gaussian is None:
            return values
        maps = values.reshape([-1, 1, *self.grid])
        return nn.functional.max_pool2d(maps, 2 * self.reach + 1, 1, self.reach).reshape([-1, self.positions])

    def forward(self, distances: paddle.Tensor, anomaly_map: paddle.Tensor) -> paddle.Tensor:
        """Score [batch] from distances [batch * positions] and map [batch, height, width]."""
        if self.rule == "smooth":
            return anomaly_map.reshape([-1, anomaly_map.shape[1] * anomaly_map.shape[2]]).max(axis=1)
        values = self.smoothed(distances)
        if self.rule == "max":
            return values.max(axis=1)
        return paddle.topk(values, self.count, axis=1)[0].sum(axis=1) / self.count
