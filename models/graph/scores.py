"""Parts that several methods' graphs share: slicing columns, and the image score from distances and map."""

from __future__ import annotations

from collections.abc import Sequence

import paddle

from deploy.errors import UserError

TOP = 0.01  # share of the positions, those with the largest distances, that `top` averages


def check_image_score(name: str, choices: Sequence[str], method: str) -> None:
    """Raise UserError unless `name` is one of the method's `choices`."""
    if name not in choices:
        raise UserError(f"--image_score {name}: {method} has {', '.join(choices)}")


def columns(table: paddle.Tensor, start: int, stop: int) -> paddle.Tensor:
    """Columns `start` to `stop` of a table [rows, columns], as a dense tensor.

    A slice would be a view. In dygraph, `index_select` of Paddle 2.6 reads a view as if it were dense, and gives wrong
    rows without an error.
    """
    return paddle.index_select(table, paddle.arange(start, stop), axis=1)


def image_score(name: str, distances: paddle.Tensor, anomaly_map: paddle.Tensor) -> paddle.Tensor:
    """Score [batch] from distances [batch, positions] and map [batch, height, width].

    `max`: the largest distance. `top`: the mean of the largest 1 % of distances, at least one. `smooth`: the largest
    value of the map.
    """
    if name == "max":
        return distances.max(axis=1)
    if name == "top":
        count = max(1, round(TOP * distances.shape[1]))
        return paddle.topk(distances, count, axis=1)[0].sum(axis=1) / count
    return anomaly_map.reshape([-1, anomaly_map.shape[1] * anomaly_map.shape[2]]).max(axis=1)
