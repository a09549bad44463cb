"""The named parts (`mask/<filter>`) of robomimic files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robot_rl.data.formats.hdf5 import group, numbered_groups


def robomimic_masks(file: Any, path: Path) -> dict[str, tuple[int, ...]]:
    """Filter name to the places of its demonstrations among all, in the order of their numbers.

    A name that stands for no demonstration gets the place behind the last. Empty for files without filters.

    Args:
        file: The open file, which has `data`.
        path: Its name, for messages.

    Raises:
        DataError: If it is malformed.
    """
    if "mask" not in file:
        return {}
    names = numbered_groups(group(file, "data", path), "demo_", path)
    place = {name: i for i, name in enumerate(names)}
    mask: Any = group(file, "mask", path)
    return {str(key): tuple(place.get(_name(n), len(names)) for n in mask[key][()]) for key in mask}


def _name(raw: Any) -> str:
    return raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)
