"""Rows in memory, or in a file where they are too many.

The file has no name: it is gone with the process, and nothing stale can be left beside a dataset. Rows are drawn by
reads, not through a mapping: a mapped page takes its neighbours with it, and all count as the process's memory (1.4 GB
after two thousand batches). The kernel keeps in its cache what it has room for.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from torch import Tensor

from robot_rl.errors import DataError


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
        self._file: int | None = None  # its descriptor, open as long as this table lives
        if file is None:
            self.rows = torch.cat(kept)
            return
        with file:
            file.flush()
            # for those who want all rows in order; private, so that nobody can write into the file
            self.rows = torch.from_numpy(np.memmap(file, np.float32, "c", shape=(size // (4 * width), width)))
            self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)
        os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_RANDOM)

    @property
    def in_file(self) -> bool:
        """Whether the rows lie in a file."""
        return self._file is not None

    def gather(self, picked: Tensor) -> Tensor:
        """Rows `picked`, (B,) -> (B, W), without mapping them."""
        if self._file is None:
            return self.rows.index_select(0, picked)
        out = torch.empty(len(picked), self.rows.shape[1])
        block = memoryview(cast("Any", out.numpy())).cast("B")
        width = 4 * self.rows.shape[1]
        for place, row in enumerate(picked.tolist()):
            os.preadv(self._file, [block[place * width : (place + 1) * width]], row * width)
        return out


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
            file.write(memoryview(cast("Any", rows.contiguous().numpy())).cast("B"))
    except OSError as error:
        raise DataError(
            f"Transitions cannot be written to {beside} ({error.strerror}). Make room there, or raise --memory-gb."
        ) from error
