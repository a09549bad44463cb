"""TFRecord files: length, masked CRC32C of the length, record, masked CRC32C of the record.

https://www.tensorflow.org/tutorials/load_data/tfrecord. No TensorFlow: the framing is 16 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from robot_rl.errors import DataError

_MASK = 0xA282EAD8
LONGEST = 2**31  # bytes; protobuf allows no longer message


def records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Byte offset and content of every record.

    Raises:
        DataError: If the file is missing, cut, or a checksum is not its record's.
    """
    crc = _crc32c()
    with _opened(path) as file:
        number = 0
        while (record := _read(file, path, number, crc)) is not None:
            yield record
            number += 1


def record_at(path: Path, offset: int) -> bytes:
    """The record that starts at `offset`.

    Raises:
        DataError: If there is none or it is damaged.
    """
    with _opened(path) as file:
        file.seek(offset)
        record = _read(file, path, 0, _crc32c())
    if record is None:
        raise DataError(f"{path} ends before byte {offset}. It has changed since the import; import it again.")
    return record[1]


def masked_crc(data: bytes) -> int:
    """TFRecord's checksum: CRC32C, rotated by 15 bits and offset."""
    return _masked(int(_crc32c().value(data)))


def _read(file: IO[bytes], path: Path, number: int, crc: Any) -> tuple[int, bytes] | None:
    offset = file.tell()
    head = file.read(12)
    if not head:
        return None
    where = f"{path}: record {number} at byte {offset}"
    if len(head) < 12:
        raise DataError(f"{where} is cut inside its header. The file is incomplete; copy or download it again.")
    length, check = struct.unpack("<QI", head)
    if _masked(int(crc.value(head[:8]))) != check:
        raise DataError(
            f"{where}: the checksum of its length is wrong. The file is damaged, compressed or no TFRecord; copy or "
            f"download it again."
        )
    if length > LONGEST:
        raise DataError(f"{where} claims {length} bytes, more than a record can have. Copy or download it again.")
    data = file.read(length)
    tail = file.read(4)
    if len(data) < length or len(tail) < 4:
        raise DataError(
            f"{where} has {len(data)} of {length} bytes: the file is cut. Copy or download it again; or give a "
            f"copy without the last record."
        )
    if _masked(int(crc.value(data))) != struct.unpack("<I", tail)[0]:
        raise DataError(f"{where}: its checksum is wrong, so its content is damaged. Copy or download it again.")
    return offset, data


def _masked(crc: int) -> int:
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}). Give the folder of an RLDS dataset.") from error


def _crc32c() -> Any:
    try:
        import google_crc32c  # noqa: PLC0415 - an extra; only this format needs it
    except ImportError as error:
        raise DataError(
            f"RLDS datasets need google-crc32c ({error}). Install it: pip install -e '.[formats]'."
        ) from error
    return google_crc32c
