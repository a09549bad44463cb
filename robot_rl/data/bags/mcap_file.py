"""MCAP files of others: ROS 2, Foxglove, own loggers. A cut file is read up to its last whole message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from mcap.records import Channel, Message, Schema

from robot_rl.data.bags.decode import CannotDecode, Decode, decoder
from robot_rl.data.bags.recording import Logged, Topic, require_topics
from robot_rl.data.mcap_records import McapEnd, mcap_records
from robot_rl.errors import DataError


class McapRecording:
    """An MCAP file opened for reading.

    Args:
        path: The file.

    Raises:
        DataError: If it is no MCAP file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, Channel] = {}
        counts: Counter[int] = Counter()
        end = McapEnd()
        for record in mcap_records(path, end):
            if isinstance(record, Schema):
                self._schemas[record.id] = record
            elif isinstance(record, Channel):
                self._channels[record.id] = record
            elif isinstance(record, Message):
                if record.channel_id not in self._channels:
                    raise DataError(f"{path}: a message names channel {record.channel_id}, which is nowhere described.")
                counts[record.channel_id] += 1
        if end.reason and not self._channels:
            raise DataError(f"{path} cannot be read as MCAP: {end.reason}. Copy it again.")
        self.notes = (f"the file is cut or damaged ({end.reason}): read up to there",) if end.reason else ()
        self._decoders: dict[int, Decode] = {}
        self.topics = {topic.name: topic for topic in self._topics(counts)}

    def messages(self, wanted: Collection[str]) -> Iterator[Logged]:
        """Messages of the topics `wanted`, in the order of the file.

        Raises:
            DataError: If a topic is not there, or a message cannot be decoded.
        """
        require_topics(self, wanted)
        chosen = {i: c.topic for i, c in self._channels.items() if c.topic in wanted}
        read: Counter[str] = Counter()
        for record in mcap_records(self.path, McapEnd()):
            if isinstance(record, Message) and record.channel_id in chosen:
                topic = chosen[record.channel_id]
                try:
                    message = self._decoders[record.channel_id](record.data)
                except CannotDecode as error:
                    raise DataError(f"{self.path}: '{topic}', message {read[topic]}: {error}.") from error
                read[topic] += 1
                yield Logged(topic=topic, log_ns=record.log_time, message=message)

    def _topics(self, counts: Counter[int]) -> Iterator[Topic]:
        for name in dict.fromkeys(c.topic for c in self._channels.values()):
            channels = [c for c in self._channels.values() if c.topic == name]
            kinds = {self._kind(c) for c in channels}
            problem = f"it carries several message types: {', '.join(sorted(kinds))}" if len(kinds) > 1 else ""
            for channel in channels:
                try:
                    self._decoders[channel.id] = decoder(channel, self._schemas.get(channel.schema_id))
                except DataError as error:
                    problem = problem or str(error).rstrip(".")
            yield Topic(name=name, kind=kinds.pop(), count=sum(counts[c.id] for c in channels), problem=problem)

    def _kind(self, channel: Channel) -> str:
        schema = self._schemas.get(channel.schema_id)
        return schema.name if schema else channel.message_encoding or "unknown"
