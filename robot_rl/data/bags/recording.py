"""A recording of topics, whatever file it lies in: which topics there are, and their messages one by one."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from robot_rl.errors import DataError

SUFFIXES = (".mcap", ".db3", ".bag")


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One topic of a recording.

    Args:
        name: Such as `/joint_states`.
        kind: Message type, such as `sensor_msgs/msg/JointState`.
        count: Messages the recording says it has of it.
        problem: Why its messages cannot be decoded; empty where they can.
    """

    name: str
    kind: str
    count: int
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Logged:
    """One message: when the recorder got it (ns of its clock), and what it says."""

    topic: str
    log_ns: int
    message: Any


class Recording(Protocol):
    """What every kind of recording offers."""

    @property
    def path(self) -> Path:
        """File or folder."""
        ...

    @property
    def topics(self) -> dict[str, Topic]:
        """Topics by name."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the file, such as that it was cut; complete once it has been read."""
        ...

    def messages(self, wanted: Collection[str]) -> Iterator[Logged]:
        """Messages of the topics `wanted`, decoded, in the order of the file.

        Raises:
            DataError: If a topic is not there, or a message cannot be decoded.
        """
        ...


def open_recording(path: Path) -> Recording:
    """Open a rosbag2 folder, a `.db3`, `.bag` or `.mcap` file.

    Raises:
        DataError: If it is none of these, or is damaged.
    """
    from robot_rl.data.bags.mcap_file import McapRecording  # noqa: PLC0415 - they import this module
    from robot_rl.data.bags.rosbag import RosRecording  # noqa: PLC0415

    if path.is_dir() and (path / "metadata.yaml").is_file():
        return RosRecording(path)
    if path.suffix == ".mcap" and path.is_file():
        return McapRecording(path)
    if path.suffix in (".db3", ".bag") and path.is_file():
        return RosRecording(path)
    raise DataError(
        f"{path} is no recording of topics. Give a rosbag2 folder (with metadata.yaml), or a .mcap, .db3 or .bag file."
    )


def recordings_in(path: Path) -> list[Path]:
    """The recording at `path`, or those in the folder `path`, by name; empty where there is none."""
    if path.is_file():
        return [path] if path.suffix in SUFFIXES else []
    if (path / "metadata.yaml").is_file():
        return [path]
    return sorted(
        p for p in path.iterdir() if (p.is_file() and p.suffix in SUFFIXES) or (p / "metadata.yaml").is_file()
    )


def require_topics(recording: Recording, wanted: Collection[str]) -> None:
    """Refuse topics that are not there, are empty or cannot be decoded.

    Raises:
        DataError: Naming the topic and what there is.
    """
    for name in wanted:
        topic = recording.topics.get(name)
        if topic is None:
            there = ", ".join(sorted(recording.topics)) or "none at all"
            raise DataError(f"{recording.path}: no topic '{name}'; there are: {there}.")
        if topic.problem:
            raise DataError(f"{recording.path}: topic '{name}' cannot be read: {topic.problem}.")
        if topic.count == 0:
            raise DataError(f"{recording.path}: topic '{name}' ({topic.kind}) holds no message. Map another one.")
