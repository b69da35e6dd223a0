"""Free photographs that the compact backbone is trained on.

They are part of the wheels of scikit-image and scikit-learn, so nothing is downloaded. From scikit-image, only pictures
are used that its documentation calls public domain or CC0.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np

from deploy.errors import UserError
from deploy.pictures.decode import decode

PHOTOGRAPHS = {
    "skimage/data/astronaut.png": "public domain (NASA)",
    "skimage/data/brick.png": "CC0 (CC0Textures)",
    "skimage/data/camera.png": "CC0 (Lav Varshney)",
    "skimage/data/cell.png": "CC0 (Paul Mueller et al.)",
    "skimage/data/chelsea.png": "CC0 (Stefan van der Walt)",
    "skimage/data/clock_motion.png": "public domain (Stefan van der Walt)",
    "skimage/data/coffee.png": "CC0 (Rachel Michetti)",
    "skimage/data/grass.png": "CC0 (CC0Textures)",
    "skimage/data/gravel.png": "CC0 (CC0Textures)",
    "skimage/data/horse.png": "CC0 (Andreas Preuss)",
    "skimage/data/hubble_deep_field.jpg": "public domain (NASA)",
    "skimage/data/microaneurysms.png": "CC0 (Andreas Maier)",
    "skimage/data/retina.jpg": "CC0 (Mikael Haggstrom)",
    "skimage/data/rocket.jpg": "public domain (SpaceX)",
    "skimage/data/text.png": "public domain",
    "sklearn/datasets/images/china.jpg": "CC BY 2.0 (danielbuechele)",
    "sklearn/datasets/images/flower.jpg": "CC BY 2.0 (vultilion)",
}
"""Paths inside the installed packages, and licences."""


def load_photographs() -> list[np.ndarray]:
    """Read all `PHOTOGRAPHS`, uint8 RGB [height, width, 3]; UserError if a package or file is missing."""
    pictures = []
    for place in PHOTOGRAPHS:
        package, inside = place.split("/", 1)
        found = importlib.util.find_spec(package)
        path = Path(found.origin).parent / inside if found and found.origin else None
        if path is None or not path.is_file():
            raise UserError(
                f"no training picture {place}: install scikit-image and scikit-learn (requirements-dev.txt)"
            )
        pictures.append(decode(path))
    return pictures


def pictures_sha256(pictures: list[np.ndarray]) -> str:
    """Return one fingerprint of the pixels of all pictures."""
    return hashlib.sha256(b"".join(picture.tobytes() for picture in pictures)).hexdigest()
