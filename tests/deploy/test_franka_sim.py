"""The Franka driver against franky-sim, which speaks the real network protocol; `make franka-sim` installs it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.arms.config import load_arm
from deploy.arms.franka import FrankaArm
from deploy.arms.registry import make_arm
from deploy.arms.schema import ArmConfig
from deploy.bundle.contract import Contract
from deploy.bundle.policy import Policy
from deploy.commands import arm as arm_command
from deploy.control.controller import serve
from deploy.control.plan import ServePlan
from deploy.control.report import Ending
from deploy.safety.supervisor import Supervisor
from hardware_configs import config_path
from robot_rl.errors import ArmError

SIMULATOR = Path(__file__).parents[2] / ".venv-franka-sim" / "bin" / "franky-sim"
HOST, PORT = "127.0.0.77", 1337
pytestmark = [
    pytest.mark.skipif(not SIMULATOR.is_file(), reason="franky-sim is not installed; run `make franka-sim` once"),
    pytest.mark.skipif(importlib.util.find_spec("franky") is None, reason="needs the extra `franka`"),
]
Bundle = tuple[Path, Contract]


class Simulator:
    """franky-sim as a process."""

    def __init__(self) -> None:
        words = [SIMULATOR, "-s", "mujoco", "--hostname", HOST]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection((HOST, PORT), 0.2):
                return
            time.sleep(0.1)
        self.process.kill()
        raise RuntimeError("franky-sim did not start")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def simulator() -> Generator[Simulator]:
    running = Simulator()
    time.sleep(0.5)
    yield running
    running.kill()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ArmConfig]:
    file = tmp_path_factory.mktemp("arm") / "franka_fr3_sim.yaml"
    file.write_text(config_path("franka_fr3_sim").read_text().replace("127.0.0.1", HOST))
    return str(file), load_arm(str(file))


@pytest.fixture
def arm(simulator: Simulator, config: tuple[str, ArmConfig]) -> Generator[FrankaArm]:
    made: Any = make_arm(config[1])
    made.connect()
    yield made
    made.close()
    made.close()


class Still:
    """Asks for where the arm is; may hang once."""

    def __init__(self, contract: Contract, hangs_at: int = -1, hangs_s: float = 0.0) -> None:
        self.contract, self.calls = contract, 0
        self.hangs_at, self.hangs_s = hangs_at, hangs_s

    def act(self, obs: Any) -> Any:
        self.calls += 1
        if self.calls == self.hangs_at:
            time.sleep(self.hangs_s)
        return np.array(obs[:7])

    def warm_up(self) -> None:
        pass


def test_check_finds_that_the_arm_fits_its_file(simulator: Simulator, config: tuple[str, ArmConfig]) -> None:
    assert arm_command.main(["check", config[0], "--seconds", "1", "--json"]) in (0, 2)  # 2: a slow machine's rate


def test_a_bundle_of_the_virtual_arm_drives_it(arm: FrankaArm, bundle: Bundle, config: tuple[str, ArmConfig]) -> None:
    before = arm.read().q
    report = serve(Policy.load(bundle[0]), arm, Supervisor(config[1].limits()), ServePlan(duration_s=2.0))
    assert report.ending is Ending.DURATION
    assert np.abs(arm.read().q - before).max() > 0.05
    assert report.phases["policy"].p50 < 20_000


def test_kill_9_of_the_arm_ends_in_words_and_reconnecting_is_on_demand(
    simulator: Simulator, bundle: Bundle, config: tuple[str, ArmConfig]
) -> None:
    made: Any = make_arm(config[1])
    made.connect()
    policy: Any = Still(bundle[1])
    threading.Timer(1.0, simulator.kill).start()
    with pytest.raises(ArmError, match=HOST):
        serve(policy, made, Supervisor(config[1].limits()), ServePlan(duration_s=60.0))
    made.close()
    with pytest.raises(ArmError, match="cannot be reached"):
        make_arm(config[1]).connect()
    again = Simulator()
    try:
        time.sleep(0.5)
        fresh: Any = make_arm(config[1])
        fresh.connect()
        assert fresh.read().q.shape == (7,)
        fresh.close()
    finally:
        again.kill()


def test_a_policy_that_hangs_is_held_by_the_watchdog(
    arm: FrankaArm, bundle: Bundle, config: tuple[str, ArmConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[float] = []
    hang: list[float] = []
    hold = arm.hold

    def noted() -> None:
        held.append(time.monotonic())
        hold()

    class Hangs(Still):
        def act(self, obs: Any) -> Any:
            if self.calls + 1 == self.hangs_at:
                hang.append(time.monotonic())
            return super().act(obs)

    monkeypatch.setattr(arm, "hold", noted)
    policy: Any = Hangs(bundle[1], hangs_at=30, hangs_s=1.0)
    report = serve(policy, arm, Supervisor(config[1].limits()), ServePlan(duration_s=5.0))
    assert report.ending is Ending.STOPPED
    assert "policy took too long" in report.stop_causes[0]
    assert held[0] - hang[0] < 0.5  # 0.1 s is configured; a loaded machine adds


def test_an_arm_that_stalls_is_held_until_it_speaks_again(
    simulator: Simulator, arm: FrankaArm, bundle: Bundle, config: tuple[str, ArmConfig]
) -> None:
    def stall() -> None:
        os.kill(simulator.process.pid, signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(simulator.process.pid, signal.SIGCONT)

    policy: Any = Still(bundle[1])
    timer = threading.Timer(1.0, stall)
    timer.start()
    try:
        report = serve(policy, arm, Supervisor(config[1].limits()), ServePlan(duration_s=3.0))
    finally:
        timer.join()
    assert report.reasons["observation too old"] > 0
    assert report.verdicts["passed"] > 0
