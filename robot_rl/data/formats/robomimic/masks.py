"""The named parts (`mask/<filter>`) of robomimic files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py

from robot_rl.data.formats.hdf5 import group, numbered_groups, opened


def robomimic_masks(path: Path) -> dict[str, tuple[int, ...]]:
    """Filter name to the places of its demonstrations among all, in the order of their numbers.

    A name that stands for no demonstration gets the place behind the last. Empty for files without filters.

    Raises:
        DataError: If the file is malformed.
    """
    if not path.is_file() or not h5py.is_hdf5(path):
        return {}
    with opened(path) as file:
        if "mask" not in file or "data" not in file:
            return {}
        names = numbered_groups(group(file, "data", path), "demo_", path)
        place = {name: i for i, name in enumerate(names)}
        mask: Any = group(file, "mask", path)
        return {str(key): tuple(place.get(_name(n), len(names)) for n in mask[key][()]) for key in mask}


def _name(raw: Any) -> str:
    return raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)
