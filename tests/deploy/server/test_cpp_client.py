"""The client in examples/cpp: compiled, and run against servers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zmq

from deploy.bundle.contract import Contract
from deploy.bundle.policy import Policy
from deploy.network.keys import KeyFolder
from robot_rl.spec import Array
from tests.deploy.server.conftest import Served

ROOT = Path(__file__).parents[3]
Bundle = tuple[Path, Contract]
Ask = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    compiler = os.environ.get("CXX", "g++")
    for tool in ("make", compiler):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: the C++ client cannot be compiled here")
    out = tmp_path_factory.mktemp("cpp")
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    words = ["make", "-C", str(ROOT / "examples/cpp"), f"PYTHON={sys.executable}", f"OUT={out}", f"CXX={compiler}"]
    built = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert built.returncode == 0, built.stderr

    def run(address: str, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [out / "ask", address, *words]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)

    return run


def lines(observations: Array) -> str:
    return "".join(" ".join(f"{x:.9g}" for x in obs) + "\n" for obs in observations)


def actions(printed: str) -> Array:
    return np.array([line.split("#")[0].split() for line in printed.splitlines()], np.float32)


def test_it_gets_the_bits_of_the_bundle_and_says_how_long_it_took(ask: Ask, served: Served, bundle: Bundle) -> None:
    obs = np.random.default_rng(2).normal(size=(30, bundle[1].spec.obs_dim)).astype(np.float32)
    done = ask(served.address, "--deadline-ms", "20000", stdin=lines(obs))
    assert done.returncode == 0, done.stderr
    local = Policy.load(bundle[0])
    np.testing.assert_array_equal(actions(done.stdout), [local.act(o).copy() for o in obs])
    assert all(line.endswith(" us") and float(line.split()[-2]) > 0 for line in done.stdout.splitlines())
    assert "30 actions, latency p50 " in done.stderr
    assert served.server.answered == {"contract": 1, "action": 30}


def test_it_shows_the_contract(ask: Ask, served: Served, bundle: Bundle) -> None:
    done = ask(served.address, "--contract")
    assert Contract.from_json(done.stdout, "it") == bundle[1]
    assert json.loads(done.stdout)["weight_version"] == 1234


def test_refusals_and_lateness_hold_the_arm_and_it_goes_on(ask: Ask, served: Served, bundle: Bundle) -> None:
    size = bundle[1].spec.obs_dim
    good = " ".join(["0.5"] * size)
    done = ask(served.address, "--deadline-ms", "20000", stdin=f"1 2 3\n{good.replace('0.5', 'nan', 1)}\n{good}\n")
    assert done.returncode == 1
    first, second, third = done.stdout.splitlines()
    assert first.endswith(f"refused (size): 12 bytes of observation, the policy takes {4 * size}")
    assert second.endswith("refused (bad): number 0 of the observation is nan")
    assert len(actions(third)[0]) == 7
    done = ask(served.address, "--deadline-ms", "0.001", stdin=f"{good}\n{good}\n")
    assert done.returncode == 1
    assert all(line.startswith("# hold: ") for line in done.stdout.splitlines())


def test_with_keys_it_talks_beyond_loopback_and_without_it_does_not(
    ask: Ask, keyed: Served, key_folders: tuple[KeyFolder, KeyFolder], bundle: Bundle
) -> None:
    folder = key_folders[1].path
    still = " ".join(["0"] * bundle[1].spec.obs_dim)
    keys = ["--key", str(folder / "own/cell.key"), "--server", str(folder / "allowed/server.pub")]
    done = ask(keyed.address, *keys, "--deadline-ms", "20000", stdin=still)
    assert done.returncode == 0, done.stderr
    assert len(actions(done.stdout)[0]) == 7
    done = ask(keyed.address, stdin=still)
    assert done.returncode == 2
    assert "did not answer in time. Is it running, and have both ends the other's key?" in done.stderr
    assert keyed.server.answered["action"] == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "the answer ends too soon"),
        (b"\x92\x01\x02", "is no map"),
        (b"\x81\xa1v\xcb" + bytes(8), "string is missing"),
        (b"\x81\xa6action\xc6\xff\xff\xff\xff", "the answer ends too soon"),
    ],
)
def test_an_answer_that_is_none_is_refused(ask: Ask, answer: bytes, said: str) -> None:
    context = zmq.Context()
    other = context.socket(zmq.ROUTER)
    other.linger = 1000
    other.bind("tcp://127.0.0.1:*")

    def reply() -> None:
        if other.poll(20_000):
            client, empty, _ = other.recv_multipart()
            other.send_multipart([client, empty, answer])

    thread = threading.Thread(target=reply)
    thread.start()
    done = ask(other.get_string(zmq.LAST_ENDPOINT).rstrip("\0"))
    thread.join()
    other.close()
    context.term()
    assert done.returncode == 2
    assert "answered something else" in done.stderr
    assert said in done.stderr


def test_wrong_words_are_said(ask: Ask) -> None:
    for words, said in (
        ([""], "give the server's address"),
        (["tcp://x:1", "--key", "a"], "belong together"),
        (["tcp://x:1", "--nothing"], "what is --nothing?"),
        (["tcp://x:1", "--deadline-ms"], "needs a value"),
        (["tcp://x:1", "--key", "/none", "--server", "/none"], "cannot read /none"),
    ):
        done = ask(*words)
        assert done.returncode == 2
        assert said in done.stderr
