"""The YAML that says which topics make the observation and the action, and how they become steps.

rate_hz: 20
clock: header              # or log; each entry may differ
max_age_s: 0.2             # a step needs every entry at most this old
observation:
  joint_pos: {topic: /joint_states, field: position, joints: [j1, j2], unit: rad}
action:
  targets: {topic: /command, field: data, names: [j1, j2], unit: rad, low: [-3, -3], high: [3, 3]}
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from robot_rl.config import from_mapping, load_yaml
from robot_rl.errors import ConfigError

ClockName = Literal["log", "header"]
Resample = Literal["hold", "linear", "slerp"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where one entry comes from.

    Args:
        topic: Topic name.
        field: Path in its messages, see `fields`; empty for all numbers of the message.
        joints: Elements to take, in this order, by the message's own list of names.
        labels: Path of that list; by default `name` or `joint_names`.
        names: One name an element; by default the joints, or the fields' own names.
        unit: Unit of the numbers.
        frame: Frame they are in.
        low: Lower bounds, one an element; for actions by default what the data show.
        high: Upper bounds likewise.
        clock: "header" takes the sender's stamp, "log" the recorder's time of arrival; empty for the file's choice.
        stamp: Path of the stamp.
        offset_s: Added to the stamps, s; None to find it where the sender's clock is not the recorder's.
        resample: "hold" takes the last value, "linear" interpolates, "slerp" does so for quaternions.
        max_age_s: A value older than this (for "linear", a wider gap) makes no step, s; None for the file's choice,
            .inf for values that stay good until the next one.
    """

    topic: str
    field: str = ""
    joints: tuple[str, ...] = ()
    labels: str = ""
    names: tuple[str, ...] = ()
    unit: str = "1"
    frame: str = ""
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    clock: Literal["", "log", "header"] = ""
    stamp: str = "header.stamp"
    offset_s: float | None = None
    resample: Resample = "hold"
    max_age_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """How a recording becomes episodes.

    Args:
        split: "bag" makes one of each recording, "gap" cuts where all topics are silent for `gap_s`, "marker" follows
            a topic's values.
        gap_s: Silence that separates two episodes, s.
        topic: Marker topic.
        field: Path in its messages.
        begin: Values that begin an episode.
        end: Values that end one; a further `begin` does so too.
        success: Values that end it as achieved.
        failure: Values that end it as failed.
        min_steps: Shorter pieces are left out.
    """

    split: Literal["bag", "gap", "marker"] = "bag"
    gap_s: float = 2.0
    topic: str = ""
    field: str = "data"
    begin: tuple[str | float | bool, ...] = (True,)
    end: tuple[str | float | bool, ...] = (False,)
    success: tuple[str | float | bool, ...] = ()
    failure: tuple[str | float | bool, ...] = ()
    min_steps: int = 2


@dataclass(frozen=True, kw_only=True)
class TopicMap:
    """A whole mapping file.

    Args:
        rate_hz: Steps a second.
        observation: Entries of the observation, in order.
        action: Entries of the action, in order.
        reward: One number a step; None stores 0.
        control: What an action is, such as "joint_position".
        env_id: Gymnasium id this belongs to; empty where none.
        clock: Default of the entries.
        max_age_s: Default of the entries, s.
        on_stale: "cut" ends the episode where a value is too old, "error" refuses.
        lag_s: Added to the action's stamps, s: what the recording, not the robot, delayed.
        lag_window_s: The lag is looked for within plus and minus this, s.
        episodes: How to cut.
    """

    rate_hz: float
    observation: dict[str, Source]
    action: dict[str, Source]
    reward: Source | None = None
    control: str = "unspecified"
    env_id: str = ""
    clock: ClockName = "log"
    max_age_s: float = 0.25
    on_stale: Literal["cut", "error"] = "cut"
    lag_s: float = 0.0
    lag_window_s: float = 1.0
    episodes: Cuts = field(default_factory=Cuts)

    @property
    def sources(self) -> dict[str, Source]:
        """Every entry by a name for messages, with clock and age filled in; actions moved by `lag_s`."""
        named = {f"observation.{k}": v for k, v in self.observation.items()}
        named |= {f"action.{k}": v for k, v in self.action.items()}
        if self.reward is not None:
            named["reward"] = self.reward
        return {k: self._complete(v) for k, v in named.items()}

    def _complete(self, source: Source) -> Source:
        age = self.max_age_s if source.max_age_s is None else source.max_age_s
        return dataclasses.replace(source, clock=source.clock or self.clock, max_age_s=age)


def load_topic_map(file: Path) -> TopicMap:
    """Read a mapping file.

    Raises:
        ConfigError: If a key is unknown, missing or of another type, or a value makes no sense.
    """
    raw = load_yaml(file)
    entries: dict[str, Any] = {}
    for part in ("observation", "action"):
        named = raw.get(part)
        if not isinstance(named, Mapping) or not named:
            raise ConfigError(f"{file}: key '{part}' must name at least one entry with its topic.")
        entries[part] = {
            str(name): _source(value, f"{file}: {part}.{name}")
            for name, value in cast("Mapping[Any, Any]", named).items()
        }
    if raw.get("reward") is not None:
        entries["reward"] = _source(raw["reward"], f"{file}: reward")
    if "episodes" in raw:
        entries["episodes"] = from_mapping(Cuts, _mapping(raw["episodes"], f"{file}: episodes"), f"{file}: episodes")
    rest = {k: v for k, v in raw.items() if k not in entries and k != "reward"}
    found = from_mapping(TopicMap, rest, str(file), defaults=entries)
    _check(found, file)
    return found


def _source(raw: Any, where: str) -> Source:
    return from_mapping(Source, _mapping(raw, where), where)


def _mapping(raw: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where} is {raw!r}; expected keys and values, such as topic: /joint_states.")
    return cast("Mapping[str, Any]", raw)


def _check(found: TopicMap, file: Path) -> None:
    if not 0 < found.rate_hz < math.inf:
        raise ConfigError(f"{file}: rate_hz is {found.rate_hz:g}; it must be above 0 and finite.")
    for name, source in found.sources.items():
        if not (source.max_age_s or 0) > 0:
            raise ConfigError(f"{file}: {name}: max_age_s is {source.max_age_s}; it must be above 0.")
        if len(source.low) != len(source.high):
            raise ConfigError(f"{file}: {name}: {len(source.low)} values under low, {len(source.high)} under high.")
    if found.episodes.split == "marker" and not found.episodes.topic:
        raise ConfigError(f"{file}: episodes.split is 'marker', but episodes.topic names no topic.")
    if found.lag_window_s <= 0 or found.episodes.gap_s <= 0:
        raise ConfigError(f"{file}: lag_window_s and episodes.gap_s must be above 0.")
