"""The flaws of the sample data. A flaw changes a product's plan or its surface, and returns the surface."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np

from .objects import Connector, Tablet, Washer
from .surface import COLUMNS, ROWS, SIZE, Random, Surface, cloud, curve, spot, stroke
from .textures import Fabric


class Product(Protocol):
    """Anything that can be drawn."""

    def surface(self) -> Surface:
        """The product's surface."""


def _place(product: np.ndarray, random: Random, margin: int = 12) -> tuple[float, float]:
    """Return a point (y, x) on the product, at least `margin` pixels from its edges and inside the centre crop."""
    inner = cv2.erode(product.astype(np.uint8), np.ones((2 * margin + 1, 2 * margin + 1), np.uint8))
    inner[:36], inner[-36:], inner[:, :36], inner[:, -36:] = 0, 0, 0, 0
    points = np.argwhere(inner)
    y, x = points[random.integers(len(points))]
    return float(y), float(x)


def _edge(product: np.ndarray, random: Random) -> tuple[float, float]:
    """Return a point (y, x) on the product's edge."""
    points = np.argwhere(cv2.dilate(product.astype(np.uint8), np.ones((3, 3), np.uint8)) - product)
    y, x = points[random.integers(len(points))]
    return float(y), float(x)


def scratch(product: Product, random: Random) -> Surface:
    """A hairline or a deeper scratch: a groove with a raised lip, brighter or darker than its surroundings."""
    done = product.surface()
    at = _place(done.product, random, 8)
    points = curve(at, random.uniform(28, 64), random.uniform(-0.12, 0.12), random.uniform(0, np.pi))
    points += random.normal(0, 0.3, points.shape)
    strength = random.uniform(0.55, 1)
    line = stroke(points, random.choice([1.0, 1.5, 2.0])) * done.product
    lip = stroke(points + (1.2, 1.0), 1.0) * done.product
    done.height += strength * (0.6 * lip - 1.1 * line)
    bright = random.uniform() < (1.0 if done.colour[int(at[0]), int(at[1])].mean() < 0.3 else 0.6)
    done.paint(line * strength * 0.42, (0.85, 0.85, 0.83) if bright else (0.2, 0.17, 0.15))
    done.brushed *= 1 - line
    return done


def stain(product: Product, random: Random) -> Surface:
    """A dried drop: a faint tint with a darker rim."""
    return _blot(product, random, 1.0, 1.0, ((0.78, 0.66, 0.46), (0.7, 0.71, 0.74)))


def soaked_stain(product: Product, random: Random) -> Surface:
    """Coffee or wine that cloth soaked up."""
    return _blot(product, random, 1.3, 1.5, ((0.72, 0.54, 0.3), (0.78, 0.5, 0.48)))


def _blot(product: Product, random: Random, spread: float, depth: float, tints: tuple) -> Surface:
    done = product.surface()
    body = spot(_place(done.product, random), spread * random.uniform(9, 17), random, 0.18, soft=3)
    rim = np.clip(1 - np.abs(body - 0.5) * 2, 0, 1)
    tint = np.array(tints[random.integers(len(tints))], np.float32)
    strength = depth * random.uniform(0.5, 0.9) * done.product
    done.colour *= 1 - ((0.75 * body + 0.35 * rim) * strength)[..., None] * (1 - tint)
    done.gloss *= 1 - 0.6 * np.clip(strength * body, 0, 1)
    return done


def dent(product: Product, random: Random) -> Surface:
    """A shallow dent, which changes the shading only."""
    done = product.surface()
    at, radius = _place(done.product, random), random.uniform(7, 12)
    y, x = ROWS - at[0], COLUMNS - at[1]
    ratio = random.uniform(0.75, 1.3)
    bowl = 0.5 - 0.5 * np.tanh(3 * (np.hypot(y * ratio, x / ratio) / radius - 0.6))
    shiny = done.gloss[int(at[0]), int(at[1])] > 0.3  # shows the least slope
    done.height -= bowl.astype(np.float32) * radius * random.uniform(0.2, 0.35) * (0.7 if shiny else 2.3) * done.product
    return done


def speck(product: Product, random: Random) -> Surface:
    """Dirt: one to three crumbs close together."""
    done = product.surface()
    y, x = _place(done.product, random)
    colour = ((0.12, 0.1, 0.09), (0.4, 0.25, 0.12), (0.5, 0.12, 0.1))[random.integers(3)]
    for _ in range(random.integers(1, 4)):
        crumb = spot((y + random.normal(0, 5), x + random.normal(0, 5)), random.uniform(1.8, 3.6), random, 0.3)
        crumb *= random.uniform(0.6, 0.95)
        done.paint(crumb, colour)
        done.height += crumb * 1.5
    return done


