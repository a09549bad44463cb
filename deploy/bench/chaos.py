"""`robot-rl bench chaos`: real processes, real faults, and a count of what was lost, doubled or late."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from rich.table import Table

from deploy.bench.chaos_process import DRAIN_S, SPEC, Noted
from deploy.bench.chaos_proxy import Fault, Proxy
from robot_rl.bench.machine import machine
from robot_rl.config import parse
from robot_rl.console import make_console, print_json
from robot_rl.data.replay_log import ReplayLog
from robot_rl.errors import BridgeError

DESCRIPTION = """\
Break the bridge on loopback and count. An actor process publishes numbered transitions without pause to a learner
process; meanwhile either is killed with SIGKILL at random moments, a proxy between them cuts connections, delays,
doubles, loses and flips bytes, disks fill up, clocks jump, a second learner asks for the address. In the
end the log must hold every number once and in order. Recovery is the time from the end of a fault (for a
kill, from the start of the new process) until all that was taken by then, and one more, is durable at the
learner. Exit status 1 if anything was lost, doubled or disordered."""
Scenario = Literal[
    "kill actor",
    "kill learner",
    "kill both",
    "drop",
    "delay",
    "duplicate",
    "truncate",
    "flip",
    "hang",
    "actor's disk full",
    "learner's disk full",
    "clock jumps",
    "second learner",
]
SCENARIOS: tuple[Scenario, ...] = Scenario.__args__  # pyright: ignore[reportAttributeAccessIssue]
NETWORK: tuple[Fault, ...] = ("drop", "delay", "duplicate", "truncate", "flip", "hang")


@dataclass(frozen=True, kw_only=True)
class ChaosConfig:
    """Chaos."""

    scenarios: tuple[str, ...] = SCENARIOS  # which faults
    repetitions: int = 20  # of each fault
    rate_hz: float = 1000.0  # transitions per second
    deadline_s: float = 60.0  # longest recovery; beyond it the run counts as hung
    seed: int = 0  # of the moments at which faults strike
    out: Path | None = None  # write OUT.json and OUT.md
    json: bool = False  # one JSON object on standard output


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a scenario did to the transitions.

    Args:
        scenario: Its name.
        repetitions: Of the fault.
        felt: How often it bit: pieces spoiled by the proxy, transitions turned away by a full disk, else repetitions.
        transitions: In the log.
        lost: Taken and not in the log, or altered.
        duplicated: In the log more than once.
        disordered: Neighbours in the log that are no neighbours in the stream.
        recovery_s: Of each repetition.
    """

    scenario: str
    repetitions: int
    felt: int
    transitions: int
    lost: int
    duplicated: int
    disordered: int
    recovery_s: tuple[float, ...]


def main(argv: Sequence[str]) -> int:
    """Parse, break, count, print."""
    config = parse(ChaosConfig, argv, prog="robot-rl bench chaos", description=DESCRIPTION)
    outcomes: list[Outcome] = []
    for scenario in config.scenarios:
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            outcomes.append(run(scenario, config, Path(folder)))
    result = {"machine": machine(), "rate_hz": config.rate_hz, "outcomes": [vars(o) for o in outcomes]}
    if config.out is not None:
        config.out.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
        config.out.with_suffix(".md").write_text(_markdown(config, outcomes))
    if config.json:
        print_json(result)
    else:
        _print(outcomes)
    return int(any(o.lost or o.duplicated or o.disordered for o in outcomes))


def run(scenario: str, config: ChaosConfig, folder: Path) -> Outcome:
    """One fault, several times over, on one stream of transitions.

    Raises:
        TimeoutError: If the bridge did not recover within the deadline.
    """
    dice = random.Random(f"{scenario}{config.seed}")  # noqa: S311 - moments, not secrets
    recovery: list[float] = []
    with ExitStack() as stack:
        stage = _Stage(folder, config, scenario, stack)
        stage.wait_until_stored(stage.taken.value + 100)
        for _ in range(config.repetitions):
            time.sleep(dice.uniform(0.05, 0.4))
            _strike(scenario, stage, dice)
            recovery.append(stage.recover())
        stage.finish()
    return _count(scenario, folder, stage, recovery)


