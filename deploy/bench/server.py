"""`robot-rl bench server`: round trips to a policy server, beside a bare ZeroMQ echo; one client and several."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
import zmq
from rich.console import Console
from rich.table import Table

from deploy.bench.serve import untrained_bundle
from deploy.control.rate import Spread
from deploy.server.client import RemotePolicy
from deploy.server.server import AT_ONCE
from deploy.server.wire import VERSION, Request
from robot_rl.bench.deliver import deliver
from robot_rl.bench.machine import machine
from robot_rl.config import parse
from robot_rl.console import make_console
from robot_rl.errors import PolicyServerError

DESCRIPTION = """Measure how long an action takes from `robot-rl serve --listen` on loopback: one client beside an echo
of the same number of bytes, in turns; then several clients that each ask again as soon as they are answered,
with their observations in one call of the policy and one by one. Servers are processes of their own."""
RATE_HZ = 50


@dataclass(frozen=True, kw_only=True)
class ServerBenchConfig:
    """Benchmark of the policy server."""

    calls: int = 5000  # round trips of each kind
    hidden: tuple[int, ...] = (256, 256)  # layers of the policy
    clients: tuple[int, ...] = (1, 4, 16)  # how many ask at once
    json: bool = False  # one JSON object on standard output


def main(argv: Sequence[str]) -> int:
    """Parse, measure, print."""
    config = parse(ServerBenchConfig, argv, prog="robot-rl bench server", description=DESCRIPTION)
    result = measure(config)
    return deliver(result, lambda: _print(make_console(), result), as_json=config.json)


def measure(config: ServerBenchConfig) -> dict[str, Any]:
    """One client beside the echo, then each number of clients both ways."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        bundle = untrained_bundle(Path(scratch), RATE_HZ, config.hidden)
        beside = _beside_echo(bundle, config.calls)
        several = [
            _several(bundle, count, config.calls, batch)
            for count in config.clients
            for batch in (AT_ONCE, 1)
            if count > 1 or batch > 1
        ]
    return {
        "machine": machine(),
        "load_before": load,
        "hidden": list(config.hidden),
        "ratio": beside["policy server"].p50 / beside["bare echo"].p50,
        **{name: asdict(spread) for name, spread in beside.items()},
        "several": several,
    }


def _beside_echo(bundle: Path, calls: int) -> dict[str, Spread]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with _server(bundle, AT_ONCE) as (address, _), _echo() as echo_address:
        remote, echo = RemotePolicy(address, deadline_s=5.0), context.socket(zmq.DEALER)
        echo.connect(echo_address)
        obs = np.zeros(remote.contract.spec.obs_dim, np.float32)
        frames = [b"", _request(obs.nbytes)]

        def bare() -> None:
            echo.send_multipart(frames)
            echo.recv_multipart()

        spent = _in_turns({"policy server": lambda: remote.act(obs), "bare echo": bare}, calls)
        remote.close()
    context.destroy(0)
    return spent


def _several(bundle: Path, count: int, calls: int, batch: int) -> dict[str, Any]:
    """Ask over `count` connections, each with one request under way, `calls` times in all."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with _server(bundle, batch) as (address, ended):
        remote = RemotePolicy(address)
        request, poller = _request(remote.contract.spec.obs_dim * 4), zmq.Poller()
        remote.close()
        for _ in range(count):
            socket = context.socket(zmq.DEALER)
            socket.connect(address)
            poller.register(socket, zmq.POLLIN)
        spent_us = _keep_asking(poller, [b"", request], calls)
        took_s = spent_us.pop()
        context.destroy(0)
        policy_calls = ended()["policy_calls"]
    answers = len(spent_us)
    return {
        "clients": count,
        "batched": batch > 1,
        "answers_per_s": answers / took_s,
        "answers_per_policy_call": answers / policy_calls,
        "round_trip_us": asdict(Spread.of(np.array(spent_us))),
    }


def _keep_asking(poller: zmq.Poller, frames: list[bytes], calls: int) -> list[float]:
    """Round trips, us, and at the end the time that all of them took, s."""
    sent_ns: dict[Any, int] = {}
    sockets = [socket for socket, _ in poller.sockets]
    spent_us: list[float] = []
    start = time.perf_counter()
    for socket in sockets:
        sent_ns[socket] = time.perf_counter_ns()
        socket.send_multipart(frames)
    asked = len(sockets)
    while len(spent_us) < asked:
        for socket, _ in poller.poll():
            socket.recv_multipart()
            now_ns = time.perf_counter_ns()
            spent_us.append((now_ns - sent_ns[socket]) / 1e3)
            if asked < calls:
                asked += 1
                sent_ns[socket] = now_ns
                socket.send_multipart(frames)
    return [*spent_us, time.perf_counter() - start]


def _request(obs_bytes: int) -> bytes:
    return msgspec.msgpack.encode(Request(VERSION, 1, bytes(obs_bytes)))


@contextmanager
def _server(bundle: Path, batch: int) -> Generator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Address of a server process, and what ends it and gives its last words."""
    words = [
        "robot_rl.cli",
        "serve",
        str(bundle),
        "--listen",
        "tcp://127.0.0.1:*",
        "--json",
        "--batch",
        str(batch),
    ]
    with _process(words, stderr=subprocess.PIPE) as process:
        said = ""
        for line in _stream(process.stderr):
            said += line
            if "answering at " in line:
                break
        else:
            raise PolicyServerError(f"The server ended before it listened: {said}")

        def end() -> dict[str, Any]:
            process.send_signal(signal.SIGINT)
            return json.loads(_stream(process.stdout).read())

        yield said.split("answering at ")[1].split(",")[0], end


@contextmanager
def _echo() -> Generator[str]:
    with _process(["deploy.bench.echo"], stdin=subprocess.PIPE) as process:
        yield _stream(process.stdout).readline().strip()


@contextmanager
def _process(words: list[str], stdin: int | None = None, stderr: int | None = None) -> Generator[subprocess.Popen[str]]:
    command = [sys.executable, "-P", "-m", *words]
    with subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def _stream(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise RuntimeError("the process was started without this pipe")
    return pipe


def _in_turns(calls: dict[str, Callable[[], object]], count: int) -> dict[str, Spread]:
    spent = {name: np.zeros(count) for name in calls}
    for i in range(count):
        for name, call in calls.items():
            start = time.perf_counter_ns()
            call()
            spent[name][i] = time.perf_counter_ns() - start
    return {name: Spread.of(values / 1e3) for name, values in spent.items()}


def _print(out: Console, result: dict[str, Any]) -> None:
    table = Table(title="Round trips, microseconds", title_justify="left")
    for column in ("", "min", "p50", "p99", "p99.9", "max", "answers/s", "a call"):
        table.add_column(column, justify="right" if column else "left")
    for name in ("policy server", "bare echo"):
        table.add_row(name, *_numbers(result[name]))
    for row in result["several"]:
        name = f"{row['clients']} clients" + ("" if row["batched"] else ", 1 by 1")
        rate, size = row["answers_per_s"], row["answers_per_policy_call"]
        table.add_row(name, *_numbers(row["round_trip_us"]), f"{rate:,.0f}", f"{size:.1f}")
    out.print(table)
    out.print(f"policy server / bare echo at the median: {result['ratio']:.2f}")
    out.print(f"{result['machine']}, load before {result['load_before']:.1f}", markup=False)


def _numbers(spread: dict[str, float]) -> list[str]:
    return [f"{spread[key]:,.0f}" for key in ("min", "p50", "p99", "p999", "max")]
