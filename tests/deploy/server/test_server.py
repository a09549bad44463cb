"""A server and its clients over real sockets."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import zmq

from deploy.bench import server as server_bench
from deploy.bundle.contract import Contract
from deploy.bundle.policy import Policy
from deploy.commands import serve as serve_command
from deploy.network.keys import KeyFolder, Keys
from deploy.server import desk as desk_module
from deploy.server.client import RemotePolicy
from deploy.server.wire import VERSION, Answer, Request
from robot_rl.cli import main
from robot_rl.errors import ConfigError, PolicyServerError
from tests.deploy.bridge.linked import eventually
from tests.deploy.server.conftest import Served

Bundle = tuple[Path, Contract]
Make = Callable[..., Served]
encode = msgspec.msgpack.encode


def still(bundle: Bundle) -> np.ndarray:
    return np.zeros(bundle[1].spec.obs_dim, np.float32)


def test_actions_are_the_bundle_s_and_the_contract_travels(served: Served, bundle: Bundle) -> None:
    remote, local = RemotePolicy(served.address, deadline_s=10.0), Policy.load(bundle[0])
    assert remote.contract == bundle[1]
    for obs in np.random.default_rng(0).normal(size=(20, bundle[1].spec.obs_dim)).astype(np.float32):
        np.testing.assert_array_equal(remote.act(obs), local.act(obs))
    remote.close()
    assert served.server.answered == {"contract": 1, "action": 20}


def test_those_who_wait_together_are_answered_together(make_server: Make, bundle: Bundle) -> None:
    served, context = make_server(), zmq.Context()
    sockets = [context.socket(zmq.DEALER) for _ in range(16)]
    obs = np.random.default_rng(1).normal(size=(16, bundle[1].spec.obs_dim)).astype(np.float32)
    for i, socket in enumerate(sockets):
        socket.linger = 0
        socket.connect(served.address)
        socket.send_multipart([b"", encode(Request(VERSION, i, obs[i].tobytes()))])
    time.sleep(0.5)  # nobody answers yet
    served.start()
    local = Policy.load(bundle[0])
    for i, socket in enumerate(sockets):
        assert socket.poll(20_000)
        answer = msgspec.msgpack.decode(socket.recv_multipart()[-1], type=Answer)
        assert answer.id == i
        np.testing.assert_allclose(np.frombuffer(answer.action, "<f4"), local.act(obs[i]), atol=1e-5)
    assert served.server.answered["action"] == 16
    assert served.server.desk.calls < 16
    context.destroy(0)


def test_clients_in_parallel_get_their_own_answers(served: Served, bundle: Bundle) -> None:
    wrong: list[object] = []

    def ask(seed: int) -> None:
        remote, local = RemotePolicy(served.address, deadline_s=20.0), Policy.load(bundle[0])
        try:
            for obs in np.random.default_rng(seed).normal(size=(50, bundle[1].spec.obs_dim)).astype(np.float32):
                np.testing.assert_allclose(remote.act(obs), local.act(obs), atol=1e-5)
        except Exception as error:
            wrong.append(error)
        remote.close()

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert served.server.answered == {"contract": 6, "action": 300}


def test_other_sockets_may_ask_too(served: Served) -> None:
    context = zmq.Context()
    for kind, frames in ((zmq.REQ, [encode(Request(VERSION, 1))]), (zmq.DEALER, [encode(Request(VERSION, 1))])):
        socket = context.socket(kind)
        socket.connect(served.address)
        socket.send_multipart(frames)
        assert socket.poll(20_000)
        assert msgspec.msgpack.decode(socket.recv(), type=Answer).contract
        socket.close()
    context.destroy(0)


def test_what_is_too_large_is_counted_or_cut_off_and_costs_nobody_else(served: Served, bundle: Bundle) -> None:
    context = zmq.Context()
    rude = context.socket(zmq.DEALER)
    rude.connect(served.address)
    rude.send(bytes(100_000))
    assert rude.poll(20_000)
    assert msgspec.msgpack.decode(rude.recv(), type=Answer).code == "size"
    rude.send_multipart([b"x"] * 9)
    assert eventually(lambda: served.server.answered["bad"] == 1)
    rude.send(bytes(10_000_000))
    assert not rude.poll(300)
    polite = RemotePolicy(served.address, deadline_s=10.0)
    assert len(polite.act(still(bundle))) == 7
    polite.close()
    context.destroy(0)
    assert served.server.answered == {"size": 1, "bad": 1, "contract": 1, "action": 1}


def test_silence_is_an_error_and_the_client_can_ask_again(served: Served, bundle: Bundle) -> None:
    remote = RemotePolicy(served.address, deadline_s=10.0)
    remote._deadline_s = 1e-5  # no answer is that fast
    with pytest.raises(PolicyServerError):
        remote.act(still(bundle))
    remote._deadline_s = 10.0
    assert len(remote.act(still(bundle))) == 7
    remote.close()


def test_nobody_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.server.client.CONNECT_S", 0.2)
    with pytest.raises(PolicyServerError, match=r"did not answer within 200 ms\. Is it running"):
        RemotePolicy("tcp://127.0.0.1:1")


def test_deadlines_hold_across_clocks(served: Served, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines count from their own start: here the server's runs an hour ahead, then a day behind."""
    for shift_ns in (3600 * 10**9, -86400 * 10**9):
        clock = SimpleNamespace(monotonic_ns=lambda shift=shift_ns: time.monotonic_ns() + shift)
        monkeypatch.setattr(desk_module, "time", clock)
        remote = RemotePolicy(served.address, deadline_s=10.0)
        assert len(remote.act(still(bundle))) == 7
        remote._ahead_ns -= 20 * 10**9  # as if the way had taken 20 s
        with pytest.raises(PolicyServerError, match=r"refused \(late\): .* ms after its deadline"):
            remote.act(still(bundle))
        assert len(remote.act(still(bundle))) == 7  # the refusal brought the clock
        remote.close()
    assert served.server.answered == {"contract": 2, "action": 4, "late": 2}


