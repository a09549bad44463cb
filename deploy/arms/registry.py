"""From a config to an arm, and from an arm back to its config."""

from __future__ import annotations

import math

from deploy.arms.arm import Arm
from deploy.arms.drivers import SimOptions, find_driver
from deploy.arms.schema import ArmConfig
from robot_rl.errors import ConfigError
from robot_rl.spec import Spec


def make_arm(config: ArmConfig, *, env_id: str = "", seed: int = 0, episode_steps: int | None = None) -> Arm:
    """The arm of a config, not yet connected.

    Args:
        config: Which arm.
        env_id: Environment to use instead of the config's.
        seed: Of the first episode of a simulated arm.
        episode_steps: Time limit of its episodes, policy steps; None for the environment's own.

    Raises:
        ConfigError: If there is no such driver.
    """
    sim = SimOptions(env_id=env_id, seed=seed, episode_steps=episode_steps)
    return find_driver(config.driver).make(config, sim)


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
