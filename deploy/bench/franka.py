"""`robot-rl bench franka`: the control loop on an arm with 1 kHz state, and what it does when something breaks.

The arm is franky-sim, which speaks Franka's network protocol, as a process of its own on loopback (`make
franka-sim` installs it). An untrained 256x256 policy is computed at each step, and the arm is asked for a slow
swing around its home pose.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from deploy.arms.config import load_arm
from deploy.arms.registry import make_arm
from deploy.arms.schema import ArmConfig
from deploy.bench.serve import untrained_bundle
from deploy.bundle.policy import Policy
from deploy.control.controller import serve
from deploy.control.home import drive_home
from deploy.control.plan import ServePlan
from deploy.control.report import ServeReport
from deploy.recorder import Recorder
from deploy.safety.supervisor import Supervisor
from robot_rl.bench.machine import machine
from robot_rl.config import parse
from robot_rl.console import make_console, print_json
from robot_rl.errors import ArmError, ConfigError, LimitError
from robot_rl.spec import Array

DESCRIPTION = """Drive franky-sim, a simulator that speaks the real protocol, and break things: tick statistics of
a long run, then a table of faults with what the arm was told and when.

    robot-rl bench franka --seconds 300 --out benchmarks/results/franka_sim"""
ROBOT, LINE = "127.0.0.87", "127.0.0.88"  # addresses of their own: two benches or a test beside it would not meet
SWING_RAD, SWING_HZ = 0.15, 0.1
FAULT_AT_S = 1.5  # into a run
FAULT_RUN_S = 4.0
REST_RAD_S = 0.02


@dataclass(frozen=True, kw_only=True)
class FrankaBenchConfig:
    """Benchmark of the loop on a simulated Franka."""

    seconds: float = 60.0  # of the undisturbed run
    rate_hz: float = 100.0  # of the policy and of commands; the arm's state comes at 1 kHz
    simulator: Path = Path(".venv-franka-sim/bin/franky-sim")  # the program to start
    no_faults: bool = False  # only the undisturbed run
    note: str = ""  # what else the machine was doing, kept with the figures
    out: Path | None = None  # write OUT.json and OUT.md
    json: bool = False  # one JSON object on standard output


def main(argv: Sequence[str]) -> int:
    """Parse, measure, print."""
    config = parse(FrankaBenchConfig, argv, prog="robot-rl bench franka", description=DESCRIPTION)
    if not config.simulator.is_file():
        raise ConfigError(f"{config.simulator} is not there. Run `make franka-sim` once, or give --simulator.")
    result = measure(config)
    if config.out is not None:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        config.out.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
        config.out.with_suffix(".md").write_text(markdown(result))
    if config.json:
        print_json(result)
    else:
        make_console().print(markdown(result), markup=False, soft_wrap=True)
    return 0


def measure(config: FrankaBenchConfig) -> dict[str, Any]:
    """The undisturbed run, then each fault on a simulator of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        policy = Policy.load(untrained_bundle(Path(scratch), round(config.rate_hz), (256, 256)))
        bench = Bench(config, policy, Path(scratch))
        steady, sent_hz = bench.steady()
        faults = [] if config.no_faults else bench.faults()
    load = os.getloadavg()
    return {
        "machine": machine(),
        "load_average": [round(value, 1) for value in load],
        "note": config.note,
        "seconds": config.seconds,
        "rate_hz": config.rate_hz,
        "states_hz": sent_hz,
        "steady": steady.to_dict(),
        "faults": faults,
    }


class Swings:
    """Computes a policy and asks for a slow swing of every joint around where the arm was first; may be late once.

    Args:
        policy: Whose cost is real and whose output is not used.
        rate_hz: Steps a second.
        late_s: How long one step takes, s; 0 for none.
    """

    def __init__(self, policy: Policy, rate_hz: float, late_s: float = 0.0) -> None:
        self.contract = policy.contract
        self.warm_up = policy.warm_up
        self.late_since: float | None = None
        self._policy, self._late_s = policy, late_s
        self._late_at = round(FAULT_AT_S * rate_hz)
        self._turn = 2 * np.pi * SWING_HZ / rate_hz
        self._steps, self._home = 0, np.zeros(0)

    def act(self, obs: Array) -> Any:
        """The swing's next point, (7,), rad."""
        self._policy.act(obs)
        if not self._steps:
            self._home = obs[:7].astype(np.float64)
        self._steps += 1
        if self._late_s and self._steps == self._late_at:
            self.late_since = time.monotonic()
            time.sleep(self._late_s)
        return self._home + SWING_RAD * (1 - np.cos(self._turn * self._steps)) / 2


