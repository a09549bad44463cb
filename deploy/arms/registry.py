"""Drivers by name."""

from __future__ import annotations

import math

from deploy.arms.arm import Arm
from deploy.arms.config import ArmConfig
from deploy.arms.mujoco import MujocoArm
from robot_rl.config import nearest
from robot_rl.errors import ConfigError
from robot_rl.spec import Spec

DRIVERS = {"mujoco": MujocoArm}


def make_arm(config: ArmConfig, *, env_id: str = "", seed: int = 0, episode_steps: int | None = None) -> Arm:
    """The arm of a config, not yet connected.

    Args:
        config: Which arm.
        env_id: Environment to use instead of the config's.
        seed: Of the first episode of a simulated arm.
        episode_steps: Time limit of its episodes, control steps; None for the environment's own.

    Raises:
        ConfigError: If there is no such driver.
    """
    if config.driver not in DRIVERS:
        raise ConfigError(f"{config.name}: driver is '{config.driver}'.{nearest(config.driver, DRIVERS)}")
    options = {} if episode_steps is None else {"max_episode_steps": episode_steps}
    driver = DRIVERS[config.driver]
    return driver(config.name, env_id or config.env, joints=len(config.joints), seed=seed, **options)


def require_same_arm(config: ArmConfig, spec: Spec) -> None:
    """Refuse a config that states another rate or control mode than the connected arm.

    Raises:
        ConfigError: With both values and the remedy.
    """
    if spec.rate_hz and not math.isclose(config.rate_hz, spec.rate_hz, rel_tol=1e-6):
        raise ConfigError(
            f"{config.name}.yaml says rate_hz: {config.rate_hz:g}, the connected arm runs at "
            f"{spec.rate_hz:g} Hz. Set rate_hz: {spec.rate_hz:g}."
        )
    if config.control != spec.control:
        raise ConfigError(
            f"{config.name}.yaml says control: {config.control}, the connected arm speaks '{spec.control}'. "
            f"Set control: {spec.control}."
        )
