"""Commands between policy actions: polynomials by hand, Ruckig's plans against the limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from deploy.arms.config import load_arm
from deploy.arms.registry import make_arm
from deploy.arms.schema import ArmConfig
from deploy.bundle.contract import Contract
from deploy.control.controller import serve
from deploy.control.interpolate import Interpolator, Mode
from deploy.control.plan import ServePlan
from deploy.control.ruckig_path import RuckigPath
from deploy.safety.limits import GripperLimits
from deploy.safety.supervisor import Supervisor

Bundle = tuple[Path, Contract]


class Jumps:
    """Asks for a pose beside the first one it saw, and a new one every tenth time."""

    def __init__(self, contract: Contract) -> None:
        self.contract, self.calls = contract, 0
        self.home: Any = None

    def act(self, obs: Any) -> Any:
        self.home = np.array(obs[:7]) if self.home is None else self.home
        self.calls += 1
        return self.home + 0.1 * (self.calls // 10 % 2)

    def warm_up(self) -> None:
        pass


def faster(config: ArmConfig, command_rate_hz: float) -> ArmConfig:
    return msgspec.structs.replace(config, command_rate_hz=command_rate_hz)


def commands(mode: Any, actions: list[float], many: int = 4) -> list[float]:
    path, out = Interpolator(mode, many, 1), list[float]()
    for action in actions:
        assert path.due
        path.aim(np.array([action], np.float32))
        out += [float(path.next()[0]) for _ in range(many)]
    return out


def test_interpolation_by_hand() -> None:
    assert commands("step", [0, 4]) == [0, 0, 0, 0, 4, 4, 4, 4]
    assert commands("linear", [0, 4]) == [0, 0, 0, 0, 1, 2, 3, 4]
    smooth = commands("min_jerk", [0, 4, 4, 4], many=100)
    assert smooth[199] == pytest.approx(4)
    assert smooth[299] == pytest.approx(4)
    # the quintic from rest to arriving at the target's own speed: 10h - 4v at s^3 and so on, h = v = 4
    assert smooth[149] == pytest.approx(4 * (6 * 0.5**3 - 8 * 0.5**4 + 3 * 0.5**5))
    speed = np.diff(smooth)
    assert np.abs(np.diff(speed)).max() < 0.02  # no kink where segments meet


def test_a_nan_passes_through_for_its_period_and_leaves_no_trace() -> None:
    out = commands("min_jerk", [0, 1, np.nan, 2], many=2)
    assert np.isnan(out[4:6]).all()
    assert np.isfinite(out[6:]).all()
    assert out[-1] == pytest.approx(2)


@pytest.mark.parametrize("arm", ["virtual", "ur5e"])
@pytest.mark.parametrize("width", [None, 0.08])
def test_ruckig_keeps_every_limit_and_arrives(arm: str, width: float | None) -> None:
    pytest.importorskip("ruckig")
    config = faster(load_arm(arm), 500.0)
    gripper = None if width is None else GripperLimits(low=0.0, high=width, speed=0.1)
    limits = replace(config.limits(), gripper=gripper)
    joints, many = limits.joints, config.commands_per_step
    rng, hand = np.random.default_rng(0), [] if width is None else [0.02]
    path, out = RuckigPath(many, limits), list[Any]()
    goal = np.array([*config.home, *hand])
    for k in range(300):
        if k < 270 and rng.random() < 0.2:
            goal = goal + rng.normal(0.0, 0.15, len(goal))  # jumps far beyond what a period allows
            goal[len(joints.names) :] = rng.uniform(0.0, 0.08, len(hand))
        path.aim(goal.astype(np.float32))
        out.append(path.next().copy())
        assert not path.due
        out += [path.next().copy() for _ in range(many - 1)]
        assert path.due
    position = np.array(out)[:, : len(joints.names)]
    speed, acceleration, jerk = (np.diff(position, k, axis=0) * limits.rate_hz**k for k in (1, 2, 3))
    assert (np.abs(speed) <= joints.velocity * joints.velocity_share).all()
    assert (np.abs(acceleration) <= joints.acceleration).all()
    assert np.abs(acceleration).max() > 0.9 * joints.acceleration.min()  # and uses them
    if joints.jerk is not None:
        assert (np.abs(jerk) <= joints.jerk).all()
    np.testing.assert_allclose(out[-1], goal, atol=1e-6)
    if width is not None:
        assert np.abs(np.diff(np.array(out)[:, -1])).max() <= 0.1 / limits.rate_hz


def test_ruckig_passes_a_nan_on_and_begins_again_at_rest() -> None:
    pytest.importorskip("ruckig")
    config = faster(load_arm("virtual"), 500.0)
    path, many = RuckigPath(config.commands_per_step, config.limits()), config.commands_per_step
    home = np.array(config.home, np.float32)
    out: list[Any] = []
    for goal in (home, home + 0.1, home * np.nan, home + 0.1):
        path.aim(goal)
        out.append(np.array([path.next().copy() for _ in range(many)]))
    assert np.isnan(out[2]).all()
    np.testing.assert_allclose(out[3][0], out[1][-1], atol=1e-3)


def test_what_ruckig_plans_the_supervisor_lets_pass(bundle: Bundle) -> None:
    pytest.importorskip("ruckig")
    config = msgspec.structs.replace(faster(load_arm("virtual"), 500.0), ramp_s=0.0)
    limited: dict[Any, int] = {}
    modes: tuple[Mode, ...] = ("linear", "ruckig")
    for mode in modes:
        arm: Any = make_arm(config, episode_steps=40)
        arm.connect()
        plan = ServePlan(episodes=1, paced=False, commands_per_step=config.commands_per_step, interpolation=mode)
        policy: Any = Jumps(bundle[1])
        report = serve(policy, arm, Supervisor(config.limits()), plan)
        arm.close()
        limited[mode] = report.ticks - report.verdicts["passed"]
    assert limited["linear"] > 50
    assert limited["ruckig"] == 0


def test_fast_commands_on_the_simulator_keep_the_policy_s_rate(bundle: Bundle, tmp_path: Path) -> None:
    config = load_arm("virtual")
    fast = faster(config, 250.0)
    arm: Any = make_arm(fast, episode_steps=20)
    arm.connect()
    assert arm.spec.rate_hz == 50
    policy: Any = Jumps(bundle[1])
    plan = ServePlan(episodes=1, paced=False, commands_per_step=5, interpolation="min_jerk")
    report = serve(policy, arm, Supervisor(fast.limits()), plan)
    arm.close()
    assert (report.ticks, policy.calls) == (100, 21)  # one call before the loop


def test_the_simulator_s_own_time_limit_is_in_policy_steps_too() -> None:
    arm: Any = make_arm(faster(load_arm("virtual"), 250.0))
    arm.connect()
    arm.restart(0)
    home, ticks = arm.read().q.copy(), 0
    while not arm.over:
        arm.command(home)
        arm.advance()
        ticks += 1
    arm.close()
    assert ticks == 5 * 200  # VirtualArm-v1 ends after 200 control steps
