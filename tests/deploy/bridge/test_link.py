"""Actor and learner together, on loopback."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from deploy.bridge import messages as m
from deploy.bridge import spool as spool_module
from deploy.bridge.actor import ActorLink
from deploy.bridge.learner import LearnerHub
from deploy.bridge.spool import ACKNOWLEDGED_FILE, SpoolOptions
from deploy.bundle.contract import Contract
from deploy.bundle.policy import Policy
from robot_rl.data.transition import Success
from robot_rl.errors import BridgeError, ConfigError, DataError
from tests.deploy.bridge.linked import eventually, publish, restamped
from tests.deploy.bridge.made import make_spec, numbered

StartHub = Callable[..., LearnerHub]
StartLink = Callable[..., ActorLink]
Bundle = tuple[Path, Contract]


def stored(hub: LearnerHub, start: int = 0) -> list[int]:
    return hub.new_rows(start)["reward"].astype(int).tolist()


def test_every_transition_arrives_once_and_as_it_was(start_hub: StartHub, start_link: StartLink) -> None:
    hub = start_hub()
    link = start_link(hub.address)
    publish(link, 0, 3)
    link.publish(*numbered(3, 1)[["obs", "action", "reward", "next_obs"]][0], terminated=True, success=Success.YES)
    publish(link, 4, 2, intervention=True)
    link.publish(*numbered(6, 1)[["obs", "action", "reward", "next_obs"]][0], truncated=True)
    assert hub.wait_rows(7, 20)
    assert link.drain(20)
    rows = hub.new_rows(0)
    expected = numbered(0, 7)
    expected["policy_version"] = 0
    expected["starts"][[0, 4]] = 1
    expected["terminated"][3] = expected["truncated"][6] = 1
    expected["intervention"][4:6] = 1
    expected["success"][3] = 1
    np.testing.assert_array_equal(rows, expected)
    news: list[Any] = []
    assert eventually(lambda: news.extend(hub.news()) or len(news) == 4)
    ends = [n.message for n in news if isinstance(n.message, m.EpisodeEnd)]
    assert [(e.sequence, e.length, e.total_reward, e.success) for e in ends] == [(4, 4, 6.0, 1), (7, 3, 15.0, -1)]
    taken_over = [n.message for n in news if isinstance(n.message, m.Intervention)]
    assert [(i.sequence, i.active) for i in taken_over] == [(4, True), (6, False)]
    assert hub.log.durable == 7
    assert (link.taken, link.backlog) == (7, 0)


def test_nothing_is_lost_while_the_learner_is_away(start_hub: StartHub, start_link: StartLink) -> None:
    hub = start_hub()
    link = start_link(hub.address)
    publish(link, 0, 50)
    assert hub.wait_rows(50, 20)
    hub.close()
    hub.log.close()
    publish(link, 50, 500)
    assert not link.drain(0.05)
    again = start_hub(hub.address)
    publish(link, 550, 50)
    assert link.drain(30)
    assert stored(again) == list(range(600))


def test_several_actors_and_a_replacement(start_hub: StartHub, start_link: StartLink) -> None:
    hub = start_hub()
    links = [start_link(hub.address, f"spool{i}", name=f"arm-{i}") for i in range(3)]
    for i, link in enumerate(links):
        publish(link, 1000 * i, 100)
    links[1].close()  # with whatever it still has
    replacement = start_link(hub.address, "spool1", name="arm-1")  # the same session goes on
    assert replacement.session == links[1].session
    publish(replacement, 1100, 5)
    newcomer = start_link(hub.address, "spool9", name="arm-9")
    publish(newcomer, 9000, 5)
    assert hub.wait_rows(310, 30)
    by_arm = [[r for r in stored(hub) if r // 1000 == i] for i in (0, 1, 2, 9)]
    assert by_arm == [
        list(range(100)),
        list(range(1000, 1105)),
        list(range(2000, 2100)),
        list(range(9000, 9005)),
    ]
    assert sorted(a.name for a in hub.actors()) == ["arm-0", "arm-1", "arm-2", "arm-9"]
    status = next(a for a in hub.actors() if a.name == "arm-9")
    assert status.alive
    assert status.received == 5


def test_a_new_log_takes_over_where_the_old_one_stopped(start_hub: StartHub, start_link: StartLink) -> None:
    hub = start_hub()
    link = start_link(hub.address)
    publish(link, 0, 20)
    assert link.drain(20)
    hub.close()
    other = start_hub(hub.address, folder="new-log")
    publish(link, 20, 5)
    assert link.drain(20)
    assert stored(other) == list(range(20, 25))
    other.close()
    hub.log.truncate(10)  # a checkpoint knew only ten of them
    third = LearnerHub(hub.address, hub.log)
    publish(link, 25, 5)
    assert link.drain(20)
    assert stored(third) == [*range(10), *range(25, 30)]
    assert third.counters["gaps"] == 1
    third.close()


def test_after_a_power_cut_the_learner_may_know_more_of_a_session_than_its_actor(
    start_hub: StartHub, start_link: StartLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boots = tmp_path / "boot"
    monkeypatch.setattr(spool_module, "_BOOT_FILE", boots)
    boots.write_text("one")
    hub = start_hub()
    link = start_link(hub.address)
    publish(link, 0, 20)
    assert link.drain(20)
    link.close()
    file = next((tmp_path / "spool").glob("*/*.spool"))
    content, size = bytearray(file.read_bytes()), len(numbered(0, 1).tobytes()) + 4
    content[15 * size : 20 * size] = bytes(5 * size)  # what was not synced, of the transitions ...
    file.write_bytes(content)
    file.with_name(ACKNOWLEDGED_FILE).write_bytes(b"")  # ... and of what the learner had said
    boots.write_text("two")
    again = start_link(hub.address)
    assert again.backlog == 15
    publish(again, 20, 3)
    assert again.drain(20)
    assert again.hold == ""
    assert stored(hub) == list(range(23))


def test_weights_arrive_newest_only_and_are_swapped_by_the_actor(
    start_hub: StartHub, start_link: StartLink, bundle: Bundle
) -> None:
    folder, contract = bundle
    hub = start_hub(spec=contract.spec)
    link = start_link(hub.address, spec=contract.spec, policy=Policy.load(folder))
    assert link.policy_version == 1234
    assert link.take_policy() is None
    hub.publish_weights(restamped(folder, 2000), 2000)
    hub.publish_weights(restamped(folder, 2001), 2001)
    taken: list[Policy] = []
    assert eventually(lambda: taken.extend(filter(None, [link.take_policy()])) or link.policy_version == 2001)
    obs = np.zeros(contract.spec.obs_dim, np.float32)
    np.testing.assert_array_equal(taken[-1].act(obs), Policy.load(folder).act(obs))
    link.publish(obs, np.zeros(contract.spec.action_dim, np.float32), 0.0, obs)
    assert hub.wait_rows(1, 20)
    assert hub.new_rows(0)["policy_version"].tolist() == [2001]
    with pytest.raises(BridgeError, match=r"Weights 2001 come after 2001; versions must grow"):
        hub.publish_weights(b"", 2001)
    late = start_link(hub.address, "late", spec=contract.spec)
    assert eventually(lambda: late.take_policy() is not None or late.policy_version)
    assert late.policy_version == 2001


def test_a_resumed_learner_may_have_older_weights(start_hub: StartHub, start_link: StartLink, bundle: Bundle) -> None:
    folder, contract = bundle
    hub = start_hub(spec=contract.spec)
    link = start_link(hub.address, spec=contract.spec)
    hub.publish_weights(restamped(folder, 2000), 2000)
    assert eventually(lambda: link.take_policy() and link.policy_version == 2000)
    hub.close()
    resumed = LearnerHub(hub.address, hub.log)
    resumed.publish_weights(restamped(folder, 1500), 1500)  # its checkpoint was that old
    assert eventually(lambda: link.take_policy() and link.policy_version == 1500)
    resumed.close()


@pytest.mark.parametrize("wrong", ["not a model", "version", "spec"])
def test_weights_that_do_not_fit_are_not_run_and_age_the_policy(
    start_hub: StartHub, start_link: StartLink, bundle: Bundle, wrong: str
) -> None:
    folder, contract = bundle
    hub = start_hub(spec=contract.spec)
    link = start_link(
        hub.address, spec=contract.spec, policy=Policy.load(folder), max_policy_age_s=1.0, heartbeat_s=0.05
    )
    assert eventually(lambda: link.policy_age_s < 0.5)
    assert link.hold == ""
    model = {
        "not a model": b"\x08\x07",
        "version": restamped(folder, 1999),
        "spec": restamped(folder, 2000, spec=replace(contract.spec, rate_hz=25.0)),
    }[wrong]
    hub.publish_weights(model, 2000)
    assert eventually(lambda: link.counters["rejected_weights"])
    assert link.take_policy() is None
    assert eventually(lambda: link.hold)
    text = {"not a model": "ONNX Runtime refuses", "version": "contract inside says 1999", "spec": "25 Hz"}[wrong]
    assert "s old, at most 1 s are allowed. " in link.hold
    assert text in link.hold


def test_policy_ages_while_the_learner_is_silent(start_hub: StartHub, start_link: StartLink) -> None:
    hub = start_hub()
    link = start_link(hub.address, max_policy_age_s=0.8, heartbeat_s=0.05)
    assert eventually(lambda: link.learner_alive)
    time.sleep(1.0)
    assert link.hold == ""  # it is confirmed all the time
    hub.close()
    assert eventually(lambda: link.hold)
    assert eventually(lambda: "the learner is silent" in link.hold)
    assert not link.learner_alive
    again = LearnerHub(hub.address, hub.log)
    assert eventually(lambda: not link.hold)
    again.close()


def test_commands_reach_all_and_those_who_come_later(start_hub: StartHub, start_link: StartLink) -> None:
    hub = start_hub()
    first = start_link(hub.address, heartbeat_s=0.05)
    assert eventually(lambda: first.learner_alive)
    hub.pause("saving a checkpoint")
    assert eventually(lambda: first.paused)
    assert first.hold == "pause: saving a checkpoint"
    second = start_link(hub.address, "second", heartbeat_s=0.05)
    assert eventually(lambda: second.paused)
    assert eventually(lambda: hub.actors()[0].hold == "pause: saving a checkpoint")
    hub.resume()
    assert eventually(lambda: not first.hold and not second.hold)
    hub.stop()
    assert eventually(lambda: first.stopped and second.stopped)


def test_another_spec_is_refused_in_words(start_hub: StartHub, start_link: StartLink) -> None:
    hub = start_hub()
    link = start_link(hub.address, spec=make_spec(rate_hz=20.0))
    assert eventually(lambda: link.refusal)
    assert "rate: actor 'actor' runs at 20 Hz, the learner at 50 Hz" in link.hold
    publish(link, 0, 3)
    time.sleep(0.2)
    assert (len(hub.log), link.backlog) == (0, 3)
    assert hub.counters["refused"] >= 1


@pytest.mark.parametrize("name", ["", "a" * 65, "arm\n2"])
def test_a_name_that_no_learner_takes_is_refused_at_once(start_link: StartLink, name: str) -> None:
    with pytest.raises(ConfigError, match=r"name is .* it must be 1 to 64 that can be shown"):
        start_link("tcp://127.0.0.1:1", name=name)


def test_two_learners_on_one_address(start_hub: StartHub) -> None:
    hub = start_hub()
    with pytest.raises(BridgeError, match=r"is taken: another learner.*Stop it, or choose another address"):
        start_hub(hub.address, folder="other")
    with pytest.raises(DataError, match=r"Replay log .* is in use by another process"):
        start_hub(folder="log")


def test_two_actors_on_one_spool(start_hub: StartHub, start_link: StartLink) -> None:
    hub = start_hub()
    start_link(hub.address)
    with pytest.raises(DataError, match=r"Spool .* is in use by another process"):
        start_link(hub.address)


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:5757", "tcp://*:5757", "tcp://192.168.1.5:5757", "tcp://robot:1"])
def test_beyond_loopback_needs_keys(start_hub: StartHub, start_link: StartLink, address: str) -> None:
    for start in (start_hub, start_link):
        with pytest.raises(ConfigError, match=r"is not loopback, and without keys .*robot-rl keys new"):
            start(address)


@pytest.mark.parametrize("address", ["127.0.0.1:5757", "ipc:///tmp/x", "tcp://127.0.0.1", "tcp://a/b:1"])
def test_addresses_are_tcp(start_link: StartLink, address: str) -> None:
    with pytest.raises(ConfigError, match=r"is no address. Write tcp://HOST:PORT"):
        start_link(address)


def test_a_full_spool_stops_the_arm_and_goes_on_when_it_is_read(start_hub: StartHub, start_link: StartLink) -> None:
    hub = start_hub()
    hub.close()
    link = start_link(hub.address, options=SpoolOptions(limit_bytes=2000))
    with pytest.raises(BridgeError, match=r"is full"):
        publish(link, 0, 1000)
    taken = link.taken
    assert taken > 10
    again = LearnerHub(hub.address, hub.log)
    assert link.drain(20)
    publish(link, taken, 5)
    assert link.drain(20)
    assert stored(again) == list(range(taken + 5))
    again.close()


def test_shapes_that_numpy_would_stretch_are_refused(start_hub: StartHub, start_link: StartLink) -> None:
    hub = start_hub()
    link = start_link(hub.address)
    with pytest.raises(
        BridgeError, match=r"next observation \(\(1,\), \(2,\), \(3,\)\); the spec has \(\(3,\), \(2,\), \(3,\)\)"
    ):
        link.publish(np.zeros(1, np.float32), np.zeros(2, np.float32), 0.0, np.zeros(3, np.float32))
    strided: Any = np.arange(6, dtype=np.float64)[::2]
    link.publish(strided, np.zeros(2, np.float32), math.pi, strided)
    link.publish(strided, np.full(2, np.nan), 0.0, strided)  # stored, and told
    assert link.drain(20)
    assert hub.new_rows(0)["obs"].tolist() == [[0.0, 2.0, 4.0]] * 2
    assert hub.counters["not_finite"] == 1


def test_noise_on_the_socket_is_counted_and_ignored(start_hub: StartHub, start_link: StartLink) -> None:
    hub = start_hub()
    link = start_link(hub.address)
    with zmq.Context() as context, context.socket(zmq.DEALER) as noisy:
        noisy.linger = 0
        noisy.connect(hub.address)
        session = b"s" * 16
        later = bytearray(m.encode(m.Intervention(session=session, sequence=0, active=True)))
        later[3] = 9
        for frame in (
            b"noise",
            bytes(later),
            b"x" * (m.MAX_FROM_ACTOR + 1),
            bytes(m.encode(m.Transitions(session=session, sequence=0, count=1, rows=b"x"))),
            bytes(m.encode(m.Hello(session=session, sequence=0, name="n", spec=b"{", oldest=0))),
            bytes(m.encode(m.Hello(session=session, sequence=0, name="n", spec=b'{"a": 1}', oldest=0))),
        ):
            noisy.send(frame)
        noisy.send_multipart([b"a", b"b", b"c"])
        answers = [m.decode_from_learner(noisy.recv()) for _ in range(4)]
    reasons = [a.reason for a in answers if isinstance(a, m.Refusal)]
    assert "protocol version 9; this end speaks 1. Install the same version" in reasons[0]
    publish(link, 0, 10)
    assert link.drain(20)
    wanted = {"malformed": 2, "wrong_version": 1, "oversized": 1, "refused": 2}
    assert eventually(lambda: {k: hub.counters.get(k) for k in wanted} == wanted), hub.counters
    assert hub.counters["unknown_session"] >= 1  # heartbeats of an actor that is not welcomed yet count as well
    assert stored(hub) == list(range(10))


def test_a_learner_of_another_version_is_told_apart(start_link: StartLink) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.linger = 0
    router.bind("tcp://127.0.0.1:*")
    link = start_link(router.get_string(zmq.LAST_ENDPOINT))
    route, _ = router.recv_multipart()
    frame = bytearray(m.encode(m.Refusal(session=b"s" * 16, sequence=1, reason="")))
    frame[3] = 2
    router.send_multipart([route, bytes(frame)])
    assert eventually(lambda: "the learner speaks protocol version 2; this end speaks 1" in link.hold)
    router.close()
    context.term()


def test_a_spoilt_byte_is_no_other_version(
    start_hub: StartHub, start_link: StartLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = start_hub()
    link = start_link(hub.address, heartbeat_s=0.05)
    publish(link, 0, 5)
    assert link.drain(20)
    encode, spoilt = m.encode, set[type]()

    def spoiling(message: m.Message) -> bytearray:
        frame = encode(message)
        if isinstance(message, m.ActorBeat | m.LearnerBeat) and type(message) not in spoilt:
            spoilt.add(type(message))
            frame[3] = 9
        return frame

    monkeypatch.setattr(m, "encode", spoiling)
    assert eventually(lambda: hub.counters.get("wrong_version") == link.counters.get("wrong_version") == 1)
    publish(link, 5, 5)
    assert link.drain(20)
    assert link.refusal == ""


def test_the_first_weights_come_again_where_they_were_spoilt(
    start_hub: StartHub, start_link: StartLink, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, contract = bundle
    hub = start_hub(spec=contract.spec)
    encode, sent = m.encode, list[m.Message]()

    def spoiling(message: m.Message) -> bytearray:
        frame = encode(message)
        if isinstance(message, m.Weights):
            sent.append(message)
            frame[-1] ^= len(sent) == 1
        return frame

    monkeypatch.setattr(m, "encode", spoiling)
    link = start_link(hub.address, spec=contract.spec)
    hub.publish_weights(restamped(folder, 0), 0)  # what a learner begins with
    assert eventually(lambda: link.take_policy() is not None)
    assert link.counters["malformed"] == 1
    count = len(sent)
    time.sleep(1.5)
    assert len(sent) == count  # it is said to have arrived


def test_a_full_disk_at_the_learner_loses_nothing(
    start_hub: StartHub, start_link: StartLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = start_hub()
    link = start_link(hub.address)
    full = threading.Event()
    full.set()
    append = hub.log.append

    def failing(*args: Any, **kwargs: Any) -> int:
        if full.is_set():
            raise DataError("no space left; free some")
        return append(*args, **kwargs)

    monkeypatch.setattr(hub.log, "append", failing)
    publish(link, 0, 10)
    assert eventually(lambda: hub.trouble == "no space left; free some")
    assert link.backlog == 10
    full.clear()
    assert link.drain(30)
    assert stored(hub) == list(range(10))
    assert hub.trouble == ""
