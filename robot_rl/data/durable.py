"""Moves shared by files that must survive a crash: whole appends, group commit, one owner a folder.

A killed process loses nothing that `append_whole` returned from: the operating system has it. A power cut
loses what was appended since the last sync; `GroupCommit` bounds that without a sync on the caller's path.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from robot_rl.errors import DataError, RobotRLError

Bytes = bytes | bytearray | memoryview


def require_new(path: Path, option: str = "--out", error: type[RobotRLError] = DataError) -> None:
    """Refuse to write over something.

    Args:
        path: To be written.
        option: That names it.
        error: Kind to raise.

    Raises:
        RobotRLError: If `path` exists.
    """
    if path.exists():
        raise error(f"{option} {path} exists already. Choose another one or remove it.")


def append_whole(fd: int, parts: Sequence[Bytes], end: int) -> int:
    """Append `parts` to a file opened with O_APPEND, all or nothing.

    Args:
        fd: File descriptor.
        parts: Written one behind the other.
        end: Size of the file before, bytes.

    Returns:
        Size of the file after, bytes.

    Raises:
        OSError: If not all could be written (disk full, size limit); the file is `end` bytes long again.
    """
    size = sum(map(len, parts))
    try:
        written = os.writev(fd, parts)
        if written < size:  # the disk ended in the middle: the rest raises the reason, or gets written
            rest = memoryview(b"".join(parts))[written:]
            while rest:
                rest = rest[os.write(fd, rest) :]
    except OSError:
        os.ftruncate(fd, end)
        raise
    return end + size


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_synced(file: Path, content: bytes) -> None:
    """Write a small file under a name of this process's own, sync it, rename it: whole or not there."""
    work = file.with_name(f".{file.name}.tmp-{os.getpid()}")
    with work.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    work.rename(file)
    sync_folder(file.parent)


class FolderLock:
    """One owner a folder; the operating system frees it when the owner dies, and all whom it gave `descriptor` to.

    Args:
        folder: Created if missing.
        what: Names the thing in the message, such as "replay log".

    Raises:
        DataError: If another process owns it.
    """

    def __init__(self, folder: Path, what: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise DataError(
                f"{what} {folder} is in use by another process. Stop that one, or give this one another folder."
            ) from error

    @property
    def descriptor(self) -> int:
        """The open file that holds it: a child process that is given it (`pass_fds`) owns the folder as well."""
        return self._fd

    def release(self) -> None:
        """Let others have it, once no child has it any more; the second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class GroupCommit:
    """Calls `sync` in a background thread every `period_s`.

    Args:
        sync: Makes everything durable that was appended before it was called; cheap where there is nothing.
        period_s: Between calls, s; 0 leaves syncing to the caller and starts no thread.
    """

    def __init__(self, sync: Callable[[], None], period_s: float) -> None:
        self._sync = sync
        self._period_s = period_s
        self._closing = threading.Event()
        self.error: OSError | None = None  # a failed sync: what was written since the last one is in doubt
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
        if period_s > 0:
            self._thread.start()

    def close(self) -> None:
        """End the thread; the caller syncs what is left."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(self._period_s):
            try:
                self._sync()
            except OSError as error:
                self.error = error
                return
