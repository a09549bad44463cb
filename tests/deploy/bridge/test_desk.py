"""The learner's decisions, without sockets: whom it answers what, and when it sends weights."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from deploy.bridge import messages as m
from deploy.bridge.desk import WEIGHTS_AGAIN_MAX_S, WEIGHTS_AGAIN_S, Desk, NewestWeights
from robot_rl.data.replay_log import ReplayLog
from tests.deploy.bridge.made import make_spec

ACTOR = b"a" * 16
SPEC = json.dumps(make_spec().to_dict()).encode()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    log = ReplayLog(tmp_path / "log", make_spec(), sync_ms=0)
    yield Desk(log)
    log.close()


def hello(spec: bytes = SPEC) -> m.Hello:
    return m.Hello(session=ACTOR, sequence=0, name="arm", spec=spec, oldest=0)


def beat(weights_version: int) -> m.ActorBeat:
    return m.ActorBeat(
        session=ACTOR, sequence=0, policy_version=0, policy_age_s=0.0, weights_version=weights_version, backlog=0,
        latency_us=0, clock_us=0, hold="",
    )  # fmt: skip


def sent(desk: Desk) -> list[int]:
    """Versions of the weights that went out since the last call."""
    found = [message.version for _, message in desk.out if isinstance(message, m.Weights)]
    desk.out.clear()
    return found


def publish(desk: Desk, version: int) -> None:
    desk.weights = NewestWeights(version=version, sha256="0" * 64, model=b"")


def test_what_no_text_can_hold_is_refused_in_words_that_can_be_sent(desk: Desk) -> None:
    odd = make_spec().to_dict() | {"control": "\ud800"}
    desk.take(b"route", hello(json.dumps(odd).encode()), 0.0)
    _, answer = desk.out.popleft()
    assert isinstance(answer, m.Refusal)
    assert m.decode_from_learner(bytes(m.encode(answer))) == answer
    assert "control" in answer.reason


def test_weights_never_queue_behind_each_other(desk: Desk) -> None:
    publish(desk, 1)
    desk.take(b"route", hello(), 0.0)
    desk.settle(0.0)
    assert sent(desk) == [1]
    publish(desk, 2)
    desk.take(b"route", beat(m.NO_WEIGHTS), 0.5)
    desk.settle(0.5)
    assert sent(desk) == []  # the first are on their way
    desk.take(b"route", beat(1), 0.8)
    desk.settle(0.8)
    assert sent(desk) == [2]
    desk.take(b"route", beat(2), 0.9)
    desk.settle(99.0)
    assert sent(desk) == []


def test_weights_that_do_not_arrive_come_again_and_ever_later(desk: Desk) -> None:
    publish(desk, 1)
    desk.take(b"route", hello(), 0.0)
    when: list[float] = []
    for tick in range(1200):
        now = tick / 10
        desk.take(b"route", beat(m.NO_WEIGHTS), now)
        desk.settle(now)
        when += [now] * len(sent(desk))
    waits = [b - a for a, b in pairwise(when)]
    assert waits[:5] == pytest.approx([WEIGHTS_AGAIN_S * 2**i for i in range(5)], abs=0.15)
    assert waits[-1] == pytest.approx(WEIGHTS_AGAIN_MAX_S, abs=0.15)
    desk.take(b"route", hello(), 120.0)  # connected anew
    desk.settle(120.0)
    assert sent(desk) == [1]
