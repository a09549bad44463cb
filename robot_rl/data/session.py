"""Recorded sessions: MCAP files written while a policy drove an arm, and how to read them.

One file a session, unchunked, so that it opens up to the last whole message wherever it was cut:

    metadata robot_rl.session   format_version, spec, contract, arm (its YAML), started
    /observation                tick, then one array an entry of the spec: what the policy saw
    /action/asked, /executed    the same for what it asked and what was sent
    /decision                   verdict and findings of the safety supervisor
    /reward                     what the tick brought, on simulated arms
    /timing                     start of the tick (s since the session's) and its parts (us)
    /episode                    begin and end; the end carries the observation that follows
    /policy                     run and weight version, when they change

Messages are JSON with a JSON schema. A NaN or an infinity is null. Files: https://mcap.dev/spec.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec
from mcap.records import Channel, Chunk, Message, Metadata

from robot_rl.data.mcap_records import McapEnd, mcap_records
from robot_rl.errors import DataError
from robot_rl.spec import Entry, Spec

FORMAT_VERSION = 1
METADATA = "robot_rl.session"
OBSERVATION, ASKED, EXECUTED = "/observation", "/action/asked", "/action/executed"
DECISION, REWARD, TIMING = "/decision", "/reward", "/timing"
EPISODE, POLICY = "/episode", "/policy"


@dataclass(frozen=True)
class Session:
    """A session file opened for reading.

    Args:
        path: The file.
        spec: What its observations and actions mean.
        info: The metadata as written: contract, arm, started.
    """

    path: Path
    spec: Spec
    info: dict[str, str]

    def messages(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Topic and content of every whole message, in order; stops where the file was cut.

        What a computer that lost its power leaves may be as long as it was and end in zeros: it stops there as well.
        """
        topics: dict[int, str] = {}
        for record in mcap_records(self.path, McapEnd()):
            if isinstance(record, Channel):
                topics[record.id] = record.topic
            elif isinstance(record, Message):
                try:
                    content = msgspec.json.decode(record.data)
                except msgspec.DecodeError:
                    return
                yield topics[record.channel_id], content

    def is_whole(self) -> bool:
        """Whether the file was closed properly, and not cut."""
        end = McapEnd()
        records = mcap_records(self.path, end)
        legible = all(_is_object(r.data) for r in records if isinstance(r, Message))
        return legible and not end.reason


def _is_object(data: bytes) -> bool:
    """Whether bytes look like a JSON object: zeros in the place of a part do not."""
    return data[:1] == b"{" and data[-1:] == b"}"


def open_session(path: Path) -> Session:
    """Open a session file.

    Raises:
        DataError: If it is no MCAP file, none of ours, or cut before its first message.
    """
    try:
        info = _session_info(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    if info is None:
        raise DataError(
            f"{path} holds no metadata '{METADATA}': it is not a session recorded by `robot-rl serve`, or was cut "
            f"before its first message. Recordings of others are imported with --topics FILE."
        )
    if info.get("format_version") != str(FORMAT_VERSION):
        raise DataError(
            f"{path} has session version {info.get('format_version')}, this program reads {FORMAT_VERSION}."
        )
    try:
        return Session(path, Spec.from_dict(json.loads(info["spec"])), info)
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: the session's own metadata is damaged ({error!r}). Copy it again.") from error


def is_session(path: Path) -> bool:
    """Whether an MCAP file was recorded by `robot-rl serve`; looks at its first records alone."""
    return _session_info(path) is not None


def _session_info(path: Path) -> dict[str, str] | None:
    """The metadata that our recorder writes before the first message."""
    for record in mcap_records(path, McapEnd(), chunks=True):
        if isinstance(record, Metadata) and record.name == METADATA:
            return record.metadata
        if isinstance(record, Message | Chunk):
            return None
    return None


def split(entries: tuple[Entry, ...], values: list[float]) -> dict[str, list[float]]:
    """A flat vector as one list an entry."""
    found: dict[str, list[float]] = {}
    start = 0
    for entry in entries:
        found[entry.name] = values[start : start + entry.size]
        start += entry.size
    return found


def join(entries: tuple[Entry, ...], message: dict[str, Any]) -> list[float]:
    """The flat vector of a message; null is NaN."""
    values = (v for entry in entries for v in cast("list[float | None]", message[entry.name]))
    return [float("nan") if v is None else v for v in values]
