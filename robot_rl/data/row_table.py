"""Rows in memory, or in a file that is mapped into it where they are too many.

The file has no name: it is gone with the process, and nothing stale can be left beside a dataset. Mapped pages count as
the process's memory once they are touched, so they are handed back now and then; the kernel keeps what it has room for.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from robot_rl.errors import DataError

_TOUCHED = 64 * 1024  # bytes that become resident with one row: the kernel maps its neighbours as well
_RESIDENT = 256 * 2**20  # bytes of mapped pages before they are handed back


class RowTable:
    """Rows gathered piece by piece, (N, W) float32.

    Args:
        pieces: Tables of W columns, consumed one by one.
        beside: Folder for the file; None keeps everything in memory.
        memory_gb: Rows beyond this many GB go to the file.

    Raises:
        DataError: If there is no piece, or the file cannot be written.
    """

    def __init__(self, pieces: Iterable[Tensor], beside: Path | None, memory_gb: float) -> None:
        kept: list[Tensor] = []
        size, width = 0, 0
        file: IO[bytes] | None = None
        for rows in pieces:
            size, width = size + rows.nbytes, rows.shape[1]
            kept.append(rows)
            if beside is not None and size > memory_gb * 1e9:
                file = file or _unnamed(beside)
                _write(file, kept, beside)
                kept.clear()
        if not size:
            raise DataError("No episodes to learn from.")
        self._map: mmap.mmap | None = None
        self._touched = 0
        self.rows = torch.cat(kept) if file is None else self._mapped(file, width)

    @property
    def in_file(self) -> bool:
        """Whether the rows lie in a file."""
        return self._map is not None

    def drawn(self, count: int) -> None:
        """Note that `count` rows were read; hands pages back when enough have come together."""
        if self._map is None:
            return
        self._touched += count * _TOUCHED
        if self._touched > _RESIDENT:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._touched = 0

    def _mapped(self, file: IO[bytes], width: int) -> Tensor:
        file.flush()
        # private and never written to: what was handed back is read from the file again
        self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        file.close()
        self._map.madvise(mmap.MADV_RANDOM)
        return torch.from_numpy(np.frombuffer(self._map, np.float32).reshape(-1, width))


def _unnamed(beside: Path) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(dir=beside)
    except OSError as error:
        raise DataError(
            f"The transitions do not fit into the memory allowed, and no file can be made in {beside} "
            f"({error.strerror}). Make it writable, or raise --memory-gb."
        ) from error


def _write(file: IO[bytes], pieces: list[Tensor], beside: Path) -> None:
    try:
        for rows in pieces:
            file.write(memoryview(rows.contiguous().numpy()).cast("B"))
    except OSError as error:
        raise DataError(
            f"Transitions cannot be written to {beside} ({error.strerror}). Make room there, or raise --memory-gb."
        ) from error
