"""The learner's durable log of transitions: every one once, in order, through any crash.

A folder:

    log.json        format, spec and record size
    N.rows          a segment; N is the index of its first transition, 20 digits

A segment is a run of frames (`robot_rl.data.replay_frames`), one an append, each with session, sequence and CRC.
A frame that a crash cut short is put aside when the log is opened; a damaged segment before the last one is
refused. Because frames carry session and sequence, what was taken already is known again after a crash.
Segments are synced before the next begins. Needs numpy and no torch.
"""

from __future__ import annotations

import logging
import mmap
import os
import threading
from pathlib import Path

import numpy as np

from robot_rl.data.durable import FolderLock, GroupCommit, append_whole, sync_folder, write_synced
from robot_rl.data.replay_frames import HEADER, Frames, frame_header, whole_frame
from robot_rl.data.spec_file import read_spec_file, write_spec_file
from robot_rl.data.transition import Rows, transition_dtype
from robot_rl.errors import DataError
from robot_rl.spec import Spec

SEGMENT_BYTES = 64 * 2**20
META_FILE = "log.json"

_log = logging.getLogger(__name__)


class ReplayLog:
    """Append-only transitions on disk. One writer; any thread may read.

    Args:
        path: Folder, created if missing.
        spec: Gives the widths; a log of another spec is refused.
        sync_ms: A power cut loses at most the appends of this long, ms; 0 syncs each append. A killed process
            loses nothing in either case.
        segment_bytes: A new file is begun beyond this.

    Raises:
        DataError: If the folder is in use, or damaged before its end.
        SpecMismatch: If it holds transitions of another spec.
    """

    def __init__(self, path: Path, spec: Spec, sync_ms: float = 100.0, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.path = Path(path)
        self.spec = spec
        self.dtype = transition_dtype(spec.obs_dim, spec.action_dim)
        self._segment_bytes = segment_bytes
        self._sync_ms = sync_ms
        self._lock = FolderLock(self.path, "Replay log")
        self._change = threading.RLock()  # guards the index and the file names
        self._io = threading.Lock()  # guards the descriptor against a sync while segments change
        self._frames = Frames()
        self._count = 0
        self._durable = 0
        self._fd = -1
        try:
            self._check_meta()
            self._recover()
        except BaseException:
            self.close()
            raise
        self._commit = GroupCommit(self.sync, sync_ms / 1000)

    def __len__(self) -> int:
        """Number of transitions appended."""
        return self._count

    @property
    def durable(self) -> int:
        """Number of transitions that survive a power cut."""
        return self._durable

    def last_sequence(self, session: bytes | str) -> int:
        """Sequence of the session's last transition here, -1 where there is none."""
        return self._frames.last.get(session_bytes(session), -1)

    def sessions(self) -> dict[str, int]:
        """Last sequence of every session, by its hexadecimal name."""
        return {session.hex(): last for session, last in self._frames.last.items()}

    def append(self, session: bytes | str, first_sequence: int, rows: Rows, *, after_gap: bool = False) -> int:
        """Add transitions that are not here yet.

        Args:
            session: 16 bytes, or 32 hexadecimal digits.
            first_sequence: Sequence of `rows[0]`; the others follow it. A session may begin anywhere.
            rows: (N,) of `self.dtype`. Leading ones that are here already are left out.
            after_gap: Accept that sequences before `first_sequence` are missing (they were given up).

        Returns:
            How many were new.

        Raises:
            DataError: If sequences would be missing, the rows have another layout, or the disk is full (then
                the log is as before, and the call may be repeated).
        """
        key = session_bytes(session)
        if rows.dtype != self.dtype:
            raise DataError(f"The rows have layout {rows.dtype}, the log {self.dtype}. Were they made for its spec?")
        expected = self._frames.last.get(key, first_sequence - 1) + 1
        if first_sequence > expected and not after_gap:
            raise DataError(
                f"Session {key.hex()[:8]} is at transition {expected} in {self.path}, but {first_sequence} came next. "
                f"Send the ones between first."
            )
        known = max(0, expected - first_sequence)
        if known >= len(rows):
            return 0
        if self._commit.error is not None:
            raise DataError(f"{self.path} could not be synced ({self._commit.error}). Check the disk, start again.")
        with self._change:
            self._write(key, first_sequence + known, np.ascontiguousarray(rows[known:]))
        if self._sync_ms <= 0:
            self.sync()
        return len(rows) - known

    def read(self, from_index: int = 0, limit: int | None = None) -> Rows:
        """Transitions `from_index` onwards, in order, (N,) of `self.dtype`, at most `limit`.

        Includes appended ones that are not durable yet; see `sync`.
        """
        with self._change:
            stop = self._count if limit is None else min(self._count, from_index + limit)
            if not 0 <= from_index <= self._count:
                raise DataError(f"There is no transition {from_index} in {self.path}; it holds {self._count}.")
            out = np.empty(max(0, stop - from_index), self.dtype)
            if len(out):
                self._fill(out.view(np.uint8).data, from_index, stop)
        return out

    def sync(self) -> None:
        """Make everything appended durable. Call it before saving a checkpoint that counts on `len(log)`."""
        with self._io:
            count = self._count
            if count > self._durable and self._fd >= 0:
                os.fdatasync(self._fd)
            self._durable = max(self._durable, count)

    def truncate(self, count: int) -> None:
        """Keep only the first `count` transitions, as when resuming from a checkpoint that had these.

        Sessions then continue at what is left of them.
        """
        with self._change:
            if not 0 <= count <= self._count:
                raise DataError(f"{self.path} holds {self._count} transitions; it cannot be cut to {count}.")
            if count == self._count:
                self.sync()
                return
            frame = self._frames.find(count)
            segment = self._frames.segment[frame]
            with self._io:
                self._close_segment()
                for later in sorted((s for s in self._frames.segments if s > segment), reverse=True):
                    self._file(later).unlink()
                self._shorten(frame, count - self._frames.start[frame])
                self._count = self._durable = count
                self._open_segment(segment)
                os.fsync(self._fd)
        sync_folder(self.path)

    def close(self) -> None:
        """Sync and let go; the second call does nothing."""
        if hasattr(self, "_commit"):
            self._commit.close()
            self.sync()
        with self._io:
            self._close_segment()
        self._lock.release()

    # Writing

    def _write(self, session: bytes, first: int, rows: Rows) -> None:
        body = rows.view(np.uint8).data
        try:
            if self._end >= self._segment_bytes:
                self._rotate()
            end = append_whole(self._fd, (frame_header(session, first, len(rows), body), body), self._end)
        except OSError as error:
            raise DataError(
                f"{self.path} cannot take more transitions: {error.strerror}. Nothing is lost: actors keep theirs "
                f"until they are stored. Free disk space; the log then goes on."
            ) from error
        self._frames.add(self._segment, self._end, self._count, session, first, len(rows))
        self._end = end
        self._count += len(rows)

    def _rotate(self) -> None:
        with self._io:
            os.fdatasync(self._fd)
            self._durable = self._count
            full = self._fd
            self._open_segment(self._count)  # if the disk takes no new file, the old one stays
            os.close(full)
            sync_folder(self.path)

    def _shorten(self, frame: int, kept: int) -> None:
        """End the log after `kept` records of `frame`; its header first, so that a crash between finds a whole one."""
        frames, size = self._frames, self.dtype.itemsize
        file, offset = self._file(frames.segment[frame]), frames.offset[frame]
        where = frames.segment[frame], offset, frames.start[frame], frames.session_of(frame), frames.first[frame]
        if kept:
            with file.open("r+b", buffering=0) as handle:
                body = os.pread(handle.fileno(), kept * size, offset + HEADER.size)
                os.pwrite(handle.fileno(), frame_header(where[3], where[4], kept, body), offset)
            offset += HEADER.size + kept * size
        os.truncate(file, offset)
        frames.cut(frame)
        if kept:
            frames.add(*where, kept)

    def _open_segment(self, first_index: int) -> None:
        file = self._file(first_index)
        self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._segment, self._end = first_index, os.fstat(self._fd).st_size
        self._frames.open_segment(first_index)

    def _close_segment(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _file(self, first_index: int) -> Path:
        return self.path / f"{first_index:020d}.rows"

    # Reading

    def _fill(self, out: memoryview, start: int, stop: int) -> None:
        frames, size = self._frames, self.dtype.itemsize
        frame, done = frames.find(start), 0
        while done < len(out):
            segment = frames.segment[frame]
            last = frame  # frames of one segment lie behind each other: one read for all of them
            while last + 1 < len(frames) and frames.segment[last + 1] == segment and frames.start[last + 1] < stop:
                last += 1
            begin = frames.offset[frame]
            end = frames.offset[last] + HEADER.size + frames.count[last] * size
            with self._file(segment).open("rb", buffering=0) as handle:
                block = memoryview(os.pread(handle.fileno(), end - begin, begin))
            for i in range(frame, last + 1):
                skipped = max(0, start - frames.start[i])
                taken = min(frames.start[i] + frames.count[i], stop) - frames.start[i] - skipped
                at = frames.offset[i] - begin + HEADER.size + skipped * size
                out[done : done + taken * size] = block[at : at + taken * size]
                done += taken * size
            frame = last + 1

    # Opening

    def _check_meta(self) -> None:
        file = self.path / META_FILE
        if file.exists():
            remedy = "Give the log of this robot and task, or an empty folder to start one."
            read_spec_file(file, self.spec, f"the replay log {self.path}", remedy)
        else:
            write_spec_file(file, self.spec, record_bytes=self.dtype.itemsize)

    def _recover(self) -> None:
        names = sorted(int(f.stem) for f in self.path.glob("*.rows"))
        for first_index in names:
            if first_index != self._count:
                raise DataError(
                    f"{self.path}: transitions {self._count} to {first_index - 1} are missing; was a file removed? "
                    f"Restore it, or start a new log."
                )
            self._frames.open_segment(first_index)
            self._scan(first_index, is_last=first_index == names[-1])
        self._open_segment(names[-1] if names else 0)
        os.fsync(self._fd)
        sync_folder(self.path)
        self._durable = self._count

    def _scan(self, segment: int, *, is_last: bool) -> None:
        file, size = self._file(segment), self.dtype.itemsize
        length, at = file.stat().st_size, 0
        if length == 0:
            return
        with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, prot=mmap.PROT_READ) as block:
            while (count := whole_frame(block, at, size)) > 0:
                _, _, session, first, _, _ = HEADER.unpack_from(block, at)
                self._frames.add(segment, at, self._count, session, first, count)
                self._count += count
                at += HEADER.size + count * size
            tail = block[at:]
        if not tail:
            return
        if not is_last:
            raise DataError(f"{file} is damaged at byte {at} of {length}. Restore it, or start a new log.")
        aside = file.with_suffix(f".cut{at}")
        write_synced(aside, tail)
        _log.warning(
            "%s: %d bytes after transition %d are no whole record; put aside in %s",
            file,
            len(tail),
            self._count,
            aside.name,
        )
        os.truncate(file, at)


def session_bytes(session: bytes | str) -> bytes:
    """The 16 bytes that name a session.

    Raises:
        DataError: If it is neither 16 bytes nor 32 hexadecimal digits.
    """
    try:
        key = bytes.fromhex(session) if isinstance(session, str) else bytes(session)
    except ValueError as error:
        raise DataError(f"Session '{session}' is not hexadecimal. Use 16 random bytes.") from error
    if len(key) != 16:
        raise DataError(f"A session is 16 bytes, got {len(key)}. Use os.urandom(16).")
    return key
