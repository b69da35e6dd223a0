"""Tables of scores, and the folders of heat maps, masks and raw maps that belong to them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable

import numpy as np

from ..calibration import Calibration
from ..errors import Skipped, UserError, report
from ..pictures.decode import encode_png
from ..pictures.preprocess import Preprocess
from ..pictures.stream import BackgroundTasks
from ..predictor import Prediction
from ..storage.files import GrowingFile, check_replaceable, make_folder, remove_former
from ..storage.table import csv_line
from .heatmap import defect_mask, map_step, raw_map, strip, tiles
from .parquet import SUFFIX, ParquetTable
from .picture_folder import PictureFolder
from .regions import Region, RegionFiles, find_regions, starts_of

LARGE = 1 << 24  # pixels; larger maps are drawn one at a time, since several waiting ones would fill the memory
JSONL_START = b'{"path": '
NAMES = {"heatmaps": "heat maps", "masks": "masks", "maps": "raw maps"}
"""Folders of pictures, with their names in messages."""


def provenance_columns(header: dict[str, Any], command: str) -> dict[str, Any]:
    """Return the table columns that record seed, versions, data fingerprint and command."""
    return {
        "seed": header["seed"],
        "versions": " ".join(f"{name}={version}" for name, version in sorted(header["versions"].items())),
        "data_sha256": header["data"]["sha256"],
        "command": command,
    }


class ScoreSheet:
    """Writes the table `path,score,...` row by row and, in background threads, heat maps and masks.

    Rows and pictures are written to disk immediately, so memory does not grow. They get their final names when the
    table is complete, and then replace those of an earlier run. As a context manager, it removes an incomplete table.

    Args:
        folder: folder of `NAME.csv`.
        name: the table's name without suffix.
        calibration: has the thresholds and the colour scale.
        preprocess: has the position of the map in the picture.
        provenance: the columns of `provenance_columns`.
        heat_maps: whether to draw heat maps.
        masks: whether to write masks, see `deploy.results.heatmap.defect_mask`.
        maps: whether to write maps of 16 bits, see `deploy.results.heatmap.raw_map`; the table then has `map_step`.
        jsonl: whether to write `NAME.jsonl` as well, one object per line.
        parquet: whether to write `NAME.parquet` as well, see `deploy.results.parquet.ParquetTable`.
        regions: smallest area, in pixels of the picture, of the regions that are written, see
            `deploy.results.regions.RegionFiles`; None writes no regions.
        extra: names of further columns, see `add`.
        pictures: folder below `folder` for `heatmaps/`, `masks/` and `maps/`; if not given, `folder` itself.
        drawn: called, in the thread that draws, with each prediction that gets a heat map, and with its map over the
            picture (`deploy.results.heatmap.tiles`).

    Raises:
        UserError: a folder cannot be created.
    """

    COLUMNS = ("path", "score", "scaled", "defective", "p_value", "p_tail")

    def __init__(
        self,
        folder: str | Path,
        name: str,
        calibration: Calibration,
        preprocess: Preprocess,
        provenance: dict[str, Any],
        heat_maps: bool = True,
        masks: bool = False,
        jsonl: bool = False,
        parquet: bool = False,
        extra: Sequence[str] = (),
        pictures: str = "",
        regions: float | None = None,
        maps: bool = False,
        drawn: Callable[[Prediction, np.ndarray], None] | None = None,
    ) -> None:
        self.folder, self.path = make_folder(folder), Path(folder) / f"{name}.csv"
        self.calibration, self.preprocess, self.provenance = calibration, preprocess, provenance
        wanted = {"heatmaps": heat_maps, "masks": masks, "maps": maps}
        folders = {kind: PictureFolder(self.folder / pictures / kind, name) for kind in wanted}
        self.places = {kind: place for kind, place in folders.items() if wanted[kind]}
        self._unwanted = [place for kind, place in folders.items() if not wanted[kind]]
        self._drawn, self._steps = drawn, {"map_step": float(f"{map_step(calibration):.9g}")} if maps else {}
        self.columns = (*self.COLUMNS, *extra, *self._steps, *provenance)
        self.count = self.defects = 0
        self._last: Prediction | None = None
        self.skip = Skipped()
        self._drawing = BackgroundTasks()
        self._jsonl, self._parquet, self._least_area = jsonl, parquet, regions
        self._regions: RegionFiles | None = None
        self._tables: list[GrowingFile | ParquetTable] = []
        self._aside = ExitStack()

    def __enter__(self) -> ScoreSheet:
        return self

    def __exit__(self, *error: object) -> None:
        self._drawing.stop()
        for table in self._tables:
            table.drop()
        if self._regions is not None:
            self._regions.drop()
        self._aside.close()

    def row(self, prediction: Prediction, extra: Sequence[Any] = ()) -> tuple[Any, ...]:
        """Return the prediction's cells, in the order of `columns`."""
        score, levels = prediction.score, self.calibration
        tail = levels.p_tail(score)
        verdict = f"{score:.9g}", f"{levels.scaled(score):.6g}", int(levels.is_defect(score))
        chances = f"{levels.p_value(score):.4g}", "" if tail is None else f"{tail:.4g}"
        return (prediction.name, *verdict, *chances, *extra, *self._steps.values(), *self.provenance.values())

    def add(
        self,
        prediction: Prediction,
        picture_name: str,
        mask: np.ndarray | None = None,
        extra: Sequence[Any] = (),
        heat_map: bool = True,
    ) -> list[Region]:
        """Add one prediction; return its regions if regions are written, else an empty list.

        Its heat map, with the ground truth `mask` if given, is written as `heatmaps/{picture_name}.png`, unless
        `heat_map` is False.

        Raises:
            UserError: the table or an earlier picture, drawn in the background, cannot be written or would replace
                another program's file.
        """
        row = self.row(prediction, extra)
        if not self._tables:
            self._start()
        self._tables[0].write(csv_line(row))
        if self._jsonl or self._parquet:
            values = {**dict(zip(self.columns, row)), **facts(prediction.score, self.calibration)}
        if self._jsonl:
            # bytes in a path that are not UTF-8 become escapes of json
            self._tables[1].write(json.dumps(values, ensure_ascii=False).encode(errors="backslashreplace") + b"\n")
        if self._parquet:
            self._tables[-1].write(values)
        self.count, self._last = self.count + 1, prediction
        self.defects += row[3]
        regions: list[Region] = []
        if self._regions is not None:
            regions = find_regions(prediction, self.calibration, self.preprocess, self._least_area)
            self._regions.add(prediction, regions)
        if self.places:
            if prediction.anomaly_map.size > LARGE:
                self.draw(prediction, picture_name, mask, regions, heat_map)
            else:
                self._drawing.submit(self.draw, prediction, picture_name, mask, regions, heat_map)
        return regions

    def _start(self) -> None:
        starts = {".csv": ",".join(self.COLUMNS[:4]).encode(), **({".jsonl": JSONL_START} if self._jsonl else {})}
        for suffix, start in starts.items():
            check_replaceable(self.path.with_suffix(suffix), start)
        if self._least_area is not None:
            self._regions = RegionFiles(self.folder, self.path.stem, self._jsonl)
        self._tables = [GrowingFile(self.path.with_suffix(suffix)) for suffix in starts]
        self._tables[0].write(csv_line(self.columns))
        if self._parquet:
            self._tables.append(ParquetTable(self.path.with_suffix(SUFFIX), self.columns))
        for pictures in self.places.values():
            pictures.collect(self._aside)

    def draw(
        self,
        prediction: Prediction,
        picture_name: str,
        mask: np.ndarray | None = None,
        regions: Sequence[Region] = (),
        heat_map: bool = True,
    ) -> None:
        """Write the heat map, mask and raw map of one prediction, as far as they are wanted."""
        if "heatmaps" in self.places and heat_map:
            parts = tiles(prediction, self.calibration, self.preprocess, mask, regions)
            self.places["heatmaps"].write(picture_name, encode_png(strip(prediction, self.calibration, parts)))
            if self._drawn is not None:
                self._drawn(prediction, parts[-1][1])
        for kind, make in {"masks": defect_mask, "maps": raw_map}.items():
            if kind in self.places:
                self.places[kind].write(picture_name, encode_png(make(prediction, self.calibration, self.preprocess)))

    def finish(self) -> int:
        """Complete the table, print a summary and the paths; return the exit code, 2 if pictures were skipped, else 0.

        For a single picture, its score and verdict are printed.

        Raises:
            UserError: no picture could be read, or a heat map could not be written; then no table is written.
        """
        self._drawing.wait()
        if not self.count:
            raise UserError("none of the pictures could be read: no table was written")
        for pictures in (*self.places.values(), *self._unwanted):
            pictures.publish()
        tables = [table.finish() for table in self._tables]
        regions = [] if self._regions is None else self._regions.finish()
        self._remove_former([*tables, *regions])
        if self.count > 1:
            found = f"{self.defects} defective, {self.count - self.defects} good"
            print(f"{self.count} pictures: {found}; {self.calibration}")
        else:
            print(verdict(self._last, self.calibration))
        if self._regions is not None:
            print(f"{self._regions.count} regions above the pixel threshold: {' '.join(map(str, regions))}")
        places = [f"scores: {' '.join(map(str, tables))}"]
        places += [f"{NAMES[kind]}: {pictures.folder}" for kind, pictures in self.places.items()]
        print("; ".join(places))
        if self.skip:
            total = len(self.skip) + self.count
            report(f"error: {len(self.skip)} of {total} pictures could not be read, see above")
        return 2 if self.skip else 0

    def _remove_former(self, written: Sequence[Path]) -> None:
        """Remove files of an earlier run of this kind that this run does not write: they show other results."""
        starts = {self.path.with_suffix(".jsonl"): JSONL_START, **starts_of(self.folder, self.path.stem)}
        for path, start in starts.items():
            if path not in written:
                remove_former(path, start)


