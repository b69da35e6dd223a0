"""Tables as Parquet files, which keep the types of the columns."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..storage.files import GrowingFile, check_replaceable

SUFFIX = ".parquet"
NUMBERS = ("score", "scaled", "p_value", "p_tail", "map_step")
TYPES = {"seed": "int64", "defective": "bool", **dict.fromkeys(NUMBERS, "float64")}
"""Types of the columns that are not text."""
ROWS = 1 << 13
"""Rows of a row group; they are in memory until the group is written."""


class ParquetTable:
    """A Parquet file that is written row by row. It gets its name when it is finished; otherwise it is removed.

    Raises:
        UserError: pyarrow is missing, or there is a file at `path` that is not Parquet.
    """

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        try:
            import pyarrow
            from pyarrow.parquet import ParquetWriter
        except ImportError as error:  # it is missing, or wants a newer numpy
            raise UserError(f"--parquet needs pyarrow: {error}; pip install 'paddlepatch[ray]'") from error
        check_replaceable(path, b"PAR1")
        types = [(name, getattr(pyarrow, TYPES.get(name, "string").replace("bool", "bool_"))()) for name in columns]
        self._schema, self._table = pyarrow.schema(types), pyarrow.Table
        self._file, self._rows = _Sink(path), []
        self._writer = ParquetWriter(pyarrow.PythonFile(self._file, "w"), self._schema)

    def write(self, values: dict[str, Any]) -> None:
        """Add a row; bytes in a text that are not UTF-8 become escapes."""
        texts = {name: value for name, value in values.items() if isinstance(value, str)}
        self._rows.append({**values, **{n: t.encode(errors="backslashreplace").decode() for n, t in texts.items()}})
        if len(self._rows) == ROWS:
            self._flush()

    def finish(self) -> Path:
        """Complete the file, give it its name, and return its path."""
        self._flush()
        self._writer.close()
        return self._file.finish()

    def drop(self) -> None:
        """Remove the unfinished file; a finished one stays."""
        with suppress(UserError):
            self._writer.close()
        self._file.drop()

    def _flush(self) -> None:
        self._writer.write_table(self._table.from_pylist(self._rows, self._schema))
        self._rows = []


class _Sink(GrowingFile):
    """A `GrowingFile` with the attributes that pyarrow needs."""

    @property
    def closed(self) -> bool:
        """Whether the file is finished or dropped."""
        return self._file.closed

    def flush(self) -> None:
        """Flush Python's buffer to the system."""
        with self._writing():
            self._file.flush()
