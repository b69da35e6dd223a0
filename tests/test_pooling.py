"""Patch features against literal numpy versions of patchcore-inspection's pooling."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from deploy import Preprocess, UserError
from models import PatchCore
from models.graph.pooling import PatchPool, adaptive_matrix
from models.graph.resample import bilinear_matrix

SMALL = Preprocess(112, 96)


def literal_pool(values: np.ndarray, size: int) -> np.ndarray:
    """1-D adaptive average pooling of the last axis, as its definition says."""
    length = values.shape[-1]
    edges = [(i * length // size, -(-((i + 1) * length) // size)) for i in range(size)]
    return np.stack([values[..., start:stop].mean(-1) for start, stop in edges], -1)


def literal_patches(output: np.ndarray, patch: int, stride: int) -> np.ndarray:
    """[channels, height, width] to [rows, columns, channels, patch, patch], zeros outside."""
    margin = patch // 2
    padded = np.pad(output, ((0, 0), (margin, margin), (margin, margin)))
    rows = range(0, padded.shape[1] - patch + 1, stride)
    columns = range(0, padded.shape[2] - patch + 1, stride)
    return np.stack([[padded[:, y : y + patch, x : x + patch] for x in columns] for y in rows])


def literal_fill(given: np.ndarray, stride: int, size: int) -> np.ndarray:
    """Every `stride`-th row [rows, ...] to all `size`, linearly; behind the last one, its value."""
    rows = []
    for row in range(size):
        before, share = row // stride, row % stride / stride
        after = min(before + 1, len(given) - 1)
        rows.append((1 - share) * given[before] + share * given[after])
    return np.stack(rows)


@pytest.mark.parametrize(("size_out", "size_in"), [(4, 4), (3, 7), (7, 3), (1, 5), (1024, 1152)])
def test_adaptive_matrix(size_out: int, size_in: int) -> None:
    values = np.random.default_rng(0).normal(size=size_in)
    np.testing.assert_allclose(adaptive_matrix(size_out, size_in) @ values, literal_pool(values, size_out), atol=1e-6)
    theirs = paddle.nn.functional.adaptive_avg_pool1d(paddle.to_tensor(values.reshape(1, 1, -1)), size_out)
    np.testing.assert_allclose(adaptive_matrix(size_out, size_in) @ values, theirs.numpy()[0, 0], atol=1e-6)


@pytest.mark.parametrize(("patch", "stride", "size"), [(3, 1, None), (3, 1, 20), (5, 2, 7), (1, 3, None), (3, 2, 60)])
def test_patches_of_one_layer(patch: int, stride: int, size: int | None) -> None:
    output = np.random.default_rng(0).normal(size=(6, 13, 11)).astype(np.float32)
    pool = PatchPool(6, patch, stride, size)
    found = pool(paddle.to_tensor(output[None]))[0].numpy()
    patches = literal_patches(output, patch, stride)
    assert patches.shape[:2] == found.shape[1:]
    flat = patches.reshape(*patches.shape[:2], -1)
    expected = patches.mean((3, 4)) if size is None else literal_pool(flat, size)
    np.testing.assert_allclose(found.transpose(1, 2, 0), expected, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"pretrain_dim": 50, "target_dim": 64}, {"target_dim": 30, "patch_stride": 2}, {"patch_stride": 3}]
)
def test_features_are_patchcore_inspections(options: dict) -> None:
    random = np.random.default_rng(0)
    items = [random.integers(0, 256, (120, 130, 3), dtype=np.uint8) for _ in range(3)]
    model = PatchCore(k=20, preprocess=SMALL, arch="compact", weights="random", **options).fit(items)
    crop = paddle.to_tensor(SMALL.normalise(SMALL.crop(SMALL.resized(items[0]))[None]))
    with paddle.no_grad():
        outputs = [output[0].numpy().astype(np.float64) for output in model.backbone(crop)]
        found = model.embed(crop).numpy()
    parts = []
    for output in outputs:
        patches = literal_patches(output, 3, options.get("patch_stride", 1))
        flat = patches.reshape(*patches.shape[:2], -1)
        size = options.get("pretrain_dim")
        pooled = patches.mean((3, 4)) if size is None else literal_pool(flat, size)
        stride = options.get("patch_stride", 1)
        full = literal_fill(literal_fill(pooled, stride, output.shape[1]).swapaxes(0, 1), stride, output.shape[2])
        matrix = bilinear_matrix(outputs[0].shape[1], output.shape[1])[::stride]
        parts.append(np.einsum("yh,whc,xw->yxc", matrix, full, matrix).reshape(-1, pooled.shape[2]))
    expected = np.concatenate(parts, axis=1)
    if "target_dim" in options:
        expected = literal_pool(expected, options["target_dim"])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert model.memory_bank.shape[1] == expected.shape[1]
    [prediction] = model.predict(items[:1])
    assert prediction.anomaly_map.shape == (96, 96)


@pytest.mark.parametrize("name", ["patch_stride", "pretrain_dim", "target_dim"])
def test_unusable_sizes_are_named(name: str) -> None:
    with pytest.raises(UserError, match=f"--{name} 0"):
        PatchCore(arch="compact", weights="random", preprocess=SMALL, **{name: 0})
