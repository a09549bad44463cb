"""A TCP proxy on loopback that spoils what passes, on command."""

from __future__ import annotations

import random
import selectors
import socket
import threading
import time
from contextlib import suppress
from typing import Literal

Fault = Literal["none", "drop", "delay", "duplicate", "truncate", "flip", "hang"]
CHUNK = 16_384
DELAY_S = 0.15


class Proxy:
    """Forwards between actors and the learner at `target`.

    `fault`: "drop" cuts connections, "delay" holds bytes back, "duplicate" sends some twice, "truncate" loses
    some out of the middle, "flip" inverts a bit, "hang" forwards nothing and keeps connections open.

    `spoiled` counts the pieces of the streams that were spoiled, and for "hang" the waits.

    Args:
        target: Port of the learner, on loopback.
        seed: Of the spoiling.
    """

    def __init__(self, target: int, seed: int) -> None:
        self.fault: Fault = "none"
        self.spoiled = 0
        self._target = target
        self._random = random.Random(seed)  # noqa: S311 - faults, not secrets
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="chaos-proxy", daemon=True)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread.start()

    def close(self) -> None:
        """Cut everything and end."""
        self._closing = True
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._closing:
            if self.fault == "hang":
                self.spoiled += 1
                time.sleep(0.01)
                continue
            for key, _ in self._selector.select(0.05):
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj.fileno() >= 0:
                    self._forward(key.fileobj, key.data)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=1)
        except OSError:  # the learner is away
            client.close()
            return
        for a, b in ((client, server), (server, client)):
            a.settimeout(2)
            self._selector.register(a, selectors.EVENT_READ, b)

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        try:
            data = source.recv(CHUNK)
            if not data:
                raise ConnectionError
            if self.fault == "drop" and self._random.random() < 0.2:
                self.spoiled += 1
                raise ConnectionError
            target.sendall(self._spoil(data))
        except OSError:
            for end in (source, target):
                with suppress(KeyError):
                    self._selector.unregister(end)
                end.close()

    def _spoil(self, data: bytes) -> bytes:
        fault, at = self.fault, self._random.randrange(len(data))
        if fault == "delay":
            self.spoiled += 1
            time.sleep(self._random.uniform(0, DELAY_S))
        if fault in ("none", "drop", "delay", "hang") or self._random.random() > 0.1:
            return data
        self.spoiled += 1
        match fault:
            case "flip":
                return data[:at] + bytes([data[at] ^ (1 << self._random.randrange(8))]) + data[at + 1 :]
            case "truncate":
                return data[:at] + data[at + self._random.randint(1, 400) :]
            case _:
                return data[:at] + data[at : at + 400] + data[at:]
