"""Driving a stand-in for a physical arm, which is where it was last told to be: what it is told before it holds."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from deploy.arms.arm import ArmState
from deploy.arms.config import load_arm
from deploy.bundle.contract import Contract
from deploy.control.controller import serve
from deploy.control.home import drive_home
from deploy.control.plan import ServePlan
from deploy.control.report import Ending
from deploy.safety.supervisor import Supervisor

CONFIG = load_arm("virtual")
DT = 1.0 / CONFIG.rate_hz
Bundle = tuple[Path, Contract]


class Bench:
    name = "bench"

    def __init__(self) -> None:
        self.q = np.array(CONFIG.home) + 0.1
        self.commands: list[Any] = []
        self.speed_at_hold = np.nan  # of the fastest joint's command, rad/s

    def read(self) -> ArmState:
        kinematics = CONFIG.limits().kinematics
        assert kinematics is not None
        tool = np.array(kinematics.tool_at(self.q.tolist()))
        return ArmState(self.q.astype(np.float32), self.q.copy(), np.zeros(7), tool, time.monotonic())

    def command(self, action: Any) -> None:
        self.commands.append(action.copy())
        self.q = action.copy()

    def hold(self) -> None:
        self.speed_at_hold = float(np.abs(np.diff(self.commands[-2:], axis=0)).max(initial=0.0)) / DT


class Turns:
    """Turns joint 1 at 0.5 rad/s."""

    def __init__(self, contract: Contract) -> None:
        self.contract, self.calls = contract, 0

    def act(self, obs: Any) -> Any:
        self.calls += 1
        return np.array(CONFIG.home) + 0.1 + np.array([0.01 * self.calls, 0, 0, 0, 0, 0, 0])

    def warm_up(self) -> None:
        pass


def test_an_arm_whose_time_is_up_is_at_rest_before_it_holds(bundle: Bundle) -> None:
    arm: Any = Bench()
    policy: Any = Turns(bundle[1])
    report = serve(policy, arm, Supervisor(CONFIG.limits()), ServePlan(duration_s=0.8))
    assert (report.ending, report.stop_causes) == (Ending.DURATION, ())
    speeds = np.diff([c[0] for c in arm.commands], axis=0) / DT
    assert speeds.max() > 0.4  # it was moving
    assert arm.speed_at_hold == 0.0
    assert (np.abs(np.diff(speeds)) <= CONFIG.joints[0].acceleration * DT + 1e-9).all()
    assert report.reasons["the session's time is up"] >= 2


def test_a_driver_that_takes_control_slowly_is_driven_home_though_overruns_stop() -> None:
    arm: Any = Bench()
    commanded = arm.command

    def command(action: Any) -> None:
        if not arm.commands:
            time.sleep(5 * DT)
        commanded(action)

    arm.command = command
    assert drive_home(arm, msgspec.structs.replace(CONFIG, overrun="stop")).startswith("reached in")


def test_home_is_reached_without_a_station_though_the_file_asks_for_signs_of_life() -> None:
    arm: Any = Bench()
    assert drive_home(arm, msgspec.structs.replace(CONFIG, operator_timeout_s=1.0)).startswith("reached in")
    np.testing.assert_allclose(arm.q, CONFIG.home, atol=0.02)
