"""Arming an arm once it stands still, taking control of it, and driving it slowly home behind a supervisor."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from deploy.arms.arm import Arm, ArmState, Episodic
from deploy.arms.schema import ArmConfig
from deploy.control.alarms import alarms
from deploy.control.rate import Pacer
from deploy.operator.station import Station
from deploy.safety.decision import Verdict
from deploy.safety.supervisor import Supervisor
from robot_rl.errors import ArmError, ArmStoppedError, ConfigError, LimitError

HOME_SHARE = 0.2  # of the file's velocity_share
CLOSE = 0.02  # rad from home
SETTLES_S = 2.0  # an arm that is told to stand still does so within this
SPARE_S = 10.0  # beyond twice the time that the furthest joint needs


def arm_when_still(supervisor: Supervisor, arm: Arm) -> ArmState:
    """Arm the supervisor as soon as the arm stands still; what it was armed with.

    Raises:
        LimitError: If it cannot be armed within `SETTLES_S`.
    """
    deadline = time.monotonic() + SETTLES_S
    while True:
        state = arm.read()
        try:
            supervisor.arm(state, time.monotonic())
        except LimitError:
            if isinstance(arm, Episodic) or time.monotonic() > deadline:
                raise
            time.sleep(1.0 / supervisor.limits.rate_hz)
        else:
            return state


def take_control(supervisor: Supervisor, arm: Arm) -> None:
    """Command a physical arm to stay where it stands, and arm again from there.

    Drivers take control with the first command, which is slow, and the vendor's watchdog begins with it: the
    policy's first action must be neither late nor the first.

    Raises:
        LimitError: If it cannot be armed.
    """
    if not isinstance(arm, Episodic) and supervisor.standing is not None:
        arm.command(supervisor.standing)
        supervisor.arm(arm.read(), time.monotonic())


def drive_home(arm: Arm, config: ArmConfig, *, station: Station | None = None) -> str:
    """Drive there and stand still; a gripper keeps its width.

    Args:
        arm: Connected.
        config: Its file.
        station: The operator's; its emergency stop ends the drive. None where somebody stands by with Ctrl-C alone, who
            has no way to give the signs of life that the file may ask for.

    Returns:
        How long it took, in words.

    Raises:
        ConfigError: If the file has no home pose, or the arm takes no joint targets.
        ArmStoppedError: If the supervisor stops the motion.
        ArmError: If it does not arrive.
    """
    if not config.home:
        raise ConfigError(f"{config.name} has no home pose; add `home:` to its file.")
    if config.control != "joint_position":
        raise ConfigError(f"{config.name} is commanded by '{config.control}'; only joint targets can lead home.")
    limits = config.slower(HOME_SHARE).limits()
    supervisor = Supervisor(limits if station is not None else replace(limits, operator_timeout_s=0.0))
    rate_hz = supervisor.limits.rate_hz
    state = arm_when_still(supervisor, arm)
    home = np.array(config.home)
    goal = np.append(home, state.gripper) if supervisor.action_dim > len(home) else home
    take_control(supervisor, arm)  # slow, so before the clock of the drive begins
    furthest = float(np.abs(home - state.q).max())
    slowest = float(supervisor.limits.joints.velocity.min()) * supervisor.limits.joints.velocity_share
    pacer, station = Pacer(rate_hz, ()), station or Station()
    try:
        while pacer.ticks < rate_hz * (2.0 * furthest / slowest + SPARE_S):
            pacer.wait()
            state = arm.read()
            now = time.monotonic()
            decision = supervisor.check(state, goal, now, alarms(station, supervisor, pacer, now))
            if decision.verdict is Verdict.STOPPED:
                raise ArmStoppedError(f"{config.name} was stopped on its way home: {decision.findings[0]}.")
            arm.command(decision.command)
            if isinstance(arm, Episodic):
                arm.advance()
            if supervisor.at_rest and np.abs(state.q - home).max() < CLOSE:
                return f"reached in {pacer.ticks / rate_hz:.1f} s"
    finally:
        arm.hold()
    raise ArmError(f"{config.name} is still {np.abs(arm.read().q - home).max():.3f} rad from home. Is it blocked?")
