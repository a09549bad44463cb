"""ROS bags and MCAP files made on the spot, of an arm whose lag and clocks are known."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from mcap.writer import Writer as McapWriter

START_NS = 1_700_000_000_000_000_000


@dataclass
class Arm:
    """Two joints that follow held commands after `lag_s`; states at 100 Hz on another clock, commands at 20 Hz.

    Stamps of the states are `clock_s` ahead of the recorder's clock and drift by `drift`; messages arrive
    `delay_s` later, plus jitter.
    """

    seconds: float = 12.0
    lag_s: float = 0.12
    clock_s: float = 0.0
    drift: float = 0.0
    delay_s: float = 0.002
    jitter_s: float = 0.001
    seed: int = 0
    commands: np.ndarray = field(init=False)
    command_times: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.command_times = np.arange(0, self.seconds, 0.05)
        raw = rng.normal(size=(len(self.command_times) + 20, 2))
        self.commands = np.stack([np.convolve(c, np.ones(10) / 3, "valid") for c in raw.T], 1)[
            : len(self.command_times)
        ]
        self.state_times = np.arange(0, self.seconds, 0.01)
        self.jitter = rng.exponential(self.jitter_s, len(self.state_times))

    def position(self, time: float) -> np.ndarray:
        """Joint positions at `time`: a first-order system of 20 ms behind the delayed command."""
        since = np.maximum(time - self.lag_s - self.command_times, 0.0)
        steps = np.diff(np.vstack([self.commands[:1], self.commands]), axis=0)
        return self.commands[0] + (steps * (1 - np.exp(-since / 0.02))[:, None]).sum(0)

    def states(self) -> Iterable[tuple[int, int, np.ndarray]]:
        """(log ns, header ns, positions)."""
        for time, jitter in zip(self.state_times, self.jitter, strict=True):
            stamp = time + self.clock_s + self.drift * time
            yield nanos(time + self.delay_s + jitter), nanos(stamp), self.position(time)


def nanos(seconds: float) -> int:
    return START_NS + round(seconds * 1e9)


def write_bag(
    path: Path,
    arm: Arm,
    *,
    storage: str = "sqlite3",
    packed: bool = False,
    silent: Callable[[float], bool] = lambda t: False,
    marks: Iterable[tuple[float, bool]] = (),
    change: Callable[[str, Any], Any] = lambda topic, message: message,
) -> Path:
    """A rosbag2 folder with /joint_states, /command and, where there are `marks`, /episode."""
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types
    plugin = {"sqlite3": StoragePlugin.SQLITE3, "mcap": StoragePlugin.MCAP}[storage]
    joint, array, flag = "sensor_msgs/msg/JointState", "std_msgs/msg/Float64MultiArray", "std_msgs/msg/Bool"
    messages: list[tuple[int, str, str, Any]] = []
    for log, stamp, position in arm.states():
        time = types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
        header = types["std_msgs/msg/Header"](stamp=time, frame_id="")
        none = np.zeros(0)
        state = types[joint](header=header, name=["b", "a"], position=position[::-1].copy(), velocity=none, effort=none)
        messages.append((log, "/joint_states", joint, state))
    layout = types["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
    for time, command in zip(arm.command_times, arm.commands, strict=True):
        messages.append((nanos(time), "/command", array, types[array](layout=layout, data=command)))
    messages += [(nanos(t), "/episode", flag, types[flag](data=on)) for t, on in marks]
    messages = [m for m in messages if not silent((m[0] - START_NS) * 1e-9)]
    writer = Writer(path, version=9, storage_plugin=plugin)
    if packed:
        writer.set_compression(CompressionMode.FILE, CompressionFormat.ZSTD)
    with writer:
        connections: dict[str, Any] = {}
        for log, topic, kind, message in sorted(messages, key=lambda m: m[0]):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], log, store.serialize_cdr(change(topic, message), kind))
    return path


def write_json_mcap(path: Path, arm: Arm) -> Path:
    """The same arm as an MCAP file of JSON messages, as a home-made logger writes them."""
    with path.open("wb") as stream:
        writer = McapWriter(stream, chunk_size=16384)
        writer.start()
        schema = writer.register_schema("State", "jsonschema", json.dumps({"type": "object"}).encode())
        state = writer.register_channel("/state", "json", schema)
        command = writer.register_channel("/command", "json", schema)
        rows = [
            (log, state, {"stamp": {"sec": s // 10**9, "nsec": s % 10**9}, "q": list(q)}) for log, s, q in arm.states()
        ]
        rows += [(nanos(t), command, {"q": list(c)}) for t, c in zip(arm.command_times, arm.commands, strict=True)]
        for log, channel, message in sorted(rows, key=lambda r: r[0]):
            writer.add_message(channel, log, json.dumps(message).encode(), log)
        writer.finish()
    return path


MAPPING: dict[str, Any] = {
    "rate_hz": 20,
    "control": "joint_position",
    "observation": {"joint_pos": {"topic": "/joint_states", "field": "position", "joints": ["a", "b"], "unit": "rad"}},
    "action": {
        "targets": {
            "topic": "/command",
            "field": "data",
            "names": ["a", "b"],
            "unit": "rad",
            "low": [-5.0, -5.0],
            "high": [5.0, 5.0],
        }
    },
}


def write_mapping(path: Path, **changes: Any) -> Path:
    """MAPPING with `changes`; a dotted key such as `observation.joint_pos.clock` reaches inside."""
    raw = json.loads(json.dumps(MAPPING))
    for key, value in changes.items():
        *parents, last = key.split(".")
        place = raw
        for parent in parents:
            place = place[parent]
        place[last] = value
    path.write_text(yaml.safe_dump(raw))
    return path
