"""`robot-rl bench server`: round trips to a policy server, beside a bare ZeroMQ echo of the same sizes."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from rich.console import Console
from rich.table import Table

from deploy.bench.serve import untrained_bundle
from deploy.policy import Policy
from deploy.policy_client import RemotePolicy
from deploy.policy_server import PolicyServer
from deploy.rate import Spread
from robot_rl.bench.machine import machine
from robot_rl.config import parse
from robot_rl.console import print_json

DESCRIPTION = """Measure how long an action takes from a policy server on loopback, beside an echo of the same number of
bytes over the same kinds of sockets, in turns."""


@dataclass(frozen=True, kw_only=True)
class ServerBenchConfig:
    """Benchmark of the policy server."""

    calls: int = 5000  # round trips of each
    hidden: tuple[int, ...] = (256, 256)  # layers of the policy
    json: bool = False  # one JSON object on standard output


def main(argv: Sequence[str]) -> int:
    """Parse, measure, print."""
    config = parse(ServerBenchConfig, argv, prog="robot-rl bench server", description=DESCRIPTION)
    result = measure(config)
    if config.json:
        print_json(result)
        return 0
    table = Table(title="Round trips", title_justify="left")
    for column in ("microseconds", "min", "p50", "p99", "p99.9", "max"):
        table.add_column(column, justify="left" if column == "microseconds" else "right")
    for name in ("policy server", "bare echo"):
        table.add_row(name, *(f"{result[name][key]:,.0f}" for key in ("min", "p50", "p99", "p999", "max")))
    out = Console(highlight=False)
    out.print(table)
    out.print(f"policy server / bare echo at the median: {result['ratio']:.2f}")
    out.print(str(result["machine"]), markup=False)
    return 0


def measure(config: ServerBenchConfig) -> dict[str, Any]:
    """Ask both in turns."""
    with tempfile.TemporaryDirectory() as scratch:
        policy = Policy.load(untrained_bundle(Path(scratch), 50, config.hidden))
    server, stop = PolicyServer(policy, "tcp://127.0.0.1:0"), threading.Event()
    context = zmq.Context()
    echo, ask = context.socket(zmq.ROUTER), context.socket(zmq.REQ)
    echo.bind("tcp://127.0.0.1:0")
    ask.connect(str(echo.getsockopt_string(zmq.LAST_ENDPOINT)))
    threads = [
        threading.Thread(target=server.run, args=(stop,)),
        threading.Thread(target=_echo, args=(echo, stop)),
    ]
    for thread in threads:
        thread.start()
    remote = RemotePolicy(server.address, deadline_s=5.0)
    obs = np.zeros(policy.contract.spec.obs_dim, np.float32)
    content = obs.tobytes() + bytes(32)

    def bare() -> None:
        ask.send(content)
        ask.recv()

    spent = _in_turns({"policy server": lambda: remote.act(obs), "bare echo": bare}, config.calls)
    stop.set()
    for thread in threads:
        thread.join()
    for closing in (remote, server, ask, echo, context):
        closing.close() if not isinstance(closing, zmq.Context) else closing.term()
    ratio = spent["policy server"].p50 / spent["bare echo"].p50
    return {"machine": machine(), "ratio": ratio, **{name: asdict(spread) for name, spread in spent.items()}}


def _in_turns(calls: dict[str, Callable[[], object]], count: int) -> dict[str, Spread]:
    spent = {name: np.zeros(count) for name in calls}
    for i in range(count):
        for name, call in calls.items():
            start = time.perf_counter_ns()
            call()
            spent[name][i] = time.perf_counter_ns() - start
    return {name: Spread.of(values / 1e3) for name, values in spent.items()}


def _echo(socket: zmq.Socket[bytes], stop: threading.Event) -> None:
    while not stop.is_set():
        if socket.poll(100):
            socket.send_multipart(socket.recv_multipart())
