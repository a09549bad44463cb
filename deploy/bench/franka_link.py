"""A line to a simulated Franka on which packets are late.

    python -m deploy.bench.franka_link HERE TARGET LOW_MS HIGH_MS

Listens at address HERE for what would connect to TARGET, both on loopback, and forwards the command channel (TCP)
at once and the 1 kHz state and command packets (UDP) after LOW_MS to HIGH_MS, drawn anew for each, in order. The
robot learns the client's UDP port from the first message of the command channel (libfranka's protocol: a header
of three uint32, then the version and the port as uint16), so this puts its own there.
"""

from __future__ import annotations

import random
import select
import socket
import struct
import sys
import time
from collections import deque

PORT = 1337
HEADER = struct.Struct("<III")
CONNECT = struct.Struct("<HH")
PACKET = 65_536


class Line:
    """One connection through here.

    Args:
        client: Its command channel.
        target: Address of the simulator.
        delay_s: Shortest and longest lateness, s.
    """

    def __init__(self, client: socket.socket, target: str, delay_s: tuple[float, float]) -> None:
        self._client, self._delay = client, delay_s
        self._robot = socket.create_connection((target, PORT))
        for end in (self._client, self._robot):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("0.0.0.0", 0))  # noqa: S104 - the robot answers to the interface the command channel came from
        self._client_port = 0
        self._robot_at: tuple[str, int] | None = None
        self._late: deque[tuple[float, bytes, tuple[str, int]]] = deque()
        self._random = random.Random(0)  # noqa: S311 - lateness, not secrets

    def run(self) -> None:
        """Forward until either end is gone."""
        ends = [self._client, self._robot, self._udp]
        while True:
            wait = max(0.0, self._late[0][0] - time.monotonic()) if self._late else 0.05
            ready, _, _ = select.select(ends, [], [], wait)
            for end in ready:
                if end is self._udp:
                    self._take()
                elif not self._forward(end):
                    return
            now = time.monotonic()
            while self._late and self._late[0][0] <= now:
                _, packet, to = self._late.popleft()
                self._udp.sendto(packet, to)

    def _forward(self, end: socket.socket) -> bool:
        data = end.recv(PACKET)
        if not data:
            return False
        if end is self._client and not self._client_port:
            version, self._client_port = CONNECT.unpack_from(data, HEADER.size)
            mine = CONNECT.pack(version, self._udp.getsockname()[1])
            data = data[: HEADER.size] + mine + data[HEADER.size + CONNECT.size :]
        (self._robot if end is self._client else self._client).sendall(data)
        return True

    def _take(self) -> None:
        packet, sender = self._udp.recvfrom(PACKET)
        if sender[1] == self._client_port:
            to = self._robot_at
        else:
            self._robot_at, to = sender, (self._client.getpeername()[0], self._client_port)
        if to is not None:
            due = time.monotonic() + self._random.uniform(*self._delay)
            self._late.append((max(due, self._late[-1][0] if self._late else due), packet, to))


def main(here: str, target: str, low_ms: float, high_ms: float) -> None:
    """Serve one connection after another."""
    with socket.create_server((here, PORT)) as server:
        while True:
            client, _ = server.accept()
            with client:
                Line(client, target, (low_ms / 1e3, high_ms / 1e3)).run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
