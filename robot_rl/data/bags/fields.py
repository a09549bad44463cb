"""Numbers out of messages, by path: `position`, `pose.position`, `points[0].positions`, `data[0:3]`.

A message may be a ROS message, a JSON object or a protobuf message; a path reads the same in all of them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np

from robot_rl.errors import DataError

_PART = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)?((?:\[-?\d*:?-?\d*\])*)$")
_INDEX = re.compile(r"\[([^\]]*)\]")
_SKIPPED = ("header", "__msgtype__")


class MissingField(DataError):  # noqa: N818 - reads as the sentence it is
    """A message has no such field, or no number in it."""


def look_up(message: Any, path: str) -> Any:
    """What stands at `path`.

    Raises:
        MissingField: Naming the part that is not there and what is.
    """
    value = message
    for part in path.split(".") if path else []:
        found = _PART.fullmatch(part)
        if found is None or not part:
            raise MissingField(f"'{path}' is no path: '{part}' should read like name, name[0] or name[0:3].")
        if found[1]:
            value = _member(value, found[1], path)
        for index in _INDEX.findall(found[2]):
            value = _element(value, index, path)
    return value


def numbers(value: Any) -> list[float]:
    """All numbers in `value`, in the order of its definition; headers are left out.

    Raises:
        MissingField: If it holds text or bytes.
    """
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiub":
            raise MissingField(f"holds {value.dtype}, not numbers")
        return np.asarray(value, np.float64).ravel().tolist()
    if isinstance(value, int | float | np.number):
        return [float(value)]
    if _is_list(value):
        return [n for item in value for n in numbers(item)]
    if isinstance(value, str | bytes | None):
        raise MissingField(f"holds {'text' if isinstance(value, str) else type(value).__name__}, not numbers")
    return [n for _, item in members(value) for n in numbers(item)]


def labels(value: Any, name: str = "") -> list[str]:
    """One label for each of `numbers(value)`."""
    if isinstance(value, np.ndarray):
        return [_joined(name, str(i)) for i in range(value.size)]
    if isinstance(value, int | float | np.number):
        return [name or "0"]
    if _is_list(value):
        return [label for i, item in enumerate(value) for label in labels(item, _joined(name, str(i)))]
    return [label for key, item in members(value) for label in labels(item, _joined(name, key))]


def members(value: Any) -> Iterator[tuple[str, Any]]:
    """Fields of a message in the order of its definition, without its header."""
    if isinstance(value, Mapping):
        pairs = [(str(k), v) for k, v in cast("Mapping[Any, Any]", value).items()]
    elif dataclasses.is_dataclass(value):
        # rosbags keeps a message's constants as class variables, behind an annotation that dataclasses do not see
        own = [f.name for f in dataclasses.fields(value) if not str(f.type).startswith("ClassVar")]
        pairs = [(name, getattr(value, name)) for name in own]
    elif hasattr(value, "DESCRIPTOR"):
        pairs = [(f.name, getattr(value, f.name)) for f in value.DESCRIPTOR.fields]
    else:
        raise MissingField(f"holds {type(value).__name__}, not numbers")
    return ((k, v) for k, v in pairs if k not in _SKIPPED)


def stamp_seconds(message: Any, path: str) -> tuple[int, int]:
    """A stamp as (s, ns).

    Raises:
        MissingField: If there is none at `path`.
    """
    stamp = look_up(message, path)
    for whole, rest in (("sec", "nanosec"), ("sec", "nsec"), ("secs", "nsecs"), ("seconds", "nanos")):
        try:
            return int(_member(stamp, whole, path)), int(_member(stamp, rest, path))
        except MissingField:
            continue
    raise MissingField(f"'{path}' is no stamp of seconds and nanoseconds")


def _member(value: Any, name: str, path: str) -> Any:
    if isinstance(value, Mapping):
        if name in value:
            return cast("Mapping[str, Any]", value)[name]
    elif (dataclasses.is_dataclass(value) or hasattr(value, "DESCRIPTOR")) and hasattr(value, name):
        return getattr(value, name)
    try:
        there = ", ".join(k for k, _ in members(value)) or "nothing"
    except MissingField:
        there = f"a {type(value).__name__}"
    raise MissingField(f"'{path}': no '{name}' in it; there is: {there}")


def _element(value: Any, index: str, path: str) -> Any:
    if not (_is_list(value) or isinstance(value, np.ndarray)):
        raise MissingField(f"'{path}': [{index}] of a {type(value).__name__}; only lists have elements")
    try:
        if ":" in index:
            first, _, last = index.partition(":")
            return value[int(first) if first else None : int(last) if last else None]
        return value[int(index)]
    except (IndexError, ValueError) as error:
        raise MissingField(f"'{path}': no element [{index}] in a list of {len(value)}") from error


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _joined(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part
