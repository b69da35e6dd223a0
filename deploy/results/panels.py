"""A folder of heat maps without a table."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from ..calibration import Calibration
from ..pictures.decode import encode_png
from ..pictures.preprocess import Preprocess
from ..pictures.stream import prefetch
from ..predictor import Prediction
from .heatmap import panel
from .picture_folder import PictureFolder


def write_panels(
    folder: Path, run: str, predictions: Iterable[Prediction], calibration: Calibration, preprocess: Preprocess
) -> None:
    """Write a heat map of each prediction as `{rank}_{name}.png`; they replace those of an earlier run.

    Args:
        folder: created if it does not exist.
        run: the kind of run, see `PictureFolder`.
        predictions: in the order of their ranks, which are numbered from 01 on.
        calibration: has the colour scale and the contour's level.
        preprocess: has the position of the map in the picture.

    Raises:
        UserError: another program's file is in the place (then nothing was changed), or a file cannot be written.
    """
    pictures = PictureFolder(folder, run)
    with ExitStack() as stack:
        pictures.collect(stack)
        drawn = prefetch(lambda prediction: encode_png(panel(prediction, calibration, preprocess)), predictions)
        for place, (prediction, png) in enumerate(drawn, 1):
            pictures.write(f"{place:02}_{Path(prediction.name).stem}", png())
        pictures.publish()