class Simulator:
    """franky-sim as a process, from when it answers."""

    def __init__(self, program: Path) -> None:
        words = [program, "-s", "mujoco", "--hostname", ROBOT]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            with suppress(OSError), socket.create_connection((ROBOT, 1337), 0.2):
                time.sleep(1.0)  # the connection that asked is still being forgotten
                return
            time.sleep(0.1)
        self.kill()
        raise ArmError(f"{program} did not answer at {ROBOT} within a minute. Start it by hand and see what it says.")

    def kill(self) -> None:
        """The hard way; a second call changes nothing."""
        self.process.kill()
        self.process.wait()

    def stall(self, seconds: float) -> None:
        """Stop it in its tracks for a while."""
        os.kill(self.process.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.process.pid, signal.SIGCONT)


class Watched:
    """An arm that notes when it was told to hold."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.held_at: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def hold(self) -> None:
        """As the arm's own."""
        self.held_at.append(time.monotonic())
        self._inner.hold()


class Bench:
    """Runs of one configuration.

    Args:
        config: The bench's.
        policy: At its rate.
        scratch: Folder for recordings.
    """

    def __init__(self, config: FrankaBenchConfig, policy: Policy, scratch: Path) -> None:
        self._config, self._policy, self._scratch = config, policy, scratch
        self._runs = 0

    def arm_config(self, address: str) -> ArmConfig:
        """The simulator's arm at another address, at the bench's rate."""
        base = load_arm("franka_fr3_sim")
        found = base.at_rate(self._config.rate_hz)
        return msgspec.structs.replace(
            found, stale_after_s=base.stale_after_s, options={**base.options, "address": address}
        )

    @contextmanager
    def connected(self, address: str = ROBOT) -> Generator[tuple[Simulator, Any]]:
        """A fresh simulator and an arm connected to it, at home."""
        simulator = Simulator(self._config.simulator)
        arm = make_arm(self.arm_config(address))
        try:
            arm.connect()
            wait_for_rest(arm)
            drive_home(arm, self.arm_config(address))
            wait_for_rest(arm)
            yield simulator, Watched(arm)
        finally:
            arm.close()
            simulator.kill()

    def run(self, arm: Any, policy: Any, seconds: float) -> ServeReport:
        """A recorded session."""
        self._runs += 1
        with Recorder(self._scratch / f"{self._runs}.mcap", arm.spec, policy.contract) as recorder:
            limits = self.arm_config(ROBOT).limits()
            return serve(policy, arm, Supervisor(limits), ServePlan(duration_s=seconds), log=recorder)

    def swings(self, late_s: float = 0.0) -> Swings:
        """The policy of every run."""
        return Swings(self._policy, self._config.rate_hz, late_s)

    def steady(self) -> tuple[ServeReport, float]:
        """The undisturbed run, and how many states a second the arm sends."""
        with self.connected() as (_, arm):
            sent_hz = states_hz(arm, 2.0)
            return self.run(arm, self.swings(), self._config.seconds), sent_hz

    def faults(self) -> list[dict[str, str]]:
        """A row a fault."""
        rows = [self.killed(), self.stalled(0.3)]
        timeout_s = self.arm_config(ROBOT).policy_timeout_s
        rows += [self.late_policy(0.5 * timeout_s), self.late_policy(10 * timeout_s)]
        rows += [self.late_packets(0, 5), self.late_packets(10, 30), self.late_packets(80, 120)]
        return rows

    def killed(self) -> dict[str, str]:
        """`kill -9` of the arm's controller."""
        killed: list[float] = []

        def kill(simulator: Simulator) -> None:
            killed.append(time.monotonic())
            simulator.kill()

        with self.connected() as (simulator, arm):
            said, ended = self._disturbed(arm, self.swings(), lambda: kill(simulator))
        after = f"session over {1e3 * (ended - killed[0]):.0f} ms after it"
        try:
            make_arm(self.arm_config(ROBOT)).connect()
            again = "and connects to nothing"
        except ArmError:
            again = "connecting again is refused while it is dead"
        with self.connected() as (_, arm):
            again += f"; with a new simulator: {self.run(arm, self.swings(), 1.0).ending.value}"
        return row("kill -9 of the arm's controller", f"nothing can reach it; {after}", f"{said}; {again}")

    def stalled(self, seconds: float) -> dict[str, str]:
        """The controller stands still for a while."""
        with self.connected() as (simulator, arm):
            said, _ = self._disturbed(arm, self.swings(), lambda: simulator.stall(seconds))
        stale_ms = 1e3 * self.arm_config(ROBOT).stale_after_s
        return row(f"controller stalls for {seconds:g} s", f"held once its state is {stale_ms:.0f} ms old", said)

    def late_policy(self, seconds: float) -> dict[str, str]:
        """One policy step takes long."""
        policy = self.swings(seconds)
        with self.connected() as (_, arm):
            said, _ = self._disturbed(arm, policy, None)
            held = [at - policy.late_since for at in arm.held_at if policy.late_since is not None]
        first = f"told to hold after {1e3 * held[0]:.0f} ms" if held and held[0] < seconds else "held by the supervisor"
        return row(f"policy takes {seconds * 1e3:.0f} ms, once", first, said)

    def late_packets(self, low_ms: float, high_ms: float) -> dict[str, str]:
        """Every packet of state and command is late, from the beginning."""
        words = [LINE, ROBOT, str(low_ms), str(high_ms)]
        line = subprocess.Popen([sys.executable, "-m", "deploy.bench.franka_link", *words])
        try:
            time.sleep(1.0)
            with self.connected(LINE) as (_, arm):
                said, _ = self._disturbed(arm, self.swings(), None)
        except (ArmError, LimitError) as error:
            said = f"{type(error).__name__}: {first_sentence(error)}"
        finally:
            line.kill()
            line.wait()
        return row(f"every packet {low_ms:g} to {high_ms:g} ms late", "what it last heard", said)

    def _disturbed(self, arm: Any, policy: Any, fault: Callable[[], None] | None) -> tuple[str, float]:
        """What a run came to, and when it was over."""
        timer = None if fault is None else threading.Timer(FAULT_AT_S, fault)
        if timer is not None:
            timer.start()
        try:
            said = summary(self.run(arm, policy, FAULT_RUN_S))
        except (ArmError, LimitError) as error:
            said = f"{type(error).__name__}: {first_sentence(error)}"
        ended = time.monotonic()
        if timer is not None:
            timer.join()
        return said, ended


