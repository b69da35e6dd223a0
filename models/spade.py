"""SPADE: "Sub-Image Anomaly Detection with Deep Pyramid Correspondences", Cohen and Hoshen 2020 (arXiv 2005.02357)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from deploy.errors import UserError

from .backbones.backbone import DEEPEST, Backbone, MissingLayer
from .base.data import part_ends
from .base.method import AnomalyMethod
from .base.spool import Spool
from .graph.resample import to_pixels, upsample
from .graph.scores import ImageScore, check_image_score, columns

READINGS = ("all_positions", "same_position")
CELLS = 1 << 22  # pairs of positions compared at a time, for each picture
FAR = 1e6  # all values of a descriptor that must never be among the nearest ones


class SPADE(AnomalyMethod):
    """Finds the most similar good pictures, then the distance of every position to its nearest position in them.

    `k` is the number of most similar good pictures (neighbours) whose feature pyramids form a picture's gallery; with
    fewer training pictures, all. The pyramids of all training pictures are on disk, memory-mapped, and only those of
    the neighbours are read. Options:

    - `k_image`: the image score is the mean squared distance to this many nearest descriptors (equation 1).
    - `descriptor_layer`: the layer whose mean over all positions is the picture's descriptor. The default is layer4,
      as in the paper, or the last layer of a network that has no layer4.
    - `gallery`: `all_positions` compares a position with all positions of the neighbours (equation 3 of the paper).
      `same_position` compares it with the same position of each neighbour (as ind_knn_ad does), which is much faster
      but needs aligned products.
    - `image_score`: `knn` (equation 1), or `max`, `top` or `smooth`; `score_sigma` and `score_top`: see `ImageScore`.
    - `sigma`: Gaussian smoothing of the map, in pixels; 0 is none.

    The anomaly of a position is the mean over the layers of its squared distance to the nearest position in the
    gallery. The distances of each layer are resampled to the grid of the first layer.
    """

    NAME = "spade"
    LAYERS = ("layer1", "layer2", "layer3")
    K = 50
    OPTIONS = {
        "k_image": 5,
        "descriptor_layer": "layer4",
        "gallery": "all_positions",
        "image_score": "knn",
        "score_sigma": 0.0,
        "score_top": 1.0,
        "sigma": 4.0,
    }

    @classmethod
    def resolve(cls, arch: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return all options; if not given, `descriptor_layer` is the last one of layer1 to layer4 that `arch` has."""
        return {**cls.OPTIONS, "descriptor_layer": DEEPEST.get(arch, cls.OPTIONS["descriptor_layer"]), **options}

    def check_k(self, k: float) -> float:
        """Return `k` as a whole number of pictures; UserError otherwise."""
        if k != int(k) or k < 1:
            raise UserError(f"--k {k:g}: {self.NAME} reads a number of pictures, a whole number of at least 1")
        return int(k)

    def make_backbone(self, arch: str, weights: str | Path | None) -> Backbone:
        """Return the backbone with the layers of the pyramid and, as the last one, the descriptor's layer."""
        layer = self.options["descriptor_layer"]
        try:
            return Backbone(arch, (*self.layers, layer), self.preprocess.size, weights, self.seed)
        except MissingLayer as error:
            raise UserError(
                f"{error}; SPADE takes a picture's descriptor from --descriptor_layer {layer}: name another one, "
                f"for instance --descriptor_layer {self.layers[-1]}"
            ) from error

    def build(self) -> None:
        """Make alignment of the deeper layers to the first layer's grid, upsampling of the map, and buffers."""
        check_image_score(self.options["image_score"], ("knn", "max", "top", "smooth"), self.NAME)
        if self.options["gallery"] not in READINGS:
            raise UserError(f"--gallery {self.options['gallery']} is unknown: choose {' or '.join(READINGS)}")
        if self.options["k_image"] < 1:
            raise UserError(f"--k_image {self.options['k_image']} must be at least 1")
        *self.features, last = self.backbone.features
        self.widths = [f.channels * f.height * f.width for f in self.features]
        self.channels = sum(self.widths) + last.channels
        self.grid = (self.features[0].height, self.features[0].width)
        self.align = nn.LayerList([upsample(self.grid, (f.height, f.width)) for f in self.features])
        self.to_pixels = to_pixels(self.preprocess, self.grid, self.options["sigma"])
        self.image_score = ImageScore(self.options, self.grid)
        self.register_buffer("descriptors", paddle.zeros([0, last.channels]))
        self.register_buffer("gallery_rows", paddle.zeros([0], "int64"))
        self.galleries = [f"gallery_{number}" for number in range(len(self.features))]
        for name, f in zip(self.galleries, self.features):
            self.register_buffer(name, paddle.zeros([0, f.height * f.width, f.channels]))

    def _describe(self, output: paddle.Tensor) -> paddle.Tensor:
        """The descriptor: mean over all positions of [batch, channels, height, width], so [batch, channels]."""
        last = self.backbone.features[-1]
        return output.reshape([-1, last.channels, last.height * last.width]).sum(axis=2) / (last.height * last.width)

    def embed(self, image: paddle.Tensor) -> paddle.Tensor:
        """Compute one row per picture, [batch, channels]: its layers, channel by channel, and its descriptor."""
        *layers, last = self.backbone(image)
        rows = [layer.reshape([-1, width]) for layer, width in zip(layers, self.widths)]
        return paddle.concat([*rows, self._describe(last)], axis=1)

    def _split(self, features: paddle.Tensor) -> tuple[list[paddle.Tensor], paddle.Tensor]:
        """Split rows of `embed` into the pyramid, [batch, positions, channels] per layer, and the descriptor."""
        pyramid, start = [], 0
        for f, width in zip(self.features, self.widths):
            layer = columns(features, start, start + width).reshape([-1, f.channels, f.height * f.width])
            pyramid.append(layer.transpose([0, 2, 1]))
            start += width
        return pyramid, columns(features, start, self.channels)

    def statistics(self) -> dict[str, paddle.Tensor]:
        """Return descriptors [pictures, channels], gallery_rows [pictures], and one gallery per layer.

        `gallery_rows` says which picture of the galleries belongs to each descriptor.
        """
        names = ("descriptors", "gallery_rows", *self.galleries)
        return {name: getattr(self, name) for name in names}

    def traced_numbers(self) -> tuple[int, int]:
        """Return how many neighbours form the gallery, and how many descriptors the image score is computed from."""
        pictures = self.descriptors.shape[0]
        return min(self.k, pictures), min(self.options["k_image"], pictures - 1)

    def score_features(
        self,
        features: paddle.Tensor,
        descriptors: paddle.Tensor,
        gallery_rows: paddle.Tensor,
        *galleries: paddle.Tensor,
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Score rows of `embed`: map and image score; see the class for the equations."""
        pyramid, descriptor = self._split(features)
        count, near = self.traced_numbers()
        nearness = paddle.matmul(descriptor, descriptors, transpose_y=True) - _half_norms(descriptors)
        nearest = paddle.topk(nearness, max(count, near), axis=1)[1]
        picked = paddle.index_select(gallery_rows, columns(nearest, 0, count).reshape([-1])).reshape([-1, count])
        compare = self._all_positions if self.options["gallery"] == "all_positions" else self._same_position
        parts = []
        for layer, gallery, align, f in zip(pyramid, galleries, self.align, self.features):
            squared = compare(layer, gallery, picked).reshape([-1, f.height, f.width])
            parts.append(align(squared) if (f.height, f.width) != self.grid else squared)
        distances = sum(parts[1:], parts[0]) / len(parts)
        anomaly_map = self.to_pixels(distances)
        if self.options["image_score"] != "knn":
            return anomaly_map, self.image_score(distances, anomaly_map)
        first = paddle.index_select(descriptors, columns(nearest, 0, near).reshape([-1]))
        offset = descriptor.unsqueeze(1) - first.reshape([-1, near, descriptors.shape[1]])
        return anomaly_map, (offset * offset).sum(axis=[1, 2]) / near

    def _all_positions(self, query: paddle.Tensor, gallery: paddle.Tensor, picked: paddle.Tensor) -> paddle.Tensor:
        """Squared distance of each position of `query` to the nearest position of the `picked` gallery pictures.

        Args:
            query: [batch, positions, channels].
            gallery: [pictures, positions, channels].
            picked: [batch, count], numbers of the gallery pictures for each picture of the batch.
        """
        positions, channels = query.shape[1:]
        pictures = max(1, CELLS // positions**2)
        ones = paddle.ones_like(query.sum(axis=2, keepdim=True))
        wide, best = paddle.concat([query, ones], axis=2), None
        for start in range(0, picked.shape[1], pictures):
            some = columns(picked, start, min(start + pictures, picked.shape[1]))
            rows = some.shape[1] * positions
            block = paddle.index_select(gallery, some.reshape([-1])).reshape([-1, rows, channels])
            # q b - |b|^2 / 2 is largest for the nearest b; a column of ones makes it a single product, which is faster
            against = paddle.concat([block, -_half_norms(block).unsqueeze(2)], axis=2)
            nearest = paddle.argmax(paddle.matmul(wide, against, transpose_y=True), axis=2)
            picture = paddle.cumsum(paddle.ones_like(nearest), axis=0) - 1
            found = paddle.index_select(block.reshape([-1, channels]), (nearest + rows * picture).reshape([-1]))
            best = _lower(best, query - found.reshape([-1, positions, channels]))
        return best

    def _same_position(self, query: paddle.Tensor, gallery: paddle.Tensor, picked: paddle.Tensor) -> paddle.Tensor:
        """Smallest squared distance of each position of `query` to the same position of the `picked` gallery pictures.

        Arguments as for `_all_positions`.
        """
        best = None
        for number in range(picked.shape[1]):
            one = columns(picked, number, number + 1).reshape([-1])
            best = _lower(best, query - paddle.index_select(gallery, one))
        return best

    def start_fit(self, pictures: int) -> None:
        """Open a spool file per layer, for rows of positions."""
        self._spools = [Spool(None, f.channels) for f in self.features]
        self._descriptors: list[np.ndarray] = []
        self._own, self._added = Spool(None, self.channels), []
        self._earlier = self._limit = 0

    def start_update(self, pictures: int, max_size: int | None) -> None:
        """Start with the pictures of the gallery so far; at the end it may have `max_size` pictures."""
        if max_size is not None and max_size < max(pictures, 2):
            raise UserError(f"--max_size {max_size} is too small for a gallery with {pictures} new pictures")
        self.start_fit(pictures)
        self._earlier, self._limit = len(self.fitted["descriptors"]), max_size or 0
        self._hold(range(self._earlier))

    def without(self, numbers: list[int], features: np.ndarray) -> dict[str, np.ndarray]:
        """Return the statistics without the pictures; those that have left the gallery before are not in it anyway."""
        ends = part_ends(self.data)
        left_before = int(ends[-1]) - len(self.fitted["descriptors"])
        owner = np.searchsorted(ends, np.arange(left_before, ends[-1]), "right")
        kept = np.flatnonzero(~np.isin(owner, numbers)).tolist()
        if len(kept) < 2:
            raise UserError(f"--forget: a gallery needs at least two pictures or tiles, {len(kept)} are left")
        self.start_fit(0)
        self._hold(kept)
        return self.finish_fit()

    def _hold(self, pictures: Iterable[int]) -> None:
        """Copy these pictures of the gallery so far into the new one."""
        self._descriptors += [self.fitted["descriptors"][picture] for picture in pictures]
        for spool, name in zip(self._spools, self.galleries):
            for picture in pictures:
                spool.append(self.fitted[name][picture])

    def partial_fit(self, features: np.ndarray) -> None:
        """Append the pyramids to the spool files and keep the descriptors.

        With several processes, each only keeps its own features; `finish_fit` exchanges them.
        """
        if self.group.size == 1:
            self._append(features)
        else:
            self._own.append(features)
            self._added.append(len(features))

    def _append(self, features: np.ndarray) -> None:
        start = 0
        for spool, f, width in zip(self._spools, self.features, self.widths):
            layer = features[:, start : start + width].reshape(len(features), f.channels, -1)
            spool.append(layer.transpose(0, 2, 1).reshape(-1, f.channels))
            start += width
        self._descriptors += [row.copy() for row in features[:, start:]]

    def finish_fit(self) -> dict[str, np.ndarray]:
        """Return the statistics: descriptors in memory, galleries memory-mapped.

        If there are more pictures than allowed, the oldest are left out. With several processes, each gets the
        galleries of all pictures, in the order of the pictures.
        """
        sent = 0
        for rank, count in self.group.joined([(self.group.rank, count) for count in self._added]):
            rows = np.empty((count, self.channels), np.float32)
            if rank == self.group.rank:
                rows, sent = self._own.read_block(sent, count), sent + count
            self._append(self.group.broadcast(rows, rank))
        pictures = len(self._descriptors)
        oldest = max(0, pictures - (self._limit or pictures))
        self._earlier -= oldest
        found = {"descriptors": np.stack(self._descriptors[oldest:]), "gallery_rows": np.arange(pictures - oldest)}
        for name, spool, f in zip(self.galleries, self._spools, self.features):
            found[name] = spool.mapped().reshape(pictures, f.height * f.width, f.channels)[oldest:]
        del self._spools, self._descriptors, self._own
        return found

    def training_features(self, pictures: range) -> np.ndarray:
        """Read the features of training pictures back from the galleries, as `embed` gave them."""
        own = self._places(pictures)
        layers = [self.fitted[name][own].transpose(0, 2, 1) for name in self.galleries]
        rows = [layer.reshape(len(own), -1) for layer in layers]
        return np.concatenate([*rows, self.fitted["descriptors"][own]], axis=1)

    def _places(self, pictures: range) -> range:
        """Places in the gallery of pictures of the last fit or update, or of their tiles."""
        parts = self.tiling.parts(pictures)
        return range(self._earlier + parts.start, self._earlier + parts.stop)

    @contextmanager
    def hold_out(self, pictures: range, features: np.ndarray) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Move the descriptors of the held-out picture far away, so that it is not among the neighbours.

        If all pictures are neighbours, because there are few, it is still among them; so its descriptors point to the
        gallery rows of other pictures.
        """
        descriptors, rows = self.fitted["descriptors"].copy(), self.fitted["gallery_rows"].copy()
        own = self._places(pictures)
        others = np.concatenate([rows[own.stop :], rows[: own.start]])
        if len(others) < min(self.options["k_image"], len(rows) - 1):
            raise UserError(f"--k_image {self.options['k_image']}: others than one picture have {len(others)} tiles")
        rows[own] = np.resize(others, len(own))
        descriptors[own] = FAR
        yield features, {"descriptors": descriptors, "gallery_rows": rows}

    def describe(self) -> str:
        """Return one line: the number of pictures and the size of the gallery, and special cases."""
        pictures = len(self.fitted["descriptors"])
        size = sum(self.fitted[name].nbytes for name in self.galleries) / 1e6
        few = f"; --k {self.k}: all {pictures} are neighbours" if pictures <= self.k else ""
        last, arch = self.options["descriptor_layer"], self.backbone.arch
        less = f"; pictures are described by {last}: {arch} has no layer4" if last == DEEPEST.get(arch) else ""
        return f"gallery of {pictures} pictures, {size:.0f} MB on disk{few}{less}"


def _half_norms(rows: paddle.Tensor) -> paddle.Tensor:
    """Half the squared lengths of vectors [..., channels]."""
    return (rows * rows).sum(axis=-1) / 2


def _lower(best: paddle.Tensor | None, offset: paddle.Tensor) -> paddle.Tensor:
    """Element-wise minimum of `best` (if given) and the squared lengths of `offset` [batch, positions, channels]."""
    squared = (offset * offset).sum(axis=2)
    return squared if best is None else paddle.minimum(best, squared)
