"""Reading HDF5 files of unknown quality: every failure names file, key and remedy."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import DataError

Floats = NDArray[np.float64]


@contextmanager
def opened(path: Path) -> Generator[h5py.File]:
    """The file, open for reading.

    Raises:
        DataError: If it is missing, is not HDF5, or breaks while being read.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"{path} {what}; give the path of an HDF5 file.")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, OverflowError) as error:  # what h5py raises on damage
        raise DataError(
            f"{path} cannot be read as HDF5 ({error}). It may be cut short, empty or of another type; copy it again."
        ) from error


def group(parent: Any, key: str, path: Path) -> Any:
    """The group `key`.

    Raises:
        DataError: If it is missing or is an array.
    """
    found = parent.get(key)
    if not isinstance(found, h5py.Group):
        what = "is missing" if found is None else "is an array, not a group"
        raise DataError(f"{path}: group '{_full(parent, key)}' {what}; there are: {listing(parent)}.")
    return found


def numbers(parent: Any, key: str, path: Path, *, ndim: int, rows: int | None = None) -> Floats:
    """The numeric array `key`, finite, as float64.

    Args:
        parent: Group that holds it.
        key: Its name.
        path: File, for messages.
        ndim: Dimensions it must have.
        rows: Length it must have; None for any.

    Raises:
        DataError: If it is missing, not numeric, of another shape, or not finite.
    """
    found = parent.get(key)
    where = f"{path}: '{_full(parent, key)}'"
    if not isinstance(found, h5py.Dataset):
        what = "is missing" if found is None else "is a group, not an array"
        raise DataError(f"{where} {what}; there are: {listing(parent)}.")
    if found.dtype.kind not in "fiub":
        raise DataError(f"{where} holds {found.dtype}, not numbers. Export the log again with numeric arrays.")
    if found.ndim != ndim:
        raise DataError(f"{where} has shape {found.shape}; expected {ndim} dimensions (steps first).")
    if rows is not None and len(found) != rows:
        raise DataError(f"{where} has {len(found)} rows, its actions have {rows}. Leave this episode out or repair it.")
    array = np.asarray(found[()], dtype=np.float64)
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise DataError(f"{where} holds NaN or infinity, first in row {row}. Repair the log or leave the episode out.")
    return array


def json_attr(parent: Any, key: str, path: Path) -> dict[str, Any]:
    """A JSON object kept in an attribute.

    Raises:
        DataError: If the attribute is missing or is not a JSON object.
    """
    where = f"{path}: attribute '{key}' of '{parent.name}'"
    if key not in parent.attrs:
        raise DataError(f"{where} is missing; there are: {', '.join(parent.attrs) or 'none'}.")
    try:
        value = json.loads(parent.attrs[key])
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} is not JSON ({error}).") from error
    if not isinstance(value, dict):
        raise DataError(f"{where} is a {type(value).__name__}, not a JSON object.")
    return cast("dict[str, Any]", value)


def numbered_groups(parent: Any, prefix: str, path: Path) -> list[str]:
    """Names `prefix`0, `prefix`1, ... sorted by their number.

    Raises:
        DataError: If there is none.
    """
    names = [n for n in parent if n.startswith(prefix) and n.removeprefix(prefix).isdigit()]
    if not names:
        raise DataError(f"{path}: no '{prefix}N' in '{parent.name}', so no episodes; there are: {listing(parent)}.")
    return sorted(names, key=lambda n: int(n.removeprefix(prefix)))


def listing(parent: Any) -> str:
    """The first names in a group, for messages."""
    names = list(parent)
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "nothing"


def _full(parent: Any, key: str) -> str:
    return f"{parent.name.rstrip('/')}/{key}".lstrip("/")
