"""What goes over the wire: typed MessagePack in a checked frame. See docs/bridge_protocol.md.

A frame is one ZeroMQ message part:

    offset size  little-endian
         0    3  magic "RRL"
         3    1  protocol version
         4    4  CRC-32 of the body
         8       body: a MessagePack map whose key "type" names the message

`decode_from_actor` and `decode_from_learner` raise nothing but `BadMessage`, whatever the bytes.
"""

from __future__ import annotations

import struct
import zlib
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from robot_rl.errors import BridgeError

PROTOCOL = 1
MAGIC = b"RRL"
FRAME = struct.Struct("<3sBI")
MAX_FROM_ACTOR = 4 * 2**20  # bytes of a frame
MAX_FROM_LEARNER = 64 * 2**20
MAX_NAME = 64  # characters of an actor's name
MAX_ROWS = 65_536  # transitions of a message
NO_WEIGHTS = 2**32 - 1  # stands for a version before the first, since 0 is one

Session = Annotated[bytes, Meta(min_length=16, max_length=16)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Version = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Text = Annotated[str, Meta(max_length=16_384)]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
Command = Literal["run", "pause", "stop"]
M = TypeVar("M")


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """What every message carries.

    Args:
        session: 16 random bytes. An actor's names its stream of transitions and survives its crashes; a
            learner's names one start of it.
        sequence: From an actor, the sequence of its first transition inside, or of the next one it will take.
            From a learner, a running number; an actor ignores one not above the last it took.
    """

    session: Session
    sequence: Count


class Hello(Message, frozen=True, kw_only=True, tag="hello"):
    """An actor presents itself; repeated until welcomed.

    Args:
        name: For people.
        spec: JSON of `Spec.to_dict`, UTF-8.
        oldest: Sequence of the oldest transition it still has. What came before was stored by a learner.
    """

    name: Name
    spec: Annotated[bytes, Meta(max_length=2**18)]
    oldest: Count


class Transitions(Message, frozen=True, kw_only=True, tag="transitions"):
    """Consecutive transitions from `sequence` on.

    Args:
        count: How many.
        rows: `count` records of `robot_rl.data.transition.transition_dtype`.
    """

    count: Annotated[int, Meta(ge=1, le=MAX_ROWS)]
    rows: bytes


class EpisodeEnd(Message, frozen=True, kw_only=True, tag="episode_end"):
    """News that the transition before `sequence` ended an episode; the record's flags are the truth.

    Args:
        episode: Its number in this process, from 0.
        length: Control steps.
        total_reward: Undiscounted.
        success: -1 unknown, 0 no, 1 yes.
    """

    episode: Count
    length: Count
    total_reward: float
    success: Annotated[int, Meta(ge=-1, le=1)]


class Intervention(Message, frozen=True, kw_only=True, tag="intervention"):
    """News that a person took over from `sequence` on, or let go; the records' flags are the truth."""

    active: bool


class ActorBeat(Message, frozen=True, kw_only=True, tag="actor_beat"):
    """An actor is alive.

    Args:
        policy_version: Of the policy it runs; 0 before the first.
        policy_age_s: Since that was last known to be the newest, s.
        weights_version: Newest that it has received whole, whether or not swapped in yet; `NO_WEIGHTS` before the
            first.
        backlog: Transitions taken and not yet stored by the learner.
        latency_us: Its last measured round trip, us; 0 before the first.
        clock_us: Its monotonic clock, us; the learner returns it.
        hold: Why the arm holds; empty while it moves.
    """

    policy_version: Version
    policy_age_s: float
    weights_version: Version
    backlog: Count
    latency_us: Count
    clock_us: Count
    hold: Text


class Welcome(Message, frozen=True, kw_only=True, tag="welcome"):
    """Answer to a hello.

    Args:
        actor: Session of the actor that is meant.
        expected: The sequence that the learner wants next; all below it are stored or given up.
    """

    actor: Session
    expected: Count


class Refusal(Message, frozen=True, kw_only=True, tag="refusal"):
    """The learner will not work with this actor, which must hold and report `reason`."""

    reason: Text


class Ack(Message, frozen=True, kw_only=True, tag="ack"):
    """How far the learner is.

    Args:
        actor: Session of the actor that is meant.
        durable: All transitions below this sequence survive a power cut there; the actor may delete them.
        expected: The sequence that the learner wants next.
        again: It got one beyond `expected`: send from there.
    """

    actor: Session
    durable: Count
    expected: Count
    again: bool


class Weights(Message, frozen=True, kw_only=True, tag="weights"):
    """A policy to act with.

    Args:
        version: Weight version, above those before it.
        sha256: Of `model`, hexadecimal.
        spec_digest: `Spec.digest` of what it was trained for.
        model: ONNX file whose metadata is the contract.
    """

    version: Version
    sha256: Digest
    spec_digest: Digest
    model: bytes


class LearnerBeat(Message, frozen=True, kw_only=True, tag="learner_beat"):
    """Answer to an actor's beat.

    Args:
        command: What the actor is to do; the same as the last `Control`, so that a lost one is made up for.
        reason: Of the command, for people.
        newest_version: Of the weights; 0 before the first.
        clock_us: The actor's clock from the beat that this answers; 0 where it answers none, but announces weights.
    """

    command: Command
    reason: Text
    newest_version: Version
    clock_us: Count


class Control(Message, frozen=True, kw_only=True, tag="control"):
    """What the actor is to do from now on."""

    command: Command
    reason: Text


FromActor = Hello | Transitions | EpisodeEnd | Intervention | ActorBeat
FromLearner = Welcome | Refusal | Ack | Weights | LearnerBeat | Control


class BadMessage(BridgeError):  # noqa: N818 - reads as the sentence it is
    """Bytes that are no message of this protocol.

    Args:
        kind: "malformed", "oversized" or "wrong_version".
        text: What is wrong.
    """

    def __init__(self, kind: Literal["malformed", "oversized", "wrong_version"], text: str) -> None:
        super().__init__(text)
        self.kind = kind


_encoder = msgspec.msgpack.Encoder()
_from_actor = msgspec.msgpack.Decoder(FromActor)
_from_learner = msgspec.msgpack.Decoder(FromLearner)


def encode(message: Message) -> bytearray:
    """The frame of a message."""
    frame = bytearray(FRAME.size)
    _encoder.encode_into(message, frame, FRAME.size)
    FRAME.pack_into(frame, 0, MAGIC, PROTOCOL, zlib.crc32(memoryview(frame)[FRAME.size :]))
    return frame


def decode_from_actor(frame: bytes | memoryview) -> FromActor:
    """The message in a frame that an actor sent.

    Raises:
        BadMessage: If it is none; nothing else, ever.
    """
    return _decode(frame, _from_actor, MAX_FROM_ACTOR)


def decode_from_learner(frame: bytes | memoryview) -> FromLearner:
    """The message in a frame that a learner sent.

    Raises:
        BadMessage: If it is none; nothing else, ever.
    """
    return _decode(frame, _from_learner, MAX_FROM_LEARNER)


def _decode(frame: bytes | memoryview, decoder: msgspec.msgpack.Decoder[M], limit: int) -> M:
    if len(frame) > limit:
        raise BadMessage("oversized", f"a message of {len(frame)} bytes; the limit is {limit}")
    if len(frame) < FRAME.size or bytes(frame[:3]) != MAGIC:
        raise BadMessage("malformed", f"{len(frame)} bytes that are no frame")
    _, version, crc = FRAME.unpack_from(frame)
    if version != PROTOCOL:
        raise BadMessage("wrong_version", f"protocol version {version}; this end speaks {PROTOCOL}")
    body = memoryview(frame)[FRAME.size :]
    if zlib.crc32(body) != crc:
        raise BadMessage("malformed", "the checksum does not fit: bytes were altered on the way")
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage("malformed", str(error)) from error
