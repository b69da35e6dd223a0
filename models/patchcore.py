"""PatchCore: "Towards Total Recall in Industrial Anomaly Detection", Roth et al. 2021 (arXiv 2106.08265)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from deploy.errors import UserError

from .base.augment import copies_each
from .base.data import part_ends
from .base.method import AnomalyMethod
from .base.spool import Spool
from .base.tiling import together
from .graph.pooling import PatchPool, adaptive_matrix, shrink
from .graph.power import normalised
from .graph.resample import to_pixels, upsample
from .graph.scores import ImageScore
from .memory_bank.checks import check_options
from .memory_bank.clusters import Clusters
from .memory_bank.coreset import Sampler, thinned
from .memory_bank.deviation import Deviation
from .memory_bank.held_out import HeldOut, rows_replaced
from .memory_bank.search import (
    FEW,
    CoarseSearch,
    coarse_tables,
    distance_to,
    exact_nearest,
    half_norms_of,
    reweighting,
    several_nearest,
)
from .memory_bank.shards import picked, starts
from .threads import one_thread

MOST_PRODUCTS = 1 << 24  # of patches and rows of the bank, of pictures held out together; with more, little is gained


class PatchCore(AnomalyMethod):
    """A memory bank of patch features, chosen as a coreset; a patch's anomaly is its distance to the nearest row.

    `k` is the percentage of the training patches that the bank keeps, not counting patches of augmented copies; above
    100 it is the number of patches. Options:

    - `sampler`: how the patches are chosen, see `models.memory_bank.coreset.Sampler`: `greedy` (the paper's coreset),
      `approx_greedy`, `random`, or `identity`, which keeps all.
    - `lloyd`: 0 to 1, the share of the way that each chosen patch is then moved to the mean of the patches whose
      nearest row it is, see `models.memory_bank.clusters.Clusters`; 0 in the paper.
    - `coreset_block`: largest number of patches that the greedy samplers choose from at once; more are divided into
      blocks first.
    - `spool_dir`: folder for the features of all patches while fitting; None is the system's temporary folder.
    - `patch_size`: features are averaged over patch_size x patch_size neighbours (section 3.1), odd.
    - `grid`: the layer whose positions are the patches; None is the first layer, as in the paper. Finer layers are
      averaged over each of its positions (after `patch_size`), deeper layers are interpolated.
    - `power`: 1, 0.75 or 0.5, to which the averaged features are raised, see `models.graph.power`; 1 in the paper.
    - `standardise`: 0 to 1, the power of its standard deviation over all training patches by which each channel is
      divided; 0 in the paper.
    - `patch_stride`: only every patch_stride-th position, in both directions, is a patch; 1 in the paper.
    - `pretrain_dim`, `target_dim`: each layer's patches are pooled adaptively to `pretrain_dim` values, and the
      concatenation of all layers to `target_dim` values (1024 and 1024 in patchcore-inspection); None is no pooling.
    - `image_score`: `reweighted` (equation 7), or `max` (equation 6), `top` or `smooth`, see `ImageScore`, or `density`
      (`top` of distances divided by their nearest row's spacing, see `models.memory_bank.neighbours.spacing`).
    - `score_sigma` and `score_top`: see `ImageScore`; without effect on `reweighted` and `smooth`.
    - `num_neighbors`: the distance of a patch is the mean over this many nearest rows; 1 in the paper.
    - `search`: `coarse`, see `models.memory_bank.search.CoarseSearch`, or `exact`. None is `coarse`, but `exact` with
      several neighbours, `smooth`, a `score_top` above 3 (most patches would be searched exactly), or up to FEW rows.
    - `reweight_neighbors`: b of equation 7, the number of bank rows around the nearest row, which is counted too.
    - `sigma`: Gaussian smoothing of the map, in pixels; 0 is none.
    """

    NAME = "patchcore"
    STAGE = "coreset"
    LAYERS = ("layer2", "layer3")
    K = 10.0
    OPTIONS = {
        "sampler": "greedy",
        "lloyd": 0.0,
        "coreset_block": 2_000_000,
        "spool_dir": None,
        "patch_size": 3,
        "power": 1.0,
        "standardise": 0.0,
        "grid": None,
        "patch_stride": 1,
        "pretrain_dim": None,
        "target_dim": None,
        "image_score": "reweighted",
        "score_sigma": 0.0,
        "score_top": 1.0,
        "num_neighbors": 1,
        "search": None,
        "reweight_neighbors": 9,
        "sigma": 4.0,
    }
    FIT_ONLY = frozenset({"coreset_block", "spool_dir"})
    WHOLE = frozenset({"pretrain_dim", "target_dim"})

    @classmethod
    def resolve(cls, arch: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return all options; `search` stays None where the number of rows decides."""
        found = {**cls.OPTIONS, **options}
        coarse = found["num_neighbors"] == 1 and found["image_score"] != "smooth" and found["score_top"] <= 3
        return found if found["search"] or coarse else {**found, "search": "exact"}

    def check_k(self, k: float) -> float:
        """Return `k`: a percentage above 0 and up to 100, or above 100 a whole number of patches."""
        if not k > 0 or (k > 100 and k != int(k)):
            raise UserError(f"--k {k:g}: give a percentage of the patches above 0, or above 100 a whole number of them")
        return float(k)

    def build(self) -> None:
        """Make pooling, alignment of all layers to one grid, upsampling of the map, and buffers."""
        check_options(self.options, self.NAME)
        self._scale: np.ndarray | None = None
        self._blocks = 1
        self.search = self.options["search"] or "coarse"
        features, patch = self.backbone.features, self.options["patch_size"]
        stride, dim = self.options["patch_stride"], self.options["pretrain_dim"]
        given = self.backbone.feature_of(self.options["grid"])
        whole = (given.height, given.width)
        strides = [1 if f.height > whole[0] else stride for f in features]
        self.pools = nn.LayerList([PatchPool(f.channels, patch, s, dim) for f, s in zip(features, strides)])
        self.align = nn.LayerList(
            [
                shrink(whole, (f.height, f.width), stride)
                if f.height > whole[0]
                else upsample(whole, (f.height, f.width), 0, stride, stride)
                for f in features
            ]
        )
        self.grid = (self.align[0].height_out, self.align[0].width_out)
        self.positions = self.grid[0] * self.grid[1]
        self.all_channels = sum(pool.channels for pool in self.pools)
        self.channels = self.options["target_dim"] or self.all_channels
        if self.options["target_dim"] is not None:
            matrix = paddle.to_tensor(adaptive_matrix(self.channels, self.all_channels).T.copy())
            self.register_buffer("aggregate", matrix, persistable=False)
        self.to_pixels = to_pixels(self.preprocess, whole, self.options["sigma"], stride)
        for name, shape in (("memory_bank", [0, self.channels]), ("bank_mean", [self.channels]), ("half_norms", [0])):
            self.register_buffer(name, paddle.zeros(shape))
        self.register_buffer("channel_scale", paddle.ones([self.channels]))
        self.register_buffer("neighbors", paddle.zeros([0, self.options["reweight_neighbors"]], "int64"))
        self.register_buffer("spacing", paddle.zeros([0]))
        self.register_buffer("least_spacing", paddle.zeros([0]))
        self.image_score = ImageScore(self.options, self.grid)
        self.coarse = CoarseSearch(self.channels, self.image_score)
        for name, value in self.coarse.statistics().items():
            self.register_buffer(name, value)

    def embed(self, image: paddle.Tensor) -> paddle.Tensor:
        """Locally aware patch features (equations 2 and 3): [batch * positions, channels], the grid row by row."""
        aligned = []
        for output, pool, align in zip(self.backbone(image), self.pools, self.align):
            pooled = pool(output).reshape([-1, align.height_in, align.width_in])
            if (align.height_in, align.width_in) != self.grid:
                pooled = align(pooled)
            aligned.append(pooled.reshape([-1, pool.channels, self.positions]))
        patches = paddle.concat(aligned, 1).transpose([0, 2, 1]).reshape([-1, self.all_channels])
        patches = normalised(patches, self.options["power"])
        return patches if self.options["target_dim"] is None else paddle.matmul(patches, self.aggregate)

    def statistics(self) -> dict[str, paddle.Tensor]:
        """Return memory_bank [rows, channels] (centred), bank_mean, half_norms, and the tables for search and score."""
        coarse, score = self.search == "coarse", self.options["image_score"]
        names = ["memory_bank", "bank_mean", "half_norms", *(self.coarse.statistics() if coarse else [])]
        names += ["channel_scale"] if self.options["standardise"] else []
        names += {"reweighted": ["neighbors"], "density": ["spacing"]}.get(score, [])
        names += ["least_spacing"] if coarse and score == "density" and self.image_score.gaussian is None else []
        return {name: getattr(self, name) for name in names}

    def free_dimensions(self) -> dict[str, tuple[int, ...]]:
        """Return the dimensions of the coarse search's tables that depend on the bank."""
        return self.coarse.free_dimensions() if self.search == "coarse" else {}

    def check_shapes(self, path: Path, statistics: dict[str, np.ndarray]) -> None:
        """As in `Detector`; in a bank of fewer rows than `reweight_neighbors`, each row has all rows as neighbours."""
        count = min([self.options["reweight_neighbors"], *statistics.get("memory_bank", self.memory_bank).shape[:1]])
        self.register_buffer("neighbors", paddle.zeros([0, count], "int64"))
        super().check_shapes(path, statistics)

    def score_features(
        self, features: paddle.Tensor, *statistics: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Score patches [batch * positions, channels]: map and image score; see the class for the equations."""
        given = dict(zip(self.statistics(), statistics))
        bank, half_norms, unit = given["memory_bank"], given["half_norms"], given.get("spacing")
        query = (features * given["channel_scale"] if "channel_scale" in given else features) - given["bank_mean"]
        if self.search == "coarse":
            tables = [given[name] for name in self.coarse.statistics()]
            nearest, distance = self.coarse(query, bank, half_norms, *tables, given.get("least_spacing", unit))
        elif self.options["num_neighbors"] == 1:
            nearest = exact_nearest(query, bank, half_norms)
            distance = distance_to(query, bank, nearest)
        else:
            nearest, distance = several_nearest(query, bank, half_norms, self.options["num_neighbors"])
        anomaly_map = self.to_pixels(distance.reshape([-1, *self.grid]))
        if unit is not None:
            distance = distance / paddle.index_select(unit, nearest)
        score = self.image_score(distance, anomaly_map)
        if "neighbors" in given:
            around, patches = given["neighbors"], distance.reshape([-1, self.positions])
            score = score * reweighting(query, bank, around, nearest, patches)
        return anomaly_map, score

    def held_out(self, pictures: int) -> int:
        """As in `AnomalyMethod`; with large banks one, since their products take most of the time, and memory."""
        share = 100 if self.options["sampler"] == "identity" else self.k
        rows = share / 100 * pictures * self.positions if share <= 100 else share
        most = int(MOST_PRODUCTS / (self.positions * rows))
        return 1 if self.preprocess.tiled or self.copied else together(pictures, most)

    def start_fit(self, pictures: int) -> None:
        """Open the spool file and the sampler."""
        self._first, self._limit = 0, 0
        self._start(pictures, self.k / (1 + copies_each(self.copied, self.preprocess) if self.k <= 100 else 1), None)

    def start_update(self, pictures: int, max_size: int | None) -> None:
        """Open the spool file, and a sampler that chooses in addition to the bank.

        From the new patches it chooses the same share as the bank has of the patches so far. At the end the bank may
        have at most `max_size` rows, and at most `k` if that is above 100.
        """
        limits = [size for size in (max_size, int(self.k) if self.k > 100 else None) if size is not None]
        least, self._limit = max(2, self.options["num_neighbors"]), min(limits, default=0)
        if limits and self._limit < least:
            raise UserError(f"--max_size {max_size}: a memory bank needs {least} rows at least")
        self._first, bank = self.data["pictures"], self.fitted["memory_bank"]
        share = 100 * len(bank) / (int(part_ends(self.data)[-1]) * self.positions)
        self._start(pictures, share, bank + self.fitted["bank_mean"])

    def _start(self, pictures: int, k: float, bank: np.ndarray | None) -> None:
        self._spool = Spool(self.options["spool_dir"], self.channels)
        self._scale = self.fitted.get("channel_scale") if self._first else None
        self._deviation = Deviation(self.channels) if self.options["standardise"] and self._scale is None else None
        self._sampler = Sampler(
            self.options["sampler"],
            self.channels,
            pictures * self.positions,
            k,
            self.options["coreset_block"],
            self.seed,
            self.runtime.use_gpu,
            bank,
            self.group,
            None if self.group.size == 1 else len(self.shard) * self.positions,
        )

    def partial_fit(self, features: np.ndarray) -> None:
        """Append every patch to the spool file and, if the scale is known, pass it to the sampler, by picture."""
        self._spool.append(features)
        for picture in features.reshape(-1, self.positions, self.channels):
            self._sampler.add(self._scaled(picture)) if self._deviation is None else self._deviation.add(picture)

    @one_thread
    def _sample_in_scale(self, deviation: np.ndarray) -> None:
        """Set the scale of the channels, and pass all patches to the sampler, picture by picture."""
        self._scale = deviation ** -np.float32(self.options["standardise"])
        for first in range(0, self._spool.rows, self.positions):
            self._sampler.add(self._scaled(self._spool.read_block(first, self.positions)))

    def _scaled(self, features: np.ndarray) -> np.ndarray:
        """Features in the scale of the bank; see the option `standardise`."""
        return features if self._scale is None else features * self._scale

    def finish_fit(self) -> dict[str, np.ndarray]:
        """Choose the coreset; return the centred memory bank and the other statistics."""
        if self._deviation is not None:
            self._sample_in_scale(self._deviation.total(self.group))
        first = starts(self._sampler.seen, self.group)
        patches = first[-1]
        count = self._sampler.wanted(patches)
        if not self._first and count < 2:
            raise UserError(f"--k {self.k:g} keeps {count} of {patches} patches: two are needed; raise --k")
        if not self._first and count < self.options["num_neighbors"]:
            raise UserError(f"--num_neighbors {self.options['num_neighbors']}: the bank has {count} rows; raise --k")
        chosen = self._sampler.choose()
        bank = self._scaled(picked(chosen, first, self._spool.read, self.group))
        owner, fixed = self.tiling.owner(chosen // self.positions), 0
        self._blocks = self._sampler.blocks
        del self._sampler
        if self._first:
            mean = self.fitted["bank_mean"]
            bank, owner, fixed = self._joined(bank - mean, owner)
        else:
            mean = bank.mean(axis=0, dtype=np.float64).astype(np.float32)
            bank -= mean
        self._owner, number = owner, owner - self._first
        groups, changes = np.where(number < 0, number, number // self.at_once), []
        if self.options["lloyd"] > 0 or "greedy" in self.options["sampler"]:
            clusters = Clusters(
                bank,
                groups,
                self.options["lloyd"],
                lambda picture: self._centred(picture, mean),
                self.shard,
                self.tiling.pictures(patches // self.positions),
                patches,
                fixed,
                self.group,
                self.at_once,
            )
            bank, (rows, numbers) = clusters.moved(), clusters.farthest_patches()
            farthest = self._scaled(picked(numbers, first, self._spool.read, self.group)) - mean
            changes = [clusters, (rows, farthest)]
        tables = self._tables(bank, mean, groups)
        self._held_out = HeldOut(number, self._replacement, *changes)
        return tables

    def without(self, numbers: list[int], features: np.ndarray) -> dict[str, np.ndarray]:
        """Return the statistics of the bank without the rows that came from these pictures."""
        kept = ~np.isin(self._owner, numbers)
        least = max(2, self.options["num_neighbors"])
        if kept.sum() < least:
            raise UserError(f"--forget: a memory bank needs {least} rows at least, {kept.sum()} are left")
        if len(np.unique(self._owner[kept])) < 2:
            raise UserError("--forget: a memory bank needs rows of two pictures at least, those of one are left")
        owner, self._blocks = self._owner[kept], 1
        self._owner = owner - np.searchsorted(np.sort(numbers), owner)
        self._scale = self.fitted.get("channel_scale")
        return self._tables(self.fitted["memory_bank"][kept], self.fitted["bank_mean"], self._owner)

    def _joined(self, new: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        """Join the bank so far and the new rows, both centred with the same mean.

        If they are more rows than allowed, a coreset of them is chosen.

        Returns:
            The joined bank, the number of the picture that each row comes from, and how many of its first rows are
            rows of the bank so far.
        """
        bank, fixed = np.concatenate([self.fitted["memory_bank"], new]), len(self.fitted["memory_bank"])
        owner = np.concatenate([self._owner, owner + self._first])
        if not 0 < self._limit < len(bank):
            return bank, owner, fixed
        kept = thinned(bank, self._limit, self.seed, self.runtime.use_gpu)
        return bank[kept], owner[kept], int((kept < fixed).sum())

    def _tables(self, bank: np.ndarray, mean: np.ndarray, owner: np.ndarray) -> dict[str, np.ndarray]:
        """Return the statistics: the centred bank and all tables that are computed from it; see `neighbours`."""
        from .memory_bank.neighbours import AROUND, NEAR, least_spacing, neighbours, spacing  # only fits need numba

        half_norms = half_norms_of(bank)
        self.search = self.options["search"] or ("exact" if len(bank) <= FEW else "coarse")
        names, near = self.statistics(), self.options["reweight_neighbors"]
        if "spacing" in names:
            near = 1 + (NEAR if "least_spacing" in names else AROUND)
        neighbors, self._replacement = neighbours(bank, half_norms, owner, min(near, len(bank)), self.group)
        found = {"memory_bank": bank, "bank_mean": mean, "half_norms": half_norms, "neighbors": neighbors}
        found["channel_scale"] = self._scale
        if "spacing" in names:
            found["spacing"] = spacing(bank, neighbors)
        if "least_spacing" in names:
            found["least_spacing"] = least_spacing(found["spacing"], neighbors)
        found.update(coarse_tables(bank) if self.search == "coarse" else {})
        return {name: found[name] for name in names}

    def records(self) -> dict[str, np.ndarray]:
        """Return the number of the picture that each row of the bank comes from, int32 [rows]."""
        return {"bank_owner": self._owner.astype(np.int32)}

    def load_records(self, tensors: dict[str, np.ndarray]) -> None:
        """Set the search by the tables that there are, and each row's picture: its own in models of older versions."""
        self.search = self.options["search"] or ("coarse" if "coarse_bank" in tensors else "exact")
        unknown = -1 - np.arange(len(tensors.get("memory_bank", ())))
        owner = tensors.get("bank_owner", unknown)
        if owner.shape != unknown.shape or owner.dtype.kind != "i":
            raise UserError(f"the model is damaged: bank_owner {owner.shape} does not fit {len(unknown)} rows")
        self._owner = owner.astype(np.int64)

    def describe(self) -> str:
        """Return the bank's size, and the number of blocks if the coreset was chosen in blocks."""
        told, most = super().describe(), self.options["coreset_block"]
        more = f"; chosen in {self._blocks} blocks, then from what they gave: more patches than --coreset_block {most}"
        return told + more if self._blocks > 1 else told

    @contextmanager
    def hold_out(self, pictures: range, features: np.ndarray) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Change the bank in place to what it would be without these pictures, see `HeldOut`; at the end, back."""
        patches = self._scaled(features) - self.fitted["bank_mean"]
        with rows_replaced(self.fitted, *self._held_out.changes(pictures, patches)) as tables:
            yield features, tables

    def _centred(self, picture: int, mean: np.ndarray) -> tuple[int, np.ndarray]:
        """Return the number of a training picture's first patch, and its patches, centred."""
        first = self.tiling.parts(range(picture, picture + 1)).start * self.positions
        return first, self._scaled(self.training_features(range(picture, picture + 1))) - mean

    def end_fit(self) -> None:
        """Close the spool file, and drop what was kept about the training patches."""
        del self._spool
        del self._held_out
