"""Arm configs: YAML files in `hardware_configs/`, checked line by line."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from deploy.arms.arm_file import ArmFile
from deploy.arms.drivers import find_driver
from deploy.arms.schema import ArmConfig
from hardware_configs import config_path
from robot_rl.errors import ConfigError

MOST_RAD = 10 * math.tau  # no joint turns further, or faster a second: a larger number is in degrees
PERIODS = 2.0  # of silence that the watchdog must bear: a tick that is a little late is none
MOST_M = 50.0  # from the base to a corner of the tool's box, and its speed a second: a larger number is in millimetres


def load_arm(name_or_file: str) -> ArmConfig:
    """Read an arm's config.

    Args:
        name_or_file: A name in `hardware_configs/`, such as "virtual", or a YAML file.

    Raises:
        ConfigError: Naming file, line, key, the value and what it should be.
    """
    file = ArmFile.read(Path(name_or_file) if name_or_file.endswith((".yaml", ".yml")) else config_path(name_or_file))
    try:
        config = msgspec.convert(file.raw, ArmConfig)
    except msgspec.ValidationError as error:
        raise file.located(error, ArmConfig) from error
    _check_joints(config, file)
    _check_tool(config, file)
    _check_times(config, file)
    _check_driver(config, file)
    try:
        config.limits()
    except ConfigError as error:
        raise ConfigError(f"{file.path}: {error}") from error
    _check_home(config, file)  # last: it speaks of soft limits that have to exist
    return config


def _check_joints(config: ArmConfig, file: ArmFile) -> None:
    for i, joint in enumerate(config.joints):
        first = [other.name for other in config.joints].index(joint.name)
        if first < i:
            text = f"joints[{first}] and joints[{i}] are both called '{joint.name}'; give each joint its own name."
            raise file.fault(["joints", i, "name"], text)
        for key, value, unit in (
            ("position", max(map(abs, joint.position)), "rad"),
            ("velocity", abs(joint.velocity), "rad/s"),
        ):
            if value > MOST_RAD:
                text = (
                    f"{joint.name}: {key} of {value:g} {unit} is {value / math.tau:.0f} turns; degrees? Write {unit}."
                )
                raise file.fault(["joints", i, key], text)
    for i, joint in enumerate(config.joints):
        low, high = joint.position
        if not low < high:
            text = f"{joint.name}: position runs from {low:g} to {high:g} rad; swap them."
            raise file.fault(["joints", i, "position"], text)
    described = [j.dh is not None for j in config.joints]
    if any(described) and not all(described):
        i = described.index(False)
        text = f"{config.joints[i].name} has no dh, others have; give it to all joints or to none."
        raise file.fault(["joints", i], text)


def _check_tool(config: ArmConfig, file: ArmFile) -> None:
    if config.tool is None:
        return
    for key, numbers, unit in (
        ("workspace_low_m", config.tool.workspace_low_m, "m"),
        ("workspace_high_m", config.tool.workspace_high_m, "m"),
        ("speed_m_s", (config.tool.speed_m_s,), "m/s"),
    ):
        if max(map(abs, numbers)) > MOST_M:
            text = f"tool.{key} is {max(numbers, key=abs):g} {unit}; millimetres? Write {unit}."
            raise file.fault(["tool", key], text)


def _check_times(config: ArmConfig, file: ArmFile) -> None:
    for key, value in (("rate_hz", config.rate_hz), ("command_rate_hz", config.command_rate_hz or 1.0)):
        if not 0 < value < math.inf:
            raise file.fault([key], f"{key} is {value:g}; it must be above 0.")
    rate_hz = config.command_rate_hz or config.rate_hz
    text = f"of {1 / rate_hz:g} s (rate_hz: {rate_hz:g}). Raise it."
    if not config.stale_after_s * rate_hz >= 1:
        raise file.fault(["stale_after_s"], f"stale_after_s is {config.stale_after_s:g}, shorter than a period {text}")
    if config.policy_timeout_s and not config.policy_timeout_s * rate_hz >= PERIODS:
        value = f"policy_timeout_s is {config.policy_timeout_s:g}"
        raise file.fault(["policy_timeout_s"], f"{value}, shorter than {PERIODS:g} periods {text}")
    if config.command_rate_hz and abs(rate_hz / config.rate_hz - config.commands_per_step) > 1e-6:
        text = f"command_rate_hz is {rate_hz:g}, not a multiple of rate_hz: {config.rate_hz:g}. Change one of them."
        raise file.fault(["command_rate_hz"], text)
    if config.commands_per_step > 1 and config.control != "joint_position":
        text = f"command_rate_hz needs control: joint_position; a '{config.control}' action cannot be interpolated."
        raise file.fault(["command_rate_hz"], text)


def _check_home(config: ArmConfig, file: ArmFile) -> None:
    if not config.home:
        return
    if len(config.home) != len(config.joints):
        raise file.fault(["home"], f"home has {len(config.home)} numbers for {len(config.joints)} joints.")
    for joint, value in zip(config.joints, config.home, strict=True):
        low, high = joint.position[0] + config.soft_margin_rad, joint.position[1] - config.soft_margin_rad
        if not low <= value <= high:
            text = f"home puts {joint.name} at {value:g} rad, outside its soft limits {low:g} to {high:g}."
            raise file.fault(["home"], text)


def _check_driver(config: ArmConfig, file: ArmFile) -> None:
    try:
        driver = find_driver(config.driver)
    except ConfigError as error:
        raise file.fault(["driver"], str(error)) from error
    try:
        driver.Options.of(config.options)
    except msgspec.ValidationError as error:
        raise file.located(error, driver.Options, below="options") from error
