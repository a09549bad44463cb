"""Records of an MCAP file one by one, up to the last whole one. Needs `mcap` alone. https://mcap.dev/spec"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import zstandard
from mcap.exceptions import McapError
from mcap.stream_reader import StreamReader

_DAMAGE = (McapError, EOFError, struct.error, ValueError, OverflowError, MemoryError, RuntimeError, zstandard.ZstdError)


@dataclass
class McapEnd:
    """Why reading ended; empty where the file was whole."""

    reason: str = ""


def mcap_records(path: Path, end: McapEnd, *, chunks: bool = False) -> Iterator[Any]:
    """Every whole record; a cut or damaged end is the end, and `end` says so.

    Args:
        path: The file.
        end: Gets the reason when the last record was given.
        chunks: Give chunks as they are, without looking into them.
    """
    with path.open("rb") as file:
        whole = cast("IO[bytes]", _Whole(file))
        reader = StreamReader(whole, emit_chunks=chunks, validate_crcs=True, record_size_limit=path.stat().st_size)
        try:
            yield from reader.records
        except _DAMAGE as error:
            end.reason = str(error) or "it ends in the middle of a record"


class _Whole:
    """A file that gives as many bytes as asked or none: the MCAP reader would take half a message for one."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        return data if len(data) == size else b""
