"""Textures drawn by code for training the compact backbone: surfaces and objects that the photographs lack.

Each texture is a height field, float [size, size], about 0 to 1, that is coloured by a palette. Periods, angles, grain
and colours are random.
"""

from __future__ import annotations

import cv2
import numpy as np

LETTERS = "ABCDEFGHKLMNPRSTUVXZabcdeghkmnprsuvxyz0123456789.-/#+"


def texture(size: int, random: np.random.Generator) -> np.ndarray:
    """Return a picture, uint8 RGB [size, size, 3], of a random kind of `KINDS`."""
    height = KINDS[random.integers(len(KINDS))](size, random)
    if random.random() < 0.4:
        height = height + random.uniform(0.02, 0.3) * (cloud(size, random, random.uniform(0.5, 3)) - 0.5)
    return palette(np.clip(height, 0, 1), random)


def palette(height: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Colour a field of 0 to 1 through 2 to 5 colours, most often of one family; uint8 [..., 3]."""
    count = random.integers(2, 6)
    colours = random.uniform(0, 255, 3) + random.normal(0, random.uniform(5, 80), (count, 3))
    if random.random() < 0.4:  # grey: most industrial surfaces
        colours = np.repeat(colours.mean(1, keepdims=True), 3, 1) + random.normal(0, 4, 3)
    places = np.linspace(0, 255, count)
    table = np.stack([np.interp(np.arange(256), places, colours[:, channel]) for channel in range(3)], 1)
    return np.clip(table, 0, 255).astype(np.uint8)[(height * 255).astype(np.uint8)]


def cloud(size: int, random: np.random.Generator, grain: float) -> np.ndarray:
    """Return smooth noise, float32 [size, size], with spots of `grain` pixels, stretched to 0 to 1."""
    step = max(1, int(grain / 2))
    coarse = random.standard_normal((size // step + 2, size // step + 2)).astype(np.float32)
    coarse = cv2.GaussianBlur(coarse, (0, 0), max(grain / step, 0.4))
    field = cv2.resize(coarse, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)[:size, :size]
    return cv2.normalize(field, None, 0, 1, cv2.NORM_MINMAX)


def fractal(size: int, random: np.random.Generator) -> np.ndarray:
    """Clouds of several sizes added up, rough or soft."""
    decay, grain = random.uniform(0.4, 0.9), random.uniform(16, 60)
    field, weight = np.zeros((size, size), np.float32), 1.0
    while grain > 1:
        field += weight * cloud(size, random, grain)
        weight, grain = weight * decay, grain / 2.2
    return cv2.normalize(field, None, 0, 1, cv2.NORM_MINMAX)


def plane(size: int, random: np.random.Generator, low: float = 4, high: float = 40) -> tuple[np.ndarray, np.ndarray]:
    """Turned and slightly bent coordinates, float [size, size] each, in periods of `low` to `high` pixels."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    angle = random.choice([0, np.pi / 2, random.uniform(0, np.pi)])
    period = np.exp(random.uniform(np.log(low), np.log(high)))
    if random.random() < 0.5:
        x = x + random.uniform(0, 0.4) * period * cloud(size, random, 30)
        y = y + random.uniform(0, 0.4) * period * cloud(size, random, 30)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return u / period + random.uniform(), v / period / random.uniform(0.6, 1.6) + random.uniform()


def weave(size: int, random: np.random.Generator) -> np.ndarray:
    """Threads over and under each other: plain weave, twill or satin."""
    u, v = plane(size, random, 4, 24)
    over = (np.floor(u) + random.integers(1, 3) * np.floor(v)) % random.integers(2, 5) < 1
    across, along = np.abs(np.sin(np.pi * u)), np.abs(np.sin(np.pi * v))
    return np.where(over, 0.2 + 0.8 * across**0.7 * (0.7 + 0.3 * along), 0.6 * along**0.7)


def grid(size: int, random: np.random.Generator) -> np.ndarray:
    """Bars one way or both ways: grids, meshes, tiles, ribs."""
    u, v = plane(size, random, 5, 60)
    sharp, bar = random.uniform(2, 30), random.uniform(0.05, 0.5)
    edge = np.abs(u % 1 - 0.5)
    if random.random() < 0.7:
        v = v + (np.floor(u) % 2) * random.choice([0, 0.5])
        edge = np.maximum(edge, np.abs(v % 1 - 0.5)) if random.random() < 0.7 else np.hypot(u % 1 - 0.5, v % 1 - 0.5)
    return 1 / (1 + np.exp(np.minimum(-sharp * (edge - 0.5 + bar / 2) * 10, 80)))


def waves(size: int, random: np.random.Generator) -> np.ndarray:
    """Rings or stripes, bent: wood, contours, turned metal."""
    if random.random() < 0.5:
        u, _ = plane(size, random, 3, 60)
        return 0.5 + 0.5 * np.sin(2 * np.pi * (u + random.uniform(0, 3) * cloud(size, random, 40)))
    y, x = np.mgrid[:size, :size].astype(np.float32)
    radius = np.hypot(
        y - random.uniform(-0.5, 1.5) * size, (x - random.uniform(-0.5, 1.5) * size) * random.uniform(0.3, 1)
    )
    bend = random.uniform(0, 20) * cloud(size, random, 30)
    return 0.5 + 0.5 * np.sin((radius + bend) * 2 * np.pi / random.uniform(3, 40))


def cells(size: int, random: np.random.Generator) -> np.ndarray:
    """Grains, pebbles, leather: the distance from random points, or which of them is nearest."""
    seeds = np.ones((size, size), np.uint8)
    count = int(np.exp(random.uniform(np.log(20), np.log(1500))))
    seeds[random.integers(0, size, count), random.integers(0, size, count)] = 0
    distance, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    shape = np.minimum(distance / (1.2 * size / np.sqrt(count)), 1)
    tone = random.uniform(0, 1, labels.max() + 1).astype(np.float32)[labels]
    mix = random.choice([0, 1, random.uniform()])
    return mix * tone + (1 - mix) * (1 - shape)


def brushed(size: int, random: np.random.Generator) -> np.ndarray:
    """Ground or brushed metal, with scratches."""
    noise = random.standard_normal((size, size)).astype(np.float32)
    long, thin = random.uniform(5, 60), random.uniform(0.3, 1.2)
    field = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), sigmaX=long, sigmaY=thin), None, 0.2, 0.8, cv2.NORM_MINMAX)
    field = field if random.random() < 0.5 else field.T.copy()
    for _ in range(random.integers(0, 8)):
        field = strokes(field, random)
    return field


