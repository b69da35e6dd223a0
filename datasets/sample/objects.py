"""Products that lie on a background: a turned washer, a printed tablet and a pin header.

Each product is drawn in two steps: the constructor makes a random plan, and `surface` builds the surface from it. So a
flaw may change the plan or the finished surface.
"""

from __future__ import annotations

import numpy as np

from .letters import lettering
from .surface import SIZE, Random, Surface, box, cloud, frame, from_segment, inside


def _middle(random: Random, stray: float) -> tuple[float, float]:
    y, x = (SIZE - 1) / 2 + random.uniform(-stray, stray, 2)
    return float(y), float(x)


class Washer:
    """A metal ring, turned on a lathe, on a grey rubber mat."""

    def __init__(self, random: Random) -> None:
        self.centre = _middle(random, 8)
        self.outer, self.inner = random.uniform(81, 86), random.uniform(38, 41)
        right, down = frame(self.centre, 0)
        self.radius, self.angle = np.hypot(right, down), np.arctan2(down, right)
        rings = np.convolve(random.normal(size=300), [0.25, 0.5, 0.25], "same").astype(np.float32)  # the lathe's marks
        self.marks = np.interp(self.radius * 1.5, np.arange(300), rings).astype(np.float32)
        self.wear, self.tone = cloud(random, 20), random.uniform(0.94, 1.06)
        self.rubber = Surface()
        speckle = cloud(random, 0.8)
        self.rubber.colour[:] = (0.25, 0.255, 0.265)
        self.rubber.colour *= (random.uniform(0.9, 1.1) * (1 + 0.07 * speckle + 0.03 * cloud(random, 25)))[..., None]
        self.rubber.height[:] = 0.25 * cloud(random, 1.5) + 0.1 * speckle

    def surface(self) -> Surface:
        """The washer as planned."""
        done = Surface(self.rubber.colour.copy(), self.rubber.height.copy())
        edge = np.minimum(self.outer - self.radius, self.radius - self.inner)
        bevel = np.clip(edge / np.where(self.radius > (self.outer + self.inner) / 2, 6, 4), 0, 1)
        height = 3 + 4 * bevel * (2 - bevel) + 0.11 * self.marks * (bevel >= 1)
        where = inside(edge)
        done.lay(where, self.tone * np.array([0.5, 0.5, 0.49]), height, 0.5)
        done.colour *= 1 + where[..., None] * (0.02 * self.marks + 0.02 * self.wear)[..., None]
        done.gloss *= 1 + 0.08 * self.wear
        done.brushed, done.along = where * 0.9, (self.angle + np.pi / 2).astype(np.float32)
        done.product = where > 0.5
        return done


class Tablet:
    """A coated tablet with a score and a print, on a blue tray."""

    PRINT = ("PX", "20")

    def __init__(self, random: Random) -> None:
        self.centre, self.turn = _middle(random, 9), random.uniform(-0.3, 0.3)  # a groove aligns it
        self.size, self.tone = random.uniform(74, 78), random.uniform(0.95, 1.04)
        self.lines = list(self.PRINT)
        self.strikes = [[np.zeros(2)] for _ in self.lines]  # where each line is printed, from its place
        self.ink, self.letters = random.uniform(0.72, 0.9), random.uniform(20, 22)
        self.shift = random.uniform(-2, 2, (2, 2))  # the printer is never quite on the middle
        self.skew = random.normal(0, 0.02)
        self.worn = np.zeros((SIZE, SIZE), np.float32)  # where the ink came off, 0 to 1
        self.coating, self.mottle = cloud(random, 2.2), cloud(random, 12)
        self.fleck, self.wet = cloud(random, 0.9), cloud(random, 4)
        self.tray = Surface()
        self.tray.colour[:] = (0.16, 0.24, 0.36)
        self.tray.colour *= (random.uniform(0.88, 1.12) * (1 + 0.03 * cloud(random, 1.0)))[..., None]
        right, down = frame(_middle(random, 12), random.uniform(-0.1, 0.1))
        self.tray.height[:] = 0.5 * np.cos(right * 0.55) * np.cos(down * 0.55) + 0.1 * cloud(random, 1.2)
        self.tray.gloss[:] = 0.12

    def surface(self) -> Surface:
        """The tablet as planned."""
        done = Surface(self.tray.colour.copy(), self.tray.height.copy(), self.tray.gloss.copy())
        right, down = frame(self.centre, self.turn)
        radius = np.hypot(right, down) / self.size
        dome = np.sqrt(np.clip(1 - 0.97 * np.minimum(radius, 1) ** 2, 0, 1))
        band = np.clip((1 - radius) * self.size / 4, 0, 1)
        height = 6 * band + 16 * dome + 0.09 * self.coating + 0.12 * self.wet
        height -= 1.6 * np.exp(-((down / 1.7) ** 2)) * inside((0.93 - radius) * self.size)
        where = inside((1 - radius) * self.size)
        done.lay(where, self.tone * np.array([0.86, 0.83, 0.74]), height, 0.13)
        done.colour *= 1 + where[..., None] * (0.012 * self.mottle + 0.012 * self.coating)[..., None]
        done.paint(where * np.clip(self.fleck - 2.3, 0, 1) * 0.4, (0.66, 0.58, 0.46))  # the grain of the filling
        done.paint(where * self.printed(), (0.2, 0.23, 0.36))
        done.product = where > 0.5
        return done

    def place(self, line: int) -> np.ndarray:
        """Return the middle of a line of print, (y, x)."""
        right, down = self.shift[line] + (0, -31 if line == 0 else 31)
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        return np.array(self.centre) + (right * sin + down * cos, right * cos - down * sin)

    def printed(self) -> np.ndarray:
        """Return the opacity of the ink, float32 [SIZE, SIZE], 0 to 1."""
        sheets = [
            lettering(text, self.place(line) + strike, self.turn + self.skew, self.letters)
            for line, text in enumerate(self.lines)
            for strike in self.strikes[line]
            if text
        ]
        ink = np.max(sheets, axis=0) if sheets else np.zeros((SIZE, SIZE), np.float32)
        return ink * (1 - self.worn) * self.ink * np.clip(1 + 0.12 * self.wet + 0.08 * self.fleck, 0, 1.1)


