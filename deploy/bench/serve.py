"""`robot-rl bench serve`: what a control tick costs, and how steadily it comes.

The full tick (read, policy, supervise, command, record) of an untrained policy on the virtual arm, whose
physics are stepped beside the tick. In turns with it, stretch by stretch in the same run, an empty loop at the
same rate on the same pacer shows what the machine itself does to a deadline: machines have better and worse
minutes, and this way both loops see the same ones.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from deploy.arms.config import load_arm
from deploy.arms.mujoco import MujocoArm
from deploy.bundle.policy import Policy
from deploy.control.controller import serve
from deploy.control.plan import ServePlan
from deploy.control.rate import Pacer, Spread
from deploy.control.realtime import RealtimePlan, realtime
from deploy.control.report import ServeReport
from deploy.recorder import Recorder
from deploy.safety.supervisor import Supervisor
from robot_rl.bench.deliver import deliver
from robot_rl.bench.machine import machine
from robot_rl.config import parse
from robot_rl.console import make_console

DESCRIPTION = """Measure the control tick: period, lateness and work, part by part, in turns with an empty loop
at the same rate in the same run. The physics of the virtual arm are stepped between ticks and named apart.

    robot-rl bench serve --seconds 600        # ten minutes, the figure for a report"""


@dataclass(frozen=True, kw_only=True)
class ServeBenchConfig:
    """Benchmark of the control loop."""

    rate_hz: int = 500  # ticks a second; the simulator's 500 Hz must be a multiple
    seconds: float = 60.0  # of the full tick; the empty loop gets as long
    stretch_s: float = 10.0  # the two loops run in turns, so long at a time
    hidden: tuple[int, ...] = (256, 256)  # layers of the policy
    calls: int = 20_000  # of the policy alone
    realtime: bool = False  # SCHED_FIFO and locked memory, where permitted
    core: int | None = None  # stay on this core
    json: bool = False  # one JSON object on standard output
    out: Path | None = None  # JSON file to write as well


def main(argv: Sequence[str]) -> int:
    """Parse, measure, print."""
    config = parse(ServeBenchConfig, argv, prog="robot-rl bench serve", description=DESCRIPTION)
    result = measure(config)
    return deliver(result, lambda: _print(result), as_json=config.json, out=config.out)


