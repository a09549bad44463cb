"""CURVE: who may talk, who may not, and what the command line leaves on disk."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from deploy.bridge import messages as m
from deploy.bridge.actor import ActorLink
from deploy.bridge.learner import LearnerHub
from deploy.network.keys import KeyFolder, Keys
from robot_rl.cli import main
from robot_rl.errors import ConfigError
from tests.deploy.bridge.linked import eventually, publish

StartHub = Callable[..., LearnerHub]
StartLink = Callable[..., ActorLink]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[KeyFolder, KeyFolder]:
    """The learner's keys and the arm's, each allowing the other."""
    learner, arm = KeyFolder(tmp_path / "learner-keys"), KeyFolder(tmp_path / "arm-keys")
    arm.allow("learner", learner.new("learner"))
    learner.allow("arm", arm.new("arm"))
    return learner, arm


def test_keys_open_any_address_to_the_allowed_alone(
    folders: tuple[KeyFolder, KeyFolder], start_hub: StartHub, start_link: StartLink, tmp_path: Path
) -> None:
    learner, arm = folders
    hub = start_hub("tcp://0.0.0.0:*", keys=Keys(folder=learner, own="learner"))
    address = hub.address.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - with keys
    link = start_link(address, keys=Keys(folder=arm, own="arm", peer="learner"))
    publish(link, 0, 5)
    assert link.drain(30)

    stranger = KeyFolder(tmp_path / "stranger")
    stranger.new("stranger")
    stranger.allow("learner", learner.pair("learner").public)
    start_link(address, "s1", keys=Keys(folder=stranger, own="stranger", peer="learner"))
    assert eventually(lambda: hub.counters.get("unauthenticated"))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    open_socket = context.socket(zmq.DEALER)
    open_socket.linger = 0
    before = hub.counters["unauthenticated"]
    open_socket.connect(address)
    open_socket.send(bytes(m.encode(m.Intervention(session=b"s" * 16, sequence=0, active=True))))
    assert eventually(lambda: hub.counters["unauthenticated"] > before)
    open_socket.close()
    context.term()
    assert [a.name for a in hub.actors()] == ["actor"]

    learner.allow("stranger", stranger.pair("stranger").public)  # honoured at once
    assert eventually(lambda: len(hub.actors()) == 2)

    learner.revoke("arm")  # on a connection that stands
    assert eventually(lambda: "this actor's key was revoked" in link.hold)
    publish(link, 5, 5)
    assert not link.drain(0.5)
    assert len(hub.log) == 5
    learner.allow("arm", arm.pair("arm").public)
    assert link.drain(30)
    assert len(hub.log) == 10

    arm.revoke("learner")  # as well
    assert eventually(lambda: "the key of 'learner' was revoked on this machine" in link.hold)
    publish(link, 10, 5)
    assert not link.drain(0.5)
    arm.allow("learner", learner.pair("learner").public)
    assert link.drain(30)
    assert link.hold == ""


def test_an_actor_talks_to_no_other_learner(
    folders: tuple[KeyFolder, KeyFolder], start_hub: StartHub, start_link: StartLink, tmp_path: Path
) -> None:
    _, arm = folders
    impostor = KeyFolder(tmp_path / "impostor")
    impostor.new("learner")
    impostor.allow("arm", arm.pair("arm").public)
    hub = start_hub(keys=Keys(folder=impostor, own="learner"))
    link = start_link(hub.address, keys=Keys(folder=arm, own="arm", peer="learner"))
    publish(link, 0, 5)
    assert not link.drain(1.5)
    assert not link.learner_alive
    assert (len(hub.log), hub.actors()) == (0, [])


def test_what_is_missing_is_said_with_the_remedy(
    folders: tuple[KeyFolder, KeyFolder], start_link: StartLink, tmp_path: Path
) -> None:
    learner, arm = folders
    with pytest.raises(ConfigError, match=r"missing. Make it: robot-rl keys new nobody"):
        start_link("tcp://127.0.0.1:1", keys=Keys(folder=arm, own="nobody", peer="learner"))
    with pytest.raises(ConfigError, match=r"No 'other' is allowed in .* robot-rl keys allow other KEY"):
        start_link("tcp://127.0.0.1:1", keys=Keys(folder=arm, own="arm", peer="other"))
    with pytest.raises(ConfigError, match=r"must name the server"):
        start_link("tcp://127.0.0.1:1", keys=Keys(folder=arm, own="arm"))
    with pytest.raises(ConfigError, match=r"exists already"):
        arm.new("arm")
    with pytest.raises(ConfigError, match=r"allowed already, with another key"):
        arm.allow("learner", arm.pair("arm").public)
    with pytest.raises(ConfigError, match=r"is no public key"):
        arm.allow("x", "short")
    with pytest.raises(ConfigError, match=r"cannot name a key"):
        arm.new("../escape")
    with pytest.raises(ConfigError, match=r"No 'x' is allowed in .*; allowed: arm"):
        learner.revoke("x")
    file = tmp_path / "arm-keys/own/arm.key"
    file.chmod(0o640)
    with pytest.raises(ConfigError, match=r"may be read by others"):
        arm.pair("arm")
    file.chmod(0o600)
    file.write_text("{}")
    with pytest.raises(ConfigError, match=r"is not a key file"):
        arm.pair("arm")


def test_a_folder_that_was_there_keeps_its_permissions(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    KeyFolder(tmp_path).new("arm")
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "own/arm.key").stat().st_mode) == 0o600


def test_a_key_that_goes_while_one_looks_is_gone(tmp_path: Path) -> None:
    keys = KeyFolder(tmp_path)
    keys.allow("arm", KeyFolder(tmp_path / "other").new("arm"))
    (tmp_path / "allowed" / "gone.pub").symlink_to("nowhere")
    assert list(keys.allowed().values()) == ["arm"]


def test_command_line_makes_allows_lists_and_revokes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--keys", str(tmp_path / "k")]
    assert main(["keys", "new", "arm-1", *where, "--json"]) == 0
    public = json.loads(capsys.readouterr().out)["public"]
    assert stat.S_IMODE((tmp_path / "k/own/arm-1.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "k/own").stat().st_mode) == 0o700
    assert main(["keys", "new", "arm-1", *where]) == 2
    assert "exists already" in " ".join(capsys.readouterr().err.split())
    assert main(["keys", "allow", "self", public, *where]) == 0
    assert main(["keys", "list", *where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.split("\n", 1)[1]) == {
        "own": {"arm-1": public},
        "allowed": {"self": public},
    }
    assert main(["keys", "list", *where]) == 0
    assert f"allowed  self             {public}" in capsys.readouterr().out
    assert main(["keys", "revoke", "self", *where]) == 0
    assert main(["keys", "revoke", "self", *where]) == 2
    assert "allowed: nobody" in " ".join(capsys.readouterr().err.split())
    assert main(["keys"]) == 2
    assert main(["keys", "nwe"]) == 2
    assert "Did you mean 'new'?" in capsys.readouterr().err


def test_a_key_has_one_name(folders: tuple[KeyFolder, KeyFolder]) -> None:
    learner, arm = folders
    with pytest.raises(ConfigError, match=r"allowed already, as 'arm'. Use that name, or `robot-rl keys revoke arm`"):
        learner.allow("other", arm.pair("arm").public)
    learner.allow("arm", arm.pair("arm").public)
    learner.revoke("arm")
    assert learner.allowed() == {}
