"""Frames of the replay log: their header, and where each one lies.

A frame is what one append added: header, then `count` records of `robot_rl.data.transition`.

    offset size  header, little-endian
         0    4  magic "RLOG"
         4    4  count of records
         8   16  session of the actor that made them
        24    8  sequence of the first record in that session
        32    4  CRC-32 over the 32 bytes before and the records
        36    4  zero
"""

from __future__ import annotations

import struct
import zlib
from array import array
from bisect import bisect_right
from mmap import mmap

HEADER = struct.Struct("<4sI16sQII")
MAGIC = b"RLOG"
_CHECKED = 32  # header bytes under the CRC


def frame_header(session: bytes, first: int, count: int, body: bytes | memoryview) -> bytes:
    """Header of a frame whose records are `body`."""
    head = HEADER.pack(MAGIC, count, session, first, 0, 0)[:_CHECKED]
    return head + struct.pack("<II", zlib.crc32(body, zlib.crc32(head)), 0)


def whole_frame(block: bytes | mmap, at: int, size: int) -> int:
    """Number of records in the frame at byte `at`; 0 where there is no whole, sound one."""
    if at + HEADER.size > len(block):
        return 0
    magic, count, _, _, crc, _ = HEADER.unpack_from(block, at)
    body = at + HEADER.size
    stop = body + count * size
    if magic != MAGIC or count == 0 or stop > len(block):
        return 0
    found = zlib.crc32(block[body:stop], zlib.crc32(block[at : at + _CHECKED]))
    return count if found == crc else 0


class Frames:
    """Where every frame lies, in memory."""

    def __init__(self) -> None:
        self.segments: list[int] = []
        self.segment, self.offset, self.start = array("Q"), array("Q"), array("Q")
        self.first, self.count, self._owner = array("Q"), array("I"), array("I")
        self._names: list[bytes] = []
        self._numbers: dict[bytes, int] = {}
        self.last: dict[bytes, int] = {}  # last sequence of each session

    def __len__(self) -> int:
        return len(self.start)

    def open_segment(self, first_index: int) -> None:
        if not self.segments or self.segments[-1] != first_index:
            self.segments.append(first_index)

    def add(self, segment: int, offset: int, start: int, session: bytes, first: int, count: int) -> None:  # noqa: PLR0917 - a row
        """Note a frame: its file and byte, the index of its first record, whose records and which."""
        if session not in self._numbers:
            self._numbers[session] = len(self._names)
            self._names.append(session)
        self._owner.append(self._numbers[session])
        self.segment.append(segment)
        self.offset.append(offset)
        self.start.append(start)
        self.first.append(first)
        self.count.append(count)
        self.last[session] = first + count - 1

    def find(self, index: int) -> int:
        """The frame that holds transition `index`."""
        return bisect_right(self.start, index) - 1

    def session_of(self, frame: int) -> bytes:
        return self._names[self._owner[frame]]

    def cut(self, frame: int) -> None:
        """Forget `frame` and all behind it."""
        while self.segments and self.segments[-1] > self.segment[frame]:
            self.segments.pop()
        for column in (self.segment, self.offset, self.start, self.first, self.count, self._owner):
            del column[frame:]
        ends = zip(self._owner, self.first, self.count, strict=True)
        self.last = {self._names[owner]: first + count - 1 for owner, first, count in ends}
