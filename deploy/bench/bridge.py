"""`robot-rl bench bridge`: what the bridge carries, what it costs the tick, how soon weights arrive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from deploy.bench.made import HIDDEN, made_model, made_spec, stamped
from deploy.bridge.learner import LearnerHub
from robot_rl.bench.deliver import deliver
from robot_rl.bench.machine import machine
from robot_rl.config import parse
from robot_rl.console import make_console
from robot_rl.data.replay_log import ReplayLog

DESCRIPTION = """\
Measure the bridge on loopback: one actor process with its spool on disk, one learner process with its replay
log on disk and synced. Transitions per second from publish to durable; what one publish costs a simulated
control tick, beside the same tick around nothing but a copy; and the time from publishing weights to the tick
that swaps them in. Each is measured in rounds; the median round is reported with the worst and the best."""
GOALS = {"stored_per_s": 100_000, "publish_us_p50": 10, "publish_us_p99": 100, "swap_ms_p50": 50}


@dataclass(frozen=True, kw_only=True)
class BridgeBenchConfig:
    """Benchmark of the bridge."""

    obs_dim: int = 50  # observation width
    action_dim: int = 7  # action width
    rounds: int = 3  # of each measurement
    seconds: float = 4.0  # of a round
    rate_hz: float = 500.0  # of the simulated control tick
    weights_hz: float = 5.0  # weight updates per second
    folder: Path | None = None  # where spool and log go; default a temporary folder
    out: Path | None = None  # also write the JSON here
    json: bool = False  # one JSON object on standard output


def main(argv: Sequence[str]) -> int:
    """Parse, measure, print."""
    config = parse(BridgeBenchConfig, argv, prog="robot-rl bench bridge", description=DESCRIPTION)
    with tempfile.TemporaryDirectory(dir=config.folder, prefix="bench-bridge-") as work:
        result = measure(config, Path(work))
    return deliver(result, lambda: _print(result), as_json=config.json, out=config.out)


def measure(config: BridgeBenchConfig, work: Path) -> dict[str, Any]:
    """All rounds of all measurements."""
    rounds: list[dict[str, float]] = []
    load = os.getloadavg()[0]
    for i in range(config.rounds):
        folder = work / str(i)
        stream, learner_cpu = _actor(config, folder / "stream", "stream")
        tick, _ = _actor(config, folder / "tick", "tick")
        nothing, _ = _actor(config, folder / "nothing", "nothing")
        weights, delays = _weights(config, folder / "weights")
        rounds.append(
            {
                "stored_per_s": stream["stored_per_s"],
                "taken_per_s": stream["taken_per_s"],
                "actor_cpu_us_each": stream["cpu_us_each"],
                "learner_cpu_us_each": learner_cpu / stream["count"] * 1e6,
                **_spread("publish_us", tick["publish_us"]),
                **_spread("copy_alone_us", nothing["publish_us"]),
                **_spread("publish_during_updates_us", weights["publish_us"]),
                **_spread("swap_ms", delays),
                "swaps": len(delays),
            }
        )
    figures = {
        key: {
            "median": float(np.median([r[key] for r in rounds])),
            "rounds": [round(r[key], 3) for r in rounds],
        }
        for key in rounds[0]
    }
    return {
        "machine": machine(),
        "load_average_before": round(load, 2),
        "obs_dim": config.obs_dim,
        "action_dim": config.action_dim,
        "tick_hz": config.rate_hz,
        "seconds_a_round": config.seconds,
        "policy": "256x256",
        "goals": GOALS,
        "figures": figures,
    }


def _actor(
    config: BridgeBenchConfig, folder: Path, mode: str, meanwhile: Callable[[LearnerHub], None] | None = None
) -> tuple[dict[str, Any], float]:
    """Run an actor process against a hub in this one; its answer, and the CPU seconds spent here."""
    spec = made_spec(config.obs_dim, config.action_dim)
    plan = {
        "mode": mode,
        "obs_dim": config.obs_dim,
        "action_dim": config.action_dim,
        "seconds": config.seconds,
        "rate_hz": config.rate_hz,
        "spool": str(folder / "spool"),
    }
    with closing(ReplayLog(folder / "log", spec)) as log, closing(LearnerHub("tcp://127.0.0.1:*", log)) as hub:
        cpu = time.process_time()
        words = [sys.executable, "-m", "deploy.bench.bridge_actor", json.dumps(plan | {"address": hub.address})]
        child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        helper = threading.Thread(target=meanwhile, args=(hub,)) if meanwhile else None
        if helper:
            helper.start()
        answer = child.communicate()[0]
        if helper:
            helper.join()
        if child.returncode:
            raise RuntimeError(f"the actor process ended with status {child.returncode}")
        return json.loads(answer), time.process_time() - cpu


def _weights(config: BridgeBenchConfig, folder: Path) -> tuple[dict[str, Any], list[float]]:
    """Delays from publish to swap, ms, and what the tick saw meanwhile."""
    spec = made_spec(config.obs_dim, config.action_dim)
    model = made_model(spec, HIDDEN)
    published: dict[int, int] = {}

    def publish(hub: LearnerHub) -> None:
        while not any(a.alive for a in hub.actors()):
            time.sleep(0.01)
        for version in range(1, max(2, int(config.seconds * config.weights_hz))):
            bundle = stamped(model, spec, version)
            published[version] = time.monotonic_ns()
            hub.publish_weights(bundle, version)
            time.sleep(1 / config.weights_hz)

    answer, _ = _actor(config, folder, "tick", publish)
    swapped = {int(version): at for version, at in answer["swapped_ns"].items()}
    return answer, [(at - published[version]) / 1e6 for version, at in swapped.items()]


def _spread(name: str, values: list[float]) -> dict[str, float]:
    p50, p99, worst = np.percentile(values, [50, 99, 100])
    return {f"{name}_p50": float(p50), f"{name}_p99": float(p99), f"{name}_max": float(worst)}


def _print(result: dict[str, Any]) -> None:
    table = Table(title="Bridge, one actor process and one learner process on loopback", title_justify="left")
    for column in ("figure", "median round", "all rounds", "goal"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for key, row in result["figures"].items():
        goal = result["goals"].get(key)
        sign = "" if goal is None else (">= " if key == "stored_per_s" else "<= ") + f"{goal:,}"
        spread = ", ".join(f"{v:,.1f}" for v in row["rounds"])
        table.add_row(key, f"{row['median']:,.1f}", spread, sign)
    out = make_console()
    out.print(table)
    out.print(f"load average before: {result['load_average_before']}; {result['machine']}", markup=False)
