"""Arm configs: YAML files in `hardware_configs/`, checked line by line."""

from __future__ import annotations

import re
import typing
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import yaml

from deploy.safety.limits import JointLimits, Limits, ToolLimits
from hardware_configs import config_path
from robot_rl.config import nearest
from robot_rl.errors import ConfigError

Triple = tuple[float, float, float]


class JointConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One joint, as its datasheet gives it."""

    name: str
    position: tuple[float, float]  # lowest and highest, rad
    velocity: float  # highest speed, rad/s
    acceleration: float  # rad/s^2


class ToolConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of the tool's motion."""

    workspace_low_m: Triple  # corner of the box the tool stays in
    workspace_high_m: Triple
    speed_m_s: float
    turn_rate_rad_s: float
    metres_per_unit: float = 1.0  # translation an action of 1 asks for in a step
    radians_per_unit: float = 1.0


class ArmConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An arm: how to reach it and what it must not exceed."""

    name: str
    driver: str  # "mujoco"
    source: str  # datasheet of the joint limits
    rate_hz: float
    control: str  # "joint_position" or "osc_pose"
    joints: tuple[JointConfig, ...]
    soft_margin_rad: float  # how far inside the position limits commands stay
    velocity_share: float  # share of the joint speed limits that commands may use
    stale_after_s: float  # oldest usable measurement
    ramp_s: float  # after arming, the allowed speed grows from a tenth to all
    stop_after_bad: int  # ticks in a row without usable numbers
    env: str = ""  # Gymnasium id, for simulated arms
    tool: ToolConfig | None = None

    def limits(self) -> Limits:
        """What the safety supervisor needs.

        Raises:
            ConfigError: If limits contradict each other.
        """
        joints, tool = self.joints, self.tool
        return Limits(
            control=self.control,
            rate_hz=self.rate_hz,
            joints=JointLimits(
                names=tuple(j.name for j in joints),
                low=np.array([j.position[0] for j in joints]),
                high=np.array([j.position[1] for j in joints]),
                velocity=np.array([j.velocity for j in joints]),
                acceleration=np.array([j.acceleration for j in joints]),
                soft_margin=self.soft_margin_rad,
                velocity_share=self.velocity_share,
            ),
            tool=None
            if tool is None
            else ToolLimits(
                workspace_low=np.array(tool.workspace_low_m),
                workspace_high=np.array(tool.workspace_high_m),
                speed=tool.speed_m_s,
                turn_rate=tool.turn_rate_rad_s,
                metres_per_unit=tool.metres_per_unit,
                radians_per_unit=tool.radians_per_unit,
            ),
            stale_after_s=self.stale_after_s,
            ramp_s=self.ramp_s,
            stop_after_bad=self.stop_after_bad,
        )


def load_arm(name_or_file: str) -> ArmConfig:
    """Read an arm's config.

    Args:
        name_or_file: A name in `hardware_configs/`, such as "virtual", or a YAML file.

    Raises:
        ConfigError: Naming file, line, key, the value and what it should be.
    """
    file = Path(name_or_file) if name_or_file.endswith((".yaml", ".yml")) else config_path(name_or_file)
    try:
        text = file.read_text()
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"Cannot read arm config {file}: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is not valid YAML: {error}") from error
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{file} holds no keys; copy hardware_configs/virtual.yaml and change it.")
    try:
        config = msgspec.convert(raw, ArmConfig)
    except msgspec.ValidationError as error:
        raise _located(error, file, root, raw) from error
    _check(config, file, root)
    return config


def _check(config: ArmConfig, file: Path, root: yaml.Node) -> None:
    for i, joint in enumerate(config.joints):
        low, high = joint.position
        if not low < high:
            at = _line(root, ["joints", i, "position"])
            raise ConfigError(f"{file}:{at}: {joint.name}: position runs from {low:g} to {high:g} rad; swap them.")
    if not config.stale_after_s * config.rate_hz >= 1:
        at = _line(root, ["stale_after_s"])
        raise ConfigError(
            f"{file}:{at}: stale_after_s is {config.stale_after_s:g}, shorter than one control period of "
            f"{1 / config.rate_hz if config.rate_hz else 0:g} s (rate_hz: {config.rate_hz:g}). Raise it."
        )
    try:
        config.limits()
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def _located(error: msgspec.ValidationError, file: Path, root: yaml.Node, raw: Any) -> ConfigError:
    """The same error with line, key and nearest key."""
    message, _, where = str(error).partition(" - at `")
    steps = [int(a) if a else b for a, b in re.findall(r"\[(\d+)\]|\.(\w+)", where)]
    line = _line(root, steps)
    unknown = re.search(r"unknown field `(.+)`", message)
    if unknown:
        key = unknown.group(1)
        hint = nearest(key, _fields_at(ArmConfig, steps))
        return ConfigError(f"{file}:{_line(root, [*steps, key])}: unknown key '{key}'.{hint}")
    missing = re.search(r"missing required field `(.+)`", message)
    if missing:
        inside = f" of {_dotted(steps)}" if steps else ""
        return ConfigError(f"{file}:{line}: key '{missing.group(1)}'{inside} is missing; it has no default.")
    value = raw
    for step in steps:
        value = value[step]
    return ConfigError(f"{file}:{line}: {_dotted(steps)} is {value!r}: {message[0].lower()}{message[1:]}.")


def _dotted(steps: list[int | str]) -> str:
    return "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps).lstrip(".")


def _line(node: yaml.Node, steps: list[int | str]) -> int:
    """1-based line of the value at a path; of the key where that is known."""
    line = node.start_mark.line
    for step in steps:
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = cast("yaml.Node", node.value[step])
            line = node.start_mark.line
        elif isinstance(node, yaml.MappingNode):
            pairs = cast("list[tuple[yaml.ScalarNode, yaml.Node]]", node.value)
            found = [(key, value) for key, value in pairs if key.value == step]
            if not found:
                break
            line, node = found[0][0].start_mark.line, found[0][1]
    return line + 1


def _fields_at(kind: Any, steps: list[int | str]) -> list[str]:
    """Known keys of the mapping at a path."""
    for step in steps:
        kind = typing.get_args(kind)[0] if isinstance(step, int) else typing.get_type_hints(kind)[step]
        members = [m for m in typing.get_args(kind) if isinstance(m, type) and issubclass(m, msgspec.Struct)]
        if members and typing.get_origin(kind) is not tuple:  # ToolConfig | None
            kind = members[0]
    return [f.name for f in msgspec.structs.fields(kind)]