class _Stage:
    """The processes of a scenario, and what they have noted."""

    def __init__(self, folder: Path, config: ChaosConfig, scenario: str, stack: ExitStack) -> None:
        self.folder, self.config = folder, config
        self.taken, self.stored = Noted(folder / "taken"), Noted(folder / "stored")
        self.learner_port = _free_port()
        self.proxy: Proxy | None = None
        actor_port = self.learner_port
        if scenario in NETWORK:
            self.proxy = Proxy(self.learner_port, config.seed)
            stack.callback(self.proxy.close)
            actor_port = self.proxy.port
        disk = scenario.endswith("disk full")
        common = {"segment_bytes": 4000 if disk else 400_000, "full_at": 1000, "rate_hz": config.rate_hz}
        self._plans = {
            "actor": common
            | {
                "address": f"tcp://127.0.0.1:{actor_port}",
                "spool": str(folder / "spool"),
                "noted": str(folder / "taken"),
                "felt": str(folder / "actor-felt"),
            },
            "learner": common
            | {
                "address": f"tcp://127.0.0.1:{self.learner_port}",
                "log": str(folder / "log"),
                "noted": str(folder / "stored"),
                "felt": str(folder / "learner-felt"),
            },
        }
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        stack.callback(self._kill_all)
        self.start("learner")
        self.start("actor")

    def start(self, role: str) -> None:
        """Start a process, which goes on where the last one of its role was."""
        words = [sys.executable, "-m", "deploy.bench.chaos_process", json.dumps(self._plans[role] | {"role": role})]
        self.running[role] = subprocess.Popen(words, stdout=subprocess.DEVNULL)

    def felt(self, scenario: str) -> int:
        """How often the fault bit; 0 where nobody counts."""
        if self.proxy is not None:
            return self.proxy.spoiled
        role = scenario.partition("'")[0]
        return Noted(self.folder / f"{role}-felt").value if role in self.running else 0

    def kill(self, role: str) -> None:
        """SIGKILL, without warning."""
        self.running[role].kill()
        self.running[role].wait()

    def signal(self, role: str, number: int) -> None:
        """Send a signal."""
        self.running[role].send_signal(number)

    def recover(self) -> float:
        """Seconds until all that was taken by now, and the next one, are stored."""
        start = time.monotonic()
        self.wait_until_stored(self.taken.value + 1)
        return time.monotonic() - start

    def wait_until_stored(self, count: int) -> None:
        """Wait for the learner's note.

        Raises:
            TimeoutError: After the deadline.
            BridgeError: If a process ended by itself.
        """
        deadline = time.monotonic() + self.config.deadline_s
        while self.stored.value < count:
            for role, process in self.running.items():
                if process.poll() is not None:
                    raise BridgeError(f"The {role} process ended by itself, status {process.returncode}.")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.stored.value} of {count} transitions after {self.config.deadline_s} s")
            time.sleep(0.002)

    def finish(self) -> None:
        """End cleanly: the actor delivers, then the learner closes its log."""
        for role in ("actor", "learner"):
            self.running[role].terminate()
            status = self.running[role].wait(timeout=DRAIN_S + self.config.deadline_s)
            if status != 0:
                raise BridgeError(f"The {role} process ended with status {status}.")

    def _kill_all(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()


def _strike(scenario: str, stage: _Stage, dice: random.Random) -> None:
    """Make the fault happen once; when this returns it is over."""
    striking: dict[str, Callable[[], None]] = {
        "kill actor": lambda: _kill(stage, "actor"),
        "kill learner": lambda: _kill(stage, "learner"),
        "kill both": lambda: _kill(stage, "actor", "learner"),
        "actor's disk full": lambda: _fill_disk(stage, "actor", dice),
        "learner's disk full": lambda: _fill_disk(stage, "learner", dice),
        "clock jumps": lambda: _jump_clocks(stage),
        "second learner": lambda: _second_learner(stage),
    }
    if scenario in striking:
        striking[scenario]()
    elif stage.proxy is not None:
        stage.proxy.fault = scenario  # pyright: ignore[reportAttributeAccessIssue] - one of NETWORK
        time.sleep(dice.uniform(0.2, 0.8))
        stage.proxy.fault = "none"
    else:
        raise BridgeError(f"No scenario '{scenario}'; there are: {', '.join(SCENARIOS)}.")


def _kill(stage: _Stage, *roles: str) -> None:
    for role in roles:
        stage.kill(role)
    for role in roles:
        stage.start(role)


def _fill_disk(stage: _Stage, role: str, dice: random.Random) -> None:
    """The actor's fills up while the learner is away: else segments that it has stored are used again."""
    if role == "actor":
        stage.kill("learner")
    stage.signal(role, signal.SIGUSR1)
    time.sleep(dice.uniform(0.3, 0.9))
    stage.signal(role, signal.SIGUSR2)
    if role == "actor":
        stage.start("learner")


def _jump_clocks(stage: _Stage) -> None:
    for role in stage.running:
        stage.signal(role, signal.SIGHUP)


def _second_learner(stage: _Stage) -> None:
    """Another learner, with a log of its own, on the same address: it has to give up."""
    plan = {
        "role": "learner",
        "address": f"tcp://127.0.0.1:{stage.learner_port}",
        "log": str(stage.folder / "other-log"),
        "noted": str(stage.folder / "other"),
        "felt": str(stage.folder / "other-felt"),
        "segment_bytes": 1000,
    }
    words = [sys.executable, "-m", "deploy.bench.chaos_process", json.dumps(plan)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=stage.config.deadline_s)
    if done.returncode == 0 or "is taken: another learner" not in done.stderr:
        raise BridgeError(f"A second learner was not refused: {done.stderr}")


def _count(scenario: str, folder: Path, stage: _Stage, recovery: list[float]) -> Outcome:
    taken = stage.taken.value
    log = ReplayLog(folder / "log", SPEC)
    rows = log.read()
    log.close()
    numbers = rows["reward"].astype(np.int64)
    whole = (rows["obs"] == numbers[:, None]).all() and (rows["next_obs"] == numbers[:, None] + 1).all()
    found, times = np.unique(numbers, return_counts=True)
    # The last kill may fall between taking a transition and noting it: then one more than noted is there.
    beyond = len(found[found >= taken]) if len(found) else 0
    return Outcome(
        scenario=scenario,
        repetitions=len(recovery),
        felt=stage.felt(scenario) or len(recovery),
        transitions=len(numbers),
        lost=taken - len(found[found < taken]) + (0 if whole else len(rows)),
        duplicated=int((times - 1).sum()) + max(0, beyond - 1),
        disordered=int((np.diff(numbers) != 1).sum()),
        recovery_s=tuple(round(r, 3) for r in recovery),
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


COLUMNS = ("fault", "times", "felt", "transitions", "lost", "doubled", "disordered", "recovery p50, s", "max, s")


def _rows(outcomes: list[Outcome]) -> list[list[str]]:
    return [
        [
            o.scenario,
            str(o.repetitions),
            f"{o.felt:,}",
            f"{o.transitions:,}",
            str(o.lost),
            str(o.duplicated),
            str(o.disordered),
            f"{np.median(o.recovery_s):.2f}",
            f"{max(o.recovery_s):.2f}",
        ]
        for o in outcomes
    ]


def _markdown(config: ChaosConfig, outcomes: list[Outcome]) -> str:
    lines = [
        "# Chaos on the bridge",
        "",
        f"One actor process at {config.rate_hz:g} transitions/s, one learner process, loopback. Recovery: from the end "
        f"of a fault (for a kill, from the restart of the process, its start-up included) until all that was taken by "
        f"then, and one more, is durable. Felt: pieces of the stream spoiled, transitions turned away by a full "
        f"disk, or faults. Machine: {machine()}, load average {os.getloadavg()[2]:.1f}.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
    ]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in _rows(outcomes)]) + "\n"


def _print(outcomes: list[Outcome]) -> None:
    table = Table(title="Chaos on the bridge", title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "fault" else "right")
    for row in _rows(outcomes):
        table.add_row(*row)
    make_console().print(table)
