"""rosbag2 folders and `.db3` files, and ROS 1 bags, by the library `rosbags`."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robot_rl.data.bags.decode import CannotDecode, require_library, ros_decoder
from robot_rl.data.bags.recording import Logged, Topic, require_topics
from robot_rl.errors import DataError

# what rosbags and lz4 raise on damage that they do not look for
_DAMAGE = (
    OSError,
    EOFError,
    AssertionError,
    LookupError,
    TypeError,
    ValueError,
    OverflowError,
    MemoryError,
    RuntimeError,
    struct.error,
)


class RosRecording:
    """A bag opened for reading.

    Args:
        path: rosbag2 folder, or a `.db3` or `.bag` file.

    Raises:
        DataError: If it is damaged or incomplete.
    """

    def __init__(self, path: Path) -> None:
        require_library("rosbags")
        self.path = path
        self._notes: dict[str, None] = {}
        with self._opened() as reader:
            self._ros1 = not reader.is2
            self.topics = {
                name: Topic(name=name, kind=info.msgtype or "several types", count=info.msgcount, problem=problem)
                for name, info in reader.topics.items()
                for problem in [_problem(reader, info)]
            }

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the file."""
        return tuple(self._notes)

    def messages(self, wanted: Collection[str]) -> Iterator[Logged]:
        """Messages of the topics `wanted`, in the order of their log times.

        Raises:
            DataError: If a topic is not there, or a message cannot be decoded.
        """
        require_topics(self, wanted)
        read: Counter[str] = Counter()
        with self._opened() as reader:
            decode = {t: ros_decoder(reader.typestore, self.topics[t].kind, ros1=self._ros1) for t in wanted}
            for connection, log_ns, data in _messages(reader, wanted):
                topic = connection.topic
                try:
                    message = decode[topic](data)
                except CannotDecode as error:
                    raise DataError(f"{self.path}: '{topic}', message {read[topic]}: {error}.") from error
                read[topic] += 1
                yield Logged(topic=topic, log_ns=log_ns, message=message)
        for name in wanted:
            if read[name] != self.topics[name].count:
                self._notes[
                    f"'{name}': the bag's metadata counts {self.topics[name].count} messages, its files hold "
                    f"{read[name]}; was the recording cut?"
                ] = None

    @contextmanager
    def _opened(self) -> Generator[Any]:
        import apsw  # noqa: PLC0415 - an extra, as all of these
        from rosbags.highlevel import AnyReader, AnyReaderError  # noqa: PLC0415
        from rosbags.rosbag1 import ReaderError as Reader1Error  # noqa: PLC0415
        from rosbags.rosbag2 import ReaderError as Reader2Error  # noqa: PLC0415
        from rosbags.rosbag2.reader import zstd  # noqa: PLC0415 - Python's own or its backport
        from rosbags.typesys import Stores, get_typestore  # noqa: PLC0415

        try:
            with AnyReader([self.path], default_typestore=get_typestore(Stores.LATEST)) as reader:
                if reader.connections and all(not c.msgdef.data for c in reader.connections):
                    note = "the bag holds no message definitions; those of the newest ROS 2 release are used"
                    self._notes[note] = None
                yield reader
        except (AnyReaderError, Reader1Error, Reader2Error) as error:
            raise DataError(
                f"{self.path} cannot be read as a ROS bag ({error}). Copy it again, or repair it."
            ) from error
        except (*_DAMAGE, apsw.Error, zstd.ZstdError) as error:
            raise DataError(f"{self.path} is a damaged ROS bag ({error!r}). Copy it again, or repair it.") from error


def _problem(reader: Any, info: Any) -> str:
    if info.msgtype is None:
        return f"it carries several message types: {', '.join(sorted({c.msgtype for c in info.connections}))}"
    if info.msgtype not in reader.typestore.fielddefs:
        return f"the bag holds no definition of its message type {info.msgtype}"
    return ""


def _messages(reader: Any, wanted: Collection[str]) -> Iterator[tuple[Any, int, bytes]]:
    """Raw messages; by the files' own connections, see below."""
    storages = getattr(getattr(reader.readers[0], "storage", None), "storages", None)
    if storages is None:
        return reader.messages([c for c in reader.connections if c.topic in wanted])
    # rosbags matches a folder's metadata with its files by quality of service as well, and leaves out topics
    # where the two differ (foreign converters write other defaults); the files' own connections always match
    connections = {(c.topic, c.msgtype, str(c.ext)): c for s in storages for c in s.connections if c.topic in wanted}
    return reader.readers[0].messages(list(connections.values()))