def washer_chip(product: Washer, random: Random) -> Surface:
    """A piece broken off the ring's edge: the mat shows."""
    done = product.surface()
    gone = spot(_edge(done.product, random), random.uniform(6, 11), random, 0.25, soft=1)
    done.lay(gone, product.rubber.colour, product.rubber.height, 0)
    return done


def tablet_chip(product: Tablet, random: Random) -> Surface:
    """A piece broken off the tablet's edge: the rough filling shows."""
    done = product.surface()
    at, radius, rough = _edge(done.product, random), random.uniform(9, 14), cloud(random, 1.3)
    broken = spot(at, radius, random, 0.22, soft=1.5)
    slope = np.clip(1.3 - np.hypot(ROWS - at[0], COLUMNS - at[1]) / radius, 0, 1)
    done.height -= broken * done.product * (3 + 7 * slope + 0.6 * rough)
    done.colour *= 1 + (broken * done.product * (0.03 + 0.04 * rough))[..., None]
    done.gloss *= 1 - broken
    done.lay(spot(at, radius * 0.45, random, 0.2), product.tray.colour, product.tray.height, 0.12)
    return done


def crack(product: Tablet, random: Random) -> Surface:
    """A jagged hairline crack that starts at the edge."""
    done = product.surface()
    start = np.array(_edge(done.product, random))
    inward = np.array(product.centre) - start
    turn = np.arctan2(inward[0], inward[1]) + random.normal(0, 0.35)
    turns = turn + np.cumsum(random.normal(0, 0.4, 8))
    steps = random.uniform(4, 8, (8, 1)) * np.stack([np.sin(turns), np.cos(turns)], 1)
    points = start + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
    line = stroke(points, 1.0) * done.product
    done.height -= 1.6 * line
    done.paint(line * random.uniform(0.35, 0.6), (0.35, 0.31, 0.25))
    return done


def wrong_print(product: Tablet, random: Random) -> Surface:
    """A wrong, missing, shifted, doubled or half-printed line of print."""
    line = int(random.integers(2))
    kind = random.integers(5)
    if kind == 0:
        product.lines[line] = str(random.choice([["PK", "RX", "FX"], ["26", "50", "28"]][line]))
    elif kind == 1:
        product.lines[line] = product.lines[line][: int(random.integers(2))]
    elif kind == 2:
        product.shift[line] += random.choice([-1, 1], 2) * random.uniform((5, 11), (12, 17))
    elif kind == 3:
        product.strikes[line].append(random.choice([-1, 1], 2) * random.uniform(2.5, 5, 2))
    else:
        y, x = product.place(line) + random.normal(0, 3, 2)
        product.worn = 0.85 * spot((y, x), random.uniform(8, 12), random, 0.3, soft=5)
    return product.surface()


def worm_hole(product: Product, random: Random) -> Surface:
    """A small round hole."""
    return _hole(product, random.uniform(2.2, 4.5), 0.1, random)


def torn_hole(product: Product, random: Random) -> Surface:
    """A hole with an uneven edge."""
    return _hole(product, random.uniform(4.5, 9), 0.35, random)


def _hole(product: Product, radius: float, rough: float, random: Random) -> Surface:
    done = product.surface()
    gone = spot(_place(done.product, random), radius, random, rough, soft=2)
    done.paint(gone * 0.92, (0.07, 0.06, 0.055))
    done.height -= gone * 4
    return done


def thread(product: Fabric, random: Random) -> Surface:
    """A loose thread on the cloth."""
    done = product.surface()
    at = _place(done.product, random)
    points = curve(at, random.uniform(32, 80), random.uniform(-0.4, 0.4), random.uniform(0, np.pi))
    line = stroke(points, random.choice([1.5, 2.0, 2.5]))
    shade = random.uniform(1.2, 1.45) if random.uniform() < 0.6 else random.uniform(0.45, 0.7)
    done.paint(line * 0.9, shade * np.array([0.62, 0.55, 0.44]))
    done.height += line * (5 - done.height)
    return done


def floating_yarn(product: Fabric, random: Random) -> Surface:
    """A yarn that passes over where it should pass under."""
    y, x = _place(np.ones((SIZE, SIZE), bool), random)
    yarn, row = int(product.u[int(y), int(x)]), int(product.v[int(y), int(x)])
    for side in range(int(random.integers(1, 3))):
        half = int(random.integers(1, 4))
        product.floats.append((yarn + side, row - half, row + half + 1))
    return product.surface()


def missing_pin(product: Connector, random: Random) -> Surface:
    """A pin that was never put in."""
    product.reach[random.integers(product.PINS)] = 0
    return product.surface()


def bent_pin(product: Connector, random: Random) -> Surface:
    """A pin pushed aside."""
    product.lean[random.integers(product.PINS)] = random.choice([-1, 1]) * random.uniform(0.07, 0.2)
    return product.surface()


def bridge(product: Connector, random: Random) -> Surface:
    """Solder that joins two pads."""
    product.bridges.append(int(random.integers(product.PINS - 1)))
    return product.surface()
