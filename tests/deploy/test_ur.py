"""The UR driver through the real `ur_rtde` against an endpoint that speaks the public protocol."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from deploy.arms.config import load_arm
from deploy.arms.registry import make_arm
from deploy.bundle.contract import Contract
from hardware_configs import config_path
from robot_rl.errors import ArmError
from tests.deploy.rtde_endpoint import JOINTS_SAFE, SERVO_J, SERVO_STOP, SET_WATCHDOG, STOP_SCRIPT, RtdeProcess

HOST = "127.0.0.67"
HOME = [0.0, -1.5708, 1.5708, -1.5708, -1.5708, 0.0]
pytestmark = pytest.mark.skipif(importlib.util.find_spec("rtde_control") is None, reason="needs the extra `ur`")
Bundle = tuple[Path, Contract]


@pytest.fixture
def robot() -> Generator[RtdeProcess]:
    with RtdeProcess(HOST, HOME) as running:
        yield running


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The shipped file at the endpoint's address; 50 Hz commands and generous times, for loaded machines."""
    text = config_path("ur5e").read_text().replace("192.168.1.102", HOST).replace("command_rate_hz: 250", "#")
    text = text.replace("stale_after_s: 0.02 ", "stale_after_s: 0.5 ").replace("watchdog_hz: 10", "watchdog_hz: 1")
    file = tmp_path_factory.mktemp("ur") / "ur5e.yaml"
    file.write_text(text.replace("policy_timeout_s: 0.1", "policy_timeout_s: 0.6"))
    return str(file)


def last_json(text: str) -> dict[str, Any]:
    return json.loads(text[text.rindex('\n{"') if '\n{"' in text else text.index("{") :])


class Session:
    """A session in a process of its own, from when commands flow."""

    def __init__(self, config: str, bundle: Bundle, seconds: float, hangs_at: int = -1, hangs_s: float = 0.0) -> None:
        words = [config, str(bundle[0]), str(seconds), str(hangs_at), str(hangs_s)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.deploy.ur_session", *words], stdout=subprocess.PIPE, text=True
        )
        self.text = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.text += line
            if line.strip() == "driving":
                break

    def result(self) -> dict[str, Any]:
        """What it came to."""
        rest, _ = self.process.communicate(timeout=90)
        return last_json(self.text + rest)


def ended(robot: RtdeProcess) -> dict[str, Any]:
    """The controller once its program is over: the last command may still be on its way."""
    end = time.monotonic() + 5.0
    while (seen := robot.tell("report"))["running"] and time.monotonic() < end:
        time.sleep(0.02)
    return seen


def test_check_reads_the_arm_and_moves_nothing(robot: RtdeProcess, config: str) -> None:
    words = [sys.executable, "-m", "robot_rl.cli", "arm", "check", config, "--seconds", "1", "--json"]
    run = subprocess.run(words, capture_output=True, text=True, check=False, timeout=90)
    assert run.returncode in (0, 2), run.stderr  # 2: a slow machine's rate
    answer = json.loads(run.stdout[run.stdout.index("{") : run.stdout.rindex("}") + 1])
    assert "shoulder_lift -1.571" in answer["joints"]
    assert answer["tool by the file's dh"].endswith("0.0 mm apart")
    seen = ended(robot)
    assert seen["q"] == HOME
    assert seen["commands"] == [JOINTS_SAFE, STOP_SCRIPT]  # no watchdog yet: looking takes longer than its period


def test_it_servoes_where_it_is_asked_and_leaves_the_program_properly(
    robot: RtdeProcess, config: str, bundle: Bundle
) -> None:
    result = Session(config, bundle, 2.0).result()
    assert (result["error"], result["ending"]) == ("", "duration reached")
    seen = ended(robot)
    assert seen["program"].startswith("def rtde_control()")
    assert seen["commands"][:2] == [JOINTS_SAFE, SET_WATCHDOG]
    assert seen["watchdog_hz"] == 1
    assert seen["commands"].count(SERVO_J) > 20  # all of them on a machine with time
    assert seen["commands"][-2:] == [SERVO_STOP, STOP_SCRIPT]
    assert 0.1 < seen["q"][0] < 0.45
    assert seen["q"][1:] == pytest.approx(HOME[1:], abs=1e-6)


def test_a_policy_that_hangs_is_stopped_by_us_and_by_the_controller(
    robot: RtdeProcess, config: str, bundle: Bundle
) -> None:
    result = Session(config, bundle, 10.0, hangs_at=30, hangs_s=3.0).result()
    assert "takes no more commands; its program has ended (watchdog?)" in result["error"]
    seen = robot.tell("report")
    assert SERVO_STOP in seen["commands"]  # our watchdog's hold, while the policy hung
    assert seen["ended_by_watchdog"]  # and the controller's own, which nothing here can delay
    assert seen["qd"] == [0.0] * 6


EPISODES = """
import json, sys, time
from deploy.arms.config import load_arm
from deploy.online.arm_env import ArmEnv
env, said = ArmEnv(load_arm(sys.argv[1]), episode_steps=5), []
for _ in range(2):
    env.station.go()
    obs, _ = env.reset()
    for _ in range(5):
        obs, _, _, _, info = env.step(obs[:6])
    said.append(info.get("stopped", []))
    time.sleep(2.5)  # the scene is being set; the controller's watchdog has a period of 1 s
env.close()
print(json.dumps({"stopped": said}))
"""


def test_the_next_episode_begins_though_the_watchdog_ended_the_program_meanwhile(
    robot: RtdeProcess, config: str
) -> None:
    words = [sys.executable, "-c", EPISODES, config]
    run = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    assert last_json(run.stdout) == {"stopped": [[], []]}
    seen = ended(robot)
    assert seen["ended_by_watchdog"]
    assert len(seen["scripts"]) == 2
    assert seen["commands"].count(SET_WATCHDOG) == 2  # the new program is watched as well


def test_states_that_stop_coming_hold_the_arm(robot: RtdeProcess, config: str, bundle: Bundle) -> None:
    session = Session(config, bundle, 3.0)
    time.sleep(0.5)
    robot.tell("freeze")
    result = session.result()
    assert (result["error"], result["ending"]) == ("", "duration reached")
    assert result["reasons"]["observation too old"] > 5


def test_a_protective_stop_ends_the_session_in_words(robot: RtdeProcess, config: str, bundle: Bundle) -> None:
    session = Session(config, bundle, 20.0)
    time.sleep(0.5)
    robot.tell("protect")
    assert "ArmError: ur5e is in protective stop. Release it on the pendant" in session.result()["error"]


def test_a_killed_controller_ends_the_session_in_words(robot: RtdeProcess, config: str, bundle: Bundle) -> None:
    session = Session(config, bundle, 20.0)
    time.sleep(0.5)
    robot.kill()
    result = session.result()
    said = f"ArmError: ur5e at {HOST} stopped answering; its controller's watchdog stops the arm"
    assert result["error"].startswith(said)
    assert result["close_s"] < 20  # ur-rtde's own stop would wait for an answer for ever


def test_an_arm_outside_its_safety_limits_is_not_driven(robot: RtdeProcess, config: str, bundle: Bundle) -> None:
    robot.tell("unsafe")
    assert "stands outside its safety limits" in Session(config, bundle, 1.0).result()["error"]
    assert SERVO_J not in robot.tell("report")["commands"]


def test_nobody_there_is_said(config: str) -> None:
    with pytest.raises(ArmError, match=f"at {HOST} cannot be reached"):
        make_arm(load_arm(config)).connect()
