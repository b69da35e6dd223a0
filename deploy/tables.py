"""Tables of scores, and the folder of heat maps beside them."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Callable

import numpy as np

from .calibration import Calibration
from .errors import Skipped, UserError, report
from .files import make_folder, write_whole
from .heatmap import panel
from .pictures import encode_png
from .predictor import Prediction
from .preprocess import Preprocess
from .stream import Aside


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Write a csv file whole; None becomes an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return write_whole(path, text.getvalue())


def provenance(header: dict[str, Any], command: str) -> dict[str, Any]:
    """The columns that say where a table's figures come from."""
    return {
        "seed": header["seed"],
        "versions": " ".join(f"{name}={version}" for name, version in sorted(header["versions"].items())),
        "data_sha256": header["data"]["sha256"],
        "command": command,
    }


class ScoreSheet:
    """Collects predictions: draws heat maps beside the caller and writes the table `path,score,...` at the end.

    Args:
        folder: receives `NAME.csv` and, if `heat_maps`, `heatmaps/`.
        name: the table's name without suffix.
        calibration: thresholds and colour scale.
        preprocess: the map's place in the picture.
        origin: the columns of `provenance`.
        heat_maps: whether to draw.
        extra: names of further columns, see `add`.
    """

    COLUMNS = ("path", "score", "scaled", "defective")

    def __init__(
        self,
        folder: str | Path,
        name: str,
        calibration: Calibration,
        preprocess: Preprocess,
        origin: dict[str, Any],
        heat_maps: bool = True,
        extra: Sequence[str] = (),
    ) -> None:
        self.folder, self.path = make_folder(folder), Path(folder) / f"{name}.csv"
        self.calibration, self.preprocess, self.origin, self.heat_maps = calibration, preprocess, origin, heat_maps
        self.columns = (*self.COLUMNS, *extra, *origin)
        self.rows: list[tuple[Any, ...]] = []
        self.defects = 0
        self.skip = Skipped()
        self._drawing = Aside()

    def add(
        self, prediction: Prediction, picture_name: str, mask: np.ndarray | None = None, extra: Sequence[Any] = ()
    ) -> None:
        """Take a prediction; its heat map, with the ground truth `mask` if given, becomes `heatmaps/{name}.png`.

        Raises:
            UserError: one of the heat maps so far, drawn beside the caller, cannot be written.
        """
        calibration, defect = self.calibration, self.calibration.is_defect(prediction.score)
        scaled = f"{calibration.scaled(prediction.score):.6g}"
        self.rows.append(
            (prediction.name, f"{prediction.score:.9g}", scaled, int(defect), *extra, *self.origin.values())
        )
        self.defects += defect
        if self.heat_maps:
            self._drawing.run(self._draw, prediction, self.folder / "heatmaps" / f"{picture_name}.png", mask)

    def _draw(self, prediction: Prediction, path: Path, mask: np.ndarray | None) -> None:
        write_whole(path, encode_png(panel(prediction, self.calibration, self.preprocess, mask)))

    def finish(self) -> int:
        """Write the table, say what was found and where it is, and return the exit code: 2 if pictures were skipped.

        Raises:
            UserError: no picture could be read, or a heat map not be written; no table is written.
        """
        self._drawing.finish()
        if not self.rows:
            raise UserError("none of the pictures could be read: no table was written")
        write_csv(self.path, self.columns, self.rows)
        print(f"{len(self.rows)} pictures: {self.defects} defective, {len(self.rows) - self.defects} good")
        print(f"scores: {self.path}" + (f"; heat maps: {self.folder / 'heatmaps'}" if self.heat_maps else ""))
        if self.skip:
            total = len(self.skip) + len(self.rows)
            report(f"error: {len(self.skip)} of {total} pictures could not be read, see above")
        return 2 if self.skip else 0


def picture_namer(paths: Sequence[Path]) -> Callable[[str], str]:
    """Names for heat maps: paths below the pictures' common folder, with their suffix where two would collide."""
    parents = [str(path.parent) for path in paths]
    common = Path(os.path.commonpath([os.path.abspath(parent) for parent in parents])) if parents else Path()
    names = {str(path): Path(os.path.abspath(path)).relative_to(common) for path in paths}
    stems = Counter(name.with_suffix("") for name in names.values())

    def name(path: str) -> str:
        relative = names[path]
        return str(relative) if stems[relative.with_suffix("")] > 1 else str(relative.with_suffix(""))

    return name


def header_text(header: dict[str, Any]) -> str:
    """One line of what a model is."""
    size = header["preprocess"]
    data = header["data"]
    return (
        f"{header['method']} on {header['arch']} ({' '.join(header['layers'])}), k {header['k']:g}, "
        f"resize {size['resize']} crop {size['crop_size']}, fitted on {data['pictures']} pictures, "
        f"options {json.dumps(header['options'])}"
    )
