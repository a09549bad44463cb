"""The channels of a session and the JSON that goes through them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from mcap.writer import Writer

from robot_rl.data.session import ASKED, DECISION, EPISODE, EXECUTED, OBSERVATION, POLICY, REWARD, TIMING
from robot_rl.errors import ConfigError
from robot_rl.spec import Entry, Spec

NUMBER, TEXT, COUNT = {"type": "number"}, {"type": "string"}, {"type": "integer"}


class Channels:
    """Writes messages to an MCAP writer.

    Args:
        writer: Started, unchunked.
        spec: What observations and actions mean.
        parts: Names of the timed parts of a tick.

    Raises:
        ConfigError: If an entry is called "tick".
    """

    def __init__(self, writer: Writer, spec: Spec, parts: tuple[str, ...]) -> None:
        self._writer = writer
        self._ids: dict[str, int] = {}
        self._encode = msgspec.json.Encoder().encode
        for entry in (*spec.observation, *spec.action):
            if entry.name == "tick":
                raise ConfigError("An entry called 'tick' cannot be recorded: each message has its own. Rename it.")
        action = _entries(spec.action)
        for topic, properties in (
            (OBSERVATION, _entries(spec.observation)),
            (ASKED, action),
            (EXECUTED, action),
            (DECISION, _decision()),
            (REWARD, {"reward": NUMBER}),
            (TIMING, dict.fromkeys(("start_s", "late_us", *(f"{part}_us" for part in parts)), NUMBER)),
            (EPISODE, _episode(spec)),
            (POLICY, {"run": TEXT, "algorithm": TEXT, "weight_version": COUNT}),
        ):
            self._register(topic, properties)

    def put(self, topic: str, tick: int, time_ns: int, content: dict[str, Any]) -> None:
        """Write one message; `time_ns` is wall-clock time since the epoch."""
        data = self._encode({"tick": tick, **content})
        self._writer.add_message(self._ids[topic], time_ns, data, time_ns, tick)

    def _register(self, topic: str, properties: dict[str, Any]) -> None:
        schema = {"type": "object", "properties": {"tick": COUNT, **properties}}
        name = "robot_rl" + topic.replace("/", ".")
        schema_id = self._writer.register_schema(name, "jsonschema", json.dumps(schema).encode())
        self._ids[topic] = self._writer.register_channel(topic, "json", schema_id)


def _entries(entries: tuple[Entry, ...]) -> dict[str, Any]:
    return {
        e.name: {
            "type": "array",
            "items": NUMBER,
            "description": f"{', '.join(e.names)}; {e.unit}" + (f", frame {e.frame}" if e.frame else ""),
        }
        for e in entries
    }


def _decision() -> dict[str, Any]:
    finding = {"reason": TEXT, "where": TEXT, "asked": NUMBER, "limit": NUMBER}
    findings = {"type": "array", "items": {"type": "object", "properties": finding}}
    return {"verdict": TEXT, "findings": findings}


def _episode(spec: Spec) -> dict[str, Any]:
    final = {"type": "object", "properties": _entries(spec.observation)}
    flag = {"type": "boolean"}
    return {"event": TEXT, "episode": COUNT, "seed": COUNT, "terminated": flag, "success": flag, "final": final}
