"""What a recording holds, topic by topic, and a mapping file to start from."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from robot_rl.data.bags.fields import MissingField, labels, look_up, members, numbers, stamp_seconds
from robot_rl.data.bags.recording import Recording, Topic
from robot_rl.errors import DataError

_ACTION = re.compile(r"cmd|command|target|goal|action|desired|setpoint|teleop|leader", re.IGNORECASE)
_UNSUITED = re.compile(r"image|camera|cloud|scan|echo|rosout|parameter|tf|diagnost|markers?$|map$", re.IGNORECASE)
# field, unit by the last part of the message type
_FIELDS: dict[str, tuple[tuple[str, str], ...]] = {
    "JointState": (("position", "rad"), ("velocity", "rad/s")),
    "JointTrajectory": (("points[0].positions", "rad"),),
    "PoseStamped": (("pose.position", "m"), ("pose.orientation", "1")),
    "Pose": (("position", "m"), ("orientation", "1")),
    "TwistStamped": (("twist.linear", "m/s"), ("twist.angular", "rad/s")),
    "Twist": (("linear", "m/s"), ("angular", "rad/s")),
    "WrenchStamped": (("wrench.force", "N"), ("wrench.torque", "Nm")),
}
_MOST = 64  # numbers in one entry of the starting file


@dataclass(frozen=True)
class Surveyed:
    """A topic with what its messages show.

    Args:
        topic: Name, type and count.
        rate_hz: Messages a second, by the median of the times between them; 0 where there are fewer than 2.
        fields: Path, labels and unit of what can be mapped.
        joints: Names that the messages carry; empty where they carry none.
        stamped: Whether they have a header stamp that is not 0.
    """

    topic: Topic
    rate_hz: float
    fields: tuple[tuple[str, tuple[str, ...], str], ...]
    joints: tuple[str, ...]
    stamped: bool


def survey(recording: Recording) -> list[Surveyed]:
    """Look at every topic; messages of those that cannot be mapped are not decoded."""
    suited = [t.name for t in recording.topics.values() if t.count and not t.problem and not _UNSUITED.search(t.kind)]
    problems: dict[str, str] = {}
    try:
        times, first = _look(recording, suited)
    except DataError:  # one topic that cannot be decoded does not hide the others
        times, first = {}, {}
        for name in suited:
            try:
                more = _look(recording, [name])
            except DataError as error:
                problems[name] = str(error)
            else:
                times, first = times | more[0], first | more[1]
    found: list[Surveyed] = []
    for listed in recording.topics.values():
        topic = replace(listed, problem=problems.get(listed.name, listed.problem))
        stamps = np.sort(np.array(times.get(topic.name, []), np.int64))
        period = float(np.median(np.diff(stamps))) * 1e-9 if len(stamps) > 1 else 0.0
        message = first.get(topic.name)
        fields = () if message is None else _fields(topic, message)
        joints = () if message is None else _joints(message, fields)
        found.append(Surveyed(topic, 1 / period if period > 0 else 0.0, fields, joints, _stamped(message)))
    return found


def starting_file(found: list[Surveyed], origin: str) -> str:
    """A mapping file that says what it guessed; topics that look like commands become actions.

    Args:
        found: The survey.
        origin: Name of the recording.
    """
    usable = [s for s in found if s.fields and s.rate_hz > 0]
    actions = [s for s in usable if _is_action(s)]
    observed = [s for s in usable if s not in actions]
    rates = [s.rate_hz for s in (actions or observed)]
    rate = _round_rate(min(rates)) if rates else 10.0
    ages = [max(2 / rate, 5 / s.rate_hz) for s in usable]
    clock = "header" if usable and all(s.stamped for s in usable) else "log"
    lines = [
        f"# Topics of {origin} as observation and action. Look through it: names, units and roles are guesses.",
        f"rate_hz: {rate}          # steps a second",
        "control: unspecified   # what an action is, such as joint_position",
        f"clock: {clock:<14}  # header: the sender's stamps; log: when the recorder got a message",
        f"max_age_s: {_short(max(ages, default=0.25), 3)}        # a step needs every value at most this old",
        "on_stale: cut          # or error",
        "lag_s: 0.0             # added to the action's stamps; see the lag that the import reports",
        "episodes: {split: bag} # or gap with gap_s, or marker with topic, field, begin, end, success, failure",
        "observation:",
        *_entries(observed),
        "action:               # give low and high, the bounds of the controller, one an element",
        *_entries(actions),
    ]
    return "\n".join(lines) + "\n"


def _look(recording: Recording, names: list[str]) -> tuple[dict[str, list[int]], dict[str, Any]]:
    """Times of arrival, ns, and the first message of each topic."""
    times: dict[str, list[int]] = {name: [] for name in names}
    first: dict[str, Any] = {}
    for logged in recording.messages(names):
        times[logged.topic].append(logged.log_ns)
        first.setdefault(logged.topic, logged.message)
    return times, first


def _fields(topic: Topic, message: Any) -> tuple[tuple[str, tuple[str, ...], str], ...]:
    found: list[tuple[str, tuple[str, ...], str]] = []
    kind = topic.kind.rsplit("/", 1)[-1]
    for path, unit in (("data", "1"),) if kind.endswith("MultiArray") else _FIELDS.get(kind, (("", "1"),)):
        try:
            value = look_up(message, path)
            names, size = labels(value), len(numbers(value))
        except MissingField:
            names, size = [], 0
        if 0 < size <= _MOST:
            found.append((path, tuple(names), unit))
    return tuple(found) or _numeric_parts(message)


def _numeric_parts(message: Any) -> tuple[tuple[str, tuple[str, ...], str], ...]:
    """The fields of the first level that hold numbers alone."""
    found: list[tuple[str, tuple[str, ...], str]] = []
    try:
        for name, value in members(message):
            try:
                size, names = len(numbers(value)), labels(value)
            except MissingField:
                continue
            if 0 < size <= _MOST and name not in ("layout", "stamp", "timestamp"):
                found.append((name, tuple(names), "1"))
    except MissingField:
        return ()
    return tuple(found)


def _joints(message: Any, fields: tuple[tuple[str, tuple[str, ...], str], ...]) -> tuple[str, ...]:
    for path in ("name", "joint_names"):
        try:
            names = look_up(message, path)
        except MissingField:
            continue
        if not isinstance(names, str) and fields and len(names) == len(fields[0][1]):
            return tuple(str(n) for n in names)
    return ()


def _stamped(message: Any) -> bool:
    if message is None:
        return False
    try:
        return any(stamp_seconds(message, "header.stamp"))
    except MissingField:
        return False


def _is_action(found: Surveyed) -> bool:
    return bool(_ACTION.search(found.topic.name)) or found.topic.kind.endswith("JointTrajectory")


def _round_rate(rate: float) -> float:
    return float(round(rate)) if rate >= 1 else _short(rate, 2)


def _short(number: float, digits: int) -> float:
    return float(f"{number:.{digits}g}")


def _entries(found: list[Surveyed]) -> list[str]:
    """Lines of the entries; none is a comment that says so."""
    lines: list[str] = []
    for one in found:
        stem = re.sub(r"\W+", "_", one.topic.name).strip("_") or "topic"
        for path, names, unit in one.fields:
            part = re.sub(r"\W+", "_", path.rsplit(".", 1)[-1]).strip("_")
            which = f"joints: [{', '.join(map(_quoted, one.joints))}]" if one.joints else ""
            which = which or f"names: [{', '.join(map(_quoted, names))}]"
            lines.append(f"  {stem}{'_' + part if part else ''}:")
            lines.append(
                f"    {{topic: {_quoted(one.topic.name)}, field: {_quoted(path)}, {which}, unit: {_quoted(unit)}}}"
            )
    return lines or ["  # no topic looked like one: fill in  name: {topic: /a, field: data, unit: rad}"]


def _quoted(text: str) -> str:
    """As YAML takes it for text, whatever is in it."""
    return "'" + text.replace("'", "''") + "'"
