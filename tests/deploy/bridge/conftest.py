"""Two ends of a bridge on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from deploy.bridge.actor import ActorLink
from deploy.bridge.learner import LearnerHub
from robot_rl.data.replay_log import ReplayLog
from tests.deploy.bridge.made import make_spec

FREE_PORT = "tcp://127.0.0.1:*"


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def start_hub(tmp_path: Path, closing: ExitStack) -> Callable[..., LearnerHub]:
    def start(bind: str = FREE_PORT, folder: str = "log", spec: Any = None, **kwargs: Any) -> LearnerHub:
        log = ReplayLog(tmp_path / folder, spec or make_spec(), sync_ms=10)
        closing.callback(log.close)
        hub = LearnerHub(bind, log, **kwargs)
        closing.callback(hub.close)
        return hub

    return start


@pytest.fixture
def start_link(tmp_path: Path, closing: ExitStack) -> Callable[..., ActorLink]:
    def start(address: str, folder: str = "spool", spec: Any = None, **kwargs: Any) -> ActorLink:
        link = ActorLink(address, tmp_path / folder, spec or make_spec(), **kwargs)
        closing.callback(link.close)
        return link

    return start
