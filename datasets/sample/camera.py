"""Lamp, lens and sensor of the sample data, which turn a surface into a picture."""

from __future__ import annotations

import cv2
import numpy as np

from .surface import COLUMNS, ROWS, SIZE, Random, Surface


class Camera:
    """Lamp, lens and sensor of one shot, with random parameters."""

    def __init__(self, random: Random) -> None:
        self.azimuth = random.uniform(0, 2 * np.pi)
        self.elevation = float(np.radians(random.uniform(38, 62)))
        self.exposure = random.uniform(0.86, 1.14)
        self.diffuse = random.uniform(0.45, 0.6)  # share of the light that comes from all directions
        self.falloff = random.uniform(0.0, 0.22)  # how much darker it is on the far side
        self.vignette = random.uniform(0.02, 0.16)
        self.warmth, self.tint = random.normal(0, 0.02), random.normal(0, 0.008)
        self.blur = random.uniform(0.45, 0.8)
        self.grain = random.uniform(0.7, 1.7)

    def look(self, surface: Surface) -> np.ndarray:
        """Return the picture before the sensor's noise: float32 [SIZE, SIZE, 3], 0 to 255."""
        across, up = float(np.cos(self.elevation)), float(np.sin(self.elevation))
        right, down = float(np.cos(self.azimuth)) * across, float(np.sin(self.azimuth)) * across  # towards the lamp
        height = surface.height
        slope_x, slope_y = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125)  # fmt: skip  # noqa: E501
        norm = 1 / np.sqrt(slope_x**2 + slope_y**2 + 1)
        facing = np.maximum((up - right * slope_x - down * slope_y) * norm, 0) / up
        hollow = np.clip(cv2.GaussianBlur(height, (0, 0), 4) - height, 0, None)
        direct = (1 - self.diffuse) * facing * (1 - self._shadow(height, right, down, up / across))
        light = self.diffuse / (1 + 0.09 * hollow) + direct

        norm_half = float(np.sqrt(2 + 2 * up))  # half: between the lamp and the camera
        half = right / norm_half, down / norm_half, (1 + up) / norm_half
        mirror = np.maximum((half[2] - half[0] * slope_x - half[1] * slope_y) * norm, 0) ** 28
        along = half[0] * np.cos(surface.along) + half[1] * np.sin(surface.along)
        streak = (1 - np.minimum(along**2 * 2.2, 1)) ** 6 * np.minimum(facing, 1.3)
        shine = surface.gloss * (mirror + surface.brushed * (0.55 * streak - mirror))

        x, y = COLUMNS / SIZE - 0.5, ROWS / SIZE - 0.5
        lamp = 1 + self.falloff * (x * right + y * down) / across
        lamp *= self.exposure * (1 - self.vignette * 2 * (x * x + y * y))
        tone = np.array([1 + self.warmth, 1 + self.tint, 1 - self.warmth], np.float32)
        picture = (surface.colour * light[..., None] + shine[..., None]) * (lamp[..., None] * tone)
        bright = picture > 0.8
        picture[bright] = 1 - 0.2 * np.exp(4 - picture[bright] / 0.2)  # the sensor saturates softly
        return cv2.GaussianBlur((picture * 255).astype(np.float32), (0, 0), self.blur)

    def expose(self, picture: np.ndarray, random: Random) -> np.ndarray:
        """Add the sensor's noise, more where there is more light: uint8 [SIZE, SIZE, 3]."""
        noise = random.standard_normal(picture.shape, np.float32)
        noise += 0.6 * cv2.resize(noise[::2, ::2], (SIZE, SIZE))  # colour filters spread it a little
        picture = picture + self.grain * np.sqrt(1 + picture / 60) * noise
        return np.clip(np.round(picture), 0, 255).astype(np.uint8)

    def _shadow(self, height: np.ndarray, right: float, down: float, steep: float) -> np.ndarray:
        # a point is in shadow if, in the lamp's direction, a higher point blocks the line to the lamp
        norm = np.hypot(right, down)
        above = np.zeros_like(height)
        for step in (1.5, 3, 5, 7, 10, 14):
            move = np.array([[1, 0, -step * right / norm], [0, 1, -step * down / norm]])
            shifted = cv2.warpAffine(height, move, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE)
            above = np.maximum(above, shifted - height - step * steep)
        return np.clip(cv2.GaussianBlur(above, (0, 0), 1.0) / 2, 0, 0.85)