class Connector:
    """A black pin header soldered to a green circuit board."""

    PINS, PITCH = 9, 18.0

    def __init__(self, random: Random) -> None:
        self.centre, self.turn = _middle(random, 6), random.normal(0, 0.025)
        self.grow = random.uniform(0.97, 1.03)
        self.reach = random.normal(58, 0.8, self.PINS)  # the pins' lengths; 0 is a missing pin
        self.lean = random.normal(0, 0.008, self.PINS)  # radians
        self.shine = random.normal(1, 0.06, self.PINS)
        self.solder = random.uniform(0.85, 1.15, (self.PINS, 2))
        self.bridges: list[int] = []  # numbers of pads that solder joins with the next pad to the right
        self.matte, self.mould = cloud(random, 0.9), cloud(random, 1.6)
        self.mask, self.dust = cloud(random, 18), random.uniform(0.92, 1.08)
        self.wave = cloud(random, 6)

    def surface(self) -> Surface:
        """The connector as planned."""
        right, down = (part / np.float32(self.grow) for part in frame(self.centre, self.turn))
        done = Surface()
        self._board(done, right, down)
        starts = (np.arange(self.PINS) - (self.PINS - 1) / 2) * self.PITCH
        near = [self._near(start) for start in starts]
        for number, (start, part) in enumerate(zip(starts, near)):
            self._solder(done.window(part), right[part] - start, down[part], self.wave[part], self.solder[number])
        for number in self.bridges:
            start = (starts[0] + number * self.PITCH, 44.0)
            metal = 5.5 - from_segment(right, down, start, (start[0] + self.PITCH, 46.0)) + 0.9 * self.wave
            done.lay(inside(metal), (0.55, 0.56, 0.57), 2.6 * np.sqrt(np.clip(metal, 0, 4)), 0.5)
        for number, (start, part) in enumerate(zip(starts, near)):
            if self.reach[number] > 0:
                lean, length = self.lean[number], self.reach[number]
                end = (length * np.sin(lean), -10 + length * np.cos(lean))
                pin = 3.6 - from_segment(right[part] - start, down[part], (0.0, -10.0), end)
                gloss, height = 0.55 * self.shine[number], 5 + np.clip(pin * 1.5, 0, 2.5)
                done.window(part).lay(inside(pin), (0.66, 0.55, 0.3), height, gloss)
        body = box(right, down + 33, 88, 27, 3)
        rib = np.clip(box(right, down + 34, 80, 16, 2) / 2, 0, 1) * 4
        height = 13 + np.clip(body / 2, 0, 1) * 2 - rib + 0.16 * self.mould
        done.lay(inside(body), (0.115, 0.115, 0.12), height, 0.1)
        done.colour *= (1 + inside(body) * (0.08 * self.matte))[..., None]
        for start, part in zip(starts, near):  # the pins' other ends, in the header's trough
            head = box(right[part] - start, down[part] + 34, 3.2, 3.2, 1)
            done.window(part).lay(inside(head), (0.62, 0.52, 0.3), 15 + np.clip(head, 0, 2), 0.4)
        done.product = body > 0.5
        return done

    def _board(self, done: Surface, right: np.ndarray, down: np.ndarray) -> None:
        done.colour[:] = (0.075, 0.27, 0.16)
        traces = np.cos(2 * np.pi * right / self.PITCH) - 0.55
        trace = np.clip(traces * 9, 0, 1) * (down > 40)
        done.colour *= (self.dust * (1 + 0.03 * self.matte + 0.03 * self.mask + 0.28 * trace))[..., None]
        done.height[:] = 0.8 * trace + 0.05 * self.mould
        done.gloss[:] = 0.16
        silk = inside(1.0 - np.abs(box(right, down + 5, 94, 64, 2)))
        done.paint(silk * 0.75, (0.8, 0.82, 0.78))

    def _near(self, start: float) -> tuple[slice, slice]:
        """Return the part of the picture, a range of columns, that a pin and its solder may reach."""
        column = round(self.centre[1] + start * self.grow)
        return slice(None), slice(max(0, column - 28), column + 28)

    def _solder(self, done: Surface, right: np.ndarray, down: np.ndarray, wave: np.ndarray, grown: np.ndarray) -> None:
        pad = box(right, down - 45, 6.4, 13, 3)
        done.lay(inside(pad), (0.6, 0.58, 0.5), 1.0 + np.clip(pad, 0, 1), 0.3)
        blob = 1 - np.hypot(right / (5.8 * grown[0]), (down - 45) / (11 * grown[1])) + 0.03 * wave
        done.lay(inside(blob * 6), (0.55, 0.56, 0.57), 2 + 5 * np.sqrt(np.clip(blob, 0, 1)), 0.5)
