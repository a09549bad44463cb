"""tf.train.Example, read without TensorFlow or protobuf: a map from names to lists of bytes, floats or integers.

    Example{1: Features}  Features{1: {1: name, 2: Feature}}  Feature{1: bytes | 2: floats | 3: integers}{1: values}

https://protobuf.dev/programming-guides/encoding. Lists may be packed (one run of bytes) or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import DataError

Values = list[memoryview] | NDArray[np.float32] | NDArray[np.int64]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def parse_example(record: bytes, where: str) -> dict[str, Values]:
    """Every feature of an example; bytes lists are views into `record`.

    Raises:
        DataError: If it is no tf.train.Example.
    """
    found: dict[str, Values] = {}
    try:
        for features in _all(memoryview(record), 1):
            for entry in _all(features, 1):
                name, value = _entry(entry)
                found[name] = value
    except (IndexError, ValueError, UnicodeDecodeError, OverflowError) as error:
        raise DataError(f"{where} is no tf.train.Example ({error}). Copy or download the dataset again.") from error
    if not found:
        raise DataError(f"{where} is no tf.train.Example: it has no features. Copy or download the dataset again.")
    return found


def _entry(entry: memoryview) -> tuple[str, Values]:
    name, value = "", memoryview(b"")
    for number, _, part in _fields(entry):
        if number == 1:
            name = bytes(_view(part)).decode()
        elif number == 2:
            value = _view(part)
    return name, _feature(value)


def _feature(feature: memoryview) -> Values:
    for number, _, part in _fields(feature):
        if number == 1:
            return list(_all(_view(part), 1))
        if number == 2:
            return _floats(_view(part))
        if number == 3:
            return _integers(_view(part))
    return []


def _floats(values: memoryview) -> NDArray[np.float32]:
    parts = [_view(part) for number, _, part in _fields(values) if number == 1]
    if any(len(part) % 4 for part in parts):
        raise ValueError("a list of floats is not a whole number of floats long")
    return np.frombuffer(b"".join(parts), "<f4")


def _integers(values: memoryview) -> NDArray[np.int64]:
    parts: list[NDArray[np.int64]] = []
    for number, wire, part in _fields(values):
        if number == 1:
            single = isinstance(part, int)
            parts.append(
                np.array([part], np.uint64).view(np.int64) if single else _varints(np.frombuffer(part, np.uint8))
            )
        if wire == _FIXED64:
            raise ValueError("a list of integers has another encoding")
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _varints(data: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Packed varints: seven bits a byte, least significant first, the high bit set in all but the last."""
    last = np.flatnonzero(data < 0x80)
    if not len(data):
        return np.zeros(0, np.int64)
    if not len(last) or last[-1] != len(data) - 1:
        raise ValueError("a list of integers is cut")
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(len(data)) - np.repeat(first, last - first + 1)
    if place.max() > 9:
        raise ValueError("an integer is longer than 64 bits")
    bits = (data & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(bits, first).view(np.int64)


def _all(message: memoryview, number: int) -> Iterator[memoryview]:
    for found, _, part in _fields(message):
        if found == number:
            yield _view(part)


def _fields(message: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Field number, wire type and content of each field."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, wire, value
            continue
        if wire == _BYTES:
            size, at = _varint(message, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")
        if size > len(message) - at:
            raise ValueError("a field is longer than its message")
        yield tag >> 3, wire, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
    raise ValueError("an integer is longer than 64 bits")


def _view(part: Any) -> memoryview:
    if isinstance(part, int):
        raise ValueError("a number stands where bytes should")
    return part
