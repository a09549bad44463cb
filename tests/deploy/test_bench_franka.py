"""The parts of `robot-rl bench franka` that need no simulator."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from deploy.bench import franka
from deploy.bench.franka_link import CONNECT, HEADER, PORT
from robot_rl.errors import ConfigError

HERE, ROBOT = "127.0.0.94", "127.0.0.95"


def udp(host: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((host, 0))
    made.settimeout(10)
    return made


def reached() -> socket.socket:
    for _ in range(100):
        with suppress(OSError):
            return socket.create_connection((HERE, PORT), 10)
        time.sleep(0.1)
    raise AssertionError("the line did not answer")


def test_the_line_forwards_both_channels_and_only_packets_are_late() -> None:
    words = [sys.executable, "-m", "deploy.bench.franka_link", HERE, ROBOT, "200", "250"]
    line = subprocess.Popen(words)
    try:
        with (
            socket.create_server((ROBOT, PORT)) as server,
            udp("127.0.0.1") as client_udp,  # where the command channel comes from
            udp(ROBOT) as robot_udp,
            reached() as client,
        ):
            robot, _ = server.accept()
            with robot:
                hello = HEADER.pack(0, 1, HEADER.size + CONNECT.size)
                client.sendall(hello + CONNECT.pack(9, client_udp.getsockname()[1]))
                heard = robot.recv(100)
                assert heard[: HEADER.size] == hello
                version, port = CONNECT.unpack(heard[HEADER.size :])
                assert version == 9
                assert port != client_udp.getsockname()[1]  # the robot's packets have to come through here
                robot.sendall(b"ok")
                assert client.recv(100) == b"ok"
                begun = time.monotonic()
                for number in (b"1", b"2", b"3"):
                    robot_udp.sendto(number, (HERE, port))
                packets = [client_udp.recvfrom(100) for _ in range(3)]
                assert time.monotonic() - begun >= 0.2
                assert [data for data, _ in packets] == [b"1", b"2", b"3"]
                client_udp.sendto(b"command", packets[0][1])
                assert robot_udp.recv(100) == b"command"
    finally:
        line.kill()
        line.wait()


def test_without_the_simulator_it_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing is not there\. Run `make franka-sim` once"):
        franka.main(["--simulator", str(tmp_path / "nothing")])


def test_figures_are_told_as_a_table() -> None:
    spread = {"min": 1.0, "p50": 10_000.4, "p99": 3.0, "p999": 4.0, "max": 5.0}
    run = {
        "ending": "duration reached",
        "ticks": 30_000,
        "missed": 2,
        "verdicts": {"passed": 29_999, "held": 1},
        "period_us": spread,
        "lateness_us": spread,
        "compute_us": spread,
        "phases_us": {"read": spread},
    }
    faults = [franka.row("kill -9", "nothing", "ArmError")]
    result = {"machine": {}, "load_average": [1.0], "note": "Busy.", "seconds": 300.0, "rate_hz": 100.0}
    text = franka.markdown({**result, "states_hz": 999.6, "steady": run, "faults": faults})
    assert "state at 1000 Hz" in text
    assert "Busy." in text
    assert "300 s: duration reached, 30,000 ticks, 2 deadlines missed; 29,999 passed, 1 held." in text
    assert "| of it: read | 1 | 10,000 | 3 | 4 | 5 |" in text
    assert "| kill -9 | nothing | ArmError |" in text
