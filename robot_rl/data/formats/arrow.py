"""Parquet by pyarrow, read with suspicion: every failure names file, column and remedy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def pyarrow_parquet() -> Any:
    """The module `pyarrow.parquet`.

    Raises:
        DataError: If pyarrow is not installed.
    """
    try:
        from pyarrow import parquet  # noqa: PLC0415 - an extra; only these formats need it
    except ImportError as error:
        raise DataError(
            f"Parquet files, LeRobot's among them, need pyarrow ({error}). Install it: pip install -e '.[formats]'."
        ) from error
    return parquet


def open_parquet(path: Path) -> Any:
    """A parquet file, its footer read.

    Raises:
        DataError: If it is missing or is not parquet.
    """
    parquet = pyarrow_parquet()
    if not path.is_file():
        raise DataError(f"{path} does not exist. The dataset is incomplete; copy or download it again.")
    with _readable(path):
        return parquet.ParquetFile(path)


def read_columns(path: Path, columns: Sequence[str]) -> Any:
    """Those of `columns` that the file has, as a table.

    Raises:
        DataError: If it is missing, is not parquet, or breaks while being read.
    """
    file = open_parquet(path)
    names = set(file.schema_arrow.names)
    with file, _readable(path):
        table = file.read(columns=[c for c in columns if c in names])
        table.validate(full=True)
        return table


def matrix(table: Any, column: str, where: str) -> Floats:
    """A column of numbers or of equally long lists of numbers, finite, (N, D).

    Args:
        table: pyarrow table that has the column.
        column: Its name.
        where: File, for messages.

    Raises:
        DataError: If it holds something else, gaps, lists of several lengths, NaN or infinity.
    """
    import pyarrow as pa  # noqa: PLC0415

    whole, rows = table[column].combine_chunks(), len(table)
    flat, width = whole, 1
    while _is_list(flat.type):
        if flat.null_count:
            raise DataError(
                f"{where}: column '{column}' has {flat.null_count} empty rows. Repair or re-export the log."
            )
        inner = flat.flatten()
        step = len(inner) // len(flat) if len(flat) else 0
        lengths = pa.compute.list_value_length(flat).to_numpy(zero_copy_only=False)
        if len(lengths) and (lengths != lengths[0]).any():
            row = int(np.flatnonzero(lengths != lengths[0])[0])
            raise DataError(
                f"{where}: column '{column}' holds {lengths[0]} numbers in row 0 but {lengths[row]} in row {row}. "
                f"Two schemas in one dataset: export them apart."
            )
        flat, width = inner, width * step
    if not (pa.types.is_integer(flat.type) or pa.types.is_floating(flat.type) or pa.types.is_boolean(flat.type)):
        raise DataError(f"{where}: column '{column}' holds {whole.type}, not numbers. Choose others with --obs-keys.")
    if flat.null_count:
        raise DataError(
            f"{where}: column '{column}' has {flat.null_count} missing values. Repair or re-export the log."
        )
    values = np.asarray(flat.to_numpy(zero_copy_only=False), np.float64).reshape(rows, width)
    if not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0][0])
        raise DataError(
            f"{where}: column '{column}' holds NaN or infinity, first in row {row}. Repair it or leave the episode out."
        )
    return values


def scalars(table: Any, column: str, where: str) -> Floats:
    """A column with one finite number a row, (N,); lists of one are taken as numbers.

    Raises:
        DataError: As `matrix`, or if rows hold several numbers.
    """
    values = matrix(table, column, where)
    if values.shape[1] != 1:
        raise DataError(f"{where}: column '{column}' holds {values.shape[1]} numbers a row; expected one.")
    return values[:, 0]


def integers(table: Any, column: str, where: str) -> Ints:
    """A column with one whole number a row, (N,).

    Raises:
        DataError: As `scalars`, or if a number is not whole.
    """
    values = scalars(table, column, where)
    whole = values.astype(np.int64)
    if (whole != values).any():
        row = int(np.flatnonzero(whole != values)[0])
        raise DataError(f"{where}: column '{column}' is {values[row]:g} in row {row}; expected a whole number.")
    return whole


def _is_list(kind: Any) -> bool:
    import pyarrow as pa  # noqa: PLC0415

    return pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind)


class _readable:  # noqa: N801 - reads as the context it is
    """Turns what pyarrow raises on a damaged file into a DataError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        import pyarrow as pa  # noqa: PLC0415

        # pyarrow raises OSError and its own ValueErrors; thrift garbage may also ask for absurd memory
        if isinstance(error, OSError | ValueError | MemoryError | pa.ArrowException | UnicodeDecodeError):
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"{self.path} cannot be read as parquet ({text[:200]}). It may be cut short or a Git LFS pointer; "
                f"copy or download it again."
            ) from error
