"""What training on so many pictures will take, before it is started."""

from __future__ import annotations

import time

import numpy as np

from deploy.pictures.stream import cores

SECONDS, SECONDS_EACH = 5.0, 0.6
"""Of processor time, for a run and for each picture, where a product takes PRODUCT. Measured with the default model
(PatchCore, ResNet-18, `balanced`) on hazelnut, KolektorSDD, bottle and magnetic tile, 50 to 280 pictures: 24, 44, 133
and 171 seconds."""
GIGABYTES, GIGABYTES_EACH = 0.8, 0.001
"""Of memory; measured there: 0.87, 0.87, 1.09 and 1.09."""
FEATURES_EACH = 0.0029
"""Gigabytes of features on disk: 1600 patches of 448 values."""
PRODUCT, SIDE = 0.031, 1024
"""Seconds of processor time that a product of two float32 matrices of this side took on that machine."""


def training_takes(pictures: int) -> str:
    """One line about time, memory and disk that the default model takes here for so many good pictures."""
    seconds = (SECONDS + SECONDS_EACH * pictures) * _slowness() / cores()
    told = (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.0f} h"
    )
    memory, disk = GIGABYTES + GIGABYTES_EACH * pictures, max(0.1, FEATURES_EACH * pictures)
    return (
        f"training the default model (PatchCore, ResNet-18) takes about {told} on {cores()} cores, "
        f"{memory:.1f} GB of memory and {disk:.1f} GB of disk"
    )


def _slowness() -> float:
    """How many times as long as there a product takes here, the least of some."""
    values, times = np.ones((SIDE, SIDE), np.float32), []
    for _ in range(4):
        begin = time.process_time()
        values @ values
        times.append(time.process_time() - begin)
    return min(times) / PRODUCT