def wait_for_rest(arm: Any) -> None:
    """Return once the joints stand: after a start or a motion a compliant arm swings a little.

    Raises:
        ArmError: If they do not within ten seconds.
    """
    end = time.monotonic() + 10.0
    while np.abs(arm.read().dq).max() > REST_RAD_S:
        if time.monotonic() > end:
            raise ArmError(f"{arm.name} does not come to rest.")
        time.sleep(0.05)


def states_hz(arm: Any, seconds: float) -> float:
    """States that the arm sends in a second: its clock moves on by 1 ms with each."""
    first, begun = arm.clock_ms, time.monotonic()
    time.sleep(seconds)
    return (arm.clock_ms - first) / (time.monotonic() - begun)


def summary(report: ServeReport) -> str:
    """A run in a line."""
    verdicts = ", ".join(f"{count} {name}" for name, count in report.verdicts.items())
    causes = f" ({'; '.join(report.stop_causes)})" if report.stop_causes else ""
    held = {why: n for why, n in report.reasons.items() if why in ("observation too old", "deadline missed")}
    why = "; " + ", ".join(f"{n} ticks: {text}" for text, n in held.items()) if held else ""
    return f"{report.ending.value}{causes}: {verdicts}{why}"


def row(fault: str, told: str, session: str) -> dict[str, str]:
    """One line of the table."""
    return {"fault": fault, "arm": told, "session": session}


def first_sentence(error: Exception) -> str:
    """Without the advice."""
    return str(error).split(". ")[0].replace(ROBOT, "ADDRESS").replace(LINE, "ADDRESS")


def markdown(result: dict[str, Any]) -> str:
    """The figures for people."""
    run, note = result["steady"], f" {result['note']}" if result["note"] else ""
    kinds = [("period", run["period_us"]), ("lateness", run["lateness_us"]), ("work of a tick", run["compute_us"])]
    kinds += [(f"of it: {name}", spread) for name, spread in run["phases_us"].items()]
    keys = ("min", "p50", "p99", "p999", "max")
    lines = [
        "# The control loop on franky-sim",
        "",
        f"An FR3 that speaks Franka's protocol, simulated in a process beside the loop: state at "
        f"{result['states_hz']:.0f} Hz, policy (256x256) and commands at {result['rate_hz']:g} Hz, recorded. Machine: "
        f"{result['machine']}, load average {result['load_average']}.{note}",
        "",
        f"{result['seconds']:g} s: {run['ending']}, {run['ticks']:,} ticks, {run['missed']:,} deadlines missed; "
        + ", ".join(f"{n:,} {name}" for name, n in run["verdicts"].items())
        + ".",
        "",
        "| us | min | p50 | p99 | p99.9 | max |",
        "|---|---|---|---|---|---|",
        *(f"| {name} | " + " | ".join(f"{spread[k]:,.0f}" for k in keys) + " |" for name, spread in kinds),
        "",
    ]
    if result["faults"]:
        lines += ["| fault | what the arm is told | what the session does |", "|---|---|---|"]
        lines += [f"| {r['fault']} | {r['arm']} | {r['session']} |" for r in result["faults"]]
        lines += [""]
    return "\n".join(lines)
