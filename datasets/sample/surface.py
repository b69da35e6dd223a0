"""Surfaces with colours and heights, from which pictures are drawn, and the strokes, spots and noise to make them."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

SIZE = 256
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE].astype(np.float32)
Random = np.random.Generator


@dataclass
class Surface:
    """The scene in front of the camera; a new one is flat and grey.

    colour: float32 [SIZE, SIZE, 3], share of the light that is reflected, 0 to 1.
    height: float32 [SIZE, SIZE], towards the camera, in pixels.
    gloss: float32 [SIZE, SIZE], strength of the highlights.
    brushed: float32 [SIZE, SIZE], share of the gloss that comes from fine grooves.
    along: float32 [SIZE, SIZE], direction of these grooves, in radians.
    product: bool [SIZE, SIZE], True on the product, False on the background.
    """

    colour: np.ndarray = field(default_factory=lambda: np.full((SIZE, SIZE, 3), 0.5, np.float32))
    height: np.ndarray = field(default_factory=lambda: np.zeros((SIZE, SIZE), np.float32))
    gloss: np.ndarray = field(default_factory=lambda: np.zeros((SIZE, SIZE), np.float32))
    brushed: np.ndarray = field(default_factory=lambda: np.zeros((SIZE, SIZE), np.float32))
    along: np.ndarray = field(default_factory=lambda: np.zeros((SIZE, SIZE), np.float32))
    product: np.ndarray = field(default_factory=lambda: np.ones((SIZE, SIZE), bool))

    def window(self, part: tuple[slice, slice]) -> Surface:
        """Return a view of a part of the surface. To draw a small thing on it is faster, and changes the surface."""
        fields = (self.colour, self.height, self.gloss, self.brushed, self.along, self.product)
        return Surface(*(array[part] for array in fields))

    def paint(self, where: np.ndarray, colour: tuple[float, float, float] | np.ndarray) -> None:
        """Colour the surface; `where` is float [SIZE, SIZE], the paint's opacity."""
        self.colour += where[..., None] * (np.asarray(colour, np.float32) - self.colour)

    def lay(
        self, where: np.ndarray, colour: tuple[float, float, float] | np.ndarray, height: np.ndarray, gloss: float
    ) -> None:
        """Put a thing on the surface, which hides what is below; `where` is float [SIZE, SIZE], 1 inside, 0 outside."""
        self.paint(where, colour)
        self.height += where * (height - self.height)
        self.gloss += where * (gloss - self.gloss)
        self.brushed *= 1 - where


def cloud(random: Random, across: float, down: float | None = None) -> np.ndarray:
    """Return smooth noise with mean 0 and deviation 1, float32 [SIZE, SIZE], with spots of `across` x `down` pixels."""
    sigmas = np.array([down or across, across])
    step = np.maximum(1, sigmas / 1.5)  # coarse noise is drawn small and enlarged
    small = np.ceil(SIZE / step).astype(int) + 4
    noise = random.standard_normal(small, np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), sigmaX=sigmas[1] / step[1], sigmaY=sigmas[0] / step[0])
    if step.max() > 1:
        noise = cv2.resize(noise, tuple(int(s) for s in np.ceil(small * step)[::-1]), interpolation=cv2.INTER_CUBIC)
    noise = noise[2 : 2 + SIZE, 2 : 2 + SIZE]
    return (noise - noise.mean()) / noise.std()


def inside(distance: np.ndarray) -> np.ndarray:
    """Convert a signed distance in pixels (positive inside) to opacity, float32 0 to 1, with a smooth edge."""
    return np.clip(distance + 0.5, 0, 1).astype(np.float32)


def frame(centre: tuple[float, float], turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates (right, down) of every pixel in the frame of a product.

    The product is at `centre` (y, x), rotated by `turn` radians.
    """
    y, x = ROWS - np.float32(centre[0]), COLUMNS - np.float32(centre[1])
    cos, sin = float(np.cos(turn)), float(np.sin(turn))
    return x * cos + y * sin, y * cos - x * sin


def box(right: np.ndarray, down: np.ndarray, half_width: float, half_height: float, corner: float) -> np.ndarray:
    """Return the signed distance (positive inside) to a rectangle with round corners around the origin."""
    a, b = np.abs(right) - half_width + corner, np.abs(down) - half_height + corner
    return corner - np.hypot(np.maximum(a, 0), np.maximum(b, 0)) - np.minimum(np.maximum(a, b), 0)


def from_segment(
    right: np.ndarray, down: np.ndarray, start: tuple[float, float], end: tuple[float, float]
) -> np.ndarray:
    """Return the distance of every point from the segment between `start` and `end`, both (right, down)."""
    a, b = end[0] - start[0], end[1] - start[1]
    share = np.clip(((right - start[0]) * a + (down - start[1]) * b) / (a * a + b * b), 0, 1)
    return np.hypot(right - start[0] - share * a, down - start[1] - share * b)


def spot(at: tuple[float, float], radius: float, random: Random, rough: float = 0.2, soft: float = 1.5) -> np.ndarray:
    """Return an uneven spot, float32 [SIZE, SIZE], 1 inside; `rough` and `soft`: unevenness and width of its edge."""
    right, down = frame(at, random.uniform(0, np.pi))
    ratio = random.uniform(0.75, 1.3)
    distance = radius - np.hypot(right * ratio, down / ratio) + rough * radius * cloud(random, max(3, radius / 2))
    return np.clip(distance / soft + 0.5, 0, 1).astype(np.float32)


def stroke(lines: np.ndarray | list[np.ndarray], width: float) -> np.ndarray:
    """Draw one line or several, each through points [count, 2] of (y, x): float32 [SIZE, SIZE], 0 to 1."""
    scale = 2
    canvas = np.zeros((SIZE * scale, SIZE * scale), np.uint8)
    for points in [lines] if isinstance(lines, np.ndarray) else lines:
        fixed = np.round((points[:, ::-1] * scale + scale / 2 - 0.5) * 16).astype(np.int32)
        cv2.polylines(canvas, [fixed], False, 255, max(1, round(width * scale)), cv2.LINE_AA, 4)
    return cv2.resize(canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def curve(at: tuple[float, float], length: float, bend: float, turn: float) -> np.ndarray:
    """Return points [24, 2] of (y, x) on an arc of `length` pixels around `at`; `bend` is its sagitta / length."""
    steps = np.linspace(-0.5, 0.5, 24)
    along, aside = steps * length, 4 * bend * length * (0.25 - steps**2)
    return np.stack(
        [at[0] + along * np.sin(turn) + aside * np.cos(turn), at[1] + along * np.cos(turn) - aside * np.sin(turn)], 1
    )
