"""Estimate of the time, memory and disk space that training takes, before it is started."""

from __future__ import annotations

import time

import numpy as np

from deploy.pictures.stream import cores

SECONDS, SECONDS_EACH = 5.0, 0.6
"""Processor time of a run, and of each picture, on a machine where a matrix product takes PRODUCT. It was measured with
the default model (PatchCore, ResNet-18, `balanced`) on hazelnut, KolektorSDD, bottle and magnetic tile, 50 to 280
pictures: 24, 44, 133 and 171 seconds."""
GIGABYTES, GIGABYTES_EACH = 0.8, 0.001
"""Memory of a run, and of each picture; measured in the same runs: 0.87, 0.87, 1.09 and 1.09 GB."""
FEATURES_EACH = 0.0029
"""Gigabytes on disk for the features of a picture: 1600 patches of 448 values."""
PRODUCT, SIDE = 0.031, 1024
"""Seconds of processor time of a product of two float32 matrices of this side, on the machine of the measurements."""


def training_takes(pictures: int) -> str:
    """Return a line about time, memory and disk space that the default model takes on this machine."""
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
    """Time of a matrix product on this machine (the least of four), relative to the machine of the measurements."""
    values, times = np.ones((SIDE, SIDE), np.float32), []
    for _ in range(4):
        begin = time.process_time()
        values @ values
        times.append(time.process_time() - begin)
    return min(times) / PRODUCT
