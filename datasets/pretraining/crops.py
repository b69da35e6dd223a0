"""Training crops of the compact backbone: photographs and drawn textures, augmented.

This module needs only numpy and OpenCV, so that it works on machines without Paddle (`benchmarks/compact_torch.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .drawings import cloud, outline, strokes, texture

TEXTURES = 0.4
"""Share of crops of drawn textures; the others are crops of photographs."""


class Crops:
    """Makes training batches; a batch depends only on its number and these arguments.

    Args:
        photographs: uint8 RGB [height, width, 3].
        seed: of all batches.
        pixels: number of pixels of a batch; it has as many crops as fit, so that all sizes take the same time.
        sizes: sizes of crops in pixels. All crops of a batch have one size; the n-th size has a weight of 1 / n.
    """

    def __init__(self, photographs: Sequence[np.ndarray], seed: int, pixels: int, sizes: Sequence[int]) -> None:
        self.photographs, self.seed, self.pixels, self.sizes = photographs, seed, pixels, tuple(sizes)
        share = 1.0 / np.arange(1, len(sizes) + 1)
        self.share = share / share.sum()

    def __call__(self, step: int) -> np.ndarray:
        """Return batch number `step`, uint8 RGB [count, size, size, 3]."""
        random = np.random.default_rng([self.seed, step])
        size = int(random.choice(self.sizes, p=self.share))
        return draw_batch(self.photographs, max(1, round(self.pixels / size**2)), size, random)


def draw_batch(photographs: Sequence[np.ndarray], count: int, size: int, random: np.random.Generator) -> np.ndarray:
    """Return `count` augmented crops, uint8 RGB [count, size, size, 3]; they depend on the generator `random` only."""
    return np.stack([_augmented(photographs, size, random) for _ in range(count)])


def _augmented(photographs: Sequence[np.ndarray], size: int, random: np.random.Generator) -> np.ndarray:
    picture = _source(photographs, size, random)
    if random.random() < 0.45:
        picture = _composed(picture, _source(photographs, size, random), random)
    picture = picture.astype(np.float32)
    if random.random() < 0.3:
        _mark(picture, random)
    picture = _coloured(picture, random)
    if random.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), random.uniform(0.4, 1.8))
    if random.random() < 0.5:
        picture += random.standard_normal(picture.shape, np.float32) * random.uniform(0, 9)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _source(photographs: Sequence[np.ndarray], size: int, random: np.random.Generator) -> np.ndarray:
    """Return a crop of a photograph or texture, scaled, rotated, sheared and mirrored: uint8 [size, size, 3]."""
    if random.random() < TEXTURES:
        picture, scale = texture(size, random), np.exp(random.uniform(-0.3, 0.5))
    else:
        picture = photographs[random.integers(len(photographs))]
        fitting = size / min(picture.shape[:2])  # the whole picture in one crop
        scale = np.exp(random.uniform(np.log(fitting), np.log(max(2.5, 1.5 * fitting))))
    while scale < 0.6:  # antialiasing
        picture, scale = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), scale * 2
    angle = random.uniform(0, 2 * np.pi) if random.random() < 0.4 else random.normal(0, 0.05)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    squeeze = np.exp(random.normal(0, 0.12))
    linear = turn @ np.diag([squeeze * random.choice([-1, 1]), 1 / squeeze]) * scale
    # the crop's centre in the picture; if the picture is large enough, the whole crop lies in it
    room = np.array(picture.shape[1::-1], float)
    margin = np.minimum(size / scale / 2, room / 2)
    centre = random.uniform(margin, room - margin)
    matrix = np.hstack([linear, (size / 2 - linear @ centre)[:, None]])
    return cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _composed(first: np.ndarray, second: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Blend `second` into `first` through a mask of shapes or clouds, sometimes on a plain background; uint8."""
    size = len(first)
    mask = np.zeros((size, size), np.float32)
    kind = random.random()
    if kind < 0.3:  # a thing on a ground
        outline(mask, random.uniform(0.35, 0.65, 2) * size, random.uniform(0.25, 0.5) * size, random, 1.0)
        if random.random() < 0.6:
            first = np.zeros_like(first) + random.uniform(0, 255, 3).astype(np.uint8)
    elif kind < 0.75:  # small pieces
        for _ in range(random.integers(1, 6)):
            outline(mask, random.uniform(0, 1, 2) * size, random.uniform(0.02, 0.2) * size, random, 1.0)
    else:
        field = cloud(size, random, random.uniform(4, 40))
        mask = np.clip((field - random.uniform(0.4, 0.8)) * random.uniform(3, 30), 0, 1)
    if random.random() < 0.5:
        mask = cv2.GaussianBlur(mask, (0, 0), random.uniform(0.5, 3))
    mask = mask[..., None] * (1 if random.random() < 0.6 else random.uniform(0.2, 1))
    return (first * (1 - mask) + second * mask).astype(np.uint8)


def _mark(picture: np.ndarray, random: np.random.Generator) -> None:
    """Draw scratches on a float picture, in place."""
    for _ in range(random.integers(1, 4)):
        line = strokes(np.zeros(picture.shape[:2], np.float32), random)
        picture += line[..., None] * random.normal(150, 60, 3).astype(np.float32)


def _coloured(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Change light, contrast, tint and saturation; float [size, size, 3], about 0 to 255."""
    if random.random() < 0.25:
        picture = np.repeat(picture @ np.full((3, 1), 1 / 3, np.float32), 3, 2)
    elif random.random() < 0.3:
        picture = picture[..., random.permutation(3)]
    if random.random() < 0.1:
        picture = 255 - picture
    if random.random() < 0.8:
        contrast, light = np.exp(random.normal(0, 0.3)), random.normal(0, 25)
        tint = np.exp(random.normal(0, 0.08, 3))
        middle = float(picture.mean())
        picture = ((picture - middle) * contrast + middle + light) * tint.astype(np.float32)
    if random.random() < 0.3:  # uneven light
        size = len(picture)
        picture = picture * (1 + random.uniform(0.1, 0.7) * (cloud(size, random, size / 2) - 0.5))[..., None]
    return np.ascontiguousarray(picture, np.float32)