def test_a_server_that_was_started_anew_is_noticed(make_server: Make, bundle: Bundle) -> None:
    first = make_server().start()
    remote = RemotePolicy(first.address, deadline_s=20.0)
    remote.act(still(bundle))
    first.stop()
    make_server(first.address).start()
    with pytest.raises(PolicyServerError, match=r"was started anew and may serve another policy\. Connect again"):
        remote.act(still(bundle))
    remote.close()
    again = RemotePolicy(first.address, deadline_s=20.0)
    again.act(still(bundle))
    again.close()


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:5760", "tcp://192.0.2.1:5760", "tcp://*:5760"])
def test_beyond_loopback_needs_keys(make_server: Make, bundle: Bundle, address: str) -> None:
    for start in (make_server, RemotePolicy):
        with pytest.raises(ConfigError, match=r"is not loopback, and without keys .*robot-rl keys new"):
            start(address)


@pytest.mark.parametrize(
    "address", ["5760", "udp://127.0.0.1:5", "tcp://127.0.0.1", "tcp://127.0.0.1:99999999", "tcp://[::1]:5760"]
)
def test_what_is_no_address_is_said(make_server: Make, address: str) -> None:
    with pytest.raises(ConfigError, match=r"is no address. Write tcp://HOST:PORT"):
        make_server(address)


def test_a_port_that_does_not_exist_is_said(make_server: Make) -> None:
    with pytest.raises(ConfigError, match=r"port 70000 does not exist; they are 1 to 65535"):
        make_server("tcp://127.0.0.1:70000")


def test_a_taken_address_is_said(served: Served, make_server: Make) -> None:
    with pytest.raises(ConfigError, match=r"Cannot listen at .* in use .* Choose another address"):
        make_server(served.address)
    with pytest.raises(ConfigError, match=r"--batch is 0"):
        make_server(at_once=0)


