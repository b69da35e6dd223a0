"""VisA's layout, which has a table of all pictures.

split_csv/1cls.csv        object,split,label,image,mask; split is train or test, label is normal or anomaly
CATEGORY/Data/Images/Normal/0000.JPG
CATEGORY/Data/Masks/Anomaly/000.png
"""

from __future__ import annotations

from pathlib import Path

from .category import Category
from .table import TableCategory, read_rows

TABLE = Path("split_csv", "1cls.csv")
NAMES = {"object": "category", "image": "path"}
"""VisA's names of columns, with the names in our own tables."""


class VisA(TableCategory):
    """A category made of the rows of one object."""

    @classmethod
    def find(cls, data_path: Path) -> list[Category]:
        """Return every object of the table as a category."""
        place = data_path / TABLE
        if not place.is_file():
            return []
        rows = read_rows(place, ("object", "split", "label", "image", "mask"))
        return cls.of_rows([{NAMES.get(name, name): value for name, value in row.items()} for row in rows], data_path)
