"""The protocol: committed vectors, limits, and a decoder that survives anything."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.bridge import messages as m
from deploy.bridge.desk import Desk
from robot_rl.data.replay_log import ReplayLog
from tests.deploy.bridge.made import make_spec

VECTORS = Path(__file__).with_name("protocol_vectors.json")
ACTOR, LEARNER = bytes(range(16)), bytes(range(16, 32))

EXAMPLES: dict[str, m.Message] = {
    "hello": m.Hello(session=ACTOR, sequence=7, name="arm-1", spec=b'{"rate_hz": 50.0}', oldest=5),
    "transitions": m.Transitions(session=ACTOR, sequence=5, count=2, rows=bytes(range(32))),
    "episode_end": m.EpisodeEnd(session=ACTOR, sequence=7, episode=0, length=7, total_reward=1.5, success=1),
    "intervention": m.Intervention(session=ACTOR, sequence=7, active=True),
    "actor_beat": m.ActorBeat(
        session=ACTOR,
        sequence=7,
        policy_version=3,
        policy_age_s=0.25,
        weights_version=4,
        backlog=2,
        latency_us=350,
        clock_us=123_456_789,
        hold="paused",
    ),
    "welcome": m.Welcome(session=LEARNER, sequence=1, actor=ACTOR, expected=5),
    "refusal": m.Refusal(session=LEARNER, sequence=2, reason="other spec"),
    "ack": m.Ack(session=LEARNER, sequence=3, actor=ACTOR, durable=6, expected=7, again=False),
    "weights": m.Weights(session=LEARNER, sequence=4, version=4, sha256="a" * 64, spec_digest="b" * 64, model=b"onnx"),
    "learner_beat": m.LearnerBeat(
        session=LEARNER, sequence=5, command="run", reason="", newest_version=4, clock_us=123_456_789
    ),
    "control": m.Control(session=LEARNER, sequence=6, command="pause", reason="checkpoint"),
}
FROM_ACTOR = ("hello", "transitions", "episode_end", "intervention", "actor_beat")


def decode(name: str, frame: bytes) -> m.Message:
    return m.decode_from_actor(frame) if name in FROM_ACTOR else m.decode_from_learner(frame)


@pytest.mark.parametrize("name", EXAMPLES)
def test_committed_vectors_are_what_we_write_and_read(name: str) -> None:
    vector = {v["name"]: v for v in json.loads(VECTORS.read_text())}[name]
    frame = bytes.fromhex(vector["frame"])
    assert bytes(m.encode(EXAMPLES[name])) == frame
    assert decode(name, frame) == EXAMPLES[name]
    # And read by hand, as another language would.
    assert frame[:4] == b"RRL\x01"
    assert int.from_bytes(frame[4:8], "little") == zlib.crc32(frame[8:])
    fields = msgspec.msgpack.decode(frame[8:])
    plain = {k: v.hex() if isinstance(v, bytes) else v for k, v in fields.items()}
    assert plain == vector["fields"]
    assert plain["type"] == name


def framed(body: bytes, magic: bytes = b"RRL", version: int = 1) -> bytes:
    return magic + bytes([version]) + zlib.crc32(body).to_bytes(4, "little") + body


def fields(name: str, /, **changes: Any) -> bytes:
    raw = msgspec.to_builtins(EXAMPLES[name], builtin_types=(bytes,)) | changes
    return framed(msgspec.msgpack.encode({k: v for k, v in raw.items() if v is not None}))


@pytest.mark.parametrize(
    ("frame", "kind", "text"),
    [
        (b"", "malformed", "0 bytes that are no frame"),
        (framed(b"", magic=b"XYZ"), "malformed", "no frame"),
        (framed(b"", version=2), "wrong_version", "protocol version 2; this end speaks 1"),
        (framed(b"\x80"), "malformed", "type"),
        (framed(b"\xc1"), "malformed", "MessagePack"),
        (fields("transitions")[:-1], "malformed", "checksum"),
        (fields("transitions") + b"\0", "malformed", "checksum"),
        (framed(fields("transitions")[8:] + b"\0"), "malformed", "trailing"),
        (fields("transitions", count=0), "malformed", "count"),
        (fields("transitions", count=m.MAX_ROWS + 1), "malformed", "count"),
        (fields("transitions", sequence=-1), "malformed", "sequence"),
        (fields("transitions", sequence=2**63), "malformed", "sequence"),
        (fields("transitions", session=b"short"), "malformed", "session"),
        (fields("transitions", rows="text"), "malformed", "rows"),
        (fields("transitions", rows=None), "malformed", "rows"),
        (fields("transitions", extra=1), "malformed", "extra"),
        (fields("transitions", type="weights"), "malformed", "weights"),
        (fields("welcome"), "malformed", "welcome"),
        (fields("hello", spec=bytes(2**18 + 1)), "malformed", "spec"),
        (fields("hello", name="x" * 65), "malformed", "name"),
        (fields("transitions", rows=bytes(m.MAX_FROM_ACTOR)), "oversized", "the limit is"),
        (framed(b"\x91" * 5000), "malformed", "array"),
        (framed(b"\x81\xa4type\xa2\xff\xff"), "malformed", "type|utf-8|Invalid"),
    ],
)
def test_what_an_actor_may_not_say(frame: bytes, kind: str, text: str) -> None:
    with pytest.raises(m.BadMessage, match=text) as caught:
        m.decode_from_actor(frame)
    assert caught.value.kind == kind


def test_what_a_learner_may_not_say() -> None:
    for name, changes in (
        ("control", {"command": "explode"}),
        ("weights", {"sha256": "A" * 64}),
        ("weights", {"version": 2**32}),
        ("transitions", {}),
    ):
        with pytest.raises(m.BadMessage):
            m.decode_from_learner(fields(name, **changes))


def survives(data: bytes) -> None:
    for decoder in (m.decode_from_actor, m.decode_from_learner):
        try:
            message = decoder(data)
        except m.BadMessage:
            continue
        assert m.encode(decoder(bytes(m.encode(message)))) == m.encode(message)  # what it takes is a message


def mutated(frame: bytes, at: int, change: int) -> bytes:
    body = bytearray(frame[8:])
    where, kind, value = at % len(body), change % 4, change // 4 % 256
    if kind == 0:
        body[where] ^= value
    elif kind == 1:
        del body[where:]
    elif kind == 2:
        body[where:where] = bytes([value]) * (1 + change % 5)
    else:
        del body[where : where + 1 + value % 9]
    return framed(bytes(body))  # with a fitting checksum, so that the decoder behind it has to cope


any_bytes = st.binary(max_size=200)
mutation = st.tuples(st.sampled_from(sorted(EXAMPLES)), st.integers(0, 10_000), st.integers(0, 10_000))
any_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=20) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=6,
)


def fuzz(examples: int) -> None:
    @settings(max_examples=examples)
    @given(any_bytes, mutation, st.sampled_from(sorted(EXAMPLES)), st.text(max_size=10), any_value)
    def run(raw: bytes, change: tuple[str, int, int], name: str, key: str, value: Any) -> None:
        survives(raw)
        survives(framed(raw))
        survives(mutated(bytes(m.encode(EXAMPLES[change[0]])), *change[1:]))
        known = sorted(msgspec.to_builtins(EXAMPLES[name], builtin_types=(bytes,)))
        survives(fields(name, **{known[len(key) % len(known)]: value}))

    run()


def changed(raw: Any, path: list[int], value: Any) -> Any:
    """`raw` with the value at some place replaced."""
    if not path or not isinstance(raw, dict | list) or not raw:
        return value
    keys = sorted(raw) if isinstance(raw, dict) else range(len(raw))
    key = keys[path[0] % len(raw)]
    inner = changed(raw[key], path[1:], value)
    return raw | {key: inner} if isinstance(raw, dict) else [*raw[:key], inner, *raw[key + 1 :]]


json_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def test_whatever_spec_an_actor_claims_is_welcomed_or_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    desk = Desk(ReplayLog(tmp_path_factory.mktemp("log"), make_spec()))

    @settings(max_examples=150)
    @given(st.lists(st.integers(0, 9), max_size=4), json_value)
    def run(path: list[int], value: Any) -> None:
        spec = json.dumps(changed(make_spec().to_dict(), path, value)).encode()
        desk.take(b"route", m.Hello(session=ACTOR, sequence=0, name="n", spec=spec, oldest=0), 0.0)
        _, answer = desk.out.pop()
        assert isinstance(answer, m.Welcome | m.Refusal)

    run()
    desk.log.close()


def test_arbitrary_bytes_are_a_bad_message_or_a_message() -> None:
    fuzz(250)  # four inputs each, two decoders


@pytest.mark.slow
def test_arbitrary_bytes_at_length() -> None:
    fuzz(26_000)  # 104,000 inputs
