"""What every number in an observation and an action means.

A `Spec` travels with datasets, environments, policies and arms. Two that meet are compared by
`Spec.require_match`; a difference is refused in words. Nothing is sliced or padded to fit.
Needs numpy alone: the robot side reads specs without torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import SpecMismatch

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Entry:
    """One named group of numbers, such as `robot0_joint_pos`.

    Args:
        name: The field's name in logs and environments.
        names: One label an element, in order; its length is the entry's size.
        unit: Physical unit of the elements, "1" where dimensionless.
        low: Lower bounds, one an element; -inf where unbounded.
        high: Upper bounds, one an element; inf where unbounded.
        frame: Reference frame, such as "world"; empty where none applies.
    """

    name: str
    names: tuple[str, ...]
    unit: str = "1"
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    frame: str = ""

    def __post_init__(self) -> None:
        size = len(self.names)
        if size == 0:
            raise SpecMismatch(f"Entry '{self.name}' has no elements; give it at least one name.")
        object.__setattr__(self, "low", tuple(map(float, self.low)) or (-math.inf,) * size)
        object.__setattr__(self, "high", tuple(map(float, self.high)) or (math.inf,) * size)
        if len(self.low) != size or len(self.high) != size:
            raise SpecMismatch(
                f"Entry '{self.name}' names {size} elements but bounds {len(self.low)} low and "
                f"{len(self.high)} high; give one bound an element."
            )

    @property
    def size(self) -> int:
        """Number of elements."""
        return len(self.names)


@dataclass(frozen=True)
class Spec:
    """Observation and action entries in order, with rate and control mode.

    Args:
        observation: Entries of the flat observation vector, in order.
        action: Entries of the flat action vector, in order.
        rate_hz: Control rate, Hz; 0 where the log does not tell.
        control: What an action is: "torque", "joint_position", "osc_pose", ... or "unspecified".
        env_id: Gymnasium id of the environment this belongs to; empty where none.
    """

    observation: tuple[Entry, ...]
    action: tuple[Entry, ...]
    rate_hz: float = 0.0
    control: str = "unspecified"
    env_id: str = ""

    @property
    def obs_dim(self) -> int:
        """Length of the flat observation vector."""
        return sum(e.size for e in self.observation)

    @property
    def action_dim(self) -> int:
        """Length of the flat action vector."""
        return sum(e.size for e in self.action)

    @property
    def action_low(self) -> Array:
        """Lower action bounds, (A,)."""
        return _bounds(self.action, "low")

    @property
    def action_high(self) -> Array:
        """Upper action bounds, (A,)."""
        return _bounds(self.action, "high")

    @property
    def obs_names(self) -> list[str]:
        """One label an observation element, `entry/element`, (S,)."""
        return _labels(self.observation)

    @property
    def action_names(self) -> list[str]:
        """One label an action element, `entry/element`, (A,)."""
        return _labels(self.action)

    def slice_of(self, name: str) -> slice:
        """Where observation entry `name` sits in the flat vector.

        Raises:
            SpecMismatch: If there is no such entry; the message lists those there are.
        """
        start = 0
        for entry in self.observation:
            if entry.name == name:
                return slice(start, start + entry.size)
            start += entry.size
        known = ", ".join(e.name for e in self.observation)
        raise SpecMismatch(f"No observation entry '{name}'; there are: {known}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; infinite bounds become null."""
        return {
            "observation": [_entry_to_dict(e) for e in self.observation],
            "action": [_entry_to_dict(e) for e in self.action],
            "rate_hz": self.rate_hz,
            "control": self.control,
            "env_id": self.env_id,
        }

    @staticmethod
    def from_dict(raw: dict[str, Any]) -> Spec:
        """Inverse of `to_dict`.

        Raises:
            SpecMismatch: If a key is missing or of another type.
        """
        try:
            return Spec(
                observation=tuple(_entry_from_dict(e) for e in raw["observation"]),
                action=tuple(_entry_from_dict(e) for e in raw["action"]),
                rate_hz=float(raw["rate_hz"]),
                control=str(raw["control"]),
                env_id=str(raw.get("env_id", "")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SpecMismatch(f"Not a spec: {error!r}. Was it written by another version?") from error

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON form."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def differences(self, other: Spec, mine: str, theirs: str) -> list[str]:
        """Every way in which `other` disagrees with this spec, each as a sentence.

        Rates and control modes are compared only where both sides state one; the environment's id is
        information, not a part of the contract.
        """
        found = _compare("observation", self.observation, other.observation, mine, theirs)
        found += _compare("action", self.action, other.action, mine, theirs)
        if self.rate_hz and other.rate_hz and not math.isclose(self.rate_hz, other.rate_hz, rel_tol=1e-6):
            found.append(f"rate: {mine} runs at {self.rate_hz:g} Hz, {theirs} at {other.rate_hz:g} Hz")
        modes = {self.control, other.control}
        if len(modes) > 1 and "unspecified" not in modes:
            found.append(f"control: {mine} speaks '{self.control}', {theirs} '{other.control}'")
        return found

    def require_match(self, other: Spec, mine: str, theirs: str, remedy: str) -> None:
        """Refuse `other` unless it agrees with this spec.

        Args:
            other: The spec that meets this one.
            mine: What this spec belongs to, for the message.
            theirs: What `other` belongs to, for the message.
            remedy: What the user can do about it.

        Raises:
            SpecMismatch: Naming each difference with both values, and the remedy.
        """
        found = self.differences(other, mine, theirs)
        if found:
            shown = found[:6] + ([f"and {len(found) - 6} more"] if len(found) > 6 else [])
            lines = "\n  - ".join(shown)
            raise SpecMismatch(f"{mine} and {theirs} do not fit:\n  - {lines}\n{remedy}")


def vector(name: str, size: int, **kwargs: Any) -> Entry:
    """An entry whose elements are simply numbered."""
    return Entry(name, tuple(str(i) for i in range(size)), **kwargs)


def _bounds(entries: Iterable[Entry], side: str) -> Array:
    values = [getattr(e, side) for e in entries]
    return np.asarray([v for group in values for v in group], dtype=np.float32)


def _labels(entries: Iterable[Entry]) -> list[str]:
    return [f"{e.name}/{n}" if e.size > 1 else e.name for e in entries for n in e.names]


def _entry_to_dict(entry: Entry) -> dict[str, Any]:
    def plain(values: Sequence[float]) -> list[float | None]:
        return [v if math.isfinite(v) else None for v in values]

    return {
        "name": entry.name,
        "names": list(entry.names),
        "unit": entry.unit,
        "low": plain(entry.low),
        "high": plain(entry.high),
        "frame": entry.frame,
    }


def _entry_from_dict(raw: dict[str, Any]) -> Entry:
    def bounds(key: str, absent: float) -> tuple[float, ...]:
        values = cast("list[float | None]", raw[key])
        return tuple(absent if v is None else float(v) for v in values)

    return Entry(
        name=str(raw["name"]),
        names=tuple(map(str, raw["names"])),
        unit=str(raw["unit"]),
        low=bounds("low", -math.inf),
        high=bounds("high", math.inf),
        frame=str(raw["frame"]),
    )


def _compare(what: str, ours: tuple[Entry, ...], others: tuple[Entry, ...], mine: str, theirs: str) -> list[str]:
    a, b = [e.name for e in ours], [e.name for e in others]
    if a != b:
        if sorted(a) == sorted(b):
            return [f"{what} order: {mine} has {', '.join(a)}; {theirs} has {', '.join(b)}"]
        return [
            f"{what} entries: {mine} has {', '.join(a)} ({sum(e.size for e in ours)} numbers); "
            f"{theirs} has {', '.join(b)} ({sum(e.size for e in others)} numbers)"
        ]
    found: list[str] = []
    for x, y in zip(ours, others, strict=True):
        where = f"{what} '{x.name}'"
        if x.size != y.size:
            found.append(f"{where}: {mine} has {x.size} numbers, {theirs} {y.size}")
            continue
        if x.names != y.names:
            found.append(f"{where}: {mine} orders {', '.join(x.names)}; {theirs} {', '.join(y.names)}")
        if x.unit != y.unit:
            found.append(f"{where}: {mine} is in {x.unit}, {theirs} in {y.unit}")
        if x.frame != y.frame:
            found.append(f"{where}: {mine} is in frame '{x.frame}', {theirs} in '{y.frame}'")
        same = np.allclose(x.low, y.low, rtol=1e-5) and np.allclose(x.high, y.high, rtol=1e-5)
        if what == "action" and not same:
            found.append(f"{where}: {mine} spans {x.low} to {x.high}, {theirs} {y.low} to {y.high}")
    return found
