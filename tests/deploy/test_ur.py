"""The UR driver through the real `ur_rtde` against an endpoint that speaks the public protocol."""

from __future__ import annotations

import importlib.util
import json
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.arms.config import load_arm
from deploy.arms.registry import make_arm
from deploy.arms.schema import ArmConfig
from deploy.commands import arm as arm_command
from deploy.contract import Contract
from deploy.controller import ServePlan, serve
from deploy.report import Ending
from deploy.safety.supervisor import Supervisor
from hardware_configs import config_path
from robot_rl.errors import ArmError
from tests.deploy.rtde_endpoint import JOINTS_SAFE, SERVO_J, SERVO_STOP, SET_WATCHDOG, STOP_SCRIPT, RtdeProcess

HOST = "127.0.0.67"
HOME = [0.0, -1.5708, 1.5708, -1.5708, -1.5708, 0.0]
pytestmark = pytest.mark.skipif(importlib.util.find_spec("rtde_control") is None, reason="needs the extra `ur`")
Bundle = tuple[Path, Contract]


class Turns:
    """Asks for where the arm was first, its base turning slowly by 0.2 rad/s; may hang once."""

    def __init__(self, contract: Contract, hangs_at: int = -1, hangs_s: float = 0.0) -> None:
        self.contract, self.calls = contract, 0
        self.hangs_at, self.hangs_s = hangs_at, hangs_s
        self.home: Any = None

    def act(self, obs: Any) -> Any:
        self.home = np.array(obs[:6], np.float64) if self.home is None else self.home
        self.calls += 1
        if self.calls == self.hangs_at:
            time.sleep(self.hangs_s)
        asked = self.home.copy()
        asked[0] += 0.2 * self.calls / 50
        return asked

    def warm_up(self) -> None:
        pass


@pytest.fixture
def robot() -> Generator[RtdeProcess]:
    with RtdeProcess(HOST, HOME) as running:
        yield running


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ArmConfig]:
    """The shipped file at the endpoint's address; 50 Hz commands and generous times, for loaded machines."""
    text = config_path("ur5e").read_text().replace("192.168.1.102", HOST).replace("command_rate_hz: 250", "#")
    text = text.replace("stale_after_s: 0.02 ", "stale_after_s: 0.5 ").replace("watchdog_hz: 10", "watchdog_hz: 1")
    file = tmp_path_factory.mktemp("ur") / "ur5e.yaml"
    file.write_text(text.replace("policy_timeout_s: 0.1", "policy_timeout_s: 0.6"))
    return str(file), load_arm(str(file))


@pytest.fixture
def arm(robot: RtdeProcess, config: tuple[str, ArmConfig]) -> Generator[Any]:
    made: Any = make_arm(config[1])
    made.connect()
    yield made
    made.close()
    made.close()


def ended(robot: RtdeProcess) -> dict[str, Any]:
    """The controller once its program is over: the last command may still be on its way."""
    end = time.monotonic() + 5.0
    while (seen := robot.tell("report"))["running"] and time.monotonic() < end:
        time.sleep(0.02)
    return seen


def drive(arm: Any, config: tuple[str, ArmConfig], policy: Any, seconds: float) -> Any:
    return serve(policy, arm, Supervisor(config[1].limits()), ServePlan(duration_s=seconds))


def test_check_reads_the_arm_and_moves_nothing(
    robot: RtdeProcess, config: tuple[str, ArmConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    assert arm_command.main(["check", config[0], "--seconds", "1", "--json"]) in (0, 2)  # 2: a slow machine's rate
    said = capsys.readouterr().out
    answer = json.loads(said[said.index("{") :])
    assert "shoulder_lift -1.571" in answer["joints"]
    assert answer["tool by the file's dh"].endswith("0.0 mm apart")
    seen = ended(robot)
    assert seen["q"] == HOME
    assert seen["commands"] == [JOINTS_SAFE, STOP_SCRIPT]  # no watchdog yet: looking takes longer than its period


def test_it_servoes_where_it_is_asked_and_leaves_the_program_properly(
    robot: RtdeProcess, arm: Any, bundle: Bundle, config: tuple[str, ArmConfig]
) -> None:
    report = drive(arm, config, Turns(bundle[1]), 2.0)
    assert report.ending is Ending.DURATION
    assert robot.tell("report")["running"]
    arm.close()
    seen = ended(robot)
    assert seen["program"].startswith("def rtde_control()")
    assert seen["commands"][:2] == [JOINTS_SAFE, SET_WATCHDOG]
    assert seen["watchdog_hz"] == 1
    assert seen["commands"].count(SERVO_J) > 20  # all of them on a machine with time
    assert seen["commands"][-2:] == [SERVO_STOP, STOP_SCRIPT]
    assert 0.1 < seen["q"][0] < 0.45
    assert seen["q"][1:] == pytest.approx(HOME[1:], abs=1e-6)
    assert not seen["running"]


def test_a_policy_that_hangs_is_stopped_by_us_or_by_the_controller(
    robot: RtdeProcess, arm: Any, bundle: Bundle, config: tuple[str, ArmConfig]
) -> None:
    policy = Turns(bundle[1], hangs_at=30, hangs_s=3.0)
    with pytest.raises(ArmError, match=r"takes no more commands; its program has ended \(watchdog\?\)"):
        drive(arm, config, policy, 10.0)
    seen = robot.tell("report")
    assert seen["commands"].index(SERVO_STOP) > 2  # our watchdog's hold, while the policy hung
    assert seen["ended_by_watchdog"]  # and the controller's own, which nothing here can delay
    assert seen["qd"] == [0.0] * 6


def test_states_that_stop_coming_hold_the_arm(
    robot: RtdeProcess, arm: Any, bundle: Bundle, config: tuple[str, ArmConfig]
) -> None:
    timer = threading.Timer(1.0, robot.tell, ["freeze"])
    timer.start()
    try:
        report = drive(arm, config, Turns(bundle[1]), 3.0)
    finally:
        timer.join()
    assert report.ending is Ending.DURATION
    assert report.reasons["observation too old"] > 5
    assert report.verdicts["passed"] > 5


def test_a_protective_stop_ends_the_session_in_words(
    robot: RtdeProcess, arm: Any, bundle: Bundle, config: tuple[str, ArmConfig]
) -> None:
    timer = threading.Timer(1.0, robot.tell, ["protect"])
    timer.start()
    with pytest.raises(ArmError, match=r"is in protective stop\. Release it on the pendant"):
        drive(arm, config, Turns(bundle[1]), 10.0)
    timer.join()


def test_an_arm_outside_its_safety_limits_is_not_driven(robot: RtdeProcess, config: tuple[str, ArmConfig]) -> None:
    robot.tell("unsafe")
    with pytest.raises(ArmError, match="stands outside its safety limits"):
        make_arm(config[1]).connect()


def test_a_killed_controller_ends_the_session_in_words(
    robot: RtdeProcess, arm: Any, bundle: Bundle, config: tuple[str, ArmConfig]
) -> None:
    timer = threading.Timer(1.0, robot.kill)
    timer.start()
    with pytest.raises(ArmError, match=f"ur5e at {HOST} stopped answering; its controller's watchdog stops the arm"):
        drive(arm, config, Turns(bundle[1]), 10.0)
    timer.join()
    begun = time.monotonic()
    arm.close()  # ur-rtde's own stop would wait for an answer for ever
    assert time.monotonic() - begun < 20


def test_nobody_there_is_said(config: tuple[str, ArmConfig]) -> None:
    with pytest.raises(ArmError, match=f"at {HOST} cannot be reached"):
        make_arm(config[1]).connect()
