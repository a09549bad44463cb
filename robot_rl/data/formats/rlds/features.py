"""RLDS `features.json`: which features a step has, of which type and shape.

Written by TensorFlow Datasets. A step's feature `observation/state` lies in the example as
`steps/observation/state`, all steps of the episode one after another. Without the file, features are taken
from the first example and their widths from its number of steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from robot_rl.data.formats.lerobot.info import read_json
from robot_rl.data.formats.rlds.tf_example import Values
from robot_rl.errors import DataError

STEPS = "steps/"
_FLAGS = ("is_first", "is_last", "is_terminal")


@dataclass(frozen=True)
class StepFeature:
    """A feature of a step: `key` without "steps/", `kind` numbers, picture or other; shape of one step."""

    key: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    encoding: str = "none"

    @property
    def size(self) -> int:
        """Numbers a step."""
        return math.prod(self.shape)


def read_features(folder: Path) -> dict[str, StepFeature] | None:
    """The step features by key; None where there is no features.json.

    Raises:
        DataError: If the file is damaged or describes no steps.
    """
    file = folder / "features.json"
    if not file.is_file():
        return None
    try:
        found = {f.key: f for f in _walk(read_json(file), "") if f.key}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{file} is not TensorFlow Datasets' features.json ({error!r}). Download it again.") from error
    if not found:
        raise DataError(f"{file} describes no 'steps'. Only RLDS datasets, of one example an episode, are read.")
    return found


def guessed_features(example: Mapping[str, Values], where: str) -> dict[str, StepFeature]:
    """Step features as one example shows them.

    Raises:
        DataError: If it has no steps.
    """
    keys = [k for k in example if k.startswith(STEPS)]
    steps = next((len(example[STEPS + k]) for k in _FLAGS if STEPS + k in example), 0)
    if not keys or not steps:
        raise DataError(
            f"{where} has features {', '.join(list(example)[:8])}: no 'steps/...' with one of {', '.join(_FLAGS)}. "
            f"Only RLDS datasets, of one example an episode, are read."
        )
    found: dict[str, StepFeature] = {}
    for key in keys:
        values = example[key]
        name = key.removeprefix(STEPS)
        if isinstance(values, np.ndarray) and len(values) and len(values) % steps == 0:
            width = len(values) // steps
            found[name] = StepFeature(name, "numbers", str(values.dtype), (width,) if width > 1 else ())
        elif isinstance(values, list) and len(values) == steps:
            picture = bytes(values[0][:3]) in (b"\xff\xd8\xff", b"\x89PN")
            found[name] = StepFeature(name, "picture" if picture else "other", "bytes", ())
    return found


def _walk(node: Mapping[str, Any], path: str) -> Iterator[StepFeature]:
    """Leaves under `steps`, in the file's order."""
    if "featuresDict" in node:
        for key, child in cast("dict[str, Any]", node["featuresDict"]["features"]).items():
            yield from _walk(child, f"{path}/{key}" if path else key)
    elif "sequence" in node and path == "steps":
        yield from _walk(node["sequence"]["feature"], path)
    elif path.startswith(STEPS):
        yield _leaf(node, path.removeprefix(STEPS))


def _leaf(node: Mapping[str, Any], key: str) -> StepFeature:
    if "image" in node:
        image = cast("dict[str, Any]", node["image"])
        return StepFeature(key, "picture", str(image.get("dtype", "uint8")), _shape(image))
    if "tensor" in node:
        tensor = cast("dict[str, Any]", node["tensor"])
        dtype = str(tensor.get("dtype", ""))
        kind = "numbers" if dtype.startswith(("float", "int", "uint", "bool", "bfloat")) else "other"
        shape = _shape(tensor)
        kind = "other" if any(n < 1 for n in shape) else kind  # of unknown length
        return StepFeature(key, kind, dtype, shape, str(tensor.get("encoding", "none")).lower())
    return StepFeature(key, "other", str(node.get("pythonClassName", "")).rpartition(".")[2], ())


def _shape(node: Mapping[str, Any]) -> tuple[int, ...]:
    shape = cast("dict[str, Any]", node.get("shape") or {})
    return tuple(int(n) for n in shape.get("dimensions", []))
