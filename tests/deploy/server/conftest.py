"""A policy server in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from deploy.bundle.contract import Contract
from deploy.bundle.policy import Policy
from deploy.network.keys import KeyFolder, Keys
from deploy.server.server import PolicyServer

FREE_PORT = "tcp://127.0.0.1:*"


class Served:
    """A server whose thread runs between `start` and `stop`; requests wait while it does not."""

    def __init__(self, server: PolicyServer) -> None:
        self.server, self.address = server, server.address.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - with keys
        self._stop = threading.Event()
        self._thread = threading.Thread(target=server.run, args=(self._stop,))

    def start(self) -> Served:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.server.close()


@pytest.fixture
def make_server(bundle: tuple[Path, Contract]) -> Iterator[Callable[..., Served]]:
    with ExitStack() as stack:

        def make(address: str = FREE_PORT, **kwargs: Any) -> Served:
            served = Served(PolicyServer(Policy.load(bundle[0]), address, **kwargs))
            stack.callback(served.stop)
            return served

        yield make


@pytest.fixture
def served(make_server: Callable[..., Served]) -> Served:
    return make_server().start()


@pytest.fixture
def key_folders(tmp_path: Path) -> tuple[KeyFolder, KeyFolder]:
    """The server's keys and a client's, each allowing the other."""
    server, client = KeyFolder(tmp_path / "server-keys"), KeyFolder(tmp_path / "client-keys")
    client.allow("server", server.new("server"))
    server.allow("cell", client.new("cell"))
    return server, client


@pytest.fixture
def keyed(make_server: Callable[..., Served], key_folders: tuple[KeyFolder, KeyFolder]) -> Served:
    return make_server("tcp://0.0.0.0:*", keys=Keys(folder=key_folders[0], own="server")).start()


@pytest.fixture
def client_keys(key_folders: tuple[KeyFolder, KeyFolder]) -> Keys:
    return Keys(folder=key_folders[1], own="cell", peer="server")
