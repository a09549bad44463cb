"""The actor's spool: every transition is on disk before it counts as taken, until the learner has stored it.

A folder holds one sub-folder a session, its name a running number and the session in hexadecimal:

    session.json       spec, record size, and the boot of the machine during which it was made
    N.spool            a segment; N is the sequence of its first record, 20 digits
    acknowledged       8 bytes, little-endian: all sequences below are stored by the learner

    spare              the segment to come

A record is a transition (`robot_rl.data.transition`) and a CRC-32 over it, begun with its sequence. Segments
are written full of zeros in advance, or are acknowledged ones used again, and mapped: taking a transition is a
copy into the operating system's memory of the file, with no system call and no allocation that a busy disk
could hold up, and a full disk shows before a segment begins. What a segment held before fails the CRC.

A process killed at any moment goes on with the same session and the next sequence. After a reboot the tail
may be gone (at most `sync_ms` of it), and the learner may already have what is gone: numbers must not be used
twice, so a new session begins, and what is left of the old one is sent first. No torch.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import threading
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robot_rl.data.durable import GroupCommit, sync_folder
from robot_rl.data.spec_file import read_spec_file, write_spec_file
from robot_rl.data.transition import Rows, transition_dtype
from robot_rl.errors import BridgeError
from robot_rl.spec import Spec

META_FILE = "session.json"
ACKNOWLEDGED_FILE = "acknowledged"
SPARE_FILE = "spare"
_CRC = struct.Struct("<I")
_BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, kw_only=True)
class SpoolOptions:
    """How a spool keeps transitions."""

    sync_ms: float = 100.0  # a power cut loses at most the appends of this long; 0 syncs each one, on the tick
    limit_bytes: int = 2 * 2**30  # most that may wait for the learner; beyond it the arm stops
    segment_bytes: int = 8 * 2**20  # allocated at a time


class Spool:
    """One session's transitions on disk. `append` is for one thread, the rest for one other.

    Args:
        folder: Of the session; `open_spools` makes it.
        spec: Gives the widths.
        options: Durability and limits.

    Raises:
        SpecMismatch: If it holds transitions of another spec.
    """

    def __init__(self, folder: Path, spec: Spec, options: SpoolOptions) -> None:
        self.folder = folder
        self.session = bytes.fromhex(folder.name.partition("-")[2])
        self.dtype = transition_dtype(spec.obs_dim, spec.action_dim)
        remedy = (
            f"It may hold transitions that no learner has stored. Start the actor once more with the old spec so that "
            f"it can deliver them, or give another spool folder, or remove {folder}."
        )
        self.boot = str(read_spec_file(folder / META_FILE, spec, f"the spool {folder}", remedy).get("boot", ""))
        self._row_bytes = self.dtype.itemsize
        self._record_bytes = self._row_bytes + _CRC.size
        self._sync_ms = options.sync_ms
        self._limit_records = max(1, options.limit_bytes // self._record_bytes)
        self._segment_size = max(1, options.segment_bytes // self._record_bytes) * self._record_bytes
        self._segments: list[int] = []  # sequence of the first record of each
        self._change = threading.Lock()  # guards `_segments` and the descriptors against the other thread
        self._full: list[tuple[int, mmap.mmap]] = []  # segments to sync and let go
        self._recover()
        self._synced = self._taken
        self._commit = GroupCommit(self._sync, options.sync_ms / 1000)

    @property
    def oldest(self) -> int:
        """Sequence of the oldest transition that is not acknowledged; `taken` where there is none."""
        return self._acknowledged

    @property
    def taken(self) -> int:
        """Sequence of the next transition: all below it are on disk."""
        return self._taken

    @property
    def backlog(self) -> int:
        """Transitions that wait for the learner."""
        return self._taken - self._acknowledged

    def append(self, row: bytes) -> int:
        """Store one transition.

        Args:
            row: Its record, `dtype.itemsize` bytes.

        Returns:
            Its sequence.

        Raises:
            BridgeError: If it could not be stored, so that the arm must stop; the spool is as before.
        """
        sequence, at = self._taken, self._end
        if at >= self._segment_end or sequence - self._acknowledged >= self._limit_records or self._commit.error:
            self._require_room()
            at = self._end
        end = at + self._row_bytes
        self._map[at:end] = row
        _CRC.pack_into(self._map, end, zlib.crc32(row, sequence & 0xFFFFFFFF))
        self._end = end + 4
        self._taken = sequence + 1
        if self._sync_ms <= 0:
            try:
                self._sync()
            except OSError as error:
                raise _disk_error(self.folder, error) from error
        return sequence

    def rehearse(self, row: bytes) -> None:
        """What `append` touches, without effect: the place in the map, and the checksum."""
        at = self._end
        if at < self._segment_end:
            end = at + self._row_bytes
            self._map[at:end] = self._map[at:end]  # the page is there and writable afterwards
            zlib.crc32(row, self._taken & 0xFFFFFFFF)

    def read(self, start: int, limit: int) -> tuple[bytes, int]:
        """Records from sequence `start` on, without their CRC.

        Args:
            start: Not below `oldest`.
            limit: Most records; fewer come at the end of a segment.

        Returns:
            Their bytes, and how many.
        """
        with self._change:
            i = max(k for k, first in enumerate(self._segments) if first <= start)
            first = self._segments[i]
            stop = self._segments[i + 1] if i + 1 < len(self._segments) else self._taken
        count = min(limit, stop - start)
        if count <= 0:
            return b"", 0
        with self._file(first).open("rb", buffering=0) as handle:
            block = os.pread(handle.fileno(), count * self._record_bytes, (start - first) * self._record_bytes)
        records = np.frombuffer(block, np.uint8).reshape(count, self._record_bytes)
        return records[:, : self._row_bytes].tobytes(), count

    def rows(self) -> Rows:
        """What waits for the learner, (N,) of `dtype`, for looking at."""
        parts: list[bytes] = []
        at = self.oldest
        while at < self._taken:
            block, count = self.read(at, self.backlog)
            parts.append(block)
            at += count
        return np.frombuffer(b"".join(parts), self.dtype)

    def acknowledge(self, below: int) -> None:
        """The learner has stored every transition below this sequence: delete what is wholly stored."""
        below = min(below, self._taken)
        if below <= self._acknowledged:
            return
        self._acknowledged = below
        os.pwrite(self._ack_fd, struct.pack("<Q", below), 0)
        with self._change:
            gone = [first for first, end in zip(self._segments, self._segments[1:], strict=False) if end <= below]
            del self._segments[: len(gone)]
        for first in gone:
            if (self.folder / SPARE_FILE).exists() or self._file(first).stat().st_size != self._segment_size:
                self._file(first).unlink()
            else:
                self._file(first).rename(self.folder / SPARE_FILE)

    def close(self) -> None:
        """Sync and let go; what waits for the learner stays. The second call does nothing."""
        if self._ack_fd < 0:
            return
        self._commit.close()
        self._sync()
        self._map.close()
        os.close(self._fd)
        os.close(self._ack_fd)
        self._ack_fd = -1

    def remove(self) -> None:
        """Close, and delete the folder."""
        self.close()
        shutil.rmtree(self.folder)

    def _file(self, first: int) -> Path:
        return self.folder / f"{first:020d}.spool"

    def _require_room(self) -> None:
        """Make sure that one more record can be taken."""
        if self._commit.error is not None:
            raise _disk_error(self.folder, self._commit.error)
        if self.backlog >= self._limit_records:
            raise BridgeError(
                f"The spool {self.folder} is full: {self.backlog:,} transitions wait for the learner, the limit is "
                f"{self._limit_records:,}. The arm must stop; nothing is lost. Start the learner, or raise the limit."
            )
        if self._end < self._segment_end:
            return
        spare, file = self.folder / SPARE_FILE, self._file(self._taken)
        try:
            if not spare.exists():
                _fill(spare.with_suffix(".now"), 0, self._segment_size).rename(spare)
            spare.rename(file)
            fd = os.open(file, os.O_RDWR)
            mapped = mmap.mmap(fd, self._segment_size)
        except OSError as error:
            raise _disk_error(self.folder, error) from error
        with self._change:
            self._full.append((self._fd, self._map))
            self._segments.append(self._taken)
            self._fd, self._map, self._end, self._segment_end = fd, mapped, 0, self._segment_size

    def _sync(self) -> None:
        with self._change:
            full, self._full = self._full, []
            current, taken = os.dup(self._fd), self._taken
        try:
            for fd, mapped in full:
                os.fdatasync(fd)
                mapped.close()
                os.close(fd)
            if full:
                sync_folder(self.folder)
            if taken > self._synced:
                os.fdatasync(current)
                self._synced = taken
        finally:
            os.close(current)
        if self._sync_ms > 0 and not (spare := self.folder / SPARE_FILE).exists():
            with suppress(OSError):  # the disk is full: the tick that needs a new segment will say so
                _fill(spare.with_suffix(".next"), 0, self._segment_size, sync=True).rename(spare)

    def _recover(self) -> None:
        """Find the last whole record; what a power cut left behind it is overwritten."""
        for old in self.folder.glob(f"{SPARE_FILE}*"):
            old.unlink()
        self._segments = sorted(int(f.stem) for f in self.folder.glob("*.spool")) or [0]
        self._taken = self._segments[0]
        for i, first in enumerate(self._segments):
            if first != self._taken:
                for later in self._segments[i:]:
                    self._file(later).unlink()
                del self._segments[i:]
                break
            self._taken += self._sound_records(first)
        last = self._file(self._segments[-1])
        size = last.stat().st_size if last.exists() else 0
        _fill(last, size, self._segment_size, sync=True)
        self._end = (self._taken - self._segments[-1]) * self._record_bytes
        self._segment_end = max(size // self._record_bytes * self._record_bytes, self._segment_size)
        self._fd = os.open(last, os.O_RDWR)
        self._map = mmap.mmap(self._fd, self._segment_end)
        self._ack_fd = os.open(self.folder / ACKNOWLEDGED_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        noted = os.pread(self._ack_fd, 8, 0)
        known = struct.unpack("<Q", noted)[0] if len(noted) == 8 else 0
        self._acknowledged = min(max(known, self._segments[0]), self._taken)
        os.pwrite(
            self._ack_fd, struct.pack("<Q", self._acknowledged), 0
        )  # so that its block is there when disks fill up

    def _sound_records(self, first: int) -> int:
        if not self._file(first).exists():
            return 0
        block, size = memoryview(self._file(first).read_bytes()), self._record_bytes
        for i in range(len(block) // size):
            at = i * size
            row, crc = block[at : at + self._row_bytes], _CRC.unpack_from(block, at + self._row_bytes)[0]
            if zlib.crc32(row, (first + i) & 0xFFFFFFFF) != crc:
                return i
        return len(block) // size


def open_spools(folder: Path, spec: Spec, options: SpoolOptions) -> list[Spool]:
    """Open a spool folder: older sessions that still hold transitions, then the one to append to.

    Args:
        folder: Created if missing. The caller makes sure that no other process uses it.
        spec: What the transitions are of.
        options: Durability and limits.

    Raises:
        BridgeError: If the folder cannot be written.
        SpecMismatch: If transitions of another spec wait there.
    """
    boot = _boot()
    found: list[Spool] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in _session_folders(folder):
            spool = Spool(path, spec, options)
            if spool.backlog or (boot and spool.boot == boot):
                found.append(spool)
            else:
                spool.remove()
        if not found or not boot or found[-1].boot != boot:
            found.append(Spool(_new_session(folder, spec, boot), spec, options))
    except OSError as error:
        raise _disk_error(folder, error) from error
    return found


def waiting(folder: Path, spec: Spec) -> int:
    """Transitions in a spool folder that no learner has stored; no other process may use it.

    Raises:
        SpecMismatch: If transitions of another spec wait there.
    """
    count = 0
    for path in _session_folders(folder) if folder.is_dir() else ():
        spool = Spool(path, spec, SpoolOptions())
        count += spool.backlog
        spool.close()
    return count


def _session_folders(folder: Path) -> list[Path]:
    """Oldest first; half-made ones are removed."""
    found = sorted(f for f in folder.iterdir() if f.is_dir())
    for half in (f for f in found if f.name.startswith(".")):
        shutil.rmtree(half)
    return [f for f in found if (f / META_FILE).is_file()]


def _new_session(folder: Path, spec: Spec, boot: str) -> Path:
    number = max((int(f.name.partition("-")[0]) for f in _session_folders(folder)), default=-1) + 1
    name = f"{number:06d}-{os.urandom(16).hex()}"  # numbered, not dated: clocks jump
    work = folder / f".{name}"
    work.mkdir()
    record_bytes = transition_dtype(spec.obs_dim, spec.action_dim).itemsize
    write_spec_file(work / META_FILE, spec, record_bytes=record_bytes, boot=boot)
    made = work.rename(folder / name)
    sync_folder(folder)
    return made


def _fill(file: Path, start: int, stop: int, *, sync: bool = False) -> Path:
    """Write zeros into `file` from byte `start` to `stop`; without blocks of its own a file could stall a tick."""
    with file.open("r+b" if start else "wb", buffering=0) as handle:
        handle.seek(start)
        rest = memoryview(bytes(max(0, stop - start)))
        try:
            while rest:
                rest = rest[handle.write(rest) :]
        except OSError:
            handle.truncate(start)  # give back what there was
            raise
        if sync:
            os.fdatasync(handle.fileno())
    return file


def _boot() -> str:
    """Changes when the machine starts; empty where it cannot be told, and then every start is a new session."""
    return _BOOT_FILE.read_text().strip() if _BOOT_FILE.is_file() else ""


def _disk_error(folder: Path, error: OSError) -> BridgeError:
    return BridgeError(
        f"The spool {folder} cannot take a transition: {error.strerror}. The arm must stop; what was taken before is "
        f"safe. See to the disk, then start the actor again."
    )