def facts(score: float, calibration: Calibration) -> dict[str, Any]:
    """Return an image score's numbers and verdict, as plain json types by the names of `ScoreSheet.COLUMNS`."""
    tail = calibration.p_tail(score)
    return {
        "score": score,
        "scaled": float(f"{calibration.scaled(score):.6g}"),
        "defective": calibration.is_defect(score),
        "p_value": float(f"{calibration.p_value(score):.4g}"),
        "p_tail": None if tail is None else float(f"{tail:.4g}"),
    }


def verdict(prediction: Prediction, calibration: Calibration) -> str:
    """Return one line about a picture: its name, verdict, score and threshold (raw and scaled), and p-value."""
    threshold, scaled = calibration.image_threshold, calibration.scaled
    return (
        f"{prediction.name}: {'DEFECT' if calibration.is_defect(prediction.score) else 'good'}, "
        f"score {prediction.score:.4f} (scaled {scaled(prediction.score):.3f}), "
        f"threshold {threshold:.4f} (scaled {scaled(threshold):.3f}), "
        f"p-value {calibration.p_value(prediction.score):.2g}"
    )


def picture_namer(paths: Sequence[Path]) -> Callable[[str], str]:
    """Return a function from a picture's path to the name of its heat map.

    The name is the path below the pictures' common folder; it has the suffix only if two names would be equal without.
    """
    parents = [str(path.parent) for path in paths]
    common = Path(os.path.commonpath([os.path.abspath(parent) for parent in parents])) if parents else Path()
    names = {str(path): Path(os.path.abspath(path)).relative_to(common) for path in paths}
    taken = Counter(name for whole in names.values() for name in (whole, whole.with_suffix("")))

    def name(path: str) -> str:
        relative = names[path]
        return str(relative) if taken[relative.with_suffix("")] > 1 else str(relative.with_suffix(""))

    return name
