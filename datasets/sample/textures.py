"""Products that fill the picture: woven cloth and a varnished board. They are drawn in two steps, like the objects."""

from __future__ import annotations

import numpy as np

from .surface import SIZE, Random, Surface, cloud, frame


class Fabric:
    """A plain weave of uneven yarns."""

    def __init__(self, random: Random) -> None:
        right, down = frame((random.uniform(0, 99), random.uniform(0, 99)), random.normal(0, 0.03))
        self.period = random.uniform(10.6, 11.4)
        self.u = (right + 0.7 * cloud(random, 18)) / self.period + 60
        self.v = (down + 0.7 * cloud(random, 18)) / self.period + 60
        self.warp, self.weft = random.normal(1, 0.035, (2, 200))  # each yarn has a shade and a width of its own
        self.thick = random.normal(0, 0.03, (2, 200))
        self.fibre, self.fuzz = cloud(random, 0.7), cloud(random, 1.8)
        self.dye, self.tone = cloud(random, 30), random.uniform(0.92, 1.08)
        self.floats: list[tuple[int, int, int]] = []  # (warp yarn, first and last weft): the warp stays on top there

    def surface(self) -> Surface:
        """The cloth as planned."""
        column, row = np.floor(self.u).astype(int), np.floor(self.v).astype(int)
        over = (column + row) % 2
        a, b = self.u - column - 0.5, self.v - row - 0.5  # -0.5 to 0.5 within a crossing
        arch_a, arch_b = np.cos(np.pi * b), np.cos(np.pi * a)
        for yarn, first, last in self.floats:
            run = (column == yarn) & (row >= first) & (row <= last)
            over = np.where(run, 1, over)
            arch_a = np.where(run, np.maximum(arch_a, 0.7), arch_a)
        round_a = np.sqrt(np.clip(1 - (a / (0.47 + self.thick[0][column])) ** 2, 0, 1))
        round_b = np.sqrt(np.clip(1 - (b / (0.47 + self.thick[1][row])) ** 2, 0, 1))
        top_a, top_b = round_a * (0.35 + 0.8 * arch_a), round_b * (0.35 + 0.8 * arch_b)
        height = np.where(over == 1, np.maximum(top_a, 0.5 * round_b), np.maximum(top_b, 0.5 * round_a))
        shows_a = np.where(over == 1, top_a >= 0.5 * round_b, top_b < 0.5 * round_a)
        twist = 0.05 * np.sin(2 * np.pi * np.where(shows_a, self.v * 2.5 + a * 1.5, self.u * 2.5 + b * 1.5))
        done = Surface()
        shade = np.where(shows_a, self.warp[column], self.weft[row]) * (1 + twist + 0.06 * self.fibre)
        colours = np.where(shows_a[..., None], np.array([0.66, 0.58, 0.46]), np.array([0.36, 0.39, 0.43]))
        shade = shade * self.tone * (1 + 0.025 * self.dye) * (0.42 + 0.58 * np.clip(height, 0, 1))
        done.colour = (colours * shade[..., None]).astype(np.float32)
        done.height = (2.0 * height + 0.25 * self.fuzz + 0.12 * self.fibre).astype(np.float32)
        return done


class Wood:
    """A varnished board of oak, grain from left to right."""

    def __init__(self, random: Random) -> None:
        right, down = frame((random.uniform(0, SIZE), random.uniform(-400, 400)), random.normal(0, 0.03))
        drift = 16 * cloud(random, 130, 60) + 2.2 * cloud(random, 45, 8)
        rings = (down + drift + random.uniform(-3e-4, 3e-4) * (right - 128) ** 2) / random.uniform(15, 19)
        pace = np.interp(np.arange(-60, 60, 0.5), np.arange(-60, 61), random.normal(0, 0.22, 121))
        rings = rings + np.interp(rings, np.arange(-60, 60, 0.5), pace)  # years of different width
        self.year = (rings % 1).astype(np.float32)
        self.fibre, self.streak = cloud(random, 26, 0.8), cloud(random, 60, 3)
        self.pores = np.clip(cloud(random, 7, 0.7) + 0.7 * (self.year - 0.6) - 1.5, 0, 1)
        self.tone, self.red = random.uniform(0.92, 1.08), random.normal(0, 0.015)
        self.varnish, self.grit = cloud(random, 10), cloud(random, 0.8)

    def surface(self) -> Surface:
        """The board as planned."""
        late = self.year**3 * (1 - np.clip((self.year - 0.93) / 0.07, 0, 1))
        early, dark = np.array([0.66, 0.5, 0.33]), np.array([0.5, 0.34, 0.19])
        done = Surface()
        done.colour = early + (0.85 * late + 0.04 * self.streak)[..., None] * (dark - early)
        done.colour *= (self.tone * (1 + 0.035 * self.fibre + 0.03 * self.streak + 0.015 * self.grit))[..., None]
        done.colour *= np.array([1 + self.red, 1, 1 - self.red])
        done.colour = done.colour.astype(np.float32)
        done.paint(0.65 * self.pores, (0.27, 0.17, 0.09))
        done.height = (0.12 * self.fibre - 0.9 * self.pores + 0.1 * self.varnish).astype(np.float32)
        done.gloss[:] = 0.1
        return done
