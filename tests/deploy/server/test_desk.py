"""What is answered, without sockets."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deploy.bundle.contract import MODEL_FILE, Contract
from deploy.bundle.policy import Policy
from deploy.server.desk import Desk
from deploy.server.wire import VERSION, Answer, Request
from robot_rl.errors import BundleError
from robot_rl.spec import Array

Bundle = tuple[Path, Contract]
AT_ONCE = 8
encode = msgspec.msgpack.encode


@pytest.fixture(scope="module")
def policy(bundle: Bundle) -> Policy:
    return Policy.load(bundle[0])


@pytest.fixture(scope="module")
def desk(policy: Policy) -> Desk:
    return Desk(policy, AT_ONCE)


def observations(policy: Policy, count: int) -> Array:
    return np.random.default_rng(0).normal(size=(count, policy.contract.spec.obs_dim)).astype(np.float32)


def test_what_came_together_takes_one_call_and_each_gets_its_own(desk: Desk, policy: Policy) -> None:
    obs = observations(policy, AT_ONCE)
    before = desk.calls
    answers = desk.answers([encode(Request(VERSION, 10 + i, o.tobytes())) for i, o in enumerate(obs)])
    assert desk.calls == before + 1
    assert [a.id for a in answers] == list(range(10, 10 + AT_ONCE))
    for answer, o in zip(answers, obs, strict=True):
        alone = policy.act(o)
        np.testing.assert_allclose(np.frombuffer(answer.action, "<f4"), alone, atol=policy.contract.parity.tolerance)
        assert answer.weight_version == 1234
    assert len({a.action for a in answers}) == AT_ONCE


def test_one_that_asks_alone_gets_the_bits_of_act(desk: Desk, policy: Policy) -> None:
    for o in observations(policy, 20):
        (answer,) = desk.answers([encode(Request(VERSION, 1, o.tobytes()))])
        assert answer.action == policy.act(o).tobytes()


def test_what_is_wrong_is_answered_with_an_error_and_disturbs_nobody(desk: Desk, policy: Policy) -> None:
    size = policy.contract.spec.obs_dim * 4
    now = time.monotonic_ns()
    good = observations(policy, 1)[0].tobytes()
    nan = np.zeros(size // 4, np.float32)
    nan[3] = np.nan
    for content, code, number in (
        (b"", "bad", 0),
        (b"\xc1\xff", "bad", 0),
        (encode([VERSION, 1]), "bad", 0),
        (encode({"v": VERSION}), "bad", 0),
        (encode({"v": VERSION, "id": "x"}), "bad", 0),
        (encode({"v": VERSION, "id": 3, "run": "rm"}), "bad", 3),
        (encode({"v": VERSION, "id": 3, "obs": "text"}), "bad", 3),
        (encode(Request(VERSION, 3, nan.tobytes())), "bad", 3),
        (encode(Request(99, 3, bytes(size))), "version", 3),
        (encode({"v": 1, "id": 3, "obs": b"", "sent_ns": 5}), "version", 3),  # keys of an older version
        (encode(Request(VERSION, 3, bytes(size - 4))), "size", 3),
        (encode(Request(VERSION, 3, bytes(size + 4))), "size", 3),
        (encode(Request(VERSION, 3, bytes(size + 2000))), "size", 0),  # too large to be read
        (encode(Request(VERSION, 3, bytes(size), now - 1)), "late", 3),
    ):
        first, wrong, last = desk.answers(
            [encode(Request(VERSION, 1, good)), content, encode(Request(VERSION, 2, good))]
        )
        assert (wrong.code, wrong.id, wrong.action) == (code, number, b"")
        assert wrong.error
        assert (first.id, last.id) == (1, 2)
        assert first.action == last.action != b""
    (answer,) = desk.answers([encode(Request(VERSION, 3, nan.tobytes()))])
    assert answer.error == "number 3 of the observation is nan"


@given(
    content=st.binary(max_size=200) | st.integers(0, 1090).map(lambda n: b"\x83\xa1v\x02\xa2id\x01\xa1x" + b"\x91" * n)
)
@example(content=b"\x81\xa1\x80")  # a key that is no UTF-8
def test_bytes_of_strangers_are_never_an_action_and_never_an_exception(desk: Desk, content: bytes) -> None:
    (answer,) = desk.answers([content])
    assert answer.action == b""
    assert answer.code or answer.contract


def test_the_contract_and_the_clock_travel(desk: Desk, bundle: Bundle) -> None:
    before = time.monotonic_ns()
    (answer,) = desk.answers([encode(Request(VERSION, 5))])
    assert Contract.from_json(answer.contract, "it") == bundle[1]
    assert before <= answer.clock_ns <= time.monotonic_ns()
    assert answer.session > 0


def test_the_wire_is_the_documented_one(desk: Desk) -> None:
    """Bytes by hand, as a client in another language writes and reads them."""
    asked = bytes.fromhex("82 a1 76 02 a2 69 64 07")  # {"v": 2, "id": 7}
    assert encode(Request(VERSION, 7))[1:].startswith(asked[1:])
    assert desk.answers([asked])[0].contract
    answer = Answer(VERSION, 7, action=np.array([1.0, -2.0], "<f4").tobytes(), weight_version=3, clock_ns=5)
    assert encode(answer) == (
        b"\x85\xa1v\x02\xa2id\x07\xa6action\xc4\x08\x00\x00\x80\x3f\x00\x00\x00\xc0\xaeweight_version\x03\xa8clock_ns\x05"
    )


class Slow:
    """A policy that takes 30 ms and may go mad."""

    def __init__(self, policy: Policy, action: float = 0.0) -> None:
        self.contract, self.action, self.waits = policy.contract, action, False

    def act_many(self, obs: Array) -> Array:
        if self.waits:
            time.sleep(0.03)
        return np.full((len(obs), self.contract.spec.action_dim), self.action, np.float32)


def test_an_action_that_was_ready_too_late_is_not_sent(policy: Policy) -> None:
    slow: Any = Slow(policy)
    desk = Desk(slow, 2)
    slow.waits = True
    obs, now = observations(policy, 1)[0].tobytes(), time.monotonic_ns()
    hasty, patient = desk.answers(
        [encode(Request(VERSION, 1, obs, now + 20_000_000)), encode(Request(VERSION, 2, obs, now + 10**11))]
    )
    assert (hasty.code, hasty.action) == ("late", b"")
    assert patient.action


def test_an_action_that_is_no_number_is_not_sent(policy: Policy) -> None:
    mad: Any = Slow(policy, action=np.inf)
    (answer,) = Desk(mad, 1).answers([encode(Request(VERSION, 1, observations(policy, 1)[0].tobytes()))])
    assert (answer.code, answer.error, answer.action) == ("policy", "number 0 of the action is inf", b"")


def test_a_graph_for_one_observation_is_served_one_by_one_or_refused(bundle: Bundle) -> None:
    model = onnx.load(bundle[0] / MODEL_FILE)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    policy = Policy.from_bytes(model.SerializeToString(), "foreign.onnx")
    assert len(policy.act(np.zeros(policy.contract.spec.obs_dim, np.float32))) == 7
    Desk(policy, 1)
    with pytest.raises(
        BundleError, match=r"takes 1 observation at a time, not 2: .* or answer one by one \(--batch 1\)"
    ):
        Desk(policy, 8)
