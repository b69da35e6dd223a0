"""Base class of PaDiM and OrthoAD: one Gaussian per position, fitted in one pass over the pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import paddle

from deploy.command_line.progress import progress
from deploy.errors import UserError

from ..graph.pooling import shrink
from ..graph.power import check_power
from ..graph.resample import Resample, nearest_matrix, to_pixels
from ..graph.scores import ImageScore, check_image_score
from ..threads import one_thread
from .data import part_ends
from .method import AnomalyMethod
from .spool import Spool

POSITIONS = 256  # number of covariances factorised at a time
PARTS = 3  # number of parts in which the whitening is stored, by columns: more need less memory, but more operators


class GaussianMethod(AnomalyMethod):
    """Mahalanobis distance of every position to the Gaussian of good pictures at this position.

    `k` is the number of channels to which the channels of all layers are reduced. The subclass defines how, in
    `make_projection` and `reduce`. Common options:

    - `eps`: added to the diagonal of every covariance (0.01 in the papers).
    - `grid`: the layer whose positions have Gaussians; None is the first layer, as in the papers. Finer layers are
      averaged over each of its positions, deeper layers are upsampled by nearest neighbour.
    - `power`: 1, 0.75 or 0.5, to which all features are raised, see `models.graph.power`; 1 in the papers.
    - `image_score`: `smooth`, `max` or `top`; `score_sigma` and `score_top`: see `models.graph.scores.ImageScore`.
    - `sigma`: Gaussian smoothing of the map, in pixels; 0 is none.
    - `load_projection`: an .npy file with the projection to use instead of a random one.
    """

    LAYERS = ("layer1", "layer2", "layer3")
    K = 100
    OPTIONS: ClassVar[dict[str, Any]] = {
        "eps": 0.01,
        "power": 1.0,
        "grid": None,
        "image_score": "smooth",
        "score_sigma": 0.0,
        "score_top": 1.0,
        "sigma": 4.0,
        "load_projection": None,
    }

    FIT_ONLY = frozenset({"load_projection"})
    HELD_OUT = 8

    def make_projection(self, channels: int) -> np.ndarray:
        """Draw the projection with `self.seed`; `channels` is the number of channels of all layers together."""
        raise NotImplementedError

    def check_projection(self, projection: np.ndarray, channels: int) -> np.ndarray:
        """Return a loaded projection in the form that `use_projection` takes; UserError if it does not fit."""
        raise NotImplementedError

    def reduce(self, output: paddle.Tensor, layer: int) -> paddle.Tensor | None:
        """Reduce a layer's output [batch, channels, positions], to `power`, to [batch, kept, positions], or None."""
        raise NotImplementedError

    def join(self, parts: list[paddle.Tensor]) -> paddle.Tensor:
        """Combine the reduced layers, each [batch, kept, positions], into [batch, k, positions]."""
        raise NotImplementedError

    def check_k(self, k: float) -> float:
        """Return `k` as a whole number of channels; UserError otherwise."""
        if k != int(k) or k < 2:
            raise UserError(f"--k {k:g}: {self.NAME} keeps a number of channels, a whole number of at least 2")
        return int(k)

    def build(self) -> None:
        """Make the projection, alignment of all layers to one grid, upsampling of the map, and buffers."""
        check_image_score(self.options["image_score"], ("smooth", "max", "top"), self.NAME)
        if self.options["eps"] <= 0:
            raise UserError(f"--eps {self.options['eps']} must be above 0: covariances need it to be invertible")
        check_power(self.options["power"])
        features = self.backbone.features
        channels = sum(feature.channels for feature in features)
        if self.k > channels:
            raise UserError(f"--k {self.k}: {' '.join(self.backbone.layers)} have {channels} channels together")
        self.channels = self.k
        given = self.backbone.feature_of(self.options["grid"])
        self.grid = (given.height, given.width)
        self.positions = self.grid[0] * self.grid[1]
        self.align = paddle.nn.LayerList(
            [
                shrink(self.grid, (feature.height, feature.width), 1)
                if feature.height > self.grid[0]
                else Resample(nearest_matrix(self.grid[0], feature.height), nearest_matrix(self.grid[1], feature.width))
                for feature in features
            ]
        )
        self.to_pixels = to_pixels(self.preprocess, self.grid, self.options["sigma"])
        self.image_score = ImageScore(self.options, self.grid)
        self.use_projection(self._projection(channels))
        self.register_buffer("position_mean", paddle.zeros([self.positions, self.k]))
        for name, (start, end) in self.parts().items():
            self.register_buffer(name, paddle.zeros([self.positions, end, end - start]))

    def parts(self) -> dict[str, tuple[int, int]]:
        """Return the whitening's parts by name, each as (start, end) of its columns; rows from `end` on are zero."""
        ends = [self.k * (i + 1) // PARTS for i in range(PARTS)]
        parts = [(start, end) for start, end in zip([0, *ends], ends) if end > start]
        return {f"whitening_{i}": part for i, part in enumerate(parts)}

    def use_projection(self, projection: np.ndarray) -> None:
        """Store the projection as a buffer, which becomes part of the program."""
        self.register_buffer("projection", paddle.to_tensor(projection))

    def _projection(self, channels: int) -> np.ndarray:
        path = self.options["load_projection"]
        if path is None:
            return self.make_projection(channels)
        if not Path(path).is_file():
            raise UserError(f"--load_projection {path}: no such file")
        try:
            loaded = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: a header may state any shape
        except Exception as error:  # a damaged file raises nearly anything
            told = str(error).partition("\n")[0] or type(error).__name__
            raise UserError(f"--load_projection {path}: cannot read it as an .npy array ({told[:200]})") from error
        if not isinstance(loaded, np.ndarray):
            raise UserError(f"--load_projection {path}: holds several arrays; give an .npy file with one")
        found = self.check_projection(loaded, channels)
        if not np.isfinite(found).all():
            raise UserError(f"--load_projection {path}: holds values that are no finite numbers")
        return found

    def constants(self) -> dict[str, paddle.Tensor]:
        """Return the projection, which is drawn or loaded before fitting and is the same for every category."""
        return {"projection": self.projection}

    def load_constants(self, constants: dict[str, np.ndarray]) -> None:
        """Load the projection that a model was fitted with."""
        channels = sum(feature.channels for feature in self.backbone.features)
        try:
            self.use_projection(self.check_projection(constants["projection"], channels))
        except (UserError, KeyError) as error:
            raise UserError(f"the model's projection is missing or damaged: train it again ({error})") from error

    def embed(self, image: paddle.Tensor) -> paddle.Tensor:
        """Compute features [batch * positions, k] on the grid."""
        parts = []
        for layer, (feature, output) in enumerate(zip(self.backbone.features, self.backbone(image))):
            flat = self.reduce(output.reshape([-1, feature.channels, feature.height * feature.width]), layer)
            if flat is None:
                continue
            kept = flat.shape[1]
            if (feature.height, feature.width) != self.grid:
                flat = self.align[layer](flat.reshape([-1, feature.height, feature.width]))
            parts.append(flat.reshape([-1, kept, self.positions]))
        return self.join(parts).transpose([0, 2, 1]).reshape([-1, self.k])

    def statistics(self) -> dict[str, paddle.Tensor]:
        """Return position_mean [positions, k] and the whitening, upper triangular [positions, k, k], in its `parts`.

        A program spends its time reading them from memory, so the parts leave out most of the zeros.
        """
        return {name: getattr(self, name) for name in ("position_mean", *self.parts())}

    def score_features(
        self, features: paddle.Tensor, position_mean: paddle.Tensor, *whitening: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Score features by Mahalanobis distances: map and image score.

        (x - m)^T S^-1 (x - m) is the squared length of L^-1 (x - m), where S = L L^T.
        """
        k, positions = self.k, self.positions
        offset = features.reshape([-1, positions, k]) - position_mean.reshape([1, positions, k])
        offset = offset.transpose([1, 0, 2])
        squared = None
        for part, (_, end) in zip(whitening, self.parts().values()):
            # statistics are used in their stored shape: reshaping them would copy them
            white = paddle.bmm(offset if end == k else paddle.slice(offset, [2], [0], [end]), part)
            length = (white * white).sum(axis=2)
            squared = length if squared is None else squared + length
        distance = paddle.sqrt(squared).transpose([1, 0])
        anomaly_map = self.to_pixels(distance.reshape([-1, *self.grid]))
        return anomaly_map, self.image_score(distance, anomaly_map)

    def start_fit(self, pictures: int) -> None:
        """Start with no pictures, and open the spool file of the features."""
        self._spool = Spool(None, self.k)
        self._seen, self._added = 0, []
        self._width = -(-self.positions // self.group.size)
        here = len(self._positions_of(self.group.rank))
        self._mean = np.zeros((here, self.k), np.float32)
        self._scatter = np.zeros((here, self.k, self.k), np.float32)

    def _positions_of(self, rank: int) -> range:
        """The positions whose Gaussians a process fits."""
        start = min(rank * self._width, self.positions)
        return range(start, min(start + self._width, self.positions))

    def start_update(self, pictures: int, max_size: int | None) -> None:
        """Start from the stored Gaussians, whose covariances are recovered; UserError if `max_size` is given."""
        if max_size is not None:
            raise UserError(f"--max_size {max_size}: a {self.NAME} model does not grow; leave it out")
        self.start_fit(pictures)
        self._seen, self._mean = int(part_ends(self.data)[-1]), self.fitted["position_mean"].copy()
        self._recover_scatter()

    @one_thread
    def _recover_scatter(self) -> None:
        """Compute the scatter matrices back from the stored whitening.

        The whitening is L^-T, where S = L L^T is the covariance with `eps` added to its diagonal. It is stored in
        float32 and inverted in double precision.
        """
        diagonal = np.arange(self.k)
        for rows in _blocks(self.positions):
            whitening = np.zeros((rows.stop - rows.start, self.k, self.k))
            for name, (start, end) in self.parts().items():
                whitening[:, :end, start:end] = self.fitted[name][rows]
            factor = np.linalg.inv(whitening)
            covariance = factor.transpose(0, 2, 1) @ factor
            covariance[:, diagonal, diagonal] -= self.options["eps"]
            self._scatter[rows] = covariance * (self._seen - 1)

    def partial_fit(self, features: np.ndarray) -> None:
        """Add the features of a batch to mean and scatter.

        With several processes, each only stores its batches; `finish_fit` gives each process its positions of all.
        """
        self._spool.append(features)
        batch = features.reshape(-1, self.positions, self.k)
        self._added.append(len(batch))
        if self.group.size == 1:
            self._accumulate(batch)

    def _exchanged(self) -> Iterator[np.ndarray]:
        """Exchange features; yield this process's positions of all batches, in order, [pictures, positions, k].

        So every Gaussian is summed in the same order as in one process. Merging the moments of each process's pictures
        would round differently, and would send more data when there are fewer pictures than channels.
        """
        sent, here = 0, len(self._positions_of(self.group.rank))
        for rank, count in self.group.joined([(self.group.rank, count) for count in self._added]):
            parts = None
            if rank == self.group.rank:
                rows = self._spool.read_block(sent * self.positions, count * self.positions)
                sent += count
                padded = np.zeros((count, self._width * self.group.size, self.k), np.float32)
                padded[:, : self.positions] = rows.reshape(count, self.positions, self.k)
                parts = [np.ascontiguousarray(part) for part in np.split(padded, self.group.size, axis=1)]
            yield self.group.scatter(parts, np.zeros((count, self._width, self.k), np.float32), rank)[:, :here]

    def _accumulate(self, batch: np.ndarray) -> None:
        """Add a batch, float32 [pictures, positions, k], to mean and scatter.

        The update is Chan, Golub and LeVeque's, which never subtracts large sums from each other.
        """
        count = len(batch)
        mean = batch.mean(axis=0)
        centred = np.ascontiguousarray((batch - mean).transpose(1, 2, 0))
        shift = mean - self._mean
        total = self._seen + count
        weight = np.float32(np.sqrt(self._seen * count / total))
        columns = np.concatenate([centred, (shift * weight)[..., None]], axis=2)
        for rows in _blocks(len(self._mean)):
            self._scatter[rows] += columns[rows] @ columns[rows].transpose(0, 2, 1)
        self._mean += shift * np.float32(count / total)
        self._seen = total

    @one_thread
    def finish_fit(self) -> dict[str, np.ndarray]:
        """Return mean and whitening of every position; UserError if `eps` is too small to invert a covariance."""
        if self.group.size > 1:
            for batch in self._exchanged():
                self._accumulate(batch)
        diagonal, here = np.arange(self.k), len(self._mean)
        found = {"position_mean": self._mean}
        for name, (start, end) in self.parts().items():
            found[name] = np.empty((here, end, end - start), np.float32)
        blocks = _blocks(here)
        for rows in progress(blocks, len(blocks), "covariances", "block", delay=1):
            covariance = self._scatter[rows].astype(np.float64) / (self._seen - 1)  # unbiased
            covariance[:, diagonal, diagonal] += self.options["eps"]
            try:
                whitening = np.linalg.inv(np.linalg.cholesky(covariance)).transpose(0, 2, 1)
            except np.linalg.LinAlgError as error:
                raise UserError(f"--eps {self.options['eps']:g} is too small: train with a larger one") from error
            for name, (start, end) in self.parts().items():
                found[name][rows] = whitening[:, :end, start:end]
        del self._scatter
        return {name: self.group.concatenated(value) for name, value in found.items()}

    def without(self, numbers: list[int], features: np.ndarray) -> dict[str, np.ndarray]:
        """Return the statistics after the pictures' features are taken out of mean and covariance."""
        left = int(part_ends(self.data)[-1]) - len(features)
        if left < 3:
            raise UserError(f"--forget: {self.NAME} needs at least three good pictures or tiles, {left} are left")
        self.start_update(0, None)
        for picture in features:
            shift = picture - self._mean
            for rows in _blocks(self.positions):
                column = shift[rows, :, None] * np.float32(np.sqrt(self._seen / (self._seen - 1)))
                self._scatter[rows] -= column @ column.transpose(0, 2, 1)
            self._mean -= shift / np.float32(self._seen - 1)
            self._seen -= 1
        try:
            return self.finish_fit()
        finally:
            self.end_fit()

    @contextmanager
    def hold_out(self, pictures: range, features: np.ndarray) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Yield features whose distance to the fitted Gaussians equals that of each picture to Gaussians without it.

        The statistics stay as they are; instead, each position's offset from the mean is stretched. Holding one picture
        out of n changes mean and covariance by rank one. So (Sherman and Morrison) its squared distance D to the
        Gaussian of all pictures becomes n^2 (n - 2) / (n - 1)^3 * D / (1 - n D / (n - 1)^2). This scales `eps` by
        (n - 1) / (n - 2) as well. All tiles and copies of a picture are held out together.
        """
        n, mean = self._seen, self.fitted["position_mean"]
        offset = features.reshape(-1, self.positions, self.k) - mean
        if self.tiling.several:
            own = [self.tiling.parts(range(picture, picture + 1)) for picture in pictures]
            stretch = np.concatenate([self._without_group(offset[o.start - own[0].start :][: len(o)]) for o in own])
        elif n < 3:
            raise UserError(f"{self.NAME} needs at least three good pictures, got {n}")
        else:
            squared = self._squared_distances(offset)
            remaining = np.maximum(1 - n * squared / (n - 1) ** 2, 1e-6)
            stretch = np.sqrt(n**2 * (n - 2) / (n - 1) ** 3 / remaining).astype(np.float32)
        yield (mean + stretch[..., None] * offset).reshape(-1, self.k), {}

    @one_thread
    def _squared_distances(self, offset: np.ndarray) -> np.ndarray:
        """Squared Mahalanobis distances, float64 [pictures, positions], of offsets [pictures, positions, k]."""
        by_position = np.ascontiguousarray(offset.swapaxes(0, 1))
        squared = np.zeros(by_position.shape[:2])
        for name, (_, end) in self.parts().items():
            white = np.matmul(by_position[:, :, :end], self.fitted[name])
            squared += np.einsum("prk,prk->pr", white, white, dtype=np.float64)
        return squared.T

    @one_thread
    def _without_group(self, offset: np.ndarray) -> np.ndarray:
        """Factors [t, positions] by which offsets [t, positions, k] are stretched if all t are held out together.

        Let Z be the offsets, S the scatter of all, n' = n - t the number of others, and J a matrix of ones. The scatter
        of the others is S - Z^T M Z with M = I + (1 / n') J. The offset of row i from the mean of the others is Z^T a
        with a = e_i + 1 / n'. With G = Z S^-1 Z^T, Woodbury's identity gives the squared distance
        (n' - 1) a^T (G + G (M^-1 - G)^-1 G) a.
        """
        group, n = len(offset), self._seen
        left = n - group
        if left < 2:
            raise UserError(f"{self.NAME} needs two tiles or copies of other pictures, got {left}: give more pictures")
        by_position, ones = np.ascontiguousarray(offset.swapaxes(0, 1)), np.ones((group, group))
        inverse, shift = np.eye(group) - ones / n, np.eye(group) + ones / left
        found = np.empty((self.positions, group), np.float32)
        for rows in _blocks(self.positions):
            some, gram = by_position[rows], np.zeros((len(by_position[rows]), group, group))
            for name, (_, end) in self.parts().items():
                white = np.matmul(some[:, :, :end], self.fitted[name][rows]).astype(np.float64)
                gram += white @ white.transpose(0, 2, 1)
            gram /= n - 1
            values, vectors = np.linalg.eigh(inverse - gram)
            side = gram @ vectors
            both = gram + (side / np.maximum(values, 1e-6)[:, None]) @ side.transpose(0, 2, 1)
            squared = (left - 1) * np.einsum("ij,pjk,ik->pi", shift, both, shift)
            before = np.maximum((n - 1) * np.diagonal(gram, axis1=1, axis2=2), 1e-12)
            found[rows] = np.sqrt(squared / before)
        return found.T

    def unit(self) -> float:
        """Geometric mean of the Gaussians' standard deviations; a distance times this is in units of the features.

        Without this factor, wider Gaussians alone would make all distances smaller. Where all variances differ by one
        common factor, the product is the one that appears in the profile likelihood.
        """
        logs = [
            np.log(np.diagonal(self.fitted[name], offset=-start, axis1=1, axis2=2)).sum(axis=1, dtype=np.float64)
            for name, (start, _) in self.parts().items()
        ]
        return float(np.exp(-sum(logs).mean() / self.k))

    def end_fit(self) -> None:
        """Close the spool file."""
        del self._spool


def _blocks(positions: int) -> list[slice]:
    return [slice(start, min(start + POSITIONS, positions)) for start in range(0, positions, POSITIONS)]
