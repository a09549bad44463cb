"""Messages between a policy server and its clients; docs/policy_server.md is the specification.

MessagePack maps. Numbers travel as little-endian float32 bytes, times as nanoseconds of the server's clock.
"""

from __future__ import annotations

import msgspec

VERSION = 2
SPARE_BYTES = 1024  # of a request beside its observation
FLOAT = "<f4"


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Client to server. Without `obs` it asks for the contract."""

    v: int  # protocol version
    id: int  # returned in the answer; above 0
    obs: bytes = b""  # observation, (S,) float32
    due_ns: int = 0  # server's clock: from then on the answer is worth nothing; 0: no deadline


class Header(msgspec.Struct, frozen=True):
    """What requests of every version have."""

    v: int
    id: int = 0


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Server to client: an action, a contract, or an error with a code."""

    v: int
    id: int  # the request's; 0 where that was not readable
    action: bytes = b""  # (A,) float32
    weight_version: int = 0
    session: int = 0  # drawn when the server started: another one may serve another policy
    clock_ns: int = 0  # server's clock when it answered
    contract: str = ""  # JSON
    error: str = ""  # for people
    code: str = ""  # for programs: "bad", "version", "size", "late", "revoked", "policy"
