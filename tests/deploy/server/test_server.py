from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zmq

from deploy.commands import serve as serve_command
from deploy.contract import Contract
from deploy.policy import Policy
from deploy.policy_client import RemotePolicy
from deploy.policy_server import PolicyServer
from deploy.policy_wire import VERSION, Request, require_loopback
from robot_rl.errors import ConfigError, PolicyServerError

Bundle = tuple[Path, Contract]


@pytest.fixture
def server(bundle: Bundle) -> Generator[PolicyServer]:
    made, stop = PolicyServer(Policy.load(bundle[0]), "tcp://127.0.0.1:0"), threading.Event()
    thread = threading.Thread(target=made.run, args=(stop,))
    thread.start()
    yield made
    stop.set()
    thread.join()
    made.close()


def test_actions_are_the_bundle_s_and_the_contract_travels(server: PolicyServer, bundle: Bundle) -> None:
    remote, local = RemotePolicy(server.address, deadline_s=10.0), Policy.load(bundle[0])
    assert remote.contract == bundle[1]
    for obs in np.random.default_rng(0).normal(size=(20, bundle[1].spec.obs_dim)).astype(np.float32):
        np.testing.assert_array_equal(remote.act(obs), local.act(obs))
    remote.close()
    assert server.answered == {"contract": 1, "action": 20}


def test_what_is_wrong_is_answered_with_an_error_and_never_with_an_action(server: PolicyServer, bundle: Bundle) -> None:
    size = bundle[1].spec.obs_dim * 4
    encode = msgspec.msgpack.encode
    now = time.monotonic_ns()
    for content, code in (
        (b"", "bad"),
        (b"\xc1\xff", "bad"),
        (encode({"v": VERSION}), "bad"),
        (encode({"v": VERSION, "id": "x"}), "bad"),
        (encode({"v": VERSION, "id": 1, "run": "rm"}), "bad"),
        (encode(Request(99, 1, bytes(size))), "version"),
        (encode(Request(VERSION, 1, bytes(size - 4))), "size"),
        (encode(Request(VERSION, 1, bytes(size), now - 10**9, 20.0)), "late"),
        (encode(Request(VERSION, 1, bytes(size), now + 10**12, 20.0)), "late"),  # from the future
    ):
        answer = server.answer(content)
        assert (answer.code, answer.action) == (code, b"")
        assert answer.error


def test_a_message_that_is_too_large_costs_its_sender_the_connection_only(server: PolicyServer, bundle: Bundle) -> None:
    context = zmq.Context()
    rude = context.socket(zmq.REQ)
    rude.setsockopt(zmq.LINGER, 0)
    rude.connect(server.address)
    rude.send(bytes(10_000_000))
    assert not rude.poll(500)
    polite = RemotePolicy(server.address, deadline_s=10.0)
    assert len(polite.act(np.zeros(bundle[1].spec.obs_dim, np.float32))) == 7
    polite.close()
    rude.close()
    context.term()


def test_silence_is_an_error_and_the_client_can_ask_again(server: PolicyServer, bundle: Bundle) -> None:
    remote = RemotePolicy(server.address, deadline_s=10.0)
    obs = np.zeros(bundle[1].spec.obs_dim, np.float32)
    remote._deadline_s = 1e-4  # no answer is that fast
    with pytest.raises(PolicyServerError):
        remote.act(obs)
    remote._deadline_s = 10.0
    assert len(remote.act(obs)) == 7
    remote.close()
    with pytest.raises(PolicyServerError, match=r"did not answer within 5000 ms\. Is it running"):
        RemotePolicy("tcp://127.0.0.1:1")


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:5555", "tcp://192.0.2.1:5555", "tcp://*:5555", "tcp://[::]:5555"])
def test_other_machines_are_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"can be reached by other machines|is no address"):
        require_loopback(address)


@pytest.mark.parametrize("address", ["5555", "udp://127.0.0.1:5", "tcp://127.0.0.1", "tcp://127.0.0.1:99999999"])
def test_what_is_no_address_is_said(address: str) -> None:
    with pytest.raises(ConfigError, match=r"give tcp://127\.0\.0\.1:PORT"):
        require_loopback(address)
    require_loopback("tcp://127.0.0.1:5555")
    require_loopback("tcp://[::1]:5555")


def test_the_command_answers_until_interrupted(bundle: Bundle) -> None:
    words = [sys.executable, "-m", "robot_rl.cli", "serve", str(bundle[0]), "--listen", "tcp://127.0.0.1:0", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        remote = RemotePolicy(line.split("answering at ")[1].split(";")[0], deadline_s=20.0)
        remote.act(np.zeros(bundle[1].spec.obs_dim, np.float32))
        remote.close()
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert json.loads(process.stdout.read()) == {"answered": {"contract": 1, "action": 1}}
    assert process.returncode == 0


def test_arm_or_listen(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match=r"either --arm .* or --listen"):
        serve_command.main([str(bundle[0])])
