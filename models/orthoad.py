"""OrthoAD: "Semi-orthogonal Embedding for Efficient Unsupervised Anomaly Segmentation", Kim et al. 2021
(arXiv 2105.14737)."""

from __future__ import annotations

import numpy as np
import paddle

from deploy.errors import UserError

from .base.gaussian import GaussianMethod
from .graph.power import normalised
from .threads import one_thread


class OrthoAD(GaussianMethod):
    """A Gaussian per position over `k` values, to which a random matrix projects the channels of all layers.

    Option `orthogonal`: how the columns of a random normal matrix are made orthonormal, by `qr` or by `svd`; `none`
    leaves the matrix as drawn, a plain random projection. The other options are those of `GaussianMethod`.
    """

    NAME = "orthoad"
    OPTIONS = {**GaussianMethod.OPTIONS, "orthogonal": "qr"}

    @one_thread
    def make_projection(self, channels: int) -> np.ndarray:
        """Draw the projection, float32 [channels, k].

        With `qr` and with `svd` it is uniformly distributed over all matrices with orthonormal columns.
        """
        normal = np.random.default_rng(self.seed).standard_normal((channels, self.k))
        if self.options["orthogonal"] == "qr":
            matrix, triangle = np.linalg.qr(normal)
            matrix = matrix * np.sign(np.diag(triangle))
        elif self.options["orthogonal"] == "svd":
            left, _, right = np.linalg.svd(normal, full_matrices=False)
            matrix = left @ right
        elif self.options["orthogonal"] == "none":
            matrix = normal
        else:
            raise UserError(f"--orthogonal {self.options['orthogonal']} is unknown: choose qr, svd or none")
        return matrix.astype(np.float32)

    def check_projection(self, projection: np.ndarray, channels: int) -> np.ndarray:
        """Return a loaded [channels, k] matrix; its columns must be orthonormal unless `orthogonal` is `none`."""
        if projection.shape != (channels, self.k) or projection.dtype.kind != "f":
            raise UserError(f"--load_projection must hold floats [{channels}, {self.k}], not {projection.shape}")
        loose = self.options["orthogonal"] == "none"
        with np.errstate(all="ignore"):  # damaged values may be as large as any; they are refused
            if not loose and np.abs(projection.T @ projection - np.eye(self.k)).max() > 1e-3:
                raise UserError("--load_projection must have orthonormal columns")
        return projection.astype(np.float32)

    def use_projection(self, projection: np.ndarray) -> None:
        """Store the projection, its rows split by layer."""
        super().use_projection(projection)
        start = 0
        for layer, feature in enumerate(self.backbone.features):
            rows = np.ascontiguousarray(projection[start : start + feature.channels])
            self.register_buffer(f"rows_{layer}", paddle.to_tensor(rows), persistable=False)
            start += feature.channels

    def reduce(self, output: paddle.Tensor, layer: int) -> paddle.Tensor:
        """Project the layer, raised to `power`, on its own grid, before upsampling: the two operations commute."""
        channels, places = output.shape[1:]
        rows = normalised(output, self.options["power"]).transpose([0, 2, 1]).reshape([-1, channels])
        return paddle.matmul(rows, getattr(self, f"rows_{layer}")).reshape([-1, places, self.k]).transpose([0, 2, 1])

    def join(self, parts: list[paddle.Tensor]) -> paddle.Tensor:
        """Add the layers' projected parts.

        With `add_n`, because oneDNN of Paddle 3.3 in bfloat16 loses a reshape in a chain of additions that has the
        first layer's part on the left.
        """
        return paddle.add_n(parts)
