"""Pictures from Parquet files, which hold the pictures' paths or bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import pyarrow as pa
from pyarrow.parquet import ParquetFile

from ..errors import UserError
from ..pictures.decode import Encoded
from ..results.parquet import SUFFIX
from .parts import Listed, Stored

PATH, BYTES = "path", "bytes"
AT_ONCE = 16  # number of pictures in memory
BUFFER = 1 << 20  # bytes; without a buffer, the column of a whole row group would be read at once


def parquet_files(place: str | Path) -> list[Path]:
    """Return the Parquet files at `place`: the file itself, or those in the folder, sorted by name; empty if none."""
    place = Path(place)
    if place.is_dir():
        return sorted(path for path in place.glob(f"*{SUFFIX}") if not path.name.startswith((".", "_")))
    return [place] if place.is_file() and place.suffix.lower() == SUFFIX else []


def listed(files: Sequence[Path]) -> list[Listed]:
    """List the pictures of Parquet files; each row is a picture.

    The column `bytes` has the contents of picture files, and the optional column `path` has their names. Without
    `bytes`, `path` has the paths of the pictures, relative to the working folder.

    Raises:
        UserError: a file is not Parquet, has neither column, or a column has a wrong type; or there are no rows.
    """
    found: list[Listed] = []
    for file in files:
        with _told(file), ParquetFile(file) as parquet:
            columns = parquet.schema_arrow.names
            if PATH not in columns and BYTES not in columns:
                raise UserError(f"{file} has neither a column {PATH} nor {BYTES}, but {', '.join(columns)}"[:400])
            if BYTES in columns and not _holds_bytes(parquet.schema_arrow.field(BYTES).type):
                raise UserError(f"{file}: column {BYTES} holds {parquet.schema_arrow.field(BYTES).type}, not binary")
            names: list[str | None] = [None] * parquet.metadata.num_rows
            if PATH in columns:
                names = parquet.read([PATH])[PATH].cast(pa.string()).to_pylist()
        plain = [name or f"{file}#{row}" for row, name in enumerate(names)]
        found += (
            [Stored(str(file), row, name) for row, name in enumerate(plain)] if BYTES in columns else map(Path, plain)
        )
    if not found:
        raise UserError(f"no pictures in {' '.join(map(str, files))}: the tables have no rows"[:400])
    return found


def contents(stored: Sequence[Stored]) -> Iterator[Encoded]:
    """Yield the bytes of stored pictures, few of which are in memory; those of the same file must be consecutive."""
    for file, some in groupby(stored, lambda one: one.file):
        names = {one.row: one.name for one in some}
        with _told(file), ParquetFile(file, buffer_size=BUFFER) as parquet:
            sizes = [parquet.metadata.row_group(number).num_rows for number in range(parquet.num_row_groups)]
            starts = [sum(sizes[:number]) for number in range(len(sizes))]
            wanted = [n for n, start in enumerate(starts) if start <= max(names) and start + sizes[n] > min(names)]
            row = starts[wanted[0]] if wanted else 0
            for batch in parquet.iter_batches(AT_ONCE, row_groups=wanted, columns=[BYTES]):
                for data in batch.column(0):
                    if row in names:
                        yield Encoded(names[row], data.as_py() or b"")
                    row += 1


def _holds_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


@contextmanager
def _told(file: str | Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"cannot read {file} as Parquet: {' '.join(str(error).split())[:200]}") from error