def strokes(field: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a copy of `field`, float32 [size, size], with a bent line, lighter or darker than it by up to .8."""
    size = len(field)
    start, angle, length = random.uniform(0, size, 2), random.uniform(0, 2 * np.pi), random.uniform(0.1, 1) * size
    steps = np.linspace(0, 1, 12)[:, None]
    way = np.array([np.cos(angle), np.sin(angle)])
    points = start + steps * length * way + steps**2 * random.normal(0, 0.1) * length * way[::-1] * [1, -1]
    canvas = np.zeros(field.shape, np.uint8)
    width = int(random.integers(1, 4))
    cv2.polylines(canvas, [np.round(points * 16).astype(np.int32)], False, 255, width, cv2.LINE_AA, 4)
    return field + canvas.astype(np.float32) / 255 * random.uniform(-0.8, 0.8)


def text(size: int, random: np.random.Generator) -> np.ndarray:
    """Lines of letters and digits of any size on a nearly plain ground."""
    ground, ink = random.uniform(0, 1, 2)
    field = np.full((size, size), ground, np.float32) + random.uniform(0, 0.2) * cloud(size, random, 40)
    canvas = np.zeros((size, size), np.uint8)
    scale = np.exp(random.uniform(np.log(0.25), np.log(2.5)))
    font, width = int(random.integers(0, 8)), int(random.integers(1, 2 + int(2 * scale)))
    y = random.uniform(0, 30 * scale)
    while y < size + 30 * scale:
        line = "".join(LETTERS[index] for index in random.integers(0, len(LETTERS), 40))
        cv2.putText(canvas, line, (int(random.uniform(-40, 5)), int(y)), font, scale, 255, width, cv2.LINE_AA)
        y += random.uniform(25, 60) * scale
    if random.random() < 0.5:
        turn = cv2.getRotationMatrix2D((size / 2, size / 2), random.uniform(0, 360), 1.0)
        canvas = cv2.warpAffine(canvas, turn, (size, size))
    share = canvas.astype(np.float32) / 255
    return field * (1 - share) + ink * share


def leaves(size: int, random: np.random.Generator) -> np.ndarray:
    """Discs, boxes and polygons over each other, of all sizes."""
    field = np.full((size, size), random.uniform(), np.float32)
    for _ in range(random.integers(5, 120)):
        centre = random.uniform(-0.1, 1.1, 2) * size
        radius = size * 0.5 / random.uniform(1, 12) ** 1.3
        outline(field, centre, radius, random, float(random.uniform()))
    return field


def outline(field: np.ndarray, centre: np.ndarray, radius: float, random: np.random.Generator, value: float) -> None:
    """Fill an ellipse or polygon about `centre` (x, y) in `field`, in place."""
    if random.random() < 0.4:
        axes = (max(1, int(radius)), max(1, int(radius * random.uniform(0.3, 1))))
        cv2.ellipse(
            field, (int(centre[0]), int(centre[1])), axes, random.uniform(0, 180), 0, 360, value, -1, cv2.LINE_AA
        )
        return
    corners = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 8)))
    points = centre + radius * np.stack([np.cos(corners), np.sin(corners)], 1)
    cv2.fillPoly(field, [np.round(points * 16).astype(np.int32)], value, cv2.LINE_AA, 4)


def solid(size: int, random: np.random.Generator) -> np.ndarray:
    """A shaded ball, ring or cylinder on an even ground."""
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    cy, cx = random.uniform(0.2, 0.8, 2)
    radius, kind = random.uniform(0.15, 0.6), random.integers(3)
    distance = np.abs(x - cx) if kind == 0 else np.hypot(y - cy, x - cx)
    inner = random.uniform(0, 0.8) * radius if kind == 1 else 0
    inside = np.clip((radius - distance) * size, 0, 1) * (np.clip((distance - inner) * size, 0, 1) if kind == 1 else 1)
    dome = np.sqrt(np.clip(1 - (distance / radius) ** 2, 0, 1))
    tilt = (x - cx) * random.normal() + (y - cy) * random.normal()
    body = random.uniform(0.2, 0.9) + random.uniform(-0.5, 0.5) * dome + 0.5 * tilt
    return body * inside + (1 - inside) * (random.uniform() + 0.1 * tilt)


def ramp(size: int, random: np.random.Generator) -> np.ndarray:
    """A soft slope of light with fine grain."""
    u, v = plane(size, random, size, 3 * size)
    return 0.5 + 0.3 * (u - u.mean()) + 0.05 * random.standard_normal((size, size)).astype(np.float32)


KINDS = (weave, weave, grid, grid, waves, fractal, cells, cells, brushed, text, text, leaves, leaves, solid, ramp)
"""Kinds of textures; a kind that is listed twice is drawn twice as often."""