def measure(config: ServeBenchConfig) -> dict[str, Any]:
    """The policy alone, then both loops in turns."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        policy = Policy.load(untrained_bundle(folder, config.rate_hz, config.hidden))
        alone = _policy_alone(policy, config.calls)
        report, empty, said = _in_turns(config, policy, folder)
        recorded = sum(file.stat().st_size for file in folder.glob("*.mcap"))
    return {
        "machine": machine(),
        "rate_hz": config.rate_hz,
        "seconds": config.seconds,
        "stretch_s": config.stretch_s,
        "hidden": list(config.hidden),
        "realtime": said,
        "policy_call_us": asdict(alone),
        "tick": report.to_dict(),
        "overhead_p50_us": report.compute.p50 - alone.p50,
        "recorded_bytes": recorded,
        "empty": _together(empty),
    }


def untrained_bundle(folder: Path, rate_hz: int, hidden: tuple[int, ...]) -> Path:
    """A bundle with random weights for the virtual arm, made by a process that may import torch."""
    bundle = folder / "bundle"
    words = [str(bundle), str(rate_hz), *map(str, hidden)]
    subprocess.run([sys.executable, "-m", "deploy.bench.untrained", *words], check=True, capture_output=True)
    return bundle


def _policy_alone(policy: Policy, calls: int) -> Spread:
    obs = np.zeros(policy.contract.spec.obs_dim, np.float32)
    return _timed(lambda: policy.act(obs), calls)


def _timed(call: Callable[[], object], calls: int) -> Spread:
    spent = np.zeros(calls)
    for _ in range(100):
        call()
    for i in range(calls):
        start = time.perf_counter_ns()
        call()
        spent[i] = time.perf_counter_ns() - start
    return Spread.of(spent / 1e3)


def _in_turns(config: ServeBenchConfig, policy: Policy, folder: Path) -> tuple[ServeReport, list[Pacer], list[str]]:
    virtual = load_arm("virtual")
    arm = _TurnTaker(config, joints=len(virtual.joints))
    arm.connect()
    limits = virtual.at_rate(config.rate_hz).limits()
    plan = RealtimePlan(fifo=config.realtime, lock_memory=config.realtime, core=config.core)
    try:
        with (
            Recorder(folder / "session.mcap", arm.spec, policy.contract) as recorder,
            realtime(plan, recorder.thread_id) as said,
        ):
            arm.let_empty_loop_run()
            report = serve(policy, arm, Supervisor(limits), ServePlan(duration_s=config.seconds), log=recorder)
            return report, arm.empty, list(said)
    finally:
        arm.close()


class _TurnTaker(MujocoArm):
    """The virtual arm; its episodes are the full loop's stretches, and the empty loop has the resets between."""

    def __init__(self, config: ServeBenchConfig, *, joints: int) -> None:
        self._stretch = max(1, round(config.rate_hz * min(config.stretch_s, config.seconds)))
        super().__init__(
            "virtual", "VirtualArm-v1", joints=joints, rate_hz=config.rate_hz, max_episode_steps=self._stretch
        )
        self._left = round(config.rate_hz * config.seconds)  # ticks of the empty loop
        self.empty: list[Pacer] = []

    def restart(self, seed: int | None = None) -> None:
        if self.empty:
            self.let_empty_loop_run()
        super().restart(seed)

    def let_empty_loop_run(self) -> None:
        ticks = min(self._stretch, self._left)
        if ticks < 1:
            return
        self._left -= ticks
        pacer = Pacer(self._rate_hz, (), kept_ticks=ticks)
        for _ in range(ticks):
            pacer.wait()
        self.empty.append(pacer)


def _together(loops: list[Pacer]) -> dict[str, Any]:
    lateness = Spread.of(np.concatenate([p.lateness_us() for p in loops]))
    ticks, missed = sum(p.ticks for p in loops), sum(p.missed for p in loops)
    return {"ticks": ticks, "missed": missed, "lateness_us": asdict(lateness)}


def _print(result: dict[str, Any]) -> None:
    tick, empty, alone = result["tick"], result["empty"], result["policy_call_us"]
    seconds, rate = result["seconds"], result["rate_hz"]
    table = Table(title=f"Control tick, {rate} Hz for {seconds:g} s", title_justify="left")
    for column in ("microseconds", "min", "p50", "p99", "p99.9", "max"):
        table.add_column(column, justify="left" if column == "microseconds" else "right")
    rows = [
        ("policy call alone", alone),
        ("work of the tick", tick["compute_us"]),
        *((f"  {name}", spread) for name, spread in tick["phases_us"].items() if name != "physics"),
        ("physics, beside the tick", tick["phases_us"]["physics"]),
        ("lateness", tick["lateness_us"]),
        ("lateness, empty loop", empty["lateness_us"]),
    ]
    for name, spread in rows:
        table.add_row(name, *(f"{spread[key]:,.1f}" for key in ("min", "p50", "p99", "p999", "max")))
    out = make_console()
    out.print(table)
    for name, loop in (("full tick", tick), ("empty loop", empty)):
        deadlines = loop["ticks"] + loop["missed"]
        out.print(f"{name}: {loop['missed']:,} of {deadlines:,} deadlines missed ({loop['missed'] / deadlines:.3%})")
    out.print(f"overhead over the policy call: {result['overhead_p50_us']:.1f} us at the median")
    out.print(f"recorded {result['recorded_bytes'] / 1e6:.1f} MB; {', '.join(result['realtime']) or 'no realtime'}")
    out.print(str(result["machine"]), markup=False)