def test_keys_open_any_address_to_the_allowed_alone(
    keyed: Served,
    client_keys: Keys,
    key_folders: tuple[KeyFolder, KeyFolder],
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, _ = key_folders
    remote = RemotePolicy(keyed.address, deadline_s=20.0, keys=client_keys)
    assert len(remote.act(still(bundle))) == 7
    assert keyed.server.answered == {"contract": 1, "action": 1}

    monkeypatch.setattr("deploy.server.client.CONNECT_S", 1.0)
    stranger = KeyFolder(tmp_path / "stranger")
    stranger.new("cell")
    stranger.allow("server", server.pair("server").public)
    with pytest.raises(PolicyServerError, match="have both ends the other's key"):
        RemotePolicy(keyed.address, keys=Keys(folder=stranger, own="cell", peer="server"))
    assert eventually(lambda: keyed.server.answered["unauthenticated"] > 0)
    before = keyed.server.answered["unauthenticated"]
    with pytest.raises(PolicyServerError, match="did not answer"):
        RemotePolicy(keyed.address)  # without any
    assert keyed.server.answered["unauthenticated"] > before

    public = server.allowed().popitem()[0]
    server.revoke("cell")
    time.sleep(0.3)
    with pytest.raises(PolicyServerError, match=r"refused \(revoked\): this client's key was revoked"):
        remote.act(still(bundle))  # on a connection that stands
    server.allow("cell", public)
    time.sleep(0.3)
    assert len(remote.act(still(bundle))) == 7
    remote.close()
    assert keyed.server.answered["revoked"] == 1


def test_a_client_talks_to_no_impostor(
    make_server: Make, client_keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.server.client.CONNECT_S", 1.0)
    impostor = KeyFolder(tmp_path / "impostor")
    impostor.new("server")
    impostor.allow("cell", client_keys.folder.pair("cell").public)
    other = make_server("tcp://0.0.0.0:*", keys=Keys(folder=impostor, own="server")).start()
    with pytest.raises(PolicyServerError, match="did not answer"):
        RemotePolicy(other.address, keys=client_keys)
    assert other.server.answered["contract"] == 0
    with pytest.raises(ConfigError, match=r"missing. Make it: robot-rl keys new nobody"):
        make_server("tcp://0.0.0.0:*", keys=Keys(folder=impostor, own="nobody"))
    with pytest.raises(ConfigError, match=r"must name the server"):
        RemotePolicy(other.address, keys=Keys(folder=impostor, own="server"))


def test_the_command_answers_until_interrupted(
    bundle: Bundle, client_keys: Keys, key_folders: tuple[KeyFolder, KeyFolder]
) -> None:
    words = [sys.executable, "-m", "robot_rl.cli", "serve", str(bundle[0]), "--listen", "tcp://0.0.0.0:*", "--json"]
    words += ["--key", "server", "--keys", str(key_folders[0].path), "--batch", "4"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "allowed keys alone" in line
        address = line.split("answering at ")[1].split(",")[0].replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        remote = RemotePolicy(address, deadline_s=20.0, keys=client_keys)
        remote.act(still(bundle))
        remote.close()
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert json.loads(process.stdout.read()) == {"answered": {"contract": 1, "action": 1}, "policy_calls": 1}
    assert process.returncode == 0


def test_the_command_refuses_what_does_not_go_together(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"either --arm .* or --listen"):
        serve_command.main([str(bundle[0])])
    with pytest.raises(ConfigError, match=r"--key is for --listen"):
        serve_command.main([str(bundle[0]), "--arm", "virtual", "--key", "x"])
    for words, said in (
        (["--listen", "tcp://127.0.0.1:5760", "--duration", "5"], "--duration is for --arm"),
        (["--listen", "tcp://127.0.0.1:5760", "--seed", "5"], "--seed is for --arm"),
        (["--arm", "virtual", "--duration", "inf"], "--duration is inf s; it must be above 0, and finite"),
        (["--arm", "virtual", "--core", "-1"], "--core is -1; this process may run on"),
        (["--arm", "virtual", "--plot", "timing.txt"], r"--plot is timing\.txt; name a file that ends in \.png"),
        (["--arm", "virtual", "--episode-steps", "0"], "--episode-steps is 0; it must be 1 or more"),
    ):
        with pytest.raises(ConfigError, match=said):
            serve_command.main([str(bundle[0]), *words])
    assert main(["serve", str(bundle[0]), "--listen", "tcp://0.0.0.0:5760"]) == 2
    assert "without keys anyone" in " ".join(capsys.readouterr().err.split())


def test_the_bench_measures_one_and_several(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_bench, "untrained_bundle", lambda *_: bundle[0])
    result = server_bench.measure(server_bench.ServerBenchConfig(calls=60, clients=(3,)))
    assert result["policy server"]["p50"] > 0
    assert result["ratio"] == result["policy server"]["p50"] / result["bare echo"]["p50"]
    batched, alone = result["several"]
    assert (batched["clients"], batched["batched"], alone["batched"]) == (3, True, False)
    assert alone["answers_per_policy_call"] == 1.0
    assert 1.0 <= batched["answers_per_policy_call"] <= 3.0
